"""Commands in the user's server: what stock sshd does with them (test_commands_stock.py), and what is ours alone."""

import contextlib
import re
import threading
import time

import pytest

from lib.actors.client import Terminal
from lib.actors.jupyter import Jupyter, Responsiveness
from lib.checks import commandchecks, commandclients, expect, terminalchecks
from lib.checks.files import difference
from lib.checks.shellplace import ShellPlace, nap
from lib.sandbox.agents import Agents, peak, proportional, resident
from lib.wait import wait_for

#: What the gateway and the agent may hold at most.
GATEWAY, AGENT = 8 << 20, 25 << 20
#: How much a user's Jupyter server may grow by a session: buffers, not data.
GROWTH = 40 << 20


@pytest.fixture
def agents(hub, alice):
    """Alice's agents; after the test there is none, nor anything else that has not been there before."""
    before = {one.pid for one in hub.server_processes("alice")}
    made = Agents(lambda: hub.server_processes("alice"))
    yield made
    left = lambda: [one for one in hub.server_processes("alice") if one.pid not in before]  # noqa: E731
    try:
        wait_for(lambda: not left(), lambda: f"nothing is left: {[one.command_line()[:200] for one in left()]}", 20)
    finally:
        for one in left():
            one.kill()


@pytest.fixture
def place(bastion, client, hub, hub_homes, alice, agents, scratch):
    """Alice's own server; her home is empty but for what Jupyter puts there."""
    yield ShellPlace.of_hub(hub, client, bastion, "alice", alice.token, scratch, hub_homes)
    # Before the fixture of the processes looks.
    client.close_all()


# As stock sshd does.


@pytest.mark.parametrize("check", commandchecks.QUICK, ids=lambda check: check.__name__)
def test_commands(place, check):
    check(place)


@pytest.mark.parametrize("check", terminalchecks.QUICK, ids=lambda check: check.__name__)
def test_terminals(place, check):
    check(place)


@pytest.mark.parametrize("check", commandclients.CLIENTS, ids=lambda check: check.__name__)
def test_clients(place, check):
    check(place)


def test_variables_that_an_administrator_lets_in(bastion, hub, place, client, alice):
    """As with stock sshd; but neither this host's own variables nor those that would mislead the server travel."""
    sent = {
        "PROJECT": "größe 'x' $(id)",
        "LC_TERMINAL": "iTerm2",
        "LC_EMPTY": "",
        "LD_BIND_NOW": "1",
        "HOME": "/sent",
        "JUPYTERHUB_USER": "sent",
        "USER": "sent",
        "AFTER": "USER",
        "FROM_PAM": "sent",
    }
    drop_in, environment = "/etc/ssh/sshd_config.d/01-env.conf", "/etc/environment"
    before = bastion.box.read(environment) if bastion.box.path(environment).exists() else None
    bastion.box.write(
        drop_in,
        "Match Group jupyterhub\n"
        "AcceptEnv LANG LC_* COLORTERM PROJECT LD_* HOME JUPYTERHUB_* USER AFTER\nSetEnv FROM_SETENV=here\n",
    )
    bastion.box.write(environment, "FROM_PAM=here\nLC_FROM_PAM=here\n")
    bastion.reload_sshd()
    try:

        def ask(terminal):
            with contextlib.closing(client.login(bastion, "alice", alice.token)) as transport:
                channel = transport.open_session()
                for name, value in sent.items():
                    channel.set_environment_variable(name, value)
                if not terminal:
                    channel.exec_command("env -0")
                    text = b"".join(iter(lambda: channel.recv(65536), b"")).decode()
                else:
                    channel.get_pty()
                    channel.invoke_shell()
                    text = Terminal(transport, channel).run("env -0 | tr '\\0' '\\n'").replace("\n", "\0")
                return dict(part.split("=", 1) for part in text.split("\0") if "=" in part)

        for mode in ("auto", "plain"):
            with bastion.configured(hub.url, f'[terminal]\nmode = "{mode}"\n'):
                for terminal in (False, True):
                    found = ask(terminal)
                    arrived = {name: value for name, value in found.items() if sent.get(name) == value}
                    expected = ("PROJECT", "LC_TERMINAL", "LC_EMPTY")
                    assert arrived == {name: sent[name] for name in expected}, (mode, terminal, found)
                    here = [
                        name
                        for name, value in found.items()
                        if name.startswith(("FROM_", "LC_FROM")) or value == "here"
                    ]
                    assert not here and found["JUPYTERHUB_USER"] == "alice" and found["HOME"] == place.shown, found
    finally:
        bastion.box.path(drop_in).unlink()
        if before is None:
            bastion.box.path(environment).unlink()
        else:
            bastion.box.write(environment, before)
        bastion.reload_sshd()


# What it costs.


def jupyter(hub, agents):
    """Alice's Jupyter server."""
    (one,) = [one for one in hub.server_processes("alice") if "jupyterhub.singleuser" in one.command_line()]
    return one


@pytest.mark.only("bookworm")
def test_many_bytes_each_way(bastion, hub, place, agents):
    """They arrive unchanged, and neither end remembers any of them: there are many times more than both may hold."""
    highest = {}

    def look():
        for name, found in (("gateway", bastion.gateways()), ("agent", agents.agents())):
            for one in found:
                # The gateway shares its libraries with nobody in particular: what counts is what it adds.
                highest[name] = max(highest.get(name, 0), peak(one) if name == "agent" else proportional(one))

    server = jupyter(hub, agents)
    before = resident(server)
    with Watching(look), Responsiveness(Jupyter(hub, "alice"), limit=2.0):
        print("up, down, both: {:.1f} s, {:.1f} s, {:.1f} s".format(*commandchecks.check_bulk(place)))
    print(
        {name: f"{size >> 10} KB" for name, size in highest.items()},
        f"server: {(resident(server) - before) >> 10} KB more",
    )
    assert highest["gateway"] <= GATEWAY and highest["agent"] <= AGENT, highest
    assert resident(server) - before < GROWTH


class Watching:
    """Calls a function five times a second in the background."""

    def __init__(self, look):
        self._look, self._stop = look, threading.Event()
        self._thread = threading.Thread(target=self._work, daemon=True)

    def _work(self):
        while not self._stop.wait(0.2):
            self._look()

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *exc):
        self._stop.set()
        self._thread.join()


@pytest.mark.parametrize(
    "check",
    [commandchecks.check_slow_reader, commandchecks.check_program_that_reads_late],
    ids=lambda check: check.__name__,
)
def test_memory_while_one_end_waits(bastion, hub, place, alice, agents, check):
    """Neither the gateway nor the agent, nor the Jupyter server between them, takes up what nobody reads."""
    server = jupyter(hub, agents)
    before = resident(server)

    def meanwhile():
        with Responsiveness(alice.jupyter):
            time.sleep(3)
            (gateway,) = bastion.gateways()
            sizes = proportional(gateway), peak(agents.agent()), resident(server) - before
        print("gateway, agent, server's growth: {} KB, {} KB, {} KB".format(*(size >> 10 for size in sizes)))
        assert sizes[0] <= GATEWAY and sizes[1] <= AGENT and sizes[2] <= GROWTH, sizes

    check(place, meanwhile)


# One agent for a connection.


def test_many_channels_share_one_terminal(place, alice, agents):
    with place.master():
        assert alice.jupyter.terminals() == []
        place.output("true")
        (name,) = alice.jupyter.terminals()
        agent = agents.agent()
        counts = []
        with (
            Watching(lambda: counts.append(len(alice.jupyter.terminals()))),
            place.terminal("echo ready; cat") as child,
        ):
            child.expect_exact("ready")
            for number in range(5):
                assert place.output(f"echo {number}") == f"{number}\n"
            done = [place.ssh("cat", b"x" * 1_000_000) for _ in range(2)]
            assert all(len(one.out) == 1_000_000 for one in done)
        assert set(counts) == {1} and alice.jupyter.terminals() == [name]
        assert agents.agent().pid == agent.pid and len(agents.guardians()) == 1
    alice.no_terminals()
    agents.none()


def test_each_connection_has_its_own(place, alice, agents):
    marker, other = nap(), nap()
    with place.opened(marker, stdin=None), place.opened(other, stdin=None):
        place.found(marker, "sleep"), place.found(other, "sleep")
        assert len(alice.jupyter.terminals()) == len(agents.agents()) == 2
    agents.none()


def test_terminals_of_the_user_are_left_alone(place, alice):
    """One that she has opened in the browser stays, and works."""
    own = alice.jupyter.open_terminal()
    try:
        assert place.output("echo on") == "on\n"
        wait_for(lambda: alice.jupyter.terminals() == [own.name], "only hers is left")
        own.send("echo still''-here\n")
        own.read_until("still-here")
    finally:
        own.close()


# Ends.


def test_nothing_is_left_in_the_home(place, agents):
    """No file of ours was ever there."""
    place.output("true")
    before = place.home.tree(sums=False)
    with place.master():
        place.output("true")
        assert place.ssh("cat", b"x" * 500_000).status == 0
        with place.terminal("echo ready; cat") as child:
            child.expect_exact("ready")
            during = place.home.tree(sums=False)
        place.ssh(None, b"exit\n")
    agents.none()
    after = place.home.tree(sums=False)
    for tree in (during, after):
        assert before.keys() == tree.keys(), difference(before, tree)


@pytest.mark.parametrize("how", ["command", "stopped", "deaf", "terminal"])
def test_a_killed_client_takes_the_program_along(place, agents, how):
    """A process is hung up on when its connection is gone; whoever doesn't hear that finds the output closed."""
    marker = nap()
    command = {
        "command": marker,
        "terminal": marker,
        "stopped": f"kill -STOP $$; {marker}; true",
        "deaf": f"trap '' HUP; while echo x; do sleep 0.1; done # {marker}",
    }[how]
    with place.opened(command, ["-tt"] if how == "terminal" else []) as client:
        wait_for(lambda: place.find(marker), "it runs")
        client.kill()
        client.wait()
        place.gone(marker, 30)
    agents.none()


def test_a_closed_channel_takes_its_program_along(place, agents, client, bastion, alice):
    """Also one that neither reads nor writes, whose input has ended long before; others of the connection go on."""
    with contextlib.closing(client.login(bastion, "alice", alice.token)) as transport:

        def started(command):
            marker = nap()
            channel = transport.open_session()
            channel.exec_command(f"{command} {marker}")
            place.found(marker, "sleep")
            return channel, marker

        _, other = started("exec")
        for command, ends in (("exec", False), ("exec", True), ("trap 'exit 1' TERM; exec </dev/null;", True)):
            channel, marker = started(command)
            if ends:
                channel.shutdown_write()
                assert transport.open_session() and place.found(marker, "sleep")
            channel.close()
            place.gone(marker)
        assert place.find(other)
    place.gone(other)


@pytest.mark.waits
@pytest.mark.only("bookworm")
def test_a_killed_gateway(bastion, place, agents, alice):
    """Nobody is left who could say goodbye: the agent finds out by itself, and ends with all that it has started."""
    marker = nap()
    with place.opened(f"{marker}; echo over") as client:
        place.found(marker, "sleep")
        (gateway,) = bastion.gateways()
        gateway.kill()
        said = client.stderr.read()
        assert client.wait(20) == 255 and said.strip(), said
    before = place.home.names()
    agents.none(130)
    place.gone(marker)
    wait_for(lambda: not alice.jupyter.terminals(), "the terminal has gone", 20)
    assert place.home.names() == before


# The server is started for a command.


def test_a_stopped_server_is_started(bastion, client, hub, hub_homes, scratch):
    """Its progress is told on standard error, line by line, and nothing of it gets into the output."""
    hub.unsteer("bob")
    hub.stop_server("bob")
    hub.steer("bob", delay=3, messages=["first", "second", "third"])
    place = ShellPlace.of_hub(hub, client, bastion, "bob", hub.token("bob"), scratch, hub_homes)
    try:
        done = place.ssh("cat; exit 3", b"typed before it was there\n", timeout=90)
        assert (done.status, done.out) == (3, b"typed before it was there\n"), done
        lines = done.err.decode().splitlines()
        assert len(lines) >= 2 and all(re.match(r"Starting your server: \d+% ", line) for line in lines), lines
        assert len(set(lines)) == len(lines), "a line was repeated"
        assert place.ssh("true").err == b""
    finally:
        hub.unsteer("bob")
        hub.stop_server("bob")


def test_a_server_that_does_not_start(bastion, client, hub, hub_homes, scratch):
    hub.stop_server("bob")
    hub.steer("bob", fail="no room for it")
    place = ShellPlace.of_hub(hub, client, bastion, "bob", hub.token("bob"), scratch, hub_homes)
    try:
        done = place.ssh("echo never", timeout=90)
        assert done.status not in (0, 1) and done.out == b"" and b"no room for it" in done.err, done
    finally:
        hub.unsteer("bob")


def test_a_named_server(bastion, client, hub, hub_homes, scratch):
    hub.start_server("bob", "gpu")
    place = ShellPlace.of_hub(hub, client, bastion, "bob+gpu", hub.token("bob"), scratch, hub_homes)
    try:
        assert place.output("echo $JUPYTERHUB_SERVER_NAME") == "gpu\n"
    finally:
        hub.stop_server("bob", "gpu")


# Configuration.


def test_plain_terminals(bastion, hub, place, agents, client, alice):
    """`terminal.mode = "plain"`: terminals are Terminado's own; commands need an agent all the same."""
    with bastion.configured(hub.url, '[terminal]\nmode = "plain"\n'):
        with client.terminal(bastion, "alice", alice.token) as terminal:
            terminal.prompt()
            assert not agents.agents()
        assert place.output("echo on") == "on\n"


def test_terminals_by_the_agent(bastion, hub, client, alice, agents):
    with client.terminal(bastion, "alice", alice.token) as terminal:
        terminal.prompt()
        agents.agent()
        assert len(alice.jupyter.terminals()) == 1


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ('[terminal]\nmode = "agent"', "terminal.mode"),
        ('[files]\nbackend = "homes"', "files.backend"),
        ('[files]\nbackend = "x"', "files.backend"),
        ('[files]\nsftp_options = ["-R"]', "files.sftp_options"),
        ("[files]\nrsync = true", "files.rsync"),
    ],
)
def test_a_wrong_configuration_keeps_hub_users_out(bastion, hub, place, text, key):
    mark = bastion.syslog.mark()
    with bastion.configured(hub.url, text + "\n"):
        done = place.ssh("echo never")
        assert done.status == 255 and done.out == b"", done
        bastion.syslog.wait(re.escape(key), mark)


def test_what_the_log_says(bastion, place):
    """A command is logged with its session and user, on one line whatever it holds, and without the token."""
    mark = bastion.syslog.mark()
    assert place.ssh("echo 'one\ntwo \x1b[31m'").status == 0
    entries = [one for one in bastion.syslog.since(mark) if one.program == "jupyterhub-openssh"]
    assert any(re.search(expect.WHO.replace(r"\S+", "alice", 1), one.text) for one in entries), entries
    for one in bastion.syslog.since(mark):
        assert not re.search(r"[\x00-\x1f\x7f]", one.text) and place.token not in one.text, one
