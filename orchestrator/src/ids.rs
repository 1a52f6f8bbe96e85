//! Names of runs and attempts, and the form in which hostile-looking names become refs and file names.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A run's id: the plan's name and a number that is unique in the repository, `no-unwrap-3`. Safe as a ref component and
/// as a file name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RunId(pub String);

/// The n-th try of an instance, from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Attempt(pub u32);

/// The branch of a full ref name as people name it: without `refs/heads/`.
pub fn branch_of(target: &str) -> &str {
    target.strip_prefix("refs/heads/").unwrap_or(target)
}

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for Attempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// The longest encoded name, in bytes; a longer one is cut and ends in a hash of the whole (file systems allow 255).
const ENCODED_BYTES_MAX: usize = 120;

/// Renders any name as one component that is legal in a git ref, in a file name and in overlay mount options:
/// `[A-Za-z0-9_-]` stay (and `.` between two of those), everything else becomes `+XX`. Two names never give the same component.
pub fn encode_component(name: &str) -> String {
    let bytes = name.as_bytes();
    let mut encoded = String::with_capacity(name.len());
    for (at, &byte) in bytes.iter().enumerate() {
        let plain = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
        let dot_inside = byte == b'.' && at > 0 && plain(bytes.get(at - 1)) && plain(bytes.get(at + 1));
        let lock = name[..].ends_with(".lock") && at == bytes.len() - 5;
        if byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-' || (dot_inside && !lock) {
            encoded.push(byte as char);
        } else {
            encoded.push_str(&format!("+{byte:02X}"));
        }
    }
    if encoded.len() > ENCODED_BYTES_MAX {
        encoded.truncate(ENCODED_BYTES_MAX - 33);
        encoded.push_str("++");
        encoded.push_str(&blake3::hash(bytes).to_hex()[..31]);
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_names_stay_legible() {
        assert_eq!(encode_component("build-1_x"), "build-1_x");
        assert_eq!(encode_component("v1.2"), "v1.2");
        assert_eq!(encode_component("a[os=b]"), "a+5Bos+3Db+5D");
    }

    #[test]
    fn what_git_or_the_file_system_forbids_is_spelled_out() {
        for name in ["..", ".", ".a", "a..b", "a.lock", "a/b", "a\nb", "a~^:?*[\\", "é", "-x", "@{"] {
            let encoded = encode_component(name);
            assert!(git2::Reference::is_valid_name(&format!("refs/swarm/{encoded}")), "{name:?} -> {encoded}");
            assert!(!encoded.contains('/') && !encoded.starts_with('.'));
        }
    }

    #[test]
    fn long_names_are_cut_and_stay_different() {
        let (a, b) = ("x".repeat(400), "x".repeat(401));
        assert!(encode_component(&a).len() <= ENCODED_BYTES_MAX);
        assert_ne!(encode_component(&a), encode_component(&b));
    }
}
