//! Answers of a model, written by hand: what a scripted agent says, turn by turn, for `--replay`.

use std::path::PathBuf;

use serde_json::{Value, json};

use crate::Repository;

/// A folder of answers.
#[derive(Debug)]
pub struct Answers {
    folder: PathBuf,
    written: u32,
}

impl Answers {
    /// An empty folder beside a repository.
    pub fn beside(repository: &Repository, name: &str) -> Answers {
        let folder = repository.beside(name);
        std::fs::create_dir_all(&folder).expect("space");
        Answers { folder, written: 0 }
    }

    /// A conversation of an instance: for each turn what the model says and what it calls. The first conversation that is
    /// added is given to the first that is held.
    pub fn conversation(mut self, instance: &str, turns: &[(&str, &[(&str, Value)])]) -> Answers {
        self.written += 1;
        for (at, (text, calls)) in turns.iter().enumerate() {
            let call = |(number, (name, arguments)): (usize, &(&str, Value))| json!({"id": format!("call_{number}"), "function": {"index": number, "name": name, "arguments": arguments}});
            let calls: Vec<Value> = calls.iter().enumerate().map(call).collect();
            let said = json!({"model": "m", "done": false,
                "message": {"role": "assistant", "content": text, "tool_calls": calls}});
            let end = json!({"model": "m", "done": true, "done_reason": "stop", "prompt_eval_count": 100,
                "eval_count": 10, "message": {"role": "assistant", "content": ""}});
            let recorded = json!({"version": 1, "instance": instance, "occurrence": self.written, "turn": at + 1,
                "model": "ollama/m", "dialect": "ollama", "content-type": "application/x-ndjson",
                "answer": format!("{said}\n{end}\n")});
            let path = self.folder.join(format!("{:04}-{at:04}.json", self.written));
            std::fs::write(path, recorded.to_string()).expect("space");
        }
        self
    }

    /// For `--replay`.
    pub fn folder(&self) -> &str {
        self.folder.to_str().expect("plain names")
    }
}
