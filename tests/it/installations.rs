//! What a person has on their `PATH` starts in a task, in the layouts of the usual installers, and what lies beside it stays hidden.

use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;

use swarm_tests::{Repository, Swarm};

/// One layout below a home folder.
struct Layout {
    /// Files with their texts; a text that begins with `#!` is a program, one that begins with `-> ` a link. `@` is the home folder.
    files: &'static [(&'static str, &'static str)],
    /// Folders on `PATH`.
    path: &'static [&'static str],
    /// What a person types.
    typed: &'static str,
    /// Files that no task sees.
    hidden: &'static [&'static str],
}

const LAYOUTS: &[Layout] = &[
    // Homebrew: a link into the Cellar, libraries of other formulae by `opt`.
    Layout {
        files: &[
            ("brew/Cellar/x/1/bin/brewed", "#!/bin/sh\ncat @/brew/opt/y/lib/y @/brew/etc/ca-certificates/cert.pem"),
            ("brew/Cellar/y/2/lib/y", ""),
            ("brew/opt/y", "-> ../Cellar/y/2"),
            ("brew/bin/brewed", "-> ../Cellar/x/1/bin/brewed"),
            ("brew/etc/ca-certificates/cert.pem", ""),
            ("brew/etc/redis.conf", "requirepass"),
            ("brew/var/db", "rows"),
        ],
        path: &["brew/bin"],
        typed: "brewed",
        hidden: &["brew/etc/redis.conf", "brew/var/db"],
    },
    // A cross compiler.
    Layout {
        files: &[
            ("arm/bin/arm-none-eabi-gcc", "#!/bin/sh\n@/arm/libexec/gcc/cc1 && @/arm/arm-none-eabi/bin/as"),
            ("arm/libexec/gcc/cc1", "#!/bin/sh\n"),
            ("arm/arm-none-eabi/bin/as", "#!/bin/sh\n"),
            ("arm/notes", "mine"),
            ("arm/.env", "KEY=1"),
        ],
        path: &["arm/bin"],
        typed: "arm-none-eabi-gcc",
        hidden: &["arm/notes", "arm/.env"],
    },
    // Spark, with a password in its settings.
    Layout {
        files: &[
            ("spark/bin/spark", "#!/bin/sh\ncat @/spark/jars/a.jar @/spark/conf/log4j2.properties"),
            ("spark/RELEASE", ""),
            ("spark/jars/a.jar", ""),
            ("spark/conf/log4j2.properties", "# no password here\n"),
            ("spark/conf/hive-site.xml", "<name>javax.jdo.option.ConnectionPassword</name>"),
        ],
        path: &["spark/bin"],
        typed: "spark",
        hidden: &["spark/conf/hive-site.xml"],
    },
    // An Erlang of one's own.
    Layout {
        files: &[
            ("kerl/bin/erl", "#!/bin/sh\ncat @/kerl/releases/start && @/kerl/erts-14/bin/erlexec"),
            ("kerl/erts-14/bin/erlexec", "#!/bin/sh\n"),
            ("kerl/releases/start", ""),
            ("kerl/log/erl.log", "mine"),
        ],
        path: &["kerl/bin"],
        typed: "erl",
        hidden: &["kerl/log/erl.log"],
    },
    // asdf: a shim that asks asdf, which reads which version is meant.
    Layout {
        files: &[
            (".asdf/shims/asdfed", "#!/bin/sh\nexec asdf exec asdfed"),
            (".asdf/bin/asdf", "#!/bin/sh\ncat @/.asdf/plugins/p/bin/x && exec @/.asdf/installs/p/1/bin/asdfed"),
            (".asdf/plugins/p/bin/x", ""),
            (".asdf/installs/p/1/bin/asdfed", "#!/bin/sh\ncat @/.asdf/installs/p/1/share/x"),
            (".asdf/installs/p/1/share/x", ""),
        ],
        path: &[".asdf/shims", ".asdf/bin"],
        typed: "asdfed",
        hidden: &[],
    },
    // mise: shims are links to it.
    Layout {
        files: &[
            (".local/bin/mise", "#!/bin/sh\nexec @/.local/share/mise/installs/p/1/bin/mised"),
            (".local/share/mise/shims/mised", "-> ../../../bin/mise"),
            (".local/share/mise/installs/p/1/bin/mised", "#!/bin/sh\n"),
            (".local/share/notes", "mine"),
        ],
        path: &[".local/bin", ".local/share/mise/shims"],
        typed: "mised",
        hidden: &[".local/share/notes"],
    },
    // rbenv, whose own program is a link.
    Layout {
        files: &[
            (".rbenv/bin/rbenv", "-> ../libexec/rbenv"),
            (".rbenv/libexec/rbenv", "#!/bin/sh\ncat @/.rbenv/version && exec @/.rbenv/versions/3/bin/ruby"),
            (".rbenv/versions/3/bin/ruby", "#!/bin/sh\n"),
            (".rbenv/version", "3"),
            (".rbenv/shims/ruby", "#!/bin/sh\nexec rbenv exec ruby"),
        ],
        path: &[".rbenv/shims", ".rbenv/bin"],
        typed: "ruby",
        hidden: &[],
    },
    // An unpacked program behind a link, and one of pipx.
    Layout {
        files: &[
            ("apps/edit/bin/edit", "#!/bin/sh\ncat @/apps/edit/share/runtime"),
            ("apps/edit/share/runtime", ""),
            ("apps/edit/private", "mine"),
            (".local/bin/edit", "-> ../../apps/edit/bin/edit"),
            (".local/pipx/venvs/t/bin/piped", "#!/bin/sh\ncat @/.local/pipx/venvs/t/lib/t.py"),
            (".local/pipx/venvs/t/lib/t.py", ""),
            (".local/pipx/venvs/t/pyvenv.cfg", ""),
            (".local/bin/piped", "-> ../pipx/venvs/t/bin/piped"),
        ],
        path: &[".local/bin"],
        typed: "edit && piped",
        hidden: &["apps/edit/private"],
    },
    // Kinds by their marks: conda, Go, a Java, Maven.
    Layout {
        files: &[
            ("conda/bin/of-conda", "#!/bin/sh\ncat @/conda/ssl/cacert.pem @/conda/share/terminfo"),
            ("conda/ssl/cacert.pem", ""),
            ("conda/share/terminfo", ""),
            ("conda/conda-meta/state", "{\"env_vars\": 1}"),
            ("sdk/go/bin/of-go", "#!/bin/sh\ncat @/sdk/go/src/fmt @/sdk/go/pkg/tool/x @/sdk/go/go.env"),
            ("sdk/go/src/fmt", ""),
            ("sdk/go/pkg/tool/x", ""),
            ("sdk/go/go.env", ""),
            (".jdks/17/bin/of-java", "#!/bin/sh\ncat @/.jdks/17/conf/java.security"),
            (".jdks/17/conf/java.security", "password"),
            (".jdks/17/release", ""),
            ("maven/bin/of-maven", "#!/bin/sh\ncat @/maven/boot/p.jar @/maven/conf/settings.xml"),
            ("maven/boot/p.jar", ""),
            ("maven/conf/settings.xml", "<settings><!-- <password>x</password> --></settings>"),
        ],
        path: &["conda/bin", "sdk/go/bin", ".jdks/17/bin", "maven/bin"],
        typed: "of-conda && of-go && of-java && of-maven",
        hidden: &["conda/conda-meta/state"],
    },
    // Node: modules beside a global `.bin`, and volta, which looks for its own layout.
    Layout {
        files: &[
            (".yarn-global/node_modules/.bin/moduled", "-> ../m/cli.js"),
            (".yarn-global/node_modules/m/cli.js", "#!/bin/sh\ncat @/.yarn-global/node_modules/dep/index.js"),
            (".yarn-global/node_modules/dep/index.js", ""),
            (".volta/bin/npm", "#!/bin/sh\ncat @/.volta/layout.v4"),
            (".volta/layout.v4", ""),
            (".volta/hooks.json", "mine"),
        ],
        path: &[".yarn-global/node_modules/.bin", ".volta/bin"],
        typed: "moduled && npm",
        hidden: &[".volta/hooks.json"],
    },
    // A project on PATH starts, and shows its programs and libraries only.
    Layout {
        files: &[
            ("work/p/bin/projected", "#!/bin/sh\ncat @/work/p/lib/l"),
            ("work/p/lib/l", ""),
            ("work/p/share/s", "mine"),
            ("work/p/conf/c", "mine"),
            ("work/p/.env", "KEY=1"),
            ("work/p/.git/config", "mine"),
        ],
        path: &["work/p/bin"],
        typed: "projected",
        hidden: &["work/p/share/s", "work/p/conf/c", "work/p/.env", "work/p/.git/config"],
    },
];

/// What a home has beside all of them.
const SECRETS: [&str; 4] = [".ssh/id_ed25519", ".netrc", ".aws/credentials", ".local/share/keyrings/login"];

fn lay(home: &Path, name: &str, text: &str) {
    let path = home.join(name);
    std::fs::create_dir_all(path.parent().expect("below")).expect("folders");
    match text.strip_prefix("-> ") {
        Some(target) => symlink(target, &path).expect("a link"),
        None => std::fs::write(&path, text.replace('@', &home.display().to_string())).expect("a file"),
    }
    if text.starts_with("#!") {
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("our own");
    }
}

#[test]
fn what_starts_in_the_persons_shell_starts_in_a_task() {
    let repository = Repository::with(&[("a", "1\n")]);
    let home = repository.home().canonicalize().expect("it exists");
    for (name, text) in LAYOUTS.iter().flat_map(|layout| layout.files) {
        lay(&home, name, text);
    }
    SECRETS.iter().for_each(|name| lay(&home, name, "secret"));
    let own = |names: &mut dyn Iterator<Item = &&str>| {
        names.map(|name| home.join(name).display().to_string()).collect::<Vec<_>>()
    };
    let path = own(&mut LAYOUTS.iter().flat_map(|layout| layout.path)).join(":");
    let path = format!("{path}:{}", std::env::var("PATH").unwrap_or_default());
    let typed: Vec<String> =
        LAYOUTS.iter().map(|layout| format!("({}) > said 2>&1 || {{ cat said; exit 1; }}", layout.typed)).collect();
    let hidden = own(&mut LAYOUTS.iter().flat_map(|layout| layout.hidden).chain(&SECRETS)).join(" ");
    let control = std::process::Command::new("sh")
        .args(["-euc", &format!("{}; rm said; for f in {hidden}; do test -s $f; done", typed.join("\n"))])
        .envs([("PATH", path.as_str()), ("HOME", &home.display().to_string())])
        .current_dir(&home)
        .output()
        .expect("a shell");
    assert!(control.status.success(), "outside of the cage: {control:?}");
    let script =
        format!("{}\nrm said\nfor f in {hidden}; do if test -s $f && cat $f; then exit 9; fi; done", typed.join("\n"));
    let plan = format!("[tasks.a]\nrun = '''{script}'''\nwrites = []\n");
    let swarm = || Swarm::run(&repository, "it", &plan).env("PATH", &path);
    swarm().exits(0);
    if let Some(swarm) = swarm().args(&["--into", "other"]).without_namespaces() {
        swarm.exits(0);
    }
}
