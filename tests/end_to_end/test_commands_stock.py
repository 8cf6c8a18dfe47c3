"""The checks of commands themselves are sound: stock sshd passes them with a local account."""

import pytest

from lib.checks import commandchecks, commandclients, terminalchecks
from lib.checks.files import local_home
from lib.checks.shellplace import ShellPlace
from lib.sandbox.bastion import Bastion

pytestmark = pytest.mark.only("trixie")


@pytest.fixture(scope="session")
def stock_bastion(network, client, suite):
    """A host with nothing of ours, and the programs that clients look for there."""
    made = Bastion(network, suite)
    made.apt("install", "git", "rsync", "python3")
    made.baseline = made.state()
    yield made
    made.close()


@pytest.fixture
def shared_bastion(stock_bastion):
    return stock_bastion


@pytest.fixture
def place(bastion, client, scratch):
    ids = tuple(int(bastion.box.run("id", kind, bastion.ADMIN).stdout) for kind in ("-u", "-g"))
    home = f"/home/{bastion.ADMIN}"
    return ShellPlace(
        client,
        bastion,
        bastion.ADMIN,
        bastion.ADMIN_PASSWORD,
        local_home(bastion.box.path(home)),
        ids,
        home,
        scratch,
        running=lambda: [one for one in bastion.box.processes() if one.uid == ids[0]],
    )


@pytest.mark.parametrize("check", commandchecks.QUICK, ids=lambda check: check.__name__)
def test_commands(place, check):
    check(place)


@pytest.mark.parametrize("check", terminalchecks.QUICK, ids=lambda check: check.__name__)
def test_terminals(place, check):
    check(place)


@pytest.mark.parametrize("check", commandclients.CLIENTS, ids=lambda check: check.__name__)
def test_clients(place, check):
    check(place)


def test_bulk(place):
    print("up, down, both: {:.1f} s, {:.1f} s, {:.1f} s".format(*commandchecks.check_bulk(place)))
