//! Which system call gets which answer, and why.

use std::collections::BTreeMap;

use super::program::{Answer, Answers, Half, Relation, Test, Verdict};
use super::{Count, Metadata, Occupant};
use crate::enforcement::Tier;
use crate::policy::Network;
use crate::request::ASKED;

/// The newest call the table was written for: removexattrat(2) of Linux 6.13. What is newer does not exist inside.
const NEWEST: u32 = 466;

/// Calls that look into, steer or trace other processes. Landlock confines tracing to the job's own processes as well.
const OTHER_PROCESSES: &[libc::c_long] = &[
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_process_madvise,
    libc::SYS_process_mrelease,
    libc::SYS_pidfd_getfd,
    libc::SYS_kcmp,
    libc::SYS_migrate_pages,
    libc::SYS_move_pages,
];

/// Calls that change what a path means, or enter other namespaces: the way out of every cage.
const MOUNTS_AND_NAMESPACES: &[libc::c_long] = &[
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_fsopen,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fspick,
    libc::SYS_open_tree,
    libc::SYS_move_mount,
    libc::SYS_mount_setattr,
    libc::SYS_unshare,
    libc::SYS_setns,
];

/// Doors to large parts of the kernel that builds and tests do not need. io_uring would also do the work of refused calls
/// where no filter looks; open_by_handle_at(2) opens files without any path.
const KERNEL_DOORS: &[libc::c_long] = &[
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_userfaultfd,
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_keyctl,
    libc::SYS_name_to_handle_at,
    libc::SYS_open_by_handle_at,
    libc::SYS_fanotify_init,
    libc::SYS_fanotify_mark,
    libc::SYS_lookup_dcookie,
    libc::SYS_vmsplice,
];

/// Calls of those who run a machine.
const MACHINE: &[libc::c_long] = &[
    libc::SYS_kexec_load,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_reboot,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_acct,
    libc::SYS_quotactl,
    libc::SYS_quotactl_fd,
    libc::SYS_syslog,
    libc::SYS_vhangup,
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_clock_adjtime,
    libc::SYS_adjtimex,
    libc::SYS_sethostname,
    libc::SYS_setdomainname,
    libc::SYS_nfsservctl,
];

#[cfg(target_arch = "x86_64")]
const ARCHITECTURE_ONLY: &[libc::c_long] = &[
    libc::SYS_kexec_file_load,
    libc::SYS_iopl,
    libc::SYS_ioperm,
    libc::SYS_modify_ldt,
    libc::SYS_uselib,
    libc::SYS_ustat,
    libc::SYS_sysfs,
    libc::SYS__sysctl,
];
#[cfg(not(target_arch = "x86_64"))]
const ARCHITECTURE_ONLY: &[libc::c_long] = &[];

/// Shared memory and queues that are found by number: other jobs of the same user could meet there.
const SHARED_BY_NUMBER: &[libc::c_long] = &[
    libc::SYS_shmget,
    libc::SYS_shmat,
    libc::SYS_shmctl,
    libc::SYS_semget,
    libc::SYS_semctl,
    libc::SYS_semop,
    libc::SYS_semtimedop,
    libc::SYS_msgget,
    libc::SYS_msgctl,
    libc::SYS_msgsnd,
    libc::SYS_msgrcv,
    libc::SYS_mq_open,
    libc::SYS_mq_unlink,
];

const NEW_NAMESPACES: u32 = bits(
    libc::CLONE_NEWNS
        | libc::CLONE_NEWCGROUP
        | libc::CLONE_NEWUTS
        | libc::CLONE_NEWIPC
        | libc::CLONE_NEWUSER
        | libc::CLONE_NEWPID
        | libc::CLONE_NEWNET
        | CLONE_NEWTIME,
);
const CLONE_NEWTIME: libc::c_int = 0x80;
const SET_ID_BITS: u32 = 0o6000;
const FS_IOC_SETFLAGS: u32 = 0x4008_6602;
const FS_IOC_FSSETXATTR: u32 = 0x401c_5820;
/// Requests about a file, or of a file system in it, that the kernel grants to whoever has it open for reading and owns it:
/// generations, verity, encryption, attributes of FAT, layouts of ext4, subvolumes of btrfs. Source: fs.h, fsverity.h, fscrypt.h,
/// msdos_fs.h, ext4.h and btrfs.h of the kernel.
const OF_FILE_SYSTEMS: &[u32] = &[
    FS_IOC_SETFLAGS,
    FS_IOC_FSSETXATTR,
    0x4008_7602, // FS_IOC_SETVERSION
    0x4008_6604, // EXT4_IOC_SETVERSION_OLD
    0x0000_6609, // EXT4_IOC_MIGRATE
    0x0000_660c, // EXT4_IOC_ALLOC_DA_BLKS
    0x4080_6685, // FS_IOC_ENABLE_VERITY
    0x800c_6613, // FS_IOC_SET_ENCRYPTION_POLICY
    0x4004_7211, // FAT_IOCTL_SET_ATTRIBUTES
    0x5000_9401, // BTRFS_IOC_SNAP_CREATE
    0x5000_940e, // BTRFS_IOC_SUBVOL_CREATE
    0x5000_940f, // BTRFS_IOC_SNAP_DESTROY
    0x5000_9417, // BTRFS_IOC_SNAP_CREATE_V2
    0x5000_9418, // BTRFS_IOC_SUBVOL_CREATE_V2
    0x4008_941a, // BTRFS_IOC_SUBVOL_SETFLAGS
    0x5000_943f, // BTRFS_IOC_SNAP_DESTROY_V2
];
/// Hints to the kernel about how a file is written, which stay with it. Source: fcntl(2).
const F_SET_RW_HINT: u32 = 1024 + 12;
const F_SET_FILE_RW_HINT: u32 = 1024 + 14;
/// `personality(0xffffffff)` asks and changes nothing.
const PERSONALITY_QUERY: u32 = u32::MAX;
/// A lease on a folder or a file by another name, since Linux 6.19. Source: fcntl.h of the kernel, `F_LINUX_SPECIFIC_BASE + 16`.
const F_SETDELEG: u32 = 1024 + 16;
/// PER_LINUX32: what `setarch i686` sets for builds.
const PERSONALITY_LINUX32: u32 = 8;

/// Bytes of a System V segment that is allowed where its pages are not counted: a lock of a database, say, has one page. The
/// kernel gives out 4,096 segments, so that 64 MiB are the most.
const SEGMENT_BYTES: u32 = 16 << 10;

/// Attributes of files, which an overlay takes for its own marks. Programs that want them do without where there are none.
const ATTRIBUTES: &[libc::c_long] = &[
    libc::SYS_setxattr,
    libc::SYS_lsetxattr,
    libc::SYS_fsetxattr,
    libc::SYS_removexattr,
    libc::SYS_lremovexattr,
    libc::SYS_fremovexattr,
    SYS_SETXATTRAT,
    SYS_REMOVEXATTRAT,
];
/// Since Linux 6.13, with one number on every architecture.
const SYS_SETXATTRAT: libc::c_long = 463;
const SYS_REMOVEXATTRAT: libc::c_long = 466;

/// The answers for a tier, a network, what is going to run, whether its memory is counted by the kernel, and who changes metadata for it.
pub fn answers(tier: Tier, network: Network, occupant: Occupant, count: Count, metadata: Metadata) -> Answers {
    let mut calls: BTreeMap<u32, Verdict> = BTreeMap::new();
    let mut put = |number: libc::c_long, verdict: Verdict| {
        calls.insert(u32::try_from(number).expect("call numbers are small"), verdict);
    };
    for list in [OTHER_PROCESSES, MOUNTS_AND_NAMESPACES, KERNEL_DOORS, MACHINE, ARCHITECTURE_ONLY] {
        list.iter().for_each(|&number| put(number, Answer::Refuse.into()));
    }
    // One io_setup(2) takes what the whole machine has room for; databases do without where there is none.
    for number in [libc::SYS_clone3, libc::SYS_openat2, libc::SYS_io_setup] {
        put(number, Answer::Unknown.into());
    }
    put(libc::SYS_clone, refuse_any_bit(0, NEW_NAMESPACES));
    put(
        libc::SYS_personality,
        allow_only([0, PERSONALITY_LINUX32, PERSONALITY_QUERY].map(|value| vec![is(0, u32::MAX, value)]).to_vec()),
    );
    ioctl(tier, &mut put);
    // A lease on a file that is merely shown would hold up whoever opens it outside, for as long as the kernel's patience.
    let mut commands = vec![bits(libc::F_SETLEASE), F_SETDELEG];
    if tier == Tier::Landlock {
        commands.extend([F_SET_RW_HINT, F_SET_FILE_RW_HINT]);
    }
    put(libc::SYS_fcntl, refuse_only(1, &commands));
    set_id_bits(&mut put);
    sockets(tier, network, &mut put);
    if tier == Tier::Namespaces {
        init(&mut put);
    }
    if count == Count::Watched {
        unmapped_memory(&mut put);
    }
    if tier == Tier::Landlock {
        SHARED_BY_NUMBER.iter().for_each(|&number| put(number, Answer::Refuse.into()));
        ATTRIBUTES.iter().for_each(|&number| put(number, Answer::Unsupported.into()));
        peers(&mut put);
    }
    if occupant == Occupant::Guest {
        guest(&mut put);
    }
    if metadata == Metadata::Asked {
        for &number in ASKED {
            let known = calls.entry(u32::try_from(number).expect("call numbers are small"));
            known.or_insert_with(|| Answer::Allow.into()).otherwise = Answer::Ask;
        }
    }
    Answers { calls, newest: NEWEST }
}

/// Typing into a terminal for somebody else, and changing what the kernel makes of its lines: another line discipline would
/// silence it, for the person before it, too. In the landlock tier also attributes of files that are merely readable.
fn ioctl(tier: Tier, put: &mut impl FnMut(libc::c_long, Verdict)) {
    let terminal = [libc::TIOCSTI, libc::TIOCLINUX, libc::TIOCCONS, libc::TIOCSETD];
    let mut refused: Vec<u32> = terminal.map(bits_of_request).to_vec();
    if tier == Tier::Landlock {
        refused.extend(OF_FILE_SYSTEMS);
    }
    let cases = refused.into_iter().map(|request| (vec![is(1, u32::MAX, request)], Answer::Refuse)).collect();
    put(libc::SYS_ioctl, Verdict { cases, otherwise: Answer::Allow });
}

/// Memory that stands in no process's page table, so that nobody who looks at processes can count it: a file in memory may
/// even wait in a socket, where no process has it open. Programs that know the calls know older ways.
fn unmapped_memory(put: &mut impl FnMut(libc::c_long, Verdict)) {
    for number in [libc::SYS_memfd_create, libc::SYS_memfd_secret] {
        put(number, Answer::Unknown.into());
    }
    let large = [any_bit(1, !(SEGMENT_BYTES - 1)), Test { half: Half::High, ..any_bit(1, u32::MAX) }];
    let cases = large.map(|test| (vec![test], Answer::Unknown)).to_vec();
    put(libc::SYS_shmget, Verdict { cases, otherwise: Answer::Allow });
}

fn refuse_only(argument: u8, values: &[u32]) -> Verdict {
    let cases = values.iter().map(|value| (vec![is(argument, u32::MAX, *value)], Answer::Refuse)).collect();
    Verdict { cases, otherwise: Answer::Allow }
}

/// Files that would run with their owner's rights.
fn set_id_bits(put: &mut impl FnMut(libc::c_long, Verdict)) {
    #[cfg(target_arch = "x86_64")]
    for (number, argument) in [(libc::SYS_chmod, 1), (libc::SYS_creat, 1), (libc::SYS_mknod, 1)] {
        put(number, refuse_any_bit(argument, SET_ID_BITS));
    }
    for (number, argument) in
        [(libc::SYS_fchmod, 1), (libc::SYS_fchmodat, 2), (libc::SYS_fchmodat2, 2), (libc::SYS_mknodat, 2)]
    {
        put(number, refuse_any_bit(argument, SET_ID_BITS));
    }
    // The mode means something only where a file is created.
    let creating = bits(libc::O_CREAT | (libc::O_TMPFILE & !libc::O_DIRECTORY));
    let open = |flags: u8, mode: u8| {
        let tests = vec![any_bit(flags, creating), any_bit(mode, SET_ID_BITS)];
        Verdict { cases: vec![(tests, Answer::Refuse)], otherwise: Answer::Allow }
    };
    #[cfg(target_arch = "x86_64")]
    put(libc::SYS_open, open(1, 2));
    put(libc::SYS_openat, open(2, 3));
}

/// Which sockets exist at all.
fn sockets(tier: Tier, network: Network, put: &mut impl FnMut(libc::c_long, Verdict)) {
    let family = |family: libc::c_int| is(0, u32::MAX, bits(family));
    let mut allowed: Vec<Vec<Test>> = Vec::new();
    // Landlock before ABI 9 does not cover sockets with a path, so in its tier no connectable unix socket exists.
    if tier == Tier::Namespaces {
        allowed.push(vec![family(libc::AF_UNIX)]);
    }
    if tier == Tier::Namespaces || network.is_host() {
        for internet in [libc::AF_INET, libc::AF_INET6] {
            // Neither raw sockets nor protocols beside TCP and UDP (MPTCP, SCTP, SMC, ICMP).
            let kind = |kind: libc::c_int| is(1, 0xf, bits(kind));
            let protocol = |protocol: libc::c_int| is(2, u32::MAX, bits(protocol));
            for (stream, protocols) in
                [(libc::SOCK_STREAM, [0, libc::IPPROTO_TCP]), (libc::SOCK_DGRAM, [0, libc::IPPROTO_UDP])]
            {
                allowed.extend(protocols.map(|number| vec![family(internet), kind(stream), protocol(number)]));
            }
        }
        // Listing one's own interfaces, which getaddrinfo(3) and getifaddrs(3) do.
        allowed.push(vec![family(libc::AF_NETLINK), is(2, u32::MAX, bits(libc::NETLINK_ROUTE))]);
    } else {
        if matches!(network, Network::Egress { .. }) {
            for internet in [libc::AF_INET, libc::AF_INET6] {
                let tcp = |number: libc::c_int| {
                    vec![family(internet), is(1, 0xf, bits(libc::SOCK_STREAM)), is(2, u32::MAX, bits(number))]
                };
                allowed.extend([tcp(0), tcp(libc::IPPROTO_TCP)]);
            }
        }
        only_connect(put);
    }
    put(libc::SYS_socket, allow_only(allowed));
    // A pair's end that has no connection to keep (datagrams; a raw one is the same) can be sent to any path, or bound to one.
    let pairs = match tier {
        Tier::Landlock => [libc::SOCK_STREAM, libc::SOCK_SEQPACKET]
            .map(|kind| vec![family(libc::AF_UNIX), is(1, 0xf, bits(kind))])
            .to_vec(),
        _ => vec![vec![family(libc::AF_UNIX)]],
    };
    put(libc::SYS_socketpair, allow_only(pairs));
}

/// Leaves connect(2) as the only way to use a socket where the host's network is not the job's: it alone is what Landlock's port
/// rules look at, and bound to a name without a path the end of a pair takes it from the whole host. listen(2) without bind(2) takes a port of the kernel's choice, and fast open sends with the first packet.
fn only_connect(put: &mut impl FnMut(libc::c_long, Verdict)) {
    for number in [libc::SYS_bind, libc::SYS_listen, libc::SYS_accept, libc::SYS_accept4] {
        put(number, Answer::Refuse.into());
    }
    for (number, flags) in [(libc::SYS_sendto, 3), (libc::SYS_sendmsg, 2), (libc::SYS_sendmmsg, 3)] {
        put(number, refuse_any_bit(flags, bits(libc::MSG_FASTOPEN)));
    }
    let fast_open = |option: libc::c_int| {
        let tests = vec![is(1, u32::MAX, bits(libc::IPPROTO_TCP)), is(2, u32::MAX, bits(option))];
        (tests, Answer::Refuse)
    };
    let cases = [libc::TCP_FASTOPEN, libc::TCP_FASTOPEN_CONNECT].map(fast_open).to_vec();
    put(libc::SYS_setsockopt, Verdict { cases, otherwise: Answer::Allow });
}

/// The cage's init has the job's user and is process 1 inside. A job that gave it no processor time would end it, and its
/// own failure would look like one of the machine.
fn init(put: &mut impl FnMut(libc::c_long, Verdict)) {
    let refused_any = |all: Vec<Vec<Test>>| Verdict {
        cases: all.into_iter().map(|tests| (tests, Answer::Refuse)).collect(),
        otherwise: Answer::Allow,
    };
    let refused = |tests: Vec<Test>| refused_any(vec![tests]);
    for number in [
        libc::SYS_prlimit64,
        libc::SYS_sched_setattr,
        libc::SYS_sched_setscheduler,
        libc::SYS_sched_setparam,
        libc::SYS_sched_setaffinity,
    ] {
        put(number, refused(vec![is(0, u32::MAX, 1)]));
    }
    // PRIO_PROCESS and PRIO_USER, IOPRIO_WHO_PROCESS and IOPRIO_WHO_USER: init itself, and all that have its user.
    let process = |which: u32| vec![is(0, u32::MAX, which), is(1, u32::MAX, 1)];
    put(libc::SYS_setpriority, refused_any(vec![process(0), vec![is(0, u32::MAX, 2)]]));
    put(libc::SYS_ioprio_set, refused_any(vec![process(1), vec![is(0, u32::MAX, 3)]]));
}

/// Calls that steer a process by number: only oneself (0) where other processes of the user can be named.
fn peers(put: &mut impl FnMut(libc::c_long, Verdict)) {
    let oneself = is(0, u32::MAX, 0);
    for number in [libc::SYS_prlimit64, libc::SYS_sched_setattr, libc::SYS_sched_setscheduler, libc::SYS_sched_setparam]
    {
        put(number, allow_only(vec![vec![oneself]]));
    }
    let which = |which: u32| is(0, u32::MAX, which);
    let who = is(1, u32::MAX, 0);
    // PRIO_PROCESS and IOPRIO_WHO_PROCESS; the other kinds name all processes of a group or a user.
    put(libc::SYS_setpriority, allow_only(vec![vec![which(0), who]]));
    put(libc::SYS_ioprio_set, allow_only(vec![vec![which(1), who]]));
}

/// The process around a WebAssembly guest: should a guest get out of the runtime, it can start nothing. Threads of our own
/// code are fine.
fn guest(put: &mut impl FnMut(libc::c_long, Verdict)) {
    for number in [libc::SYS_execve, libc::SYS_execveat, libc::SYS_socket, libc::SYS_socketpair] {
        put(number, Answer::Refuse.into());
    }
    #[cfg(target_arch = "x86_64")]
    for number in [libc::SYS_fork, libc::SYS_vfork] {
        put(number, Answer::Refuse.into());
    }
    let thread = bits(libc::CLONE_THREAD);
    let cases = vec![(vec![any_bit(0, NEW_NAMESPACES)], Answer::Refuse), (vec![is(0, thread, thread)], Answer::Allow)];
    put(libc::SYS_clone, Verdict { cases, otherwise: Answer::Refuse });
}

fn allow_only(allowed: Vec<Vec<Test>>) -> Verdict {
    let cases = allowed.into_iter().map(|tests| (tests, Answer::Allow)).collect();
    Verdict { cases, otherwise: Answer::Refuse }
}

fn refuse_any_bit(argument: u8, mask: u32) -> Verdict {
    Verdict { cases: vec![(vec![any_bit(argument, mask)], Answer::Refuse)], otherwise: Answer::Allow }
}

fn is(argument: u8, mask: u32, value: u32) -> Test {
    Test { argument, half: Half::Low, mask, value, relation: Relation::Is }
}

fn any_bit(argument: u8, mask: u32) -> Test {
    Test { argument, half: Half::Low, mask, value: 0, relation: Relation::IsNot }
}

const fn bits(number: libc::c_int) -> u32 {
    number.cast_unsigned()
}

/// Request numbers have 32 bits on every architecture, although libc's type is wider on some.
fn bits_of_request(request: libc::Ioctl) -> u32 {
    u32::try_from(request).expect("terminal requests are 16-bit numbers")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_is_refused_by_either_name() {
        let answers = answers(Tier::Namespaces, Network::None, Occupant::Program, Count::Kernel, Metadata::Own);
        let fcntl = answers.calls.get(&u32::try_from(libc::SYS_fcntl).expect("small"));
        let refused = [1024, 1040].map(|command| (vec![is(1, u32::MAX, command)], Answer::Refuse)).to_vec();
        assert_eq!(fcntl, Some(&Verdict { cases: refused, otherwise: Answer::Allow }));
    }

    #[test]
    fn what_is_asked_is_never_just_done_and_set_id_bits_are_not_even_asked_for() {
        let answers = answers(Tier::Landlock, Network::None, Occupant::Program, Count::Kernel, Metadata::Asked);
        for &number in ASKED {
            let verdict = &answers.calls[&u32::try_from(number).expect("small")];
            assert_eq!(verdict.otherwise, Answer::Ask, "{number}");
            assert!(verdict.cases.iter().all(|(_, answer)| *answer == Answer::Refuse), "{number}");
        }
        let chmod = &answers.calls[&u32::try_from(libc::SYS_fchmod).expect("small")];
        assert_eq!(chmod.cases, refuse_any_bit(1, SET_ID_BITS).cases);
    }

    #[test]
    fn only_a_job_with_a_network_takes_names_and_ports() {
        let bind = |tier, network| {
            let answers = answers(tier, network, Occupant::Program, Count::Kernel, Metadata::Own);
            answers.calls.get(&u32::try_from(libc::SYS_bind).expect("small")).cloned()
        };
        for network in [Network::None, Network::Egress { port: 9 }] {
            assert_eq!(bind(Tier::Landlock, network), Some(Answer::Refuse.into()), "{network:?}");
            assert_eq!(bind(Tier::Namespaces, network), None, "its network is its own: {network:?}");
        }
        assert_eq!(bind(Tier::Landlock, Network::Host), None);
    }
}
