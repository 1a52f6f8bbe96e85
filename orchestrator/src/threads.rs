//! The threads beside the one that decides: where they come from, and what becomes of a run where the system makes no more.
//!
//! Short work that blocks (git, the file system) goes to a pool of the event loop by `spawn_blocking`. That panics where the pool
//! is empty and the system refuses a thread, and leaves the work in its queue all the same; so the pool here is never empty:
//! its first thread is made before anything else and stays. Where no second one can be had, work waits for its turn.
//! Hence a rule: work of the pool never waits for other work of the pool. What has to goes [`apart`].
//!
//! A panic anywhere in a coordinator loses somebody's answer, and whoever waits for that waits for ever; so each is [heard
//! of](panicked), and the run stops.

use std::any::Any;
use std::io;
use std::os::unix::net::UnixStream;
use std::panic::{AssertUnwindSafe, PanicHookInfo, catch_unwind};
use std::sync::Once;
use std::time::Duration;

use rustix::io::Errno;
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::{Notify, oneshot};

/// Threads that may wait for git and the file system at once, beside the one that decides.
const BLOCKING_MAX: usize = 16;

/// Threads of the pool stay, as good as for ever: one that went might not come back.
const KEPT: Duration = Duration::from_secs(365 * 24 * 3600);

/// The stack of a thread that holds little: this much, not its 2 MiB.
pub const SMALL_STACK_BYTES: usize = 512 << 10;

/// What to do where the system makes no more threads or processes.
pub const NO_MORE_HINT: &str = "a limit of processes and threads is reached, the user's (`ulimit -u`) or a control group's (pids.max): \
                                raise it, end what else runs under it, or take fewer workers (`-j`)";

/// Whether the system made no thread or process because a limit of them is reached. Source: pthread_create(3), fork(2).
pub fn is_no_more(error: &io::Error) -> bool {
    error.raw_os_error() == Some(Errno::AGAIN.raw_os_error())
}

/// An error of the system with what it means where a thread or a process was asked for.
pub fn told(error: &io::Error) -> String {
    match is_no_more(error) {
        true => format!(
            "{error}: a limit of processes and threads is reached, the user's (ulimit -u) or a control group's (pids.max)"
        ),
        false => error.to_string(),
    }
}

/// An event loop on this thread, with few others for what blocks.
///
/// # Errors
/// The system makes no thread, or no poll descriptor.
pub fn event_loop() -> io::Result<Runtime> {
    // As many as are needed: a poll descriptor with its copy and what wakes it, a pair for signals with the copy of one end. Where
    // they are not to be had, this says so in the system's words.
    drop((UnixStream::pair()?, UnixStream::pair()?, UnixStream::pair()?));
    let build = || {
        Builder::new_current_thread().enable_all().max_blocking_threads(BLOCKING_MAX).thread_keep_alive(KEPT).build()
    };
    // Somebody else may have taken them meanwhile; tokio panics where it has the first and not the last.
    let runtime = unless_it_panics(build)?;
    // The pool would panic where this fails.
    drop(std::thread::Builder::new().name("first".to_owned()).spawn(|| ())?.join());
    drop(runtime.spawn_blocking(|| ()));
    Ok(runtime)
}

/// What `make` makes. Its panic is an error in the same words, and prints nothing.
fn unless_it_panics<T>(make: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| ()));
    let made = catch_unwind(AssertUnwindSafe(make));
    std::panic::set_hook(hook);
    made.unwrap_or_else(|panic| Err(io::Error::other(words_of(&*panic).to_owned())))
}

/// Does work that blocks and waits for other such work, on a thread of its own inside the event loop.
///
/// # Errors
/// The system makes no thread, or the work panicked.
pub async fn apart<T: Send + 'static>(name: &str, work: impl FnOnce() -> T + Send + 'static) -> io::Result<T> {
    let (sender, done) = oneshot::channel();
    let event_loop = Handle::current();
    let run = move || {
        let _inside = event_loop.enter();
        // Nobody waits any more when the run has ended.
        let _ = sender.send(work());
    };
    std::thread::Builder::new().name(name.to_owned()).spawn(run)?;
    done.await.map_err(|_| io::Error::other("the coordinator failed; this is a bug"))
}

/// Waits on a thread that went [`apart`] for work of its event loop; `None` when that ends before the work has.
pub fn wait_for<T: Send + 'static>(work: impl Future<Output = T> + Send + 'static) -> Option<T> {
    let (sender, done) = std::sync::mpsc::channel();
    // Not `block_on`, which panics where the event loop ends while it waits. Nobody may wait any more.
    Handle::current().spawn(async move { drop(sender.send(work.await)) });
    done.recv().ok()
}

/// Told of every panic of this process once [`hear_panics`] was called.
static PANICKED: Notify = Notify::const_new();

/// From now on every panic of this process is told to [`panicked`], after its words went to stderr.
pub fn hear_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic: &PanicHookInfo<'_>| {
            before(panic);
            PANICKED.notify_one();
        }));
    });
}

/// Waits until some thread or task of this process has panicked.
pub async fn panicked() {
    PANICKED.notified().await;
}

/// What a panic said, for people.
pub fn words_of(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("it said nothing")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_goes_apart_may_wait_for_the_pool() {
        let runtime = Builder::new_current_thread().enable_all().max_blocking_threads(1).build().unwrap();
        let inner = || Handle::current().block_on(async { tokio::task::spawn_blocking(|| 7).await.unwrap() });
        assert_eq!(runtime.block_on(apart("test", inner)).unwrap(), 7);
    }

    #[test]
    fn who_waits_for_an_event_loop_hears_of_its_end() {
        let runtime = event_loop().unwrap();
        let (begun, begins) = std::sync::mpsc::channel();
        let (ended, ends) = std::sync::mpsc::channel();
        let waits = move || {
            begun.send(()).unwrap();
            let told = (wait_for(async { 7 }), wait_for(std::future::pending::<()>()));
            ended.send(told).unwrap();
        };
        drop(runtime.spawn(apart("test", waits)));
        runtime.block_on(async { tokio::task::spawn_blocking(move || begins.recv().unwrap()).await.unwrap() });
        runtime.shutdown_timeout(Duration::from_secs(10));
        assert!(matches!(ends.recv_timeout(Duration::from_secs(60)), Ok((None | Some(7), None))));
    }

    #[test]
    fn a_machine_that_gives_no_event_loop_is_an_error() {
        let error = unless_it_panics(|| -> io::Result<()> { panic!("too many open files") }).unwrap_err();
        assert_eq!(error.to_string(), "too many open files");
        assert_eq!(unless_it_panics(|| Ok(7)).unwrap(), 7);
    }

    #[test]
    fn a_panic_apart_is_an_error() {
        let runtime = event_loop().unwrap();
        assert!(runtime.block_on(apart("test", || panic!("as it should"))).is_err());
    }

    #[test]
    fn no_more_threads_is_told_from_other_failures() {
        assert!(is_no_more(&io::Error::from_raw_os_error(Errno::AGAIN.raw_os_error())));
        assert!(!is_no_more(&io::Error::from_raw_os_error(Errno::NOSPC.raw_os_error())));
        assert_eq!(words_of(&"x"), "x");
        assert_eq!(words_of(&"y".to_owned()), "y");
    }
}
