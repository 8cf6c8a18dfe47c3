"""The package under Debian's own tests of packages, autopkgtest and piuparts."""

import re

import pytest

from lib.checks import checkers


def test_autopkgtest(suite, package):
    """With Debian's own JupyterHub: `check` passes, and a user logs in."""
    done = checkers.autopkgtest(suite, package)
    assert done.returncode == 0 and re.search(r"(?m)^login +PASS$", done.stdout), done.stdout + done.stderr


@pytest.mark.only("trixie")
def test_piuparts(suite, package):
    """Complements test_the_life_of_a_package, which compares the whole host."""
    done = checkers.piuparts(suite, package)
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    # piuparts skips the upgrade when apt does not find the older version.
    assert "PASS: Installation, upgrade and purging tests." in said, said
