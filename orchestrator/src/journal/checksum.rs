//! By which an event is known that is not as it was written: a disk, or whoever edited the file, may leave another text that is
//! as legible. SQLite itself keeps no checksum of its pages. Against accidents only: whoever means to can make a new one.

/// The checksum of an event as the journal stores it: a CRC-32 of its number, its time and its text. It is another one for
/// every single bit that differs, and for every run of up to 32.
pub(super) fn checksum(seq: u64, at_ms: u64, json: &str) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    crc.update(&seq.to_le_bytes());
    crc.update(&at_ms.to_le_bytes());
    crc.update(json.as_bytes());
    crc.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_journal_of_before_is_taken_for_a_damaged_one() {
        // Stored on disks: never edited.
        assert_eq!(checksum(1, 1_700_000_000_000, r#"{"event":"x"}"#), 2_518_111_176);
    }
}
