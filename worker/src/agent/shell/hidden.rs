//! What the grammar overlooks, found in the text itself: line breaks that a backslash takes out of a word, and substitutions in
//! places whose inside the grammar does not read (backquotes in a here-document, `${x#$(…)}`, backquotes in backquotes).
//!
//! The tree says where a text is quoted; what it shows of substitutions is known, all others are found letter by letter. It errs
//! to the strict side: in quotes within an expansion, where the shell's own rules change with what is around, nothing is quoted.

use std::borrow::Cow;
use std::collections::HashSet;

use tree_sitter::{Node, Parser};

use super::depth::{self, TooDeep};

/// The most line breaks within words that are taken out of one script; each costs a parse.
const BREAKS_MAX: usize = 64;

/// What a script substitutes where the grammar names nothing.
#[derive(Debug, PartialEq, Eq)]
pub struct Hidden {
    /// The script that is run there.
    pub script: String,
    /// Where it ends was guessed.
    pub is_guess: bool,
}

/// A script without the line breaks that part its words; `None` where there are too many of them.
///
/// # Errors
/// [`TooDeep`], which a script may become by it: what is a comment no more was flat before.
pub fn joined<'t>(parser: &mut Parser, text: &'t str) -> Result<Option<Cow<'t, str>>, TooDeep> {
    let mut text = Cow::Borrowed(text);
    for _ in 0..=BREAKS_MAX {
        if !text.contains("\\\n") {
            return Ok(Some(text));
        }
        let Some(tree) = depth::parsed(parser, &text)? else { return Ok(Some(text)) };
        let Some(at) = first_break(&Marks::of(tree.root_node(), &text), &text) else { return Ok(Some(text)) };
        // One at a time: where a here-document ends depends on the lines before it.
        text.to_mut().replace_range(at..at + 2, "");
    }
    Ok(None)
}

/// The first line break that a backslash takes back and that is more than a space: within a word, in a here-document, or in the
/// line that begins one.
fn first_break(marks: &Marks, text: &str) -> Option<usize> {
    let bytes = text.as_bytes();
    let is_blank = |at: Option<&u8>| matches!(at, None | Some(b' ' | b'\t'));
    let mut at = 0;
    while at < bytes.len() {
        if marks.quoted[at] || bytes[at] != b'\\' {
            at += 1;
            continue;
        }
        if bytes.get(at + 1) == Some(&b'\n') {
            let before = at.checked_sub(1).and_then(|before| bytes.get(before));
            let line = &text[text[..at].rfind('\n').map_or(0, |start| start + 1)..at];
            let parts = !is_blank(before) && !is_blank(bytes.get(at + 2));
            if parts || marks.documents[at] || line.contains("<<") {
                return Some(at);
            }
        }
        at += 2;
    }
    None
}

/// Every substitution of a script that the grammar does not name, in order.
pub fn find(root: Node<'_>, text: &str) -> Vec<Hidden> {
    let marks = Marks::of(root, text);
    let bytes = text.as_bytes();
    let hidden = |script: &str, is_guess| Hidden { script: script.to_owned(), is_guess };
    let mut found: Vec<Hidden> = marks.nested.iter().map(|script| hidden(script, false)).collect();
    let mut at = 0;
    while at < bytes.len() {
        let next = bytes.get(at + 1);
        match bytes[at] {
            _ if marks.quoted[at] => at += 1,
            b'\\' => at += 2,
            b'`' if !marks.known.contains(&at) => {
                let end = end_of_backquotes(&bytes[at + 1..]);
                let inside = &text[at + 1..at + 1 + end];
                found.push(hidden(&without_backslashes(inside, true), false));
                at += end + 2;
            }
            sign @ (b'$' | b'<' | b'>')
                if next == Some(&b'(') && !marks.known.contains(&at) && (sign == b'$' || !marks.texts[at]) =>
            {
                let inside = &text[at + 2..];
                let inside = &inside[..end_of_parentheses(inside.as_bytes())];
                // What arithmetic substitutes is found where it stands.
                if sign == b'$' && is_arithmetic(inside) {
                    at += 3;
                    continue;
                }
                found.push(hidden(inside, true));
                at += 2 + inside.len();
            }
            _ => at += 1,
        }
    }
    found
}

/// How each byte of a script stands.
struct Marks {
    /// In single quotes, in a comment, in a here-document whose mark is quoted.
    quoted: Vec<bool>,
    /// In a here-document.
    documents: Vec<bool>,
    /// In a text or a sum, where `<(` is no substitution.
    texts: Vec<bool>,
    /// Where substitutions begin, and the backquotes of those that have them.
    known: HashSet<usize>,
    /// Scripts in backquotes that hold backslashes, as the shell reads them, and words that are evaluated as sums.
    nested: Vec<String>,
    /// What is gathered may be evaluated as a sum, which runs what is substituted in a subscript.
    in_sum: bool,
}

impl Marks {
    fn of(root: Node<'_>, text: &str) -> Marks {
        let none = || vec![false; text.len()];
        let mut marks = Marks {
            quoted: none(),
            documents: none(),
            texts: none(),
            known: HashSet::new(),
            nested: vec![],
            in_sum: false,
        };
        marks.gather(root, text, false);
        marks
    }

    fn gather(&mut self, node: Node<'_>, text: &str, in_text: bool) {
        let raw = &text[node.byte_range()];
        let mut in_text = in_text;
        let outside = self.in_sum;
        self.in_sum |= evaluates(node, text);
        let is_word = matches!(node.kind(), "word" | "raw_string" | "ansi_c_string" | "string");
        if self.in_sum && is_word && raw.contains('[') && raw.contains(['$', '`']) {
            let bare = raw.trim_matches(['\'', '"']).replace("\\$", "$").replace("\\`", "`");
            self.nested.push(format!(": {bare}"));
        }
        match node.kind() {
            "raw_string" | "ansi_c_string" | "comment" if !in_text => {
                self.in_sum = outside;
                return self.quoted[node.byte_range()].fill(true);
            }
            "heredoc_body" if has_quoted_mark(node, text) => return self.quoted[node.byte_range()].fill(true),
            "heredoc_body" => {
                self.documents[node.byte_range()].fill(true);
                self.texts[node.byte_range()].fill(true);
                in_text = true;
            }
            "string" | "c_style_for_statement" => {
                self.texts[node.byte_range()].fill(true);
                in_text |= node.kind() == "string";
            }
            "compound_statement" if raw.starts_with("((") => self.texts[node.byte_range()].fill(true),
            "expansion" => in_text = true,
            "arithmetic_expansion" => {
                self.texts[node.byte_range()].fill(true);
                let inside = raw.strip_prefix("$(").and_then(|raw| raw.strip_suffix(')'));
                if raw.starts_with("$[") || inside.is_some_and(is_arithmetic) {
                    self.known.insert(node.start_byte());
                }
            }
            "command_substitution" | "process_substitution" => {
                self.texts[node.byte_range()].fill(false);
                self.known.insert(node.start_byte());
                if let Some(inside) = raw.strip_prefix('`').and_then(|raw| raw.strip_suffix('`')) {
                    self.known.insert(node.end_byte() - 1);
                    if inside.contains('\\') {
                        self.nested.push(without_backslashes(inside, in_text));
                    }
                }
                in_text = false;
            }
            _ => {}
        }
        let mut cursor = node.walk();
        let children: Vec<Node<'_>> = node.children(&mut cursor).collect();
        children.into_iter().for_each(|child| self.gather(child, text, in_text));
        self.in_sum = outside;
    }
}

/// Whether a node evaluates the subscripts of words below it, which are sums: `test -v 'a[$(…)]'`.
fn evaluates(node: Node<'_>, text: &str) -> bool {
    let raw = &text[node.byte_range()];
    match node.kind() {
        "test_command" | "unset_command" | "declaration_command" => true,
        // It has words of the command within.
        "redirected_statement" => node.child_by_field_name("body").is_some_and(|body| evaluates(body, text)),
        "command" => match node.child_by_field_name("name").map(|name| &text[name.byte_range()]) {
            Some("printf") => raw.contains("-v"),
            Some(name) => ["test", "[", "let", "read", "unset", "declare", "command", "builtin"].contains(&name),
            None => false,
        },
        _ => false,
    }
}

/// Whether nothing is expanded in a here-document.
fn has_quoted_mark(body: Node<'_>, text: &str) -> bool {
    let Some(parent) = body.parent() else { return false };
    let mut cursor = parent.walk();
    let start = parent.named_children(&mut cursor).find(|child| child.kind() == "heredoc_start");
    start.is_some_and(|start| text[start.byte_range()].contains(['\'', '"', '\\']))
}

/// The inside of backquotes as it is run: one backslash less before what it protects there, quotes only within quotes.
fn without_backslashes(inside: &str, in_quotes: bool) -> String {
    let (mut out, mut letters) = (String::with_capacity(inside.len()), inside.chars().peekable());
    while let Some(c) = letters.next() {
        let protects = |next: &char| matches!(next, '$' | '`' | '\\') || (in_quotes && *next == '"');
        match letters.next_if(|next| c == '\\' && protects(next)) {
            Some(next) => out.push(next),
            None => out.push(c),
        }
    }
    out
}

/// How many bytes there are up to the backquote that ends a substitution, or to the end of the text.
fn end_of_backquotes(bytes: &[u8]) -> usize {
    let mut at = 0;
    while at < bytes.len() {
        match bytes[at] {
            b'`' => return at,
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
    bytes.len()
}

/// How many bytes there are up to the parenthesis that ends a substitution, or to the end of the text.
fn end_of_parentheses(bytes: &[u8]) -> usize {
    let (mut at, mut depth, mut quote) = (0, 0usize, None);
    while at < bytes.len() {
        match (bytes[at], quote) {
            (b'\\', None | Some(b'"')) => at += 1,
            (letter, Some(open)) if letter == open => quote = None,
            (_, Some(_)) => {}
            (letter @ (b'\'' | b'"'), None) => quote = Some(letter),
            (b'(', None) => depth += 1,
            (b')', None) if depth == 0 => return at,
            (b')', None) => depth -= 1,
            _ => {}
        }
        at += 1;
    }
    bytes.len()
}

/// Whether the inside of `$(…)` is a sum: one pair of parentheses around all of it.
fn is_arithmetic(inside: &str) -> bool {
    let sum = inside.strip_prefix('(').and_then(|inside| inside.strip_suffix(')'));
    sum.is_some_and(|sum| end_of_parentheses(sum.as_bytes()) == sum.len())
}

#[cfg(test)]
mod tests {
    use crate::agent::permission::{Decision, Mode};
    use crate::agent::shell::held::{check, decide};
    use crate::agent::shell::{COMMANDS_MAX, Reading, judge, read};

    /// Scripts that run `git push` where a careless reader sees none.
    const PUSHES: &[&str] = &[
        // The shell's options behind its `-c`.
        "bash -c -- 'git push'",
        "bash -c -e 'git push'",
        "bash -c +x 'git push'",
        "bash -c -o errexit 'git push'",
        "bash -co errexit 'git push'",
        "bash -oc errexit 'git push'",
        "bash -ec -- 'git push'",
        "bash -c - 'git push'",
        "bash -rcfile x -c 'git push'",
        "bash --rcfile x -c 'git push'",
        "bash -norc -c 'git push'",
        "sh -c -- 'git push'",
        "dash -c -e -- 'git push'",
        "zsh -c +x 'git push'",
        "zsh -fc -oerrexit 'git push'",
        "fish -c'git push'",
        "fish --command='git push'",
        "timeout 5 bash -c -- 'git push'",
        "xargs bash -c -- 'git push'",
        "find . -exec bash -c -e 'git push' ';'",
        "env -S \"bash -c -- 'git push'\"",
        "env -S \"-S 'git push'\"",
        "env -S \"-i -S 'git push'\"",
        "env -S '--split-string=git push'",
        "env -S \"-vS 'git push'\"",
        "env -S \"-u A -S 'git push'\"",
        "env -S 'A=1 git push'",
        "env -S '-C . git' push",
        "env -S \"-S '-S \\\"git push\\\"'\"",
        "nice env -S \"-S 'git push'\"",
        "script -q -c -- 'git push'",
        "capsh -- -c 'git push'",
        // Substitutions where the grammar sees text.
        "cat <<EOF\n`git push`\nEOF",
        "cat <<-EOF\n\t`git push`\n\tEOF",
        "cat <<EOF | cat\n`git push`\nEOF",
        "sh -c 'cat <<EOF\n`git push`\nEOF'",
        "echo \"${x:-`git push`}\"",
        "echo ${x:-`git push`}",
        "echo ${x-`git push`}",
        "echo \"${x:-'`git push`'}\"",
        "echo ${y#$(git push)}",
        "echo ${y##$(git push)}",
        "echo \"${y%$(git push)}\"",
        "echo ${y%%`git push`}",
        "echo ${y^$(git push)}",
        "echo ${y,,$(git push)}",
        "echo ${y[@]#$(git push)}",
        "echo ${y#<(git push)}",
        "echo ${y#$(echo $(git push))}",
        "echo \"`echo \\`git push\\``\"",
        "echo `echo \\`git push\\``",
        "echo \"`echo \\\"\\`git push\\`\\\"`\"",
        "f() { :; } < <(git push); f",
        "function x() { :; } > \"$(git push; echo /dev/null)\"; x",
        "f() { :; } <<< `git push`; f",
        // Subscripts, which are sums.
        "test -v 'a[$(git push)]'",
        "test ! -v \"a[\\$(git push)]\"",
        "[ -v 'a[$(git push)]' ]",
        "[[ -v 'a[`git push`]' ]]",
        "[[ 'a[$(git push)]' -eq 0 ]]",
        "printf -v 'a[$(git push)]' x",
        "unset 'a[$(git push)]'",
        "read 'a[$(git push)]' <<< x",
        "let 'a[$(git push)]'",
        "declare 'a[$(git push)]=1'",
        "(( a[$(git push)] ))",
        // Line breaks that part a word.
        "git pu\\\nsh",
        "g\\\nit push",
        "ev\\\nal 'git push'",
        "'gi'\\\n't' push",
        "/usr/bin/gi\\\nt push",
        "f() { gi\\\nt push; }; f",
        "echo $\\\n(git push)",
        "echo a\\\n#b; git push",
        "cat <\\\n<'EOF'\na\\\nEOF\ngit push\nEOF",
        "cat <<EOF \\\n; git push\nEOF",
        "cat <<EOF\nx\nEO\\\nF\ngit push\nEOF",
        "cat <<EOF\nx\n\\\nEOF\ngit push\nEOF",
    ];

    /// Programs that are told a command in a place of their own.
    const TOLD: &[&str] = &[
        "env -S '#x' git push",
        "compgen -W '$(git push)'",
        "compgen -W '`git push`' -- x",
        "perl '-Mvars;system\"git push\"' /dev/null",
        "PERL5DB='BEGIN{system(\"git push\")}' perl -d x",
        "view -es -c '!git push'",
        "vim.basic -es -c '!git push'",
        "ipython -c '!git push'",
        "ipython3 -c '!git push'",
        "python3 -m IPython -c '!git push'",
        "python3 -m trace -t /dev/stdin",
        "ssh -o ProxyCommand='git push' h",
        "ssh -oProxyCommand='git push' h",
        "ssh -vo 'ProxyCommand git push' h",
        "scp -o ProxyCommand='git push' a h:b",
        "sftp -o ProxyCommand='git push' h",
        "git ls-remote 'ext::git push'",
        "git -c protocol.ext.allow=always clone 'ext::git push' x",
        "GIT_ALLOW_PROTOCOL=ext git remote add z 'ext::git push'",
        "git -c url.'ext::git push'.insteadOf=q fetch q",
        "git -c gpg.ssh.defaultKeyCommand='git push' commit -S",
        "dpkg --pre-invoke='git push' --configure -a",
        "apt-get -o APT::Update::Pre-Invoke::='git push' update",
        "sed '1!b;e git push' x",
        "sed ':a;e git push' x",
        "sed --exp='1e git push' x",
        "make -n --eva='$(shell git push)'",
        "tar cf - --use-compress='git push' x",
        "TAR_OPTIONS=\"--checkpoint-action=exec='git push'\" tar cf x y",
        "gcc -wrapper git,push -c x.c",
        "csh -c 'git push'",
        "tcsh -ec 'git push'",
        "sg root -c 'git push'",
        "git -c core.alternateRefsCommand='git push' fetch .",
        "git -c sendemail.sendmailCmd='git push' send-email x",
        // Variables that a file may have set anew, or a builtin that names none.
        "t=ls; . ./vars; $t push",
        "t=ls; . ./vars; $t",
        "g=status; source ./vars; git \"$g\"",
        "t=ls; command . ./vars; \"$t\" push",
        "t=ls; eval '. ./vars'; $t push",
        "t=ls; for i in 1 2; do $t push; . ./vars; done",
        "t=ls; f() { $t push; }; . ./vars; f",
        "t=ls; . ./vars; bash -c \"$t push\"",
        "REPLY=ls; read <<< git; $REPLY push",
        // Archives, with letters that have no dash.
        "tar cIf 'git push' x.tar .",
        "tar xIf 'git push' x.tar",
        "tar cfI x.tar 'git push' .",
        "tar cf - --to-command='git push'",
        "tar --new-volume-script='git push' -cf x .",
        "bsdtar -c --use-compress-program 'git push' -f x .",
        "cpio --rsh-command='git push' -o",
        // Pagers.
        "less +'!git push' x",
        "less '++!git push' x",
        "more '+!git push' x",
        "LESS='+!git push' less x",
        "man -H'git push' ls",
        "ag --pager='git push' x",
        "BAT_PAGER='git push' bat x",
        "git --exec-path=./x push",
        "git --exec-path=./x lo",
        // Other shells and interpreters.
        "yash -c 'git push'",
        "ksh93 -c 'git push'",
        "nu -c 'git push'",
        "xonsh -c 'git push'",
        "gnuplot -e 'system(\"git push\")'",
        "ocaml -e 'Sys.command \"git push\"'",
        "kak -n -e '%sh{git push}'",
        "goawk 'BEGIN { system(\"git push\") }'",
        // Words that are scripts.
        "hyperfine ls 'git push'",
        "hyperfine --prepare='git push' ls",
        "runuser -c 'git push'",
        "runuser -l x -c 'git push'",
        "su x --session-command='git push'",
        "sshpass -p x ssh h 'git push'",
        "pee 'git push'",
        "mispipe 'git push' cat",
        "sem 'git push'",
        "xterm -e 'git push'",
        "strace -o '|git push' ls",
        "fzf --preview 'git push'",
        "cargo watch -s 'git push'",
        "yt-dlp --exec 'git push' x",
        "ansible localhost -m shell -a 'git push'",
        "mosh --ssh='git push' h",
        "sshfs -o ssh_command='git push' h: x",
        "wget -e use_askpass='git push' x",
        // Build tools.
        "just --shell 'git push' x",
        "just -f /dev/stdin",
        "ninja -f <(cat x)",
        "rake -e 'sh \"git push\"'",
        "cmake -DCMAKE_C_COMPILER_LAUNCHER='git;push' .",
        "rpm --eval '%(git push)'",
        "x86_64-linux-gnu-gcc-13 -wrapper git,push -c x.c",
        "NPM_CONFIG_SCRIPT_SHELL='git push' npm test",
        "CC_x86_64_unknown_linux_gnu='git push' cargo build",
        "PS1='$(git push)' bash --norc x",
        // Databases and mail.
        "mysql -e 'system git push'",
        "mysql --pager='git push' -e 'select 1'",
        "duckdb -c '.shell git push'",
        "mail x <<< '~!git push'",
        "lftp -c '!git push'",
        // Git's own.
        "git clone --config core.sshCommand='git push' x y",
        "git clone --config=core.sshCommand='git push' x y",
        "git for-each-repo --config=maintenance.repo push",
        "git send-email --sendmail-cmd='git push' x",
        "git -c sendemail.tocmd='git push' send-email x",
        "git -c gpg.ssh.program='git push' commit -S",
        "git -c imap.tunnel='git push' imap-send",
        "git -c instaweb.httpd='git push' instaweb",
        "git daemon --access-hook='git push'",
    ];

    /// What looks much the same and is ordinary work.
    const ORDINARY: &[&str] = &[
        "cat > x.md <<'EOF'\nsee `git push` and $(git push) and a\\\nb\nEOF",
        "git commit -m 'say `git push` and $(git push)'",
        "echo \"\\`git push\\` and \\$(git push)\"",
        "ls # `git push` $(git push",
        "cargo test \\\n  --workspace \\\n  --lib",
        "cat <<EOF\n`date` ${x#a} $((1 + 2)) 3<(4)\nEOF",
        "echo ${x#a} ${y%.txt} ${z:$((n - 1))} ${x^^}",
        "for ((i = 0; i<(n + 1); i++)); do echo $i; done",
        "if (( a<(b) )); then ls; fi",
        "echo \"a <(b) $((1<(2)))\"",
        "bash -c 'ls' x y",
        "env -S '-i make' test",
        "bash -euo pipefail -c 'make | tail'",
        "bash -o errexit x.sh",
        "zsh -fc 'make'",
        "f() { make; } > log; f",
        "echo `ls \\`pwd\\``",
        "gcc -Wall -c x.c -o x.o",
        "sed ':a;N;$!ba;s/x/y/' file",
        "sed -n '/a/,/b/{p;b};d' file",
        "compgen -A function",
        "apt-get -o Debug::NoLocking=1 install -y jq",
        ". .venv/bin/activate && python x.py",
        ". ./env; for p in a b; do cargo test -p \"$p\"; done",
        "tar xzf x.tar.gz",
        "tar czf out.tgz src",
        "tar cf - src | tar xf - -C build",
        "less +G x",
        "less +/needle x",
        "LESS=-R git log",
        "swift build",
        "ninja -C build",
        "cmake -S . -B build -DCMAKE_BUILD_TYPE=Release",
        "just test",
        "rake spec",
        "strace -f -o trace.txt make",
        "wget -e robots=off https://example.org",
        "git clone -c core.autocrlf=false https://example.org/x y",
        "cargo build -s",
    ];

    #[test]
    fn what_the_grammar_overlooks_is_held_to_the_rules() {
        check(PUSHES.iter().chain(TOLD), ORDINARY);
    }

    #[test]
    fn what_the_grammar_overlooks_is_a_danger_all_the_same() {
        let is_danger = |script: &&&str| matches!(judge(&read(script)), Reading::Dangerous(_));
        let passed: Vec<_> = PUSHES.iter().filter(|script| !is_danger(script)).collect();
        assert!(passed.is_empty(), "{passed:#?}");
    }

    #[test]
    fn what_nests_too_deeply_once_a_break_is_taken_out_is_refused() {
        for script in
            [format!("echo a\\\n#;x{}\\\n y", "&&x".repeat(80_000)), format!("echo a\\\n#;{}\\\n y", "(".repeat(100))]
        {
            assert!(matches!(decide(&format!("{script}\ngit push"), Mode::Full), Decision::Deny(_)));
        }
    }

    #[test]
    fn what_is_too_much_to_be_read_is_refused_where_a_rule_restricts_in_every_mode() {
        let commands = [":\n".repeat(COMMANDS_MAX + 1), "ls x;".repeat(COMMANDS_MAX + 1)];
        let breaks = "a\\\nb ".repeat(100);
        for front in commands.iter().chain([&breaks]) {
            for mode in [Mode::ReadOnly, Mode::WorkspaceWrite, Mode::Full] {
                let decision = decide(&format!("{front}\ngit push"), mode);
                assert!(matches!(decision, Decision::Deny(_)), "{mode:?} {}", &front[..8]);
            }
        }
    }
}
