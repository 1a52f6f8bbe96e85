//! What of a home runs by itself when its owner logs in, opens a shell or an editor, or types a command: never written, whatever a
//! plan asks for. Names only; what is not there yet counts, too, since whoever makes it decides what it says.
//!
//! It is no list of all that can run (any project has a build file), but of what runs although nobody went there.

use std::path::Path;

/// Below the home; a `*` at the end of a part stands for any rest of it.
const RUNS_BY_ITSELF: &[&str] = &[
    // Shells, and what they load.
    ".bash*",
    ".profile",
    ".zsh*",
    ".zprofile",
    ".zlogin",
    ".zlogout",
    ".zprezto",
    ".zinit",
    ".zplug",
    ".antigen*",
    ".oh-my-*",
    ".kshrc",
    ".mkshrc",
    ".cshrc",
    ".tcshrc",
    ".login",
    ".logout",
    ".inputrc",
    ".envrc",
    ".direnvrc",
    ".config/bash*",
    ".config/zsh*",
    ".config/fish",
    ".config/nushell",
    ".config/powershell",
    ".config/starship.toml",
    ".config/direnv",
    ".local/share/fish",
    ".local/share/zinit",
    ".local/share/direnv",
    // Logins, desktops and their services.
    ".xinitrc",
    ".xprofile",
    ".xsession*",
    ".pam_environment",
    ".i3",
    ".fluxbox",
    ".config/autostart",
    ".config/autostart-scripts",
    ".config/systemd",
    ".config/environment.d",
    ".config/plasma-workspace",
    ".config/i3",
    ".config/sway",
    ".config/hypr",
    ".config/awesome",
    ".config/openbox",
    ".local/share/systemd",
    ".local/share/dbus-1",
    ".local/share/applications",
    // Tools that run what their settings name.
    ".gitconfig",
    ".git-templat*",
    ".git_templat*",
    ".gittemplat*",
    ".githooks",
    ".config/git",
    ".config/jj",
    ".config/hg",
    ".hgrc",
    ".tmux*",
    ".screenrc",
    ".config/tmux",
    ".gdbinit*",
    ".lldbinit",
    ".config/gdb",
    ".curlrc",
    ".wgetrc",
    ".lessfilter",
    ".config/pip",
    ".pip",
    // Editors.
    ".vim*",
    ".gvimrc",
    ".ideavimrc",
    ".emacs*",
    ".doom.d",
    ".spacemacs*",
    ".config/nvim",
    ".config/vim",
    ".config/emacs",
    ".config/doom",
    ".config/helix",
    ".config/zed",
    ".config/micro",
    ".config/sublime-text*",
    ".config/JetBrains",
    ".config/Code*",
    ".config/VSCodium",
    ".config/Cursor",
    ".vscode*",
    ".cursor*",
    ".windsurf*",
    ".local/share/nvim",
    ".local/share/JetBrains",
    ".local/share/zed",
    // Programs, and what languages load before any of them.
    "bin",
    ".local/bin",
    ".cargo/bin",
    ".cargo/config",
    ".cargo/config.toml",
    ".cargo/env",
    ".rustup",
    "go/bin",
    ".deno/bin",
    ".bun/bin",
    ".bunfig.toml",
    ".yarnrc*",
    ".nvm",
    ".volta",
    ".npm-global",
    ".asdf",
    ".config/mise",
    ".local/share/mise",
    ".sdkman",
    ".gradle/init*",
    ".gradle/gradle.properties",
    ".m2/extensions.xml",
    ".pyenv",
    ".rbenv",
    ".local/lib/python*",
    ".local/share/uv",
    ".local/pipx",
    ".local/share/pipx",
    ".ipython",
    ".jupyter",
    ".pdbrc*",
    ".pythonrc*",
    ".gem",
    ".irbrc",
    ".pryrc",
    ".Rprofile",
    ".ghci",
    ".nix-profile",
];

/// Of the machine: what the clock runs for its users.
const RUNS_ON_THE_MACHINE: &[&str] = &["/var/spool/cron", "/var/spool/at", "/var/spool/anacron"];

/// Whether a canonical path lies in what runs by itself, or could hold it.
pub fn runs_by_itself(path: &Path, home: &Path) -> bool {
    let timed = |kept: &&str| path.starts_with(kept) || Path::new(kept).starts_with(path);
    match path.strip_prefix(home) {
        Ok(below) => RUNS_BY_ITSELF.iter().any(|kept| meets(below, kept)),
        Err(_) => home.starts_with(path) || RUNS_ON_THE_MACHINE.iter().any(timed),
    }
}

/// Whether one of the two lies in the other, or is it.
fn meets(below: &Path, kept: &str) -> bool {
    below.iter().zip(kept.split('/')).all(|(part, kept)| match kept.strip_suffix('*') {
        Some(start) => part.as_encoded_bytes().starts_with(start.as_bytes()),
        None => part == kept,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_runs_although_nobody_went_there() {
        let runs = |path: &str| runs_by_itself(&Path::new("/home/me").join(path), Path::new("/home/me"));
        for path in [
            ".pyenv/versions",
            ".local/lib/python3.12/site-packages",
            ".local/lib",
            ".vscode/extensions",
            ".vscode-server",
            ".config/Code/User",
            ".config/Code - OSS",
            ".config/JetBrains/IdeaIC2026.1",
            ".vim/plugin",
            ".vimrc",
            ".config/nvim",
            ".emacs.d/init.el",
            ".oh-my-zsh/custom",
            ".zshrc.d",
            ".config/fish/conf.d",
            ".config/systemd/user",
            ".config",
            ".local/share",
            ".git-templates/hooks",
            ".gradle",
            "/var/spool/cron/crontabs",
            "/var/spool",
            "/home",
        ] {
            assert!(runs(path), "{path}");
        }
        for path in [
            "data",
            "src/bin",
            ".cache/x",
            ".npm",
            ".m2/repository",
            ".config-of-mine",
            "binary",
            "/srv/x",
            "/var/lib/x",
        ] {
            assert!(!runs(path), "{path}");
        }
    }
}
