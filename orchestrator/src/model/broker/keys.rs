//! Keys of providers: from the caller's environment, or from a program that prints one. A key is never shown, never stored,
//! never sent to a worker. All that a provider says is searched for it before anybody reads it: refusals, and answers while
//! they arrive.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use swarm_plans::KeySource;
use tokio::io::AsyncReadExt as _;
use tokio::process::Command;

use crate::secrets::Secrets;

/// How long a program may take to print a key: a person may have to unlock something.
const COMMAND_MAX: Duration = Duration::from_secs(60);
/// The longest key, in bytes.
const KEY_BYTES_MAX: u64 = 16 << 10;
/// The shortest key that is masked: a shorter one would be found in anything.
const MASKED_BYTES_MIN: usize = 8;

/// A key; its text is not printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// The key itself, for a header.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// The keys of one run.
#[derive(Default)]
pub struct Keys {
    env: BTreeMap<String, String>,
    /// Who runs programs, so that none outlives this one: `swarm` itself, as `__worker --lifeline`.
    keeper: Option<PathBuf>,
    /// What programs printed; each runs once, until its key is refused.
    printed: tokio::sync::Mutex<HashMap<Vec<String>, Secret>>,
    /// Every key that was used, and what masks them.
    known: Mutex<(Vec<Secret>, Secrets)>,
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Keys(…)")
    }
}

impl Keys {
    /// Keys out of the caller's environment, and out of programs.
    pub fn new(env: BTreeMap<String, String>) -> Self {
        Keys { env, ..Keys::default() }
    }

    /// The same, whose programs end with this one, even where it is killed.
    pub fn kept_by(self, swarm: PathBuf) -> Self {
        Keys { keeper: Some(swarm), ..self }
    }

    /// The key in a variable; one that is empty holds none.
    pub fn variable<'a>(env: &'a BTreeMap<String, String>, name: &str) -> Option<&'a str> {
        env.get(name).map(|value| value.trim()).filter(|value| !value.is_empty())
    }

    /// The key of a source.
    ///
    /// # Errors
    /// Why there is none, for people.
    pub async fn get(&self, source: &KeySource) -> Result<Secret, String> {
        let key = match source {
            KeySource::Env(name) => {
                let value = Keys::variable(&self.env, name);
                Secret(value.ok_or_else(|| format!("the variable {name} is not set"))?.to_owned())
            }
            KeySource::Command(argv) => {
                let mut printed = self.printed.lock().await;
                match printed.get(argv) {
                    Some(key) => key.clone(),
                    None => {
                        let key = Secret(print(argv, &self.env, self.keeper.as_deref()).await?);
                        printed.insert(argv.clone(), key.clone());
                        key
                    }
                }
            }
        };
        if key.0.bytes().any(|byte| !(0x20..0x7f).contains(&byte)) {
            return Err("it has characters that no key has".to_owned());
        }
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if !known.0.contains(&key) {
            known.0.push(key.clone());
            let long = known.0.iter().filter(|key| key.0.len() >= MASKED_BYTES_MIN);
            known.1 = Secrets::new(long.map(|key| ("key", key.expose())));
        }
        Ok(key)
    }

    /// Forgets what a program printed: its key was refused. Whether there was something to forget.
    pub async fn forget(&self, source: &KeySource, refused: &Secret) -> Forgotten {
        let KeySource::Command(argv) = source else { return Forgotten::Nothing };
        let mut printed = self.printed.lock().await;
        // Another call may have asked the program again already.
        if printed.get(argv) == Some(refused) {
            printed.remove(argv);
        }
        Forgotten::AskAgain
    }

    /// What masks every key that was used.
    pub fn mask(&self) -> Secrets {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).1.clone()
    }

    /// A text without any key that was used.
    pub fn strike(&self, text: &str) -> String {
        self.mask().text(text).into_owned()
    }

    /// Bytes without any key that was used.
    pub fn strike_bytes(&self, bytes: Vec<u8>) -> Vec<u8> {
        let mut stream = self.mask().stream();
        let mut masked = stream.take(&bytes);
        masked.extend(stream.finish());
        masked
    }
}

/// Whether a key may be had anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Forgotten {
    /// Its program prints one again.
    AskAgain,
    /// It stays what it is.
    Nothing,
}

/// Why there is no such program, and what to do; `None` where there is one.
fn not_found(program: &str, path: Option<&str>) -> Option<String> {
    let runs = |file: &Path| rustix::fs::access(file, rustix::fs::Access::EXEC_OK).is_ok() && file.is_file();
    let instead =
        "install it, or correct `key = { command = [\"…\"] }` of the model, in the plan or in the user's config.toml";
    if program.contains('/') {
        let file = Path::new(program);
        let what = if file.exists() { "may not be run" } else { "does not exist" };
        return (!runs(file)).then(|| format!("{what}: {instead}"));
    }
    // Without a PATH the system has one of its own.
    let mut folders = std::env::split_paths(path?);
    (!folders.any(|folder| runs(&folder.join(program)))).then(|| format!("was not found on PATH: {instead}"))
}

/// What a program prints, without white space around it.
async fn print(argv: &[String], env: &BTreeMap<String, String>, keeper: Option<&Path>) -> Result<String, String> {
    let (program, arguments) = argv.split_first().ok_or("its command is empty")?;
    let failed = |detail: String| format!("`{program}`, which prints it, {detail}");
    if let Some(why) = not_found(program, env.get("PATH").map(String::as_str)) {
        return Err(failed(why));
    }
    let mut command = match keeper {
        None => Command::new(program),
        Some(swarm) => {
            let mut command = Command::new(swarm);
            command.args(["__worker", "--lifeline"]).arg(program);
            command
        }
    };
    // The keeper ends the program where its standard input ends, whoever closes it; killed, it could not.
    let stdin = if keeper.is_some() { Stdio::piped() } else { Stdio::null() };
    let mut child = command
        .args(arguments)
        .env_clear()
        .envs(env)
        .stdin(stdin)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(keeper.is_none())
        .spawn()
        .map_err(|error| failed(format!("did not start: {error}")))?;
    let _lifeline = child.stdin.take();
    let stdout = child.stdout.take().expect("piped");
    let reading = async {
        let mut text = String::new();
        stdout.take(KEY_BYTES_MAX).read_to_string(&mut text).await?;
        Ok::<_, std::io::Error>((text, child.wait().await?))
    };
    let (text, status) = tokio::time::timeout(COMMAND_MAX, reading)
        .await
        .map_err(|_| failed(format!("took longer than {} s", COMMAND_MAX.as_secs())))?
        .map_err(|error| failed(error.to_string()))?;
    match text.trim() {
        "" if keeper.is_some() && status.code() == Some(127) => {
            let words = argv.join(" ");
            Err(failed(format!(
                "found no program that it needs (exit status 127): run `{words}` by itself to see which"
            )))
        }
        _ if !status.success() => Err(failed(format!("failed: {status}"))),
        "" => Err(failed("printed nothing".to_owned())),
        key => Ok(key.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys() -> Keys {
        let env = [("A_KEY", "sk-12345678"), ("PATH", "/usr/bin:/bin"), ("EMPTY", " ")];
        Keys::new(env.map(|(name, value)| (name.to_owned(), value.to_owned())).into())
    }

    fn command(script: &str) -> KeySource {
        KeySource::Command(["sh", "-c", script].map(str::to_owned).to_vec())
    }

    #[tokio::test(flavor = "current_thread")]
    async fn keys_come_from_variables_and_programs_and_are_not_printed() {
        let keys = keys();
        let key = keys.get(&KeySource::Env("A_KEY".to_owned())).await.unwrap();
        assert_eq!((key.expose(), format!("{key:?}").as_str()), ("sk-12345678", "Secret(…)"));
        assert_eq!(keys.get(&command("echo ' k1 '")).await.unwrap().expose(), "k1");
        async fn lacking(keys: &Keys, source: KeySource) -> String {
            keys.get(&source).await.unwrap_err()
        }
        let lacks = |source: KeySource| lacking(&keys, source);
        assert_eq!(lacks(KeySource::Env("EMPTY".to_owned())).await, "the variable EMPTY is not set");
        assert_eq!(lacks(command("exit 3")).await, "`sh`, which prints it, failed: exit status: 3");
        assert_eq!(lacks(command("true")).await, "`sh`, which prints it, printed nothing");
        assert_eq!(lacks(command("printf 'a\\nb'")).await, "it has characters that no key has");
        let nowhere = KeySource::Command(vec!["/nonexistent/x".to_owned()]);
        assert!(lacks(nowhere).await.starts_with("`/nonexistent/x`, which prints it, does not exist: install it, or"));
        let unknown = KeySource::Command(vec!["no-such-program".to_owned()]);
        let why = lacks(unknown).await;
        assert!(why.starts_with("`no-such-program`, which prints it, was not found on PATH: install it, or"), "{why}");
    }

    #[tokio::test(flavor = "current_thread")]
    async fn a_key_that_was_refused_is_printed_anew() {
        let folder = tempfile::tempdir().unwrap();
        let source = command(&format!("cd {} && echo x >> n && wc -l < n", folder.path().display()));
        let keys = keys();
        let first = keys.get(&source).await.unwrap();
        assert_eq!(keys.get(&source).await.unwrap(), first);
        assert_eq!(keys.forget(&source, &first).await, Forgotten::AskAgain);
        assert_eq!(keys.get(&source).await.unwrap().expose(), "2");
        assert_eq!(keys.forget(&KeySource::Env("A_KEY".to_owned()), &first).await, Forgotten::Nothing);
    }

    #[tokio::test(flavor = "current_thread")]
    async fn what_a_provider_repeats_is_struck_out() {
        let keys = keys();
        keys.get(&KeySource::Env("A_KEY".to_owned())).await.unwrap();
        assert_eq!(keys.strike("wrong key sk-12345678!"), "wrong key ***!");
        assert_eq!(keys.strike_bytes(b"\xffsk-12345678".to_vec()), b"\xff***");
    }
}
