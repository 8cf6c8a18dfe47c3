"""Fixtures: one network and one real hub for the whole run, one bastion for each Debian suite."""

import os
import shutil
import tempfile
from pathlib import Path

import pytest

# Before they are imported: an assertion that fails in there shows its values, as one in a test does.
pytest.register_assert_rewrite("lib")

from lib.actors.client import Client
from lib.actors.faultyhub import FaultyHub
from lib.actors.hub import Hub
from lib.actors.jupyter import Jupyter
from lib.actors.keys import Key
from lib.checks.files import local_home
from lib.checks.place import Place
from lib.paths import SCRATCH, SUITES, built_package
from lib.sandbox.bastion import Bastion
from lib.sandbox.network import Network
from lib.sandbox.storage import BY_HOME, Ext4
from lib.wait import wait_for


def pytest_addoption(parser):
    parser.addoption("--suite", action="append", choices=SUITES, help="only this Debian suite; may be repeated")
    parser.addoption(
        "--half",
        action="store_true",
        help="leave to the other suite's run what a bastion's Debian makes no difference to",
    )


def pytest_generate_tests(metafunc):
    if "suite" in metafunc.fixturenames:
        suites = metafunc.config.getoption("--suite") or SUITES
        metafunc.parametrize("suite", suites, scope="session")


def _elsewhere(item):
    """Whether with --half the other suite's run has this test: what is about the user's server, or one kind of terminal."""
    params = getattr(getattr(item, "callspec", None), "params", {})
    suite, mode = params.get("suite"), params.get("terminal_mode")
    marker = item.get_closest_marker("only")
    at_home = marker.args[0] if marker else {"plain": "bookworm", "auto": "trixie"}.get(mode, suite)
    return suite is not None and at_home != suite


def pytest_collection_modifyitems(config, items):
    if config.getoption("--half"):
        config.hook.pytest_deselected(items=[item for item in items if _elsewhere(item)])
        items[:] = [item for item in items if not _elsewhere(item)]


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    """A failure's report shows what the bastion and the hub logged during the test."""
    report = (yield).get_result()
    if not report.failed:
        return
    fixtures = getattr(item, "funcargs", {})
    bastion, hub = fixtures.get("bastion") or fixtures.get("bare"), fixtures.get("hub")
    mark = getattr(item, "log_mark", 0)
    if bastion:
        _add(
            report,
            "bastion's log",
            lambda: "\n".join(f"{e.program}[{e.pid}]: {e.text}" for e in bastion.syslog.since(mark)[-80:]),
        )
        _add(
            report,
            "bastion's processes",
            lambda: "\n".join(f"{p.pid} {p.command_line()}" for p in bastion.box.processes()),
        )
    if hub:
        _add(report, "hub's log, its end", lambda: "\n".join(line[:300] for line in hub.log_text().splitlines()[-25:]))


def _add(report, title, look):
    """Add a section to a report. What can't be looked at any more is no second failure: it would hide the first."""
    try:
        text = look()
    except Exception as error:  # noqa: BLE001 (whatever it is)
        text = f"could not be had: {type(error).__name__}: {error}"
    report.sections.append((title, text))


@pytest.fixture(scope="session")
def network():
    made = Network()
    yield made
    made.close()


@pytest.fixture(scope="session")
def scratch():
    """A directory on the machine's disk for large files; gone at the end."""
    SCRATCH.mkdir(parents=True, exist_ok=True)
    path = Path(tempfile.mkdtemp(dir=SCRATCH))
    yield path
    shutil.rmtree(path)


@pytest.fixture(scope="session")
def hub_homes(scratch):
    """The directory that the hub's own servers have their homes in."""
    path = scratch / "hub-homes"
    path.mkdir()
    return path


@pytest.fixture(scope="session")
def hub(network, hub_homes, tmp_path_factory):
    with open(tmp_path_factory.mktemp("hub") / "hub.log", "w") as log:
        made = Hub(network, log=log, homes=hub_homes)
        yield made
        made.close()


@pytest.fixture(scope="session")
def client(network, tmp_path_factory):
    return Client(network, tmp_path_factory.mktemp("client"), quick=True)


@pytest.fixture(scope="session")
def key(tmp_path_factory):
    """A key pair that users may have."""
    return Key(tmp_path_factory.mktemp("key"))


@pytest.fixture(scope="session")
def package():
    found = built_package()
    if not found:
        pytest.exit("no package: run `make deb` first, or name one in JO_DEB", 2)
    return found


@pytest.fixture(scope="session")
def shared_bastion(network, hub, client, package, suite):
    made = Bastion(network, suite, package, hub.url)
    made.admin_key(client.public_key)
    made.baseline = made.state()
    yield made
    made.close()


@pytest.fixture(scope="session")
def homes_bastion(network, hub, hub_homes, client, package, suite):
    """A bastion with homes: /srv/homes is an ext4 file system of its own, /srv/hub what the hub's servers have."""
    made = Bastion(network, suite, package, hub.url, binds=[(hub_homes, "/srv/hub")])
    made.admin_key(client.public_key)
    Ext4(made.box, "/srv/homes")
    made.baseline = made.state()
    yield made
    made.close()


@pytest.fixture
def make_place(bastion, hub, client, scratch):
    """Makes a user of the hub with a home on the bastion: make_place("dora", 1000, 100)."""
    made = []

    def make(user, uid, gid, root="/srv/homes", shown=None, path=None):
        hub.add_user(user)
        home = local_home(bastion.box.path(f"{root}/{path or user}"))
        home.run("rm", "-rf", "--", home.path)
        home.mkdir(mode=0o700, owner=(uid, gid))
        made.append(bastion.box.path(f"{root}/{(path or user).split('/')[0]}"))
        return Place(client, bastion, user, hub.token(user), home, (uid, gid), shown or f"/home/{user}", scratch)

    yield make
    for path in made:
        shutil.rmtree(path, ignore_errors=True)


@pytest.fixture
def place(bastion, hub, make_place):
    """Dora's home; like all homes of Jupyter images it belongs to 1000:100. Her server is never started."""
    with bastion.configured(hub.url, BY_HOME):
        yield make_place("dora", 1000, 100)
    assert hub.idle("dora"), "sftp must not start a server"


@pytest.fixture
def bastion(shared_bastion, hub, client, request):
    """The suite's bastion; after each test nothing of it may be left there, nor a terminal at the hub."""
    request.node.log_mark = shared_bastion.syslog.mark()
    yield shared_bastion
    client.close_all()
    try:
        shared_bastion.wait_state(shared_bastion.baseline)
    except AssertionError:
        # One test's leftovers are not the next one's failure.
        shared_bastion.baseline = shared_bastion.state()
        raise
    finally:
        for one in shared_bastion.ours():
            one.kill()


@pytest.fixture
def fresh_bastion(network, client, suite):
    """Makes bastions that the test may ruin: fresh_bastion(package, hub_url)."""
    made = []

    def make(package=None, hub_url=None, **options):
        made.append(Bastion(network, suite, package, hub_url, **options))
        return made[-1]

    yield make
    client.close_all()
    try:
        for one in made:
            # Gateways that are killed with their sandbox would leave terminals behind.
            one.wait_quiet()
    finally:
        for one in made:
            one.close()


class Server:
    """A user with a running server: token, REST, and the terminals that exist there."""

    def __init__(self, hub, user):
        self.hub, self.user = hub, user
        hub.unsteer(user)
        hub.start_server(user)
        self.jupyter = Jupyter(hub, user)
        self.token = hub.token(user)

    def no_terminals(self, timeout=20.0):
        """Wait until none of the server's terminals is left."""
        wait_for(
            lambda: not self.jupyter.terminals(),
            lambda: f"terminals are closed: {self.jupyter.terminals()}",
            timeout,
            0.1,
        )


def _server(hub, client, user):
    server = Server(hub, user)
    yield server
    # An agent stays for as long as its connection.
    client.close_all()
    try:
        server.no_terminals()
    finally:
        try:
            for name in server.jupyter.terminals():
                server.jupyter.delete_terminal(name)
        except (OSError, AssertionError):
            # The test froze it: the next one starts anew.
            for one in hub.server_processes(user):
                one.kill()
            hub.stop_server(user)


@pytest.fixture(params=["auto", "plain"])
def terminal_mode(request, bastion, hub):
    """Interactive shells through the agent, and in a plain terminal of the server."""
    with bastion.configured(hub.url, f'[terminal]\nmode = "{request.param}"\n'):
        yield request.param


@pytest.fixture
def alice(hub, client):
    """Alice with a running server; all its terminals must be gone after the test."""
    yield from _server(hub, client, "alice")


@pytest.fixture
def bob(hub, client):
    """Bob with a running server."""
    yield from _server(hub, client, "bob")


@pytest.fixture
def carol(hub, client):
    """Carol with a running server."""
    yield from _server(hub, client, "carol")


@pytest.fixture(params=["old1", "old6"])
def old_server(hub, client, request):
    """A user with a running server of earlier years: jupyter_server 1, the classic notebook."""
    hub.add_user(request.param)
    yield from _server(hub, client, request.param)


@pytest.fixture
def faulty(network, hub):
    """A hub with faults in front of the real one."""
    made = FaultyHub(network, hub.box.network, (network.HUB, 8000))
    yield made
    made.close()


@pytest.fixture
def elsewhere(network, hub):
    """Another server, which no token may ever reach."""
    made = FaultyHub(network, hub.box.network)
    yield made
    made.close()


@pytest.fixture(scope="session", autouse=True)
def root():
    if os.geteuid():
        pytest.exit("the end-to-end tests need root", 2)
