"""Homes that cannot be had: sftp says why and fails, a terminal works, and an empty home is never shown instead."""

import os
import re
import stat

import pytest

from lib.checks import expect
from lib.checks.checkcases import look
from lib.checks.files import local_home
from lib.checks.place import Place, sftp
from lib.sandbox.storage import BY_HOME, BY_NAME, FIXED

#: What is in the home's place: (how it is made, kind of fault).
FAULTS = {
    "missing": (lambda top: None, "missing"),
    "owned-by-root": (lambda top: top.mkdir("alice", owner=(0, 0)), "not-theirs"),
    "owned-by-another": (lambda top: top.mkdir("alice", owner=(4242, 4242)), "not-theirs"),
    "file": (lambda top: top.write("alice", "x", owner=(1000, 100)), "not-theirs"),
    "symlink": (
        lambda top: (top.mkdir("elsewhere", owner=(1000, 100)), top.symlink("elsewhere", "alice")),
        "not-theirs",
    ),
    "symlink-to-etc": (lambda top: top.symlink("/etc", "alice"), "not-theirs"),
    "dangling-symlink": (lambda top: top.symlink("nowhere", "alice"), "not-theirs"),
    "fifo": (
        lambda top: (top.run("mkfifo", top.at("alice")), top.run("chown", "1000:100", top.at("alice"))),
        "not-theirs",
    ),
    "socket-or-device": (lambda top: top.run("mknod", top.at("alice"), "c", "1", "5"), "not-theirs"),
}


pytestmark = pytest.mark.only("bookworm")


@pytest.fixture
def shared_bastion(homes_bastion):
    return homes_bastion


@pytest.fixture
def place(bastion, hub, client, scratch):
    """Alice's place without a home; what a test leaves in /srv/homes is removed."""
    top = local_home(bastion.box.path("/srv/homes"))
    yield Place(
        client, bastion, "alice", hub.token("alice"), local_home(top.at("alice")), (1000, 100), "/home/alice", scratch
    )
    top.remove(*top.names())


def refused(place, kind, mark):
    """sftp fails with two lines that say why, and the log names the reason once; returns what sftp said."""
    message, log = expect.NO_FILES[kind]
    said = sftp(place, "put /etc/hostname x", "ls", check=False)
    assert said.returncode, said
    assert re.search(message, said.stderr, re.I | re.S), f"the user was shown: {said.stderr}"
    if log:
        place.bastion.syslog.wait(r"user=alice .*" + log, mark)
    return said.stderr


@pytest.mark.parametrize("fault", FAULTS)
def test_sftp_says_why_and_a_terminal_works(bastion, hub, client, alice, place, fault):
    make, kind = FAULTS[fault]
    top = local_home(bastion.box.path("/srv/homes"))
    with bastion.configured(hub.url, FIXED):
        make(top)
        before = top.tree()
        mark = bastion.syslog.mark()
        refused(place, kind, mark)
        with client.terminal(bastion, "alice", alice.token) as terminal:
            terminal.prompt()
            assert terminal.run("echo works") == "works\n"
            (session,) = bastion.sessions()
            home = os.stat(session.path("root/home/alice"), follow_symlinks=False)
            assert stat.S_ISDIR(home.st_mode) and home.st_uid == 0 and stat.S_IMODE(home.st_mode) == 0o711, home
            assert os.listdir(session.path("root/home/alice")) == []
        assert top.tree() == before, "something was made or changed"


@pytest.mark.parametrize("rule", ["hash", "home"])
def test_an_owner_that_is_not_the_sessions(bastion, hub, alice, place, rule):
    """Computed uids: a home of another uid is somebody else's. By home: root's is nobody's."""
    top = local_home(bastion.box.path("/srv/homes"))
    top.mkdir("alice", owner=(5001, 5001) if rule == "hash" else (0, 0))
    with bastion.configured(hub.url, BY_NAME if rule == "hash" else BY_HOME):
        mark = bastion.syslog.mark()
        refused(place, "not-theirs", mark)
        assert top.names("alice") == []


def test_without_homes(bastion, hub, alice, place):
    """No [homes] at all: her own server serves her files, and this host is no part of it; see test_commands_files.py."""
    top = local_home(bastion.box.path("/srv/homes"))
    with bastion.configured(hub.url):
        said = sftp(place, "pwd")
        assert "working directory: /mnt/home/alice\n" in said.stdout and top.names() == [], said


@pytest.mark.parametrize("backend", ["auto", "homes"])
def test_homes_that_fail_are_not_replaced(bastion, hub, alice, place, backend):
    """By those of the user's server: a client would take the one for the other, and delete or overwrite."""
    with bastion.configured(hub.url, FIXED + f'[files]\nbackend = "{backend}"\n'):
        refused(place, "missing", bastion.syslog.mark())


def test_a_home_that_cannot_be_created(bastion, hub, client, alice, place):
    """The directory of homes is not root's alone: whoever can write there could have put anything in its place."""
    top = local_home(bastion.box.path("/srv"))
    top.run("chmod", "777", top.at("homes"))
    try:
        with bastion.configured(hub.url, FIXED.replace("[accounts]", 'missing = "create"\n[accounts]')):
            refused(place, "not-created", bastion.syslog.mark())
            with client.terminal(bastion, "alice", alice.token) as terminal:
                terminal.prompt()
        assert top.names("homes") == []
    finally:
        top.run("chmod", "755", top.at("homes"))


def test_a_root_that_is_missing(bastion, hub, client, alice, place):
    """The file system of the homes is not mounted: nothing is created on what is beneath it, even if that is asked for."""
    text = FIXED.replace("/srv/homes", "/srv/not-mounted").replace("[accounts]", 'missing = "create"\n[accounts]')
    with bastion.configured(hub.url, text):
        refused(place, "failed", bastion.syslog.mark())
        with client.terminal(bastion, "alice", alice.token) as terminal:
            terminal.prompt()
    assert not bastion.box.path("/srv/not-mounted").exists()


def test_a_home_that_its_owner_has_closed(bastion, hub, place, alice):
    """Mode 000: sftp would start in / and look for files there."""
    top = local_home(bastion.box.path("/srv/homes"))
    with bastion.configured(hub.url, FIXED):
        top.mkdir("alice", mode=0, owner=(1000, 100))
        refused(place, "closed", bastion.syslog.mark())


def test_programs_are_told_too(bastion, hub, place, alice):
    """Not only OpenSSH's sftp: the reason is in the answers of the protocol, where graphical clients look for it."""
    with bastion.configured(hub.url, FIXED), place.paramiko() as files:
        for ask in (lambda: files.listdir("."), lambda: files.open("x", "w"), lambda: files.stat("/")):
            with pytest.raises(OSError, match=expect.NO_FILES["missing"][0]):
                ask()


def test_synchronising_clients_lose_nothing(bastion, hub, place, alice):
    """The worst that could happen: an empty home in place of the true one, and a client that deletes its copies."""
    with bastion.configured(hub.url, FIXED), place.scratch() as here:
        (here / "precious").write_text("data")
        script = (
            f"set cmd:fail-exit yes\nset net:max-retries 1\nopen -u '{place.user},{place.token}' sftp://{place.host}\n"
            f"mirror --delete . {here}\n"
        )
        (here.parent / "script").write_text(
            'set sftp:connect-program "' + " ".join(place.ssh_words()) + ' -a -x"\n' + script
        )
        done = place.run(
            place.client.network.client.command("lftp", "--norc", "-f", here.parent / "script"),
            check=False,
            env={"SSH_ASKPASS_REQUIRE": "never"},
        )
        (here.parent / "script").unlink()
        assert done.returncode and (here / "precious").read_text() == "data", done


def test_two_names_with_one_slug(bastion, hub, client, make_place):
    """The home is the first one's: the second has none."""
    first, second = "a_a_a.a_a@a@a.a@a_a_a.a", "a_a_a_a.a_a_a.a@a@a_a_a"
    slug = "-".join("a" * 12) + "---470a4c00"
    config = BY_HOME.replace("[accounts]", 'template = "{slug}"\n[accounts]')
    with bastion.configured(hub.url, config):
        places = [make_place(user, 1000, 100, path=slug) for user in (first, second)]
        try:
            sftp(places[0], "mkdir mine")
            mark = bastion.syslog.mark()
            said = sftp(places[1], "ls", check=False)
            assert said.returncode and re.search(expect.NO_FILES["not-theirs"][0], said.stderr, re.I | re.S), said
            bastion.syslog.wait(rf'is that of \\*"{re.escape(first)}\\*", who came first', mark)
            assert "mine" in sftp(places[0], "ls").stdout
            found = look(bastion, "--user", second).find("user", "both names have one slug", "error")
            (claim,) = bastion.box.path("/var/lib/jupyterhub-openssh/homes").iterdir()
            assert str(claim.name) in found["what"] and claim.read_text() == f"{first}\n"
        finally:
            bastion.box.run("rm", "-rf", "/var/lib/jupyterhub-openssh/homes")
