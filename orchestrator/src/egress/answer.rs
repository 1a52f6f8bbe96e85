//! The head of a server's answer: bytes → what goes on to the client. Pure. The server is one that the policy allows, but its
//! answer is untrusted input all the same: bounded, and written anew from what was understood.
//!
//! Source: RFC 9112, section 6.3.

use super::request::{Afterwards, AnswerBody, Fields, Framing, HEAD_BYTES_MAX, HEADERS_MAX};

/// An answer that was understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// 100 to 199: another answer follows, and this one is not passed on.
    Interim,
    /// The answer.
    Final {
        /// The head for the client, with its empty line.
        head: Vec<u8>,
        /// What follows the head.
        body: Framing,
        /// What becomes of the client's connection.
        afterwards: Afterwards,
    },
}

/// Not an answer of HTTP/1 that can be passed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the server's answer is not understood: {0}")]
pub struct BadAnswer(&'static str);

/// Reads an answer's head at the start of `bytes`; `None` as long as it is not whole. The number is its length.
///
/// # Errors
/// [`BadAnswer`].
pub fn parse(bytes: &[u8], answer: AnswerBody, afterwards: Afterwards) -> Result<Option<(Answer, usize)>, BadAnswer> {
    let mut fields = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut head = httparse::Response::new(&mut fields);
    let length = match head.parse(bytes) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) if bytes.len() < HEAD_BYTES_MAX => return Ok(None),
        Ok(httparse::Status::Partial) | Err(httparse::Error::TooManyHeaders) => {
            return Err(BadAnswer("its head is too large"));
        }
        Err(_) => return Err(BadAnswer("its head is malformed")),
    };
    let code = head.code.unwrap_or_default();
    match code {
        101 => return Err(BadAnswer("it changes the protocol")),
        100..=199 => return Ok(Some((Answer::Interim, length))),
        200..=599 => {}
        _ => return Err(BadAnswer("its status")),
    }
    let fields = Fields(head.headers);
    let body = framing(fields, code, answer)?;
    let afterwards = if body == Framing::UntilClose { Afterwards::Closes } else { afterwards };
    let mut text = format!("HTTP/1.1 {code} {}\r\n", head.reason.unwrap_or_default()).into_bytes();
    fields.pass_on(&mut text);
    match (body, lengths(fields)?) {
        (Framing::Chunked, _) => text.extend_from_slice(b"Transfer-Encoding: chunked\r\n"),
        // An answer to HEAD, and 304, says how long the body would be.
        (_, Some(length)) if code != 204 => text.extend(format!("Content-Length: {length}\r\n").bytes()),
        _ => {}
    }
    text.extend_from_slice(match afterwards {
        Afterwards::Stays => b"\r\n",
        Afterwards::Closes => b"Connection: close\r\n\r\n",
    });
    Ok(Some((Answer::Final { head: text, body, afterwards }, length)))
}

fn framing(fields: Fields<'_>, code: u16, answer: AnswerBody) -> Result<Framing, BadAnswer> {
    if answer == AnswerBody::None || code == 204 || code == 304 {
        return Ok(Framing::Length(0));
    }
    let mut codings = fields.all("transfer-encoding");
    match (codings.next(), codings.next(), lengths(fields)?) {
        (None, _, Some(length)) => Ok(Framing::Length(length)),
        (None, _, None) => Ok(Framing::UntilClose),
        (Some(coding), None, _) if coding.eq_ignore_ascii_case(b"chunked") => Ok(Framing::Chunked),
        (Some(_), _, _) => Err(BadAnswer("its transfer coding")),
    }
}

/// `Content-Length`, which some servers send twice; the same number is one answer.
fn lengths(fields: Fields<'_>) -> Result<Option<u64>, BadAnswer> {
    let mut length = None;
    for value in fields.all("content-length") {
        let digits = !value.is_empty() && value.iter().all(u8::is_ascii_digit);
        let number = std::str::from_utf8(value).ok().filter(|_| digits).and_then(|text| text.parse::<u64>().ok());
        let number = number.ok_or(BadAnswer("its length"))?;
        if length.is_some_and(|before| before != number) {
            return Err(BadAnswer("its length"));
        }
        length = Some(number);
    }
    Ok(length)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(head: &str, answer: AnswerBody, expected: Result<(&str, Framing, Afterwards), &'static str>) {
        let bytes = head.replace('\n', "\r\n");
        match (parse(bytes.as_bytes(), answer, Afterwards::Stays), expected) {
            (Ok(Some((Answer::Final { head, body, afterwards }, length))), Ok((text, framing, then))) => {
                assert_eq!(String::from_utf8(head).expect("text"), text.replace('\n', "\r\n"));
                assert_eq!((body, afterwards, length), (framing, then, bytes.len()));
            }
            (Err(BadAnswer(why)), Err(reason)) => assert_eq!(why, reason),
            (other, _) => panic!("{head}: {other:?}"),
        }
    }

    #[test]
    fn an_answer_is_written_anew() {
        let framed = AnswerBody::AsFramed;
        check(
            "HTTP/1.0 200 OK\nServer: x\nContent-Length: 3\nConnection: close, X-Hop\nX-Hop: 1\nKeep-Alive: 5\n\n",
            framed,
            Ok(("HTTP/1.1 200 OK\nServer: x\nContent-Length: 3\n\n", Framing::Length(3), Afterwards::Stays)),
        );
        check(
            "HTTP/1.1 200 OK\nTransfer-Encoding: chunked\nContent-Length: 3\n\n",
            framed,
            Ok(("HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\n", Framing::Chunked, Afterwards::Stays)),
        );
        check(
            "HTTP/1.1 200 OK\n\n",
            framed,
            Ok(("HTTP/1.1 200 OK\nConnection: close\n\n", Framing::UntilClose, Afterwards::Closes)),
        );
        check(
            "HTTP/1.1 200 OK\nContent-Length: 9\n\n",
            AnswerBody::None,
            Ok(("HTTP/1.1 200 OK\nContent-Length: 9\n\n", Framing::Length(0), Afterwards::Stays)),
        );
        check("HTTP/1.1 101 Go\n\n", framed, Err("it changes the protocol"));
        check("HTTP/1.1 200 OK\nContent-Length: 1\nContent-Length: 2\n\n", framed, Err("its length"));
        check("HTTP/1.1 200 OK\nTransfer-Encoding: gzip, chunked\n\n", framed, Err("its transfer coding"));
    }
}
