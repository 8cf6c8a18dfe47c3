"""What the bastion's log says about transfers: who, which file, how many bytes; and that nobody writes it but us."""

import re

import paramiko
import pytest

from lib.checks.place import sftp
from lib.sandbox.storage import BY_HOME

#: In each line of a session.
WHO = r'session=\S+ user=dora peer=10\.77\.1\.\d+ event=transfer program=sftp\S* message="'


@pytest.fixture
def shared_bastion(homes_bastion):
    return homes_bastion


def said(text):
    """A pattern for a line with this text, whose quotes are escaped there."""
    return WHO + text.replace('"', r'\\"')


def lines(bastion, mark):
    """What the gateways logged about files."""
    return [entry.text for entry in bastion.syslog.since(mark) if re.search(WHO, entry.text)]


def test_each_transfer(bastion, place):
    mark = bastion.syslog.mark()
    with place.scratch() as here:
        (here / "file").write_bytes(b"x" * 12345)
        sftp(
            place,
            f"put {here}/file file",
            f"get file {here}/back",
            "rename file moved",
            "mkdir folder",
            "rmdir folder",
            "ln -s moved link",
            "rm moved",
        )
    for line in (
        r'open "/home/dora/file" flags WRITE,CREATE,TRUNCATE mode 0644',
        r'close "/home/dora/file" bytes read 0 written 12345',
        r'open "/home/dora/file" flags READ mode 0\d+',
        r'close "/home/dora/file" bytes read 12345 written 0',
        r'(posix-)?rename old "/home/dora/file" new "/home/dora/moved"',
        r'mkdir name "/home/dora/folder"',
        r'rmdir name "/home/dora/folder"',
        r'remove name "/home/dora/moved"',
        r"session closed for local user",
    ):
        bastion.syslog.wait(said(line), mark)
    sessions = {re.search(r"session=(\S+)", line)[1] for line in lines(bastion, mark)}
    assert len(sessions) == 1, sessions


def test_each_session_has_a_name_of_its_own(bastion, place):
    mark = bastion.syslog.mark()
    for _ in range(2):
        sftp(place, "ls")
    bastion.syslog.wait(WHO + "session closed", mark)
    bastion.wait_quiet()
    assert len({re.search(r"session=(\S+)", line)[1] for line in lines(bastion, mark)}) == 2


def test_every_line_of_many(bastion, place):
    """500 files in one go: nothing is lost, to the last line before the gateway ends."""
    mark = bastion.syslog.mark()
    with place.scratch() as here:
        (here / "many").mkdir()
        for number in range(500):
            (here / f"many/{number}").write_text("x")
        sftp(place, f"put -r {here}/many many")
    bastion.wait_quiet()
    written = [
        line
        for line in lines(bastion, mark)
        if re.search(said(r'close "/home/dora/many/\d+" bytes read 0 written 1') + '"$', line)
    ]
    assert len(written) == 500
    assert "session closed" in lines(bastion, mark)[-1]


def sshd_dies(bastion, transport):
    """Every process of the connection's sshd, at once."""
    for one in bastion.box.processes():
        if one.name.startswith("sshd") and one.pid != bastion.sshd.pid:
            one.kill()


@pytest.mark.parametrize("end", [lambda bastion, transport: transport.sock.close(), sshd_dies], ids=["client", "sshd"])
def test_what_was_open_when_the_connection_broke(bastion, place, end):
    """An interrupted transfer is the one that somebody will ask about."""
    mark = bastion.syslog.mark()
    transport = place.login()
    file = paramiko.SFTPClient.from_transport(transport).open("/home/dora/half", "w")
    file.write(b"x" * 1000)
    file.flush()
    end(bastion, transport)
    bastion.syslog.wait(said(r'forced close "/home/dora/half" bytes read 0 written 1000'), mark)
    bastion.wait_quiet()


@pytest.mark.parametrize(
    "name",
    [
        "two\nlines",
        'forged\nsession=1 user=bob peer=10.77.1.9 event=transfer program=sftp message=remove name "bob"',
        "esc\x1b[2Jcr\r",
        "tab\tbell\x07",
        "é\u202e大",
        'a" flags READ',
        "nul\\0",
        "%n%s" * 20,
    ],
    ids=range(8),
)
def test_names_cannot_forge_lines(bastion, place, name):
    mark = bastion.syslog.mark()
    with place.paramiko() as files:
        files.open(name, "w").close()
        files.remove(name)
    bastion.syslog.wait(WHO + "remove name", mark)
    for entry in bastion.syslog.since(mark):
        assert not re.search(r"[\x00-\x1f\x7f]", entry.text), entry.raw
        # What is logged by us is named as ours by sshd's and the gateway's pids; a name is inside of the line.
        assert not re.search(r"^\S*session=1 ", entry.text), entry.raw
        assert not re.match(r"(?i)user=bob", entry.text)


def test_log_levels(bastion, hub, place):
    with bastion.configured(hub.url, BY_HOME + '[files]\nlog_level = "ERROR"\n'):
        mark = bastion.syslog.mark()
        sftp(place, "mkdir one")
        bastion.wait_quiet()
        assert not lines(bastion, mark)
    with bastion.configured(hub.url, BY_HOME + '[files]\nlog_level = "VERBOSE"\n'):
        mark = bastion.syslog.mark()
        sftp(place, "-rm missing")
        bastion.syslog.wait(WHO + r"sent status No such file", mark)


def test_the_users_of_log_sockets_cannot_flood(bastion, place):
    """/dev/log of a jail is no way into the bastion's own: it is the gateway's, and sftp cannot open it."""
    with place.paramiko() as files:
        with pytest.raises(OSError):
            files.open("/dev/log", "w")
        with pytest.raises(OSError):
            files.remove("/dev/log")
