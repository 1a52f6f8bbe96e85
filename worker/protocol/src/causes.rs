//! An error in words.

use std::error::Error;

/// An error with its causes, which say what really happened, in one line. What the words before it say is not said again.
pub fn causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    for cause in std::iter::successors(error.source(), |&cause| cause.source()) {
        let words = cause.to_string();
        if !text.contains(&words) {
            text.push_str(&format!(": {words}"));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[derive(Debug, thiserror::Error)]
    enum Outer {
        #[error("open it")]
        Silent(#[source] io::Error),
        #[error("open it: {0}")]
        Repeats(#[source] io::Error),
    }

    #[test]
    fn each_cause_is_said_once() {
        let denied = || io::Error::other("denied");
        assert_eq!(causes(&Outer::Silent(denied())), "open it: denied");
        assert_eq!(causes(&Outer::Repeats(denied())), "open it: denied");
    }
}
