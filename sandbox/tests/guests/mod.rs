//! Guests as text: small preview 1 programs, each of which does one thing and tells by its exit status how that went.

/// Numbers of `errno` in preview 1.
pub const SUCCESS: i32 = 0;
/// Not a descriptor.
pub const BADF: i32 = 8;
/// Not permitted.
pub const PERM: i32 = 63;
/// A file system for reading only.
pub const ROFS: i32 = 69;
/// The descriptor does not carry that right.
pub const NOTCAPABLE: i32 = 76;

/// Functions of preview 1 with their parameters; each gives an error number.
const IMPORTS: &[(&str, &str)] = &[
    ("fd_close", "i32"),
    ("fd_prestat_get", "i32 i32"),
    ("fd_renumber", "i32 i32"),
    ("random_get", "i32 i32"),
    ("args_sizes_get", "i32 i32"),
    ("args_get", "i32 i32"),
    ("environ_sizes_get", "i32 i32"),
    ("path_open", "i32 i32 i32 i32 i32 i64 i64 i32 i32"),
    ("fd_read", "i32 i32 i32 i32"),
    ("fd_write", "i32 i32 i32 i32"),
    ("fd_seek", "i32 i64 i32 i32"),
    ("fd_fdstat_get", "i32 i32"),
    ("clock_time_get", "i32 i64 i32"),
    ("path_create_directory", "i32 i32 i32"),
    ("path_unlink_file", "i32 i32 i32"),
    ("path_symlink", "i32 i32 i32 i32 i32"),
    ("path_link", "i32 i32 i32 i32 i32 i32 i32"),
    ("path_rename", "i32 i32 i32 i32 i32 i32"),
    ("path_filestat_get", "i32 i32 i32 i32 i32"),
    ("fd_readdir", "i32 i32 i32 i64 i32"),
    ("sock_accept", "i32 i32 i32"),
    ("sock_shutdown", "i32 i32"),
    ("poll_oneoff", "i32 i32 i32 i32"),
    ("sched_yield", ""),
];

/// A program with a memory of one page; `parts` are module fields, `body` is what `_start` does. `$exit` ends it.
pub fn program(parts: &str, body: &str) -> String {
    program_of(1, parts, body)
}

/// The same with `pages` of memory.
pub fn program_of(pages: u32, parts: &str, body: &str) -> String {
    let imports: String = IMPORTS
        .iter()
        .map(|(name, parameters)| {
            format!(r#"(import "wasi_snapshot_preview1" "{name}" (func ${name} (param {parameters}) (result i32)))"#)
        })
        .collect();
    format!(
        r#"(module
             (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
             {imports}
             (memory (export "memory") {pages})
             {parts}
             (func (export "_start") (local $i i32) (local $n i32) {body}))"#
    )
}

/// Prints `text` and ends with `status`.
pub fn hello(text: &str, status: i32) -> String {
    let parts = format!(
        r#"(data (i32.const 48) "\40\00\00\00\{:02x}\00\00\00") (data (i32.const 64) "{text}")"#,
        u8::try_from(text.len()).expect("a short text")
    );
    let body = format!(
        "(drop (call $fd_write (i32.const 1) (i32.const 48) (i32.const 1) (i32.const 40))) (call $exit (i32.const {status}))"
    );
    program(&parts, &body)
}

/// What a file is opened for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Intent {
    /// To be read.
    Read,
    /// To be made and written.
    Create,
}

/// Opens `path` below the first folder, following symlinks, and ends with the error number.
pub fn open(path: &str, intent: Intent) -> String {
    program(&text_at_64(path), &format!("(call $exit {})", open_call(path.len(), intent)))
}

/// The error number of opening the path of `length` bytes at 64; the descriptor goes to 40.
pub fn open_call(length: usize, intent: Intent) -> String {
    let (flags, rights) = match intent {
        Intent::Read => (0, 2),
        Intent::Create => (1, 64),
    };
    format!(
        "(call $path_open (i32.const 3) (i32.const 1) (i32.const 64) (i32.const {length}) (i32.const {flags})
           (i64.const {rights}) (i64.const 0) (i32.const 0) (i32.const 40))"
    )
}

/// Places a text at 64.
pub fn text_at_64(text: &str) -> String {
    format!(r#"(data (i32.const 64) "{text}")"#)
}

/// Asks for as much memory as there can be.
pub fn grow_memory() -> String {
    program("", "(drop (memory.grow (i32.const 65535)))")
}

/// Makes a table longer until it is told not to.
pub fn grow_table() -> String {
    program(
        "(table $t 1 funcref)",
        "(loop $more (br_if $more (i32.ne (table.grow $t (ref.null func) (i32.const 65536)) (i32.const -1))))",
    )
}

/// Calls itself without end.
pub fn recurse() -> String {
    program("(func $deep (call $deep))", "(call $deep)")
}

/// Does nothing without end.
pub fn spin() -> String {
    program("", "(loop $more (br $more))")
}

/// Asks the host for the time without end.
pub fn storm() -> String {
    program("", "(loop $more (drop (call $clock_time_get (i32.const 0) (i64.const 1) (i32.const 40))) (br $more))")
}

/// Waits inside the host for an hour.
pub fn sleep() -> String {
    // A subscription to the monotonic clock: tag 0 at 8, clock 1 at 16, timeout at 24.
    let parts = r#"(data (i32.const 16) "\01")"#;
    let body = "(i64.store (i32.const 24) (i64.const 3600000000000))
        (drop (call $poll_oneoff (i32.const 0) (i32.const 64) (i32.const 1) (i32.const 128)))";
    program(parts, body)
}

/// Writes `pages` of memory to standard output by one call, `times` over.
pub fn giant_write(pages: u32, times: u32) -> String {
    let body = format!(
        "(i32.store (i32.const 48) (i32.const 0)) (i32.store (i32.const 52) (i32.const {}))
         (loop $more
           (drop (call $fd_write (i32.const 1) (i32.const 48) (i32.const 1) (i32.const 40)))
           (local.set $i (i32.add (local.get $i) (i32.const 1)))
           (br_if $more (i32.lt_u (local.get $i) (i32.const {times}))))",
        pages * 65536
    );
    program_of(pages, "", &body)
}

/// Writes the time of day, the monotonic time and 16 random bytes to a new file `chance`.
pub fn chance() -> String {
    let body = format!(
        "(drop (call $clock_time_get (i32.const 0) (i64.const 1) (i32.const 128)))
         (drop (call $clock_time_get (i32.const 1) (i64.const 1) (i32.const 136)))
         (drop (call $random_get (i32.const 144) (i32.const 16)))
         (drop {})
         (i32.store (i32.const 48) (i32.const 128)) (i32.store (i32.const 52) (i32.const 32))
         (call $exit (call $fd_write (i32.load (i32.const 40)) (i32.const 48) (i32.const 1) (i32.const 44)))",
        open_call("chance".len(), Intent::Create)
    );
    program(&text_at_64("chance"), &body)
}

/// Counts the descriptors below 64 that it has, and ends with the number.
pub fn count_descriptors() -> String {
    let body = "(loop $more
        (if (i32.eqz (call $fd_fdstat_get (local.get $i) (i32.const 128)))
          (then (local.set $n (i32.add (local.get $n) (i32.const 1)))))
        (local.set $i (i32.add (local.get $i) (i32.const 1)))
        (br_if $more (i32.lt_u (local.get $i) (i32.const 64))))
      (call $exit (local.get $n))";
    program("", body)
}

/// Opens `path`, gives its descriptor the number of the folder, and opens the same path below that again; ends with the
/// error number of the last step, or 100 and more when an earlier one failed.
pub fn renumber_over_folder(path: &str) -> String {
    let open = open_call(path.len(), Intent::Read);
    let body = format!(
        "(if {open} (then (call $exit (i32.const 100))))
         (if (call $fd_renumber (i32.load (i32.const 40)) (i32.const 3)) (then (call $exit (i32.const 101))))
         (call $exit {open})"
    );
    program(&text_at_64(path), &body)
}

/// Gives the folder the number of standard output and writes there; ends with the error number of the write.
pub fn write_to_renumbered_folder() -> String {
    let body = "(if (call $fd_renumber (i32.const 3) (i32.const 1)) (then (call $exit (i32.const 101))))
        (i32.store (i32.const 48) (i32.const 64)) (i32.store (i32.const 52) (i32.const 4))
        (call $exit (call $fd_write (i32.const 1) (i32.const 48) (i32.const 1) (i32.const 40)))";
    program(&text_at_64("leak"), body)
}

/// Prints what reading the folder gives: the raw entries.
pub fn list() -> String {
    let body = "(if (call $fd_readdir (i32.const 3) (i32.const 1024) (i32.const 4096) (i64.const 0) (i32.const 40))
          (then (call $exit (i32.const 100))))
        (i32.store (i32.const 48) (i32.const 1024)) (i32.store (i32.const 52) (i32.load (i32.const 40)))
        (call $exit (call $fd_write (i32.const 1) (i32.const 48) (i32.const 1) (i32.const 44)))";
    program("", body)
}

/// What is done to names below the folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Act {
    /// Makes a folder of the second name.
    MakeFolder,
    /// Removes the file of the second name.
    Unlink,
    /// Makes the second name a symlink to the first.
    Symlink,
    /// Makes the second name another name of the first.
    Link,
    /// Moves the first to the second.
    Rename,
}

/// Does one act with two names and ends with the error number.
pub fn act(act: Act, first: &str, second: &str) -> String {
    let parts = format!(r#"(data (i32.const 64) "{first}") (data (i32.const 512) "{second}")"#);
    let (a, b) = (
        format!("(i32.const 64) (i32.const {})", first.len()),
        format!("(i32.const 512) (i32.const {})", second.len()),
    );
    let call = match act {
        Act::MakeFolder => format!("(call $path_create_directory (i32.const 3) {b})"),
        Act::Unlink => format!("(call $path_unlink_file (i32.const 3) {b})"),
        Act::Symlink => format!("(call $path_symlink {a} (i32.const 3) {b})"),
        Act::Link => format!("(call $path_link (i32.const 3) (i32.const 0) {a} (i32.const 3) {b})"),
        Act::Rename => format!("(call $path_rename (i32.const 3) {a} (i32.const 3) {b})"),
    };
    program(&parts, &format!("(call $exit {call})"))
}

/// Ends with the error number of one call.
pub fn call(call: &str) -> String {
    program("", &format!("(call $exit (call {call}))"))
}
