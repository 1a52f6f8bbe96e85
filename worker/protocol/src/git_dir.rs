//! Which names some system reads as `.git`: whoever writes files refuses them before a result is, for the same reason.
//!
//! Source: git's `is_hfs_dotgit` and `is_ntfs_dotgit`; their behaviour is described in git-config(1) under `core.protectHFS` and
//! `core.protectNTFS`.

/// Whether some file system or git on it takes the name for `.git`.
pub fn is_git_dir(name: &[u8]) -> bool {
    // A backslash separates components on NTFS.
    as_read_on_hfs(name) == b".git"
        || name.split(|&byte| byte == b'\\').any(|piece| is_ntfs(piece, b".git", Some(b"git~1")))
}

/// A name as git compares it for HFS+: without what that drops, and only up to what is no text, because git takes that for the
/// end. ASCII is lowered on the way.
pub fn as_read_on_hfs(name: &[u8]) -> Vec<u8> {
    let text = match std::str::from_utf8(name) {
        Ok(text) => text,
        Err(error) => std::str::from_utf8(&name[..error.valid_up_to()]).unwrap_or_default(),
    };
    without_ignorables(text.split(['\u{fffe}', '\u{ffff}']).next().unwrap_or_default().as_bytes())
}

/// HFS+ drops these code points when it compares; ASCII is lowered on the way.
pub fn without_ignorables(name: &[u8]) -> Vec<u8> {
    let lowered = name.to_ascii_lowercase();
    if name.is_ascii() {
        return lowered;
    }
    match std::str::from_utf8(&lowered) {
        Err(_) => lowered,
        Ok(text) => text.chars().filter(|&c| !is_ignorable(c)).collect::<String>().into_bytes(),
    }
}

fn is_ignorable(c: char) -> bool {
    matches!(c, '\u{200c}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{206a}'..='\u{206f}' | '\u{feff}')
}

/// Whether NTFS takes the name for this one, or for its short form.
pub fn is_ntfs(name: &[u8], long: &[u8], short: Option<&[u8]>) -> bool {
    [Some(long), short].into_iter().flatten().any(|start| {
        name.get(..start.len()).is_some_and(|head| head.eq_ignore_ascii_case(start))
            && ends_on_ntfs(&name[start.len()..])
    })
}

/// NTFS drops trailing dots and spaces, and a colon begins the name of a stream.
pub fn ends_on_ntfs(rest: &[u8]) -> bool {
    let rest = rest.split(|&byte| byte == b':').next().unwrap_or_default();
    rest.iter().all(|&byte| byte == b'.' || byte == b' ')
}
