//! What the coordinator and its fork server say to each other, over a unix socket that keeps messages apart (seqpacket).
//!
//! A request is one byte and carries two descriptors: the reading end that becomes the worker's standard input, then the
//! writing end that becomes its standard output. The reply says whether a worker exists now; when it does, the reply
//! carries one descriptor, which stands for that process (pidfd). Requests are answered in order, by the server or by a
//! worker that it forked beforehand: the asker sees no difference. What is said through the two pipes is the same as with a
//! worker that was started directly.

/// What a request says. Changes with the meaning of request or reply: another program at the other end is refused.
pub const FORK: u8 = 1;

/// Descriptors that a request carries.
pub const REQUEST_DESCRIPTORS: usize = 2;

/// Bytes of a [`Reply`].
pub const REPLY_BYTES: usize = 4;

/// The answer to a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reply {
    /// The worker exists; its descriptor comes along.
    Forked,
    /// It does not: the system's error number.
    Failed(i32),
}

impl Reply {
    /// For the socket.
    pub fn encode(self) -> [u8; REPLY_BYTES] {
        match self {
            Reply::Forked => 0i32,
            Reply::Failed(errno) => errno.max(1),
        }
        .to_le_bytes()
    }

    /// From the socket; `None` for anything else.
    pub fn decode(bytes: &[u8]) -> Option<Reply> {
        match i32::from_le_bytes(bytes.try_into().ok()?) {
            0 => Some(Reply::Forked),
            errno @ 1.. => Some(Reply::Failed(errno)),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replies_survive_the_socket_and_nothing_else_is_one() {
        for reply in [Reply::Forked, Reply::Failed(11)] {
            assert_eq!(Reply::decode(&reply.encode()), Some(reply));
        }
        for bytes in [&b""[..], b"\0\0\0", b"\0\0\0\0\0", b"\xff\xff\xff\xff"] {
            assert_eq!(Reply::decode(bytes), None);
        }
    }
}
