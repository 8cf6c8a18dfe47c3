//! The tables of system calls (syscalls(2)), with the reason for each group, and the filters made of them.

use crate::sys::seccomp::install;
use libc::c_long as Call;
use seccompiler::SeccompCmpArgLen::{Dword, Qword};
use seccompiler::SeccompCmpOp::{Eq, MaskedEq, Ne};
use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch,
};
use std::collections::BTreeMap;
use std::io;

/// Calls, each with the cases that are meant: none is every case, of several one is enough.
type Table = BTreeMap<Call, Vec<SeccompRule>>;
/// One thing about an argument: which, how wide, how compared, with what.
type Test = (u8, SeccompCmpArgLen, SeccompCmpOp, u64);

/// Nobody here calls these, no library does, and whoever breaks in wants them.
const DANGEROUS: &[Call] = &[
    // Other processes: their memory, their descriptors.
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_process_madvise,
    libc::SYS_pidfd_getfd,
    libc::SYS_kcmp,
    // Namespaces and mounts: a new user namespace opens the parts of the kernel that are meant for root.
    libc::SYS_unshare,
    libc::SYS_setns,
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_move_mount,
    libc::SYS_open_tree,
    libc::SYS_fsopen,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fspick,
    libc::SYS_mount_setattr,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    // Large parts of the kernel with a history of faults.
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_userfaultfd,
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_keyctl,
    libc::SYS_fanotify_init,
    libc::SYS_open_by_handle_at,
    // What is the host's.
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_kexec_load,
    libc::SYS_reboot,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_acct,
    libc::SYS_quotactl,
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_sethostname,
    libc::SYS_setdomainname,
    libc::SYS_syslog,
    libc::SYS_mknodat,
    libc::SYS_kexec_file_load,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_mknod,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_iopl,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_ioperm,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_modify_ldt,
];

/// Another program. Of a session these are its work.
const EXEC: &[Call] = &[libc::SYS_execve, libc::SYS_execveat];

/// Flags of clone(2) for a namespace: each of them alone is dangerous. CLONE_NEWTIME is one of clone3(2) only.
const NAMESPACES: [libc::c_int; 7] = [
    libc::CLONE_NEWNS,
    libc::CLONE_NEWCGROUP,
    libc::CLONE_NEWUTS,
    libc::CLONE_NEWIPC,
    libc::CLONE_NEWUSER,
    libc::CLONE_NEWPID,
    libc::CLONE_NEWNET,
];

/// Whatever the arguments are.
const PLAIN: &[Call] = &[
    // Memory; mmap and mprotect see below.
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_madvise,
    libc::SYS_brk,
    // Threads and signals of this process; clone and tgkill see below.
    libc::SYS_rseq,
    libc::SYS_set_robust_list,
    libc::SYS_set_tid_address,
    libc::SYS_futex,
    libc::SYS_sched_yield,
    libc::SYS_sched_getaffinity,
    libc::SYS_gettid,
    libc::SYS_getpid,
    libc::SYS_getppid,
    // Whether a program that serves files has ended.
    libc::SYS_pidfd_open,
    libc::SYS_sigaltstack,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_restart_syscall,
    libc::SYS_exit,
    libc::SYS_exit_group,
    // Time, mostly without a call (vdso(7)).
    libc::SYS_clock_gettime,
    libc::SYS_clock_getres,
    libc::SYS_clock_nanosleep,
    libc::SYS_nanosleep,
    libc::SYS_gettimeofday,
    // Waiting: the poll loop, the event loop of HTTP, the resolver.
    libc::SYS_ppoll,
    libc::SYS_pselect6,
    libc::SYS_epoll_create1,
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_pwait,
    libc::SYS_eventfd2,
    libc::SYS_signalfd4,
    // Descriptors; fcntl and ioctl see below.
    libc::SYS_read,
    libc::SYS_write,
    libc::SYS_readv,
    libc::SYS_writev,
    libc::SYS_pread64,
    libc::SYS_pwrite64,
    libc::SYS_lseek,
    libc::SYS_ftruncate,
    libc::SYS_flock,
    libc::SYS_close,
    libc::SYS_close_range,
    libc::SYS_dup,
    libc::SYS_dup3,
    libc::SYS_pipe2,
    // Files: which, is Landlock's to say.
    libc::SYS_openat,
    libc::SYS_fstat,
    libc::SYS_newfstatat,
    libc::SYS_statx,
    libc::SYS_faccessat,
    libc::SYS_faccessat2,
    libc::SYS_readlinkat,
    libc::SYS_getdents64,
    libc::SYS_getcwd,
    libc::SYS_fstatfs,
    // Sockets; socket, socketpair and what sends see below. Neither bind nor listen: what listens did so before.
    libc::SYS_connect,
    libc::SYS_accept4,
    libc::SYS_recvfrom,
    libc::SYS_recvmsg,
    libc::SYS_shutdown,
    libc::SYS_getsockname,
    libc::SYS_getpeername,
    libc::SYS_getsockopt,
    libc::SYS_setsockopt,
    // Who and where we are: libc and OpenSSL ask at times.
    libc::SYS_getuid,
    libc::SYS_geteuid,
    libc::SYS_getgid,
    libc::SYS_getegid,
    libc::SYS_uname,
    libc::SYS_sysinfo,
    libc::SYS_getrusage,
    libc::SYS_getrandom,
    // hub-keys' cache; others may write nowhere.
    libc::SYS_unlinkat,
    libc::SYS_mkdirat,
    libc::SYS_renameat,
    libc::SYS_renameat2,
    libc::SYS_fchmod,
    libc::SYS_fsync,
    libc::SYS_utimensat,
    // The same, as they are called where they are older than the above.
    #[cfg(target_arch = "x86_64")]
    libc::SYS_poll,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_epoll_wait,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_dup2,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_open,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_stat,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_lstat,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_access,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_readlink,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_unlink,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_mkdir,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_rename,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_time,
];

/// All that process 1 of a jail does: it waits for two descriptors, looks who is left (kill, see below), and ends.
const WATCHER: &[Call] = &[
    libc::SYS_ppoll,
    libc::SYS_recvmsg,
    libc::SYS_clock_nanosleep,
    libc::SYS_clock_gettime,
    libc::SYS_restart_syscall,
    libc::SYS_rt_sigreturn,
    libc::SYS_rt_sigprocmask,
    libc::SYS_close,
    libc::SYS_write,
    libc::SYS_munmap,
    libc::SYS_madvise,
    libc::SYS_brk,
    libc::SYS_exit_group,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_poll,
];

/// Commands of fcntl(2). Not F_SETOWN and F_SETSIG: with them the kernel sends signals to any process of the same uid.
const FCNTL: [libc::c_int; 10] = [
    libc::F_DUPFD,
    libc::F_DUPFD_CLOEXEC,
    libc::F_GETFD,
    libc::F_SETFD,
    libc::F_GETFL,
    libc::F_SETFL,
    libc::F_GETLK,
    libc::F_SETLK,
    libc::F_SETLKW,
    // The file of counters.
    libc::F_OFD_SETLK,
];

/// Requests of ioctl(2). Not TIOCSTI: a user's terminal is among our descriptors.
const IOCTL: [libc::Ioctl; 5] =
    [libc::FIONBIO, libc::FIOCLEX, libc::FIONREAD, libc::TCGETS, libc::TIOCGWINSZ];

/// Options of prctl(2): names of threads and of memory.
const PRCTL: [libc::c_int; 3] = [libc::PR_SET_NAME, libc::PR_GET_NAME, libc::PR_SET_VMA];

/// Puts the filter of gateways, keepers and hub-keys in force.
///
/// # Errors
/// The system's.
pub fn network() -> io::Result<()> {
    let mut allowed = table(PLAIN)?;
    allowed.extend(conditional()?);
    // For the filters that follow; the last takes it back.
    allowed.extend(table(&[libc::SYS_seccomp])?);
    // Refused without a line in the log, because libraries try: a thread by clone3(2), whose flags no filter can see, then by
    // clone(2); and getaddrinfo(3) asks which addresses the host has.
    let mut tried = table(&[libc::SYS_clone3, libc::SYS_seccomp])?;
    tried.insert(libc::SYS_socket, vec![rule(&[(0, Dword, Eq, number(libc::AF_NETLINK))])?]);
    let mut dangerous = table(DANGEROUS)?;
    dangerous.extend(table(EXEC)?);
    dangerous.extend(namespaces()?);
    let no_such_call = SeccompAction::Errno(libc::ENOSYS.unsigned_abs());
    let filters = [
        (program(allowed, no_such_call.clone(), SeccompAction::Allow)?, true),
        (program(dangerous, SeccompAction::Allow, SeccompAction::KillProcess)?, true),
        // Of two filters that say the same the later one counts, and whether it has that logged.
        (program(tried, SeccompAction::Allow, no_such_call)?, false),
    ];
    filters.iter().try_for_each(|(program, logged)| install(program, *logged))
}

/// Puts the filter of the jail's process 1 in force.
///
/// # Errors
/// The system's.
pub fn watcher() -> io::Result<()> {
    let no_such_call = SeccompAction::Errno(libc::ENOSYS.unsigned_abs());
    let mut allowed = table(WATCHER)?;
    // Signal 0 is none.
    allowed.insert(libc::SYS_kill, vec![rule(&[(1, Dword, Eq, 0)])?]);
    install(&program(allowed, no_such_call, SeccompAction::Allow)?, true)
}

/// Puts the filter of sessions and of the programs that they become in force: all but what is dangerous, refused
/// and not killed for, as those programs are the distribution's. Of sockets only those of this host.
///
/// # Errors
/// The system's.
pub fn session() -> io::Result<()> {
    let mut refused = table(DANGEROUS)?;
    refused.extend(namespaces()?);
    refused.extend(table(&[libc::SYS_clone3])?);
    refused.insert(libc::SYS_socket, vec![rule(&[(0, Dword, Ne, number(libc::AF_UNIX))])?]);
    let no_such_call = SeccompAction::Errno(libc::ENOSYS.unsigned_abs());
    install(&program(refused, SeccompAction::Allow, no_such_call)?, false)
}

/// What is allowed depending on the arguments.
fn conditional() -> io::Result<Table> {
    let none = |argument, bits: libc::c_int| (argument, Dword, MaskedEq(number(bits)), 0);
    let is = |argument, value: libc::c_int| (argument, Dword, Eq, number(value));
    let each = |argument, values: &[libc::c_int]| -> io::Result<Vec<SeccompRule>> {
        values.iter().map(|value| rule(&[is(argument, *value)])).collect()
    };
    let thread = libc::CLONE_VM | libc::CLONE_SIGHAND | libc::CLONE_THREAD;
    let unix = [is(0, libc::AF_UNIX), is(2, 0)];
    // No process but this one. The number is looked up now: after the last fork.
    let own = (0, Dword, Eq, u64::from(std::process::id()));
    let mut table = Table::from([
        // Memory that is written is never executed; modules of the name service are mapped from their files.
        (libc::SYS_mmap, vec![rule(&[none(2, libc::PROT_WRITE)])?, rule(&[none(2, libc::PROT_EXEC)])?]),
        (libc::SYS_mprotect, vec![rule(&[none(2, libc::PROT_EXEC)])?]),
        // A thread, no process.
        (libc::SYS_clone, vec![rule(&[(0, Dword, MaskedEq(number(thread)), number(thread))])?]),
        (libc::SYS_tgkill, vec![rule(&[own])?]),
        // Reading limits, for which libc has the stack's.
        (libc::SYS_prlimit64, vec![rule(&[is(0, 0), (2, Qword, Eq, 0)])?]),
        (libc::SYS_prctl, each(0, &PRCTL)?),
        (libc::SYS_fcntl, each(1, &FCNTL)?),
        (
            libc::SYS_ioctl,
            IOCTL.iter().map(|request| rule(&[(1, Dword, Eq, low(*request))])).collect::<Result<_, _>>()?,
        ),
        (libc::SYS_socketpair, vec![rule(&unix)?]),
    ]);
    // TCP and UDP as such: other protocols (SCTP, MPTCP, SMC) know other ways than Landlock's ports, and more faults.
    let mut sockets = vec![rule(&unix)?];
    for family in [libc::AF_INET, libc::AF_INET6] {
        for protocol in [0, libc::IPPROTO_TCP, libc::IPPROTO_UDP] {
            sockets.push(rule(&[is(0, family), is(2, protocol)])?);
        }
    }
    table.insert(libc::SYS_socket, sockets);
    // Not MSG_FASTOPEN, which connects without connect(2), where Landlock looks at ports.
    for (call, flags) in [(libc::SYS_sendto, 3), (libc::SYS_sendmsg, 2), (libc::SYS_sendmmsg, 3)] {
        table.insert(call, vec![rule(&[none(flags, libc::MSG_FASTOPEN)])?]);
    }
    Ok(table)
}

/// clone(2) with a new namespace, any of them.
fn namespaces() -> io::Result<Table> {
    let rules = NAMESPACES
        .iter()
        .map(|flag| rule(&[(0, Dword, MaskedEq(number(*flag)), number(*flag))]))
        .collect::<Result<_, _>>()?;
    Ok(Table::from([(libc::SYS_clone, rules)]))
}

fn table(calls: &[Call]) -> io::Result<Table> {
    Ok(calls.iter().map(|call| (*call, Vec::new())).collect())
}

/// All of these tests together.
fn rule(tests: &[Test]) -> io::Result<SeccompRule> {
    tests
        .iter()
        .map(|(argument, length, comparison, value)| {
            SeccompCondition::new(*argument, length.clone(), comparison.clone(), *value)
        })
        .collect::<Result<_, _>>()
        .and_then(SeccompRule::new)
        .map_err(broken)
}

fn program(table: Table, otherwise: SeccompAction, listed: SeccompAction) -> io::Result<BpfProgram> {
    let processor = TargetArch::try_from(std::env::consts::ARCH).map_err(broken)?;
    SeccompFilter::new(table, otherwise, listed, processor).and_then(BpfProgram::try_from).map_err(broken)
}

fn broken(why: BackendError) -> io::Error {
    io::Error::other(format!("a filter of system calls is wrong: {why}"))
}

/// The lower half of a register, as a filter compares it.
fn number(value: libc::c_int) -> u64 {
    u64::from(value as u32)
}

/// The same of a request of ioctl(2), of which the kernel takes the lower half.
fn low(request: libc::Ioctl) -> u64 {
    request & u64::from(u32::MAX)
}
