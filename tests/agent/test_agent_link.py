"""The link: nothing is lost, doubled or taken for data, whatever happens to the bytes on their way."""

import hashlib
import os
import random
import time

import pytest

from peer import Kinds, encode

MEGABYTE = 1 << 20


class Loser:
    """Loses, doubles and damages some of what passes, for a while."""

    def __init__(self, seed, rate=0.02, most=15):
        self.random, self.rate, self.left = random.Random(seed), rate, most

    def __call__(self, data):
        if not self.left or len(data) < 100 or self.random.random() > self.rate:
            return data
        self.left -= 1
        start = self.random.randrange(len(data))
        end = min(len(data), start + self.random.choice((1, 10, 1000, 50_000)))
        how = self.random.randrange(4)
        if how == 0:
            return data[:start] + data[end:]
        if how == 1:
            return data[:end] + data[start:]
        if how == 2:
            return data[:start] + bytes(self.random.randrange(256) for _ in range(min(500, end - start))) + data[end:]
        return data[:start] + b"typed\rtext~" + data[start:]


@pytest.mark.parametrize("seed", range(3))
def test_loss_on_the_way(agent, seed):
    """Bytes are lost, doubled and damaged in the middle of transfers both ways, which are exact all the same."""
    peer = agent(REPEAT_SECONDS=1, RESUME_MILLISECONDS=50)
    block = random.Random(seed).getrandbits(8 * MEGABYTE).to_bytes(MEGABYTE, "big")
    peer.lose_out, peer.lose_in = Loser(seed), Loser(seed + 100, 0.1)
    streams = [peer.open(command="cat") for _ in range(2)]
    digests = [hashlib.sha256() for _ in streams]
    for stream, digest in zip(streams, digests):
        stream.sink = lambda part, data, digest=digest: digest.update(data)
        for _ in range(4):
            stream.write(block)
        stream.eof()
    end = time.monotonic() + 30
    while not all(stream.closed for stream in streams):
        assert time.monotonic() < end, (bytes(peer.noise[-200:]), peer.bye)
        # What gets lost at the very end is repeated after a time.
        expected, number = peer.expected, peer.next - len(peer.unacknowledged)
        peer.idle(0.1)
        if (expected, number) == (peer.expected, peer.next - len(peer.unacknowledged)):
            peer.resume()
            peer.repeat()
    for digest in digests:
        assert digest.digest() == hashlib.sha256(block * 4).digest()
    assert peer.resumes and peer.lose_out.left < 15
    assert not peer.bye


def test_resume_after_a_break(agent):
    """What was said while nobody listened comes again, and the answer says what must be repeated."""
    peer = agent()
    stream = peer.open(command="seq 1 100000; cat")
    peer.wait(lambda: stream.counts[1] > 50_000)
    # The connection breaks: what is on its way either way goes nowhere.
    peer.lose_out = lambda data: b""
    peer.lose_in = lambda data: b""
    stream.write(b"lost\n" * 10_000)
    peer.idle(0.3)
    peer.lose_out = peer.lose_in = None
    peer.rest, peer.writing = b"", b""
    peer.out.clear()
    peer.said.clear()
    peer.resume()
    peer.wait(lambda: peer.said[-1:] == [Kinds.ACK])
    peer.repeat()
    stream.eof()
    stream.wait()
    assert stream.out == b"".join(b"%d\n" % n for n in range(1, 100_001)) + b"lost\n" * 10_000


def test_agent_repeats_on_its_own(agent):
    """After a time without progress."""
    peer = agent(REPEAT_SECONDS=1)
    lost = []
    peer.lose_out = lambda data: lost.append(data) or b""
    stream = peer.open(command="echo once")
    peer.wait(lambda: b"".join(lost).count(b"\n") >= 5)
    peer.lose_out = None
    stream.eof()
    assert stream.wait().out == b"once\n"


def test_acknowledgements(agent):
    """They come within 40 ms, and in bulk every 32 KiB."""
    peer = agent()
    stream = peer.open(command="cat >/dev/null")
    began = time.monotonic()
    peer.wait(lambda: not peer.unacknowledged)
    assert time.monotonic() - began < 1
    stream.eof()
    stream.wait()


def test_ping(peer):
    """Is answered with its number."""
    for number in (0, 7, 2**64 - 1):
        peer.say(Kinds.PING, number)
    peer.wait(lambda: peer.pongs == [0, 7, 2**64 - 1])


def test_typing_is_noticed_and_never_data(peer):
    """The notice comes at most every five seconds."""
    stream = peer.open(command="cat")
    stream.write(b"before ")
    for text in (b"ls\r", b"~", b"~~~\r", b"\x03\x04\x1a\x1c", "né~".encode(), b"~AAAA\n", b"exit\n", b"\x1b[A" * 50):
        peer.out.append(text)
        stream.write(b"x")
        peer.idle(0.02)
    stream.write(b" after")
    stream.eof()
    assert stream.wait().out == b"before xxxxxxxx after"
    assert peer.noise.count(b"What is typed here goes nowhere") == 1


def test_a_return_between_lines_means_nothing(peer):
    """The gateway sends some, for the sake of old Terminados; nobody is told off for that."""
    stream = peer.open(command="cat")
    for number in range(5):
        peer.out.append(b"\r")
        peer.idle(0.02)
        stream.write(b"%d" % number)
    stream.eof()
    assert stream.wait().out == b"01234"
    assert b"goes nowhere" not in peer.noise


def test_typing_without_an_end(peer):
    """Megabytes of noise cost no memory."""
    for byte in (b"x", b"~", b"~x"):
        for _ in range(30):
            peer.out.append(byte * 100_000)
        peer.wait(lambda: not peer.out and not peer.writing)
        peer.out.append(b"\n")
        assert peer.run("echo fine").out == b"fine\n"
    with open(f"/proc/{peer.pid}/status") as status:
        peak = next(int(line.split()[1]) for line in status if line.startswith("VmHWM"))
    assert peak < 25_000


@pytest.mark.parametrize(
    ("what", "packet"),
    [
        ("kind", (99,)),
        ("unnumbered kind", (9,)),
        ("acknowledged", (Kinds.ACK, 5)),
        ("resumed", (Kinds.RESUME, 5)),
        ("never opened", (Kinds.DATA, 0, 1, 0, b"x")),
        ("even", (Kinds.OPEN, 0, 2, 0, b"{}")),
        ("agent's", (Kinds.OPENED, 0, 1, 0, b"{}")),
        ("agent's EXIT", (Kinds.EXIT, 0, 1, 0, b"{}")),
        ("close of none", (Kinds.CLOSE, 0, 7)),
    ],
)
def test_violations_end_the_link(agent, what, packet):
    """With a reason, and at once."""
    peer = agent()
    peer.out.append(encode(*packet, salt=peer.salt))
    peer.wait_gone(3)
    assert peer.bye, what
    assert b";gone;" not in peer.noise


@pytest.mark.parametrize("what", ["data", "credit", "description"])
def test_more_than_allowed(agent, what):
    """More data than credit, more credit than there may be, a description that is too long."""
    peer = agent()
    stream = peer.open(command="sleep 100")
    peer.wait(lambda: stream.credit)
    if what == "data":
        for _ in range(3 * stream.credit // Kinds.MAX_PAYLOAD):
            peer.send(Kinds.DATA, stream.number, 0, bytes(Kinds.MAX_PAYLOAD))
    elif what == "credit":
        stream.grant(1, Kinds.MAX_CREDIT)
    else:
        for _ in range(9):
            peer.send(Kinds.OPENING, 3, 0, b" " * Kinds.MAX_PAYLOAD)
    peer.wait_gone(5)
    assert peer.bye


def test_packets_for_streams_that_are_over(peer):
    """Are ignored."""
    stream = peer.run("true")
    for kind, payload in (
        (Kinds.DATA, b"x"),
        (Kinds.EOF, b""),
        (Kinds.CREDIT, bytes(4)),
        (Kinds.STOP, b""),
        (Kinds.RESIZE, bytes(4)),
        (Kinds.SIGNAL, b"TERM"),
        (Kinds.CLOSE, b""),
    ):
        peer.send(kind, stream.number, 0, payload)
    assert peer.run("echo fine").out == b"fine\n"


def test_random_lines(agent):
    """Lines of any bytes, whole packets damaged, valid packets of any content: the agent goes on or says goodbye."""
    chance = random.Random(7)
    for _ in range(12):
        peer = agent()
        peer.mute = True
        stream = peer.open(command="cat")
        peer.wait(lambda one=stream: one.credit)
        for _ in range(300):
            if peer.gone:
                break
            how = chance.randrange(5)
            if how == 0:
                line = os.urandom(chance.randrange(200)) + b"\n"
            elif how == 1:
                line = bytearray(encode(Kinds.DATA, peer.next, 1, 0, b"x" * chance.randrange(99), peer.salt))
                line[chance.randrange(len(line))] = chance.randrange(256)
            elif how == 2:
                line = b"~" + os.urandom(30).hex().encode()[: chance.randrange(60)] + b"=\n"
            elif how == 3 and chance.random() < 0.2:
                line = encode(
                    chance.randrange(16, 28),
                    peer.next,
                    chance.choice((1, 1, 1, 3)),
                    chance.choice((0, 1, 2, 255)),
                    os.urandom(chance.randrange(12)),
                    peer.salt,
                )
                peer.next += 1
            else:
                line = encode(chance.choice((1, 2, 3, 4)), chance.choice((0, 1, 1, 2)), 0, 0, os.urandom(3), peer.salt)
            peer.out.append(bytes(line))
            peer.pump(0)
        peer.mute = False
        if not peer.gone:
            peer.out.append(b"\n")
            peer.idle(0.1)
        if not peer.gone and peer.bye is None:
            peer.say(Kinds.PING, 42)
            peer.wait(lambda one=peer: 42 in one.pongs or one.bye is not None)
        assert b";gone;" not in peer.noise, bytes(peer.noise[-500:])
