"""Fixtures: our SFTP server under every Python that is there, and OpenSSH's beside it.

AGENT_PYTHONS names interpreters, separated by colons; without it python3.6 to python3.14 are looked for.
"""

import os
import sys

import pytest

from raw import Both, Connection
from servers import FILES, STOCK, interpreters, without_privileges


def pytest_generate_tests(metafunc):
    if "python" in metafunc.fixturenames:
        found = interpreters()
        metafunc.parametrize("python", found.values(), ids=found.keys(), scope="session")


@pytest.fixture
def start(tmp_path):
    """Starts servers: start(argv, cwd, env). They end with the test."""
    made = []

    def one(argv, cwd=None, env=None, **options):
        cwd = cwd or tmp_path
        made.append(Connection(argv, cwd, env, **options))
        return made[-1]

    yield one
    for connection in made:
        connection.close()


@pytest.fixture
def ours(start, python):
    """Our server with an empty directory."""
    found = start([python, FILES])
    found.init()
    return found


@pytest.fixture
def make_both(start, python, tmp_path):
    """Starts both servers: make_both(env)."""
    count = []

    def make(env=None, umask=0o022, begin=True):
        count.append(None)
        commands = {"ours": [python, FILES]}
        if STOCK:
            commands["them"] = [STOCK]
        connections, roots = [], []
        for name, argv in commands.items():
            root = tmp_path / f"{name}{len(count)}"
            root.mkdir()
            root.chmod(0o755)
            roots.append(root)
            connections.append(
                start([*without_privileges(), *map(str, argv)], root, env, preexec_fn=lambda: os.umask(umask))
            )
        both = Both(connections, roots)
        if begin:
            both.init()
        return both

    return make


@pytest.fixture
def both(make_both):
    """Both servers, each in an empty directory of its own."""
    return make_both()


@pytest.fixture(scope="session", autouse=True)
def stock():
    if not STOCK:
        print("no sftp-server of OpenSSH is installed: ours is compared with nothing", file=sys.stderr)
