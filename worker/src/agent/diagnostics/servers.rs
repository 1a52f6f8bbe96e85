//! Which program looks after which files. Pure.

/// A language server that is used where it is installed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Language {
    /// The protocol's name of the language.
    pub id: &'static str,
    /// Endings of its files.
    pub endings: &'static [&'static str],
    /// Programs with their arguments; the first that is installed is used.
    pub programs: &'static [&'static [&'static str]],
}

/// All that are known.
pub const LANGUAGES: &[Language] = &[
    Language { id: "rust", endings: &["rs"], programs: &[&["rust-analyzer"]] },
    Language { id: "c", endings: &["c", "h"], programs: &[&["clangd", "--log=error"]] },
    Language { id: "cpp", endings: &["cc", "cpp", "cxx", "hh", "hpp"], programs: &[&["clangd", "--log=error"]] },
    Language {
        id: "python",
        endings: &["py", "pyi"],
        programs: &[&["pyright-langserver", "--stdio"], &["basedpyright-langserver", "--stdio"], &["pylsp"]],
    },
    Language { id: "go", endings: &["go"], programs: &[&["gopls"]] },
    Language {
        id: "typescript",
        endings: &["ts", "mts", "cts"],
        programs: &[&["typescript-language-server", "--stdio"]],
    },
    Language { id: "typescriptreact", endings: &["tsx"], programs: &[&["typescript-language-server", "--stdio"]] },
    Language {
        id: "javascript",
        endings: &["js", "mjs", "cjs"],
        programs: &[&["typescript-language-server", "--stdio"]],
    },
    Language { id: "zig", endings: &["zig"], programs: &[&["zls"]] },
];

/// The language of a file.
pub fn language(path: &str) -> Option<&'static Language> {
    let (_, ending) = path.rsplit('/').next()?.rsplit_once('.')?;
    LANGUAGES.iter().find(|language| language.endings.contains(&ending))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_has_one_language_or_none() {
        assert_eq!(language("src/a.rs").unwrap().id, "rust");
        assert_eq!(language("a.b.tsx").unwrap().id, "typescriptreact");
        assert!(language("x.d/Makefile").is_none() && language("a.xyz").is_none());
        let endings: Vec<&str> = LANGUAGES.iter().flat_map(|language| language.endings).copied().collect();
        let different: std::collections::BTreeSet<&str> = endings.iter().copied().collect();
        assert_eq!(different.len(), endings.len());
    }
}
