//! Redirections between the words of a command, and other places where the grammar parts a line otherwise than the shell does.
//!
//! The grammar gives every word behind a redirection to it: `git 2>log push` is `git` with two files to write. Those behind the
//! first belong to the command. Where a comment begins, and what a redirection opens, is held against the shell's own rule.

use tree_sitter::Node;

use super::has_token;
use super::unread::Unread;

/// What stands around a command's own node.
const AROUND: &[&str] = &["list", "pipeline", "negated_command"];

/// The words of a command that stand behind the redirections at its end, in order.
pub fn words_behind<'t>(command: Node<'t>) -> Vec<Node<'t>> {
    let (mut found, mut inner) = (vec![], command);
    while let Some(outer) = inner.parent() {
        if outer.end_byte() > inner.end_byte() && outer.kind() == "redirected_statement" {
            let mut cursor = outer.walk();
            let behind = outer.named_children(&mut cursor).filter(|child| child.start_byte() >= inner.end_byte());
            behind.for_each(|redirect| found.extend(words_of(redirect)));
        } else if outer.end_byte() > inner.end_byte() || !AROUND.contains(&outer.kind()) {
            break;
        }
        inner = outer;
    }
    found
}

/// What a redirection opens; one that closes a descriptor opens nothing, and the word behind it is the command's.
pub fn target(redirect: Node<'_>) -> Option<Node<'_>> {
    redirect.child_by_field_name("destination").filter(|_| !closes(redirect))
}

fn closes(redirect: Node<'_>) -> bool {
    has_token(redirect, "<&-") || has_token(redirect, ">&-")
}

/// The words of the command that a redirection was given.
pub fn words_of<'t>(redirect: Node<'t>) -> Vec<Node<'t>> {
    let mut cursor = redirect.walk();
    match redirect.kind() {
        "file_redirect" => {
            let own = usize::from(!closes(redirect));
            redirect.children_by_field_name("destination", &mut cursor).skip(own).collect()
        }
        "heredoc_redirect" => {
            let mut found: Vec<Node<'t>> = redirect.children_by_field_name("argument", &mut cursor).collect();
            redirect.children_by_field_name("redirect", &mut cursor).for_each(|inner| found.extend(words_of(inner)));
            found
        }
        _ => vec![],
    }
}

/// Whether a word is a redirection's number, or the variable that takes it: `0< in`, `{fd}>log`.
pub fn is_number(word: Node<'_>, text: &str) -> bool {
    let raw = &text[word.byte_range()];
    let is_named = raw.starts_with('{') && raw.ends_with('}');
    (is_named || raw.bytes().all(|byte| byte.is_ascii_digit())) && text[word.end_byte()..].starts_with(['<', '>'])
}

/// What the shell may read otherwise than the grammar below a node.
pub fn odd(node: Node<'_>, text: &str) -> Option<Unread> {
    let raw = &text[node.byte_range()];
    if node.kind() == "comment" && !begins_comment(&text[..node.start_byte()]) {
        return Some(Unread::new("a `#` in it begins no comment", "put the `#` into quotes, or a blank before it"));
    }
    if node.parent().is_none() && loses_lines(text) {
        return Some(Unread::new("the name behind a redirection has no end", "put the name into quotes"));
    }
    let mut cursor = node.walk();
    let children: Vec<Node<'_>> = node.named_children(&mut cursor).collect();
    let opens = match node.kind() {
        "file_redirect" => target(node),
        "herestring_redirect" => children.last().copied(),
        _ => None,
    };
    let is_lost = node.kind() == "file_redirect" && opens.is_none() && !closes(node);
    // The shell ends `<& -x` behind the dash; what follows is a word of the command.
    let parts = opens.filter(|_| has_token(node, "<&") || has_token(node, ">&"));
    let parts = parts.map(|file| &text[file.byte_range()]).is_some_and(|file| file.starts_with('-') && file != "-");
    if opens.is_some_and(|file| is_odd(file, text)) || is_lost || parts {
        return Some(Unread::new(format!("`{raw}` may open something else"), "put the file's name into quotes"));
    }
    if node.kind() == "command" && raw.contains("$\\") && children.iter().any(|child| is_open(*child, text)) {
        return Some(Unread::new("a `$` in it stands before a backslash", "put the `$` into quotes"));
    }
    // Only a command has words behind its redirections.
    let body = node.child_by_field_name("body").filter(|_| node.kind() == "redirected_statement");
    let last = body.map(last_of);
    if last.is_some_and(|last| last.kind() != "command" && !words_behind(last).is_empty()) {
        return Some(Unread::new("a redirection parts its words", "put redirections behind all words"));
    }
    children.into_iter().find_map(|child| odd(child, text))
}

/// Whether a redirection's name is one behind which the grammar loses the end of the line: `>$`, and `<<<\` before a blank.
fn loses_lines(text: &str) -> bool {
    let behind =
        |sign: char| text.match_indices(sign).map(move |(at, _)| text[at + 1..].trim_start_matches([' ', '\t']));
    let is_bare = |rest: &str| rest.starts_with("$\n") || rest.starts_with("\\ ") || rest.starts_with("\\\t");
    behind('>').chain(behind('<')).any(is_bare)
}

/// The last of the statements that a node joins.
fn last_of(node: Node<'_>) -> Node<'_> {
    let count = node.named_child_count();
    match (AROUND.contains(&node.kind()), count.checked_sub(1)) {
        (true, Some(last)) => node.named_child(last as _).map_or(node, last_of),
        _ => node,
    }
}

/// Whether a `#` behind `front` begins a comment: at the start of a word, which a blank that is escaped does not end.
fn begins_comment(front: &str) -> bool {
    let front = front.trim_end_matches("\\\n");
    let Some(before) = front.chars().next_back() else { return true };
    let rest = &front[..front.len() - before.len_utf8()];
    let escapes = rest.len() - rest.trim_end_matches('\\').len();
    before.is_ascii() && " \t\n;&|()".contains(before) && escapes.is_multiple_of(2)
}

/// Whether the name that a redirection opens has a sign in it which is more than a letter of a name.
fn is_odd(file: Node<'_>, text: &str) -> bool {
    let raw = &text[file.byte_range()];
    let mut cursor = file.walk();
    match file.kind() {
        "word" => raw.contains(|c: char| c.is_ascii() && !c.is_ascii_alphanumeric() && !"/._-+,:@%=~^!".contains(c)),
        "concatenation" => file.children(&mut cursor).any(|part| is_odd(part, text)),
        "string" | "raw_string" | "number" | "simple_expansion" | "expansion" | "process_substitution" => false,
        "command_substitution" | "arithmetic_expansion" | "ansi_c_string" | "translated_string" => false,
        _ => true,
    }
}

/// Whether a word outside of quotes has a `$` before a backslash, where the grammar may lose the end of the line.
fn is_open(word: Node<'_>, text: &str) -> bool {
    matches!(word.kind(), "command_name" | "word" | "concatenation" | "ERROR")
        && text[word.start_byte()..].starts_with(['$', '\\'])
        && text[word.byte_range()].contains(['$', '\\'])
}

#[cfg(test)]
mod tests {
    use crate::agent::shell::held::check;
    use crate::agent::shell::{Reading, judge, read};

    /// Scripts that run `git push`.
    const PUSHES: &[&str] = &[
        "git 2>/dev/null push",
        "git>&2 push",
        "git >&2 push origin",
        "git </dev/null push",
        "git 2>&1 -C . 2>&1 push",
        "git 2>&1 -c alias.x=push x",
        "git 1>&2 2>&1 push",
        "git 2> e push; cat e",
        "git 2>\"$PWD/e\" push",
        "git &>>/dev/stdout push",
        "git >|/dev/null push",
        "git {fd}>/dev/null push",
        // What closes a descriptor takes no name.
        "git <&- push",
        "git 0<&- push",
        "git >&- push",
        "git 9<&- 8<&- push",
        "git 0<&-push",
        "git 3>&- push",
        "git 0<&-  push",
        "git 0<&- -C . push origin",
        "git <&- -c a.b=c 3>&- push origin",
        "git <& -push",
        "git >& - push",
        "git <&-\"push\"",
        "git {fd}<&- push",
        "<&- git push",
        "3>&- 4>&- git 5>&- push",
        "git 3>&- -C . 4>&- push | cat",
        "timeout 3>&- 5 git push",
        "env <&- git push",
        "x=$(git <&- push)",
        ">/dev/stdout git </dev/null push",
        ">/dev/stdout git push",
        ">x >y git push",
        "true && git 2>&1 push",
        "true | git 2>&1 push",
        "! git 2>&1 push",
        "true | git 2>&1 push | cat",
        "if true; then git 2>&1 push; fi",
        "x=$(git 2>&1 push)",
        "git <<EOF push\nx\nEOF",
        "git <<EOF 2>&1 push\nx\nEOF",
        "git <<< x push",
        "git <<< x 2>&1 push",
        "timeout 5 2>&1 git push",
        "timeout 2>&1 5 git push",
        "env 2>&1 git push",
        "env 2>&1 -S 'git push'",
        "command 2>&1 git push",
        "exec 2>&1 git push",
        "xargs 2>&1 git push </dev/null",
        "echo push | xargs 2>&1 git",
        "eval 2>&1 'git push'",
        "trap 2>&1 'git push' EXIT",
        ". 2>&1 <(echo git push)",
        "awk 2>&1 'BEGIN{system(\"git push\")}'",
        "sed 2>&1 '1e git push' f",
        "find . -maxdepth 0 2>&1 -exec git push \\;",
        "find . -maxdepth 0 -exec git 2>&1 push \\;",
        "test 2>&1 -v 'a[$(git push)]'",
        "export 2>&1 GIT_PAGER='git push'; git log",
        "x=status; declare 2>&1 -n r=x; r=push; git $x",
        "x=status; printf 2>&1 -v x push; git $x",
        "x=status; read 2>&1 x <<< push; git $x",
        // A `#` that begins no comment, and names with signs in them.
        "echo \\ #; git push",
        "echo x\n\\\t#; git push",
        "[ x ]#; git push",
        "{}#; git push",
        "[a]#; git push",
        ">$\ngit push",
        "git >[ push",
        "git >}{* push",
        "git <\\# push",
        "git \t>\t\\; push",
        " \\\\\t$\\ \ngit push",
        "echo <<<\\\t #\ngit push",
    ];

    /// What looks much the same and is ordinary work.
    const ORDINARY: &[&str] = &[
        "make 2>&1 | tail -5",
        "cargo test > out.log 2>&1 # all of it",
        "cargo test 2>/dev/null --lib",
        "ls; # all of it\nmake",
        "ls &# all\n(#x\nls)",
        "make \\\n  # the rest\nls",
        "cat > \"$d/x y\" <<'EOF'\na\nEOF",
        "make > build/out-$x.log 2>>'a b'",
        "exec 3>&1; make 1>&3 3>&-",
        "make <&- 2>&1 | tail -5",
        "make 3>&- -j4 > log",
        "exec 3<&-",
        "while read -r l; do echo \"$l\"; done < in.txt > out.txt",
        "{ ls; pwd; } > x 2>&1",
        "diff <(ls a) <(ls b) > x",
        "make > >(tee log) 2>&1",
        "make &> log",
        "git log > /tmp/x; git diff 2>/dev/null HEAD",
    ];

    #[test]
    fn what_a_redirection_parts_is_held_to_the_rules() {
        check(PUSHES, ORDINARY);
    }

    #[test]
    fn what_a_redirection_parts_is_a_danger_all_the_same() {
        let scripts = ["rm 2>/dev/null -rf ../x", "bash 2>/dev/null -c 'rm -rf ../x'", "cp 2>/dev/null a /usr/bin/x"];
        let is_danger = |script: &&&str| matches!(judge(&read(script)), Reading::Dangerous(_));
        let passed: Vec<_> = scripts.iter().filter(|script| !is_danger(script)).collect();
        assert!(passed.is_empty(), "{passed:#?}");
    }

    #[test]
    fn what_begins_no_comment_proves_nothing() {
        let scripts = ["echo \\ #; touch x", "ls \\\t#; touch x", "cat a | uniq - w1", "cat a | xxd - w2"];
        let reads: Vec<_> = scripts.iter().filter(|script| judge(&read(script)) == Reading::Reads).collect();
        assert!(reads.is_empty(), "{reads:#?}");
        assert_eq!(judge(&read("cat a | uniq - # once each")), Reading::Reads);
    }
}
