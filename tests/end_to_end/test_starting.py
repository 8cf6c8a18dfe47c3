"""A login finds the user's server stopped, starting, stopping, broken, or not to be had."""

import threading
import time

import pytest

from lib.actors.faultyhub import answer, hang
from lib.actors.jupyter import Jupyter
from lib.wait import wait_for

pytestmark = [pytest.mark.only("trixie"), pytest.mark.waits]


@pytest.fixture
def stopped(hub):
    """Carol, whose server is stopped."""
    hub.unsteer("carol")
    hub.stop_server("carol")
    yield hub.token("carol")
    hub.unsteer("carol")
    for name in ("", "gpu"):
        if (hub.server("carol", name) or {}).get("pending"):
            wait_for(lambda n=name: not (hub.server("carol", n) or {}).get("pending"), "carol's server settles", 60)


def closed(hub, user, name=""):
    """Wait until the user's server has no terminal left."""
    jupyter = Jupyter(hub, user, name)
    wait_for(lambda: not jupyter.terminals(), lambda: f"terminals are closed: {jupyter.terminals()}", 20, 0.1)


def ends(terminal, timeout=60):
    """Everything a session said until it ended, and its status."""
    said = terminal.wait_closed(timeout).decode(errors="replace")
    return said, terminal.exit_status()


def test_a_stopped_server_is_started(bastion, client, hub, stopped):
    with client.terminal(bastion, "carol", stopped) as terminal:
        terminal.prompt(60)
        assert hub.running("carol")
        assert terminal.run("pwd") == "/mnt/home/carol\n"
    closed(hub, "carol")


def test_a_slow_start_shows_the_hubs_progress(bastion, client, hub, stopped):
    hub.steer("carol", delay=6, messages=["pulling the image", "finding a node", "mounting the home"])
    with client.terminal(bastion, "carol", stopped) as terminal:
        terminal.expect("pulling the image", 10)
        terminal.expect("mounting the home", 20)
        terminal.prompt(60)
        assert terminal.run("echo $((6*7))") == "42\n"
    closed(hub, "carol")


def test_progress_with_control_characters_is_harmless(bastion, client, hub, stopped):
    hub.steer("carol", delay=3, messages=["evil \x1b]0;title\x07 \x1b[2J \x9b31m message"])
    with client.terminal(bastion, "carol", stopped) as terminal:
        shown = terminal.expect(rb"evil .*?message", 20)[0]
        assert b"\x1b]0" not in shown and b"\x1b[2J" not in shown and b"\x07" not in shown
        terminal.prompt(60)
    closed(hub, "carol")


def test_a_failed_start_shows_its_reason(bastion, client, hub, stopped):
    hub.steer("carol", fail="your quota is used up")
    with client.terminal(bastion, "carol", stopped) as terminal:
        said, status = ends(terminal)
        assert "your quota is used up" in said and status != 0


def test_a_slow_failed_start_shows_its_reason(bastion, client, hub, stopped):
    hub.steer("carol", fail="no node has a GPU", delay=12, messages=["waiting for a node"])
    with client.terminal(bastion, "carol", stopped) as terminal:
        said, status = ends(terminal)
        assert "no node has a GPU" in said and status != 0


def test_a_start_after_a_failed_one(bastion, client, hub, stopped):
    """The hub's 201 after a failure can be false: only `ready` counts."""
    hub.steer("carol", fail="first time unlucky", delay=11)
    with client.terminal(bastion, "carol", stopped) as terminal:
        assert "first time unlucky" in ends(terminal)[0]
    hub.unsteer("carol")
    with client.terminal(bastion, "carol", stopped) as terminal:
        terminal.prompt(60)
    closed(hub, "carol")


def test_a_server_that_is_starting_already(bastion, client, hub, stopped):
    hub.steer("carol", delay=5, messages=["on its way"])
    starting = threading.Thread(target=hub.api, args=("POST", "/users/carol/server"))
    starting.start()
    wait_for(lambda: (hub.server("carol") or {}).get("pending") == "spawn", "the start is pending")
    with client.terminal(bastion, "carol", stopped) as terminal:
        terminal.prompt(60)
    starting.join()
    closed(hub, "carol")


def test_a_server_that_is_stopping(bastion, client, hub, stopped):
    hub.start_server("carol")
    hub.steer("carol", stop_delay=4)
    stopping = threading.Thread(target=hub.api, args=("DELETE", "/users/carol/server"))
    stopping.start()
    wait_for(lambda: (hub.server("carol") or {}).get("pending") == "stop", "the stop is pending")
    with client.terminal(bastion, "carol", stopped) as terminal:
        terminal.prompt(60)
        assert terminal.run("echo up") == "up\n"
    stopping.join()
    hub.unsteer("carol")
    closed(hub, "carol")


def test_a_start_that_the_hub_gives_up(bastion, client, hub, stopped):
    hub.steer("carol", delay=120, start_timeout=12)
    with client.terminal(bastion, "carol", stopped) as terminal:
        said, status = ends(terminal)
        assert "did not start" in said and status != 0


def test_a_start_that_takes_longer_than_we_wait(bastion, client, hub, stopped):
    hub.steer("carol", delay=15, messages=["waiting for a node"])
    with bastion.configured(hub.url, "start_timeout = 10"):
        with client.terminal(bastion, "carol", stopped) as terminal:
            said, status = ends(terminal)
            assert "not ready after 10 s" in said and "waiting for a node" in said and status != 0


def test_too_many_starts_at_once_are_waited_for(bastion, client, hub, stopped, faulty):
    """429 with Retry-After means: later."""
    faulty.on(
        "POST",
        "/hub/api/users/carol/server",
        answer(429, '{"status": 429, "message": "too many"}', Retry_After=2),
        times=2,
    )
    with bastion.configured(faulty.url):
        start = time.monotonic()
        with client.terminal(bastion, "carol", stopped) as terminal:
            terminal.prompt(60)
            assert time.monotonic() - start >= 3.5, "Retry-After was ignored"
        closed(hub, "carol")
    assert len(faulty.seen("carol/server$", "POST")) >= 3


def test_too_many_servers(bastion, client, hub, stopped, faulty):
    """429 without Retry-After means: no more servers, waiting doesn't help."""
    faulty.on(
        "POST", "/hub/api/users/carol/server", answer(429, '{"status": 429, "message": "Active user limit exceeded"}')
    )
    with bastion.configured(faulty.url):
        with client.terminal(bastion, "carol", stopped) as terminal:
            said, status = ends(terminal)
            assert "limit exceeded" in said and status != 0


@pytest.mark.parametrize("status", [400, 403, 404, 500, 503])
def test_other_answers_to_a_start(bastion, client, hub, stopped, faulty, status):
    faulty.on(
        "POST",
        "/hub/api/users/carol/server",
        answer(status, '{"status": %d, "message": "because of \\u001b[2J reasons"}' % status),
    )
    with bastion.configured(faulty.url):
        with client.terminal(bastion, "carol", stopped) as terminal:
            said, code = ends(terminal, 90)
            assert code != 0 and "reasons" in said and "\x1b[2J" not in said


def test_a_hub_that_hangs_at_the_start(bastion, client, hub, stopped, faulty):
    faulty.on("POST", "/hub/api/users/carol/server", hang)
    with bastion.configured(faulty.url, "start_timeout = 15"):
        with client.terminal(bastion, "carol", stopped) as terminal:
            said, code = ends(terminal, 90)
            assert code != 0 and said.strip()


def test_leaving_while_the_server_starts(bastion, client, hub, stopped):
    """Ctrl-C while waiting ends the session at once."""
    hub.steer("carol", delay=8, messages=["a long wait"])
    with client.terminal(bastion, "carol", stopped) as terminal:
        terminal.expect("a long wait", 10)
        start = time.monotonic()
        terminal.send(b"\x03")
        terminal.wait_closed(5)
        assert time.monotonic() - start < 3
        assert terminal.exit_status() != 0


def test_a_named_server(bastion, client, hub, stopped):
    with client.terminal(bastion, "carol+gpu", stopped) as terminal:
        terminal.prompt(60)
        assert hub.running("carol", "gpu") and not hub.running("carol")
    closed(hub, "carol", "gpu")
    hub.stop_server("carol", "gpu")


def test_a_named_server_while_the_default_one_runs(bastion, client, hub, stopped):
    """The proxy passes what is for gpu to the default server, whose answer says nothing about gpu."""
    hub.start_server("carol")
    with client.terminal(bastion, "carol+gpu", stopped) as terminal:
        terminal.prompt(60)
        assert hub.running("carol", "gpu")
        assert not Jupyter(hub, "carol").terminals()
    closed(hub, "carol", "gpu")
    hub.stop_server("carol", "gpu")


def test_a_crashed_server_is_started_again(bastion, client, hub, stopped):
    hub.start_server("carol")
    for one in hub.server_processes("carol"):
        one.kill()
    with client.terminal(bastion, "carol", stopped) as terminal:
        terminal.prompt(60)
        assert terminal.run("echo alive") == "alive\n"
    closed(hub, "carol")
