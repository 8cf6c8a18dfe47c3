"""The package as apt installs, configures, upgrades and removes it."""

import hashlib
import os
import re
import shutil
import subprocess

import pytest

from lib import expect, paths
from lib.client import Refused

#: What apt and dpkg write about any package.
APT_NOISE = re.compile(r"/etc/(ld\.so\.cache|mailcap|\.pwd\.lock|alternatives/.*|rc\d\.d/.*|"
                       r"(passwd|group|shadow|gshadow|subuid|subgid)-)$")


def snapshot(bastion, *roots):
    """Every file below the roots: mode, owner and contents."""
    found = {}
    for root in roots:
        top = bastion.box.path(root)
        for directory, names, files in os.walk(top):
            for name in [*names, *files]:
                path = os.path.join(directory, name)
                shown = root + path[len(str(top)):]
                if APT_NOISE.match(shown):
                    continue
                status = os.lstat(path)
                if os.path.islink(path):
                    content = os.readlink(path)
                elif os.path.isfile(path):
                    with open(path, "rb") as file:
                        content = hashlib.sha256(file.read()).hexdigest()
                else:
                    content = "directory"
                found[shown] = (oct(status.st_mode), status.st_uid, status.st_gid, content)
    return found


def difference(before, after):
    """What changed between two snapshots."""
    return {name: (before.get(name), after.get(name)) for name in before.keys() | after.keys()
            if before.get(name) != after.get(name)}


def logins_work(bastion, client):
    """The administrator's logins are as ever."""
    with client.admin_terminal(bastion) as terminal:
        terminal.prompt()
        assert terminal.run("id -un; sudo -n id -u 2>&1 | tail -n1").startswith("localadmin\n")


def test_installed_but_not_configured(fresh_bastion, client, hub, package):
    bastion = fresh_bastion(package)
    bastion.box.run("/usr/sbin/sshd", "-t")
    logins_work(bastion, client)
    mark = bastion.syslog.mark()
    with pytest.raises(Refused):
        client.login(bastion, "alice", hub.token("alice"))
    bastion.syslog.wait(expect.REFUSALS["not-configured"][1], mark)


def test_configured_by_one_key(fresh_bastion, client, hub, package):
    """The two minutes of the README: set hub.url in the file as it comes, reload sshd, log in."""
    bastion = fresh_bastion(package)
    text = bastion.box.read(paths.CONFIG_FILE)
    changed, count = re.subn(r'(?m)^#?\s*url\s*=.*$', f'url = "{hub.url}"', text, count=1)
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


def test_purging_leaves_the_host_as_it_was(fresh_bastion, client, package):
    bastion = fresh_bastion()
    places = ("/etc", "/usr/lib", "/usr/bin", "/usr/sbin", "/var/lib/pam", "/run")
    before = snapshot(bastion, *places)
    bastion.install(package)
    assert difference(before, snapshot(bastion, *places))
    logins_work(bastion, client)
    # The group that may read it is gone then, and its number somebody else's sooner or later.
    for name in ("/etc/jupyterhub-openssh/service-token", "/etc/elsewhere"):
        bastion.box.run("install", "-m", "640", "-g", "_jupyterhub-openssh-keys", "/dev/null", name)
    bastion.apt("purge", "jupyterhub-openssh")
    assert bastion.box.path("/etc/elsewhere").stat().st_gid == 0
    bastion.box.path("/etc/elsewhere").unlink()
    after = difference(before, snapshot(bastion, *places))
    after = {name: change for name, change in after.items()
             if not re.match(r"/run/(utmp|motd|sudo|lock|adduser)|/var/lib/pam/seen", name)}
    assert not after, f"left behind: {after}"
    bastion.box.run("/usr/sbin/sshd", "-t")
    logins_work(bastion, client)


def test_removal_keeps_the_configuration_and_lets_nobody_in(fresh_bastion, client, hub, package):
    bastion = fresh_bastion(package, hub.url)
    bastion.apt("remove", "jupyterhub-openssh")
    assert hub.url in bastion.box.read(paths.CONFIG_FILE)
    bastion.box.run("/usr/sbin/sshd", "-t")
    assert "jupyterhub" not in bastion.box.read("/etc/nsswitch.conf")
    assert "jupyterhub" not in bastion.box.read("/etc/pam.d/common-auth")
    bastion.reload_sshd()
    logins_work(bastion, client)
    with pytest.raises(Exception):
        client.password_login(bastion, "alice", hub.token("alice"))
    bastion.install(package)
    assert hub.url in bastion.box.read(paths.CONFIG_FILE)
    bastion.reload_sshd()
    hub.start_server("alice")
    with client.terminal(bastion, "alice", hub.token("alice")) as terminal:
        terminal.prompt()


def test_upgrade_keeps_the_configuration_and_running_sessions(fresh_bastion, client, hub, package, tmp_path):
    newer = rebuilt(package, tmp_path, "+upgrade")
    bastion = fresh_bastion(package, hub.url)
    places = ("/etc",)
    hub.start_server("alice")
    with client.terminal(bastion, "alice", hub.token("alice")) as terminal:
        terminal.prompt()
        before = snapshot(bastion, *places)
        bastion.install(newer)
        assert not difference(before, snapshot(bastion, *places))
        assert terminal.run("echo unharmed") == "unharmed\n"
    with client.terminal(bastion, "alice", hub.token("alice")) as terminal:
        terminal.prompt()


def rebuilt(package, directory, suffix):
    """The same package with a higher version."""
    tree = directory / "tree"
    subprocess.run(["dpkg-deb", "--raw-extract", str(package), str(tree)], check=True)
    control = tree / "DEBIAN/control"
    control.write_text(re.sub(r"(?m)^(Version: .*)$", rf"\1{suffix}", control.read_text()))
    made = directory / "jupyterhub-openssh_newer.deb"
    subprocess.run(["dpkg-deb", "--build", "--root-owner-group", str(tree), str(made)], check=True, capture_output=True)
    shutil.rmtree(tree)
    return made


def test_a_broken_sshd_configuration_is_not_reloaded(fresh_bastion, client, package):
    """An administrator's broken file must not become a dead sshd by our hand."""
    bastion = fresh_bastion()
    bastion.box.write("/etc/ssh/sshd_config.d/99-broken.conf", "NoSuchKeyword yes\n")
    bastion.box.run("apt-get", "--yes", "install", "--no-install-recommends", shutil_copy(bastion, package),
                    check=False, online=True, env={"DEBIAN_FRONTEND": "noninteractive"}, timeout=300)
    assert bastion.sshd.alive()
    bastion.box.path("/etc/ssh/sshd_config.d/99-broken.conf").unlink()
    logins_work(bastion, client)


def shutil_copy(bastion, package):
    """Put the package into the bastion; its path there."""
    shutil.copy(package, bastion.box.path("/root/package.deb"))
    return "/root/package.deb"


def test_the_modules_are_where_debian_looks(fresh_bastion, package):
    listing = subprocess.run(["dpkg-deb", "--contents", str(package)], capture_output=True, text=True, check=True).stdout
    assert re.search(r"\./usr/lib/[a-z0-9_]+-linux-gnu[a-z0-9]*/libnss_jupyterhub\.so\.2$", listing, re.M)
    assert re.search(r"/lib/[a-z0-9_]+-linux-gnu[a-z0-9]*/security/pam_jupyterhub\.so$", listing, re.M)
    assert "debian/changelog" not in listing
    for name in (paths.PROGRAM, paths.SESSION_SHELL, paths.JAIL_PROGRAM):
        assert f".{name}\n" in listing
