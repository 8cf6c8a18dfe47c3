"""Sessions that are open while the package is upgraded, removed or purged under them."""

import hashlib
import threading

import pytest

from lib import paths
from lib.actors.client import Refused
from lib.checks.files import local_home
from lib.checks.package import rebuilt, with_init
from lib.sandbox.storage import BY_HOME, Ext4
from lib.wait import wait_for


class Flow:
    """A command whose output flows, and an upload that goes on, until `stop`; both by threads of the client's."""

    def __init__(self, transport, marker):
        self.marker = marker
        self.channel = transport.open_session()
        self.channel.exec_command(f"i=0; until [ -e {marker} ]; do i=$((i+1)); echo $i; sleep 0.01; done; exit 7")
        self.output = b""
        self.sftp = transport.open_sftp_client()
        self.sent, self.hash = 0, hashlib.sha256()
        self._stop = threading.Event()
        self.failures = []
        self._threads = [
            threading.Thread(target=self._try, args=(work,), daemon=True) for work in (self._read, self._write)
        ]
        for thread in self._threads:
            thread.start()

    def _try(self, work):
        try:
            work()
        except Exception as error:  # noqa: BLE001 (told by `finish`)
            self.failures.append(error)

    def _read(self):
        while True:
            piece = self.channel.recv(65536)
            if not piece:
                return
            self.output += piece

    def _write(self):
        with self.sftp.open("upload", "wb") as file:
            while not self._stop.is_set():
                piece = f"{self.sent}\n".encode() * 1000
                file.write(piece)
                self.hash.update(piece)
                self.sent += len(piece)
                self._stop.wait(0.01)

    def moves(self):
        """Wait until both have gone on from where they are now."""
        lines, sent = self.output.count(b"\n"), self.sent
        wait_for(
            lambda: self.output.count(b"\n") > lines + 5 and self.sent > sent + 50_000 or self.failures,
            lambda: f"output and upload go on: {len(self.output)}, {self.sent}",
            30,
        )
        assert not self.failures, self.failures

    def finish(self, terminal):
        """End both; every byte has arrived, and the exit status is the command's."""
        self._stop.set()
        terminal.run(f"touch {self.marker}")
        for thread in self._threads:
            thread.join(30)
        assert not self.failures, self.failures
        lines = self.output.split()
        assert lines == [b"%d" % number for number in range(1, len(lines) + 1)]
        assert self.channel.recv_exit_status() == 7
        with self.sftp.open("upload", "rb") as file:
            assert hashlib.sha256(file.read()).hexdigest() == self.hash.hexdigest()
        self.sftp.remove("upload")
        terminal.run(f"rm {self.marker}")


def end(terminal, flow):
    """End the flow, then the terminal's shell: its exit status arrives, too."""
    flow.finish(terminal)
    terminal.send("exit 5\r")
    terminal.wait_closed()
    assert terminal.exit_status() == 5


def program_file(bastion):
    """(device, inode) of the installed program."""
    status = bastion.box.path(paths.PROGRAM).stat()
    return status.st_dev, status.st_ino


def served_here(bastion, hub):
    """Alice's files are served by this host from a home of its own."""
    Ext4(bastion.box, "/srv/homes", 64 << 20)
    local_home(bastion.box.path("/srv/homes/alice")).mkdir(mode=0o700, owner=(1000, 100))
    bastion.configure(hub.url, BY_HOME)


@pytest.mark.parametrize("files", ["server", "homes"])
def test_an_upgrade_with_sessions_open(fresh_bastion, client, hub, package, tmp_path, alice, files):
    """They go on, byte for byte, while sshd is reloaded; who logs in then gets the new programs."""
    bastion = fresh_bastion(rebuilt(package, tmp_path, "~1"), hub.url)
    with_init(bastion.box)
    if files == "homes":
        served_here(bastion, hub)
    with client.terminal(bastion, "alice", alice.token) as terminal:
        terminal.prompt()
        flow = Flow(terminal.transport, f"stop-{bastion.suite}-{files}")
        flow.moves()
        before = {one.pid for one in bastion.gateways()}
        old = program_file(bastion)
        mark = bastion.syslog.mark()
        configuration = bastion.box.read(paths.CONFIG_FILE)
        bastion.install(package)
        bastion.syslog.wait(r"Received SIGHUP; restarting", mark)
        assert bastion.box.read(paths.CONFIG_FILE) == configuration
        flow.moves()
        assert terminal.run("echo unharmed") == "unharmed\n"
        with client.terminal(bastion, "alice", alice.token) as another:
            another.prompt()
            assert program_file(bastion) != old
            newer = [one for one in bastion.gateways() if one.pid not in before]
            assert newer and all(one.file() == program_file(bastion) for one in newer)
            # A further session of the old connection, after the upgrade.
            channel = terminal.transport.open_session()
            channel.exec_command("echo more; exit 3")
            assert channel.makefile().read() == b"more\n" and channel.recv_exit_status() == 3
        end(terminal, flow)
    bastion.wait_quiet()


def test_a_removal_with_sessions_open(fresh_bastion, client, hub, package, alice):
    """Who is in stays until the end of the session, and nobody new comes in."""
    bastion = fresh_bastion(package, hub.url)
    with client.terminal(bastion, "alice", alice.token) as terminal:
        terminal.prompt()
        flow = Flow(terminal.transport, f"stop-{bastion.suite}-removal")
        flow.moves()
        bastion.apt("remove", "jupyterhub-openssh")
        flow.moves()
        with pytest.raises(Refused):
            client.password_login(bastion, "alice", alice.token)
        end(terminal, flow)
    bastion.wait_quiet()


def test_a_purge_with_sessions_open(fresh_bastion, client, hub, package, alice):
    """It ends them, and gives back what they had of the user's server."""
    bastion = fresh_bastion(package, hub.url)
    with client.terminal(bastion, "alice", alice.token) as terminal:
        terminal.prompt()
        done = bastion.apt("purge", "jupyterhub-openssh")
        terminal.wait_closed()
        bastion.wait_quiet()
        assert "jupyterhub-openssh: could not" not in done.stderr, done.stderr
    alice.no_terminals()
    assert "_jupyterhub-openssh" not in bastion.box.read("/etc/passwd")
    with client.admin_terminal(bastion) as admin:
        admin.prompt()
