//! What the shell makes of `{a,b}` and `{1..3}`: several words of one, before anything else is expanded. An option, a command's
//! name or half of an assignment may stand in there, so who reads a command reads these words. Pure.
//!
//! Source: bash(1), Brace Expansion; `braces.c`.

use tree_sitter::Node;

use super::word::{self, Word};

/// The most words that one word may stand for.
const WORDS_MAX: usize = 256;
/// The most signs of a word that is read.
const SIGNS_MAX: usize = 4096;

/// A part of a word.
#[derive(Debug, Clone)]
enum Part {
    /// A letter outside of quotes.
    Bare(char),
    /// What quotes or a backslash protect.
    Fixed(String),
    /// What only shows when it runs, as it is written.
    Unknown(String),
}

impl Part {
    fn is(&self, sign: char) -> bool {
        matches!(self, Part::Bare(bare) if *bare == sign)
    }
}

/// What stands in a pair of braces.
struct Braces<'p> {
    before: &'p [Part],
    choices: Vec<Vec<Part>>,
    behind: &'p [Part],
}

/// The words that the one at `node` stands for, in order; `None` where there are too many of them, or it is not understood.
pub fn expand(node: Node<'_>, text: &str) -> Option<Vec<Word>> {
    let mut parts = vec![];
    gather(node, text, &mut parts)?;
    if parts.len() > SIGNS_MAX {
        return None;
    }
    // One that is empty without quotes is none.
    Some(expanded(&parts)?.iter().filter(|parts| !parts.is_empty()).map(|parts| joined(parts)).collect())
}

fn gather(node: Node<'_>, text: &str, parts: &mut Vec<Part>) -> Option<()> {
    let raw = &text[node.byte_range()];
    match node.kind() {
        "word" | "number" | "brace_expression" if node.kind() != "word" || node.named_child_count() == 0 => {
            let mut letters = raw.chars();
            while let Some(letter) = letters.next() {
                match letter {
                    '\\' => match letters.next() {
                        Some('\n') | None => {}
                        Some(next) => parts.push(Part::Fixed(next.to_string())),
                    },
                    bare => parts.push(Part::Bare(bare)),
                }
            }
        }
        "concatenation" => {
            let mut cursor = node.walk();
            let children: Vec<Node<'_>> = node.named_children(&mut cursor).collect();
            // What lies between them is quoting that is not understood.
            if children.iter().map(|child| child.byte_range().len()).sum::<usize>() != raw.len() {
                return None;
            }
            children.into_iter().try_for_each(|child| gather(child, text, parts))?;
        }
        _ => parts.push(match word::read(node, text).word {
            Word::Literal(fixed) => Part::Fixed(fixed),
            other => Part::Unknown(other.text().to_owned()),
        }),
    }
    Some(())
}

fn joined(parts: &[Part]) -> Word {
    let mut whole = String::new();
    for part in parts {
        match part {
            Part::Bare(letter) => whole.push(*letter),
            Part::Fixed(text) | Part::Unknown(text) => whole.push_str(text),
        }
    }
    let is_known = !parts.iter().any(|part| matches!(part, Part::Unknown(_)));
    if is_known { Word::Literal(whole) } else { Word::Unknown(whole) }
}

fn expanded(parts: &[Part]) -> Option<Vec<Vec<Part>>> {
    let Some(braces) = first(parts)? else { return Some(vec![parts.to_vec()]) };
    let tails = expanded(braces.behind)?;
    let mut all = vec![];
    for choice in &braces.choices {
        for middle in expanded(choice)? {
            if all.len() + tails.len() > WORDS_MAX {
                return None;
            }
            all.extend(tails.iter().map(|tail| [braces.before, &middle, tail].concat()));
        }
    }
    Some(all)
}

/// The first braces that make several words; `None` inside where there are none, and outside where they make too many.
fn first(parts: &[Part]) -> Option<Option<Braces<'_>>> {
    for (at, part) in parts.iter().enumerate() {
        let is_variable = at > 0 && parts[at - 1].is('$');
        if !part.is('{') || is_variable {
            continue;
        }
        let Some((end, commas)) = end_of(&parts[at + 1..]) else { continue };
        let inside = &parts[at + 1..at + 1 + end];
        let choices = match commas.is_empty() {
            true => match series(inside) {
                Some(series) => series?,
                None => continue,
            },
            false => parted(inside, &commas),
        };
        if choices.len() > WORDS_MAX {
            return None;
        }
        return Some(Some(Braces { before: &parts[..at], choices, behind: &parts[at + 2 + end..] }));
    }
    Some(None)
}

/// Where the braces end that `parts` stand behind the beginning of, and where commas part what is in them.
fn end_of(parts: &[Part]) -> Option<(usize, Vec<usize>)> {
    let (mut depth, mut commas) = (0usize, vec![]);
    for (at, part) in parts.iter().enumerate() {
        match part {
            Part::Bare('{') => depth += 1,
            Part::Bare('}') if depth == 0 => return Some((at, commas)),
            Part::Bare('}') => depth -= 1,
            Part::Bare(',') if depth == 0 => commas.push(at),
            _ => {}
        }
    }
    None
}

fn parted(inside: &[Part], commas: &[usize]) -> Vec<Vec<Part>> {
    let starts = [0].into_iter().chain(commas.iter().map(|at| at + 1));
    let ends = commas.iter().copied().chain([inside.len()]);
    starts.zip(ends).map(|(start, end)| inside[start..end].to_vec()).collect()
}

/// What `a..e`, `1..10` or `01..10..3` stands for: `None` where it is no series, `Some(None)` where it is too long.
#[expect(clippy::option_option, reason = "that it is none and that it is too long are two answers")]
fn series(inside: &[Part]) -> Option<Option<Vec<Vec<Part>>>> {
    let bare: Option<String> =
        inside.iter().map(|part| if let Part::Bare(sign) = part { Some(*sign) } else { None }).collect();
    let bare = bare?;
    let ends: Vec<&str> = bare.split("..").collect();
    let (from, to, step) = match ends[..] {
        [from, to] => (from, to, 1),
        [from, to, step] => (from, to, step.parse::<i64>().ok()?.unsigned_abs().max(1)),
        _ => return None,
    };
    let letter =
        |end: &str| Some(end.as_bytes()).filter(|end| end.len() == 1 && end[0].is_ascii_alphabetic()).map(|end| end[0]);
    let (first, last, shown): (i64, i64, Box<dyn Fn(i64) -> String>) = match (letter(from), letter(to)) {
        (Some(first), Some(last)) => {
            let shown = |at: i64| u8::try_from(at).map(char::from).unwrap_or_default().to_string();
            (first.into(), last.into(), Box::new(shown))
        }
        _ => {
            let is_padded = [from, to].iter().any(|end| end.trim_start_matches('-').starts_with('0') && end.len() > 1);
            let width = if is_padded { from.len().max(to.len()) } else { 0 };
            (from.parse().ok()?, to.parse().ok()?, Box::new(move |at: i64| format!("{at:0width$}")))
        }
    };
    if first.abs_diff(last) / step > WORDS_MAX as u64 {
        return Some(None);
    }
    let count = first.abs_diff(last) / step;
    let at = |index: u64| {
        let off = i128::from(index * step);
        let at = if first <= last { i128::from(first) + off } else { i128::from(first) - off };
        i64::try_from(at).unwrap_or(last)
    };
    Some(Some((0..=count).map(|index| shown(at(index)).chars().map(Part::Bare).collect()).collect()))
}

#[cfg(test)]
mod tests {
    use crate::agent::permission::{Decision, Mode};
    use crate::agent::shell::held::{check, decide};
    use crate::agent::shell::{Reading, judge, read};

    #[test]
    fn braces_are_expanded_as_the_shell_does() {
        let check = |script: &str, expected: &str| {
            let script = read(&format!("x {script}"));
            let words: Vec<&str> = script.commands[0].words[1..].iter().map(super::Word::text).collect();
            assert_eq!(words.join(" "), expected, "{script:?}");
        };
        check("{a,b}c", "ac bc");
        check("a{b,c}d{e,f}", "abde abdf acde acdf");
        check("{a,{b,c}d}", "a bd cd");
        check("{a{b,c}}", "{ab} {ac}");
        check("{a,b}}", "a} b}");
        check("{a,{b,c}", "{a,b {a,c");
        check("{,a,}", "a");
        check("{a,'b c',\\,}", "a b c ,");
        check("{1..3}{x,y}", "1x 1y 2x 2y 3x 3y");
        check("{3..-1..2} {08..10} {c..a}", "3 1 -1 08 09 10 c b a");
        check("{a} {} '{a,b}' \\{a,b} {a..} {a..bb}", "{a} {} {a,b} {a,b} {a..} {a..bb}");
        check("{$y,a}b", "$yb ab");
        check("{1..100000}", "{1..100000}");
    }

    /// Scripts that run `git push`.
    const PUSHES: &[&str] = &[
        "{git,push}",
        "git {push,origin}",
        "{git,$x} push",
        "{git,push,$x}",
        "git {$x,push}",
        "timeout {5,git,push}",
        "bash {-c,'git push'}",
        "python3 {-c,'import os; os.system(\"git push\")'}",
        "git {-C,.,push}",
        "git {-c,alias.x=push,x}",
        "git -c {alias.x=push,x}",
        "git {--no-pager,push}",
        "find . -maxdepth 0 {-exec,git,push,\\;}",
        "find . -maxdepth 0 {-exec,git} push \\;",
        "find . {-maxdepth,0,-exec,sh,-c,git\\ push,\\;}",
        "awk {'BEGIN{system(\"git push\")}',x}",
        "sed {-n,'1e git push'} f",
        "tar cf /dev/null {--checkpoint=1,--checkpoint-action=exec='git push'} *",
        "make {--eval='$(shell git push)',x}",
        "ssh {-oProxyCommand='git push >&2',h}",
        "env {-S,'git push'}",
        "env {A=1,git,push}",
        "printf {-v,'a[$(git push)]',x}",
        "printf {-v'a[$(git push)]',x}",
        "test {-v,'a[$(git push)]'}",
        "read {-r,'a[$(git push)]'} <<< x",
        "declare {-i,n='a[$(git push)]'}",
        "export {GIT_PAGER='git push',Y}; git log",
        "export {BASH_ENV=e,Y}; echo git push > e; bash -c :",
        "git 2>&1 {-C,.,push}",
        "alias {p='git push',q=x}",
        "eval {git,push}",
        "x=a; read {x,y} <<< 'git b'; $x push",
        "git {1..300} push",
    ];

    /// What looks much the same and is ordinary work.
    const ORDINARY: &[&str] = &[
        "mkdir -p src/{a,b}/{c,d}",
        "cp x.{rs,bak}",
        "touch f{1..20}.txt",
        "mkdir -p \"$d\"/{a,b}",
        "for i in {1..1000}; do echo $i; done",
        "git diff HEAD@{1} -- a{b,c}.rs",
        "ls *.{rs,toml}",
        "git add src/{lib,main}.rs && git commit -m 'a{b,c}'",
    ];

    #[test]
    fn what_braces_make_is_held_to_the_rules() {
        check(PUSHES, ORDINARY);
    }

    #[test]
    fn what_braces_make_is_a_danger_all_the_same_and_proves_nothing() {
        for script in ["rm {-rf,../x}", "{rm,-rf,/}", "bash {-c,'rm -rf /'}"] {
            assert!(matches!(judge(&read(script)), Reading::Dangerous(_)), "{script}");
        }
        for script in ["find . {-delete,-print}", "sort {-o,x,a}", "ls {a,b}", "uniq {a,b}"] {
            assert_ne!(judge(&read(script)), Reading::Reads, "{script}");
        }
    }

    #[test]
    fn words_without_end_are_refused_quickly() {
        let deep = "{a,".repeat(2000);
        let wide = "x{a,b}{a,b}{a,b}{a,b}{a,b}{a,b} ".repeat(2000);
        for script in [deep, format!("echo {wide}"), format!("echo {}", "{".repeat(100_000))] {
            read(&script);
        }
        assert!(matches!(decide(&format!("echo {wide}; git push"), Mode::Full), Decision::Deny(_)));
    }
}
