"""The package as apt installs, configures, upgrades and removes it."""

import re
import shutil
import subprocess

import pytest

from lib import paths
from lib.actors.client import Refused
from lib.checks import expect
from lib.checks.package import difference, facts, rebuilt, snapshot


def logins_work(bastion, client):
    """The administrator's logins are as ever."""
    with client.admin_terminal(bastion) as terminal:
        terminal.prompt()
        assert terminal.run("id -un; sudo -n id -u 2>&1 | tail -n1").startswith("localadmin\n")


def test_installed_but_not_configured(fresh_bastion, client, hub, package):
    bastion = fresh_bastion()
    done = bastion.install(package)
    # What is left to do is the last that is said.
    assert [line for line in (done.stdout + done.stderr).splitlines() if line.startswith("jupyterhub-openssh: ")][
        -1
    ] == (
        "jupyterhub-openssh: hub users stay out until hub.url is set in /etc/jupyterhub-openssh/config.toml. "
        "Set it there, then run: jupyterhub-openssh check"
    )
    bastion.reload_sshd()
    logins_work(bastion, client)
    mark = bastion.syslog.mark()
    with pytest.raises(Refused):
        client.login(bastion, "alice", hub.token("alice"))
    bastion.syslog.wait(expect.REFUSALS["not-configured"][1], mark)


def test_configured_by_one_key(fresh_bastion, client, hub, package):
    """The two minutes of the README: set hub.url in the file as it comes, reload sshd, log in."""
    bastion = fresh_bastion(package)
    text = bastion.box.read(paths.CONFIG_FILE)
    changed, count = re.subn(r"(?m)^#?\s*url\s*=.*$", f'url = "{hub.url}"', text, count=1)
    assert count, "the file as it comes has no line for hub.url"
    if not re.search(r"(?m)^\[hub\]", changed):
        changed = re.sub(r"(?m)^#\s*\[hub\]", "[hub]", changed)
    bastion.box.write(paths.CONFIG_FILE, changed)
    bastion.reload_sshd()
    hub.start_server("alice")
    with client.terminal(bastion, "alice", hub.token("alice")) as terminal:
        terminal.prompt()
        assert terminal.run("pwd") == "/mnt/home/alice\n"
        terminal.send("exit\r")
        terminal.wait_closed()


@pytest.mark.only("trixie")
def test_links_of_the_documents_lead_somewhere(package, tmp_path):
    subprocess.run(["dpkg-deb", "--extract", str(package), str(tmp_path)], check=True)
    pages = sorted((tmp_path / "usr/share/doc/jupyterhub-openssh").rglob("*.md"))
    assert len(pages) > 5
    for page in pages:
        for target in re.findall(r"\]\((?!https?:)([^)#\s]+)", page.read_text()):
            assert (page.parent / target).exists(), f"{page}: {target}"


#: What systemd's helper remembers of an enabled timer, until the purge.
TIMER = [
    f"{directory}/{name}"
    for directory, name in (
        ("/etc/systemd/system/timers.target.wants", "jupyterhub-openssh-metrics.timer"),
        ("/var/lib/systemd/deb-systemd-helper-enabled", "jupyterhub-openssh-metrics.timer.dsh-also"),
        ("/var/lib/systemd/deb-systemd-helper-enabled/timers.target.wants", "jupyterhub-openssh-metrics.timer"),
    )
]


def test_the_life_of_a_package(fresh_bastion, client, package, tmp_path):
    """As piuparts(1) has it: installed, upgraded, removed, installed again, purged; the host is compared at each step."""
    bastion = fresh_bastion()

    def host():
        return snapshot(bastion.box), facts(bastion.box)

    bare = host()
    bastion.install(rebuilt(package, tmp_path, "~1"))
    installed = host()
    logins_work(bastion, client)
    assert difference(bare[0], installed[0])

    bastion.install(package)
    upgraded = host()
    assert not difference(installed[0], upgraded[0]), "an upgrade changes the programs only, and here they are the same"
    assert upgraded[1] == installed[1]

    bastion.apt("remove", "jupyterhub-openssh")
    removed = host()
    kept = {
        name for name in difference(bare[0], removed[0]) if not re.match(r"/etc/(passwd|group|shadow|gshadow)$", name)
    }
    assert kept <= {
        "/etc/jupyterhub-openssh",
        paths.CONFIG_FILE,
        "/etc/ssh/sshd_config.d/50-jupyterhub.conf",
        "/var/cache/jupyterhub-openssh",
        "/var/cache/jupyterhub-openssh/keys",
        "/run/jupyterhub-openssh",
        "/run/jupyterhub-openssh/jail",
        "/run/jupyterhub-openssh/uids",
        "/var/lib/jupyterhub-openssh",
        "/etc/fail2ban",
        "/etc/fail2ban/filter.d",
        "/etc/fail2ban/filter.d/jupyterhub-openssh.conf",
        *TIMER,
    }, kept
    logins_work(bastion, client)

    bastion.install(package)
    again = host()
    assert not difference(installed[0], again[0]) and again[1] == installed[1]

    # The group that may read it is gone after a purge, and its number somebody else's sooner or later.
    for name in ("/etc/jupyterhub-openssh/service-token", "/etc/elsewhere"):
        bastion.box.run("install", "-m", "640", "-g", "_jupyterhub-openssh-keys", "/dev/null", name)
    bastion.apt("purge", "jupyterhub-openssh")
    assert bastion.box.path("/etc/elsewhere").stat().st_gid == 0
    bastion.box.path("/etc/elsewhere").unlink()
    purged = host()
    assert not difference(bare[0], purged[0]) and purged[1] == bare[1]
    bastion.box.run("/usr/sbin/sshd", "-t")
    logins_work(bastion, client)

    # Removed first and purged later: the scripts that purge find none of the package's files.
    bastion.install(package)
    assert not difference(installed[0], snapshot(bastion.box))
    for step in ("remove", "purge"):
        bastion.apt(step, "jupyterhub-openssh")
    assert not difference(bare[0], snapshot(bastion.box)) and facts(bastion.box) == bare[1]


def test_removal_keeps_the_configuration_and_lets_nobody_in(fresh_bastion, client, hub, package):
    bastion = fresh_bastion(package, hub.url)
    bastion.apt("remove", "jupyterhub-openssh")
    assert hub.url in bastion.box.read(paths.CONFIG_FILE)
    bastion.box.run("/usr/sbin/sshd", "-t")
    assert "jupyterhub" not in bastion.box.read("/etc/nsswitch.conf")
    assert "jupyterhub" not in bastion.box.read("/etc/pam.d/common-auth")
    bastion.reload_sshd()
    logins_work(bastion, client)
    with pytest.raises(Refused):
        client.password_login(bastion, "alice", hub.token("alice"))
    bastion.install(package)
    assert hub.url in bastion.box.read(paths.CONFIG_FILE)
    bastion.reload_sshd()
    hub.start_server("alice")
    with client.terminal(bastion, "alice", hub.token("alice")) as terminal:
        terminal.prompt()


def test_a_broken_sshd_configuration_is_not_reloaded(fresh_bastion, client, package):
    """An administrator's broken file must not become a dead sshd by our hand."""
    bastion = fresh_bastion()
    broken = bastion.box.path("/etc/ssh/sshd_config.d/99-broken.conf")
    broken.write_text("NoSuchKeyword yes\n")
    bastion.box.run(
        "apt-get",
        "--yes",
        "install",
        "--no-install-recommends",
        shutil_copy(bastion, package),
        check=False,
        online=True,
        env={"DEBIAN_FRONTEND": "noninteractive"},
        timeout=300,
    )
    assert bastion.sshd.alive()

    def configure():
        done = bastion.box.run(
            "dpkg",
            "--configure",
            "jupyterhub-openssh",
            check=False,
            timeout=300,
            env={"DEBIAN_FRONTEND": "noninteractive"},
        )
        return done.returncode, done.stdout + done.stderr

    # Wherever the host keys are, and where there are none, as in images.
    elsewhere = bastion.box.path("/etc/ssh/keys")
    elsewhere.mkdir()
    keys = list(bastion.box.path("/etc/ssh").glob("ssh_host_*"))
    for one in keys:
        one.rename(elsewhere / one.name)
    named = bastion.box.path("/etc/ssh/sshd_config.d/98-keys.conf")
    for text in ("HostKey /etc/ssh/keys/ssh_host_ed25519_key\n", ""):
        named.write_text(text)
        status, said = configure()
        assert status and "Bad configuration option: NoSuchKeyword" in said, said
    broken.unlink()
    status, said = configure()
    assert status == 0 and "hostkeys" not in said, said
    assert not list(bastion.box.path("/etc/ssh").glob("ssh_host_*")) and not list(bastion.box.path("/tmp").iterdir())
    named.unlink()
    for one in keys:
        (elsewhere / one.name).rename(one)
    logins_work(bastion, client)


def shutil_copy(bastion, package):
    """Put the package into the bastion; its path there."""
    shutil.copy(package, bastion.box.path("/root/package.deb"))
    return "/root/package.deb"


def test_the_modules_are_where_debian_looks(fresh_bastion, package):
    listing = subprocess.run(
        ["dpkg-deb", "--contents", str(package)], capture_output=True, text=True, check=True
    ).stdout
    assert re.search(r"\./usr/lib/[a-z0-9_]+-linux-gnu[a-z0-9]*/libnss_jupyterhub\.so\.2$", listing, re.M)
    assert re.search(r"/lib/[a-z0-9_]+-linux-gnu[a-z0-9]*/security/pam_jupyterhub\.so$", listing, re.M)
    assert "debian/changelog" not in listing
    for name in (paths.PROGRAM, paths.SESSION_SHELL, paths.JAIL_PROGRAM):
        assert f".{name}\n" in listing
