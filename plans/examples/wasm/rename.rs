//! `rename OLD NEW FILE…`: replaces a whole word in files. The guest of `../wasm-rename.toml`.
//!
//! It is a component for WASI preview 2 and has nothing but what the plan gives it: the worktree, its arguments, its output.
//! A file is written again only when something in it changed; the number of changes is printed for each. Made by:
//!
//! ```sh
//! rustup target add wasm32-wasip2
//! rustc --edition 2024 --target wasm32-wasip2 -C opt-level=s -C lto=fat -C panic=abort -C strip=symbols rename.rs
//! ```

use std::process::ExitCode;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [old, new, files @ ..] = words.as_slice() else {
        eprintln!("usage: rename OLD NEW FILE…");
        return ExitCode::from(2);
    };
    let mut failed = false;
    for file in files {
        match rename_in(file, old, new) {
            Ok(0) => {}
            Ok(count) => println!("{file}: {count}"),
            Err(error) => {
                eprintln!("{file}: {error}");
                failed = true;
            }
        }
    }
    if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

fn rename_in(file: &str, old: &str, new: &str) -> std::io::Result<usize> {
    let text = std::fs::read_to_string(file)?;
    let (changed, count) = rename(&text, old, new);
    if count > 0 {
        std::fs::write(file, changed)?;
    }
    Ok(count)
}

/// The text with every whole word `old` replaced, and how many there were.
fn rename(text: &str, old: &str, new: &str) -> (String, usize) {
    let part = |c: char| c.is_alphanumeric() || c == '_';
    let (mut changed, mut count, mut rest) = (String::with_capacity(text.len()), 0, text);
    while let Some(at) = rest.find(old).filter(|_| !old.is_empty()) {
        let (before, after) = (&rest[..at], &rest[at + old.len()..]);
        changed.push_str(before);
        let whole = !changed.ends_with(part) && !after.starts_with(part);
        changed.push_str(if whole { new } else { old });
        count += usize::from(whole);
        rest = after;
    }
    changed.push_str(rest);
    (changed, count)
}
