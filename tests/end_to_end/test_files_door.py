"""The files-only door: the example drop-in as documented. Port 2222 serves sftp and nothing else, port 22 everything."""

import contextlib
import shutil

import paramiko
import pytest

from lib.checks import filechecks
from lib.checks.files import local_home
from lib.checks.place import sftp

EXAMPLE = "/usr/share/doc/jupyterhub-openssh/examples/49-jupyterhub-files.conf"
PORT = 2222


@pytest.fixture
def shared_bastion(homes_bastion):
    return homes_bastion


@pytest.fixture
def door(bastion, place):
    """Dora's place through the door."""
    target = "/etc/ssh/sshd_config.d/49-jupyterhub-files.conf"
    shutil.copy(bastion.box.path(EXAMPLE), bastion.box.path(target))
    try:
        bastion.reload_sshd()
        place.port = PORT
        yield place
    finally:
        bastion.box.path(target).unlink()
        bastion.reload_sshd()


def test_files_are_served(door):
    for check in (
        filechecks.check_put_and_get,
        filechecks.check_awkward_names,
        filechecks.check_scp,
        filechecks.check_ownership,
        filechecks.check_sshfs,
    ):
        check(door)


def test_no_program_of_ours_serves_them(bastion, door):
    with door.paramiko() as files:
        assert files.listdir() == []
        assert not bastion.sftp_servers() and not bastion.sessions()
        assert len(bastion.gateways()) == len(bastion.jails()) == 1


def test_terminals_and_commands_are_refused(bastion, client, door):
    for ask in (
        lambda channel: channel.exec_command("id"),
        lambda channel: channel.exec_command("scp -t ."),
        lambda channel: (channel.get_pty(), channel.invoke_shell()),
        lambda channel: channel.invoke_shell(),
    ):
        transport = door.login()
        channel = transport.open_session()
        channel.settimeout(20)
        out = b""
        with contextlib.suppress(paramiko.SSHException):  # sshd gives no tty
            ask(channel)
            channel.shutdown_write()
            out = b"".join(iter(lambda: channel.recv(4096), b""))
            channel.recv_exit_status()
        assert b"uid=" not in out and b"$ " not in out, out
        transport.close()
    assert door.home.names() == []


def test_the_jail_is_the_same(bastion, door):
    with door.paramiko() as files:
        assert files.normalize(".") == "/home/dora" and files.listdir("/home") == ["dora"]
        for path in ("/proc", "/etc/shadow", "/home/localadmin", "/srv"):
            with pytest.raises(OSError):
                files.stat(path)


def test_transfers_are_logged(bastion, door):
    mark = bastion.syslog.mark()
    with door.scratch() as here:
        (here / "file").write_bytes(b"x" * 123)
        sftp(door, f"put {here}/file file")
    bastion.syslog.wait(
        r'session=\S+ user=dora peer=10\.77\.1\.\d+ .*close \\"/home/dora/file\\" bytes read 0 written 123', mark
    )


def test_the_other_port_serves_everything(bastion, client, hub, alice, door):
    door.port = None
    filechecks.check_put_and_get(door)
    assert hub.idle("dora")
    top = local_home(bastion.box.path("/srv/homes"))
    top.mkdir("alice", owner=(1000, 100))
    try:
        with client.terminal(bastion, "alice", alice.token) as terminal:
            terminal.prompt()
    finally:
        top.remove("alice")


def test_the_administrator_at_the_door(bastion, client, door):
    """Nothing of it concerns local accounts."""
    transport = client.password_login(bastion, bastion.ADMIN, bastion.ADMIN_PASSWORD, port=PORT)
    channel = transport.open_session()
    channel.exec_command("id -un")
    assert channel.makefile().read() == b"localadmin\n"
    transport.close()


def test_without_a_home_the_door_is_closed(bastion, door):
    """No helper is there to say why; the home must not look empty and writable all the same."""
    door.home.run("chown", "0:0", door.home.path)
    before = local_home(bastion.box.path("/srv/homes")).tree()
    said = sftp(door, "put /etc/hostname x", check=False)
    assert said.returncode
    assert local_home(bastion.box.path("/srv/homes")).tree() == before
