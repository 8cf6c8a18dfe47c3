"""Hub users get in only where sshd, by its own word, confines them; and see nothing of the host where it doesn't after all."""

import re
import signal

import paramiko
import pytest

from lib.actors.client import Refused
from lib.actors.keys import gateways
from lib.checks.package import rebuilt
from lib.sandbox.bastion import TESTS_DROP_IN
from lib.wait import wait_for

CONFIG = "/etc/ssh/sshd_config"
DROP_IN = "/etc/ssh/sshd_config.d/50-jupyterhub.conf"
INCLUDE = "Include /etc/ssh/sshd_config.d/*.conf"
#: Debian's line where an administrator may have put it; what sshd serves itself needs no program.
BELOW = f"UsePAM yes\nSubsystem sftp internal-sftp\nMatch User backup\n\tX11Forwarding no\n{INCLUDE}\n"
GLOBAL = f"{INCLUDE}\nUsePAM yes\nSubsystem sftp internal-sftp\n"
OUT_OF_REACH = (
    "/",
    "/etc/passwd",
    "/proc",
    "/proc/1/root",
    "/tmp",
    "/dev/shm",
    "/home",
    "/run/jupyterhub-openssh/jail",
    ".",
    "..",
)


def login(client, bastion, hub, user="alice", port=None):
    """Logs in by the method that is there without the Match block, too."""
    return client.password_login(bastion, user, hub.token(user), port=port)


def refused(bastion, client, hub, reason, port=None, typed="alice"):
    """Nobody gets in, and the log says why."""
    mark = bastion.syslog.mark()
    with pytest.raises(Refused):
        client.password_login(bastion, typed, hub.token("alice"), port=port)
    bastion.syslog.wait(rf"user=alice .*event=login outcome=unavailable by=token reason=.*{reason}", mark)
    # It has granted the token, and would wait for its claim for as long as a test waits for the end of everything. Told to
    # end, it gives the narrow token back.
    for gateway in gateways(bastion):
        gateway.kill(signal.SIGTERM)
    wait_for(lambda: not bastion.gateways(), "the gateway ends", 30)


def works(bastion, client, hub, port=None):
    """A session in the jail: the home's directory is there, and nothing of the host."""
    transport = login(client, bastion, hub, port=port)
    wait_for(bastion.jails, "the session is opened")
    transport.close()
    bastion.wait_quiet()


def test_an_include_below_a_match_block_is_not_installed_over(fresh_bastion, client, hub, package, tmp_path):
    bastion = fresh_bastion()
    # What is in it may not stand in a Match block.
    bastion.box.path(TESTS_DROP_IN).unlink()
    bastion.box.write(CONFIG, BELOW)
    with pytest.raises(RuntimeError) as failed:
        bastion.install(package)
    assert re.search(
        r'line 5 of /etc/ssh/sshd_config \("Include .*\) stands below line 3 \("Match User backup"\)', str(failed.value)
    )
    assert "Move line 5 of /etc/ssh/sshd_config above line 3" in str(failed.value)
    assert "jupyterhub" not in bastion.box.read("/etc/nsswitch.conf")
    bastion.reload_sshd()
    with client.admin_terminal(bastion) as terminal:
        terminal.prompt()

    # A relative name is as good.
    bastion.box.write(CONFIG, GLOBAL.replace("/etc/ssh/sshd_config.d", "sshd_config.d"))
    bastion.box.run("dpkg", "--configure", "jupyterhub-openssh", env={"DEBIAN_FRONTEND": "noninteractive"})
    bastion.configure(hub.url)
    works(bastion, client, hub)

    # Lost later: the file is enough, whatever the running sshd has read.
    for text, reason in (
        (BELOW, "Move line 5 of /etc/ssh/sshd_config above line 3"),
        (GLOBAL.replace("Include", "#Include"), "doesn't include /etc/ssh/sshd_config.d"),
        (f"Match all\n\tAllowTcpForwarding yes\n{GLOBAL}", "AllowTcpForwarding is yes, not no"),
        (f"{GLOBAL}NoSuchKeyword yes\n", "is not known: .*Bad configuration option: NoSuchKeyword"),
    ):
        bastion.box.write(CONFIG, text)
        refused(bastion, client, hub, reason)
    bastion.box.write(CONFIG, BELOW)
    with pytest.raises(RuntimeError, match="stands below line 3"):
        bastion.install(rebuilt(package, tmp_path, "+1"))
    assert "jupyterhub" not in bastion.box.read("/etc/nsswitch.conf")


@pytest.fixture
def rewritten(bastion):
    """The shared bastion with a configuration that is written whole; as before afterwards."""
    before = {name: bastion.box.read(name) for name in (CONFIG, TESTS_DROP_IN)}
    bastion.box.path(TESTS_DROP_IN).unlink()

    def write(text):
        bastion.box.write(CONFIG, before[TESTS_DROP_IN] + text)

    yield write
    for name, text in before.items():
        bastion.box.write(name, text)
    bastion.reload_sshd()


def test_an_sshd_that_does_not_confine_shows_nothing(bastion, client, hub, rewritten):
    """The running sshd has read what the files no longer say, which nobody can ask it."""
    rewritten(BELOW)
    bastion.reload_sshd()
    refused(bastion, client, hub, "stands below line \\d+ .*Match User backup")
    rewritten(GLOBAL)
    transport = login(client, bastion, hub)
    files = paramiko.SFTPClient.from_transport(transport)
    # It is sshd's own server, outside the jail.
    assert not bastion.sftp_servers() and not bastion.sessions()
    for path in OUT_OF_REACH:
        for look in (files.listdir, files.open):
            with pytest.raises(OSError):
                look(path)
    with pytest.raises(OSError):
        files.mkdir("/tmp/mine")
    channel = transport.open_session()
    channel.exec_command("/bin/cat /etc/passwd")
    assert channel.makefile().read() == b"" and channel.recv_exit_status() != 0
    with pytest.raises(paramiko.ChannelException):
        transport.open_channel(
            "direct-tcpip", (hub.url.split("/")[2].split(":")[0], 8000), ("127.0.0.1", 1), timeout=10
        )


def test_another_sshd_is_asked_by_its_own_options(bastion, client, hub):
    box = bastion.box
    other = "HostKey /etc/ssh/ssh_host_ed25519_key\nPidFile none\nUsePAM yes\nSubsystem sftp internal-sftp\n"
    for text, reason in ((other, "/etc/ssh/second doesn't include"), (f"Include {DROP_IN}\nMatch all\n{other}", None)):
        box.write("/etc/ssh/second", text)
        mark = bastion.syslog.mark()
        second = box.start("/usr/sbin/sshd", "-D", "-p", "2200", "-f", "/etc/ssh/second", "-o", "UseDNS=no")
        try:
            bastion.syslog.wait(r"Server listening on 0\.0\.0\.0 port 2200", mark)
            if reason:
                refused(bastion, client, hub, reason, port=2200)
            else:
                works(bastion, client, hub, port=2200)
        finally:
            client.close_all()
            second.kill()
    box.path("/etc/ssh/second").unlink()


def test_an_answer_is_kept_until_something_changes(bastion, client, hub):
    entries = bastion.box.path("/run/jupyterhub-openssh/confined")
    drop_in = bastion.box.path("/etc/ssh/sshd_config.d/10-open.conf")

    def kept():
        return {entry: entry.stat().st_mtime_ns for entry in entries.iterdir()} if entries.exists() else {}

    def login_is_kept():
        # Not while the configuration is younger than two seconds.
        works(bastion, client, hub)
        return kept()

    # Answers about other logins may be there from earlier on.
    for entry in kept():
        entry.unlink()
    wait_for(login_is_kept, "the answer is kept", 30)
    assert entries.stat().st_mode & 0o777 == 0o700
    before = kept()
    works(bastion, client, hub)
    assert kept() == before, "it was not asked again"
    # The second holds for who types the name with a capital, as sshd compares what was typed.
    for typed in ("alice", "Alice"):
        drop_in.write_text(f"Match User {typed}\n\tForceCommand none\n")
        try:
            refused(bastion, client, hub, "ForceCommand is none", typed=typed)
        finally:
            drop_in.unlink()
