"""The question for the hub's address at installation, and whose /etc/jupyterhub-openssh/config.toml is."""

import re

import pexpect
import pytest

from lib import paths
from lib.actors.client import Refused
from lib.checks import expect
from lib.checks.package import answer, preseed, rebuilt, with_conffile, with_init
from lib.sandbox.namespace import die_with_parent

TEMPLATE = "/usr/share/jupyterhub-openssh/config.toml"
#: Configurations of administrators who don't follow the file as it comes.
BY_HAND = "# ours\n[terminal]\nmode = \"plain\" # see ticket 7\n\n[hub]\n   url = '{url}'\n"


def reconfigure(bastion):
    """dpkg-reconfigure, with nobody there to answer."""
    return bastion.box.run("dpkg-reconfigure", "--frontend=noninteractive", "jupyterhub-openssh", timeout=120)


def interview(bastion, *command):
    """A command that asks on a terminal, as pexpect's child; questions are those of debconf's plainest frontend."""
    words = bastion.box.command(*command, env={"DEBIAN_FRONTEND": "teletype", "TERM": "dumb"})
    return pexpect.spawn(
        words[0], words[1:], timeout=60, encoding="utf-8", dimensions=(50, 160), preexec_fn=die_with_parent
    )


def test_installed_with_an_answer(fresh_bastion, client, hub, package):
    """The two minutes of the README: the answer is all that a login needs."""
    bastion = fresh_bastion()
    with_init(bastion.box)
    preseed(bastion.box, hub.url + "/")
    done = bastion.install(package)
    assert (
        "jupyterhub-openssh: to see whether all is in order, run: jupyterhub-openssh check\n"
        in done.stdout + done.stderr
    )
    template, text = bastion.box.read(TEMPLATE), bastion.box.read(paths.CONFIG_FILE)
    assert text == re.sub(r'(?m)^# url = "https://hub\.example\.org"$', f'url = "{hub.url}"', template)
    status = bastion.box.path(paths.CONFIG_FILE).stat()
    assert (status.st_mode & 0o7777, status.st_uid, status.st_gid) == (0o644, 0, 0)
    hub.start_server("alice")
    with client.terminal(bastion, "alice", hub.token("alice")) as terminal:
        terminal.prompt()


@pytest.mark.only("trixie")
def test_an_answer_that_is_no_address(fresh_bastion, client, hub, package):
    """Nobody is there to correct it: told, left unset, and the package is installed all the same."""
    bastion = fresh_bastion()
    with_init(bastion.box)
    preseed(bastion.box, "https://hub.example.org/hub/token")
    done = bastion.install(package)
    assert re.search(
        r"address of one of the hub's pages.*\n.*Leave out /hub.*\n.*was not set.*Set hub\.url in /etc/",
        done.stdout + done.stderr,
    ), done.stdout + done.stderr
    assert "hub.url is set in /etc/jupyterhub-openssh/config.toml. Set it there, then run:" in done.stdout + done.stderr
    assert bastion.box.run("dpkg-query", "-W", "-f", "${db:Status-Abbrev}", "jupyterhub-openssh").stdout == "ii "
    assert bastion.box.read(paths.CONFIG_FILE) == bastion.box.read(TEMPLATE)
    mark = bastion.syslog.mark()
    with pytest.raises(Refused):
        client.login(bastion, "alice", hub.token("alice"))
    bastion.syslog.wait(expect.REFUSALS["not-configured"][1], mark)


@pytest.mark.only("bookworm")
def test_asked_until_it_is_an_address(fresh_bastion, package, tmp_path):
    bastion = fresh_bastion(package)
    assert not answer(bastion.box)
    child = interview(bastion, "dpkg-reconfigure", "jupyterhub-openssh")
    child.expect(r"Address \(URL\) of the JupyterHub: ")
    child.sendline("hub.test")
    child.expect(r"cannot be the address of a hub.*does not start with https://")
    child.expect(r"Address \(URL\) of the JupyterHub: ")
    child.sendline("https://hub.test/jupyter/")
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 0
    assert '\nurl = "https://hub.test/jupyter"\n' in bastion.box.read(paths.CONFIG_FILE)

    # What is shown is what the file says, whoever wrote it; no answer leaves it as it is.
    by_hand = BY_HAND.format(url="http://by.hand")
    bastion.box.write(paths.CONFIG_FILE, by_hand)
    reconfigure(bastion)
    assert answer(bastion.box) == "http://by.hand"
    for typed, text in (("", by_hand), ("http://other", by_hand.replace("'http://by.hand'", '"http://other"'))):
        child = interview(bastion, "dpkg-reconfigure", "jupyterhub-openssh")
        child.expect(r"Address \(URL\) of the JupyterHub: ")
        child.sendline(typed)
        child.expect(pexpect.EOF)
        child.close()
        assert child.exitstatus == 0 and bastion.box.read(paths.CONFIG_FILE) == text


@pytest.mark.only("trixie")
def test_what_was_written_by_hand_stays(fresh_bastion, hub, package, tmp_path):
    """Through the installation, upgrades and reconfigurations; its removal, too."""
    bastion = fresh_bastion()
    # Put there before the package by whatever manages the host.
    bastion.box.write(paths.CONFIG_FILE, "[homes]\nroot = '/srv/homes'")
    preseed(bastion.box, hub.url)
    bastion.install(rebuilt(package, tmp_path, "~1"))
    assert bastion.box.read(paths.CONFIG_FILE) == f"[homes]\nroot = '/srv/homes'\n\n[hub]\nurl = \"{hub.url}\"\n"
    texts = (BY_HAND.format(url="http://by.hand"), "[hub]\n# closed for now\n", "[hub]\nnonsense = 1\n", None)
    for number, text in enumerate(texts, 1):
        if text is None:
            bastion.box.path(paths.CONFIG_FILE).unlink()
        else:
            bastion.box.write(paths.CONFIG_FILE, text, 0o600)
        before = text and bastion.box.path(paths.CONFIG_FILE).stat()
        bastion.install(rebuilt(package, tmp_path, f"+{number}"))
        if text is None:
            assert not bastion.box.path(paths.CONFIG_FILE).exists()
            assert (
                "/usr/share/jupyterhub-openssh/config.toml"
                in bastion.box.run(paths.PROGRAM, "check", check=False).stdout
            )
            continue
        reconfigure(bastion)
        assert bastion.box.read(paths.CONFIG_FILE) == text
        after = bastion.box.path(paths.CONFIG_FILE).stat()
        assert (after.st_mode, after.st_ino, after.st_mtime_ns) == (before.st_mode, before.st_ino, before.st_mtime_ns)


@pytest.mark.only("bookworm")
def test_from_a_conffile(fresh_bastion, hub, package, tmp_path):
    """Before there was a question the configuration was a conffile: no upgrade asks about it, or changes it."""
    bastion = fresh_bastion(rebuilt(package, tmp_path, "~1", with_conffile), hub.url)
    bastion.box.write(paths.CONFIG_FILE, BY_HAND.format(url=hub.url))
    for _ in range(2):
        bastion.install(package)
        reconfigure(bastion)
        assert bastion.box.read(paths.CONFIG_FILE) == BY_HAND.format(url=hub.url)
        assert answer(bastion.box) == hub.url
    bastion.apt("purge", "jupyterhub-openssh")
    assert not bastion.box.path("/etc/jupyterhub-openssh").exists()
