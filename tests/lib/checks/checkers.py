"""Debian's own tests of a package: the suite's autopkgtest(1) and piuparts(1), each in a sandbox."""

import shutil
import tempfile

from lib.checks.package import rebuilt
from lib.paths import REPOSITORY
from lib.sandbox.box import Box
from lib.sandbox.roots import checkers_root, root_directory
from lib.sandbox.syslog import Syslog

#: piuparts runs this in its chroot, so that the older version is the only package that apt finds.
SOURCES = """#!/bin/sh
echo "deb [trusted=yes] file:///mnt/archive ./" >/etc/apt/sources.list
"""


def autopkgtest(suite, package):
    """Run debian/tests; returns subprocess.CompletedProcess.

    Status 0: all tests passed and none was skipped.
    """
    box = Box("autopkgtest", lower=checkers_root(suite))
    syslog = Syslog(box)
    try:
        box.write("/etc/hosts", "127.0.0.1 localhost autopkgtest\n")
        # Everything that the tests depend on is installed: apt needs no network.
        box.write("/etc/apt/sources.list", "")
        shutil.copytree(REPOSITORY / "packaging/debian", box.path("/tmp/source/debian"))
        shutil.copy(package, box.path(f"/tmp/{package.name}"))
        # The sandbox is the container, and is thrown away.
        return box.run(
            "autopkgtest",
            "--ignore-restrictions=isolation-container,breaks-testbed",
            "--no-built-binaries",
            f"/tmp/{package.name}",
            "/tmp/source/",
            "--",
            "null",
            check=False,
            timeout=300,
        )
    finally:
        syslog.close()
        box.close()


def piuparts(suite, package):
    """Install, remove, reinstall, purge and upgrade; returns subprocess.CompletedProcess."""
    box = Box(
        "piuparts",
        lower=checkers_root(suite),
        binds=[(root_directory(suite), "/mnt/base")],
        tmpfs=["/mnt/archive", "/mnt/scripts", "/mnt/tmp"],
    )
    try:
        with tempfile.TemporaryDirectory() as directory:
            shutil.copy(rebuilt(package, directory, "~1"), box.path("/mnt/archive/older.deb"))
        box.run("sh", "-c", "cd /mnt/archive && apt-ftparchive packages . >Packages")
        box.write("/mnt/scripts/post_chroot_unpack_sources", SOURCES, 0o755)
        shutil.copy(package, box.path(f"/tmp/{package.name}"))
        return box.run(
            "piuparts",
            "--existing-chroot=/mnt/base",
            f"--distribution={suite}",
            "--keep-sources-list",
            "--bindmount=/mnt/archive",
            "--scriptsdir=/mnt/scripts",
            "--tmpdir=/mnt/tmp",
            "--no-eatmydata",
            "--install-remove-install",
            f"/tmp/{package.name}",
            check=False,
            timeout=300,
        )
    finally:
        box.close()
