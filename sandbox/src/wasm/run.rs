//! One guest from its entry to its end. Everything a guest does happens on the calling thread; a small runtime serves its
//! timers.

use rustix::io::Errno;
use wasmtime::component::{Component, ResourceTable, ResourceTableError};
use wasmtime::{Engine, Error, Module, Store, Trap, WasmBacktrace};
use wasmtime_wasi::p1::WasiP1Ctx;
use wasmtime_wasi::p2::bindings::CommandPre;
use wasmtime_wasi::{I32Exit, WasiCtx, WasiCtxView, WasiView};

use super::alarm;
use super::guest::{Guest, Stdio};
use super::limits::{LimitBroken, Limiter};

/// Handles that a component may hold of things of the host: each takes memory that no limit of its own counts.
const HANDLES_MAX: usize = 100_000;

/// How a guest ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GuestEnd {
    /// With an exit status.
    Exited(i32),
    /// It broke a limit.
    Limit {
        /// The limit's name as plans write it.
        limit: String,
        /// What was seen, for people.
        detail: String,
    },
    /// It did what no program may: a trap, with the guest's own functions on the way to it.
    Trapped(String),
    /// It could not even begin.
    StartFailed(String),
}

/// Why an artifact cannot be run.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// It is none, or was made by another engine. The cache is damaged.
    #[error("the compiled module is damaged: {0}")]
    Damaged(String),
    /// It wants from its host what is not offered, or is a library and no program.
    #[error("{0}")]
    NotACommand(String),
}

/// A guest's program, ready to be run any number of times.
pub struct Loaded {
    engine: Engine,
    program: Program,
    runtime: tokio::runtime::Runtime,
}

enum Program {
    Module(wasmtime::InstancePre<State<WasiP1Ctx>>),
    Component(CommandPre<State<Preview2>>),
}

/// What a store holds beside the guest's own memory.
struct State<W> {
    wasi: W,
    limiter: Limiter,
}

struct Preview2 {
    context: WasiCtx,
    table: ResourceTable,
}

impl WasiView for State<Preview2> {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi.context, table: &mut self.wasi.table }
    }
}

impl Loaded {
    /// Loads what [`super::compile()`] made.
    ///
    /// # Errors
    /// [`LoadError`].
    ///
    /// # Safety
    /// `artifact` is machine code that is going to be executed: it must come from [`super::compile()`].
    pub unsafe fn new(engine: &Engine, artifact: &[u8]) -> Result<Self, LoadError> {
        let damaged = |error: Error| LoadError::Damaged(format!("{error:#}"));
        let unfit = |error: Error| LoadError::NotACommand(format!("{error:#}"));
        let program = match Engine::detect_precompiled(artifact) {
            Some(wasmtime::Precompiled::Module) => {
                // SAFETY: the caller's promise.
                let module = unsafe { Module::deserialize(engine, artifact) }.map_err(damaged)?;
                let start = module.get_export("_start");
                if start.as_ref().and_then(|start| start.func()).is_none_or(|start| start.params().len() > 0) {
                    return Err(LoadError::NotACommand("it has no function `_start` to begin with".to_owned()));
                }
                let mut linker = wasmtime::Linker::new(engine);
                wasmtime_wasi::p1::add_to_linker_async(&mut linker, |state: &mut State<WasiP1Ctx>| &mut state.wasi)
                    .map_err(unfit)?;
                Program::Module(linker.instantiate_pre(&module).map_err(unfit)?)
            }
            Some(wasmtime::Precompiled::Component) => {
                // SAFETY: the caller's promise.
                let component = unsafe { Component::deserialize(engine, artifact) }.map_err(damaged)?;
                let mut linker = wasmtime::component::Linker::new(engine);
                wasmtime_wasi::p2::add_to_linker_async(&mut linker).map_err(unfit)?;
                Program::Component(linker.instantiate_pre(&component).and_then(CommandPre::new).map_err(unfit)?)
            }
            None => return Err(LoadError::Damaged("it is no machine code".to_owned())),
        };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .max_blocking_threads(1)
            .build()
            .map_err(|error| LoadError::NotACommand(error.to_string()))?;
        Ok(Loaded { engine: engine.clone(), program, runtime })
    }

    /// Makes an instance, runs it to its end and drops it.
    pub fn run(&self, guest: &Guest, stdio: &Stdio<'_>) -> GuestEnd {
        self.runtime.block_on(async {
            let ended = match &self.program {
                Program::Module(program) => self.run_module(program, guest, stdio).await,
                Program::Component(program) => self.run_component(program, guest, stdio).await,
            };
            ended.map_or_else(end_of, GuestEnd::Exited)
        })
    }

    async fn run_module(
        &self,
        program: &wasmtime::InstancePre<State<WasiP1Ctx>>,
        guest: &Guest,
        stdio: &Stdio<'_>,
    ) -> wasmtime::Result<i32> {
        let wasi = guest.context(stdio)?.build_p1();
        let mut store = self.store(wasi, guest)?;
        let instance = program.instantiate_async(&mut store).await?;
        instance.get_typed_func::<(), ()>(&mut store, "_start")?.call_async(&mut store, ()).await?;
        Ok(0)
    }

    async fn run_component(
        &self,
        program: &CommandPre<State<Preview2>>,
        guest: &Guest,
        stdio: &Stdio<'_>,
    ) -> wasmtime::Result<i32> {
        let mut table = ResourceTable::new();
        table.set_max_capacity(HANDLES_MAX);
        let wasi = Preview2 { context: guest.context(stdio)?.build(), table };
        let mut store = self.store(wasi, guest)?;
        let command = program.instantiate_async(&mut store).await?;
        let result = command.wasi_cli_run().call_run(&mut store).await?;
        Ok(if result.is_ok() { 0 } else { 1 })
    }

    fn store<W: Send + 'static>(&self, wasi: W, guest: &Guest) -> wasmtime::Result<Store<State<W>>> {
        let mut store = Store::new(&self.engine, State { wasi, limiter: Limiter::new(guest.limits) });
        store.limiter(|state| &mut state.limiter);
        store.set_epoch_deadline(1);
        if let Some(fuel) = guest.limits.fuel {
            store.set_fuel(fuel)?;
        }
        if let Some(time) = guest.limits.time {
            alarm::set(&self.engine, time)?;
        }
        Ok(store)
    }
}

/// What an error of a guest means.
fn end_of(error: Error) -> GuestEnd {
    if let Some(exit) = error.downcast_ref::<I32Exit>() {
        return GuestEnd::Exited(exit.0);
    }
    if let Some(broken) = error.downcast_ref::<LimitBroken>() {
        return GuestEnd::Limit { limit: broken.limit.to_owned(), detail: broken.detail.clone() };
    }
    let limit = |limit: &str, detail: &str| GuestEnd::Limit { limit: limit.to_owned(), detail: detail.to_owned() };
    match error.downcast_ref::<Trap>() {
        Some(Trap::StackOverflow) => limit("stack", "the guest's calls are nested too deep"),
        Some(Trap::OutOfFuel) => limit("fuel", "the guest executed more instructions than its fuel allows"),
        Some(Trap::Interrupt) => limit("time", "the guest did not end in its time"),
        Some(_) => GuestEnd::Trapped(format!("{error:#}")),
        None => {
            let text = format!("{error:#}");
            // The runtime has no type for these errors, or keeps it to itself; the texts are pinned by tests.
            if error.chain().any(|cause| matches!(cause.downcast_ref(), Some(ResourceTableError::Full))) {
                limit("handles", &format!("the guest holds {HANDLES_MAX} things of its host, which is the most"))
            } else if text.contains("fuel allocated for hostcalls") {
                limit("host-data", "the guest gave its host more in one call than it takes: 128 MiB")
            } else if text.contains("resource limit exceeded") {
                limit("instances", &text)
            } else if is_want_of_memory(&error) {
                limit("memory", &format!("the machine has no more for the guest: {text}"))
            } else if error.downcast_ref::<WasmBacktrace>().is_some() {
                // It ran, and a function of its host would not do what it asked for.
                GuestEnd::Trapped(text)
            } else {
                GuestEnd::StartFailed(text)
            }
        }
    }
}

/// Whether the system refused memory, or room for it among its addresses.
fn is_want_of_memory(error: &Error) -> bool {
    error.chain().any(|cause| {
        let system = cause.downcast_ref::<std::io::Error>().and_then(std::io::Error::raw_os_error);
        let system = system.or_else(|| cause.downcast_ref::<Errno>().map(|errno| errno.raw_os_error()));
        system == Some(Errno::NOMEM.raw_os_error())
    })
}
