"""The checks of files themselves are sound: stock sshd passes them with a local account."""

import pytest

from lib.checks import filechecks
from lib.checks.files import local_home
from lib.checks.place import Place


@pytest.fixture
def place(bastion, client, scratch):
    run = bastion.box.run
    ids = int(run("id", "-u", bastion.ADMIN).stdout), int(run("id", "-g", bastion.ADMIN).stdout)
    home = f"/home/{bastion.ADMIN}"
    place = Place(
        client, bastion, bastion.ADMIN, bastion.ADMIN_PASSWORD, local_home(bastion.box.path(home)), ids, home, scratch
    )
    # Debian 13's pam_umask gives users with a group of their own another one.
    place.umask = int(place.run(place.command("ssh", place.host, "umask")).stdout, 8)
    return place


@pytest.mark.parametrize(
    "check", [*filechecks.QUICK, *filechecks.CLIENTS, filechecks.check_scp_of_old], ids=lambda c: c.__name__
)
def test_quick(place, check):
    check(place)


def test_small_files(place):
    filechecks.check_small_files(place, 1000)


def test_broken_transfer(place):
    filechecks.check_broken_transfer(place)
