"""Limits of homes on this host, set when a home is created. Where the kernel has no quotas, virtual machines tell
(lib.checks.quotachecks)."""

import pytest

from lib.checks import quotachecks
from lib.checks.files import local_home
from lib.checks.place import Place, sftp
from lib.sandbox.storage import Ext4

SOFT, HARD = 4 << 20, 8 << 20
CONFIG = """[homes]
root = "/srv/limited"
missing = "create"
owner = [1000, 100]
quota = ["4M", "8M"]
[accounts]
uid = "home"
"""


@pytest.fixture(scope="session")
def limited(homes_bastion):
    """A file system with project and user quotas, beside the bastion's other homes."""
    try:
        Ext4(homes_bastion.box, "/srv/limited", 1 << 30, quotas=True)
    except RuntimeError as error:
        if "Invalid argument" not in str(error):
            raise
        pytest.skip("this machine's kernel has no quotas for ext4")
    homes_bastion.baseline = homes_bastion.state()
    return homes_bastion


@pytest.fixture
def shared_bastion(limited):
    return limited


@pytest.fixture
def make_limited(bastion, hub, client, scratch):
    """Users whose homes are created by their first login; all have the same owner."""
    top = local_home(bastion.box.path("/srv/limited"))

    def make(user):
        hub.add_user(user)
        place = Place(
            client, bastion, user, hub.token(user), local_home(top.at(user)), (1000, 100), f"/home/{user}", scratch
        )
        sftp(place, "pwd")
        return place

    with bastion.configured(hub.url, CONFIG):
        yield make
    top.remove(*top.names())


def test_df_shows_the_limit(make_limited):
    quotachecks.check_limit_is_shown(make_limited("dora"), SOFT, HARD)


def test_a_full_home_keeps_what_was_there(make_limited):
    quotachecks.check_full_home(make_limited("dora"), HARD)


def test_limits_are_ones_own(make_limited):
    quotachecks.check_limits_are_ones_own(make_limited("dora"), make_limited("erin"), HARD)


def test_status(bastion, make_limited):
    quotachecks.check_status(make_limited("dora"), lambda *argv: bastion.box.run(*argv).stdout)
