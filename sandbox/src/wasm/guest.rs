//! What a guest gets: plain data, put together by the worker and opened inside the cage.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::PathBuf;
use std::time::Duration;

use wasmtime_wasi::cli::{InputFile, OutputFile};
use wasmtime_wasi::{FsPerms, WasiCtxBuilder};

use super::deterministic::{CountingClock, Seeded, StoppedClock};
use super::limits::GuestLimits;
use crate::policy::Access;

/// The most bytes of random numbers that a guest gets by one call.
const RANDOM_BYTES_MAX: u64 = 1 << 20;

/// Everything that a guest may use.
#[derive(Debug, Clone, Default)]
pub struct Guest {
    /// Its arguments; the first is its own name.
    pub args: Vec<String>,
    /// Its variables, in order.
    pub env: Vec<(String, String)>,
    /// Its folders, in order.
    pub preopens: Vec<Preopen>,
    /// Its bounds. With `fuel`, clocks and random numbers are the same every time.
    pub limits: GuestLimits,
    /// What random numbers follow from, where `fuel` is set.
    pub seed: u64,
    /// The time of day in seconds since 1970, where `fuel` is set.
    pub date: u64,
}

/// A folder that a guest can reach, and everything in it that no symlink or `..` leads out of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Preopen {
    /// The folder as the process sees it.
    pub path: PathBuf,
    /// Its name for the guest.
    pub name: String,
    /// Whether the guest may change what is in it.
    pub access: Access,
}

impl Guest {
    /// The context of this guest in the calling process: folders are opened, output goes to `stdout` and `stderr`, input is
    /// `stdin`.
    ///
    /// # Errors
    /// A folder cannot be opened; the message names it.
    pub(super) fn context(&self, stdio: &Stdio<'_>) -> wasmtime::Result<WasiCtxBuilder> {
        let mut context = WasiCtxBuilder::new();
        context
            .args(&self.args)
            .envs(&self.env)
            .stdin(InputFile::new(stdio.stdin()?))
            .stdout(OutputFile::new(own(stdio.stdout)?))
            .stderr(OutputFile::new(own(stdio.stderr)?))
            .max_random_size(RANDOM_BYTES_MAX)
            // The process is the guest's alone.
            .allow_blocking_current_thread(true)
            .allow_tcp(false)
            .allow_udp(false)
            .allow_ip_name_lookup(false);
        for preopen in &self.preopens {
            let access = match preopen.access {
                Access::Read => FsPerms::ReadOnly,
                Access::Write => FsPerms::ReadWrite,
            };
            context
                .preopened_dir(&preopen.path, &preopen.name, access)
                .map_err(|error| error.context(format!("open {}", preopen.path.display())))?;
        }
        if self.limits.fuel.is_some() {
            context
                .wall_clock(StoppedClock(Duration::from_secs(self.date)))
                .monotonic_clock(CountingClock::default())
                .secure_random(Seeded::new(self.seed, "swarm 2026 wasm secure random"))
                .insecure_random(Seeded::new(self.seed, "swarm 2026 wasm insecure random"))
                .insecure_random_seed(self.seed.into());
        }
        Ok(context)
    }
}

/// The three streams of a guest.
#[derive(Debug, Clone, Copy)]
pub struct Stdio<'a> {
    /// What it reads; `None` is empty.
    pub stdin: Option<BorrowedFd<'a>>,
    /// Where it writes.
    pub stdout: BorrowedFd<'a>,
    /// Where it writes its complaints.
    pub stderr: BorrowedFd<'a>,
}

impl Stdio<'_> {
    fn stdin(&self) -> std::io::Result<File> {
        match self.stdin {
            Some(stdin) => own(stdin),
            None => File::open("/dev/null"),
        }
    }
}

fn own(stream: impl AsFd) -> std::io::Result<File> {
    stream.as_fd().try_clone_to_owned().map(File::from)
}
