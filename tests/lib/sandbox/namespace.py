"""Network namespaces without names: each lives exactly as long as the process that holds it."""

import ctypes
import os
import signal
import subprocess
import threading

_libc = ctypes.CDLL(None, use_errno=True)
_CLONE_NEWNET = 0x40000000
_PR_SET_PDEATHSIG = 1


def die_with_parent():
    """For preexec_fn: the child is killed when the test process ends, however that ends (prctl(2)).

    SIGHUP gets its default action back: under nohup(1) children would ignore it, terminals' shells too.
    """
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def run(command, **options):
    """subprocess.run with captured text, failing with the command's own words."""
    done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, **options)
    if done.returncode:
        raise RuntimeError(f"{' '.join(map(str, command))}: status {done.returncode}: {done.stderr.strip()}")
    return done.stdout


class Namespace:
    """The network namespace of the process `pid`.

    As a context manager it moves the calling thread there, so that sockets made inside belong to it:

        with namespace:
            connection = socket.create_connection(…)
    """

    def __init__(self, pid):
        self.pid = pid
        self._fd = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        self._home = threading.local()

    def __enter__(self):
        homes = self._home.__dict__.setdefault("stack", [])
        homes.append(os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC))
        self._setns(self._fd)
        return self

    def __exit__(self, *exc):
        home = self._home.stack.pop()
        self._setns(home)
        os.close(home)

    @staticmethod
    def _setns(fd):
        if _libc.setns(fd, _CLONE_NEWNET):
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))

    def command(self, *argv):
        """The command line that runs `argv` in this namespace."""
        return ["nsenter", f"--net=/proc/{self.pid}/ns/net", "--", *map(str, argv)]

    def run(self, *argv, **options):
        """Run a command here; its standard output."""
        return run(self.command(*argv), **options)

    def close(self):
        """Let go of the namespace."""
        os.close(self._fd)


class HeldNamespace(Namespace):
    """A new network namespace, held by a process of its own."""

    def __init__(self):
        self._holder = subprocess.Popen(
            ["unshare", "--net", "--", "sh", "-c", "ip link set lo up && echo ready && exec sleep infinity"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            preexec_fn=die_with_parent,
        )
        if self._holder.stdout.readline() != b"ready\n":
            raise RuntimeError("no network namespace could be made")
        super().__init__(self._holder.pid)

    def close(self):
        super().close()
        self._holder.kill()
        self._holder.wait()
        self._holder.stdout.close()
