//! Messages of the Language Server Protocol over a byte stream: a head that names a length, then JSON. Bounded, because what
//! runs inside the cage may be anybody.
//!
//! Source: Language Server Protocol 3.17, "Base Protocol".

use std::io::{self, BufRead, Read as _, Write};

use serde_json::Value;

/// The longest message, in bytes.
const MESSAGE_BYTES_MAX: usize = 32 << 20;
/// The longest line of a head, in bytes.
const HEAD_BYTES_MAX: u64 = 4 << 10;
/// The most lines of a head.
const HEAD_LINES_MAX: usize = 32;

/// Reads one message; `None` at the end of the stream.
///
/// # Errors
/// `InvalidData` for what is no message, and those of the stream.
pub fn read(stream: &mut impl BufRead) -> io::Result<Option<Value>> {
    let wrong = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what.to_owned());
    let mut length = None;
    for _ in 0..HEAD_LINES_MAX {
        let mut line = String::new();
        if stream.by_ref().take(HEAD_BYTES_MAX).read_line(&mut line)? == 0 {
            return Ok(None);
        }
        let line = line.strip_suffix("\r\n").or(line.strip_suffix('\n')).ok_or_else(|| wrong("a head without end"))?;
        if line.is_empty() {
            let length: usize = length.ok_or_else(|| wrong("a message without length"))?;
            if length > MESSAGE_BYTES_MAX {
                return Err(wrong("a message that is too long"));
            }
            let mut body = vec![0; length];
            stream.read_exact(&mut body)?;
            return Ok(Some(serde_json::from_slice(&body)?));
        }
        if let Some((name, value)) = line.split_once(':')
            && name.eq_ignore_ascii_case("content-length")
        {
            length = Some(value.trim().parse().map_err(|_| wrong("a length that is no number"))?);
        }
    }
    Err(wrong("a head with too many lines"))
}

/// Writes one message.
///
/// # Errors
/// Those of the stream.
pub fn write(stream: &mut impl Write, message: &Value) -> io::Result<()> {
    let body = message.to_string();
    stream.write_all(format!("Content-Length: {}\r\n\r\n{body}", body.len()).as_bytes())?;
    stream.flush()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn messages_follow_each_other() {
        let mut bytes = vec![];
        for message in [json!({"a": "ü"}), json!([1])] {
            write(&mut bytes, &message).unwrap();
        }
        let mut stream = &bytes[..];
        assert_eq!(read(&mut stream).unwrap(), Some(json!({"a": "ü"})));
        assert_eq!(read(&mut stream).unwrap(), Some(json!([1])));
        assert_eq!(read(&mut stream).unwrap(), None);
        let mut other = &b"content-type: x\r\nCONTENT-LENGTH:2\r\n\r\n{}"[..];
        assert_eq!(read(&mut other).unwrap(), Some(json!({})));
    }

    #[test]
    fn nonsense_is_refused_without_taking_memory() {
        for text in [
            "Content-Length: 99999999999\r\n\r\n",
            "Content-Length: x\r\n\r\n",
            "\r\n{}",
            "Content-Length: 2\r\n\r\n{",
            "Content-Length: 1\r\n\r\n{",
            &"a".repeat(100_000),
            &"a: b\r\n".repeat(100),
        ] {
            assert!(read(&mut text.as_bytes()).is_err(), "{}", &text[..text.len().min(40)]);
        }
    }
}
