"""Ends: the agent's, and the guardian that keeps the Jupyter server from freezing."""

import base64
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from peer import Kinds, encode

MEGABYTE = 1 << 20


def processes(text):
    """The processes whose command line or environment holds a text."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if text.encode() in (entry / "cmdline").read_bytes() and entry.joinpath("exe").exists():
                    found.append(int(entry.name))
            except OSError:
                pass
    return found


def wait_for(condition, timeout=10):
    """Wait for a condition."""
    end = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_goodbye(peer):
    """The terminal closes at once, without a word of the guardian, and nothing is left."""
    stream = peer.open(command="sleep 1000")
    stream.wait_output(b"")
    peer.wait(lambda: stream.credit)
    assert peer.end() < 1.5
    assert peer.reap() == 0
    assert b";gone;" not in peer.noise
    wait_for(lambda: not processes(peer.nonce), 3)


def test_those_who_ignore_the_hangup(peer):
    """SIGHUP is followed by SIGTERM after 1 s, and by SIGKILL after 3 s; the terminal doesn't wait for that."""
    began = {}
    for name, traps in (("hup", "HUP"), ("both", "HUP TERM")):
        stream = peer.open(command=f"trap '' {traps}; echo $$; while :; do sleep 0.1; done")
        stream.wait_output(b"\n")
        began[name] = int(stream.out)
    assert peer.end() < 1.5
    end = time.monotonic()
    for name, least, most in (("hup", 0.3, 2.5), ("both", 2.0, 5)):
        wait_for(
            lambda one=began[name]: (
                not Path(f"/proc/{one}/status").exists() or "State:\tZ" in Path(f"/proc/{one}/status").read_text()
            )
        )
        assert least < time.monotonic() - end < most, name
    wait_for(lambda: not processes(peer.nonce), 3)


def test_silence(agent):
    """An agent that hears nothing for long ends, with what it has started; PING keeps it alive."""
    peer = agent(AGENT_PATIENCE_SECONDS=1)
    stream = peer.open(command="echo $$; exec sleep 1000")
    stream.wait_output(b"\n")
    for _ in range(6):
        peer.idle(0.3)
        peer.say(Kinds.PING)
    assert not peer.gone
    peer.mute = True
    peer.wait_gone(4)
    assert "nothing was heard" in peer.bye
    wait_for(lambda: not processes("sleep\0" + "1000") or int(stream.out) not in processes("sleep\0" + "1000"))


@pytest.mark.parametrize("how", ["killed", "deleted", "stopped and killed"])
def test_death_with_megabytes_in_flight(agent, how):
    """A Jupyter server that writes is never left with a terminal that doesn't read: all that it writes is taken."""
    peer = agent()
    stream = peer.open(command="sleep 1000")
    peer.wait(lambda: stream.credit)
    if how == "stopped and killed":
        os.kill(peer.pid, signal.SIGSTOP)
    line = encode(Kinds.DATA, 0, 1, 0, bytes(Kinds.MAX_PAYLOAD), peer.salt)
    count = 3 * MEGABYTE // len(line)
    signals = {"deleted": ("HUP", "CONT", "INT", "TERM", "KILL")}.get(how, ("KILL",))
    written = 0
    for number in range(count):
        if number == 5:
            began = time.monotonic()
            subprocess.Popen(["sh", "-c", "; sleep 0.1; ".join(f"kill -{name} {peer.pid}" for name in signals)]).poll()
        peer.out.append(line)
        end = time.monotonic() + 5
        while (peer.out or peer.writing) and not peer.gone:
            if how == "stopped and killed" and number < 5:
                peer._write()
                break
            assert time.monotonic() < end, f"blocked after {written} bytes"
            peer.pump(0.1)
        if peer.gone:
            break
        written += len(line)
    assert number == count - 1, "the terminal closed while it was written to"
    peer.wait_gone(6)
    took = time.monotonic() - began
    if how == "deleted":
        assert b";gone;" not in peer.noise
    else:
        assert peer.marker(b"gone;it was killed") in peer.noise
        assert 2.5 < took < 6
    wait_for(lambda: not processes(peer.nonce))


def test_killed_in_mid_output(agent):
    """While the agent writes, too."""
    peer = agent()
    stream = peer.open(command="yes")
    stream.keep = False
    peer.wait(lambda: stream.counts[1] > MEGABYTE)
    os.kill(peer.pid, signal.SIGKILL)
    peer.wait_gone(6)
    assert peer.marker(b"gone;it was killed") in peer.noise
    wait_for(lambda: not processes(peer.nonce))


def test_terminal_hangs_up(agent):
    """When the server closes the terminal everything ends, the guardian too."""
    peer = agent()
    stream = peer.open(command="trap 'exit' TERM; echo $$; while :; do sleep 0.05; done")
    stream.wait_output(b"\n")
    assert len(processes(peer.nonce)) == 2
    peer.close()
    wait_for(lambda: not processes(peer.nonce), 3)
    wait_for(lambda: not Path(f"/proc/{int(stream.out)}").exists() or not processes(f"{stream.out}"), 3)


def test_guardian_of_a_killed_agent_ends_by_the_hangup(agent):
    """Also if it was draining."""
    peer = agent()
    os.kill(peer.pid, signal.SIGKILL)
    peer.idle(0.2)
    peer.close()
    wait_for(lambda: not processes(peer.nonce), 2)


def test_guardian_survives_signals(agent):
    """Those that a terminal or a person sends to the group."""
    peer = agent()
    guardian = [pid for pid in processes(peer.nonce) if pid != peer.pid]
    assert len(guardian) == 1
    for name in ("HUP", "INT", "TERM", "QUIT", "TSTP", "TTIN", "TTOU"):
        os.kill(guardian[0], getattr(signal, "SIG" + name))
    assert peer.run("echo fine").out == b"fine\n"
    assert guardian[0] in processes(peer.nonce)
    peer.end()
    wait_for(lambda: not processes(peer.nonce))


def test_agent_that_ends_before_its_guardian_has_begun(agent):
    """The guardian is safe from its first moment on: however late it runs, it does its work."""
    for _ in range(10):
        peer = agent(start=False)
        peer.wait_raw(b"SSH connection")
        os.kill(peer.pid, signal.SIGKILL)
        peer.wait(lambda one=peer: one.marker(b"gone;it was killed") in one.raw, 5)
        peer.close()
        wait_for(lambda one=peer: not processes(one.nonce))


def test_agent_that_fails(agent):
    """The guardian says why."""
    peer = agent(start=False)
    peer.may_fail = True
    peer.wait_raw(peer.marker(b"loader"))
    peer.out.append(b"~" + base64.b64encode(b"def main():\n    raise ValueError('it failed')") + b"\n")
    peer.wait_gone(6)
    assert b";gone;ValueError('it failed'" in peer.raw


@pytest.mark.parametrize("text", [b"~\n", b"~!!!!\n", b"~c3ludGF4IGVycm9yIQ==\n", b"x~hello\n"])
def test_bad_source(agent, text):
    """What isn't the source is refused, and the terminal closes."""
    peer = agent(start=False)
    peer.wait_raw(peer.marker(b"loader"))
    peer.out.append(text)
    peer.wait_gone(3)
    assert peer.marker(b"bad-source") in peer.raw
    wait_for(lambda: not processes(peer.nonce))


def test_typing_before_the_source(agent):
    """Keys pressed in a browser before the source comes aren't part of it."""
    peer = agent(start=False)
    peer.wait_raw(peer.marker(b"loader"))
    peer.out.append(b"a line\nhello?\r~")
    peer.send_source()
    peer.wait(lambda: peer.hello)
    assert peer.run("echo fine").out == b"fine\n"
