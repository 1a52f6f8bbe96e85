//! Which files of a tree a command of the plan runs, as far as its text says so: a result that changes the script of its gate is
//! judged by what it made of it, and a person should know.
//!
//! A command runs a file where it says so in one of these ways; whatever else it names is what it looks at:
//!
//! | in the command | the file |
//! |---|---|
//! | `./x`, `ci/x` where a program stands | `x`, `ci/x` |
//! | `sh x`, `sh < x`, `python3 x` … ([`INTERPRETERS`]), behind options and their values; `. x`, `source x` | `x` |
//! | `python -m a.b` | `a/b.py`, `a/b/__main__.py` |
//! | `make`, `just` … ([`RUNNERS`]) | what it reads: `Makefile` …, in the folder of `-C`; or the file of `-f` |
//!
//! A program stands at the beginning, behind `;`, `|`, `&`, brackets and the ends of lines, and behind what starts another
//! ([`STARTERS`]). `cd x` holds for what follows it. A word behind an option may be its value or what is run: it is taken for both. What
//! a file calls in its turn is not seen, nor a name that stands in a variable.

use std::collections::BTreeSet;

/// Programs that run the file which they are given, without the digits of their version.
const INTERPRETERS: &[&str] = &[
    "sh", "bash", "dash", "ash", "zsh", "ksh", "fish", "python", "node", "deno", "bun", "ruby", "perl", "php", "lua",
    "tclsh", "Rscript",
];

/// Those of them that are shells.
const SHELLS: &[&str] = &["sh", "bash", "dash", "ash", "zsh", "ksh", "fish"];

/// Programs that run what a file of the folder says, by the names that they look for.
const RUNNERS: &[(&str, &[&str])] = &[
    ("make", &["GNUmakefile", "makefile", "Makefile"]),
    ("gmake", &["GNUmakefile", "makefile", "Makefile"]),
    ("ninja", &["build.ninja"]),
    ("just", &["justfile", "Justfile", ".justfile"]),
    ("task", &["Taskfile.yml", "Taskfile.yaml", "taskfile.yml", "taskfile.yaml"]),
    ("rake", &["Rakefile", "rakefile"]),
    ("tox", &["tox.ini"]),
    ("nox", &["noxfile.py"]),
    ("npm", &["package.json"]),
    ("pnpm", &["package.json"]),
    ("yarn", &["package.json"]),
];

/// Words in front of a program; their options, and numbers behind those, stand between.
const STARTERS: &[&str] = &[
    "!", "{", "if", "then", "elif", "else", "while", "until", "do", "time", "exec", "command", "builtin", "env",
    "nohup", "nice", "setsid", "stdbuf", "xargs", "timeout", "eval", "sudo", "ionice", "chrt", "taskset", "flock",
];

/// Scripts within scripts that are read.
const DEPTH_MAX: usize = 4;

/// The files that a command runs, by their paths in the tree, whether or not they are there.
pub fn files_run(argv: &[String]) -> BTreeSet<String> {
    let mut reading = Reading::default();
    reading.command(argv, DEPTH_MAX);
    reading.files
}

/// A command as it is read.
#[derive(Default)]
struct Reading {
    files: BTreeSet<String>,
    /// Where it is by now, from the root of the tree.
    folder: String,
}

impl Reading {
    fn script(&mut self, text: &str, depth: usize) {
        let Some(depth) = depth.checked_sub(1) else { return };
        for command in commands(text) {
            self.command(&command, depth);
        }
    }

    fn command(&mut self, mut words: &[String], depth: usize) {
        while let [first, rest @ ..] = words {
            words = match STARTERS.contains(&first.as_str()) {
                true => self.behind_starter(rest, depth),
                false if is_set(first) => rest,
                false => break,
            };
        }
        let [program, rest @ ..] = words else { return };
        let name = name_of(program);
        if program.contains('/') {
            self.file(program);
        }
        match RUNNERS.iter().find(|(runner, _)| *runner == name) {
            Some((_, files)) => self.runner(files, rest),
            None if name == "cd" => self.folder = rest.first().and_then(|to| self.path(to)).unwrap_or_default(),
            None if matches!(name, "." | "source") => rest.first().into_iter().for_each(|file| self.file(file)),
            None if name == "trap" => rest.first().into_iter().for_each(|script| self.script(script, depth)),
            None if is_interpreter(program) => self.interpreter(kind_of(name), rest, depth),
            None => {}
        }
    }

    /// What a starter starts. A word behind one of its options is the option's value, unless it is a program that we know.
    fn behind_starter<'a>(&mut self, mut words: &'a [String], depth: usize) -> &'a [String] {
        let mut may_be_value = false;
        while let [first, rest @ ..] = words {
            let is_option = first.starts_with('-');
            let is_between = is_option || first.starts_with(|c: char| c.is_ascii_digit());
            if !is_between && (!may_be_value || is_known(first)) {
                break;
            }
            if first.contains(char::is_whitespace) {
                self.script(first, depth);
            } else if first.contains('/') && !is_option {
                self.file(first);
            }
            (may_be_value, words) = (is_option, rest);
        }
        words
    }

    fn runner(&mut self, files: &[&str], rest: &[String]) {
        // `-f x`, `-fx`, `--file=x`.
        let of = |short: &str, long: [&str; 2]| {
            rest.iter().enumerate().find_map(|(at, word)| match word.strip_prefix(short) {
                Some("") => rest.get(at + 1).map(String::as_str),
                Some(value) => Some(value),
                None => long.iter().find_map(|long| match word.strip_prefix(*long)? {
                    "" => rest.get(at + 1).map(String::as_str),
                    value => value.strip_prefix('='),
                }),
            })
        };
        let folder = of("-C", ["--directory", "--working-directory"]).unwrap_or_default();
        match of("-f", ["--file", "--makefile"]) {
            Some(file) => self.file(&below(folder, file)),
            None => files.iter().for_each(|file| self.file(&below(folder, file))),
        }
    }

    fn interpreter(&mut self, kind: &str, rest: &[String], depth: usize) {
        let is_shell = SHELLS.contains(&kind);
        let (mut rest, mut may_be_value) = (rest.iter(), false);
        while let Some(word) = rest.next() {
            let flags = word.strip_prefix('-').filter(|flags| !flags.is_empty() && !flags.starts_with('-'));
            match (word.as_str(), flags) {
                ("-m", _) if kind == "python" => {
                    let module = rest.next().map(|module| module.replace('.', "/")).unwrap_or_default();
                    return [".py", "/__main__.py"].iter().for_each(|end| self.file(&format!("{module}{end}")));
                }
                // The script is the first word that is no option.
                (_, Some(flags)) if is_shell && flags.contains('c') => {
                    let script = rest.find(|word| !word.starts_with(['-', '+']) && *word != "pipefail");
                    return script.into_iter().for_each(|script| self.script(script, depth));
                }
                (_, Some(flags)) if is_shell && flags.ends_with('o') => drop(rest.next()),
                // It is given its program as a text.
                ("-c" | "-e" | "-r", _) if !is_shell => return,
                ("run" | "test", _) if matches!(kind, "deno" | "bun") => {}
                ("<", _) => rest.next().into_iter().for_each(|file| self.file(file)),
                (word, _) if word.starts_with(['-', '+']) => may_be_value = true,
                (word, _) => match word.strip_prefix('<') {
                    Some(file) => self.file(file),
                    None => {
                        self.file(word);
                        if !std::mem::take(&mut may_be_value) {
                            return;
                        }
                    }
                },
            }
        }
    }

    fn file(&mut self, word: &str) {
        self.files.extend(self.path(word));
    }

    /// A path from the root of the tree; `None` for what leads out of it, or is not known.
    fn path(&self, word: &str) -> Option<String> {
        let word = word.strip_prefix("$PWD/").or_else(|| word.strip_prefix("${PWD}/")).unwrap_or(word);
        if word.starts_with(['/', '~']) || word.contains(['$', '*', '?', '[']) {
            return None;
        }
        let mut path: Vec<&str> = vec![];
        for part in self.folder.split('/').chain(word.split('/')) {
            match part {
                "" | "." => {}
                ".." => drop(path.pop()?),
                part => path.push(part),
            }
        }
        Some(path.join("/"))
    }
}

fn below(folder: &str, file: &str) -> String {
    if folder.is_empty() || file.starts_with('/') { file.to_owned() } else { format!("{folder}/{file}") }
}

/// Whether a word in front of a program sets a variable.
fn is_set(word: &str) -> bool {
    let name = word.split_once('=').map_or("", |(name, _)| name);
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

fn name_of(program: &str) -> &str {
    program.rsplit('/').next().unwrap_or_default()
}

/// A program's name without the digits of its version.
fn kind_of(name: &str) -> &str {
    name.trim_end_matches(|c: char| c.is_ascii_digit() || c == '.')
}

fn is_interpreter(program: &str) -> bool {
    INTERPRETERS.contains(&kind_of(name_of(program)))
}

/// Whether a word can only be a program here.
fn is_known(word: &str) -> bool {
    let name = name_of(word);
    is_interpreter(word) || STARTERS.contains(&word) || RUNNERS.iter().any(|(runner, _)| *runner == name)
}

/// The simple commands of a script, as words without their quotes.
fn commands(text: &str) -> Vec<Vec<String>> {
    let (mut all, mut words, mut word): (_, Vec<String>, Option<String>) = (vec![], vec![], None);
    let mut quote = None;
    let mut letters = text.chars().peekable();
    while let Some(letter) = letters.next() {
        match (quote, letter) {
            (Some(open), _) if letter == open => quote = None,
            (Some('"') | None, '\\') => match letters.next() {
                Some('\n') | None => {}
                Some(next) => word.get_or_insert_default().push(next),
            },
            (Some(_), _) => word.get_or_insert_default().push(letter),
            (None, '"' | '\'') => {
                word.get_or_insert_default();
                quote = Some(letter);
            }
            (None, '#') if word.is_none() => while letters.next_if(|&letter| letter != '\n').is_some() {},
            (None, '\n' | ';' | '|' | '&' | '(' | ')' | '`') => {
                words.extend(word.take());
                all.push(std::mem::take(&mut words));
            }
            (None, _) if letter.is_whitespace() => words.extend(word.take()),
            (None, _) => word.get_or_insert_default().push(letter),
        }
    }
    words.extend(word);
    all.push(words);
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_runs_what_it_says_and_looks_at_the_rest() {
        let check = |script: &str, expected: &[&str]| {
            let argv = ["sh", "-eu", "-c", script].map(str::to_owned);
            assert_eq!(files_run(&argv).iter().map(String::as_str).collect::<Vec<_>>(), expected, "{script}");
        };
        check("sh ci/gate.sh", &["ci/gate.sh"]);
        check("./ci//gate --fast && echo ok", &["ci/gate"]);
        check("bash -euo pipefail ci/gate.sh x.txt", &["ci/gate.sh"]);
        check("if ! timeout -k 5 60 env A=1 sh -x ./t.sh; then exit 1; fi", &["t.sh"]);
        check("cd ci; ./a\n(cd ../x && sh '../b c')", &["b c", "ci/a"]);
        check("bash -c 'cd sub; . ./lib.sh'", &["sub/lib.sh"]);
        check("python3.11 -B look.py; python -m ci.look", &["ci/look.py", "ci/look/__main__.py", "look.py"]);
        check("make -C sub test", &["sub/GNUmakefile", "sub/Makefile", "sub/makefile"]);
        check("make -f ci/rules.mk", &["ci/rules.mk"]);
        check("npm test | tee log", &["package.json"]);
        check("sh -e ci/gate.sh", &["ci/gate.sh"]);
        check("timeout -s KILL 60 sh ci/gate.sh", &["ci/gate.sh"]);
        check("env -u X -C sub ./t.sh; nice -n 5 bash t.sh", &["t.sh"]);
        check("python3 -W ignore x.py y.py", &["ignore", "x.py"]);
        check("bash --rcfile rc x", &["rc", "x"]);
        check("make -fci/a.mk; make --file=ci/b.mk; make -Csub -f c.mk", &["ci/a.mk", "ci/b.mk", "sub/c.mk"]);
        check("sh < a; bash <b; eval sh c; trap 'sh d; ./e' EXIT", &["a", "b", "c", "d", "e"]);
        check("env -S 'sh a' x; xargs -I X sh b", &["a", "b"]);
        check("xargs grep -l src/lib.rs", &[]);
        check("sh \"$PWD/ci/x\"; sh \"$TOOL/y\"; ../out; /bin/true", &["ci/x"]);
        check("! grep -q recieve README.md", &[]);
        check("test -s src/a.rs && cargo test -p x # sh ci/gate.sh", &[]);
        check("diff -u want.txt <(cat got.txt)", &[]);
        check("python -c 'print(1)' x.py; perl -e 1 y.pl", &[]);
        check("", &[]);
    }

    #[test]
    fn a_program_without_a_shell_is_one_command() {
        let check = |argv: &[&str], expected: &[&str]| {
            let argv: Vec<String> = argv.iter().map(|&word| word.to_owned()).collect();
            assert_eq!(files_run(&argv).iter().map(String::as_str).collect::<Vec<_>>(), expected, "{argv:?}");
        };
        check(&["ci/gate", "a;b"], &["ci/gate"]);
        check(&["python3", "a b.py"], &["a b.py"]);
        check(&["grep", "x", "ci/gate"], &[]);
        check(&["/usr/bin/make"], &["GNUmakefile", "Makefile", "makefile"]);
        check(&[], &[]);
    }

    #[test]
    fn a_script_without_an_end_is_read_to_its_end() {
        for odd in
            ["sh 'x", "sh \\", "\"", "((((", "sh -c \"sh -c 'sh -c x'\"", "cd ../..; ./x", "timeout", "env -i", "sh -o"]
        {
            drop(files_run(&["sh".to_owned(), "-c".to_owned(), odd.to_owned()]));
        }
    }
}
