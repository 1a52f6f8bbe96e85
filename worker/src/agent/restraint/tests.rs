//! Ways around a rule, one a row, and ordinary work that no rule may stand in the way of. A new way belongs here first.

/// By programs.
mod evasions;
/// What people and models do all day.
mod ordinary;
/// By what lies somewhere.
mod places;
/// By the shell.
mod spelled;

use ordinary::ORDINARY;

use crate::agent::permission::{Act, Decision, Match, Mode, Rule, Rules};

fn rules(allow: &[&str], ask: &[&str], deny: &[&str]) -> Rules {
    let all = |rules: &[&str]| rules.iter().map(|rule| Rule::parse(rule).unwrap()).collect();
    Rules { allow: all(allow), ask: all(ask), deny: all(deny) }
}

fn said(rules: &Rules, script: &str) -> Decision {
    rules.decide("bash", &Act::Run(script), Mode::Full)
}

fn ways_around() -> impl Iterator<Item = &'static str> {
    use {evasions::BY_PROGRAMS, places::BY_FILES, places::BY_SETTINGS, spelled::BY_SPELLING, spelled::BY_THE_SHELL};
    [BY_PROGRAMS, BY_THE_SHELL, BY_SPELLING, BY_SETTINGS, BY_FILES].into_iter().flatten().copied()
}

#[test]
fn no_way_around_a_denied_command_passes() {
    let rules = rules(&["bash(*)"], &[], &["bash(git push*)"]);
    let passed: Vec<&str> = ways_around().filter(|script| !matches!(said(&rules, script), Decision::Deny(_))).collect();
    assert!(passed.is_empty(), "{passed:#?}");
}

#[test]
fn what_is_asked_about_is_asked_about_however_it_is_written() {
    let rules = rules(&["bash(*)"], &["bash(git push*)"], &[]);
    let passed: Vec<&str> = ways_around().filter(|script| !matches!(said(&rules, script), Decision::Ask(_))).collect();
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
fn launchers_of_launchers_are_refused_and_not_followed_for_ever() {
    let rules = rules(&[], &[], &["bash(git push*)"]);
    for launcher in ["npx x ", "uv run y ", "nobody-knows-it env "] {
        let script = format!("{}z", launcher.repeat(40));
        assert!(matches!(said(&rules, &script), Decision::Deny(_)), "{launcher}");
    }
}

#[test]
fn where_no_rule_restricts_commands_nothing_is_refused() {
    let free = rules(&[], &[], &["edit(src/**)"]);
    let stopped: Vec<&str> = ways_around().filter(|script| said(&free, script) != Decision::Allow).collect();
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
fn a_module_of_python_is_the_program_of_that_name() {
    let rules = rules(&[], &[], &["bash(pip install *)"]);
    for script in ["python -m pip install x", "python3.12 -Im pip -q install x", "python -mpip install x"] {
        assert!(matches!(said(&rules, script), Decision::Deny(_)), "{script}");
    }
    for script in ["python -m pip list", "python3 -m pytest -k pip", "python -m venv .venv"] {
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

#[test]
fn a_word_with_more_braces_than_anybody_compiles_may_be_any() {
    let word = |n: usize| format!("{}*{}", "{".repeat(n), "}".repeat(n));
    assert_eq!(super::fits("push", &word(16)), Match::Maybe);
    assert_eq!(super::fits("push", &word(8000)), Match::Maybe);
    let rules = rules(&[], &[], &["bash(git push *)"]);
    assert!(!matches!(said(&rules, &format!("git {}", word(8000))), Decision::Allow));
}
