"""The package from outside: what an installation changes on a host, and packages made from the one that was built."""

import re
import shutil
import subprocess
from pathlib import Path

#: What apt, dpkg and their triggers write about any package, and what programs leave behind while they run.
NOISE = re.compile(
    r"/etc/(ld\.so\.cache|mailcap|\.pwd\.lock|alternatives/.*|rc\d\.d/.*|(passwd|group|shadow|gshadow|subuid|subgid)-)$"
    r"|/var/(cache/(apt|ldconfig|man|debconf)|lib/(apt|dpkg|pam/seen|ucf)|log|tmp)(/|$)|/var/lib/systemd/(?!deb-)"
    r"|/run/(utmp|motd|sudo|lock|adduser|sshd\.pid|tests|systemd|user|udev|log|dbus)|/root/|/home/"
)
#: What of dpkg's and debconf's own lies below is told by their commands, in `facts`.
EVERYWHERE = ("/etc", "/usr", "/var", "/run", "/opt", "/srv", "/root", "/home")


def snapshot(box, *roots, sums=EVERYWHERE):
    """Every file below the roots of a sandbox or machine, as lines that tell kind, mode, owner and size or target.

    Without roots, all that a package may touch. Below `sums` files are told by their contents, too.
    """
    roots = roots or EVERYWHERE
    found = {}
    listing = box.run(
        "find",
        *roots,
        "-xdev",
        "(",
        "-type",
        "f",
        "-printf",
        "%p\\t%m %U %G %s\\n",
        "-o",
        "-printf",
        "%p\\t%y %m %U %G %l\\n",
        ")",
        check=False,
        timeout=300,
    ).stdout
    for line in listing.splitlines():
        name, _, what = line.partition("\t")
        if not NOISE.match(name):
            found[name] = what
    summed = box.run(
        "sh",
        "-c",
        'find "$@" -xdev -type f -print0 2>/dev/null | xargs -0 -r sha256sum',
        "sh",
        *(root for root in roots if root in sums),
        timeout=300,
    ).stdout
    for line in summed.splitlines():
        digest, _, name = line.partition("  ")
        if name in found:
            found[name] += f" {digest}"
    return found


def difference(before, after):
    """What changed between two snapshots."""
    return {
        name: (before.get(name), after.get(name))
        for name in before.keys() | after.keys()
        if before.get(name) != after.get(name)
    }


def facts(box):
    """What a host knows of the package in places that are no files of its: {what: lines}."""

    def lines(*command):
        return sorted(line for line in box.run(*command, check=False).stdout.splitlines() if line.strip())

    return {
        "accounts": lines("getent", "passwd") + lines("getent", "group"),
        "overrides": lines("dpkg-statoverride", "--list"),
        "diversions": [line for line in lines("dpkg-divert", "--list") if "jupyterhub" in line],
        "answers": lines(
            "grep", "-h", "jupyterhub", "/var/cache/debconf/config.dat", "/var/cache/debconf/templates.dat"
        ),
        "status": lines("sh", "-c", "dpkg-query -W -f '${Package} ${db:Status-Abbrev}\\n' | grep jupyterhub"),
        "triggers": lines("grep", "-rh", "jupyterhub", "/var/lib/dpkg/triggers"),
    }


def rebuilt(package, directory, suffix, change=None):
    """The same package with `suffix` after its version: "+1" is newer, "~1" older. `change(tree)` may edit it before."""
    tree = Path(directory) / "tree"
    subprocess.run(["dpkg-deb", "--raw-extract", str(package), str(tree)], check=True)
    control = tree / "DEBIAN/control"
    control.write_text(re.sub(r"(?m)^(Version: .*)$", rf"\1{suffix}", control.read_text()))
    if change:
        change(tree)
    made = Path(directory) / f"jupyterhub-openssh_{suffix}.deb"
    subprocess.run(
        ["dpkg-deb", "--build", "--root-owner-group", "-Znone", str(tree), str(made)], check=True, capture_output=True
    )
    shutil.rmtree(tree)
    return made


def with_conffile(tree):
    """As before the package asked anything: the configuration was a conffile."""
    shutil.move(tree / "usr/share/jupyterhub-openssh/config.toml", tree / "etc/config.toml")
    shutil.rmtree(tree / "usr/share/jupyterhub-openssh")
    (tree / "etc/jupyterhub-openssh").mkdir()
    shutil.move(tree / "etc/config.toml", tree / "etc/jupyterhub-openssh/config.toml")
    with open(tree / "DEBIAN/conffiles", "a") as conffiles:
        conffiles.write("/etc/jupyterhub-openssh/config.toml\n")
    for name in ("config", "templates"):
        (tree / "DEBIAN" / name).unlink()
    postinst = tree / "DEBIAN/postinst"
    text = postinst.read_text()
    for line in ("\t. /usr/share/debconf/confmodule\n", '\tconfigure_hub "$2"\n', "\tdb_stop\n"):
        assert line in text
        text = text.replace(line, "\t:\n")
    postinst.write_text(text)


def preseed(box, url):
    """Answer the package's question beforehand."""
    box.run("debconf-set-selections", input=f"jupyterhub-openssh jupyterhub-openssh/hub-url string {url}\n")


def answer(box):
    """What debconf has as the answer."""
    shown = box.run("debconf-show", "jupyterhub-openssh").stdout
    return re.search(r"jupyterhub-openssh/hub-url:[ \t]*(.*)", shown)[1]


def with_init(box):
    """As on a host with an init system: invoke-rc.d(8) otherwise does nothing in a sandbox, and sshd is not reloaded."""
    box.write("/usr/sbin/policy-rc.d", "#!/bin/sh\nexit 0\n", 0o755)
