"""A suite's own lintian on a package, in a sandbox.

`python -m lib.programs.lintian SUITE PACKAGE` prints what it says; status 1 at errors and warnings.
"""

import shutil
import sys

from lib.sandbox.box import Box
from lib.sandbox.roots import root_directory


def complaints(suite, package):
    """(whether there is neither error nor warning, what lintian printed)."""
    box = Box("lintian", lower=root_directory(suite))
    try:
        shutil.copy("/etc/resolv.conf", box.path("/etc/resolv.conf"))
        shutil.copy(package, box.path("/tmp/package.deb"))
        box.run(
            "apt-get",
            "--yes",
            "--quiet",
            "--no-install-recommends",
            "install",
            "lintian",
            online=True,
            timeout=600,
            env={"DEBIAN_FRONTEND": "noninteractive"},
        )
        done = box.run(
            "lintian", "--allow-root", "--info", "--fail-on=error,warning", "/tmp/package.deb", check=False, timeout=300
        )
        return done.returncode == 0, done.stdout + done.stderr
    finally:
        box.close()


if __name__ == "__main__":
    fine, text = complaints(*sys.argv[1:])
    print(text or "no complaints")
    sys.exit(not fine)
