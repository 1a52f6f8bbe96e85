//! Which variables and files hold credentials, judged by their names and, where there is one, by the value. A judgement that
//! is wrong in the careful direction costs a person one flag; one that is wrong in the other costs the credential. So the lists
//! are generous.

use std::fs::{DirEntry, FileType};
use std::io::Read as _;
use std::path::{Path, PathBuf};

/// Words that make a variable a credential wherever they stand in its name.
const ANYWHERE: &[&str] =
    &["KEY", "TOKEN", "SECRET", "PASSWORD", "PASSWD", "PASSPHRASE", "CREDENTIAL", "COOKIE", "JWT", "BEARER", "PRIVATE"];

/// Words that do so as a whole part between two underscores: inside longer words they mean something else (`AUTHOR`, `PATH`).
const WHOLE_PARTS: &[&str] =
    &["PASS", "PWD", "PW", "CRED", "CREDS", "AUTH", "PAT", "PIN", "DSN", "SESSION", "LOGIN", "CERT", "SIGNATURE"];

/// Beginnings of the names by which clouds, vaults, agents and providers of models know their callers.
const PREFIXES: &[&str] = &[
    "AWS_",
    "AZURE_",
    "ARM_",
    "GOOGLE_",
    "GCP_",
    "GCLOUD_",
    "CLOUDSDK_",
    "ALIBABA_",
    "OCI_",
    "DIGITALOCEAN_",
    "HEROKU_",
    "CLOUDFLARE_",
    "VAULT_",
    "TF_VAR_",
    "KUBE",
    "DOCKER_",
    "SSH_",
    "GPG_",
    "GNUPG",
    "DBUS_",
    "OPENAI_",
    "ANTHROPIC_",
    "GEMINI_",
    "OPENROUTER_",
    "MISTRAL_",
    "HF_",
    "SLACK_",
    "STRIPE_",
    "TWILIO_",
    "SENDGRID_",
    "SENTRY_",
];

/// Variables of every shell that only look like one of the above.
const HARMLESS: &[&str] = &["PWD", "OLDPWD", "XDG_SESSION_TYPE"];

/// Beginnings of values that are tokens whatever they are called.
const TOKENS: &[&str] = &[
    "ghp_",
    "gho_",
    "ghu_",
    "ghs_",
    "ghr_",
    "github_pat_",
    "glpat-",
    "npm_",
    "pypi-",
    "sk-",
    "sk_live_",
    "rk_live_",
    "xoxa-",
    "xoxb-",
    "xoxp-",
    "AKIA",
    "ASIA",
    "AIza",
    "hf_",
    "dop_v1_",
    "hvs.",
    "-----BEGIN",
];

/// Beginnings of a file's name by which programs keep credentials, anywhere on the machine.
const FILE_STARTS: &[&str] = &[".env", "id_rsa", "id_dsa", "id_ecdsa", "id_ed25519", ".netrc", "_netrc", ".pgpass"];
/// Ends of such names.
const FILE_ENDS: &[&str] = &[
    ".pem",
    ".key",
    ".p12",
    ".pfx",
    ".jks",
    ".keystore",
    ".kdbx",
    ".gpg",
    ".asc",
    ".ovpn",
    ".env",
    ".tfstate",
    ".tfvars",
    ".tfvars.json",
    ".ppk",
];
/// Words that make a name one of these wherever they stand in it.
const FILE_WORDS: &[&str] =
    &["secret", "credential", "password", "passwd", "token", "apikey", "api_key", "api-key", "private", "keyring"];
/// Whole names.
const FILE_NAMES: &[&str] = &[
    ".npmrc",
    ".pypirc",
    ".htpasswd",
    ".dockercfg",
    "auth.json",
    "hosts.yml",
    "kubeconfig",
    "known_hosts",
    "service-account.json",
    "service_account.json",
    "settings-security.xml",
    "shadow",
];

/// Whether a variable holds a credential by its name.
pub fn is_variable(name: &str) -> bool {
    let name = name.to_ascii_uppercase();
    if HARMLESS.contains(&name.as_str()) {
        return false;
    }
    let parts = name.split(|letter: char| !letter.is_ascii_alphanumeric());
    ANYWHERE.iter().any(|word| name.contains(word))
        || PREFIXES.iter().any(|prefix| name.starts_with(prefix))
        || parts.clone().any(|part| WHOLE_PARTS.contains(&part))
        // `PGPASS`, `MYSQLPWD`: one word, and no sign of where the second begins.
        || parts.clone().any(|part| part.len() > 4 && (part.ends_with("PASS") || part.ends_with("PWD")))
}

/// Whether a value is a credential by its look: a token whose kind can be told, or a URL with a password in it.
pub fn is_value(value: &str) -> bool {
    let value = value.trim();
    TOKENS.iter().any(|start| value.len() > start.len() + 8 && value.starts_with(start)) || has_password(value)
}

/// `scheme://user:password@host`, anywhere in a text.
fn has_password(text: &str) -> bool {
    text.split("://").skip(1).any(|rest| {
        let authority = rest.split(['/', '?', '#', ' ', '"', '\'']).next().unwrap_or_default();
        authority
            .rsplit_once('@')
            .is_some_and(|(user, _)| user.split_once(':').is_some_and(|(_, word)| !word.is_empty()))
    })
}

/// Whether a file holds credentials by its name, or lies in a folder that does.
pub fn is_path(path: &Path) -> bool {
    path.components().any(|part| is_file_name(&part.as_os_str().to_string_lossy().to_ascii_lowercase()))
}

/// Stems of files that people and programs keep a credential in, whole: in a folder of build results the same words stand in
/// thousands of names of sources.
const CACHE_STEMS: &[&str] = &[
    "secret",
    "secrets",
    "credential",
    "credentials",
    ".git-credentials",
    ".credentials",
    "password",
    "passwords",
    "passwd",
    "token",
    "tokens",
    "apikey",
    "api_key",
    "api-key",
    "client_secret",
    "service-account",
    "service_account",
];
/// What follows the stem there, if anything.
const CACHE_ENDS: &[&str] = &["", "txt", "json", "yaml", "yml", "toml", "ini", "cfg", "conf", "properties", "xml"];
/// What stands in a file of the PEM format that holds more than certificates, and how far it is looked for, in bytes.
const PRIVATE_KEY: &[u8] = b"PRIVATE KEY";
const PEM_BYTES_MAX: u64 = 1 << 20;

/// The most entries of a folder that are looked at for credentials.
const ENTRIES_MAX: usize = 20_000;
/// The same for a folder of build results: they have many, and a look of this size takes half a second.
const CACHE_ENTRIES_MAX: usize = 200_000;

/// What a folder holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Holds {
    /// No credential, as far as names tell.
    Nothing,
    /// At least one.
    Credentials,
    /// That cannot be told: a folder cannot be read, or there are too many entries.
    Unknown,
}

/// The files and folders below a folder that hold credentials by their names, topmost ones only; no link is followed. `None`
/// when that cannot be told: a folder cannot be read, or there are too many entries.
pub fn below(folder: &Path) -> Option<Vec<PathBuf>> {
    let mut found = Vec::new();
    walk(folder, ENTRIES_MAX, |entry, _| {
        let is = is_path(Path::new(&entry.file_name()));
        if is {
            found.push(entry.path());
        }
        if is { Next::Beside } else { Next::Inside }
    })?;
    found.sort();
    Some(found)
}

/// What a folder of build results or of a package manager holds: only names that stand for nothing else count, and a `.pem`
/// only with a private key in it, because every such folder has some certificates.
pub fn in_cache(folder: &Path) -> Holds {
    let mut held = false;
    let looked = walk(folder, CACHE_ENTRIES_MAX, |entry, kind| {
        held |= !kind.is_dir() && is_kept(&entry.path());
        if held { Next::Enough } else { Next::Inside }
    });
    match looked {
        _ if held => Holds::Credentials,
        Some(()) => Holds::Nothing,
        None => Holds::Unknown,
    }
}

/// Where a walk goes on.
enum Next {
    Inside,
    Beside,
    Enough,
}

/// Shows all entries below a folder; no link is followed. `None` when not all could be shown.
fn walk(folder: &Path, entries_max: usize, mut show: impl FnMut(&DirEntry, FileType) -> Next) -> Option<()> {
    let (mut open, mut entries) = (vec![folder.to_owned()], 0);
    while let Some(folder) = open.pop() {
        for entry in std::fs::read_dir(&folder).ok()? {
            let entry = entry.ok()?;
            entries += 1;
            if entries > entries_max {
                return None;
            }
            let kind = entry.file_type().ok()?;
            match show(&entry, kind) {
                Next::Inside if kind.is_dir() => open.push(entry.path()),
                Next::Inside | Next::Beside => {}
                Next::Enough => return Some(()),
            }
        }
    }
    Some(())
}

/// Whether a file among what was built or installed is a credential that somebody put there: by a name that stands for nothing else.
pub fn is_kept(file: &Path) -> bool {
    let Some(name) = file.file_name().map(|name| name.to_string_lossy().to_ascii_lowercase()) else { return false };
    if name.ends_with(".pem") {
        return !is_certificate(file);
    }
    let dot = name.char_indices().skip(1).find(|&(_, letter)| letter == '.').map_or(name.len(), |(at, _)| at);
    let (stem, end) = (&name[..dot], name[dot..].trim_start_matches('.'));
    is_a_keys(&name) || CACHE_STEMS.contains(&stem) && CACHE_ENDS.contains(&end)
}

/// Whether a file can be read to its end, and holds no private key.
fn is_certificate(path: &Path) -> bool {
    let mut bytes = Vec::new();
    let is_file = path.symlink_metadata().is_ok_and(|file| file.is_file() && file.len() <= PEM_BYTES_MAX);
    let read =
        is_file.then(|| std::fs::File::open(path).and_then(|file| file.take(PEM_BYTES_MAX).read_to_end(&mut bytes)));
    matches!(read, Some(Ok(_))) && !bytes.windows(PRIVATE_KEY.len()).any(|part| part == PRIVATE_KEY)
}

/// The largest configuration file that is looked into, in bytes; of a larger one nobody knows.
const SETTINGS_BYTES_MAX: u64 = 1 << 20;
/// Words by which one names a credential.
const TELLING: [&str; 15] = [
    "token",
    "secret",
    "password",
    "passwd",
    "passphrase",
    "credential",
    "bearer",
    "apikey",
    "api-key",
    "accesskey",
    "access-key",
    "privatekey",
    "private-key",
    "_key",
    "_auth",
];

/// Whether a configuration file (cargo's may hold registry tokens) names a token or a secret outside of its comments, or cannot be
/// judged. Where it does, nobody sees it who did not ask for it by name; no folder does.
pub fn may_be_told_in(path: &Path) -> bool {
    if !path.is_file() {
        return false;
    }
    let mut text = String::new();
    let read = std::fs::File::open(path).and_then(|file| file.take(SETTINGS_BYTES_MAX + 1).read_to_string(&mut text));
    if !read.is_ok_and(|bytes| bytes as u64 <= SETTINGS_BYTES_MAX) {
        return true;
    }
    let text = match text.trim_start().starts_with('<') {
        true => without_remarks(&text),
        false => text.lines().filter(|line| !line.trim_start().starts_with('#')).collect::<Vec<_>>().join("\n"),
    };
    let named = text.to_ascii_lowercase();
    let is_between = |letter: char| letter.is_whitespace() || "\"'`=,;<>()[]{}@/:".contains(letter);
    TELLING.iter().any(|word| named.contains(word))
        || text.split(is_between).any(is_value)
        || text.lines().any(has_password)
}

/// Whether what a repository says of its origins holds a credential, or cannot be judged: an address with a user in it (but `git`, who
/// is nobody), a token, a header that signs its owner in.
pub fn may_be_addressed_in(path: &Path) -> bool {
    let mut text = String::new();
    let read = std::fs::File::open(path).and_then(|file| file.take(SETTINGS_BYTES_MAX + 1).read_to_string(&mut text));
    if !read.is_ok_and(|bytes| bytes as u64 <= SETTINGS_BYTES_MAX) {
        return true;
    }
    let lower = text.to_ascii_lowercase();
    let has_user = |rest: &str| {
        let authority = rest.split(|letter: char| letter.is_whitespace() || "/?#\"'".contains(letter)).next();
        authority.and_then(|it| it.rsplit_once('@')).is_some_and(|(user, _)| !user.is_empty() && user != "git")
    };
    let is_between = |letter: char| letter.is_whitespace() || "\"'=@/:".contains(letter);
    ["extraheader", "authorization"].iter().any(|word| lower.contains(word))
        || lower.split("http").skip(1).filter_map(|rest| rest.trim_start_matches('s').strip_prefix("://")).any(has_user)
        || text.lines().any(has_password)
        || text.split(is_between).any(is_value)
}

/// An XML text without its comments; one that never ends stays.
fn without_remarks(text: &str) -> String {
    let mut parts = text.split("<!--");
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |so_far, part| so_far + part.split_once("-->").map_or(part, |(_, behind)| behind))
}

fn is_file_name(name: &str) -> bool {
    is_a_keys(name) || FILE_WORDS.iter().any(|word| name.contains(word))
}

/// Whether no program is called so, by a file's name in small letters: programs know their credentials by it.
pub fn is_a_keys(name: &str) -> bool {
    FILE_NAMES.contains(&name)
        || FILE_STARTS.iter().any(|start| name.starts_with(start))
        || FILE_ENDS.iter().any(|end| name.ends_with(end))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_variables() {
        for name in [
            "AWS_SECRET_ACCESS_KEY",
            "AWS_PROFILE",
            "npm_token",
            "DB_PASSWORD",
            "PGPASSWORD",
            "MYSQL_PWD",
            "PGPASS",
            "SENTRY_DSN",
            "HTTP_AUTH",
            "GH_PAT",
            "SSH_AUTH_SOCK",
            "KUBECONFIG",
            "apikey",
            "Session_Cookie",
        ] {
            assert!(is_variable(name), "{name}");
        }
        for name in ["CARGO_TERM_COLOR", "CI", "GITHUB_SHA", "GIT_AUTHOR_NAME", "PATH", "PWD", "RUST_LOG", "MINE"] {
            assert!(!is_variable(name), "{name}");
        }
    }

    #[test]
    fn values_that_tell_what_they_are() {
        for value in
            ["postgres://me:word@db/x", "a=https://u:p@h,b", "ghp_0123456789abcdef", "-----BEGIN RSA PRIVATE KEY-----"]
        {
            assert!(is_value(value), "{value}");
        }
        for value in ["https://example.org/a:b@c", "https://me@host", "always", "sk-", "/home/me", "postgres://:@db"] {
            assert!(!is_value(value), "{value}");
        }
    }

    #[test]
    fn what_a_folder_holds_is_found_at_its_top() {
        let dir = tempfile::tempdir().unwrap();
        for file in ["a/.env", "a/b/x.pem", "secrets/deep/y", "plain/z"] {
            std::fs::create_dir_all(dir.path().join(file).parent().unwrap()).unwrap();
            std::fs::write(dir.path().join(file), "").unwrap();
        }
        let found = below(dir.path()).expect("it is small");
        let found: Vec<&Path> = found.iter().map(|path| path.strip_prefix(dir.path()).unwrap()).collect();
        assert_eq!(found, ["a/.env", "a/b/x.pem", "secrets"].map(Path::new));
        assert_eq!(below(&dir.path().join("missing")), None);
    }

    #[test]
    fn build_results_are_no_credentials_and_keys_among_them_are() {
        let check = |file: &str, text: &str, expected: Holds| {
            let dir = tempfile::tempdir().unwrap();
            std::fs::create_dir_all(dir.path().join(file).parent().unwrap()).unwrap();
            std::fs::write(dir.path().join(file), text).unwrap();
            assert_eq!(in_cache(dir.path()), expected, "{file}");
        };
        for file in
            ["debug/deps/token-0af3.d", ".fingerprint/password-hash-1/lib-password_hash.json", "js-tokens/index.js"]
        {
            check(file, "", Holds::Nothing);
        }
        for file in ["id_rsa", "a/b/c/d/e/f/g/deploy.key", "x/.env.local", "secrets.yml", "token", ".git-credentials"] {
            check(file, "", Holds::Credentials);
        }
        check("certifi/cacert.pem", "-----BEGIN CERTIFICATE-----", Holds::Nothing);
        check("a.pem", "-----BEGIN EC PRIVATE KEY-----", Holds::Credentials);
        assert_eq!(in_cache(Path::new("/nonexistent")), Holds::Unknown);
    }

    #[test]
    fn a_configuration_with_a_token_tells() {
        let home = tempfile::tempdir().unwrap();
        let file = home.path().join("config");
        for (text, expected) in [
            ("[registries.x]\ntoken = \"abc\"\n", true),
            ("[build]\njobs = 2 # no token here\n", true),
            ("# token = \"x\"\n[build]\njobs = 2\n", false),
            ("[env]\nOPENAI_API_KEY = \"x\"\n", true),
            ("[env]\nA = 'ghp_0123456789abcdef'\n", true),
            ("url = https://me:word@host/x\n", true),
            ("proxy = \"http://me:w=o,r;d@host\"\n", true),
            ("url = https://ghp_0123456789abcdef@host/x\n", true),
            ("//host/:_auth=bWU6d29yZA==\n", true),
            ("[env]\nGITHUB_TOKEN = \"x\"\n", true),
            ("[tools]\nnode = \"20\"\n[settings]\nkeyring = 1\n", false),
            ("<settings><!-- <password>\n</password> --></settings>", false),
            ("<settings><!-- x --><Password>y</Password></settings>", true),
            ("<settings><!-- <password>y</password>", true),
        ] {
            std::fs::write(&file, text).unwrap();
            assert_eq!(may_be_told_in(&file), expected, "{text}");
        }
    }

    #[test]
    fn names_of_files() {
        for path in
            ["/x/.env", "/x/.env.local", "/x/prod.pem", "/x/my-token.txt", "/x/Secrets/a", "/h/.config/q/auth.json"]
        {
            assert!(is_path(Path::new(path)), "{path}");
        }
        for path in ["/x/data/f", "/x/environment.yml", "/opt/tool/lib/x.so", "/x/monkey.txt"] {
            assert!(!is_path(Path::new(path)), "{path}");
        }
    }
}
