"""A bastion's life with systemd as its first process: installed, broken, mended, upgraded, reloaded, purged."""

import json
import re
from contextlib import contextmanager

import pytest

from lib import paths
from lib.actors.client import Refused
from lib.checks.package import answer, difference, facts, preseed, rebuilt, snapshot
from lib.machines.vm import Machine, MachineBastion, power_on
from lib.wait import wait_for

SSHD_CONFIG = "/etc/ssh/sshd_config"


@pytest.fixture(scope="module")
def newer(package, tmp_path_factory):
    """The same package as an upgrade."""
    return rebuilt(package, tmp_path_factory.mktemp("newer"), "+1")


@pytest.fixture(scope="module")
def host(network, suite, package, newer, client, tmp_path_factory):
    """A machine of its own without the package."""
    machine = Machine(network, suite, tmp_path_factory.mktemp("life"), [package, newer], disks=0)
    try:
        power_on([machine])
        # Its agent answers long before systemd is idle. The status tells of units that failed, which `state` compares.
        machine.run("systemctl", "is-system-running", "--wait", check=False, timeout=300)
        made = MachineBastion(machine)
        made.admin_key(client.public_key)
        yield made
        made.syslog.close()
    finally:
        client.close_all()
        machine.close()


class Life:
    """The steps, each of which leaves the host in order."""

    def __init__(self, host, client, hub, token):
        self.host, self.box, self.client, self.hub, self.token = host, host.box, client, hub, token

    def login(self):
        """A terminal of alice's at its prompt."""
        terminal = self.client.terminal(self.host, "alice", self.token)
        terminal.prompt(60)
        return terminal

    def refused(self):
        """Nobody of the hub gets in."""
        with pytest.raises(Refused):
            self.client.login(self.host, "alice", self.token)

    def admin(self):
        """The administrator gets in as ever."""
        with self.client.admin_terminal(self.host) as terminal:
            terminal.prompt(60)

    def check(self):
        """(whether all is well, what `check` says)."""
        done = self.box.run(paths.PROGRAM, "check", check=False)
        return done.returncode == 0, done.stdout

    @contextmanager
    def broken(self, path, pattern, replacement, says, mode=None, mend=lambda: None):
        """A file that somebody has spoilt, and mends: `check` names it meanwhile and is content afterwards."""
        good = self.box.read(path)
        before = self.box.path(path).stat().st_mode & 0o7777
        spoilt, count = re.subn(pattern, replacement, good, count=1, flags=re.M)
        assert count, path
        self.box.write(path, spoilt, mode or before)
        fine, text = self.check()
        assert not says or not fine and re.search(says, text, re.S), text
        yield
        self.box.write(path, good, before)
        mend()
        fine, text = self.check()
        assert fine, text

    def observed(self):
        """What the real journald has of a login, by its fields, and what the timer's service counts."""
        closed = wait_for(
            lambda: self.journal("JUPYTERHUB_USER=alice", "JUPYTERHUB_EVENT=session-closed"),
            "the end of the session is in the journal",
            60,
        )
        session = closed[-1]["JUPYTERHUB_SESSION"]
        lines = [one["MESSAGE"] for one in self.journal("-g", f"session={session}")]
        assert any("pam_jupyterhub(sshd:auth)" in line for line in lines) and closed[-1]["MESSAGE"] in lines, lines
        assert self.journal(f"JUPYTERHUB_SESSION={session}")[0]["SYSLOG_FACILITY"] == "10"
        config = self.box.read(paths.CONFIG_FILE)
        self.box.write(paths.CONFIG_FILE, config.replace("[metrics]", '[metrics]\ntextfile = "/run/numbers.prom"'))
        assert self.box.run("systemctl", "is-active", "jupyterhub-openssh-metrics.timer").stdout == "active\n"
        self.box.run("systemctl", "start", "jupyterhub-openssh-metrics.service", timeout=120)
        assert re.search(
            r'(?m)^jupyterhub_openssh_logins_total\{.*outcome="granted".*\} [1-9]', self.box.read("/run/numbers.prom")
        )
        self.box.write(paths.CONFIG_FILE, config)
        self.box.path("/run/numbers.prom").unlink()

    def journal(self, *what):
        """Entries of the journal."""
        done = self.box.run("journalctl", "--output=json", "--no-pager", *what, check=False, timeout=120)
        return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]

    def install(self, package):
        """Install or upgrade; returns when sshd has been reloaded."""
        with self.reloaded():
            self.host.install(package)

    def configure(self):
        """Have dpkg finish what it could not."""
        with self.reloaded():
            self.box.run("dpkg", "--configure", "jupyterhub-openssh", timeout=300)

    @contextmanager
    def reloaded(self):
        """Waits at its end until sshd has been."""
        mark = self.host.syslog.mark()
        yield
        self.host.syslog.wait(r"Received SIGHUP; restarting", mark, 30)


def state(host):
    """What the host has on its disk, and its services' state."""
    units = host.box.run(
        "sh",
        "-c",
        "systemctl list-unit-files --no-legend --no-pager;"
        " systemctl list-units --failed --no-legend --plain --no-pager",
    ).stdout
    # Debian's own files below /usr are told by their sizes: an emulated processor reads them for a minute.
    return snapshot(host.box, sums=("/etc", "/var")), facts(host.box), sorted(units.splitlines())


def test_life(host, client, hub, package, newer):
    hub.start_server("alice")
    life = Life(host, client, hub, hub.token("alice"))
    bare = state(host)

    preseed(host.box, hub.url)
    life.install(package)
    assert answer(host.box) == hub.url
    fine, text = life.check()
    assert fine, text
    life.login().close_window()
    life.observed()

    with life.broken(paths.CONFIG_FILE, r"^url = ", "urll = ", r"config\.toml, line \d+, key `hub\.urll`"):
        life.refused()
        life.admin()
    with life.broken(paths.CONFIG_FILE, r"^url", "url", r"config\.toml.*can write", mode=0o666):
        life.refused()
    with life.broken(
        SSHD_CONFIG, r"^Include", "#Include", r"Include /etc/ssh/sshd_config\.d/\*\.conf", mend=life.configure
    ):
        # An upgrade in this state keeps hub users out, and sshd as it is.
        done = host.box.run(
            "dpkg",
            "--install",
            f"/run/tests/{newer.name}",
            check=False,
            timeout=300,
            env={"DEBIAN_FRONTEND": "noninteractive"},
        )
        assert done.returncode and "doesn't include" in done.stderr
        life.refused()
        life.admin()
    life.install(package)

    with life.login() as terminal:
        life.install(newer)
        assert terminal.run("echo unharmed", 60) == "unharmed\n"
        life.login().close_window()
        host.reload_sshd()
        assert terminal.run("echo unharmed", 60) == "unharmed\n"
        terminal.send("exit 5\r")
        terminal.wait_closed(60)
        assert terminal.exit_status() == 5
    host.wait_quiet(60)

    with life.login() as terminal:
        host.box.run("dpkg", "--purge", "jupyterhub-openssh", timeout=300)
        terminal.wait_closed(60)
    host.wait_quiet(60)
    purged = state(host)
    assert not difference(bare[0], purged[0]) and purged[1:] == bare[1:]
    life.admin()


def test_socket_activation(host, client, hub, package, newer):
    """With ssh.socket sshd runs only once somebody has come; installed, upgraded and reloaded all the same."""
    hub.start_server("alice")
    life = Life(host, client, hub, hub.token("alice"))
    box = host.box
    box.shell("systemctl --quiet disable --now ssh.service; systemctl --quiet enable --now ssh.socket")
    try:
        preseed(box, hub.url)
        host.install(package)
        assert box.run("systemctl", "is-active", "ssh.service", check=False).stdout != "active\n"
        with life.login() as terminal:
            life.install(newer)
            assert terminal.run("echo unharmed", 60) == "unharmed\n"
            life.login().close_window()
        host.wait_quiet(60)
    finally:
        box.run("dpkg", "--purge", "jupyterhub-openssh", check=False, timeout=300)
        box.shell("systemctl --quiet disable --now ssh.socket; systemctl --quiet enable --now ssh.service")
    wait_for(lambda: ":0016 " in box.read("/proc/net/tcp"), "sshd listens again", 60)
    life.admin()
