//! Each test confines a child and makes it try what an attacker inside it would.
#![allow(clippy::unwrap_used)]

use super::tables::X32;
use super::*;
use crate::sys::process::{end_of_child, harden, in_child};
use crate::sys::seccomp::call;
use libc::c_long as Call;
use nix::errno::Errno;
use nix::sys::signal::Signal;
use nix::sys::wait::WaitStatus;
use std::fs::File;
use std::io::Read;
use std::net::{Ipv4Addr, TcpListener, TcpStream, UdpSocket};
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::path::Path;

const NOTHING: [Call; 5] = [0; 5];
/// A command of fcntl(2): which signal F_SETOWN sends. libc lacks it.
const F_SETSIG: Call = 10;

fn config(url: &str) -> Result<Config, ConfigError> {
    Config::from_str(&format!("[hub]\nurl = '{url}'"), Path::new("config.toml"))
}

/// Confines the process as a gateway of a hub at this port.
fn gateway(port: u16) {
    harden().unwrap();
    let confined = confine(&reach_of(&config(&format!("http://127.0.0.1:{port}")))).unwrap();
    assert_eq!(confined.warning, None);
}

/// Returns Landlock's version on this kernel; 0 if there is none.
fn landlock() -> Call {
    call(libc::SYS_landlock_create_ruleset, [0, 0, 1, 0, 0]).unwrap_or(0)
}

fn dies(confined: impl Fn(), number: Call, arguments: [Call; 5]) -> bool {
    let end = end_of_child(|| {
        confined();
        let _ = call(number, arguments);
    });
    matches!(end, WaitStatus::Signaled(_, Signal::SIGSYS, false))
}

#[test]
fn what_is_dangerous_ends_the_process() {
    let new_user = Call::from(libc::CLONE_NEWUSER | libc::SIGCHLD);
    for (number, arguments) in [
        (libc::SYS_execve, NOTHING),
        (libc::SYS_execveat, NOTHING),
        (libc::SYS_ptrace, [-1, 0, 0, 0, 0]),
        (libc::SYS_process_vm_readv, NOTHING),
        (libc::SYS_process_vm_writev, NOTHING),
        (libc::SYS_pidfd_getfd, [-1, -1, 0, 0, 0]),
        (libc::SYS_mount, NOTHING),
        (libc::SYS_quotactl_fd, NOTHING),
        (467, NOTHING),
        (libc::SYS_unshare, NOTHING),
        (libc::SYS_setns, [-1, 0, 0, 0, 0]),
        (libc::SYS_clone, [new_user, 0, 0, 0, 0]),
        (libc::SYS_bpf, [-1, 0, 0, 0, 0]),
        (libc::SYS_io_uring_setup, NOTHING),
        (libc::SYS_keyctl, [-1, 0, 0, 0, 0]),
        (libc::SYS_add_key, NOTHING),
        (libc::SYS_perf_event_open, [0, -1, -1, -1, 0]),
        (libc::SYS_userfaultfd, [-1, 0, 0, 0, 0]),
        (libc::SYS_kexec_load, [0, 0, 0, -1, 0]),
        (libc::SYS_finit_module, [-1, 0, 0, 0, 0]),
        (libc::SYS_chroot, NOTHING),
    ] {
        assert!(dies(|| gateway(80), number, arguments), "call {number}");
    }
    // Any call number of x32, even if the kernel knows none.
    let of_x32 = |call| Call::from(X32) | call;
    if cfg!(target_arch = "x86_64") {
        assert!(dies(|| gateway(80), of_x32(libc::SYS_getpid), NOTHING));
        assert!(dies(|| gateway(80), of_x32(libc::SYS_ptrace), [-1, 0, 0, 0, 0]));
    }
}

#[test]
fn what_is_not_listed_is_no_call() {
    let write_and_execute = Call::from(libc::PROT_WRITE | libc::PROT_EXEC);
    let executable = Call::from(libc::PROT_READ | libc::PROT_EXEC);
    let private = Call::from(libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
    let family = |family: libc::c_int, kind: libc::c_int, protocol: libc::c_int| {
        [Call::from(family), Call::from(kind), Call::from(protocol), 0, 0]
    };
    let parent = Call::from(nix::unistd::getpid().as_raw());
    assert!(in_child(|| {
        gateway(80);
        for (number, arguments) in [
            (libc::SYS_clone, [Call::from(libc::SIGCHLD), 0, 0, 0, 0]),
            (libc::SYS_clone3, NOTHING),
            (libc::SYS_kill, [parent, 0, 0, 0, 0]),
            (libc::SYS_tgkill, [parent, parent, 0, 0, 0]),
            (libc::SYS_pidfd_send_signal, [-1, 0, 0, 0, 0]),
            (libc::SYS_rt_sigqueueinfo, [parent, 0, 0, 0, 0]),
            (libc::SYS_fcntl, [0, Call::from(libc::F_SETOWN), parent, 0, 0]),
            (libc::SYS_fcntl, [0, F_SETSIG, 9, 0, 0]),
            (libc::SYS_prlimit64, [parent, 0, 0, 0, 0]),
            (libc::SYS_prlimit64, [0, 0, 1, 0, 0]),
            (libc::SYS_prctl, [Call::from(libc::PR_SET_DUMPABLE), 1, 0, 0, 0]),
            (libc::SYS_ioctl, [0, libc::TIOCSTI as Call, 0, 0, 0]),
            (libc::SYS_mmap, [0, 4096, write_and_execute, private, -1]),
            (libc::SYS_mprotect, [0, 0, executable, 0, 0]),
            (libc::SYS_memfd_create, NOTHING),
            (libc::SYS_setuid, [0, 0, 0, 0, 0]),
            (libc::SYS_bind, [-1, 0, 0, 0, 0]),
            (libc::SYS_listen, [-1, 0, 0, 0, 0]),
            (libc::SYS_linkat, [-1, 0, -1, 0, 0]),
            (libc::SYS_symlinkat, NOTHING),
            (libc::SYS_fchownat, [-1, 0, 0, 0, 0]),
            (libc::SYS_socket, family(libc::AF_NETLINK, libc::SOCK_RAW, 0)),
            (libc::SYS_socket, family(libc::AF_PACKET, libc::SOCK_RAW, 0)),
            (libc::SYS_socket, family(libc::AF_ALG, libc::SOCK_SEQPACKET, 0)),
            (libc::SYS_socket, family(libc::AF_VSOCK, libc::SOCK_STREAM, 0)),
            (libc::SYS_socket, family(libc::AF_INET, libc::SOCK_STREAM, libc::IPPROTO_MPTCP)),
            (libc::SYS_socket, family(libc::AF_INET, libc::SOCK_STREAM, libc::IPPROTO_SCTP)),
            (libc::SYS_socket, family(libc::AF_INET6, libc::SOCK_RAW, libc::IPPROTO_RAW)),
            // SCTP, DCCP, and TCP by another route.
            (libc::SYS_socket, family(libc::AF_INET, libc::SOCK_SEQPACKET | libc::SOCK_CLOEXEC, 0)),
            (libc::SYS_socket, family(libc::AF_INET6, libc::SOCK_DCCP, 0)),
            (libc::SYS_socket, family(libc::AF_INET, libc::SOCK_RAW, libc::IPPROTO_TCP)),
            (libc::SYS_socket, family(libc::AF_INET, libc::SOCK_STREAM, libc::IPPROTO_UDP)),
            (libc::SYS_sendto, [-1, 0, 0, Call::from(libc::MSG_FASTOPEN), 0]),
            // A call that doesn't exist yet.
            (1000, NOTHING),
        ] {
            assert_eq!(call(number, arguments), Err(Errno::ENOSYS), "call {number} {arguments:?}");
        }
    }));
}

#[test]
fn what_a_gateway_needs_works() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let dir = tempfile::tempdir().unwrap();
    let log = UnixDatagram::bind(dir.path().join("log")).unwrap();
    let status = UnixListener::bind(dir.path().join("status")).unwrap();
    assert!(in_child(|| {
        gateway(port);
        TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
        // By name, which loads modules of the name service and may yield several addresses.
        TcpStream::connect(("localhost", port)).unwrap();
        let said =
            std::thread::Builder::new().name("a thread".to_owned()).spawn(|| 42).unwrap().join().unwrap();
        assert_eq!(said, 42);
        let socket = UnixDatagram::unbound().unwrap();
        socket.connect(dir.path().join("log")).unwrap();
        socket.send(b"a line").unwrap();
        let _client = UnixStream::connect(dir.path().join("status")).unwrap();
        status.accept().unwrap();
        UnixStream::pair().unwrap();
        std::fs::read_dir("/etc/ssl").unwrap().count();
        assert!(File::options().read(true).write(true).open("/dev/null").is_ok());
        let signals = nix::sys::signal::SigSet::empty();
        nix::sys::signalfd::SignalFd::new(&signals).unwrap();
        crate::sys::process::discard_stdio().unwrap();
    }));
    assert_eq!(log.recv(&mut [0; 10]).unwrap(), 6);
}

#[test]
fn files_that_are_nobodys_business_cannot_be_opened() {
    if landlock() == 0 {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    std::fs::write(&file, "").unwrap();
    assert!(in_child(|| {
        gateway(80);
        for path in [
            "/proc/self/maps",
            "/proc/1/status",
            "/run",
            "/tmp",
            "/var/lib",
            "/home",
            "/root",
            "/usr/bin/env",
            "/",
        ] {
            let opened = File::open(path).and_then(|mut file| file.read(&mut [0; 1]));
            assert_eq!(opened.unwrap_err().kind(), io::ErrorKind::PermissionDenied, "{path}");
        }
        for made in [
            File::open(&file),
            File::create(&file),
            File::create("/etc/hosts.new"),
            File::options().append(true).open("/etc/hosts"),
        ] {
            assert_eq!(made.unwrap_err().kind(), io::ErrorKind::PermissionDenied);
        }
        assert!(std::fs::remove_file(&file).is_err());
    }));
}

#[test]
fn only_the_hubs_port_can_be_reached() {
    if landlock() < 4 {
        return;
    }
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    assert!(in_child(|| {
        gateway(if port == 80 { 81 } else { 80 });
        let refused = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::PermissionDenied);
    }));
}

#[test]
fn other_processes_and_their_abstract_sockets_are_out_of_reach() {
    if landlock() < 6 {
        return;
    }
    let name = format!("jupyterhub-openssh-test/{}/sandbox", std::process::id());
    let _listener = crate::sys::socket::listen_abstract(name.as_bytes()).unwrap();
    let parent = nix::unistd::getpid();
    assert!(in_child(|| {
        harden().unwrap();
        // Without the filter of system calls, so that Landlock alone has to refuse.
        assert!(Reach::nothing().enforce().unwrap());
        assert!(crate::sys::socket::connect_abstract(name.as_bytes()).is_err());
        if !nix::unistd::geteuid().is_root() {
            return;
        }
        assert_eq!(nix::sys::signal::kill(parent, None), Err(Errno::EPERM));
        assert!(nix::sys::signal::kill(nix::unistd::getpid(), None).is_ok());
    }));
}

#[test]
fn the_jails_first_process_can_only_wait() {
    assert!(in_child(|| {
        harden().unwrap();
        let (here, there) = crate::sys::socket::pair().unwrap();
        let own = nix::unistd::getpid();
        confine_watcher().unwrap();
        drop(there);
        let soon = std::time::Instant::now() + std::time::Duration::from_millis(2);
        assert!(crate::sys::wait::readable(std::os::fd::AsFd::as_fd(&here), soon).unwrap());
        assert_eq!(crate::sys::socket::recv(std::os::fd::AsFd::as_fd(&here), &mut [0; 9], 0).unwrap().0, 0);
        std::thread::sleep(std::time::Duration::from_millis(1));
        nix::sys::signal::kill(own, None).unwrap();
        for number in [
            libc::SYS_socket,
            libc::SYS_openat,
            libc::SYS_execve,
            libc::SYS_clone,
            libc::SYS_ptrace,
            libc::SYS_setns,
        ] {
            assert_eq!(call(number, NOTHING), Err(Errno::ENOSYS), "call {number}");
        }
        assert_eq!(call(libc::SYS_kill, [-1, 9, 0, 0, 0]), Err(Errno::ENOSYS));
    }));
}

#[test]
fn a_watcher_without_a_jail_can_end_its_sshd_and_nobody_else() {
    use std::os::fd::AsFd;
    let start = || std::process::Command::new("sleep").arg("60").spawn().unwrap();
    let (mut sshd, mut other) = (start(), start());
    let open = |child: &std::process::Child| crate::sys::pidfd::open(child.id() as i32).unwrap();
    let (first, second) = (open(&sshd), open(&other));
    assert!(in_child(|| {
        harden().unwrap();
        confine_watcher_without_jail(first.as_fd()).unwrap();
        let send = |fd: &std::os::fd::OwnedFd, signal: libc::c_int| {
            let fd = Call::from(std::os::fd::AsRawFd::as_raw_fd(fd));
            call(libc::SYS_pidfd_send_signal, [fd, Call::from(signal), 0, 0, 0])
        };
        assert_eq!(send(&second, libc::SIGTERM), Err(Errno::ENOSYS));
        assert_eq!(send(&first, libc::SIGKILL), Err(Errno::ENOSYS));
        crate::sys::pidfd::terminate(first.as_fd()).unwrap();
    }));
    sshd.wait().unwrap();
    assert!(other.try_wait().unwrap().is_none());
    other.kill().unwrap();
    other.wait().unwrap();
}

#[test]
fn a_session_may_become_a_file_server_and_little_else() {
    let family = |family: libc::c_int| [Call::from(family), Call::from(libc::SOCK_DGRAM), 0, 0, 0];
    assert!(in_child(|| {
        harden().unwrap();
        confine_session().unwrap();
        for (number, arguments) in [
            (libc::SYS_ptrace, [-1, 0, 0, 0, 0]),
            (libc::SYS_unshare, NOTHING),
            (libc::SYS_mount, NOTHING),
            (libc::SYS_clone, [Call::from(libc::CLONE_NEWUSER | libc::SIGCHLD), 0, 0, 0, 0]),
            (libc::SYS_clone3, NOTHING),
            (libc::SYS_socket, family(libc::AF_INET)),
            (libc::SYS_socket, family(libc::AF_NETLINK)),
            (libc::SYS_socketpair, family(libc::AF_TIPC)),
            (libc::SYS_quotactl_fd, [-1, 0, 0, 0, 0]),
            (467, NOTHING),
            (libc::SYS_io_uring_setup, NOTHING),
            // Private objects: nothing of other processes is touched if the call is let through.
            (libc::SYS_msgget, NOTHING),
            (libc::SYS_semget, [0, 1, 0, 0, 0]),
            (libc::SYS_shmget, [0, 4096, 0, 0, 0]),
            (libc::SYS_mq_open, NOTHING),
            (Call::from(X32) | libc::SYS_getpid, NOTHING),
        ] {
            assert_eq!(call(number, arguments), Err(Errno::ENOSYS), "call {number}");
        }
        UnixDatagram::unbound().unwrap();
        UnixStream::pair().unwrap();
        // It may fork and run another program, as rsync does the first and we do the second.
        let done = std::process::Command::new("true").status().unwrap();
        assert!(done.success());
        assert!(UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).is_err());
    }));
}

#[test]
fn a_gateway_without_a_configuration_reaches_nothing() {
    let wrong = Config::from_str("[hub]\nurl = 'ftp://x'", Path::new("config.toml"));
    assert!(wrong.is_err());
    assert_eq!(reach_of(&wrong), Reach::nothing());
}

#[test]
fn memory_and_descriptors_are_limited() {
    use nix::sys::resource::{Resource, getrlimit};
    assert!(in_child(|| {
        gateway(80);
        assert!(Vec::<u8>::new().try_reserve_exact(2 << 30).is_err());
        assert!(getrlimit(Resource::RLIMIT_NOFILE).unwrap().1 <= 1024);
        assert_eq!(getrlimit(Resource::RLIMIT_CORE).unwrap(), (0, 0));
    }));
}
