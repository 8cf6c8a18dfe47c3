"""Checks of lib.checks.commandchecks' kind for commands that have a terminal: `ssh -t` and `ssh -tt`."""

import re
import signal
import termios

import pexpect

from lib.checks.commandchecks import over_one_connection
from lib.checks.shellplace import nap
from lib.wait import wait_for


def ended(child):
    """Read a client's terminal to the end; (its exit status, what was read). A signal that killed it counts as -N."""
    child.expect(pexpect.EOF)
    child.close()
    return (child.exitstatus if child.signalstatus is None else -child.signalstatus), child.before


def wait_raw(child):
    """Wait until the client reads its terminal byte by byte.

    What is typed before that is the local terminal's: it turns Ctrl-C into a signal for the client. OpenSSH's
    multiplexing client makes its terminal raw after the remote program has started, so output is no sign of it.
    """
    wait_for(lambda: not termios.tcgetattr(child.child_fd)[3] & termios.ICANON, "the client's terminal is raw")


def check_forced_terminal(place):
    """-tt where the client has none: one stream, with the terminal's line ends, and the status.

    Each by a login of its own: over a ControlMaster OpenSSH's client asks for a terminal whose modes are all off.
    """
    done = place.ssh("tty; echo out; echo err >&2; exit 5", None, ["-tt"])
    assert done.status == 5 and re.fullmatch(rb"/dev/pts/\d+\r\nout\r\nerr\r\n", done.out) and done.err == b"", done
    # Standard input is typed. Its end is not the end of the program's input: that is for Ctrl-D to say.
    done = place.ssh("cat; echo over; exit 3", b"typed\n\x04", ["-tt"])
    assert done.status == 3 and done.out.count(b"typed\r\n") == 2 and done.out.endswith(b"over\r\n"), done
    done = place.ssh(None, b"echo from a sh''ell; tty\nexit 6\n", ["-tt"])
    assert done.status == 6 and re.search(rb"\n(\x1b\[\?2004l\r)?from a shell\r\n/dev/pts/\d+\r\n", done.out), done


@over_one_connection
def check_terminal(place):
    """Size, type and modes of the client's terminal are those of the program's."""
    command = "stty size; stty -a; echo type=$TERM tty=$SSH_TTY; tty; test -t 0 -a -t 1 -a -t 2 && echo three; exit 9"
    with place.terminal(
        command, rows=41, columns=133, term="vt220", stty="intr ^X erase ^H -ixon -echoctl iutf8 -echo"
    ) as child:
        status, said = ended(child)
    text = said.decode().replace("\r\n", "\n")
    assert status == 9 and text.startswith("41 133\n") and text.endswith("\nthree\n"), text
    for pattern in ("intr = ^X;", "erase = ^H;", "quit = ^\\;", " -ixon", " -echoctl", " -echo ", "rows 41; "):
        assert pattern in text, (pattern, text)
    for pattern in ("icanon", "isig", "opost", "onlcr", "icrnl", "iutf8"):
        assert re.search(rf"(?m)(^| ){pattern}\b", text), (pattern, text)
    assert re.search(r"\ntype=vt220 tty=(/dev/pts/\d+)\n\1\n", text), text


@over_one_connection
def check_raw_terminal(place):
    """A program that sets its terminal to raw gets and gives every byte."""
    data = bytes(range(256)) * 40
    with place.terminal(
        "stty raw -echo; echo ready; head -c 10240 | od -An -v -tx1 | tr -d ' \\n'; echo .; "
        "head -c 10240 /dev/zero | tr '\\0' '\\377'; echo done"
    ) as child:
        child.expect_exact("ready\n")
        wait_raw(child)
        child.send(data.replace(b"~", b"-"))
        child.expect(r"([0-9a-f]{20480})\.\n", timeout=30)
        assert bytes.fromhex(child.match[1].decode()) == data.replace(b"~", b"-")
        child.expect_exact("done\n")
        assert child.before == b"\xff" * 10240


@over_one_connection
def check_window_change(place):
    """The program is told of a new size by SIGWINCH, time and again."""
    # bash forgets a signal that comes while it runs the trap of the last one.
    program = "$| = 1; $SIG{WINCH} = sub { system q(stty size) }; print qq(ready\\n); sleep 1 while 1"
    with place.terminal(f"perl -e '{program}'") as child:
        child.expect_exact("ready")
        # Before that OpenSSH's multiplexing client does not yet pass on sizes either.
        wait_raw(child)
        for rows, columns in ((30, 100), (50, 200), (10, 20)):
            child.setwinsize(rows, columns)
            child.expect_exact(f"{rows} {columns}\r\n")


@over_one_connection
def check_keyboard(place):
    """Ctrl-C, Ctrl-\\, Ctrl-Z and Ctrl-D do what they do, and the client's status tells."""
    with place.terminal(f"echo ready; exec {nap()}") as child:
        child.expect_exact("ready")
        wait_raw(child)
        child.send("\x03")
        assert ended(child)[0] == 255
    with place.terminal("trap 'echo caught; exit 7' INT; echo ready; while :; do sleep 0.1; done") as child:
        child.expect_exact("ready")
        wait_raw(child)
        child.send("\x03")
        child.expect_exact("caught")
        assert ended(child)[0] == 7
    with place.terminal("echo ready; cat; echo end; exit 4") as child:
        child.expect_exact("ready")
        wait_raw(child)
        child.send("line\n\x04")
        status, said = ended(child)
        assert status == 4 and said.count(b"line\r\n") >= 1 and said.endswith(b"end\r\n"), said
    with place.terminal() as child:
        child.expect(r"\$ ")
        wait_raw(child)
        marker = nap()
        child.send(f"{marker}\r")
        place.found(marker, "sleep")
        child.send("\x1a")
        child.expect(r"Stopped.*\$ ")
        child.send("kill -9 %1; sleep 0.2\r")
        child.expect(r"Killed.*\$ ")
        child.send("exit 11\r")
        assert ended(child)[0] == 11


@over_one_connection
def check_flood(place):
    """Much output through a terminal is whole and in order."""
    with place.terminal("seq 200000; exit 3") as child:
        child.maxread = 1 << 16
        status, said = ended(child)
    assert status == 3 and said == b"".join(b"%d\r\n" % number for number in range(1, 200_001)), said[-200:]


def check_killed_client(place):
    """A client that is killed hangs up: programs of its terminal end."""
    marker = nap()
    with place.terminal(f"echo ready; {marker}") as child:
        child.expect_exact("ready")
        place.found(marker, "sleep")
        child.kill(signal.SIGKILL)
        place.gone(marker, 20)


@over_one_connection
def check_background_of_a_terminal(place):
    """The end of the program is the end of a session with a terminal, whatever it left in the background."""
    marker = nap()
    with place.terminal(f"nohup {marker} >/dev/null 2>&1 & sleep 0.5; echo started; exit 5") as child:
        status, said = ended(child)
    assert status == 5 and b"started" in said, (status, said)
    wait_for(lambda: place.find(marker), "it lives on") and place.found(marker, "sleep").kill()


QUICK = (
    check_forced_terminal,
    check_terminal,
    check_raw_terminal,
    check_window_change,
    check_keyboard,
    check_flood,
    check_killed_client,
    check_background_of_a_terminal,
)
