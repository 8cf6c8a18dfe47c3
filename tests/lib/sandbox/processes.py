"""Looking at processes from outside their sandboxes, through /proc (proc(5))."""

import os
import re
import signal
from dataclasses import dataclass


@dataclass(frozen=True)
class Process:
    """One process as the machine sees it."""

    pid: int
    parent: int
    name: str
    state: str
    uid: int

    def path(self, name):
        """A file of its /proc directory."""
        return f"/proc/{self.pid}/{name}"

    def read(self, name):
        """The bytes of a file of its /proc directory; empty when the process has gone."""
        try:
            with open(self.path(name), "rb") as file:
                return file.read()
        except OSError:
            return b""

    def namespace(self, kind):
        """Which namespace of a kind ("net", "mnt", "pid") it is in; None when it has gone."""
        try:
            return os.readlink(self.path(f"ns/{kind}"))
        except OSError:
            return None

    def executable(self):
        """The program it runs, as seen in its own root; empty when unknown."""
        try:
            return os.readlink(self.path("exe"))
        except OSError:
            return ""

    def file(self):
        """(device, inode) of the program it runs; None when unknown."""
        try:
            status = os.stat(self.path("exe"))
        except OSError:
            return None
        return status.st_dev, status.st_ino

    def command_line(self):
        """Its arguments, joined by spaces."""
        return self.read("cmdline").replace(b"\0", b" ").decode(errors="replace").strip()

    def kill(self, number=signal.SIGKILL):
        """Send it a signal; nothing happens when it has gone."""
        try:
            os.kill(self.pid, number)
        except ProcessLookupError:
            pass

    def alive(self):
        """Whether it still runs (a zombie does not)."""
        now = process(self.pid)
        return now is not None and now.name == self.name and now.state not in "ZX"


def process(pid):
    """The process with this id, or None."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            stat = file.read()
        with open(f"/proc/{pid}/status") as file:
            uid = next(int(line.split()[2]) for line in file if line.startswith("Uid:"))
    except (OSError, StopIteration):
        return None
    name = stat[stat.index("(") + 1 : stat.rindex(")")]
    state, parent = stat[stat.rindex(")") + 2 :].split()[:2]
    return Process(int(pid), int(parent), name, state, uid)


def all_processes():
    """Every process of the machine, by id."""
    found = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            one = process(entry)
            if one:
                found[one.pid] = one
    return found


def inside(pid_namespace):
    """The processes in a pid namespace and in those nested in it, zombies left out."""
    everything = all_processes()
    verdicts = {}

    def verdict(pid):
        if pid not in verdicts:
            one = everything.get(pid)
            verdicts[pid] = False
            if one:
                verdicts[pid] = one.namespace("pid") == pid_namespace or verdict(one.parent)
        return verdicts[pid]

    return [one for one in everything.values() if verdict(one.pid) and one.state not in "ZX"]


def memory_holds(process, secret):
    """Whether the secret is in the process's writable memory."""
    try:
        with open(process.path("mem"), "rb", 0) as memory:
            for line in process.read("maps").decode().splitlines():
                match = re.match(r"([0-9a-f]+)-([0-9a-f]+) rw", line)
                if match:
                    start, end = int(match[1], 16), int(match[2], 16)
                    memory.seek(start)
                    try:
                        if secret in memory.read(end - start):
                            return True
                    except OSError:
                        continue
    except OSError:
        pass
    return False
