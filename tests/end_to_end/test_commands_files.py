"""sftp, scp and sshfs through the user's server, on a bastion without homes: the checks of homes, once more."""

import os

import pytest

from lib.actors.hub import HUB_UID
from lib.checks import filechecks
from lib.checks.clientchecks import rsync_command
from lib.checks.commandchecks import FULL
from lib.checks.files import local_home
from lib.checks.place import Place, sftp
from lib.checks.shellplace import ShellPlace
from lib.sandbox.agents import Agents, peak, proportional
from lib.sandbox.storage import FIXED

pytestmark = pytest.mark.only("trixie")

#: Many times more than the gateway or the agent may hold.
BIG = (300 << 20) if FULL else (100 << 20)

needs_fuse = pytest.mark.skipif(not os.path.exists("/dev/fuse"), reason="no /dev/fuse")


@pytest.fixture
def place(bastion, client, hub, hub_homes, alice, scratch):
    return ShellPlace.of_hub(hub, client, bastion, "alice", alice.token, scratch, hub_homes)


@pytest.mark.parametrize("check", filechecks.QUICK, ids=lambda check: check.__name__)
def test_with_sftp(place, check):
    check(place)


@pytest.mark.parametrize(
    "check",
    [
        pytest.param(check, marks=needs_fuse if check is filechecks.check_sshfs else [])
        for check in (*filechecks.CLIENTS, filechecks.check_scp_of_old)
    ],
    ids=lambda check: check.__name__,
)
def test_with_other_clients(place, check):
    check(place)


def test_small_files(place):
    print("up and down: {:.1f} s, {:.1f} s".format(*filechecks.check_small_files(place, 2000)))


def test_a_big_file(bastion, hub, place):
    highest = [0, 0]

    class Noting(ShellPlace):
        """Looks at the memory of both ends whenever a client has ended."""

        def run(self, *arguments, **options):
            try:
                return super().run(*arguments, **options)
            finally:
                highest[0] = max([highest[0], *map(proportional, bastion.gateways())])

    agents = Agents(lambda: hub.server_processes("alice"))
    noting = Noting(**place.__dict__)
    with noting.master():
        print("up and down: {:.1f} s, {:.1f} s".format(*filechecks.check_big_file(noting, BIG)))
        highest[1] = peak(agents.agent())
    print("gateway, agent: {} KB, {} KB".format(*(size >> 10 for size in highest)))
    assert highest[0] <= 8 << 20 and highest[1] <= 25 << 20, highest


def test_a_client_killed_in_mid_transfer(place):
    filechecks.check_broken_transfer(place)


def test_over_one_connection(place, alice):
    """sftp, scp, rsync and commands beside each other: one terminal."""
    with place.master(), place.scratch() as here:
        for check in (
            filechecks.check_put_and_get,
            filechecks.check_scp,
            filechecks.check_scp_of_old,
            filechecks.check_rsync,
        ):
            check(place)
        (here / "file").write_text("x")
        place.run(rsync_command(place, here / "file", f"{place.host}:file"))
        assert place.output("cat file; rm file") == "x" and len(alice.jupyter.terminals()) == 1


def test_where_the_image_has_no_sftp_server(bastion, hub, place):
    """The agent has one of its own."""
    box, program = hub.box, "/usr/lib/openssh/sftp-server"
    hidden = box.path(program).exists()
    if hidden:
        box.run("mount", "--bind", "/dev/null", program)
    try:
        for check in filechecks.QUICK:
            check(place)
        filechecks.check_scp(place)
        filechecks.check_paramiko(place)
        if os.path.exists("/dev/fuse"):
            filechecks.check_sshfs(place)
        filechecks.check_small_files(place, 500)
    finally:
        if hidden:
            box.run("umount", program)


@pytest.mark.parametrize("umask", ["0027", "0002", "0077"])
def test_umask(bastion, hub, place, umask):
    place.umask = int(umask, 8)
    with bastion.configured(hub.url, f'[files]\numask = "{umask}"\n'):
        filechecks.check_put_and_get(place)


def test_a_server_that_is_stopped_is_started(bastion, client, hub, hub_homes, scratch):
    hub.unsteer("bob")
    hub.stop_server("bob")
    hub.steer("bob", delay=2, messages=["first", "second"])
    place = Place(
        client,
        bastion,
        "bob",
        hub.token("bob"),
        local_home(hub_homes / "bob"),
        (HUB_UID, HUB_UID),
        "/mnt/home/bob",
        scratch,
    )
    try:
        filechecks.check_put_and_get(place)
    finally:
        hub.unsteer("bob")
        hub.stop_server("bob")


def test_a_server_that_does_not_start(bastion, client, hub, hub_homes, scratch):
    """sshd throws away what a subsystem says on standard error: the reason comes in the protocol."""
    hub.stop_server("bob")
    hub.steer("bob", fail="no room for it")
    place = Place(
        client,
        bastion,
        "bob",
        hub.token("bob"),
        local_home(hub_homes / "bob"),
        (HUB_UID, HUB_UID),
        "/mnt/home/bob",
        scratch,
    )
    try:
        said = sftp(place, "ls", check=False)
        assert said.returncode and "no room for it" in said.stderr, said
    finally:
        hub.unsteer("bob")


def test_backend_server_beside_homes(homes_bastion, hub, client, request, place):
    """`backend = "server"`: the homes of the bastion are not served, although they are there."""
    place.bastion = homes_bastion
    top = local_home(homes_bastion.box.path("/srv/homes"))
    top.mkdir("alice", owner=(1000, 100))
    try:
        with homes_bastion.configured(hub.url, FIXED + '[files]\nbackend = "server"\n'):
            filechecks.check_put_and_get(place)
            filechecks.check_scp_of_old(place)
            assert top.names("alice") == []
    finally:
        client.close_all()
        homes_bastion.wait_quiet()
        top.remove("alice")
