//! Ways around a rule, one a row, and ordinary work that no rule may stand in the way of. A new way belongs here first.

use crate::agent::permission::{Act, Decision, Mode, Rule, Rules};

fn rules(allow: &[&str], ask: &[&str], deny: &[&str]) -> Rules {
    let all = |rules: &[&str]| rules.iter().map(|rule| Rule::parse(rule).unwrap()).collect();
    Rules { allow: all(allow), ask: all(ask), deny: all(deny) }
}

fn said(rules: &Rules, script: &str) -> Decision {
    rules.decide("bash", &Act::Run(script), Mode::Full)
}

/// Each of them pushes, or would with one more word of its own.
const EVASIONS: &[&str] = &[
    // An interpreter that is given its program on its input.
    "sh <<<'git push'",
    "bash <<EOF\ngit push\nEOF",
    "bash -s <<EOF\ngit push\nEOF",
    "bash - < x",
    "bash",
    "{ bash; } <<< 'git push'",
    "echo git push | sh",
    "printf %b 'git\\x20push' | sh",
    "bash /dev/stdin <<< 'git push'",
    "bash /proc/self/fd/0 <<< 'git push'",
    "cd dev; bash ../../dev/stdin <<< 'git push'",
    "source /dev/stdin <<< 'git push'",
    ". /dev/fd/3 3<<< 'git push'",
    ". <(echo git push)",
    "bash <(echo git push)",
    "bash --rcfile <(echo git push) -i",
    "python - <<EOF\nimport os; os.system('git push')\nEOF",
    "python3 <<< \"import os; os.system('git push')\"",
    "perl <<< 'system \"git push\"'",
    "make -f - <<< 'x:; git push'",
    "make -f /dev/stdin",
    "node <<< 'x'",
    "busybox sh <<< 'git push'",
    "busybox sh -c 'git push'",
    "xargs bash < list",
    "ed x <<< '!git push'",
    "at now <<< 'git push'",
    // A program as an argument.
    "python -c 'import os; os.system(\"git push\")'",
    "python3.12 -Ic 'import os'",
    "python -W ignore -c 'import os'",
    "python -m timeit 'import os'",
    "perl -e 'system \"git push\"'",
    "perl -lane 'system \"git push\"' x",
    "ruby -e '`git push`'",
    "node -e 'x'",
    "node --eval=x",
    "node --import 'data:text/javascript,x'",
    "php -r 'x'",
    "lua -e 'x'",
    "deno eval 'x'",
    "Rscript -e 'system(\"git push\")'",
    "awk 'BEGIN{system(\"git push\")}'",
    "awk 'BEGIN{print 1 | \"git push\"}'",
    "awk 'BEGIN{\"git push\" | getline}'",
    "gawk 'BEGIN{f=\"sys\" \"tem\"; @f(\"git push\")}'",
    "awk \"$program\" x",
    "awk -f <(echo x)",
    "sed '1e git push' x",
    "sed -n -e p -e '1e git push' x",
    "sed \"$script\" x",
    "sed -f /dev/stdin x",
    "make --eval='x:; git push' x",
    "make 'X=$(shell git push)'",
    "make CC='git push' x",
    "make CC=git",
    "vim -c '!git push'",
    "gdb -ex 'shell git push'",
    "nix-shell --run 'git push'",
    "npx -c 'git push'",
    "tar cf x --checkpoint-action='exec=git push' .",
    "split --filter='git push' x",
    "cargo --config 'target.x.runner=[\"git\", \"push\"]' run",
    "script -qc 'git push' /dev/null",
    // A text that an expansion makes.
    "eval \"$(echo git push)\"",
    "eval $'git\\x20push'",
    "eval \"$x\"",
    "bash -c \"$x\"",
    "bash -c \"cd $dir; git push\"",
    "$(echo git) push",
    "g=git; $g push",
    "g=git; \"$g\" push",
    "p=push; git $p",
    "p=push; git \"$p\"",
    "c='git push'; $c",
    "o='-C . push'; git $o status",
    "{git,push}",
    "git {push,}",
    "{g,}it push",
    "set -- git push; \"$@\"",
    "a=(git push); \"${a[@]}\"",
    "x='$(git push)'; echo ${x@P}",
    "PS4='$(git push)'; set -x; ls",
    "test -v 'a[$(git push)]'",
    "sh -c '\"$0\" push' git",
    "sh -c '$0 $1' git push",
    "\"$sh\" -c 'git push'",
    "gi? push",
    "/usr/bin/gi* push",
    "git pus[h]",
    "git pus*",
    "env -S \"$x\"",
    // Arguments from a list.
    "echo push | xargs git",
    "echo push | xargs -n1 git",
    "echo push | xargs -I{} git {}",
    "echo push | xargs -IX git X",
    "echo git push | xargs -I{} sh -c {}",
    "echo git push | xargs env",
    "find . -name push -exec git {} \\;",
    "find . -name git -execdir {} push \\;",
    "parallel git ::: push",
    "parallel ::: 'git push'",
    "git push; ls",
    "find . -execdir git push \\;",
    "git submodule foreach git push",
    "git submodule foreach 'git push'",
    "git bisect run git push",
    "git rebase --exec='git push' main",
    "git rebase -x'git push' main",
    // Run by something else.
    "coproc git push",
    "coproc X { git push; }",
    "trap 'git push' EXIT",
    "trap -- 'git push' EXIT",
    "trap \"$x\" EXIT",
    "mapfile -C 'git push' -c 1 x < y",
    "readarray -C 'git push' -c 1 x < y",
    "exec git push",
    "exec -a x git push",
    "exec -a git-push git",
    "env --argv0=git-push git",
    "ssh localhost git push",
    "su -c 'git push'",
    "watch -n 1 git push",
    "(git push)",
    "! git push",
    "while git push; do :; done",
    "\"$(which git)\" push",
    "command git push",
    "command -p git push",
    "builtin eval git push",
    "env -S 'git push'",
    "env -vS 'git push'",
    "env -S'git push'",
    "env --split='git push'",
    "uv run git push",
    "poetry run git push",
    "uv run $x",
    "uv run --with y $x push",
    "npx -p y \"$x\" push",
    "rustup run stable $x push",
    "npm exec -- git push",
    "bundle exec git push",
    "cmake -E env git push",
    "setarch x86_64 git push",
    "/lib64/ld-linux-x86-64.so.2 /usr/bin/git push",
    "frobnicate --with git push",
    "nice -n 5 nohup git push",
    "GIT_PAGER='git push' git log",
    "PAGER='sh -c \"git push\"' git log",
    "export GIT_EDITOR='git push'",
    "export \"GIT_EDITOR=git push\"",
    "env GIT_EDITOR='git push' git commit",
    "read GIT_PAGER <<< 'git push'; export GIT_PAGER; git log",
    "printf -v GIT_PAGER 'git push'",
    "BASH_ENV='$(git push)' bash x.sh",
    "RUSTC_WRAPPER='git push' cargo build",
    // Under another name.
    "git-push",
    "/usr/lib/git-core/git-push",
    "/usr/lib/git-core/git-push origin",
    "/usr/bin/git push",
    "alias g=git; g push",
    "alias x='git push'; x",
    "hash -p /usr/bin/git foo; foo push",
    "BASH_CMDS[foo]=/usr/bin/git; foo push",
    "cp $(which git) x; ./x push",
    "cp \"$(command -v git)\" x",
    "cp /usr/bin/git x",
    "cp /usr/bin/gi? x",
    "cp /usr/lib/git-core/git-push x",
    "cd /usr/bin; cp git /tmp/x",
    "ln -s /usr/bin/git x",
    "install /usr/bin/git x",
    "dd of=x if=/usr/bin/git",
    "dd of=x if=$(which git)",
    "cat /usr/bin/git > x; ./x push",
    "cat $(which git) > x; ./x push",
    "g() { git \"$@\"; }; g push",
    "git -c alias.x=push x",
    "git -c alias.x='!git push' x",
    "git -c \"$setting\" x",
    "git --config-env=alias.x=V x",
    "git config alias.x push; git x",
    "git config alias.x '!git push'",
    "GIT_CONFIG_COUNT=1 GIT_CONFIG_KEY_0=alias.x GIT_CONFIG_VALUE_0=push git x",
    "env GIT_CONFIG_COUNT=1 git x",
    "git -c core.pager='git push' log",
    "git -c pager.log='git push' log",
    // What cannot be read at all.
    "git push 'unclosed",
    "g''it pu''sh",
    "g\\it p\\ush",
    "l\u{200b}s",
];

/// What people and models do all day.
const ORDINARY: &[&str] = &[
    "python script.py",
    "python3 -m pytest -x tests",
    "python -u tools/gen.py --out x",
    "python --version",
    "bash script.sh",
    "bash -eu scripts/build.sh release",
    "sh -c 'cargo test && cargo fmt'",
    "bash -euo pipefail -c 'make | tail'",
    "./run.sh \"$1\"",
    "source venv/bin/activate && pytest",
    ". ./env.sh",
    "cargo test",
    "cargo test 2>&1 | tail -20",
    "cargo test --package \"$name\"",
    "RUST_LOG=debug cargo test -- --nocapture",
    "cargo build --release && ./target/release/x --help",
    "npm test",
    "npm run build -- --watch=false",
    "NODE_OPTIONS=--max-old-space-size=4096 npm run build",
    "npx tsc --noEmit",
    "node server.js",
    "node --test",
    "make",
    "make -j8 CC=clang CFLAGS='-O2 -g' all",
    "make -C sub -f Makefile.ci test",
    "go test ./...",
    "uv run pytest",
    "poetry run pytest -k name",
    "uv run pytest $tests",
    "npx eslint --fix \"$file\" $more",
    "sed -i s/a/b/ file",
    "sed -i.bak -e 's/a/b/' -e 's/c/d/g' file",
    "sed -n '10,20p' src/lib.rs",
    "sed --sandbox -i \"s/$old/$new/\" file",
    "awk '{print $1}' file",
    "awk -F: -v n=\"$n\" '$1 ~ /a|b/ || NR > n {print $2 \"|\" $3}' file",
    "awk '/foo|bar/ {n++} END {print n / 2}' file",
    "git add -A && git commit -m 'git push comes later'",
    "git commit -m \"$(cat <<'EOF'\nshell: say it\n\nno git push here\nEOF\n)\"",
    "git -c user.name=x -c user.email=y commit -m z",
    "git -C sub status",
    "git switch -c \"$branch\"",
    "git log --oneline | head -5",
    "GIT_PAGER=cat git log -5",
    "GIT_EDITOR=true git rebase --continue",
    "git pull --rebase",
    "git config user.name me",
    "git stash push -m x",
    "for f in src/*.rs; do echo \"$f\"; wc -l \"$f\"; done",
    "while read -r line; do echo \"$line\"; done < list.txt",
    "if grep -q x file; then make; fi",
    "cat > x.rs <<'EOF'\nfn main() { println!(\"git push\"); }\nEOF",
    "cat > run.sh <<'EOF'\n#!/bin/sh\nmake\nEOF\nchmod +x run.sh",
    "grep -rn 'git push' docs",
    "grep -rn git push.md > found.txt",
    "echo git push",
    "rg 'a|b' src | sort | uniq -c",
    "find . -name '*.rs' | xargs grep -n unwrap",
    "find . -name '*.o' -delete",
    "find . -name '*.sh' -exec chmod +x {} +",
    "ls | xargs -I{} wc -l x/{}",
    "cp a.rs b.rs",
    "cp -r src/*.rs out/",
    "cp config.toml \"$dest\"",
    "mv old.rs new.rs",
    "ln -s ../shared shared",
    "tar xzf x.tar.gz -C out",
    "timeout 60 cargo test",
    "which git",
    "command -v cargo >/dev/null && cargo --version",
    "/usr/bin/git status",
    "git status --short | awk '{print $2}'",
    "trap 'rm -f tmp' EXIT; make",
    "alias ll='ls -l'",
    "eval 'ls -l'",
    "rm -f \"$tmp\"",
    "export PATH=\"$HOME/bin:$PATH\"",
    "[ -f x ] && cat x",
    "[[ -n $x ]] && echo \"${x#a}\"",
    "echo \"$((1 + 2))\" | jq .",
    "curl -s https://example.org | jq .name",
];

#[test]
fn no_way_around_a_denied_command_passes() {
    let rules = rules(&["bash(*)"], &[], &["bash(git push*)"]);
    let passed: Vec<&&str> =
        EVASIONS.iter().filter(|script| !matches!(said(&rules, script), Decision::Deny(_))).collect();
    assert!(passed.is_empty(), "{passed:#?}");
}

#[test]
fn what_is_asked_about_is_asked_about_however_it_is_written() {
    let rules = rules(&["bash(*)"], &["bash(git push*)"], &[]);
    let passed: Vec<&&str> =
        EVASIONS.iter().filter(|script| !matches!(said(&rules, script), Decision::Ask(_))).collect();
    assert!(passed.is_empty(), "{passed:#?}");
}

#[test]
fn ordinary_work_goes_on_beside_a_rule() {
    for rules in [rules(&[], &[], &["bash(git push*)"]), rules(&[], &["bash(cargo publish *)"], &["bash(git push)"])] {
        let stopped = ORDINARY.iter().map(|script| (script, said(&rules, script)));
        let stopped: Vec<_> = stopped.filter(|(_, decision)| *decision != Decision::Allow).collect();
        assert!(stopped.is_empty(), "{stopped:#?}");
    }
}

#[test]
fn where_no_rule_restricts_commands_nothing_is_refused() {
    let free = rules(&[], &[], &["edit(src/**)"]);
    let stopped: Vec<&&str> = EVASIONS.iter().filter(|script| said(&free, script) != Decision::Allow).collect();
    assert!(stopped.is_empty(), "{stopped:#?}");
}

#[test]
fn a_rule_for_all_commands_holds_for_a_script_without_one() {
    let all = rules(&[], &[], &["bash"]);
    for script in ["> Cargo.toml", "X=1", "ls", ""] {
        assert!(matches!(said(&all, script), Decision::Deny(_)), "{script:?}");
    }
}

#[test]
fn options_before_a_subcommand_do_not_hide_it() {
    let rules = rules(&[], &[], &["bash(cargo publish *)", "bash(rm -rf *)", "bash(npm publish)"]);
    for script in
        ["cargo +nightly publish", "cargo --color never publish", "npm --silent publish", "rm -rf x", "rm -?f x"]
    {
        assert!(matches!(said(&rules, script), Decision::Deny(_)), "{script}");
    }
    for script in ["cargo --locked test", "npm --silent test", "rm x", "rm *.o", "git rm x"] {
        assert_eq!(said(&rules, script), Decision::Allow, "{script}");
    }
}

#[test]
fn a_refusal_says_why_and_what_to_write_instead() {
    let rules = rules(&[], &[], &["bash(git push*)"]);
    let why = |script: &str| match said(&rules, script) {
        Decision::Deny(why) => why,
        other => panic!("{other:?}"),
    };
    assert_eq!(why("git push"), "rule `bash(git push*)` speaks of `git push`, which denies it");
    assert_eq!(
        why("python -c 'print(1)'"),
        "`python -c` runs a text of its arguments, and rule `bash(git push*)` restricts what may run: write it into a file \
         and run the file"
    );
    assert_eq!(
        why("git $x"),
        "it cannot be told before it runs whether rule `bash(git push*)` speaks of `git $x`: write its words out, without \
         variables and patterns"
    );
}
