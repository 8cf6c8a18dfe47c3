"""The first process of a sandbox: makes its file system, then reaps until it is killed.

Run as pid 1 of new pid, mount, uts, ipc and network namespaces with one argument, a JSON object:
  lower     the read-only root below an overlay, or null to keep the machine's own files
  hostname  the sandbox's name
  binds     [[source, target], …] mounted after that
  tmpfs     [target, …] empty file systems mounted before the binds
All of it vanishes with this process: no mount is ever visible outside.
"""

import ctypes
import json
import os
import signal
import socket
import stat
import sys

libc = ctypes.CDLL(None, use_errno=True)
MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_BIND, MS_REC = 2, 4, 8, 4096, 16384
MS_PRIVATE, MS_SHARED = 1 << 18, 1 << 20
MNT_DETACH = 2
SYS_PIVOT_ROOT = {"x86_64": 155, "aarch64": 41}[os.uname().machine]


def check(result, what):
    if result:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def mount(source, target, kind=None, flags=0, data=None):
    arguments = [part.encode() if part else None for part in (source, target, kind)]
    check(libc.mount(*arguments, ctypes.c_ulong(flags), data.encode() if data else None), f"mount {target}")


def devices(root):
    """A /dev as a container has it: the usual nodes, its own pts, no disks."""
    mount("tmpfs", f"{root}/dev", "tmpfs", MS_NOSUID, "mode=755")
    os.umask(0)
    for name, minor in (("null", 3), ("zero", 5), ("full", 7), ("random", 8), ("urandom", 9)):
        os.mknod(f"{root}/dev/{name}", stat.S_IFCHR | 0o666, os.makedev(1, minor))
    os.mknod(f"{root}/dev/tty", stat.S_IFCHR | 0o666, os.makedev(5, 0))
    os.umask(0o022)
    for name, target in (
        ("fd", "/proc/self/fd"),
        ("stdin", "/proc/self/fd/0"),
        ("stdout", "/proc/self/fd/1"),
        ("stderr", "/proc/self/fd/2"),
        ("ptmx", "pts/ptmx"),
    ):
        os.symlink(target, f"{root}/dev/{name}")
    os.mkdir(f"{root}/dev/pts")
    mount("devpts", f"{root}/dev/pts", "devpts", MS_NOSUID | MS_NOEXEC, "newinstance,ptmxmode=0666,mode=620,gid=5")
    os.mkdir(f"{root}/dev/shm", 0o1777)
    os.chmod(f"{root}/dev/shm", 0o1777)


def overlay_root(lower, spec):
    """Make an overlay of `lower` with its changes in memory, and what `spec` mounts, the root of this mount namespace."""
    base = "/mnt"
    mount("tmpfs", base, "tmpfs", 0, "mode=755")
    for name in ("upper", "work", "root"):
        os.mkdir(f"{base}/{name}")
    os.chmod(f"{base}/upper", 0o755)
    root = f"{base}/root"
    mount("overlay", root, "overlay", 0, f"lowerdir={lower},upperdir={base}/upper,workdir={base}/work")
    mount("proc", f"{root}/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC)
    mount("sysfs", f"{root}/sys", "sysfs", MS_NOSUID | MS_NODEV | MS_NOEXEC)
    devices(root)
    mount("tmpfs", f"{root}/run", "tmpfs", MS_NOSUID | MS_NODEV, "mode=755")
    more(root, spec)
    os.mkdir(f"{root}/run/old-root")
    os.chdir(root)
    check(libc.syscall(SYS_PIVOT_ROOT, b".", b"run/old-root"), "pivot_root")
    os.chdir("/")
    check(libc.umount2(b"/run/old-root", MNT_DETACH), "umount")
    os.rmdir("/run/old-root")


def more(root, spec):
    """Mount the empty file systems and the machine's directories that `spec` asks for."""
    for target in spec["tmpfs"]:
        os.makedirs(root + target, exist_ok=True)
        mount("tmpfs", root + target, "tmpfs", 0, "mode=755")
    for source, target in spec["binds"]:
        os.makedirs(root + target, exist_ok=True)
        mount(source, root + target, None, MS_BIND | MS_REC)


def main():
    spec = json.loads(sys.argv[1])
    mount("none", "/", None, MS_REC | MS_PRIVATE)
    socket.sethostname(spec["hostname"])
    if spec["lower"]:
        # Before the machine's own files are out of sight.
        overlay_root(spec["lower"], spec)
    else:
        mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC)
        more("", spec)
    if spec["lower"]:
        # As systemd leaves it on a real host: mounts made carelessly would propagate.
        mount("none", "/", None, MS_REC | MS_SHARED)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})
    print("ready", flush=True)
    while True:
        signal.sigwait({signal.SIGCHLD})
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            pass


main()
