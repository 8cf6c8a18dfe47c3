"""Processes with a terminal behave as those of sshd."""

import base64
import os
import signal
import time
from pathlib import Path

import pytest

SIZE = {"rows": 33, "cols": 101}


def tty(*modes, **size):
    """A description's `tty`."""
    return {**SIZE, **size, "modes": list(modes)}


def test_size_and_resize(peer):
    """The client's size from the start; later ones come as SIGWINCH."""
    stream = peer.open(
        tty=tty(), command="stty size; trap 'stty size; exit' WINCH; echo up; while :; do sleep 0.05; done"
    )
    stream.wait_output(b"up\r\n")
    stream.resize(50, 200)
    stream.wait()
    assert stream.out == b"33 101\r\nup\r\n50 200\r\n"


def test_controlling_terminal(peer):
    """/dev/tty, job control's group, and SSH_TTY are those of the terminal."""
    out = peer.run(
        "tty; echo $SSH_TTY; tty </dev/tty; "
        "ps -o sid=,tpgid= -p $$ | (read -r s g; [ $s = $$ ] && echo leader); "
        "ls -l /proc/self/fd | grep -c pts; test -t 0 && test -t 1 && test -t 2 && echo all",
        tty=tty(),
    ).out
    lines = out.decode().split("\r\n")
    assert lines[0] == lines[1] and lines[0].startswith("/dev/pts/")
    assert lines[3:4] == ["leader"] and lines[5] == "all"


def test_modes(peer):
    """RFC 4254's opcodes: characters, flags, character size and speed."""
    modes = [
        [1, 7],
        [3, 8],
        [5, 255],
        [36, 0],
        [38, 0],
        [41, 1],
        [42, 0],
        [51, 1],
        [53, 0],
        [72, 0],
        [91, 1],
        [92, 0],
        [128, 9600],
        [129, 9600],
        [200, 5],
        [0, 0],
    ]
    out = peer.run("stty -a", tty=tty(*modes)).out.decode()
    for word in (
        "speed 9600 baud",
        "intr = ^G",
        "erase = ^H",
        "eof = <undef>",
        "-icrnl",
        "-ixon",
        "-echo",
        "-onlcr",
        " imaxbel",
        "-iutf8",
        "cs8",
        "-parenb",
        " icanon",
    ):
        assert word in out.replace("\n", " "), word
    plain = peer.run("stty -a", tty=tty()).out.decode().replace("\r\n", " ")
    assert " iutf8" in plain and " echo " in plain and " onlcr" in plain


def test_keys_make_signals(peer):
    """^C typed by the client interrupts what is in the foreground."""
    stream = peer.open(command="cat; echo no", tty=tty())
    stream.write(b"line\r")
    stream.wait_output(b"line\r\nline\r\n")
    stream.write(b"\x03")
    assert stream.wait().exit == {"signal": "INT"}


def test_exit_status_and_the_last_output(peer):
    """All that was written before the end comes, however slow the reader."""
    for count in (10, 30_000):
        stream = peer.open(command=f"seq 1 {count}; exit 7", tty=tty(), window=5000)
        stream.wait()
        assert stream.out == b"".join(b"%d\r\n" % n for n in range(1, count + 1))
        assert stream.exit == {"status": 7} and stream.ends == {1}
    for _ in range(30):
        assert peer.run("echo last", tty=tty()).out == b"last\r\n"


@pytest.mark.parametrize(
    ("typed", "modes", "said"),
    [
        (b"one\n", (), b"one\r\nover\r\n"),
        (b"one\n\x04", (), b"one\r\nover\r\n"),
        (b"one\npart\x04", (), b"one\r\npartover\r\n"),
        (b"\x04", (), b"over\r\n"),
        (b"x" * 4000 + b"\n", (), b"x" * 4000 + b"\r\nover\r\n"),
        # What would be a key again.
        (b"a\x03\x15\x7f\x16\x11\n", (), b"a\x03\x15\x7f\x16\x11\r\nover\r\n"),
        # A terminal that is raw has no ends.
        (b"one\ntwo", ([51, 0], [53, 0], [70, 0]), b"one\ntwo"),
    ],
    ids=["a line", "a line and the end", "half a line and the end", "the end", "a long line", "keys", "raw"],
)
def test_what_was_typed_ahead_is_not_echoed(peer, typed, modes, said):
    """The client's own terminal has: the program reads it, and what is typed later is echoed."""
    for _ in range(10):
        stream = peer.open(command="cat; echo over", tty={**tty(*modes), "typed": base64.b64encode(typed).decode()})
        if said.endswith(b"over\r\n"):
            if typed[-1:] != b"\x04":
                stream.wait_output(typed[-2:-1] + b"\r\n")
                stream.write(b"\x04")
            elif b"part" in typed:
                stream.wait_output(b"part")
                stream.write(b"\x04")
            assert stream.wait().out == said
        else:
            stream.wait_output(said)
            stream.signal("TERM")
            assert stream.wait().out == said


def test_half_a_line_typed_ahead(peer):
    stream = peer.open(command="cat", tty={**tty(), "typed": base64.b64encode(b"one\nhal").decode()})
    stream.wait_output(b"one\r\n")
    stream.write(b"f\n\x04")
    assert stream.wait().out == b"one\r\nf\r\nhalf\r\n"


def test_end_of_input_is_nothing(peer):
    """EOF of the client doesn't end a terminal's process: with sshd neither."""
    stream = peer.open(command="cat", tty=tty())
    stream.eof()
    peer.idle(0.3)
    assert not stream.closed and stream.exit is None
    stream.signal("TERM")
    assert stream.wait().exit == {"signal": "TERM"}


def test_background_process_with_the_terminal(peer):
    """The end of the process is the end of the stream; who stays behind is hung up on."""
    stream = peer.open(command="sleep 1000 & echo $!; exit 3", tty=tty())
    began = time.monotonic()
    stream.wait()
    assert time.monotonic() - began < 3
    pid = int(stream.out)
    peer.wait(lambda: not Path(f"/proc/{pid}").exists() or "sleep" not in Path(f"/proc/{pid}/cmdline").read_text())
    assert stream.exit == {"status": 3}


def test_background_process_that_ignores_the_hangup(peer):
    """nohup works as with sshd."""
    stream = peer.run("trap '' HUP; sleep 1000 >/dev/null 2>&1 </dev/null & echo $!", tty=tty())
    pid = int(stream.out)
    peer.idle(0.3)
    assert Path(f"/proc/{pid}/cmdline").read_text().startswith("sleep")
    os.kill(pid, signal.SIGKILL)


def test_flood_that_nobody_reads(peer):
    """Credit holds the program; what it may send after ^C is small."""
    stream = peer.open(command="yes", tty=tty(), window=20_000)
    stream.generous = False
    peer.wait(lambda: stream.counts[1] == 20_000)
    stream.write(b"\x03")
    peer.idle(0.2)
    stream.generous = True
    stream.grant(1, 100_000)
    stream.wait()
    assert stream.exit == {"signal": "INT"}
    assert stream.counts[1] < 120_000


def test_output_that_is_not_wanted(peer):
    """STOP: nothing is read any more; the process is still there, and can be ended."""
    stream = peer.open(command="yes", tty=tty())
    stream.keep = False
    peer.wait(lambda: stream.counts[1] > 10_000)
    stream.stop(1)
    peer.idle(0.3)
    assert not stream.closed
    stream.signal("KILL")
    assert stream.wait().exit == {"signal": "KILL"}


def test_close_hangs_up(peer):
    """CLOSE from the gateway."""
    stream = peer.open(command="echo $$; sleep 1000", tty=tty())
    stream.wait_output(b"\n")
    stream.close()
    stream.wait()
    peer.wait(lambda: not Path(f"/proc/{int(stream.out)}").exists())


def test_login_shell(agent, bash, tmp_path):
    """Without a command: an interactive login shell, with a prompt, that ends with the status of `exit`."""
    (tmp_path / ".bash_profile").write_text("PS1='> '\n")
    peer = agent(environment={**os.environ, "SHELL": bash, "HOME": str(tmp_path)})
    stream = peer.open(tty=tty())
    stream.wait_output(b"> ")
    stream.write(b"echo $0 $-; exit 5\r")
    assert stream.wait().exit == {"status": 5}
    assert b"-bash hi" in stream.out


@pytest.mark.parametrize(
    ("wanted", "got"),
    [
        ("vt100", "vt100"),
        ("xterm-nonsense", "xterm-256color"),
        ("screen.nonsense", "screen-256color"),
        ("dumb", "dumb"),
        ("../../etc", "xterm-256color"),
        ("", "xterm-256color"),
    ],
)
def test_terminal_type(agent, tmp_path, wanted, got):
    """The client's, or the nearest that this host can describe."""
    for name in ("vt100", "xterm-256color", "xterm", "screen-256color", "dumb"):
        path = tmp_path / ".terminfo" / name[0] / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    peer = agent(environment={**os.environ, "HOME": str(tmp_path)})
    environment = {"TERM": wanted, "COLORTERM": "truecolor"}
    assert peer.run("echo $TERM $COLORTERM", tty=tty(), environment=environment).out == f"{got} truecolor\r\n".encode()


def test_terminal_type_of_nobody(agent):
    """A client that names none gets what the server's terminals have."""
    peer = agent(environment={**os.environ, "TERM": "linux"})
    assert peer.run("echo $TERM", tty=tty()).out == b"linux\r\n"


def test_bulk_in_a_terminal(peer):
    """Megabytes in raw mode are exact."""
    stream = peer.open(
        tty=tty(), command="stty raw -echo; echo up; head -c 3000000 | tee /dev/stderr | sha256sum >/dev/null"
    )
    stream.wait_output(b"up\n")
    data = os.urandom(3_000_000)
    stream.write(data)
    stream.wait(30)
    assert stream.out[3:] == data
