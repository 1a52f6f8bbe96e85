//! What a test says that skips itself. It stands here because every crate that has such tests has this one.

use std::io::Write as _;

/// Says on the standard error why a test, or a part of it, is skipped. A test's own `eprintln!` is kept from whoever runs it as long
/// as the test passes; what is written to the stream itself is not.
pub fn say(why: impl std::fmt::Display) {
    // In one piece, as tests run beside each other. There is nobody else to tell that nobody hears it.
    let _ = std::io::stderr().write_all(format!("skipped: {why}\n").as_bytes());
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    /// The test runs itself: what it says is there although it passes, and what it prints is not.
    #[test]
    fn what_is_skipped_is_seen_though_the_test_passes() {
        const SAY: &str = "SWARM_TEST_SAYS_SKIPPED";
        if std::env::var_os(SAY).is_some() {
            eprintln!("only printed");
            super::say("no reason");
            return;
        }
        let name = "skipped::tests::what_is_skipped_is_seen_though_the_test_passes";
        let own = std::env::current_exe().expect("a test knows its program");
        let ended = Command::new(own).args(["--exact", name]).env(SAY, "1").output().expect("it starts");
        let said = String::from_utf8_lossy(&ended.stderr);
        assert!(ended.status.success() && said.contains("skipped: no reason\n"), "{said}");
        assert!(!said.contains("only printed"), "{said}");
    }
}
