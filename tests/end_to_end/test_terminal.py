"""A terminal of the user's server behaves as in any SSH session."""

import hashlib
import random
import threading
import time

import pexpect
import pyte
import pytest

from lib.actors.jupyter import Responsiveness
from lib.wait import wait_for

pytestmark = pytest.mark.usefixtures("terminal_mode")


class Screen(pyte.Screen):
    """pyte's screen, which fails on xterm's private form of SGR (CSI > … m)."""

    def select_graphic_rendition(self, *attributes, private=False):
        if not private:
            super().select_graphic_rendition(*attributes)


def screen_of(terminal, rows, columns, until, timeout=10.0):
    """Feed a terminal emulator with the session's output until `until(screen)` is true; the screen."""
    screen = Screen(columns, rows)
    stream = pyte.ByteStream(screen)
    stream.feed(terminal.seen)
    terminal.seen = b""

    def fed():
        if until(screen):
            return True
        if terminal.channel.recv_ready() or terminal.channel.closed:
            stream.feed(terminal.channel.recv(65536))
        return until(screen)

    wait_for(fed, lambda: "the screen is right; it is:\n" + "\n".join(screen.display), timeout)
    return screen


@pytest.fixture
def terminal(bastion, client, alice):
    """A terminal of alice's, at its prompt."""
    with client.terminal(bastion, "alice", alice.token, rows=31, columns=97) as made:
        made.prompt()
        yield made
    alice.no_terminals()


# -- windows and programs -------------------------------------------------------------------------


def test_window_size_at_the_start_and_after_resizes(terminal):
    assert terminal.run("stty size") == "31 97\n"
    for rows, columns in ((50, 132), (10, 20), (24, 80)):
        terminal.resize(rows, columns)
        wait_for(lambda: terminal.run("stty size") == f"{rows} {columns}\n", f"the size is {rows}×{columns}")


def test_a_program_is_told_of_a_resize(terminal):
    terminal.send("trap 'echo now $(stty size)' WINCH; echo tra''pped\r")
    terminal.expect("trapped")
    terminal.prompt()
    terminal.resize(40, 111)
    terminal.send("\r")
    terminal.expect(r"now 40 111")


def test_the_real_client_passes_its_size(bastion, client, alice):
    child = client.spawn(bastion, "alice", alice.token, rows=33, columns=101)
    child.expect(r"\$ ")
    child.sendline("stty size")
    child.expect(r"[\r\n]33 101\r\n")
    child.setwinsize(44, 122)
    deadline = time.monotonic() + 10
    while True:
        child.sendline("stty size")
        child.expect(r"[\r\n](\d+ \d+)\r\n")
        if child.match[1] == b"44 122":
            break
        assert time.monotonic() < deadline, child.match[1]
    child.sendline("exit")
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 0


def test_terminal_type_and_locale(bastion, client, alice):
    with client.terminal(bastion, "alice", alice.token, term="screen-256color") as terminal:
        terminal.prompt()
        assert terminal.run("echo $TERM") == "screen-256color\n"


@pytest.mark.parametrize("term", ["x" * 5000, "../../etc/passwd", "a;id", "$(id)", "\x1b[31m", ""])
def test_hostile_terminal_types(bastion, client, alice, term):
    with client.terminal(bastion, "alice", alice.token, term=term) as terminal:
        terminal.prompt()
        assert "uid=" not in terminal.run('echo "$TERM"')


def test_an_editor(terminal):
    terminal.send("rm -f poem; vi -u NONE poem\r")
    screen_of(terminal, 31, 97, lambda s: "poem" in s.display[30] or "~" in s.display[15])
    terminal.send("iroses are red\rviolets aren't\x1b")
    screen = screen_of(terminal, 31, 97, lambda s: s.display[1].startswith("violets aren't"))
    assert screen.display[0].startswith("roses are red")
    terminal.resize(20, 60)
    terminal.send("\x0c")
    screen_of(terminal, 20, 60, lambda s: s.display[0].startswith("roses") and s.display[18].startswith("~"))
    terminal.send(":wq\r")
    terminal.prompt()
    assert terminal.run("cat poem; rm poem") == "roses are red\nviolets aren't\n"


def test_tmux_and_256_colours(terminal):
    terminal.send("tmux -f /dev/null -L tests new-session -x 97 -y 31\r")
    screen_of(terminal, 31, 97, lambda s: "[0]" in s.display[30])
    terminal.send("printf '\\033[38;5;196mscarlet\\033[0m\\n'; tmux -L tests display -p '#{client_termname}'\r")
    screen = screen_of(terminal, 31, 97, lambda s: any(line.startswith("scarlet") for line in s.display))
    row = next(n for n, line in enumerate(screen.display) if line.startswith("scarlet"))
    assert screen.buffer[row][0].fg == "ff0000"
    terminal.send("exit\r")
    terminal.expect(r"\[exited\]")
    terminal.prompt()


def test_a_pager_on_a_long_text(terminal):
    terminal.send("seq 100000 | less -X\r")
    screen_of(terminal, 31, 97, lambda s: s.display[0].startswith("1 ") and s.display[29].startswith("30 "))
    terminal.send("G")
    screen_of(terminal, 31, 97, lambda s: s.display[29].startswith("100000"))
    terminal.send("q")
    terminal.prompt()


# -- bytes ----------------------------------------------------------------------------------------


def unicode_sample():
    """Every character of the first planes' beginnings, and some of each plane; no control characters."""
    ranges = [(0x20, 0x7F), (0xA0, 0x3000), (0x4E00, 0x5200), (0xAC00, 0xAE00), (0xE000, 0xE100), (0xFB00, 0xFFFE)]
    ranges += [(plane << 16, (plane << 16) + 0x80) for plane in range(1, 17)]
    ranges += [((plane << 16) + 0xFF00, (plane << 16) + 0xFFFE) for plane in range(1, 17)]
    return "".join(chr(code) for low, high in ranges for code in range(low, high))


def test_utf8_of_all_planes_typed(terminal):
    data = unicode_sample().encode()
    terminal.raw(f"head -c {len(data)} | sha256sum")
    terminal.send(data)
    assert terminal.expect(rb"([0-9a-f]{64})", 60)[1].decode() == hashlib.sha256(data).hexdigest()
    terminal.expect("raw-over")


def test_utf8_typed_in_pieces(terminal):
    """A character split between two packets is one character."""
    data = "aé€😀z".encode()
    terminal.raw(f"head -c {len(data)} | od -An -tx1 -v")
    for byte in data:
        terminal.send(bytes([byte]))
        time.sleep(0.02)  # so that each byte makes a packet of its own
    assert bytes.fromhex(terminal.expect(rb"((?: [0-9a-f]{2}){%d})" % len(data))[1].decode()) == data
    terminal.expect("raw-over")


def test_a_paste_at_a_program_that_reads_slowly(terminal):
    """What waits for the program to read is not damaged: a piece of it may end in the middle of a character."""
    data = "ß€😀".encode() * 4000
    rounds = len(data) // 3000
    terminal.raw(f"for n in $(seq {rounds}); do head -c 3000; sleep 0.3; done | sha256sum")
    terminal.send(data)
    assert terminal.expect(rb"([0-9a-f]{64})", 60)[1].decode() == hashlib.sha256(data).hexdigest()
    terminal.expect("raw-over")


def test_utf8_of_all_planes_printed(terminal):
    data = unicode_sample().encode()
    terminal.raw(f"head -c {len(data)} >sample.txt; cat sample.txt sample.txt; rm sample.txt")
    terminal.send(data)
    got = read_exactly(terminal, 2 * len(data))
    assert got == data + data
    terminal.expect("raw-over")


def read_exactly(terminal, size, timeout=60.0):
    """The next `size` bytes of output."""
    deadline = time.monotonic() + timeout
    pieces, have = [terminal.seen], len(terminal.seen)
    terminal.seen = b""
    while have < size:
        piece = terminal.read(max(0.01, deadline - time.monotonic()))
        assert piece, f"the session ended after {have} of {size} bytes"
        pieces.append(piece)
        have += len(piece)
    data = b"".join(pieces)
    terminal.seen = data[size:]
    return data[:size]


def test_every_control_byte_typed(terminal):
    data = bytes(range(0x20)) + b"\x7f"
    terminal.raw(f"head -c {len(data)} | od -An -tx1 -v -w1")
    terminal.send(data)
    match = terminal.expect(rb"((?: [0-9a-f]{2}\s+){%d})" % len(data))
    assert bytes.fromhex(match[1].decode()) == data
    terminal.expect("raw-over")


def test_bytes_that_are_not_utf8_do_no_harm(terminal, terminal_mode):
    """Terminado carries text: what is not UTF-8 can pass by an agent only, but nothing else may suffer."""
    terminal.start("cat >odd")
    terminal.send(b"ok\xff\xfe\xc3(really)\xf0\x9f\x98END\r")
    terminal.expect(b"END")
    terminal.send(b"\x04")
    terminal.prompt()
    if terminal_mode == "auto":
        assert terminal.run("od -An -tx1 -N6 odd").split() == ["6f", "6b", "ff", "fe", "c3", "28"]
    said = terminal.run("cat odd; rm odd")
    assert said.startswith("ok") and "(really)" in said and said.endswith("END\n")
    assert terminal.run("echo fine") == "fine\n"


def test_5_megabytes_pasted_at_a_raw_reader(terminal, alice):
    data = random.Random(5).randbytes(2_500_000).hex().encode()
    with Responsiveness(alice.jupyter):
        terminal.raw("head -c 5000000 | sha256sum")
        start = time.monotonic()
        terminal.send(data, 300)
        assert terminal.expect(rb"([0-9a-f]{64})", 300)[1].decode() == hashlib.sha256(data).hexdigest()
        print(f"raw paste: {5 / (time.monotonic() - start):.2f} MB/s")
        terminal.expect("raw-over")


def test_5_megabytes_pasted_in_lines(terminal, alice):
    """What a user pastes into `cat >file`: cooked mode, with echo."""
    line = b"The quick brown fox jumps over the lazy dog, and again, until the line is long enough.\r"
    data = line * (5_000_000 // len(line))
    expected = hashlib.sha256(data.replace(b"\r", b"\n")).hexdigest()
    terminal.start("cat >pasted; echo sa''ved")
    reader = threading.Thread(target=terminal.send, args=(data + b"\x04", 300))
    start = time.monotonic()
    with Responsiveness(alice.jupyter):
        reader.start()
        terminal.expect("saved", 300)
    reader.join()
    print(f"cooked paste: {5 / (time.monotonic() - start):.2f} MB/s")
    terminal.prompt()
    assert terminal.run("sha256sum <pasted; rm pasted", 60).split()[0] == expected


def test_50_megabytes_printed(terminal):
    size = 50_000_000
    terminal.send(
        "python3 -c \"import random; r=random.Random(50); open('big','w').write(''.join("
        "r.choices('abcdefgh \\u00e9\\u20ac\\U0001f600\\n', k=20_000_000)))\"; truncate -s 50000000 big; "
        "sha256sum big; stat -c '=%s' big\r"
    )
    digest = terminal.expect(rb"([0-9a-f]{64})  big", 120)[1].decode()
    terminal.expect("=50000000")
    terminal.prompt()
    terminal.raw("cat big; rm big")
    start = time.monotonic()
    data = read_exactly(terminal, size, 120)
    print(f"printed: {50 / (time.monotonic() - start):.1f} MB/s")
    # truncate may cut a character in two or append zeros; neither is a byte less.
    assert hashlib.sha256(data).hexdigest() == digest
    terminal.expect("raw-over", 20)


# -- interrupts -----------------------------------------------------------------------------------


def interrupt_time(terminal, rate=None, seconds=3.0):
    """Seconds from Ctrl-C to the prompt, in a flood of which the client reads `rate` bytes a second."""
    terminal.send("yes 'a flood of words that nobody reads to the end'\r")
    terminal.expect("(a flood of words that nobody reads to the end\r\n){2}")

    def drain(until):
        start, taken = time.monotonic(), 0
        while time.monotonic() < until[0] and not until[1]():
            piece = terminal.read(20, 16384)
            taken += len(piece)
            terminal.seen = (terminal.seen + piece)[-200:]
            if rate:
                ahead = taken / rate - (time.monotonic() - start)
                if ahead > 0:
                    time.sleep(ahead)

    drain((time.monotonic() + seconds, lambda: False))
    terminal.seen = b""
    sent = time.monotonic()
    terminal.send(b"\x03")
    drain((time.monotonic() + 60, lambda: b"^C" in terminal.seen and b"$ " in terminal.seen.rpartition(b"^C")[2]))
    took = time.monotonic() - sent
    terminal.seen = b""
    return took


def test_ctrl_c_of_a_flood(terminal):
    assert interrupt_time(terminal) < 1.0
    assert terminal.run("echo again") == "again\n"


def test_ctrl_c_of_a_flood_with_a_slow_client(bastion, client, alice):
    """A client that reads 1 MB/s: what is on its way must drain, as with stock sshd."""
    rate, window = 1_000_000, 262_144
    with client.admin_terminal(bastion, window=window) as stock:
        stock.prompt()
        theirs = interrupt_time(stock, rate)
    with client.terminal(bastion, "alice", alice.token, window=window) as ours:
        ours.prompt()
        took = interrupt_time(ours, rate)
        assert ours.run("echo again") == "again\n"
    print(f"ours {took:.2f} s, stock sshd {theirs:.2f} s")
    assert took < 1.0 + theirs
    alice.no_terminals()


def test_a_slow_client_does_not_make_the_server_grow(bastion, client, alice, hub):
    """What the client doesn't read must not pile up in the user's server (25 MB/s were seen)."""

    def memory():
        return sum(int(one.read("statm").split()[1]) * 4096 for one in hub.server_processes("alice"))

    with client.terminal(bastion, "alice", alice.token, window=65536) as terminal:
        terminal.prompt()
        before = memory()
        terminal.send("yes 'a flood that nobody reads at all'\r")
        terminal.expect("nobody reads at all\r\n")
        deadline = time.monotonic() + 8
        while time.monotonic() < deadline:
            assert memory() - before < 40_000_000, f"the server grew by {(memory() - before) >> 20} MiB"
            time.sleep(0.2)
        with Responsiveness(alice.jupyter):
            terminal.send(b"\x03")
            terminal.expect(rb"\^C.*\$ ", 30)
        terminal.seen = b""
        assert terminal.run("echo still here") == "still here\n"
    alice.no_terminals()


def test_signals_from_the_keyboard(terminal):
    # The program itself says when it has the terminal: a key typed before that would go to the shell, which ignores it.
    terminal.send(
        "perl -e '$| = 1; $SIG{CONT} = sub { print q(conti) . qq(nued\\n) }; "
        "print q(star) . qq(ted\\n); sleep 1 while 1'\r"
    )
    terminal.expect("started\r\n")
    terminal.send(b"\x1a")
    terminal.expect("Stopped")
    terminal.prompt()
    terminal.send("fg\r")
    terminal.expect("continued\r\n")
    terminal.send(b"\x1c")
    terminal.expect("Quit")
    terminal.prompt()
    terminal.start("cat")
    terminal.send(b"\x04")
    terminal.prompt()
