"""Commands and transfers while the proxy, the server or the agent dies, or somebody types into its terminal."""

import hashlib
import os
import subprocess
import threading
import time

import pytest

from lib.actors.jupyter import RawTerminal, Responsiveness
from lib.checks.clientchecks import rsync_command
from lib.checks.commandchecks import FULL, counting, drain, feed
from lib.checks.files import make_random, sha256
from lib.checks.place import leaves_nothing
from lib.checks.shellplace import ShellPlace, nap
from lib.sandbox.agents import Agents
from lib.wait import wait_for

pytestmark = [pytest.mark.only("trixie"), pytest.mark.waits]


@pytest.fixture
def agents(hub, alice):
    return Agents(lambda: hub.server_processes("alice"))


@pytest.fixture
def place(bastion, client, hub, hub_homes, alice, agents, scratch):
    yield ShellPlace.of_hub(hub, client, bastion, "alice", alice.token, scratch, hub_homes)
    agents.none()


# The proxy.


def test_the_proxy_restarted_during_rsync(hub, place):
    """Killed and started again, time and again: the transfer goes on, and nothing is lost, repeated or exchanged."""
    size, times = ((1 << 30), 20) if FULL else ((300 << 20), 20)

    @leaves_nothing
    def check(place):
        with place.scratch() as here:
            whole = make_random(here / "whole", size)
            command = rsync_command(
                place, "--inplace", f"--bwlimit={size // 120 // 1024}k", here / "whole", f"{place.host}:whole"
            )
            client = place.start(command)
            try:
                there = lambda: (place.home.stat("whole", sums=False) or client).__dict__.get("size", 0)  # noqa: E731
                for number in range(1, times + 1):
                    wait_for(
                        lambda: there() >= size * number // (times + 2) or client.poll() is not None,
                        f"rsync is {number} parts on",
                        120,
                        0.2,
                    )
                    assert client.poll() is None, f"rsync ended: status {client.returncode}, {number - 1} restarts"
                    hub.restart_proxy()
                assert client.wait(400) == 0
            finally:
                if client.poll() is None:
                    client.kill()
                    client.wait()
            assert place.home.stat("whole").sha256 == whole
            place.run(rsync_command(place, "--checksum", f"{place.host}:whole", here / "back"), timeout=300)
            assert sha256(here / "back") == whole

    check(place)


def test_the_proxy_restarted_during_downloads(hub, place):
    """Several streams at once, both ways, with what is on its way in both directions when the connection breaks."""
    numbers, expected = counting(120 << 20), hashlib.sha256()
    with place.master():
        with subprocess.Popen(numbers, stdout=subprocess.PIPE) as here:
            drain(here.stdout, expected)
        with (
            place.opened(f"{' '.join(numbers)}; exit 4", stdin=subprocess.DEVNULL) as down,
            place.opened("sha256sum; exit 5") as up,
        ):
            sent, got, failures = hashlib.sha256(), hashlib.sha256(), []
            thread = feed(up, 100 << 20, sent)
            reader = threading.Thread(target=lambda: drain(down.stdout, got), daemon=True)
            reader.start()
            for _ in range(3):
                time.sleep(1)
                hub.restart_proxy()
            thread.join(120)
            reader.join(120)
            assert up.stdout.read().split()[0].decode() == sent.hexdigest() and up.wait(30) == 5, failures
            assert got.digest() == expected.digest() and down.wait(30) == 4


def test_commands_while_the_proxy_is_away(hub, place):
    """What waits is done as soon as there is a connection again; one that runs doesn't notice."""
    with place.master(), place.opened('while read -r line; do echo "got $line"; done; exit 3') as client:
        client.stdin.write(b"one\n")
        assert client.stdout.read(8) == b"got one\n"

        def meanwhile():
            client.stdin.write(b"two\n")
            time.sleep(3)

        hub.restart_proxy(meanwhile)
        assert client.stdout.read(8) == b"got two\n"
        client.stdin.close()
        assert client.wait(30) == 3 and client.stderr.read() == b""
        assert place.output("echo on") == "on\n"


def test_the_proxy_away_for_too_long(hub, place, agents):
    """More than a minute: a clear message, and status 255. Afterwards the same connection works anew."""
    marker = nap()
    with place.master():
        with place.opened(f"{marker}; echo over") as client:
            place.found(marker, "sleep")

            def meanwhile():
                start = time.monotonic()
                said = client.stderr.read().decode()
                assert client.wait(20) == 255 and 50 <= time.monotonic() - start <= 90, said
                assert len(said.splitlines()) == 2, said
                assert client.stdout.read() == b""

            hub.restart_proxy(meanwhile)
        wait_for(lambda: place.ssh("echo anew", timeout=60).out == b"anew\n", "commands run again", 120, 1)
        # The old agent hears nothing any more, and ends by itself.
        place.gone(marker, 130)


# The server, and the agent.


def test_the_server_stopped_during_a_command(bastion, client, hub, hub_homes, scratch):
    hub.unsteer("bob")
    hub.start_server("bob")
    place = ShellPlace.of_hub(hub, client, bastion, "bob", hub.token("bob"), scratch, hub_homes)
    with place.opened(f"echo on; {nap()}") as client:
        assert client.stdout.read(3) == b"on\n"
        hub.stop_server("bob")
        said = client.stderr.read().decode()
        assert client.wait(90) == 255 and len(said.splitlines()) == 2, said
    wait_for(lambda: not hub.server_processes("bob"), "nothing of the server is left", 30)


@pytest.mark.parametrize("busy", ["idle", "upload", "download"])
def test_the_agent_killed(place, alice, agents, busy):
    """Message, 255; the user's Jupyter server stays responsive, and the next command has a new agent."""
    with Responsiveness(alice.jupyter) as answers, place.master():
        own = set(alice.jupyter.terminals())
        command = {"idle": nap(), "upload": f"{nap()}; cat >/dev/null", "download": "yes"}[busy]
        with place.opened(command) as client:
            if busy == "upload":
                feed(client, 50 << 20)
            if busy == "download":
                drained = threading.Thread(target=lambda: drain(client.stdout), daemon=True)
                drained.start()
            agent = agents.agent()
            wait_for(lambda: place.find(command), "it runs")
            rounds = answers.rounds
            wait_for(lambda: answers.rounds >= rounds + 10 or answers.failures, "the server is used meanwhile", 30)
            agent.kill()
            said = client.stderr.read().decode()
            assert client.wait(30) == 255 and len(said.splitlines()) == 2, said
        rounds = answers.rounds
        wait_for(lambda: answers.rounds >= rounds + 10 or answers.failures, "and afterwards", 30)
        assert place.output("echo on", timeout=30) == "on\n"
        assert agents.agent().pid != agent.pid
        wait_for(lambda: len(set(alice.jupyter.terminals()) - own) == 1, "the terminal of the first is gone")
        for one in place.find(command):
            one.kill()


def test_the_guardian_killed(place, alice, agents):
    """It is only needed when the agent dies."""
    with Responsiveness(alice.jupyter), place.master():
        with place.opened("cat") as client:
            client.stdin.write(b"one\n")
            assert client.stdout.read(4) == b"one\n"
            for one in agents.guardians():
                one.kill()
            client.stdin.write(b"two\n")
            assert client.stdout.read(4) == b"two\n"
            client.stdin.close()
            assert client.wait(20) == 0


def test_the_terminal_closed_by_the_user(place, alice, agents):
    """Deleted in the browser in mid-transfer."""
    with Responsiveness(alice.jupyter) as answers, place.master():
        own = set(alice.jupyter.terminals())
        with place.opened("cat >/dev/null") as client:
            feed(client, 50 << 20)
            (name,) = wait_for(lambda: set(alice.jupyter.terminals()) - own, "the agent's terminal is there")
            agents.agent()
            assert alice.jupyter.delete_terminal(name).status == 204
            said = client.stderr.read().decode()
            assert client.wait(90) == 255 and said.strip(), said
        answers.check()
        assert place.output("echo on", timeout=30) == "on\n"


# Others at its terminal.


GARBAGE = (
    "typed by hand\n",
    "\x03\x03\x1a\x1c",
    "~" * 100,
    "~AAAA\n",
    "~" + "A" * 60_000 + "\n",
    "\n\n\n",
    "ü€😀" * 100,
    "~=\n~",
    "\x04",
    "A" * 200_000,
)


@pytest.mark.parametrize("direction", ["up", "down"])
def test_garbage_typed_into_its_terminal(place, alice, agents, direction):
    """Somebody has opened the terminal in the browser and types: the data are what they were."""
    size, stop = 60 << 20, threading.Event()
    with place.master():
        own = set(alice.jupyter.terminals())
        place.output("true")
        (name,) = set(alice.jupyter.terminals()) - own
        other = RawTerminal(alice.jupyter, name)

        def read():
            try:
                while not stop.is_set():
                    other.read(5)
            except Exception:  # noqa: BLE001 (it is only to be read)
                pass

        threading.Thread(target=read, daemon=True).start()
        digest, got = hashlib.sha256(), hashlib.sha256()
        with place.opened("sha256sum" if direction == "up" else "cat") as client:
            thread = feed(client, size, digest)

            def type_it():
                for number in range(1000):
                    if stop.is_set():
                        return
                    other.send(GARBAGE[number % len(GARBAGE)])
                    other.resize(10 + number % 20, 40)
                    time.sleep(0.02)

            typing = threading.Thread(target=type_it, daemon=True)
            typing.start()
            if direction == "up":
                assert client.stdout.read().split()[0].decode() == (thread.join() or digest.hexdigest())
            else:
                drain(client.stdout, got)
                assert got.digest() == (thread.join() or digest.digest())
            stop.set()
            typing.join()
            assert client.wait(20) == 0
        other.close(delete=False)


def test_the_terminal_says_what_it_is(place, alice):
    """To whoever opens it in the browser."""
    with place.master():
        own = set(alice.jupyter.terminals())
        place.output("true")
        (name,) = set(alice.jupyter.terminals()) - own
        other = RawTerminal(alice.jupyter, name)
        assert "jupyterhub-openssh" in other.read_until("jupyterhub-openssh")
        other.close(delete=False)
        assert place.output("echo on") == "on\n"


# Homes that are no good.


# What `conda init` writes, and what its hook then does, in short.
CONDA = """\
__conda_setup="$('/opt/conda/bin/conda' 'shell.bash' 'hook' 2> /dev/null)"
if [ $? -eq 0 ]; then eval "$__conda_setup"; elif [ -f /opt/conda/etc/profile.d/conda.sh ]; then
    . /opt/conda/etc/profile.d/conda.sh; else export PATH="/opt/conda/bin:$PATH"; fi
unset __conda_setup
conda() { \\local cmd="${1-__missing__}"; return 0; }
PS1='(base) '; export CONDA_DEFAULT_ENV=base CONDA_SHLVL=1 PYTHONHOME=/opt/conda PYTHONPATH=/opt/conda
trap ':' DEBUG; PROMPT_COMMAND='conda activate'
"""


@pytest.mark.parametrize("fault", ["read-only", "noise", "errexit", "conda", "no-home"])
def test_homes_and_startup_files_that_are_no_good(hub, place, fault):
    """Nothing of ours is written to the home, and what a startup file does is seen in the command alone."""
    home = place.home
    if fault == "read-only":
        home.run("chmod", "500", home.path)
    elif fault == "no-home":
        os.rename(home.path, f"{home.path}.away")
    else:
        text = {"noise": "echo noise\nprintf '\\033]7730;x;sh\\033\\\\'\n", "errexit": "set -eu\n", "conda": CONDA}[
            fault
        ]
        home.write(".bashrc", text, owner=place.owner)
    try:
        done = place.ssh("echo works; exit 3")
        assert done.status == 3 and done.out.endswith(b"works\n"), done
    finally:
        if fault == "read-only":
            home.run("chmod", "755", home.path)
        elif fault == "no-home":
            os.rename(f"{home.path}.away", home.path)
        else:
            home.remove(".bashrc")
