"""Debian root file systems for the bastions, made by mmdebstrap and kept in the cache.

Used as the lower layer of an overlay: no test ever writes to one. A root is made anew each week, so
that security updates are tested with, and when the list of packages changes.
"""

import datetime
import fcntl
import hashlib
import re
import shutil
import subprocess
import sys
from pathlib import Path

from lib.paths import ROOTS, SUITES

#: A bastion as an administrator would have it, without systemd: tests start sshd themselves.
PACKAGES = (
    "openssh-server",
    "openssh-client",
    "openssh-sftp-server",
    "sudo",
    "adduser",
    "passwd",
    "procps",
    "libpam-runtime",
    "systemd-standalone-tmpfiles",
    "systemd-standalone-sysusers",
    "ca-certificates",
)
#: For Debian's own tests of a package: their programs, and what debian/tests/control depends on.
CHECKERS = ("autopkgtest", "dpkg-dev", "jupyterhub", "piuparts")


def host_mirrors(root=Path("/")):
    """(archive, security) addresses that this machine's apt uses, so that tests use the same mirror.

    Both formats of sources.list(5) are read. None where this machine names no Debian mirror.
    """
    archive = security = None
    lines = []
    files = [root / "etc/apt/sources.list", *sorted((root / "etc/apt/sources.list.d").glob("*"))]
    for file in files:
        if not file.is_file():
            continue
        text = file.read_text(errors="replace")
        if file.suffix == ".sources":
            for stanza in re.split(r"\n\s*\n", text):
                fields = dict(re.findall(r"^(\w[\w-]*):[ \t]*(.*)$", stanza, re.M))
                if fields.get("Enabled", "yes").strip() == "no" or "deb" not in fields.get("Types", "").split():
                    continue
                for uri in fields.get("URIs", "").split():
                    lines += [(uri, suite) for suite in fields.get("Suites", "").split()]
        elif file.suffix in (".list", ""):
            for match in re.finditer(r"^\s*deb\s+(?:\[[^]]*\]\s*)?(\S+)\s+(\S+)", text, re.M):
                lines.append((match[1], match[2]))
    for uri, suite in lines:
        if not uri.startswith(("http:", "https:", "file:", "mirror")) or "debian" not in uri:
            continue
        if "security" in suite:
            security = security or uri
        elif suite != "nodistro":
            archive = archive or uri
    return archive, security


def sources(suite):
    """The lines of sources.list(5) for a suite; none leaves the choice to mmdebstrap."""
    archive, security = host_mirrors()
    lines = []
    if archive:
        lines += [f"deb {archive} {suite} main", f"deb {archive} {suite}-updates main"]
    if archive and security:
        lines.append(f"deb {security} {suite}-security main")
    return lines


def root_directory(suite, today=None, name=None, packages=PACKAGES):
    """The directory of a suite's current root; it may not exist yet."""
    week = "{0[0]}w{0[1]:02}".format((today or datetime.date.today()).isocalendar())
    key = hashlib.sha256("\n".join([*packages, *sources(suite), BUILD_VERSION]).encode()).hexdigest()[:10]
    return ROOTS / f"{name or suite}-{week}-{key}"


#: Changes when the way of building does.
BUILD_VERSION = "1"


def checkers_root(suite):
    """The suite's root with CHECKERS, made when a test first asks for it."""
    name = f"checkers-{suite}"
    # A lock of its own: other test runs need not wait for this root.
    with open(ROOTS / f".{name}.lock", "a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        return build_root(suite, name, PACKAGES + CHECKERS)


def build_root(suite, name=None, packages=PACKAGES):
    """Make the suite's root unless it is there; returns its directory."""
    name = name or suite
    directory = root_directory(suite, name=name, packages=packages)
    if directory.is_dir():
        return directory
    print(f"==> making a Debian root file system, {name}", file=sys.stderr, flush=True)
    ROOTS.mkdir(parents=True, exist_ok=True)
    partial = directory.with_name(directory.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    command = [
        "mmdebstrap",
        "--quiet",
        "--mode=root",
        "--variant=apt",
        f"--include={','.join(packages)}",
        # The lists stay, so that tests can install packages without fetching them again.
        "--skip=cleanup/apt/lists",
        '--aptopt=Apt::Install-Recommends "false"',
        suite,
        str(partial),
        *sources(suite),
    ]
    done = subprocess.run(command, stdin=subprocess.DEVNULL)
    if done.returncode:
        shutil.rmtree(partial, ignore_errors=True)
        raise SystemExit(f"mmdebstrap failed for {name} (status {done.returncode})")
    partial.rename(directory)
    for old in ROOTS.glob(f"{name}-*"):
        if old != directory:
            shutil.rmtree(old, ignore_errors=True)
    return directory


if __name__ == "__main__":
    for name in sys.argv[1:] or SUITES:
        build_root(name)
