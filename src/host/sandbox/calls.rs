//! Builds the filters of system calls from [`super::tables`].

use super::tables::{DANGEROUS, EXEC, FCNTL, IOCTL, IPC, NAMESPACES, PLAIN, PRCTL, WATCHER, X32};
use crate::sys::seccomp::install;
use libc::c_long as Call;
use seccompiler::SeccompCmpArgLen::{Dword, Qword};
use seccompiler::SeccompCmpOp::{Eq, MaskedEq, Ne};
use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch, sock_filter,
};
use std::collections::BTreeMap;
use std::io;
use std::os::fd::RawFd;

/// System calls, each with its rules: an empty list matches every call, otherwise one matching rule
/// is enough.
type Table = BTreeMap<Call, Vec<SeccompRule>>;
/// A test of one argument: which one, its width, the comparison, the value.
type Test = (u8, SeccompCmpArgLen, SeccompCmpOp, u64);

/// The bits of socket(2)'s second argument that hold the type; the others are flags.
const SOCK_TYPE_MASK: u64 = 0xf;

/// Installs the filter of gateways, keepers and hub-keys.
///
/// # Errors
/// The filter cannot be installed.
pub(crate) fn network() -> io::Result<()> {
    let mut allowed = table(PLAIN)?;
    allowed.extend(conditional()?);
    // Allows the filters that follow; the last one forbids it again.
    allowed.extend(table(&[libc::SYS_seccomp])?);
    // Refused without a line in the log, because libraries try these: a thread by clone3(2), whose
    // flags no filter can see, before clone(2); and getaddrinfo(3), which asks which addresses the
    // host has.
    let mut tried = table(&[libc::SYS_clone3, libc::SYS_seccomp])?;
    tried.insert(libc::SYS_socket, vec![rule(&[(0, Dword, Eq, number(libc::AF_NETLINK))])?]);
    let mut dangerous = table(DANGEROUS)?;
    dangerous.extend(table(EXEC)?);
    dangerous.extend(namespaces()?);
    let no_such_call = SeccompAction::Errno(libc::ENOSYS.unsigned_abs());
    let filters = [
        (program(allowed, no_such_call.clone(), SeccompAction::Allow)?, true),
        (program(dangerous, SeccompAction::Allow, SeccompAction::KillProcess)?, true),
        // If two filters give the same answer, the later one decides, including whether the call is
        // logged.
        (program(tried, SeccompAction::Allow, no_such_call)?, false),
    ];
    filters.iter().try_for_each(|(program, logged)| install(program, *logged))
}

/// Installs the filter of the jail's process 1.
///
/// # Errors
/// The filter cannot be installed.
pub(crate) fn watcher(sshd: Option<RawFd>) -> io::Result<()> {
    let no_such_call = SeccompAction::Errno(libc::ENOSYS.unsigned_abs());
    let mut allowed = table(WATCHER)?;
    if let Some(sshd) = sshd {
        let terminate = [(0, Dword, Eq, number(sshd)), (1, Dword, Eq, number(libc::SIGTERM))];
        allowed.insert(libc::SYS_pidfd_send_signal, vec![rule(&terminate)?]);
    }
    // Signal 0 sends nothing.
    allowed.insert(libc::SYS_kill, vec![rule(&[(1, Dword, Eq, 0)])?]);
    install(&program(allowed, no_such_call, SeccompAction::Allow)?, true)
}

/// Installs the filter of the session program and of the programs that it becomes: everything but
/// dangerous calls and IPC. Those are refused and don't kill, because the programs are the
/// distribution's. Only unix sockets are allowed.
///
/// # Errors
/// The filter cannot be installed.
pub(crate) fn session() -> io::Result<()> {
    let mut refused = table(DANGEROUS)?;
    refused.extend(namespaces()?);
    refused.extend(table(&[libc::SYS_clone3])?);
    refused.extend(table(IPC)?);
    for call in [libc::SYS_socket, libc::SYS_socketpair] {
        refused.insert(call, vec![rule(&[(0, Dword, Ne, number(libc::AF_UNIX))])?]);
    }
    let no_such_call = SeccompAction::Errno(libc::ENOSYS.unsigned_abs());
    install(&program(refused, SeccompAction::Allow, no_such_call)?, false)
}

/// Calls that are allowed depending on their arguments.
fn conditional() -> io::Result<Table> {
    let none = |argument, bits: libc::c_int| (argument, Dword, MaskedEq(number(bits)), 0);
    let is = |argument, value: libc::c_int| (argument, Dword, Eq, number(value));
    let each = |argument, values: &[libc::c_int]| -> io::Result<Vec<SeccompRule>> {
        values.iter().map(|value| rule(&[is(argument, *value)])).collect()
    };
    let thread = libc::CLONE_VM | libc::CLONE_SIGHAND | libc::CLONE_THREAD;
    let unix = [is(0, libc::AF_UNIX), is(2, 0)];
    // Only this process. Its id is read here, after the last fork.
    let own = (0, Dword, Eq, u64::from(std::process::id()));
    let mut table = Table::from([
        // Writable memory is never executable; modules of the name service are mapped from their
        // files.
        (libc::SYS_mmap, vec![rule(&[none(2, libc::PROT_WRITE)])?, rule(&[none(2, libc::PROT_EXEC)])?]),
        (libc::SYS_mprotect, vec![rule(&[none(2, libc::PROT_EXEC)])?]),
        // A thread, not a process.
        (libc::SYS_clone, vec![rule(&[(0, Dword, MaskedEq(number(thread)), number(thread))])?]),
        (libc::SYS_tgkill, vec![rule(&[own])?]),
        // Reading limits: libc reads the stack's.
        (libc::SYS_prlimit64, vec![rule(&[is(0, 0), (2, Qword, Eq, 0)])?]),
        (libc::SYS_prctl, each(0, &PRCTL)?),
        (libc::SYS_fcntl, each(1, &FCNTL)?),
        (
            libc::SYS_ioctl,
            IOCTL.iter().map(|request| rule(&[(1, Dword, Eq, low(*request))])).collect::<Result<_, _>>()?,
        ),
        (libc::SYS_socketpair, vec![rule(&unix)?]),
    ]);
    // Only TCP and UDP: other protocols (SCTP, DCCP, MPTCP, SMC) bypass Landlock's ports, and have
    // more bugs.
    let mut sockets = vec![rule(&unix)?];
    for family in [libc::AF_INET, libc::AF_INET6] {
        for (kind, protocol) in [
            (libc::SOCK_STREAM, 0),
            (libc::SOCK_STREAM, libc::IPPROTO_TCP),
            (libc::SOCK_DGRAM, 0),
            (libc::SOCK_DGRAM, libc::IPPROTO_UDP),
        ] {
            let kind = (1, Dword, MaskedEq(SOCK_TYPE_MASK), number(kind));
            sockets.push(rule(&[is(0, family), kind, is(2, protocol)])?);
        }
    }
    table.insert(libc::SYS_socket, sockets);
    // Not MSG_FASTOPEN, which connects without connect(2), where Landlock checks ports.
    for (call, flags) in [(libc::SYS_sendto, 3), (libc::SYS_sendmsg, 2), (libc::SYS_sendmmsg, 3)] {
        table.insert(call, vec![rule(&[none(flags, libc::MSG_FASTOPEN)])?]);
    }
    Ok(table)
}

/// Matches clone(2) with any new namespace.
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

/// Makes a rule that matches if all of these tests do.
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
    let kills = [&otherwise, &listed].contains(&&SeccompAction::KillProcess);
    let x32 = if kills {
        libc::SECCOMP_RET_KILL_PROCESS
    } else {
        libc::SECCOMP_RET_ERRNO | libc::ENOSYS.unsigned_abs()
    };
    let processor = TargetArch::try_from(std::env::consts::ARCH).map_err(broken)?;
    let program: BpfProgram = SeccompFilter::new(table, otherwise, listed, processor)
        .and_then(BpfProgram::try_from)
        .map_err(broken)?;
    Ok(refusing_x32(x32).into_iter().chain(program).collect())
}

/// Returns steps in front of a filter that end it for call numbers of x32; nothing except on
/// x86-64. Jumps are relative, so the filter itself doesn't change.
fn refusing_x32(answer: u32) -> Vec<sock_filter> {
    /// Offset of the call's number in struct seccomp_data.
    const NUMBER: u32 = 0;
    let step = |code: u32, jt, jf, k| sock_filter { code: code as u16, jt, jf, k };
    if cfg!(target_arch = "x86_64") {
        vec![
            step(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, NUMBER),
            step(libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K, 0, 1, X32),
            step(libc::BPF_RET | libc::BPF_K, 0, 0, answer),
        ]
    } else {
        Vec::new()
    }
}

fn broken(why: BackendError) -> io::Error {
    io::Error::other(format!("a filter of system calls is wrong: {why}"))
}

/// Returns the lower half of a register, as a filter compares it.
fn number(value: libc::c_int) -> u64 {
    u64::from(value as u32)
}

/// Returns the lower half of an ioctl(2) request, which is all that the kernel uses.
fn low(request: libc::Ioctl) -> u64 {
    request & u64::from(u32::MAX)
}
