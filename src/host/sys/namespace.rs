//! Moves the process into new namespaces (namespaces(7)).
#![allow(unsafe_code)]

use nix::errno::Errno;
use nix::sched::{CloneFlags, unshare};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};
use std::io;
use std::os::fd::AsRawFd;

/// Leaves the host's mount, network, IPC and UTS namespaces for new ones. The next child is process
/// 1 of a new pid namespace: when it ends, the kernel kills every process in it
/// (pid_namespaces(7)).
///
/// # Errors
/// unshare(2) fails; `EPERM` without CAP_SYS_ADMIN, as in most containers.
pub fn leave_host() -> io::Result<()> {
    let visible = CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWPID;
    Ok(unshare(visible | CloneFlags::CLONE_NEWIPC | CloneFlags::CLONE_NEWUTS)?)
}

/// Brings up the loopback interface of this network namespace; in a new namespace it is down.
///
/// # Errors
/// The interface's flags cannot be read or set.
pub fn bring_loopback_up() -> io::Result<()> {
    let any = socket(AddressFamily::Inet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)?;
    let mut request = libc::ifreq {
        ifr_name: [0; libc::IFNAMSIZ],
        ifr_ifru: libc::__c_anonymous_ifr_ifru { ifru_flags: 0 },
    };
    for (to, from) in request.ifr_name.iter_mut().zip(b"lo") {
        *to = *from as libc::c_char;
    }
    // SAFETY: SIOCGIFFLAGS (netdevice(7)) reads the name and fills the flags of the struct that we
    // own.
    Errno::result(unsafe { libc::ioctl(any.as_raw_fd(), libc::SIOCGIFFLAGS, &raw mut request) })?;
    // SAFETY: the call above has filled `ifru_flags`, so this member of the union is the valid one.
    let flags = unsafe { request.ifr_ifru.ifru_flags };
    request.ifr_ifru.ifru_flags = flags | libc::c_short::try_from(libc::IFF_UP).unwrap_or(1);
    // SAFETY: SIOCSIFFLAGS reads name and flags of the struct that we own.
    Errno::result(unsafe { libc::ioctl(any.as_raw_fd(), libc::SIOCSIFFLAGS, &raw const request) })?;
    Ok(())
}
