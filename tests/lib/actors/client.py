"""SSH clients in the client namespace: OpenSSH's own, and paramiko where every byte counts."""

import contextlib
import re
import shlex
import socket
import time
from pathlib import Path

import paramiko
import pexpect

from lib.sandbox.namespace import die_with_parent, run
from lib.wait import Timeout

#: What asks for a token, or a local account's password.
PROMPT = r"assword: "


class Refused(Exception):
    """A login was refused; `messages` is what the user was shown."""

    def __init__(self, messages):
        self.messages = messages
        super().__init__("\n".join(messages))


class Client:
    """Logs in from the client namespace, with nothing of this machine's own SSH configuration.

    `quick` spares programs a key exchange that costs 95 ms of CPU (sntrup761, OpenSSH 9's default). `spawn`, which stands
    for a person at a terminal, always has the client's own defaults.
    """

    def __init__(self, network, directory, quick=False):
        self.network, self.directory, self.quick = network, Path(directory), quick
        self._open = []
        self.key = self.directory / "id_ed25519"
        if not self.key.exists():
            run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "tests", "-f", str(self.key)])
        self.public_key = self.key.with_suffix(".pub").read_text()
        (self.directory / "askpass").write_text('#!/bin/sh\nprintf "%s\\n" "$TESTS_ANSWER"\n')
        (self.directory / "askpass").chmod(0o755)

    # -- paramiko -------------------------------------------------------------------------------

    def connect(self, bastion, source=None, port=None):
        """A transport to the bastion, not logged in; `source` is one of the network's client addresses."""
        with self.network.client:
            connection = socket.create_connection(
                (bastion.address, port or bastion.PORT), timeout=20, source_address=source and (source, 0)
            )
        connection.settimeout(None)
        transport = paramiko.Transport(connection)
        transport.banner_timeout = transport.auth_timeout = transport.handshake_timeout = 60
        self._open.append(transport)
        transport.start_client(timeout=60)
        return transport

    def login(self, bastion, user, token, source=None, port=None):
        """A logged-in transport; raises Refused. Its `shown` lists what the user was shown."""
        transport = self.connect(bastion, source, port)
        shown = []

        def answer(title, instructions, prompts):
            shown.extend(text for text in (title, instructions) if text)
            shown.extend(text for text, _ in prompts)
            return [token for _ in prompts]

        try:
            transport.auth_interactive(user, answer)
        except paramiko.SSHException as error:
            transport.close()
            banner = transport.get_banner()
            raise Refused([*shown, *([banner.decode(errors="replace")] if banner else []), str(error)]) from error
        transport.shown = shown
        return transport

    def password_login(self, bastion, user, password, source=None, port=None):
        """A transport logged in by the `password` method; raises Refused."""
        transport = self.connect(bastion, source, port)
        try:
            transport.auth_password(user, password, fallback=False)
        except paramiko.SSHException as error:
            transport.close()
            raise Refused([str(error)]) from error
        return transport

    def terminal(
        self, bastion, user, token, rows=24, columns=80, term="xterm-256color", source=None, transport=None, window=None
    ):
        """A Terminal: logs in unless a transport is given, and asks for a shell with a tty."""
        transport = transport or self.login(bastion, user, token, source)
        channel = transport.open_session(window_size=window)
        channel.get_pty(term, columns, rows)
        channel.invoke_shell()
        return Terminal(transport, channel)

    def admin_terminal(self, bastion, **options):
        """A terminal of the bastion's local administrator: stock sshd, for comparison."""
        transport = self.password_login(bastion, bastion.ADMIN, bastion.ADMIN_PASSWORD)
        return self.terminal(bastion, bastion.ADMIN, None, transport=transport, **options)

    def close_all(self):
        """End every connection made so far; what a failed test leaves open disturbs the next."""
        for one in self._open:
            with contextlib.suppress(OSError, EOFError, pexpect.ExceptionPexpect):
                one.close()
        self._open.clear()

    # -- OpenSSH --------------------------------------------------------------------------------

    def ssh(self, bastion, user, *arguments, options=(), quick=None):
        """The command line of OpenSSH's client, in the client namespace."""
        return self.openssh("ssh", bastion, user, bastion.address, *arguments, options=options, quick=quick)

    def openssh(self, program, bastion, user, *arguments, options=(), port=None, quick=None):
        """The command line of `ssh`, `scp` or `sftp`, in the client namespace; the arguments name the host."""
        if self.quick if quick is None else quick:
            options = [*options, "-o", "KexAlgorithms=curve25519-sha256"]
        command = [
            program,
            "-F",
            "none",
            "-o",
            f"Port={port or bastion.PORT}",
            "-o",
            "StrictHostKeyChecking=no",
            "-o",
            f"UserKnownHostsFile={self.directory}/known_hosts",
            "-o",
            "GlobalKnownHostsFile=/dev/null",
            "-o",
            "LogLevel=ERROR",
            "-o",
            "PubkeyAuthentication=no",
            "-o",
            "NumberOfPasswordPrompts=1",
            "-o",
            "IdentitiesOnly=yes",
            "-o",
            "IdentityAgent=none",
            *options,
            "-o",
            f"User={user}",
            *arguments,
        ]
        return self.network.client.command(*command)

    def askpass(self, answer):
        """Environment that answers OpenSSH's prompts without a terminal."""
        return {
            "PATH": "/usr/local/bin:/usr/bin:/bin",
            "HOME": str(self.directory),
            "LANG": "C.UTF-8",
            "SSH_ASKPASS": str(self.directory / "askpass"),
            "SSH_ASKPASS_REQUIRE": "force",
            "TESTS_ANSWER": answer,
        }

    def spawn(self, bastion, user, token=None, arguments=(), options=(), rows=24, columns=80, term="xterm-256color"):
        """OpenSSH's client on a tty of its own, as pexpect's child; the token is typed at the prompt."""
        command = self.ssh(bastion, user, *arguments, options=options, quick=False)
        child = pexpect.spawn(
            command[0],
            command[1:],
            dimensions=(rows, columns),
            timeout=20,
            echo=False,
            preexec_fn=die_with_parent,
            env={"PATH": "/usr/bin:/bin", "HOME": str(self.directory), "LANG": "C.UTF-8", "TERM": term},
        )
        self._open.append(child)
        child.delaybeforesend = None
        if token is not None:
            child.expect(PROMPT)
            child.sendline(token)
        return child

    def __repr__(self):
        return f"Client({shlex.quote(str(self.directory))})"


class Terminal:
    """A shell with a tty through paramiko: exact bytes both ways."""

    def __init__(self, transport, channel):
        self.transport, self.channel = transport, channel
        self.seen = b""

    def send(self, data, timeout=60.0):
        """Type bytes (or text as UTF-8)."""
        self.channel.settimeout(timeout)
        self.channel.sendall(data.encode() if isinstance(data, str) else data)

    def read(self, timeout=10.0, size=65536):
        """Some bytes of output; empty at the end. Raises Timeout."""
        self.channel.settimeout(timeout)
        try:
            return self.channel.recv(size)
        except TimeoutError as error:
            raise Timeout(f"no output for {timeout:g} s; last seen: {self.seen[-500:]!r}") from error

    def expect(self, pattern, timeout=10.0):
        """Read until the regular expression matches what has not been expected before; its match.

        What precedes and includes the match is taken away.
        """
        regex = re.compile(pattern.encode() if isinstance(pattern, str) else pattern, re.S)
        deadline = time.monotonic() + timeout
        while True:
            match = regex.search(self.seen)
            if match:
                self.seen = self.seen[match.end() :]
                return match
            left = deadline - time.monotonic()
            if left <= 0:
                raise Timeout(f"{pattern!r} not within {timeout:g} s in {self.seen[-2000:]!r}")
            piece = self.read(left)
            if not piece:
                raise AssertionError(f"the session ended before {pattern!r}; it said {self.seen[-2000:]!r}")
            self.seen += piece

    #: A shell's prompt, the last thing on its line.
    PROMPT = rb"\$ (?:\x1b\[[0-9;?]*[a-zA-Z])*$"

    def prompt(self, timeout=20.0):
        """Wait for the shell's prompt."""
        return self.expect(self.PROMPT, timeout)

    def run(self, command, timeout=20.0):
        """Run a shell command and return its output, without the echo of the command."""
        # The marks are split in what is typed, so that its echo is not taken for them.
        self.send(f"printf '%s\\n' be''gin; {command}; printf '%s\\n' e''nd:$?\r")
        match = self.expect(rb"begin\r?\n(.*?)end:(\d+)\r?\n", timeout)
        self.prompt()
        return match[1].decode(errors="replace").replace("\r\n", "\n")

    def start(self, program, ready="go-now"):
        """Start a program that reads the tty; returns when what is typed is the program's.

        The echo of a command is no sign of that: the shell's line editor has the tty then, without its usual modes.
        A signal from the keyboard may still be the shell's: for that the program has to speak.
        """
        self.send(f"echo {ready[:2]}''{ready[2:]}; {program}\r")
        self.expect(ready.encode() + rb"\r?\n")

    def raw(self, program, ready="go-now"):
        """Start a program with the tty in raw mode without echo; returns when it is about to read."""
        self.send(f"stty raw -echo; echo {ready[:2]}''{ready[2:]}; {program}; stty sane; echo raw''-over\r")
        self.expect(ready.encode() + rb"\r?\n")

    def resize(self, rows, columns):
        """Change the window's size."""
        self.channel.resize_pty(columns, rows)

    def wait_closed(self, timeout=20.0):
        """Read to the end; everything that was still to come."""
        deadline = time.monotonic() + timeout
        while True:
            piece = self.read(max(0.01, deadline - time.monotonic()))
            if not piece:
                rest, self.seen = self.seen, b""
                return rest
            self.seen += piece

    def exit_status(self, timeout=20.0):
        """The exit status that sshd reported; -1 when there was none."""
        if not self.channel.status_event.wait(timeout):
            raise Timeout(f"no exit status within {timeout:g} s; last seen {self.seen[-500:]!r}")
        return self.channel.exit_status

    def close_window(self):
        """What closing a terminal window does: the client ends in good order."""
        self.transport.close()

    def drop(self):
        """Break the connection without a word, as a killed client does."""
        self.transport.sock.close()
        self.transport.close()

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.transport.close()
