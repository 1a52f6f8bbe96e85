//! What a job of the landlock tier asks the [clerk](crate::clerk) for: calls that change metadata, by their numbers and registers. Which of them
//! are asked is said here alone; the filter goes by the same list.

/// How a call names its file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Named {
    /// By a descriptor, or the working directory by `AT_FDCWD`.
    Descriptor(u32),
    /// By a path.
    Path {
        /// What a relative one starts from.
        dir: u32,
        /// Where it stands in the memory of who asks.
        at: u64,
        /// Whether a link at its end is followed.
        follows: bool,
        /// Whether an empty one means `dir` itself.
        empty: bool,
    },
}

/// What a call changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// The mode.
    Mode(u32),
    /// Owner and group; all ones leave what is there.
    Owner {
        /// The user.
        user: u32,
        /// The group.
        group: u32,
    },
    /// When it was read and changed.
    Times {
        /// Where both stand in the memory of who asks; 0 for now.
        at: u64,
        /// What they are.
        times: Times,
    },
}

/// Two times, as they lie in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Times {
    /// `struct utimbuf`.
    Seconds,
    /// `struct timeval[2]`.
    Microseconds,
    /// `struct timespec[2]`.
    Nanoseconds,
}

/// A call that changes metadata.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Request {
    /// Of which file.
    pub named: Named,
    /// What.
    pub change: Change,
}

/// Calls that are asked. Source: syscalls(2).
pub const ASKED: &[libc::c_long] = &[
    libc::SYS_fchmod,
    libc::SYS_fchmodat,
    libc::SYS_fchmodat2,
    libc::SYS_fchown,
    libc::SYS_fchownat,
    libc::SYS_utimensat,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_chmod,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_chown,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_lchown,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_utime,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_utimes,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_futimesat,
];

const HERE: u32 = libc::AT_FDCWD.cast_unsigned();

impl Request {
    /// Of a call; `None` for one that nobody should have asked, or with a flag that this does not know.
    pub fn of(number: libc::c_int, registers: &[u64; 6]) -> Option<Request> {
        // The kernel reads no more than these bits of a descriptor, a mode, an id and flags.
        let small = |index: usize| (registers[index] & 0xffff_ffff) as u32;
        let at = |index: usize| registers[index];
        let path = |dir: u32, at: u64, flags: u32| {
            let known = (libc::AT_SYMLINK_NOFOLLOW | libc::AT_EMPTY_PATH).cast_unsigned();
            let has = |flag: libc::c_int| flags & flag.cast_unsigned() != 0;
            let [follows, empty] = [!has(libc::AT_SYMLINK_NOFOLLOW), has(libc::AT_EMPTY_PATH)];
            (flags & !known == 0).then_some(Named::Path { dir, at, follows, empty })
        };
        let owner = |index: usize| Change::Owner { user: small(index), group: small(index + 1) };
        let times = |index: usize, times| Change::Times { at: at(index), times };
        // Without a path it is about the descriptor itself.
        let or_itself =
            |flags| if at(1) == 0 { Some(Named::Descriptor(small(0))) } else { path(small(0), at(1), flags) };
        let no_link = libc::AT_SYMLINK_NOFOLLOW.cast_unsigned();
        let (named, change) = match libc::c_long::from(number) {
            libc::SYS_fchmod => (Some(Named::Descriptor(small(0))), Change::Mode(small(1))),
            libc::SYS_fchmodat => (path(small(0), at(1), 0), Change::Mode(small(2))),
            libc::SYS_fchmodat2 => (path(small(0), at(1), small(3)), Change::Mode(small(2))),
            libc::SYS_fchown => (Some(Named::Descriptor(small(0))), owner(1)),
            libc::SYS_fchownat => (path(small(0), at(1), small(4)), owner(2)),
            libc::SYS_utimensat => (or_itself(small(3)), times(2, Times::Nanoseconds)),
            #[cfg(target_arch = "x86_64")]
            libc::SYS_chmod => (path(HERE, at(0), 0), Change::Mode(small(1))),
            #[cfg(target_arch = "x86_64")]
            libc::SYS_chown => (path(HERE, at(0), 0), owner(1)),
            #[cfg(target_arch = "x86_64")]
            libc::SYS_lchown => (path(HERE, at(0), no_link), owner(1)),
            #[cfg(target_arch = "x86_64")]
            libc::SYS_utime => (path(HERE, at(0), 0), times(1, Times::Seconds)),
            #[cfg(target_arch = "x86_64")]
            libc::SYS_utimes => (path(HERE, at(0), 0), times(1, Times::Microseconds)),
            #[cfg(target_arch = "x86_64")]
            libc::SYS_futimesat => (or_itself(0), times(2, Times::Microseconds)),
            _ => return None,
        };
        Some(Request { named: named?, change })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(number: libc::c_long, registers: [u64; 6]) -> Option<Request> {
        Request::of(i32::try_from(number).expect("call numbers are small"), &registers)
    }

    #[test]
    fn every_call_that_is_asked_is_understood() {
        for &number in ASKED {
            assert!(of(number, [3, 0x1000, 0, 0, 0, 0]).is_some(), "{number}");
        }
        assert_eq!(of(libc::SYS_unlinkat, [0; 6]), None);
    }

    #[test]
    fn registers_mean_what_the_kernel_takes_them_for() {
        let here = u64::from(HERE) | 0xffff_ffff_0000_0000;
        let path = |follows, empty| Named::Path { dir: HERE, at: 0x1000, follows, empty };
        let named = |number, registers| of(number, registers).map(|question| question.named);
        assert_eq!(named(libc::SYS_fchmodat2, [here, 0x1000, 0, 0, 0, 0]), Some(path(true, false)));
        assert_eq!(named(libc::SYS_fchmodat2, [here, 0x1000, 0, 0x100, 0, 0]), Some(path(false, false)));
        assert_eq!(named(libc::SYS_fchownat, [here, 0x1000, 0, 0, 0x1000, 0]), Some(path(true, true)));
        assert_eq!(named(libc::SYS_fchmodat2, [here, 0x1000, 0, 0x2, 0, 0]), None, "a flag that nobody knows");
        assert_eq!(named(libc::SYS_utimensat, [7, 0, 0, 0, 0, 0]), Some(Named::Descriptor(7)));
        let owner = of(libc::SYS_fchown, [7, u64::MAX, 5, 0, 0, 0]).map(|question| question.change);
        assert_eq!(owner, Some(Change::Owner { user: u32::MAX, group: 5 }));
    }
}
