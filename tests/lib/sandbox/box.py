"""A sandbox with its own processes, files, host name and network; gone without a trace when closed."""

import contextlib
import json
import os
import stat
import subprocess
import sys
from pathlib import Path

from lib.sandbox import processes
from lib.sandbox.namespace import Namespace, die_with_parent, run
from lib.wait import wait_for

#: Of mount(2).
MOUNT_FLAGS = {"rdonly": 1, "nosuid": 2, "nodev": 4, "noexec": 8, "remount": 32, "bind": 4096, "rec": 16384}
#: Calls mount(2) or umount(2) in the mount namespace of a process.
MOUNTING = """
import ctypes, json, os, sys
libc = ctypes.CDLL(None, use_errno=True)
arguments = [part.encode() if isinstance(part, str) else part for part in json.loads(sys.argv[3])]
if libc.setns(os.open(f"/proc/{sys.argv[1]}/ns/mnt", os.O_RDONLY), 0) or getattr(libc, sys.argv[2])(*arguments):
    sys.exit(f"{sys.argv[2]} {arguments}: {os.strerror(ctypes.get_errno())}")
"""


class Box:
    """A running sandbox.

    `lower` is the read-only root below its overlay (None: the machine's own files), `binds` maps
    directories of the machine into it, `tmpfs` names empty directories in memory.
    """

    def __init__(self, hostname, lower=None, binds=(), tmpfs=()):
        spec = {
            "lower": lower and str(lower),
            "hostname": hostname,
            "binds": [[str(a), str(b)] for a, b in binds],
            "tmpfs": [str(path) for path in tmpfs],
        }
        self._launcher = subprocess.Popen(
            [
                "unshare",
                "--net",
                "--mount",
                "--pid",
                "--uts",
                "--ipc",
                "--fork",
                "--kill-child",
                "--",
                "/usr/bin/python3",
                "-I",
                "-S",
                "-B",
                str(Path(__file__).with_name("box_init.py")),
                json.dumps(spec),
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            preexec_fn=die_with_parent,
        )
        if self._launcher.stdout.readline() != b"ready\n":
            raise RuntimeError(f"the sandbox {hostname} could not be made")
        self.pid = int(Path(f"/proc/{self._launcher.pid}/task/{self._launcher.pid}/children").read_text().split()[0])
        self.hostname = hostname
        self.network = Namespace(self.pid)
        self.network.run("ip", "link", "set", "lo", "up")
        self.pid_namespace = os.readlink(f"/proc/{self.pid}/ns/pid")

    def path(self, inside):
        """Where a file of the sandbox is found from outside."""
        return Path(f"/proc/{self.pid}/root") / str(inside).lstrip("/")

    def write(self, inside, text, mode=0o644, owner=None):
        """Write a file of the sandbox."""
        path = self.path(inside)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        path.chmod(mode)
        if owner is not None:
            os.chown(path, owner, owner)

    def read(self, inside):
        """The text of a file of the sandbox."""
        return self.path(inside).read_text(errors="replace")

    def command(self, *argv, uid=None, gid=None, online=False, env=None):
        """The command line that runs `argv` inside.

        `online` leaves it in the machine's network, for apt; `uid` runs it without privileges;
        `env` replaces the environment, which otherwise has only PATH, HOME and LANG.
        """
        enter = ["nsenter", f"--target={self.pid}", "--mount", "--uts", "--ipc", "--pid"]
        if not online:
            enter.append("--net")
        variables = {
            "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "HOME": "/root" if uid is None else "/tmp",
            "LANG": "C.UTF-8",
        }
        variables.update(env or {})
        clean = ["env", "-i", *(f"{key}={value}" for key, value in variables.items())]
        if uid is not None:
            clean += ["setpriv", f"--reuid={uid}", f"--regid={uid if gid is None else gid}", "--clear-groups"]
        return [*enter, "--", *clean, *map(str, argv)]

    def run(self, *argv, check=True, input=None, timeout=60, **options):
        """Run a command inside and wait for it; returns subprocess.CompletedProcess with text."""
        done = subprocess.run(
            self.command(*argv, **options),
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout,
            **({"stdin": subprocess.DEVNULL} if input is None else {"input": input}),
        )
        if check and done.returncode:
            raise RuntimeError(
                f"{self.hostname}: {' '.join(map(str, argv))}: status {done.returncode}\n{done.stdout}{done.stderr}"
            )
        return done

    def start(self, *argv, stdout=subprocess.DEVNULL, stderr=subprocess.STDOUT, **options):
        """Start a command inside in a session of its own; returns its Process."""
        launcher = subprocess.Popen(
            self.command("setsid", *argv, **options),
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=stderr,
            preexec_fn=die_with_parent,
        )

        def child():
            if launcher.poll() is not None:
                raise RuntimeError(f"{self.hostname}: {argv[0]} ended at once, status {launcher.returncode}")
            try:
                text = Path(f"/proc/{launcher.pid}/task/{launcher.pid}/children").read_text()
            except OSError:
                return None
            found = processes.process(int(text.split()[0])) if text.split() else None
            # Until the exec the child is still nsenter, env or setsid.
            return found if found and found.name not in ("nsenter", "env", "setpriv", "setsid") else None

        started = wait_for(child, f"{argv[0]} did not start in {self.hostname}")
        self._children = [pair for pair in getattr(self, "_children", []) if pair[1].poll() is None]
        self._children.append((started, launcher))
        return started

    def mount(self, source, target, kind=None, flags=(), data=None):
        """Mount a file system inside; `flags` are names such as "bind" or "rdonly". Its root need not have mount(8)."""
        self.path(target).mkdir(parents=True, exist_ok=True)
        self._mounting("mount", source, target, kind, sum(MOUNT_FLAGS[flag] for flag in flags), data)

    def umount(self, target):
        """Unmount what is on top of `target`."""
        self._mounting("umount", target)

    def _mounting(self, call, *arguments):
        run([sys.executable, "-I", "-S", "-B", "-c", MOUNTING, str(self.pid), call, json.dumps(arguments)])

    def files_below(self, top):
        """The directory and all files in it and in its directories, as far as they are of one file system."""
        outside = str(self.path("/"))
        try:
            device = os.lstat(outside + top).st_dev
        except FileNotFoundError:
            return
        waiting = [top]
        while waiting:
            path = waiting.pop()
            yield path
            with contextlib.suppress(FileNotFoundError, NotADirectoryError):
                status = os.lstat(outside + path)
                if stat.S_ISDIR(status.st_mode) and status.st_dev == device:
                    waiting += (f"{path}/{name}" for name in os.listdir(outside + path))

    def processes(self):
        """The processes inside, nested namespaces included, without the sandbox's own first process."""
        return [one for one in processes.inside(self.pid_namespace) if one.pid != self.pid]

    def mounts(self):
        """The mount points inside, as mountinfo(5) lists them, without their ids."""
        lines = Path(f"/proc/{self.pid}/mountinfo").read_text().splitlines()
        return sorted(line.split()[4] + " " + line.split(" - ")[1] for line in lines)

    def abstract_sockets(self):
        """The abstract unix sockets of the sandbox's network namespace."""
        table = Path(f"/proc/{self.pid}/net/unix").read_text().splitlines()[1:]
        return sorted(fields[7] for fields in map(str.split, table) if len(fields) > 7 and fields[7].startswith("@"))

    def namespaces(self, running=None):
        """All network, mount and pid namespaces that processes inside (`running`) are in."""
        found = set()
        for one in [*(self.processes() if running is None else running), processes.process(self.pid)]:
            found.update((kind, one.namespace(kind)) for kind in ("net", "mnt", "pid"))
        return {item for item in found if item[1]}

    def close(self):
        """End everything inside."""
        self.network.close()
        self._launcher.kill()
        self._launcher.wait()
        self._launcher.stdout.close()
        for _, launcher in getattr(self, "_children", []):
            launcher.kill()
            launcher.wait()
