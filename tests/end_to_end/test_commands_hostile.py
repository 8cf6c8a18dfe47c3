"""A user's server that has an agent of its own making: the gateway ends the session with a message, and stays small.

The user can only deceive herself; but the gateway holds her token, and the bastion has other users.
"""

import contextlib
import json
import re
import threading
import time

import pytest

from lib.actors import mux
from lib.actors.fakeagent import FakeServer
from lib.checks.shellplace import ShellPlace
from lib.sandbox.agents import locked, peak, proportional
from lib.wait import Timeout, wait_for

pytestmark = pytest.mark.only("trixie")

LIMIT = 8 << 20


@pytest.fixture
def fake(network, hub, bastion, client, alice, scratch):
    """Makes a place whose server has `agent`, a function of a lib.actors.fakeagent.FakeTerminal; all its faults are told."""
    made = []

    def make(agent, extra=""):
        server = FakeServer(network, hub.box.network, (network.HUB, 8000), "alice", agent)
        made.append((server, bastion.configured(server.url, extra)))
        made[-1][1].__enter__()
        place = ShellPlace(client, bastion, "alice", alice.token, None, None, None, scratch, running=list)
        place.server = server
        return place

    yield make
    # A gateway's last act is to delete its terminal, which it tries for 15 s where nobody listens any more.
    with contextlib.suppress(Timeout):
        bastion.wait_quiet()
    for server, configured in made:
        configured.__exit__(None, None, None)
        server.close()
        assert not server.faults, server.faults


def small(bastion):
    """Fails when a gateway is large; its size, in bytes."""
    sizes = [proportional(one) for one in bastion.gateways()]
    assert max(sizes, default=0) <= LIMIT, f"{[size >> 10 for size in sizes]} KB"
    return max(sizes, default=0)


def refused(place, bastion, seconds=20, input=b"", command="cat", pattern=b".", first=lambda: None):
    """The session ends with status 255 and two lines, of which no byte is a control character; what was said.

    Nothing of what the client writes is read before `first` has returned.
    """
    start = time.monotonic()
    with place.opened(command) as client:
        with Memory(bastion) as watch:
            first()
            # What came before the end belongs to the client, which waits until somebody takes it.
            said = client.communicate(input, timeout=seconds + 10)[1]
        status = client.wait(20)
    assert status == 255 and len(said.splitlines()) == 2, (status, said)
    assert not re.search(rb"[\x00-\x09\x0b-\x1f\x7f\x9b]", said) and re.search(pattern, said), said
    assert time.monotonic() - start < seconds, f"it took {time.monotonic() - start:.1f} s"
    assert watch.highest <= LIMIT, f"{watch.highest >> 10} KB"
    bastion.wait_quiet()
    return said


class Memory:
    """The most memory that a gateway has while the context lasts."""

    def __init__(self, bastion, measure=proportional):
        self.bastion, self.measure, self.highest, self._stop = bastion, measure, 0, threading.Event()

    def _work(self):
        while not self._stop.wait(0.1):
            self.highest = max([self.highest, *map(self.measure, self.bastion.gateways())])

    def __enter__(self):
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *exc):
        self._stop.set()
        self._thread.join()


def test_the_fake_itself(bastion, fake):
    """An agent that does as it should: what follows fails for its own reasons."""

    def agent(terminal):
        description = terminal.opened()
        assert description["type"] == "process" and "window" in description
        terminal.send(mux.DATA, part=1, payload=b"out\n")
        terminal.send(mux.DATA, part=2, payload=b"err\n")
        data = terminal.take(mux.DATA)
        assert data[4] == b"input", data
        terminal.take(mux.EOF)
        terminal.send(mux.EOF, part=1)
        terminal.send(mux.EOF, part=2)
        terminal.send(mux.EXIT, payload={"status": 7})
        terminal.send(mux.CLOSE)
        terminal.take(mux.BYE)

    place = fake(agent)
    done = place.ssh("anything", b"input")
    assert (done.status, done.out, done.err) == (7, b"out\n", b"err\n"), done
    wait_for(lambda: place.server.deleted, "the terminal is closed")


#: What breaks the protocol once a stream is open: functions of the terminal.
VIOLATIONS = {
    "unknown-kind": lambda t: t.send(99),
    "unknown-unnumbered-kind": lambda t: t.unnumbered(9),
    "kind-of-the-gateway": lambda t: t.send(mux.OPEN, payload=b"{}"),
    "resize": lambda t: t.send(mux.RESIZE, payload=bytes(4)),
    "stream-never-opened": lambda t: t.send(mux.DATA, stream=77, part=1, payload=b"x"),
    "stream-of-the-agent": lambda t: t.send(mux.DATA, stream=2, part=1, payload=b"x"),
    "stream-zero": lambda t: t.send(mux.DATA, stream=0, part=1, payload=b"x"),
    "huge-stream": lambda t: t.send(mux.DATA, stream=0xFFFFFFFF, part=1, payload=b"x"),
    "part-to-the-agent": lambda t: t.send(mux.DATA, part=0, payload=b"x"),
    "part-that-is-none": lambda t: t.send(mux.DATA, part=200, payload=b"x"),
    "opened-twice": lambda t: t.send(mux.OPENED, payload={"window": 1}),
    "acknowledges-the-future": lambda t: t.unnumbered(mux.ACK, 1 << 40),
    "resumes-the-future": lambda t: t.unnumbered(mux.RESUME, (1 << 64) - 1),
    "too-much-credit": lambda t: t.send(mux.CREDIT, payload=(0xFFFFFFFF).to_bytes(4, "big")),
    "credit-in-small-steps": lambda t: [t.send(mux.CREDIT, payload=(300_000).to_bytes(4, "big")) for _ in range(8)],
    "credit-that-is-none": lambda t: t.send(mux.CREDIT, payload=b"xy"),
    "credit-for-output": lambda t: t.send(mux.CREDIT, part=1, payload=bytes((0, 0, 0, 9))),
    "more-than-its-credit": lambda t: [t.send(mux.DATA, part=1, payload=b"x" * 32_768) for _ in range(100)],
    "more-than-its-credit-of-errors": lambda t: [t.send(mux.DATA, part=2, payload=b"x" * 32_768) for _ in range(100)],
    "data-after-eof": lambda t: (t.send(mux.EOF, part=1), t.send(mux.DATA, part=1, payload=b"x")),
    "eof-twice": lambda t: (t.send(mux.EOF, part=1), t.send(mux.EOF, part=1)),
    "exit-that-is-no-json": lambda t: t.send(mux.EXIT, payload=b"\xff\x00{"),
    "exit-without-a-status": lambda t: t.send(mux.EXIT, payload={}),
    "exit-with-a-huge-status": lambda t: t.send(mux.EXIT, payload={"status": 256}),
    "exit-with-a-negative-status": lambda t: t.send(mux.EXIT, payload={"status": -1}),
    "exit-with-a-text": lambda t: t.send(mux.EXIT, payload={"status": "0"}),
    "exit-deeply-nested": lambda t: t.send(mux.EXIT, payload=b'{"status":' + b"[" * 30_000),
    "exit-twice": lambda t: (t.send(mux.EXIT, payload={"status": 0}), t.send(mux.EXIT, payload={"status": 0})),
    "greets-twice-as-another": lambda t: t.hello(version=2),
}


@pytest.mark.parametrize("violation", VIOLATIONS)
def test_violations(bastion, fake, violation):
    def agent(terminal):
        terminal.opened()
        with contextlib.suppress(OSError):
            VIOLATIONS[violation](terminal)
        terminal.idle()

    place = fake(agent)
    mark = bastion.syslog.mark()
    # Whose output is read all the time gives ever new credit.
    refused(
        place,
        bastion,
        input=b"some input",
        first=lambda: bastion.syslog.wait(r"user=alice .*the agent broke the protocol", mark),
    )


#: What an agent may say that is harmless, or must be.
HARMLESS = {
    "noise": lambda t: t.print("noise\r\n" * 1000 + "~\n~~~~\n~AAAA\n~====\n~" + "A" * 100_000 + "\n\x00\x1b[2J\u2028"),
    "another-nonce": lambda t: t.print(mux.packet("f" * 32, mux.EXIT, t.number, 1, 0, {"status": 3})),
    "repetitions": lambda t: [t.send(mux.DATA, part=1, payload=b"repeated", number=0) for _ in range(100)],
    "the-future": lambda t: [t.send(mux.DATA, part=1, payload=b"later", number=t.number + n) for n in range(1, 200)],
    "markers-again": lambda t: [
        t.say(word) for word in ("sh", "loader", "no-python", "typed", "bad-source", "x" * 1000)
    ],
    "empty-data": lambda t: [t.send(mux.DATA, part=1) for _ in range(1000)],
    "empty-credit": lambda t: [t.send(mux.CREDIT, payload=bytes(4)) for _ in range(1000)],
    "pongs": lambda t: [t.unnumbered(mux.PONG, n) for n in range(1000)],
    "pings": lambda t: [t.unnumbered(mux.PING, n) for n in range(1000)],
    "frames": lambda t: [t.send_frame(data, kind) for kind, data in ((1, b'["x", 1]'), (9, b"{}" * 20), (10, b"[]"))],
}


@pytest.mark.parametrize("words", HARMLESS)
def test_harmless_words(bastion, fake, words):
    """The session goes on as if nothing had been said."""

    def agent(terminal):
        terminal.opened()
        terminal.send(mux.DATA, part=1, payload=b"before ")
        HARMLESS[words](terminal)
        terminal.send(mux.DATA, part=1, payload=b"after")
        for part in (1, 2):
            terminal.send(mux.EOF, part=part)
        terminal.send(mux.EXIT, payload={"status": 9})
        terminal.send(mux.CLOSE)
        # A mute agent would be waited for.
        terminal.take(mux.BYE)

    done = fake(agent).ssh("cat", b"", timeout=30)
    assert (done.status, done.out) == (9, b"before after"), done


#: What comes without end, in pieces: a function that makes the piece with a number.
ENDLESS = {
    "noise": lambda t, n: t.print("n" * 50_000),
    "lines-of-noise": lambda t, n: t.print("noise\n" * 5000),
    "a-candidate-without-end": lambda t, n: t.print("~" + "A" * 50_000 if not n else "A" * 50_000),
    "broken-candidates": lambda t, n: t.print("~AAAA\n" * 5000),
    "pings": lambda t, n: t.print(mux.packet(t.nonce, mux.PING, n) * 500),
    "repetitions": lambda t, n: t.print(mux.packet(t.nonce, mux.DATA, 0, 1, 1, b"x" * 1000) * 20),
    "the-future": lambda t, n: t.print(mux.packet(t.nonce, mux.DATA, 1 << 30, 1, 1, b"x" * 1000) * 20),
    "resumes": lambda t, n: t.print(mux.packet(t.nonce, mux.RESUME, t.expected) * 500),
    "acknowledgements": lambda t, n: t.print(mux.packet(t.nonce, mux.ACK, t.expected) * 500),
    "empty-data": lambda t, n: [t.send(mux.DATA, part=1) for _ in range(200)],
    "websocket-pings": lambda t, n: [t.send_frame(b"x" * 100, 9) for _ in range(100)],
    "setups": lambda t, n: t.send_frame(b'["setup", {}]'),
}


@pytest.mark.parametrize("flood", ENDLESS)
def test_floods(bastion, fake, flood):
    """The gateway stays small, and is gone as soon as its client is; or it ends the session by itself."""
    ended, sent, bytes_sent = threading.Event(), [0], [0]

    def agent(terminal):
        terminal.opened()
        try:
            while not ended.is_set():
                ENDLESS[flood](terminal, sent[0])
                sent[0], bytes_sent[0] = sent[0] + 1, terminal.sent
        finally:
            ended.set()

    place = fake(agent)
    with place.opened("cat") as client, Memory(bastion) as watch:
        wait_for(lambda: sent[0] or client.poll() is not None, "the flood has begun", 20)
        # What is a flood of few bytes lasts longer. A second at least, as the memory is looked at every tenth.
        start = time.monotonic()
        with contextlib.suppress(Timeout):
            wait_for(
                lambda: client.poll() is not None or bytes_sent[0] > 16 * LIMIT and time.monotonic() > start + 1, "", 8
            )
        # Alive, and not deaf: what the client sends is taken, or refused.
        client.kill()
        client.wait()
        bastion.wait_quiet()
    ended.set()
    print(f"{sent[0]} pieces of {bytes_sent[0] >> 10} KB in all, at most {watch.highest >> 10} KB")
    assert sent[0] > 5 and 0 < watch.highest <= LIMIT, watch.highest


#: The longest messages that are taken: of an agent's terminal, and of a plain one.
LONGEST = {"agent": (8 << 20) - 100, "plain": (26 << 20) - 100}


@pytest.mark.parametrize("kind", LONGEST)
def test_the_longest_messages(bastion, fake, client, alice, kind):
    """They take no locked memory (where gateways may lock any), and are held few times over.

    With an escape in it a text is copied once, and what is shown once more.
    """
    size, sent, stop = LONGEST[kind], [0], threading.Event()

    def agent(terminal):
        if kind == "agent":
            terminal.opened()
        else:
            terminal.send_frame(b'["setup", {}]')
        long = json.dumps(["stdout", "\x1b" + "x" * (size - 30)]).encode()
        while not stop.is_set():
            terminal.send_frame(long)
            sent[0] += 1

    place = fake(agent, '[terminal]\nmode = "plain"\n' if kind == "plain" else "")
    with Memory(bastion, locked) as held, Memory(bastion, peak) as most:
        if kind == "agent":
            # So much noise is no agent's.
            with place.opened("cat") as session:
                assert session.wait(60) == 255
        else:
            # The client reads nothing: some messages wait on the way.
            with client.terminal(bastion, "alice", alice.token):
                wait_for(lambda: most.highest > size, "one is there", 60)
                wait_for(
                    lambda: (before := most.highest, time.sleep(1)) and most.highest == before, "it grows no more", 60
                )
        stop.set()
    print(f"{sent[0]} messages of {size >> 20} MiB: {held.highest >> 10} KB locked, {most.highest >> 10} KB in all")
    assert held.highest <= LIMIT and size / 2 < most.highest < 4 * size + LIMIT
    bastion.wait_quiet()


def test_a_stream_without_end(bastion, fake):
    """As much as it has credit for, for ever: as any program may. A client that doesn't read holds it up."""
    sent, stop = [0], threading.Event()

    def agent(terminal):
        credit = terminal.opened()["window"]
        while not stop.is_set():
            while credit < 16_384:
                found = terminal.take(mux.CREDIT)
                credit += int.from_bytes(found[4], "big") if found[3] == 1 else 0
            terminal.send(mux.DATA, part=1, payload=b"x" * 16_384)
            credit -= 16_384
            sent[0] += 16_384

    with fake(agent).opened("cat") as client, Memory(bastion) as watch:
        while client.stdout.read(1 << 16) and sent[0] < 100 << 20:
            pass
        held = wait_for(
            lambda: (before := sent[0], time.sleep(1)) and sent[0] == before and before, "it is held up", 30
        )
        assert held < 116 << 20
        client.kill()
        client.wait()
        stop.set()
    assert watch.highest <= LIMIT, watch.highest
    bastion.wait_quiet()


#: What an agent does before it has greeted, and instead of greeting. Seconds until the session must be over.
STARTS = {
    "nothing": (lambda t: t.idle(), 100),
    "ends-at-once": (lambda t: None, 30),
    "no-python": (lambda t: (t.say("sh"), t.say("no-python"), t.idle()), 30),
    "bad-source": (lambda t: (t.say("sh"), t.say("loader"), t.line(), t.say("bad-source"), t.idle()), 30),
    "never-greets": (lambda t: (t.boot(), t.idle()), 100),
    "another-version": (lambda t: (t.boot(), t.hello(version=2), t.idle()), 30),
    "greeting-without-fields": (lambda t: (t.boot(), t.unnumbered(mux.HELLO, payload={"version": 1}), t.idle()), 30),
    "greeting-that-is-no-json": (lambda t: (t.boot(), t.unnumbered(mux.HELLO, payload=b"\xff{"), t.idle()), 30),
    "speaks-first": (lambda t: (t.boot(), t.send(mux.DATA, part=1, payload=b"x"), t.idle()), 30),
    "reads-nothing": (lambda t: (t.say("sh"), t.say("loader"), time.sleep(110)), 110),
    "refuses": (
        lambda t: (
            t.boot(),
            t.hello(),
            t.take(mux.OPEN),
            t.send(mux.REFUSED, payload={"error": "no \x1b[2J\r\nway\x9b"}),
            t.idle(),
        ),
        30,
    ),
    "refuses-at-length": (
        lambda t: (
            t.boot(),
            t.hello(),
            t.take(mux.OPEN),
            t.send(mux.REFUSED, payload={"error": "x" * 30_000}),
            t.idle(),
        ),
        30,
    ),
    "says-goodbye": (
        lambda t: (t.boot(), t.hello(), t.take(mux.OPEN), t.unnumbered(mux.BYE, payload=b"good\x1b[2J\nbye"), t.idle()),
        30,
    ),
    "is-gone": (lambda t: (t.boot(), t.hello(), t.take(mux.OPEN), t.say("gone;it was killed\x1b[2J"), t.idle()), 30),
    "closes-without-an-exit": (
        lambda t: (t.opened(), t.send(mux.EOF, part=1), t.send(mux.EOF, part=2), t.send(mux.CLOSE), t.idle()),
        30,
    ),
    "dies-of-nonsense": (
        lambda t: (
            t.opened(),
            t.send(mux.EOF, part=1),
            t.send(mux.EOF, part=2),
            t.send(mux.EXIT, payload={"signal": "../../x"}),
            t.send(mux.CLOSE),
            t.idle(),
        ),
        30,
    ),
}


@pytest.mark.parametrize(
    "start",
    [pytest.param(name, marks=pytest.mark.waits if seconds > 30 else []) for name, (_, seconds) in STARTS.items()],
)
def test_starts_that_lead_nowhere(bastion, fake, start):
    agent, seconds = STARTS[start]
    place = fake(agent)
    if start in ("refuses-at-length", "dies-of-nonsense", "closes-without-an-exit"):
        with place.opened("cat") as client, Memory(bastion) as watch:
            said = client.stderr.read()
            assert client.wait(seconds) == 255 and len(said) < 3000 and watch.highest <= LIMIT, said[:500]
        bastion.wait_quiet()
    else:
        refused(place, bastion, seconds)


@pytest.mark.parametrize("name", ["KILL", "TERM", "SEGV", "STOP", "CHLD", "RTMIN", "WINCH", "NOSUCH"])
def test_signals_that_it_names(bastion, fake, name):
    """`session` dies of the signal, if that is one to die of; it is never stopped, nor does it go on."""

    def agent(terminal):
        terminal.opened()
        for part in (1, 2):
            terminal.send(mux.EOF, part=part)
        terminal.send(mux.EXIT, payload={"signal": name})
        terminal.send(mux.CLOSE)
        terminal.idle()

    assert fake(agent).ssh("cat", timeout=30).status == 255
    bastion.wait_quiet()


def test_a_server_that_never_acknowledges(bastion, fake):
    """Input stays with the client; the session ends at last, or the client can be killed."""

    def agent(terminal):
        terminal.boot()
        terminal.hello()
        while True:
            found = mux.parse(terminal.line())
            if found and found[0] == mux.OPEN:
                terminal.send(mux.OPENED, payload={"window": 1 << 20})
            if found and found[0] == mux.PING:
                terminal.unnumbered(mux.PONG, found[1])

    with fake(agent).opened("cat") as client, Memory(bastion) as watch:

        def write():
            with contextlib.suppress(OSError):
                for _ in range(50):
                    client.stdin.write(b"x" * (1 << 20))

        thread = threading.Thread(target=write, daemon=True)
        thread.start()
        with contextlib.suppress(Exception):
            client.wait(20)
        client.kill()
        client.wait()
        thread.join()
    assert 0 < watch.highest <= LIMIT, watch.highest
    bastion.wait_quiet()


def test_many_channels_of_a_hostile_one(bastion, fake):
    """A violation in one stream ends all streams of the link, each with its message; nobody waits for ever."""

    def agent(terminal):
        terminal.boot()
        terminal.hello()
        for _ in range(5):
            found = terminal.take(mux.OPEN)
            terminal.send(mux.OPENED, stream=found[2], payload={"window": 65_536})
        terminal.send(99)
        terminal.idle()

    place = fake(agent)
    with place.master(), contextlib.ExitStack() as stack:
        clients = [stack.enter_context(place.opened("cat")) for _ in range(5)]
        for client in clients:
            assert client.stderr.read().strip() and client.wait(30) == 255
        small(bastion)
    bastion.wait_quiet()
