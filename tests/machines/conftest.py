"""Fixtures: a bastion and a file server as virtual machines, beside the network, hub and clients of end_to_end."""

import pytest
from end_to_end.conftest import (  # noqa: F401 (fixtures and hooks)
    alice,
    bob,
    client,
    hub,
    hub_homes,
    key,
    network,
    package,
    pytest_runtest_makereport,
    root,
    scratch,
)
from end_to_end.conftest import pytest_addoption as common_options

from lib.checks.place import Place
from lib.machines.vm import Machine, MachineBastion, power_on
from lib.machines.vm_files import FileServer


def pytest_addoption(parser):
    common_options(parser)
    parser.addoption("--all", action="store_true", help="all combinations, 10 000 files, 4 GB; takes an hour")


@pytest.fixture(scope="session")
def suite(request):
    """The machines' Debian: bookworm unless another is named."""
    return (request.config.getoption("--suite") or ["bookworm"])[0]


@pytest.fixture(scope="session")
def everything(request):
    """Whether the long variants were asked for."""
    return request.config.getoption("--all")


@pytest.fixture(scope="session")
def machines(network, suite, package, request, tmp_path_factory):
    """(bastion's machine, file server), both running."""
    directory = tmp_path_factory.mktemp("machines")
    made = Machine(network, suite, directory, [package], disks=3), FileServer(network, suite, directory)
    try:
        accelerator, seconds = power_on(made)
        made[1].prepare()
        with request.config.pluginmanager.getplugin("capturemanager").global_and_fixture_disabled():
            print(f"\nDebian {suite} in two machines, with {accelerator}, ready after {seconds:.0f} s")
        yield made
    finally:
        for one in made:
            one.close()


@pytest.fixture(scope="session")
def server(machines):
    """The file server."""
    return machines[1]


@pytest.fixture(scope="session")
def shared_bastion(machines, hub, client, package):
    """The bastion, with the package."""
    made = MachineBastion(machines[0], hub.url, package)
    made.admin_key(client.public_key)
    yield made
    made.syslog.close()


@pytest.fixture
def bastion(shared_bastion, client, server, request):
    """The bastion; after each test nothing of the sessions may be left there."""
    request.node.log_mark = shared_bastion.syslog.mark()
    before = shared_bastion.state()
    yield shared_bastion
    server.resume()
    client.close_all()
    try:
        shared_bastion.wait_state(before, 40)
    finally:
        for one in shared_bastion.ours():
            one.kill()


class Users:
    """Users of the hub with homes on the file server or on the bastion."""

    def __init__(self, bastion, hub, client, scratch):
        self._bastion, self._hub, self._client, self._scratch = bastion, hub, client, scratch

    def place(self, user, home, owner, shown=None):
        """A user's place; `home` is a lib.checks.files.Home."""
        self._hub.add_user(user)
        return Place(
            self._client,
            self._bastion,
            user,
            self._hub.token(user),
            home,
            owner,
            shown or f"/home/{user}",
            self._scratch,
        )

    def on_server(self, server, directory, user, uid, gid, mode=0o700):
        """A user with a new home below a directory of the file server."""
        return self.place(user, server.home(f"{directory}/{user}", uid, gid, mode), (uid, gid))


@pytest.fixture
def users(shared_bastion, hub, client, scratch):
    """Makes users."""
    return Users(shared_bastion, hub, client, scratch)
