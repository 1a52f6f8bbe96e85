//! Objects that are files of their own, read by ourselves. libgit2 1.9 goes round for ever in one that ends too early
//! (`git_zstream_get_output`), and writes none whose name is there, whatever is in it. A power cut leaves such files: of no bytes, of
//! zeros, of their first part.
//!
//! Source: git's object-file.c, `unpack_loose_header` and `check_stream_oid`.

use std::cell::RefCell;
use std::fs::File;
use std::io::{self, ErrorKind, Read as _};
use std::ops::ControlFlow;
use std::path::Path;

use git2::{ObjectType, Oid};
use miniz_oxide::inflate::stream::{InflateState, MinReset, inflate};
use miniz_oxide::{DataFormat, MZError, MZFlush, MZStatus};
use sha1::{Digest as _, Sha1};

/// Bytes that are read at once, and that come out of them at once.
const CHUNK_BYTES: usize = 32 << 10;

/// What the file of an object is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Loose {
    /// What its name says.
    Whole,
    /// Something else: cut short, with other bytes in it, with more behind it.
    Damaged,
    /// Nothing: no bytes, or zeros only.
    Void,
    /// There is no such file.
    Absent,
}

/// What the file of an object is, all of which is read.
///
/// # Errors
/// The file cannot be read, which says nothing about what is in it.
pub(super) fn judge(path: &Path, id: Oid) -> io::Result<Loose> {
    read(path, id, &mut |_| ControlFlow::Continue(()))
}

/// The same of a file that may have been made to be read for long: what comes to more than `bytes_max` with its head counts as damaged.
///
/// # Errors
/// As of [`judge`].
pub(crate) fn is_whole_within(path: &Path, id: Oid, bytes_max: u64) -> io::Result<bool> {
    let mut left = bytes_max;
    let mut within = |some: &[u8]| match left.checked_sub(some.len() as u64) {
        Some(less) => {
            left = less;
            ControlFlow::Continue(())
        }
        None => ControlFlow::Break(()),
    };
    Ok(read(path, id, &mut within)? == Loose::Whole)
}

/// The bytes of an object from its file, behind the head that says its kind and size; `Err` with what else the file is.
///
/// # Errors
/// As of [`judge`].
pub(super) fn body(path: &Path, id: Oid) -> io::Result<Result<(ObjectType, Vec<u8>), Loose>> {
    let mut bytes = Vec::new();
    let mut keep = |some: &[u8]| {
        bytes.extend_from_slice(some);
        ControlFlow::Continue(())
    };
    let found = read(path, id, &mut keep)?;
    if found != Loose::Whole {
        return Ok(Err(found));
    }
    let kind = bytes.split(|&byte| byte == b' ').next().and_then(|kind| str::from_utf8(kind).ok());
    let (kind, end) = (kind.and_then(ObjectType::from_str), bytes.iter().position(|&byte| byte == 0));
    let (Some(kind), Some(end)) = (kind, end) else { return Ok(Err(Loose::Damaged)) };
    bytes.drain(..=end);
    Ok(Ok((kind, bytes)))
}

/// Takes in the next bytes of an object; what it breaks off is damaged.
type Hear<'a> = &'a mut dyn FnMut(&[u8]) -> ControlFlow<()>;

/// Reads a file to its end, and hands on what is in it, head and all.
fn read(path: &Path, id: Oid, hear: Hear<'_>) -> io::Result<Loose> {
    thread_local! {
        static READER: RefCell<Reader> = RefCell::new(Reader::new());
    }
    match File::open(path) {
        Ok(file) => READER.with_borrow_mut(|reader| reader.read(file, id, hear)),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(Loose::Absent),
        Err(error) => Err(error),
    }
}

/// What reading needs, kept for the next object.
struct Reader {
    inflating: Box<InflateState>,
    packed: Vec<u8>,
    plain: Vec<u8>,
}

impl Reader {
    fn new() -> Reader {
        let [packed, plain] = [vec![0; CHUNK_BYTES], vec![0; CHUNK_BYTES]];
        Reader { inflating: InflateState::new_boxed(DataFormat::Zlib), packed, plain }
    }

    /// Each round takes bytes of the file or gives some; one that does neither is the last.
    fn read(&mut self, mut file: File, id: Oid, hear: Hear<'_>) -> io::Result<Loose> {
        let Reader { inflating, packed, plain } = self;
        inflating.reset_as(MinReset);
        let mut hash = Sha1::new();
        let mut read = read_some(&mut file, packed)?;
        if packed[..read].iter().all(|&byte| byte == 0) {
            return is_void(file, packed).map(|is| if is { Loose::Void } else { Loose::Damaged });
        }
        while read > 0 {
            let mut left = &packed[..read];
            loop {
                let step = inflate(inflating, left, plain, MZFlush::None);
                let out = &plain[..step.bytes_written];
                left = &left[step.bytes_consumed..];
                hash.update(out);
                if hear(out).is_break() {
                    return Ok(Loose::Damaged);
                }
                match step.status {
                    Ok(MZStatus::StreamEnd) => {
                        let is_its_end = left.is_empty() && read_some(&mut file, packed)? == 0;
                        let is_it = is_its_end && hash.finalize().as_slice() == id.as_bytes();
                        return Ok(if is_it { Loose::Whole } else { Loose::Damaged });
                    }
                    // All that can come of these bytes has come.
                    Ok(_) | Err(MZError::Buf) if step.bytes_consumed == 0 && out.is_empty() => break,
                    Ok(_) | Err(MZError::Buf) => {}
                    Err(_) => return Ok(Loose::Damaged),
                }
            }
            if !left.is_empty() {
                break;
            }
            read = read_some(&mut file, packed)?;
        }
        Ok(Loose::Damaged)
    }
}

/// Whether all that is left of a file is zeros.
fn is_void(mut file: File, buffer: &mut [u8]) -> io::Result<bool> {
    loop {
        match read_some(&mut file, buffer)? {
            0 => return Ok(true),
            read if buffer[..read].iter().all(|&byte| byte == 0) => {}
            _ => return Ok(false),
        }
    }
}

/// Reads some bytes of a file; none is its end.
fn read_some(file: &mut File, into: &mut [u8]) -> io::Result<usize> {
    loop {
        match file.read(into) {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            read => return read,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::git_fixture::{Fixture, git};

    /// A blob of so many bytes that do not get smaller, as git writes it: its file's bytes, and its id.
    fn blob(size: usize) -> (Vec<u8>, Vec<u8>, Oid) {
        let fixture = Fixture::with_files(&[("a", "1")]);
        let mut state = 7_u64;
        let byte = |_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 56) as u8
        };
        let content: Vec<u8> = (0..size).map(byte).collect();
        std::fs::write(fixture.path().join("b"), &content).expect("space");
        let hex = git(fixture.path(), &["hash-object", "-w", "b"]);
        let file = fixture.path().join(".git/objects").join(&hex[..2]).join(hex[2..].trim());
        (content, std::fs::read(file).expect("loose"), hex.trim().parse().expect("an id"))
    }

    fn said_of(bytes: &[u8], id: Oid) -> Loose {
        let file = tempfile::NamedTempFile::new().expect("space");
        std::fs::write(file.path(), bytes).expect("space");
        judge(file.path(), id).expect("legible")
    }

    #[test]
    fn an_object_is_whole_to_its_last_byte_and_not_beyond() {
        for size in [0, 1, 100, 32_740, 32_768, 100_000] {
            let (content, whole, id) = blob(size);
            assert_eq!(said_of(&whole, id), Loose::Whole, "{size}");
            let file = tempfile::NamedTempFile::new().expect("space");
            std::fs::write(file.path(), &whole).expect("space");
            assert_eq!(body(file.path(), id).expect("legible"), Ok((ObjectType::Blob, content)), "{size}");
            let cuts = (1..whole.len()).filter(|cut| *cut < 40 || cut + 40 > whole.len() || cut % 4096 < 2);
            for cut in cuts {
                assert_eq!(said_of(&whole[..cut], id), Loose::Damaged, "{cut} of {size}");
            }
            assert_eq!(said_of(&[&whole[..], b"x"].concat(), id), Loose::Damaged, "more behind it");
            let other = Oid::hash_object(ObjectType::Blob, b"other").expect("an id");
            assert_eq!(said_of(&whole, other), Loose::Damaged, "another's bytes");
        }
    }

    #[test]
    fn what_is_not_all_there_is_told_from_what_is_nothing() {
        let (_, whole, id) = blob(100_000);
        for zeros in [0, 1, 5000, 100_000] {
            assert_eq!(said_of(&vec![0; zeros], id), Loose::Void, "{zeros}");
        }
        for zeros in [1, CHUNK_BYTES, CHUNK_BYTES + 1] {
            assert_eq!(said_of(&[&vec![0; zeros][..], &whole].concat(), id), Loose::Damaged, "{zeros} in front");
        }
        for hole in [0..4096, 4096..8192, whole.len() - 10..whole.len()] {
            let mut holed = whole.clone();
            holed[hole.clone()].fill(0);
            assert_eq!(said_of(&holed, id), Loose::Damaged, "{hole:?}");
        }
        assert_eq!(said_of(b"text", id), Loose::Damaged);
        assert_eq!(judge(Path::new("/none/such"), id).expect("told"), Loose::Absent);
    }
}
