"""The agent's packets are those of tests/vectors/mux.json, which the gateway's unit tests check as well."""

import json
from pathlib import Path

import pytest

from peer import PROTOCOL, SOURCE, decode, encode

VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "mux.json").read_text())


def link(salt):
    """The agent's Link without a terminal; it says what it takes: packets, and how often it asked for repetition."""
    space = {"__name__": "agent", "NONCE": f"{salt:08x}{'0' * 24}"}
    exec(PROTOCOL + SOURCE.split("\n#---\n")[0], space)
    one = space["Link"](-1)
    one.taken = []
    one.unnumbered = lambda kind, number, payload: one.taken.append((kind, number, 0, 0, bytes(payload)))
    for kind in range(space["FIRST_NUMBERED"], 256):
        one.receivers[kind] = lambda stream, part, payload, kind=kind: one.taken.append(
            (kind, one.expected - 1, stream, part, bytes(payload))
        )
    return one


def fields(vector):
    """A packet's fields."""
    return (*(vector[name] for name in ("kind", "number", "stream", "part")), bytes.fromhex(vector["payload_hex"]))


@pytest.mark.parametrize("vector", VECTORS["packets"] + VECTORS["after_noise"])
def test_packets(vector):
    """Both ways, by the agent and by the tests' own peer."""
    line, salt = vector["line"].encode(), vector["salt"]
    one = link(salt)
    one.expected = vector["number"]
    one.take(line)
    assert one.taken == [fields(vector)]
    assert decode(line[:-1], salt) == fields(vector)
    if vector in VECTORS["packets"]:
        assert b"~" + one.packet(*fields(vector)) == line == encode(*fields(vector), salt)


@pytest.mark.parametrize("vector", VECTORS["noise"], ids=lambda one: one["why"])
def test_noise(vector):
    """Nothing is taken; what looks like a line is asked for again."""
    one = link(vector["salt"])
    one.take(vector["line"].encode())
    assert one.taken == []
    assert bool(one.out) == ("~" in vector["line"])
    assert decode(vector["line"].encode()[:-1], vector["salt"]) is None
