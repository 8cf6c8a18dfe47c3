"""What the agent's tests share: every Python of this machine, and agents in terminals."""

import functools
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from peer import Peer

CHECK = "import sys; print(sys.version_info >= (3, 6), '%d.%d' % sys.version_info[:2], sys.executable)"


@functools.cache
def pythons():
    """One Python of each version: those of the PATH by their usual names, and those that AGENT_PYTHONS lists."""
    candidates = [path for path in os.environ.get("AGENT_PYTHONS", "").split(":") if path]
    for name in ("python3", *(f"python3.{minor}" for minor in range(6, 15))):
        for directory in os.get_exec_path():
            path = Path(directory, name)
            if path.is_file() and os.access(path, os.X_OK):
                candidates.append(str(path))
    found = {}
    for path in candidates:
        answer = subprocess.run([path, "-ISc", CHECK], capture_output=True, text=True, check=False)
        right, version, real = (answer.stdout.split(None, 2) + ["", "", ""])[:3]
        if right == "True":
            found.setdefault(version, real.strip())
    return dict(sorted(found.items(), key=lambda item: int(item[0].partition(".")[2])))


def pytest_generate_tests(metafunc):
    """Tests that ask for a `python` run with each."""
    if "python" in metafunc.fixturenames:
        found = pythons()
        metafunc.parametrize("python", list(found.values()), ids=list(found), scope="session")


@pytest.fixture
def agent(python):
    """Starts agents: called with what `Peer` takes."""
    running = []

    def start(**options):
        running.append(Peer(python, **options))
        return running[-1]

    yield start
    for peer in running:
        violations, noise = peer.violations, bytes(peer.noise)
        peer.close()
        assert not violations
        assert b";gone;" not in noise or b"was killed" in noise or peer.may_fail


@pytest.fixture
def peer(agent):
    """An agent that has said HELLO."""
    return agent()


@pytest.fixture
def bash():
    """Bash, as login shell."""
    return shutil.which("bash")
