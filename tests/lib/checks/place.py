"""A user's home as seen from both ends, and OpenSSH's file clients at work on it."""

import contextlib
import functools
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from lib.checks.files import contents, difference, local_home
from lib.sandbox.namespace import die_with_parent

#: A time long ago, in seconds since 1970.
LONG_AGO = 1_000_000_007


@dataclass
class Place:
    """Where the checks of lib.checks.filechecks run.

    `bastion` needs `address` and `PORT`, for the checks of the log also `syslog`. `home` looks at the files from the
    side where they are stored (lib.checks.files.Home). `owner` is the (uid, gid) that what the user makes must have there.
    `shown` is the home's path in a session. `directory` is a local scratch directory. `port` overrides the bastion's.
    """

    client: object
    bastion: object
    user: str
    token: str
    home: object
    owner: tuple
    shown: str
    directory: Path
    port: int = None
    umask: int = 0o022
    #: Lines of rclone's configuration. A command runs in the user's server, where a home of the bastion has another path.
    rclone = "shell_type = none\n"

    @contextlib.contextmanager
    def scratch(self):
        """A new local directory, removed at the end."""
        path = Path(tempfile.mkdtemp(dir=self.directory))
        try:
            yield path
        finally:
            shutil.rmtree(path, ignore_errors=True)

    def command(self, program, *arguments, options=()):
        """The command line of `ssh`, `scp` or `sftp` in the client namespace; the destination is `host`."""
        return self.client.openssh(program, self.bastion, self.user, *arguments, options=options, port=self.port)

    def ssh_words(self, options=()):
        """ssh's command line without the destination, for programs that run it themselves in the client namespace."""
        words = self.command("ssh", options=options)
        return words[words.index("ssh") :]

    @property
    def host(self):
        """What names the bastion on a client's command line; the user is given as an option."""
        return self.bastion.address

    def run(self, command, check=True, timeout=120, input=None, cwd=None, env=None):
        """Run a client that asks for its password by askpass(1); CompletedProcess with text."""
        options = {"stdin": subprocess.DEVNULL} if input is None else {"input": input}
        done = subprocess.run(
            [str(part) for part in command],
            capture_output=True,
            text=True,
            errors="surrogateescape",
            timeout=timeout,
            cwd=cwd,
            env={**self.client.askpass(self.token), **(env or {})},
            start_new_session=True,
            **options,
        )
        if check:
            assert done.returncode == 0, (
                f"{command}: status {done.returncode}\n{done.stdout[-3000:]}{done.stderr[-3000:]}"
            )
        return done

    def start(self, command):
        """Start such a client in a session of its own; Popen."""
        return subprocess.Popen(
            [str(part) for part in command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=self.client.askpass(self.token),
            start_new_session=True,
            preexec_fn=die_with_parent,
        )

    def login(self):
        """A logged-in paramiko transport."""
        return self.client.password_login(self.bastion, self.user, self.token, port=self.port)

    @contextlib.contextmanager
    def paramiko(self):
        """paramiko's SFTP client on a login of its own."""
        transport = self.login()
        try:
            yield transport.open_sftp_client()
        finally:
            transport.close()


def quoted(name):
    """A name as a line of sftp's batch takes it; it must not have newlines or wildcards."""
    return '"' + str(name).replace("\\", "\\\\").replace('"', '\\"') + '"'


def sftp_command(place, *arguments):
    """The command line of OpenSSH's sftp with a batch from its standard input."""
    # The first value counts, and -b would forbid asking for a password.
    return place.command("sftp", "-b", "-", *arguments, place.host, options=["-o", "BatchMode=no"])


def sftp(place, *lines, check=True, timeout=120, arguments=()):
    """Run OpenSSH's sftp with a batch of commands; CompletedProcess with text. A line `-…` may fail."""
    return place.run(sftp_command(place, *arguments), check, timeout, input="".join(f"{line}\n" for line in lines))


def leaves_nothing(check):
    """A check whose leftovers in the home are removed, also when it fails."""

    @functools.wraps(check)
    def checked(place, *arguments, **options):
        before = set(place.home.names())
        try:
            return check(place, *arguments, **options)
        finally:
            place.home.remove(*(set(place.home.names()) - before))

    return checked


def same_tree(place, name, local):
    """Fails unless the tree in the home has the same names and bytes as the local one."""
    ours, theirs = contents(local_home(local).tree()), contents(place.home.tree(name))
    assert ours and ours == theirs, difference(ours, theirs)


def all_owned(place, name):
    """Fails unless everything of a tree in the home belongs to the user."""
    wrong = {path: one for path, one in place.home.tree(name, sums=False).items() if (one.uid, one.gid) != place.owner}
    assert not wrong, f"not of {place.owner}: {list(wrong.items())[:5]}"
