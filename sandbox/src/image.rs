//! The calling program as it lies in memory: its own and its libraries' code and constants, which nothing ever writes to.
//!
//! The kernel maps sixteen pages around each one that is touched, so a large program that runs a few hundred functions
//! once, at its start, keeps most of its file resident for as long as it lives. [`let_go`] unmaps all of it; what is used
//! again comes back from the page cache, sixteen pages with each fault and without reading from disk. What stays resident
//! is then what is used, not what was used once. The page cache itself is the kernel's, and stays as it is.
//!
//! Sixteen pages are still three times as much as is used. A fault never reaches beyond its mapping, so [`cut`] makes many
//! mappings of one.
//!
//! Source: madvise(2), `MADV_DONTNEED`, `MADV_DONTDUMP`; `do_fault_around` in mm/memory.c of Linux; dl_iterate_phdr(3); elf(5).

use std::ffi::CStr;
use std::ops::Range;

use rustix::io;

use crate::mounts::last_error;

/// Lets go of the pages of code and constants, the calling program's and its libraries'.
///
/// # Errors
/// The kernel's; everything is mapped as before.
pub fn let_go() -> io::Result<()> {
    for part in read_only_parts() {
        let start = std::ptr::with_exposed_provenance_mut(part.start);
        // SAFETY: a loadable segment that its program headers do not call writable is mapped privately from a file and never
        // changed (relocations touch writable segments only), so every page of it comes back with the same bytes when it is
        // touched again, in whichever thread.
        if unsafe { libc::madvise(start, part.len(), libc::MADV_DONTNEED) } != 0 {
            return Err(last_error());
        }
    }
    Ok(())
}

/// Gives what was freed back to the kernel, from wherever it lies between what is used: the memory that the start of a run
/// needed once. Source: malloc_trim(3).
pub fn trim() {
    // SAFETY: it touches free memory only, under the allocator's own locks.
    #[cfg(target_env = "gnu")]
    unsafe {
        libc::malloc_trim(0);
    }
}

/// Bytes that are mapped with a page that is touched. With a quarter of what the kernel takes by itself, half as much stays
/// resident; with a single page it is two thirds of that again, for four times as many mappings. This lies between.
const PIECE: usize = 8 << 10;

/// Cuts what is mapped of code and constants into pieces: a page that is touched from now on brings its piece along and nothing
/// around it. Costs some five microseconds a piece, once, and a record of the kernel's (about 200 bytes).
///
/// Neighbours that differ in a flag are mappings of their own. The flag is whether a core dump shows the piece, which means
/// nothing here: pages of a file that nobody changed are in no core dump.
///
/// # Errors
/// The kernel's, such as too many mappings; a part is cut then, and everything reads as before.
pub fn cut() -> io::Result<()> {
    for part in read_only_parts() {
        for piece in part.clone().step_by(PIECE).skip(1).step_by(2) {
            let start = std::ptr::with_exposed_provenance_mut(piece);
            let length = PIECE.min(part.end - piece);
            // SAFETY: these are pages of a loaded segment, and what a core dump shows changes none of them.
            if unsafe { libc::madvise(start, length, libc::MADV_DONTDUMP) } != 0 {
                return Err(last_error());
            }
        }
    }
    Ok(())
}

/// Where the segments lie that are not writable, the program's own first, rounded to whole pages inside them.
fn read_only_parts() -> Vec<Range<usize>> {
    let mut parts: Vec<Range<usize>> = Vec::new();
    // SAFETY: `note_object` is called during this call only, with the pointer that is given here.
    unsafe { libc::dl_iterate_phdr(Some(note_object), (&raw mut parts).cast()) };
    let page = rustix::param::page_size();
    let whole = |part: Range<usize>| part.start.next_multiple_of(page)..part.end / page * page;
    parts.into_iter().map(whole).filter(|part| part.start < part.end).collect()
}

/// Notes the segments of one object. The first is the program itself and has no name; what else has no path is no file but the
/// kernel's own code (the vdso).
///
/// # Safety
/// `info` is as dl_iterate_phdr(3) gives it; `parts` points to a `Vec<Range<usize>>` that nobody else uses.
unsafe extern "C" fn note_object(
    info: *mut libc::dl_phdr_info,
    _size: libc::size_t,
    parts: *mut libc::c_void,
) -> libc::c_int {
    // SAFETY: the caller's promise; the program headers of a loaded object stay where they are.
    let (base, name, headers, parts) = unsafe {
        let info = &*info;
        let name = CStr::from_ptr(info.dlpi_name).to_bytes();
        let headers = std::slice::from_raw_parts(info.dlpi_phdr, usize::from(info.dlpi_phnum));
        (info.dlpi_addr, name, headers, &mut *parts.cast::<Vec<Range<usize>>>())
    };
    if !name.starts_with(b"/") && !parts.is_empty() {
        return 0;
    }
    for header in headers.iter().filter(|header| header.p_type == libc::PT_LOAD && header.p_flags & libc::PF_W == 0) {
        let start = base + header.p_vaddr;
        if let (Ok(start), Ok(length)) = (usize::try_from(start), usize::try_from(header.p_memsz)) {
            parts.push(start..start + length);
        }
    }
    0
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The sum of the bytes of all parts, each page touched.
    fn sum(parts: &[Range<usize>]) -> u64 {
        let bytes = |part: &Range<usize>| {
            let start: *const u8 = std::ptr::with_exposed_provenance(part.start);
            // SAFETY: a readable segment of this very program.
            unsafe { std::slice::from_raw_parts(start, part.len()) }
        };
        parts.iter().flat_map(bytes).map(|byte| u64::from(*byte)).sum()
    }

    /// KiB of files that are mapped into this process.
    fn mapped_kib() -> u64 {
        let status = std::fs::read_to_string("/proc/self/status").expect("proc is mounted");
        let line = status.lines().find_map(|line| line.strip_prefix("RssFile:")).expect("since Linux 4.5");
        line.trim().trim_end_matches(" kB").parse().expect("a number")
    }

    #[test]
    fn a_page_that_is_touched_brings_its_piece_along_and_no_more() {
        cut().expect("the kernel cuts");
        let parts = read_only_parts();
        let largest = parts.iter().max_by_key(|part| part.len()).expect("there is code");
        // Where nothing runs meanwhile, which the end of the code may not be: any window of the kernel's whose other pieces
        // stay away shows it.
        let window = 4 * PIECE;
        let starts = (largest.start.next_multiple_of(window)..largest.end - window).step_by(window);
        let brought = |start: usize| {
            let whole: Range<usize> = start..start + window;
            let at = std::ptr::with_exposed_provenance_mut(whole.start);
            // SAFETY: as in `let_go`.
            assert_eq!(unsafe { libc::madvise(at, whole.len(), libc::MADV_DONTNEED) }, 0);
            sum(std::slice::from_ref(&(start..start + 1)));
            mapped(&whole)
        };
        assert!(starts.map(brought).any(|pages| pages * rustix::param::page_size() <= PIECE));
    }

    /// How many pages of a range are mapped. Source: proc_pid_pagemap(5), bit 63.
    fn mapped(range: &Range<usize>) -> usize {
        use std::os::unix::fs::FileExt as _;
        let (page, pages) = (rustix::param::page_size(), std::fs::File::open("/proc/self/pagemap").expect("proc"));
        let is_mapped = |address: usize| {
            let mut entry = [0; 8];
            pages.read_exact_at(&mut entry, (address / page * 8) as u64).expect("one entry a page");
            u64::from_ne_bytes(entry) >> 63 == 1
        };
        range.clone().step_by(page).filter(|address| is_mapped(*address)).count()
    }

    #[test]
    fn what_is_let_go_is_not_resident_and_comes_back_as_it_was() {
        let parts = read_only_parts();
        let size_kib: u64 = parts.iter().map(|part| part.len() as u64 >> 10).sum();
        let before = sum(&parts);
        let resident = mapped_kib();
        assert!(resident >= size_kib, "{resident} KiB with all of {size_kib} KiB touched");
        let_go().expect("the kernel unmaps");
        let left = mapped_kib();
        // What runs comes back at once, other tests beside this one too.
        assert!(left < resident - size_kib / 2, "{left} KiB of {resident}, {size_kib} of them let go");
        assert_eq!(sum(&parts), before);
    }
}
