"""Fixtures: our SFTP server under every Python that is there, and OpenSSH's beside it.

AGENT_PYTHONS names interpreters, separated by colons; without it python3.6 to python3.14 are looked for.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from raw import Both, Connection

FILES = Path(__file__).resolve().parents[2] / "src/agent/files.py"
STOCK = next((path for path in ("/usr/lib/openssh/sftp-server", "/usr/libexec/openssh/sftp-server", "/usr/lib/ssh/sftp-server")
              if os.access(path, os.X_OK)), None)


def version(python):
    """The interpreter's version, None when it doesn't run."""
    try:
        done = subprocess.run([python, "-c", "import sys; print('%d.%d' % sys.version_info[:2])"], stdout=subprocess.PIPE,
                              stderr=subprocess.DEVNULL, text=True, timeout=30)
    except OSError:
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def interpreters():
    """Version → path."""
    named = os.environ.get("AGENT_PYTHONS")
    candidates = named.split(":") if named else [shutil.which(f"python3.{minor}") for minor in range(6, 15)]
    found = {}
    for python in filter(None, candidates):
        number = version(python)
        assert number or not named, f"AGENT_PYTHONS: {python} doesn't run"
        if number:
            found.setdefault(number, python)
    return found or {version(sys.executable): sys.executable}


def pytest_generate_tests(metafunc):
    if "python" in metafunc.fixturenames:
        found = interpreters()
        metafunc.parametrize("python", found.values(), ids=found.keys(), scope="session")


def without_privileges():
    """Before a command: also root meets refusals then."""
    return ["setpriv", "--bounding-set=-all", "--inh-caps=-all", "--"] if os.geteuid() == 0 else []


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
            connections.append(start([*without_privileges(), *map(str, argv)], root, env,
                                     preexec_fn=lambda: os.umask(umask)))
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
