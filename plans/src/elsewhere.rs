//! What other tools call a key: whoever comes from a workflow file, a compose file or a build tool writes their words first.

/// What is meant by a word of another tool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Meant {
    /// These keys, whichever of them the table has.
    Keys(&'static [&'static str]),
    /// No key: this is how it is said here.
    Said(&'static str),
}

/// What `word` means elsewhere, however it is spelt there.
pub(crate) fn meant(word: &str) -> Option<Meant> {
    Some(match &*kebab(word) {
        "on" | "after" | "requires" | "require" | "deps" | "dependencies" | "depends" | "depends-on" => {
            Meant::Keys(&["needs"])
        }
        "command" | "cmd" | "script" | "exec" | "shell-command" => Meant::Keys(&["run"]),
        "entrypoint" => Meant::Keys(&["argv"]),
        "checks" | "test" | "tests" | "validate" => Meant::Keys(&["check", "verify"]),
        "task" | "job" | "jobs" | "steps" | "stages" | "pipeline" => Meant::Keys(&["tasks"]),
        "environment" => Meant::Keys(&["env"]),
        "variables" | "vars" => Meant::Keys(&["vars", "env"]),
        "when" | "condition" | "only-if" => Meant::Keys(&["if"]),
        "strategy" => Meant::Keys(&["matrix"]),
        "each" | "with-items" | "loop" => Meant::Keys(&["foreach"]),
        "exclude" => Meant::Keys(&["matrix-exclude"]),
        "include" => Meant::Keys(&["matrix-include"]),
        "continue-on-error" | "ignore-errors" | "optional" => Meant::Keys(&["allow-failure"]),
        "retries" | "attempts" => Meant::Keys(&["retry"]),
        "timeout-minutes" | "timeout-seconds" | "timeout-ms" | "time-limit" => {
            Meant::Said("write the unit beside the number: timeout = \"10m\"")
        }
        "cwd" | "dir" | "workdir" | "directory" | "working-dir" | "working-directory" => {
            Meant::Said("a command starts at the top of its worktree: write `cd DIR && …` in `run`")
        }
        "name" => Meant::Said("a task is called by its table: [tasks.NAME]"),
        "description" | "comment" => Meant::Said("a comment says it: # what it is for"),
        "image" | "container" => Meant::Said(
            "there are no images: a task sees this machine's own tools, in swarm's cage (swarm doctor names it)",
        ),
        "inputs" | "sources" => Meant::Said("what a reusable result depends on: cache = { inputs = [\"src/**\"] }"),
        "parallel" | "max-parallel" | "concurrency" => Meant::Said(
            "swarm run -j N bounds all tasks; `resources` bound some: db = 1 in [resources], and resources = { db = 1 } in each",
        ),
        "permissions" | "sandboxed" => Meant::Keys(&["sandbox"]),
        _ => return None,
    })
}

/// A key as it is spelt here.
pub(crate) fn kebab(key: &str) -> String {
    key.replace('_', "-").to_lowercase()
}

/// Whether `word` is another tool's word for what a task does.
pub(crate) fn means_work(word: &str) -> bool {
    matches!(meant(word), Some(Meant::Keys(["run" | "argv"])))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_other_tools_lead_to_ours() {
        assert_eq!(meant("Depends_On"), Some(Meant::Keys(&["needs"])));
        assert_eq!(meant("continue-on-error"), Some(Meant::Keys(&["allow-failure"])));
        assert!(matches!(meant("cwd"), Some(Meant::Said(words)) if words.contains("cd DIR")));
        assert_eq!(meant("colour"), None);
        assert!(means_work("shell_command") && !means_work("needs"));
    }
}
