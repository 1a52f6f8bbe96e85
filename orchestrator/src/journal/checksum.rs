//! By which an event, or the row of a run, is known that is not as it was written: a disk, or whoever edited the file, may leave another text that is
//! as legible. SQLite itself keeps no checksum of its pages. Against accidents only: whoever means to can make a new one.

use rusqlite::types::ValueRef;

/// The checksum of an event as the journal stores it: a CRC-32 of its number, its time and its text. It is another one for
/// every single bit that differs, and for every run of up to 32.
pub(super) fn checksum(seq: u64, at_ms: u64, json: &str) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    crc.update(&seq.to_le_bytes());
    crc.update(&at_ms.to_le_bytes());
    crc.update(json.as_bytes());
    crc.finalize()
}

/// The checksum of the row of a run as the journal stores it: a CRC-32 of its values in their order, each with its kind.
pub(super) fn row_checksum<'a>(values: impl IntoIterator<Item = ValueRef<'a>>) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    for value in values {
        match value {
            ValueRef::Null => crc.update(&[0]),
            ValueRef::Integer(number) => {
                crc.update(&[1]);
                crc.update(&number.to_le_bytes());
            }
            ValueRef::Real(number) => {
                crc.update(&[2]);
                crc.update(&number.to_le_bytes());
            }
            ValueRef::Text(bytes) | ValueRef::Blob(bytes) => {
                crc.update(&[3]);
                crc.update(&(bytes.len() as u64).to_le_bytes());
                crc.update(bytes);
            }
        }
    }
    crc.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_journal_of_before_is_taken_for_a_damaged_one() {
        // Stored on disks: never edited.
        assert_eq!(checksum(1, 1_700_000_000_000, r#"{"event":"x"}"#), 2_518_111_176);
        assert_eq!(row_checksum([ValueRef::Text(b"tour-1"), ValueRef::Null, ValueRef::Integer(7)]), 3_076_445_211);
    }
}
