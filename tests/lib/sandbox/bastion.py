"""A bastion: a Debian root with stock sshd, the package installed by apt, and an administrator."""

import contextlib
import re
import shutil
import signal
import subprocess
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from lib import paths
from lib.sandbox.box import Box
from lib.sandbox.roots import root_directory
from lib.sandbox.syslog import Syslog
from lib.wait import wait_for

#: What an administrator who tests with many logins from one address would set.
TESTS_DROP_IN = "/etc/ssh/sshd_config.d/00-tests.conf"


@dataclass(frozen=True)
class State:
    """What a bastion has when nobody is logged in; compared before and after."""

    processes: tuple
    mounts: tuple
    namespaces: int
    sockets: tuple
    files: tuple

    def added(self, later):
        """What a later state has more, or less, in words."""
        words = []
        for kind in ("processes", "mounts", "sockets", "files"):
            before, after = list(getattr(self, kind)), list(getattr(later, kind))
            words += [f"+ {kind}: {item}" for item in after if after.count(item) > before.count(item)]
            words += [f"- {kind}: {item}" for item in before if before.count(item) > after.count(item)]
        if self.namespaces != later.namespaces:
            words.append(f"namespaces: {self.namespaces} before, {later.namespaces} after")
        return "\n".join(words)


class Bastion:
    """A running bastion of a suite.

    `package` is the .deb to install (None: the bare system). sshd runs unless `sshd` is false.
    `binds` maps directories of the machine into it.
    """

    ADMIN, ADMIN_PASSWORD = "localadmin", "correct horse 7"
    PORT = 22

    def __init__(self, network, suite, package=None, hub_url=None, sshd=True, penalties=False, binds=()):
        self.network, self.suite, self.penalties = network, suite, penalties
        self.address = network.next_bastion_address()
        self.box = Box("bastion", lower=root_directory(suite), binds=binds)
        network.join(self.box.network, self.address)
        self.syslog = Syslog(self.box)
        self.sshd = None
        try:
            self._prepare()
            if package:
                self.install(package)
            if hub_url:
                self.configure(hub_url)
            if sshd:
                self.start_sshd()
        except BaseException:
            self.close()
            raise

    def _prepare(self):
        box = self.box
        shutil.copy("/etc/resolv.conf", box.path("/etc/resolv.conf"))
        box.write("/etc/hosts", "127.0.0.1 localhost\n127.0.1.1 bastion\n")
        box.run("useradd", "--create-home", "--shell", "/bin/bash", "--groups", "sudo", self.ADMIN)
        box.run("chpasswd", input=f"{self.ADMIN}:{self.ADMIN_PASSWORD}\n")
        text = "MaxStartups 500:30:600\nMaxSessions 100\nLogLevel VERBOSE\n"
        if self.has_penalties() and not self.penalties:
            text += "PerSourcePenaltyExemptList 10.77.0.0/16\n"
        box.write(TESTS_DROP_IN, text)
        # What systemd makes at boot.
        box.path("/run/sshd").mkdir(mode=0o755)
        box.write("/run/utmp", "", 0o664)

    def has_penalties(self):
        """Whether this suite's sshd has PerSourcePenalties (9.8 and later)."""
        return self.suite != "bookworm"

    def admin_key(self, public):
        """Let the administrator in by a key."""
        directory = self.box.path(f"/home/{self.ADMIN}/.ssh")
        directory.mkdir(mode=0o700, exist_ok=True)
        (directory / "authorized_keys").write_text(public)
        self.box.run("chown", "-R", f"{self.ADMIN}:{self.ADMIN}", f"/home/{self.ADMIN}/.ssh")

    def apt(self, *arguments, check=True):
        """Run apt-get inside, over the machine's own network."""
        return self.box.run(
            "apt-get",
            "--yes",
            "--quiet",
            "--no-install-recommends",
            "-o",
            "Dpkg::Use-Pty=0",
            *arguments,
            check=check,
            online=True,
            timeout=300,
            env={"DEBIAN_FRONTEND": "noninteractive"},
        )

    def install(self, package):
        """Install a .deb with apt, as an administrator does."""
        name = Path(package).name
        shutil.copy(package, self.box.path(f"/root/{name}"))
        return self.apt("install", f"/root/{name}")

    def configure(self, hub_url, extra="", reload=True):
        """Write config.toml; `extra` is appended to it (TOML)."""
        self.box.write(paths.CONFIG_FILE, config_text(hub_url, extra))
        if reload and self.sshd:
            self.reload_sshd()

    def start_sshd(self):
        """Start sshd and wait until it listens."""
        self.box.run("/usr/sbin/sshd", "-t")
        self.sshd = self.box.start("/usr/sbin/sshd", "-D")
        self._wait_listening(0)

    def _wait_listening(self, mark):
        self.syslog.wait(r"Server listening on 0\.0\.0\.0", mark)

    def reload_sshd(self):
        """What `systemctl reload ssh` does; waits until sshd listens anew."""
        mark = self.syslog.mark()
        self.box.run("/usr/sbin/sshd", "-t")
        self.sshd.kill(signal.SIGHUP)
        self._wait_listening(mark)

    @contextmanager
    def configured(self, hub_url, extra=""):
        """Another configuration for a while."""
        before = self.box.read(paths.CONFIG_FILE)
        self.configure(hub_url, extra, reload=False)
        try:
            yield self
        finally:
            self.box.write(paths.CONFIG_FILE, before)

    def ours(self):
        """The processes of our programs: gateways, jails' first processes, sessions."""
        return self._running(paths.PROGRAM, paths.JAIL_PROGRAM, paths.SESSION_SHELL)

    def _running(self, *programs):
        """Processes of programs. Jails show files by mounts of their own, so that not the path tells, but the file."""
        files = set()
        for program in programs:
            with contextlib.suppress(FileNotFoundError):
                status = self.box.path(program).stat()
                files.add((status.st_dev, status.st_ino))
        return self._of(self.box.processes(), files, programs)

    @staticmethod
    def _of(processes, files, programs):
        """Those processes that run one of the files, or one of the programs that was deleted meanwhile."""
        names = tuple(program.removeprefix("/usr") for program in programs)
        return [
            one
            for one in processes
            if one.file() in files or one.executable().removesuffix(" (deleted)").endswith(names)
        ]

    def gateways(self):
        """The running gateways."""
        return self._running(paths.PROGRAM)

    def jails(self):
        """The first processes of the running jails."""
        return self._running(paths.JAIL_PROGRAM)

    def sessions(self):
        """The running sessions."""
        return self._running(paths.SESSION_SHELL)

    def sftp_servers(self):
        """The running sftp-servers, hub users' and others'."""
        return self._running(paths.SFTP_SERVER)

    def sshd_of_sessions(self):
        """The sshd processes of connections, the listener left out."""
        return [one for one in self.box.processes() if one.name.startswith("sshd") and one.pid != self.sshd.pid]

    def state(self):
        """What is there now; two states are equal when nothing was left over."""
        everything = self.box.processes()
        names = tuple(sorted(one.name for one in everything if one.name not in ("systemd-tmpfiles",)))
        ignored = re.compile(
            r"/run/(motd.*|utmp|utmp\.lock|sudo(/.*)?|adduser|jupyterhub-openssh/(connections|(uids|pts|confined)(/.*)?))$"
        )
        files = tuple(
            sorted(
                path
                for top in ("/run", "/tmp", "/var/tmp", "/dev/shm", "/var/crash")
                for path in self.box.files_below(top)
                if not ignored.match(path)
            )
        )
        return State(
            names,
            tuple(self.box.mounts()),
            len(self.box.namespaces(everything)),
            tuple(self.box.abstract_sockets()),
            files,
        )

    def wait_state(self, before, timeout=20.0):
        """Wait until everything is as it was: no process, mount, namespace, socket or file is left behind."""
        last = []

        def same():
            last[:] = [self.state()]
            return last[0] == before

        wait_for(same, lambda: f"everything is as before:\n{before.added(last[0])}", timeout, 0.1)

    def wait_quiet(self, timeout=20.0):
        """Wait until no process of ours runs."""
        wait_for(
            lambda: not self.ours(),
            lambda: f"our processes end: {[p.command_line() for p in self.ours()]}",
            timeout,
            0.05,
        )

    def close(self):
        """End the bastion and everything in it."""
        self.syslog.close()
        self.box.close()


def config_text(hub_url, extra=""):
    """A configuration for a hub on a test network without TLS."""
    return f'[hub]\nurl = "{hub_url}"\n{extra}'


def version_of(package):
    """A .deb's version."""
    return subprocess.run(
        ["dpkg-deb", "--field", str(package), "Version"], capture_output=True, text=True, check=True
    ).stdout.strip()
