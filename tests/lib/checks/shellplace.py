"""A user's shell as SSH gives it, wherever it runs: commands by OpenSSH's client, processes at the other end."""

import contextlib
import functools
import itertools
import os
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

import pexpect

from lib.actors.hub import HUB_UID
from lib.checks.files import local_home
from lib.checks.place import Place
from lib.sandbox.namespace import die_with_parent
from lib.wait import wait_for

#: For processes that are recognised by their arguments: how long they would sleep, each another time.
_naps = itertools.count(86_400)


@dataclass(frozen=True)
class Done:
    """What a command's client came to: its exit status, and the bytes of both streams."""

    status: int
    out: bytes
    err: bytes

    @property
    def text(self):
        """Standard output as text."""
        return self.out.decode(errors="surrogateescape")


@dataclass
class ShellPlace(Place):
    """Where the checks of lib.checks.commandchecks run.

    `running()` lists the user's processes where the commands run. While `control` is set, every client goes over the
    connection of that ControlMaster.
    """

    running: object = None
    control: Path = None
    #: Commands see the files that sftp shows: rclone may have them summed up.
    rclone = ""

    @classmethod
    def of_hub(cls, hub, client, bastion, login, token, scratch, homes):
        """A user's own server at the tests' hub; `login` may name one (alice+gpu). `homes` is the hub's homes, seen here."""
        user = login.partition("+")[0]
        home, ids = local_home(homes / user), (HUB_UID, HUB_UID)
        running = functools.partial(hub.server_processes, user)
        return cls(client, bastion, login, token, home, ids, f"/mnt/home/{user}", scratch, running=running)

    def command(self, program, *arguments, options=()):
        shared = ("-o", f"ControlPath={self.control}", "-o", "ControlMaster=no") if self.control else ()
        return super().command(program, *arguments, options=[*shared, *options])

    def ssh_line(self, command=None, options=()):
        """ssh's command line for a command (text, or bytes that need not be UTF-8), or for a shell."""
        # OpenSSH's client joins words by spaces; a single one could not be longer than execve(2) takes.
        words = [] if command is None else split(os.fsencode(command))
        return self.command("ssh", self.host, *map(os.fsdecode, words), options=options)

    @property
    def environment(self):
        """The clients' environment; it answers the question for a password."""
        return self.client.askpass(self.token)

    def ssh(self, command=None, input=b"", options=(), timeout=60, env=None):
        """Run a command to its end; Done.

        Input None: the client's standard input is /dev/null. `env` is added to the client's environment.
        """
        options_ = {"stdin": subprocess.DEVNULL} if input is None else {"input": input}
        done = subprocess.run(
            self.ssh_line(command, options),
            capture_output=True,
            timeout=timeout,
            env={**self.environment, **(env or {})},
            start_new_session=True,
            **options_,
        )
        return Done(done.returncode, done.stdout, done.stderr)

    def output(self, command, **options):
        """The text that a command prints; it must succeed and have nothing to complain about."""
        done = self.ssh(command, **options)
        assert (done.status, done.err) == (0, b""), (command, done)
        return done.text

    @contextlib.contextmanager
    def opened(self, command, options=(), **pipes):
        """A running client with pipes to its three streams (Popen); killed at the end if it still runs."""
        pipes = {name: pipes.get(name, subprocess.PIPE) for name in ("stdin", "stdout", "stderr")}
        child = subprocess.Popen(
            self.ssh_line(command, options),
            env=self.environment,
            start_new_session=True,
            bufsize=0,
            preexec_fn=die_with_parent,
            **pipes,
        )
        try:
            yield child
        finally:
            if child.poll() is None:
                child.kill()
            for stream in (child.stdin, child.stdout, child.stderr):
                if stream:
                    with contextlib.suppress(OSError):
                        stream.close()
            child.wait()

    @contextlib.contextmanager
    def terminal(self, command=None, options=("-t",), rows=24, columns=80, term="xterm-256color", stty=""):
        """A client on a tty of its own (pexpect's child), whose modes stty(1) has set before."""
        script = f'stty {stty or "-echo"} && exec "$@"'
        child = pexpect.spawn(
            "sh",
            ["-c", script, "sh", *self.ssh_line(command, ["-o", "LogLevel=QUIET", *options])],
            dimensions=(rows, columns),
            timeout=20,
            preexec_fn=die_with_parent,
            env={**self.environment, "TERM": term},
        )
        child.delaybeforesend = None
        try:
            yield child
        finally:
            child.close(force=True)

    @contextlib.contextmanager
    def master(self):
        """One connection that all clients meanwhile share."""
        directory = Path(tempfile.mkdtemp(prefix="jo-"))
        path = directory / "control"
        # It passes on only such variables of its clients as it may itself send.
        words = self.command(
            "ssh",
            "-N",
            self.host,
            options=["-o", f"ControlPath={path}", "-o", "ControlMaster=yes", "-o", "SendEnv=LC_* FOREIGN LANG"],
        )
        child = subprocess.Popen(
            words,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={name: text for name, text in self.environment.items() if name != "LANG"},
            start_new_session=True,
            preexec_fn=die_with_parent,
        )

        def connected():
            assert child.poll() is None, f"the master's client ended with status {child.returncode}"
            return path.exists()

        try:
            wait_for(connected, "the connection is made", 60)
            self.control = path
            yield self
        finally:
            if self.control:
                subprocess.run(self.command("ssh", "-O", "exit", self.host), capture_output=True, timeout=20)
            self.control = None
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.wait(10)
            child.kill()
            child.wait()
            shutil.rmtree(directory, ignore_errors=True)

    def find(self, arguments, name=None):
        """The user's processes there whose command line has `arguments`, and whose program is `name`."""
        return [one for one in self.running() if arguments in one.command_line() and name in (None, one.name)]

    def found(self, arguments, name=None):
        """The one such process, waited for."""

        def one():
            found = self.find(arguments, name)
            assert len(found) <= 1, [process.command_line() for process in found]
            return found and found[0]

        return wait_for(one, f"{arguments} runs there")

    def gone(self, arguments, timeout=10.0):
        """Wait until no process there has such arguments."""
        wait_for(
            lambda: not self.find(arguments), lambda: f"{[p.command_line() for p in self.find(arguments)]} end", timeout
        )


def nap():
    """The command line of a sleep(1) that nobody else runs."""
    return f"sleep {next(_naps)}"


def split(command, longest=100_000):
    """A command as words that make it up again when they are joined by a space; none is too long for execve(2)."""
    words = []
    while len(command) > longest:
        cut = command.rfind(b" ", 1, longest)
        assert cut > 0, "a command of such a length needs a space"
        words.append(command[:cut])
        command = command[cut + 1 :]
    return [*words, command]
