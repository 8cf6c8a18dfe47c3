"""What must hold of commands over SSH, wherever they run: each check takes a ShellPlace and fails or returns.

The same checks run against stock sshd with a local account and against the servers of hub users, and so hold the
latter to the former. A check leaves nothing behind. Those with a terminal are in lib.checks.terminalchecks, those with other
programs than ssh in lib.checks.commandclients.
"""

import contextlib
import functools
import hashlib
import os
import re
import subprocess
import threading
import time

from lib.checks.place import leaves_nothing
from lib.checks.shellplace import nap
from lib.wait import wait_for

#: Sizes that suit every run; JO_FULL makes them those that count.
FULL = bool(os.environ.get("JO_FULL"))
BULK = (1 << 30) if FULL else (200 << 20)


def over_one_connection(check):
    """A check whose commands share one connection."""

    @functools.wraps(check)
    def checked(place, *arguments, **options):
        with place.master():
            return check(place, *arguments, **options)

    return checked


def locally(command, input=b"", cwd=None):
    """What bash makes of a command here: (status, output, errors)."""
    done = subprocess.run(
        ["bash", "-c", os.fsencode(command)],
        input=input,
        capture_output=True,
        cwd=cwd,
        env={"PATH": "/usr/bin:/bin", "HOME": "/nonexistent"},
    )
    return done.returncode, done.stdout, done.stderr


# How commands end.


@over_one_connection
def check_statuses(place):
    """Every exit status arrives."""
    wrong = {}
    for status in range(256):
        done = place.ssh(f"exit {status}", input=None)
        if (done.status, done.out, done.err) != (status, b"", b""):
            wrong[status] = done
    assert not wrong, wrong


def check_plain_logins(place):
    """Without ControlMaster: the first of what the other checks do over a shared connection."""
    assert place.ssh("echo out; echo err >&2; exit 7") == type(place.ssh("true"))(7, b"out\n", b"err\n")
    assert place.ssh("cat", b"through\n").out == b"through\n"
    assert place.ssh("kill -9 $$").status == 255


@over_one_connection
def check_signals(place):
    """Death by a signal: what was printed arrives, and OpenSSH's client has status 255, as there is none."""
    for name in ("KILL", "TERM", "PIPE", "INT", "HUP", "QUIT", "USR1", "USR2", "ALRM", "ABRT", "SEGV"):
        # dash, as bash ignores some of them.
        done = place.ssh(f"ulimit -c 0; echo before; exec sh -c 'kill -{name} $$; echo after'")
        assert (done.status, done.out) == (255, b"before\n"), (name, done)
    done = place.ssh("sh -c 'kill -9 $$'; echo $?")
    assert (done.status, done.out) == (0, b"137\n"), done


@over_one_connection
def check_unknown_commands(place):
    """What bash cannot run it says on standard error."""
    for command, status in (("no-such-program", 127), ("/etc", 126), ("'unclosed", 2), ("exit 3; (", 2)):
        done, here = place.ssh(command), locally(command)
        assert here[0] in (status, 1) and (done.status, done.out) == here[:2] and done.err, (command, done, here)


# The streams.


@over_one_connection
def check_streams(place):
    """Standard output and error are apart, each complete and in order, however they are mixed."""
    done = place.ssh("for ((i = 0; i < 20000; i++)); do echo out$i; echo err$i >&2; done; exit 4", timeout=120)
    assert done.status == 4
    assert done.out == b"".join(b"out%d\n" % number for number in range(20000)), done.out[-200:]
    assert done.err == b"".join(b"err%d\n" % number for number in range(20000)), done.err[-200:]


@over_one_connection
def check_input(place):
    """Standard input and its end: none, a little, a file, and -n."""
    assert place.ssh("wc -c", b"").out.strip() == b"0"
    assert place.ssh("wc -c", None).out.strip() == b"0"
    assert place.ssh("cat", b"x").out == b"x"
    with place.scratch() as here:
        (here / "file").write_bytes(b"0123456789" * 12345)
        with open(here / "file", "rb") as file, place.opened("wc -c", stdin=file) as client:
            assert client.stdout.read().strip() == b"123450" and client.wait(20) == 0
    # The client's own input stays open: with -n nobody reads it, without the program waits for its end.
    with place.opened("cat; echo ended", ["-n"]) as client:
        assert client.stdout.read() == b"ended\n" and client.wait(20) == 0
    with place.opened("cat; echo ended") as client:
        client.stdin.write(b"first\n")
        assert client.stdout.read(6) == b"first\n" and client.poll() is None
        client.stdin.write(b"second\n")
        assert client.stdout.read(7) == b"second\n" and client.poll() is None
        client.stdin.close()
        assert client.stdout.read() == b"ended\n" and client.wait(20) == 0


def check_client_in_the_background(place):
    """ssh -f returns as soon as the command runs; its output comes later."""
    with place.scratch() as here, open(here / "out", "wb") as out, open(here / "err", "wb") as err:
        start = place.ssh_line("sleep 2; echo later; echo complaint >&2", ["-f"])
        done = subprocess.run(
            start, stdin=subprocess.DEVNULL, stdout=out, stderr=err, timeout=60, env=place.environment
        )
        assert done.returncode == 0 and (here / "out").read_bytes() == b""
        wait_for(lambda: (here / "out").read_bytes() == b"later\n", "the output comes")
        wait_for(lambda: (here / "err").read_bytes() == b"complaint\n", "the errors come")


@over_one_connection
def check_half_close(place):
    """After the end of its input a program still writes; one that closes its output still reads."""
    assert place.ssh("cat >/dev/null; sleep 0.5; echo after; echo too >&2; exit 9", b"x" * 100_000).out == b"after\n"
    done = place.ssh("exec >&-; sleep 1; cat >&2; exit 7", b"read all the same")
    assert (done.status, done.out, done.err) == (7, b"", b"read all the same")
    done = place.ssh("exec 2>&-; echo out; sleep 0.5; echo more; exit 8")
    assert (done.status, done.out, done.err) == (8, b"out\nmore\n", b"")
    done = place.ssh("exec >&- 2>&-; sleep 1; exit 6")
    assert (done.status, done.out, done.err) == (6, b"", b"")


@over_one_connection
def check_input_that_nobody_reads(place):
    """A program that ends, or closes its input, without having read it holds nobody up."""
    data = b"unread\n" * 2_000_000
    for command, status in (("exit 3", 3), ("exec <&-; sleep 1; echo on; exit 5", 5), ("head -c 7; exit 6", 6)):
        done = place.ssh(command, data, timeout=30)
        assert done.status == status and done.out in (b"", b"on\n", b"unread\n"), (command, done)


@over_one_connection
def check_closed_output(place):
    """`ssh … yes | head -1`: the program ends soon, as in a local pipeline."""
    for command in ("yes", "exec yes | cat", "while echo a line; do :; done"):
        marker = nap()
        with place.opened(f": {marker}; {command}") as client:
            assert client.stdout.read(2)
            client.stdout.close()
            client.wait(20)
            place.gone(marker, 20)


@over_one_connection
def check_tiny_writes(place):
    """100 000 writes of a few bytes each way."""
    expected = b"".join(b"%d\n" % number for number in range(100_000))
    done = place.ssh("for ((i = 0; i < 100000; i++)); do echo $i; done", timeout=180)
    assert (done.status, done.out, done.err) == (0, expected, b"")
    with place.opened("sha256sum") as client:
        for number in range(100_000):
            client.stdin.write(b"%d\n" % number)
        client.stdin.close()
        assert client.stdout.read().split()[0].decode() == hashlib.sha256(expected).hexdigest()


@over_one_connection
def check_every_byte(place):
    """All values, alone, in all pairs and in odd amounts, both ways and on standard error."""
    pairs = b"".join(bytes((one, two)) for one in range(256) for two in range(256))
    for data in (bytes(range(256)), pairs, b"\0", b"\n", b"\r\n" * 1000, b"\x04\x03\x1a", b"~.\n", pairs * 3 + b"x"):
        done = place.ssh("tee /dev/fd/3 3>&1 >&2 | cat", data)
        if done.err != data or done.out != data:  # what tee(1) can open depends on the kind of descriptor
            done = place.ssh("cat", data)
            errors = place.ssh("cat >&2", data)
            assert (done.status, done.out, errors.err) == (0, data, data), (data[:20], len(done.out), len(errors.err))


def feed(client, size, digest=None, pause=None):
    """Write that many bytes to a client's input, in the background; the thread. No two blocks are equal."""
    block = bytearray(os.urandom(1 << 20))

    def work():
        left, number = size, 0
        with contextlib.suppress(BrokenPipeError), client.stdin:
            while left:
                block[:8] = number.to_bytes(8, "big")
                part = memoryview(block)[: min(left, len(block))]
                view = part
                while view:
                    view = view[client.stdin.write(view) :]
                if digest:
                    digest.update(part)
                left -= len(part)
                number += 1

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread


def drain(stream, digest=None):
    """Read a stream to its end; how many bytes came."""
    count = 0
    while piece := stream.read(1 << 18):
        count += len(piece)
        if digest:
            digest.update(piece)
    return count


def counting(size):
    """The command line of a seq(1) that prints about so many bytes, quickly: numbers of ten digits."""
    return ["seq", str(10**9), str(10**9 + size // 11 - 1)]


@over_one_connection
def check_bulk(place, size=BULK):
    """Many bytes up, down, and both ways at once, with equal checksums. The times, in s."""
    took = []
    start = time.monotonic()
    digest = hashlib.sha256()
    with place.opened("sha256sum; exit 3") as client:
        thread = feed(client, size, digest)
        said = client.stdout.read().split()[0].decode()
        thread.join()
        assert said == digest.hexdigest() and client.wait(20) == 3
    took.append(time.monotonic() - start)
    # A stream with a checksum that is known at both ends, and that nothing has to be stored for.
    numbers, expected, got = counting(size), hashlib.sha256(), hashlib.sha256()
    with subprocess.Popen(numbers, stdout=subprocess.PIPE) as here:
        drain(here.stdout, expected)
    start = time.monotonic()
    with place.opened(f"{' '.join(numbers)}; exit 4", stdin=subprocess.DEVNULL) as client:
        assert drain(client.stdout, got) == size // 11 * 11
        assert got.digest() == expected.digest() and client.wait(20) == 4
    took.append(time.monotonic() - start)
    start = time.monotonic()
    sent, got = hashlib.sha256(), hashlib.sha256()
    with place.opened("cat") as client:
        thread = feed(client, size // 4, sent)
        assert drain(client.stdout, got) == size // 4
        thread.join()
        assert got.digest() == sent.digest() and client.wait(20) == 0
    took.append(time.monotonic() - start)
    return took


# Speed of the two ends.


def written(process):
    """How many bytes a process has written so far (proc(5))."""
    match = re.search(rb"wchar: (\d+)", process.read("io"))
    return int(match[1]) if match else -1


def held_up(process):
    """Whether a process has written nothing for half a second."""
    before = written(process)
    time.sleep(0.5)
    return written(process) == before


@over_one_connection
def check_slow_reader(place, meanwhile=lambda: None, lines=20_000_000):
    """A client that stops reading stops the program, too, and costs nobody memory; afterwards everything arrives.

    `meanwhile()` is called while nobody reads.
    """
    command = f"seq 1 {lines}"
    expected, got = hashlib.sha256(), hashlib.sha256()
    with subprocess.Popen(["seq", "1", str(lines)], stdout=subprocess.PIPE) as here:
        drain(here.stdout, expected)
    with place.opened(command, stdin=subprocess.DEVNULL) as client:
        data = b""
        while len(data) < 1 << 20:
            data += client.stdout.read((1 << 20) - len(data))
        got.update(data)
        program = place.found(command, "seq")
        wait_for(lambda: held_up(program), "the program waits for its reader", 30)
        assert 1 << 20 <= written(program) < 16 << 20, f"{written(program)} bytes were taken from the program"
        meanwhile()
        assert held_up(program)
        drain(client.stdout, got)
        assert client.wait(20) == 0 and got.digest() == expected.digest()


@over_one_connection
def check_program_that_reads_late(place, meanwhile=lambda: None, size=60 << 20):
    """Input waits in the client until the program reads it."""
    marker, digest = nap(), hashlib.sha256()
    with place.opened(f"{marker}; sha256sum") as client:
        thread = feed(client, size, digest)
        sleeping = place.found(marker, "sleep")
        thread.join(1)
        assert thread.is_alive(), "somebody has taken the whole input"
        meanwhile()
        sleeping.kill()
        assert client.stdout.read().split()[0].decode() == (thread.join() or digest.hexdigest())
        assert client.wait(20) == 0


@over_one_connection
def check_dialogue(place, rounds=200):
    """Question and answer by turns: nothing waits for more to come, none takes long."""
    took = []
    with place.opened('while IFS= read -r line; do echo "got $line"; done') as client:
        for number in range(rounds):
            start = time.monotonic()
            client.stdin.write(b"%d\n" % number)
            answer = b""
            while not answer.endswith(b"\n"):
                answer += client.stdout.read(100)
            took.append(time.monotonic() - start)
            assert answer == b"got %d\n" % number
    median = sorted(took)[rounds // 2]
    assert median < 0.03, f"an answer takes {median * 1000:.0f} ms"
    return median


# What reaches the shell.


QUOTING = (
    "echo 'single  quotes' \"double  quotes\" back\\ slash",
    r"printf '%s|' a\ b 'c d' \"e f\" \\\\ \$HOME",
    'echo "$(echo $((6*7)))"',
    "x=5; echo $x \"$x\" '$x' \\$x ${x}y ${x:-z} ${#x}",
    "echo a;echo b;   echo c   ",
    "echo one\necho two\n\necho three\n",
    "cat <<'EOF'\nhere  $document\n\ttab\nEOF\n",
    "cat <<< 'here string'",
    'echo "a\nb"',
    "# a comment\necho after",
    "\n\n  echo leading",
    "(echo sub; exit 3)",
    "{ echo group; }; false",
    "if true; then echo yes; fi",
    "for i in 1 2 3; do echo -n $i; done",
    "a() { echo \"f:$1\"; }; a 'x y'",
    "echo a | tr a b | cat -A",
    "echo err >&2; exit 5",
    "true && echo and || echo or",
    "! true",
    "echo `echo 'back ticks'`",
    "echo {a,b}{1,2}",
    "echo ~root",
    "echo -e 'tab\\tnew\\nline'",
    "printf '%s\\n' \"\" '' x",
    "echo $'\\x41\\e[0m' | od -c",
    "echo '\"' \"'\" '\\'",
    "eval 'echo \"$0\"'",
    'echo $# "$@" $-',
    "exec echo replaced",
    "trap 'echo bye' EXIT; exit 2",
    "echo ä ö € 😀",
    "printf %s 'é' | od -An -tx1",
    "test 'a b' = 'a b'; echo $?",
    "[[ abc =~ ^a(.)c$ ]] && echo ${BASH_REMATCH[1]}",
    "read -r a b <<<'1 2'; echo $b$a",
    "echo a\tb\vc\rd | od -An -c",
    "echo %s %n %% $%",
    "echo '!x' !y '!!'",
    "set -- a 'b c'; printf '<%s>' \"$@\"",
    "echo \\",
    "echo 'a'\\''b'",
    "cat </dev/null; echo $?",
    "umask 077; umask",
    "wait; jobs",
)
#: Bytes in commands that are no text, or not what a terminal would let through.
RAW = (
    b"printf %s '\xff\xfe\x80' | od -An -tx1",
    b"printf %s '\xc3' | od -An -tx1",
    b"printf %s '\x02\x03\x04\x1a\x1b[A\x7f' | od -An -tx1",
    b"echo \x15kill-line \x17word \x03intr | od -c",
    b"echo '~.' ; echo a\r",
    "echo '\u2028\ufeff\x9b'|od -An -tx1".encode(),
    b"echo '\xed\xa0\x80' | od -An -tx1",
)


@over_one_connection
def check_quoting(place):
    """The user's shell gets each command exactly as it was given."""
    wrong = {}
    with place.scratch() as here:
        for command in (*QUOTING, *RAW):
            expected, done = locally(command, cwd=here), place.ssh(command)
            same = (done.status, done.out) == expected[:2] and bool(done.err) == bool(expected[2])
            if not same:
                wrong[command] = (expected, done)
    assert not wrong, wrong


@leaves_nothing
@over_one_connection
def check_globbing(place):
    """Wildcards, and names that need quoting, in the home."""
    said = place.output(
        "mkdir globs && cd globs && touch -- a b 'c  d' '*' '-e' && "
        "printf '%s|' * && printf '%s|' '*' [ab] ~/globs/c* \"$HOME\"/globs/?"
    )
    there = f"{place.shown}/globs"
    assert said == f"*|-e|a|b|c  d|*|a|b|{there}/c  d|{there}/*|{there}/a|{there}/b|"
    assert place.home.names("globs") == ["*", "-e", "a", "b", "c  d"]


@over_one_connection
def check_long_commands(place):
    """Commands of up to 128 KB, as execve(2) takes them."""
    for size in (1000, 4096, 32_768, 65_536, 100_000, 130_000):
        command = ("echo " + "word " * size)[: size - 1] + "x"
        done = place.ssh(f"{command}")
        assert (done.status, done.err) == (0, b""), (size, done.status, done.err[:300])
        assert done.out == command[5:].encode() + b"\n", size


@over_one_connection
def check_too_long_command(place):
    """One that is longer yet fails, with a message."""
    for size in (131_072, 140_000, 200_000):
        done = place.ssh(("echo " + "word " * size)[:size])
        assert done.status not in (0, 255) and done.out == b"", (size, done.status)
        assert re.search(rb"(?i)too long", done.err), (size, done.err[:300])


# What the command finds.


def variables(place, **sent):
    """The environment of a command, as a dictionary; the client asks for some variables to be set."""
    text = place.output("env -0", options=["-o", f"SendEnv={' '.join(sent)}"] if sent else (), env=sent)
    return dict(part.split("=", 1) for part in text.split("\0") if part)


@over_one_connection
def check_environment(place):
    """What login shells rely on, what the client sends, and nothing of whatever started the command."""
    found = variables(place)
    assert (found["HOME"], found["PWD"], found["SHELL"]) == (place.shown, place.shown, "/bin/bash"), found
    assert "/usr/bin" in found["PATH"].split(":")
    for name in (
        "COLUMNS",
        "LINES",
        "PYXTERM_DIMENSIONS",
        "OLDPWD",
        "TERM",
        "COLORTERM",
        "SSH_TTY",
        "SSH_ORIGINAL_COMMAND",
        "LC_TIME",
    ):
        assert name not in found, f"{name}={found[name]}"
    address, port = re.escape(place.host), place.port or place.bastion.PORT
    assert re.fullmatch(rf"10\.77\.1\.\d \d+ {address} {port}", found["SSH_CONNECTION"]), found["SSH_CONNECTION"]
    assert re.fullmatch(rf"10\.77\.1\.\d \d+ {port}", found["SSH_CLIENT"]), found["SSH_CLIENT"]
    assert place.output("pwd; echo $SHLVL; readlink /proc/self/cwd") == f"{place.shown}\n1\n{place.shown}\n"
    own = {"LC_TERMINAL": "iTerm2", "LC_TERMINAL_VERSION": "3.5.0", "LC_WHO": 'Jörg "X" $(id)'}
    found = variables(place, LANG="C.UTF-8", LC_TIME="POSIX", LC_MESSAGES="C", FOREIGN="x", **own)
    assert {name: found.get(name) for name in own} == own, found
    assert (found["LANG"], found["LC_TIME"], found["LC_MESSAGES"]) == ("C.UTF-8", "POSIX", "C"), found
    assert "FOREIGN" not in found, found
    # This went to one session alone.
    assert "LC_TIME" not in variables(place)


@over_one_connection
def check_the_process(place):
    """A command is a session leader without a terminal, with three descriptors and all signals as they should be."""
    said = place.output(
        "tty; (: </dev/tty) 2>/dev/null || echo none; cut -d' ' -f1,5,6 /proc/$$/stat; "
        "echo /proc/self/fd/*; cat /proc/self/status | grep -E 'Sig(Blk|Ign|Cgt)'",
        input=None,
    ).splitlines()
    pid, group, session = said[2].split()
    assert said[:2] == ["not a tty", "none"] and pid == group == session, said
    # bash's wildcard has a descriptor of its own.
    assert [path.rpartition("/")[2] for path in said[3].split()] == ["0", "1", "2", "3"], said
    # 32 and 33 are the C library's own (nptl(7)): nobody can change what is inherited of them, and some runtimes of
    # containers leave them ignored.
    assert [int(line.split()[1], 16) & ~(3 << 31) for line in said[4:]] == [0] * 3, said


@contextlib.contextmanager
def startup_file(place, name, text):
    """A file that the user's shell reads when it starts, for a while."""
    before = place.home.read(name) if place.home.stat(name) else None
    place.home.write(name, text, owner=place.owner)
    try:
        yield
    finally:
        if before is None:
            place.home.remove(name)
        else:
            place.home.write(name, before, owner=place.owner)


def check_startup_files(place):
    """bash reads ~/.bashrc for commands; what that prints is part of the output, and `set -e` in it holds."""
    with startup_file(place, ".bashrc", "export FROM_BASHRC=yes\n"), place.master():
        assert place.output("echo $FROM_BASHRC") == "yes\n"
        assert place.ssh(None, b"echo $0 $FROM_BASHRC; shopt -q login_shell && echo login; exit 5\n").status == 5
    with startup_file(place, ".bashrc", "echo noise; set -e\n"), place.master():
        done = place.ssh("echo before; false; echo after")
        assert (done.status, done.out) == (1, b"noise\nbefore\n"), done


@over_one_connection
def check_shell_without_a_terminal(place):
    """No command and no terminal: a login shell reads its standard input."""
    for options in ((), ("-T",)):
        done = place.ssh(
            None,
            b"echo begin\necho $0; shopt -q login_shell && echo login\npwd; tty\n"
            b'cat <<EOF\nhere\nEOF\nread -r line\nfor me\necho "read $line" >&2\nexit 5\necho never\n',
            options,
        )
        assert done.status == 5 and done.err.endswith(b"read for me\n"), done
        assert done.out.partition(b"begin\n")[2] == f"-bash\nlogin\n{place.shown}\nnot a tty\nhere\n".encode(), done
    assert place.ssh(None, b"").status == 0


# Other processes.


@leaves_nothing
@over_one_connection
def check_background_processes(place):
    """One in the background that has the output open keeps the session, one that hasn't is left behind and lives on."""
    start = time.monotonic()
    done = place.ssh("(sleep 2; echo late) & echo early; exit 3")
    assert (done.status, done.out) == (3, b"early\nlate\n") and time.monotonic() - start >= 2, done
    start = time.monotonic()
    done = place.ssh("(sleep 2; echo late >&2) >/dev/null & exit 4")
    assert (done.status, done.err) == (4, b"late\n") and time.monotonic() - start >= 2, done
    for prefix in ("", "nohup ", "setsid "):
        marker = nap()
        done = place.ssh(f"{prefix}{marker} </dev/null >/dev/null 2>&1 & echo started", timeout=20)
        assert (done.status, done.out) == (0, b"started\n"), done
        left = place.found(marker, "sleep")
        assert place.output("echo on") == "on\n" and left.alive()
        left.kill()
    assert place.ssh("nohup sh -c 'sleep 1; echo alive >survivor' </dev/null >/dev/null 2>&1 &").status == 0
    wait_for(lambda: place.home.stat("survivor") and place.home.read("survivor") == b"alive\n", "the survivor writes")


def check_survivors_of_the_connection(place):
    """What was started with nohup and has let go of the streams outlives the connection."""
    marker = nap()
    assert place.output(f"nohup {marker} </dev/null >/dev/null 2>&1 & echo started") == "started\n"
    left = place.found(marker, "sleep")
    try:
        assert place.output("echo on") == "on\n"
        time.sleep(2)
        assert left.alive(), "it was killed with the connection"
    finally:
        left.kill()


#: How editors install their server: a script on standard input, marks in the output, a process that stays.
BOOTSTRAP = r"""
set -u
echo "mark-one: running"
cd ~/bootstrap || exit 40
cat >server.py <<'PROGRAM'
import os, socket
listener = socket.create_server(("127.0.0.1", 0))
with open("port.new", "w") as file:
    file.write(str(listener.getsockname()[1]))
os.rename("port.new", "port")
while True:
    connection, _ = listener.accept()
    with connection:
        connection.sendall(b"alive %d\n" % os.getpid())
PROGRAM
nohup python3 server.py >log 2>&1 </dev/null &
echo $! >pid
for ((i = 0; i < 200; i++)); do
  [ -e port ] && break
  sleep 0.1
done
echo "mark-two: port==$(cat port)=="
echo "a complaint" >&2
exit 0
"""


@leaves_nothing
def check_bootstrap(place):
    """`ssh -T host bash` with a script on standard input starts a server, which later logins find."""
    place.output("mkdir bootstrap")
    done = place.ssh("bash", BOOTSTRAP.encode(), ["-T"])
    port = re.search(rb"^mark-one: running\nmark-two: port==(\d+)==\n$", done.out)
    assert done.status == 0 and port and done.err == b"a complaint\n", done
    (pid,) = place.output("cat bootstrap/pid").split()
    try:
        assert place.output("exec 3<>/dev/tcp/127.0.0.1/$(cat bootstrap/port); cat <&3") == f"alive {pid}\n"
        done = place.ssh("bash -s -- 'first argument'", b'echo "$1"; exit 6\n', ["-T"])
        assert (done.status, done.out) == (6, b"first argument\n"), done
    finally:
        assert place.ssh(f"kill {pid}").status == 0


# Many at once.


@over_one_connection
def check_channels(place, count=10, size=3 << 20, meanwhile=lambda: None):
    """Many commands at once over one connection, each with data of its own both ways and a status of its own."""
    failures = []

    def work(number):
        data = os.urandom(1 << 10) * (size >> 10) + b"%d" % number
        try:
            done = place.ssh(f"cat; echo {number} >&2; exit {number}", data, timeout=180)
            assert (done.status, done.err) == (number, b"%d\n" % number), done.err
            assert done.out == data, f"{len(done.out)} of {len(data)} bytes"
        except Exception as error:  # noqa: BLE001 (every kind of failure counts)
            failures.append(f"{number}: {type(error).__name__}: {str(error)[:500]}")

    threads = [threading.Thread(target=work, args=(number,)) for number in range(1, count + 1)]
    for thread in threads:
        thread.start()
    meanwhile()
    for thread in threads:
        thread.join()
    assert not failures, failures


@over_one_connection
def check_one_that_does_not_read(place):
    """A channel whose client, or whose program, has stopped reading holds up no other."""
    marker = nap()
    with place.opened("yes", stdin=subprocess.DEVNULL) as slow, place.opened(marker) as idle:
        assert slow.stdout.read(10)
        thread, sleeping = feed(idle, 20 << 20), place.found(marker, "sleep")
        for number in range(20):
            assert place.output(f"echo {number}", timeout=10) == f"{number}\n"
        done = place.ssh("cat", b"x" * 3_000_000, timeout=30)
        assert len(done.out) == 3_000_000
        sleeping.kill()
        thread.join()
        assert idle.wait(20) == 255


#: Checks that are quick, for a parametrized test.
QUICK = (
    check_plain_logins,
    check_statuses,
    check_signals,
    check_unknown_commands,
    check_streams,
    check_input,
    check_client_in_the_background,
    check_half_close,
    check_input_that_nobody_reads,
    check_closed_output,
    check_tiny_writes,
    check_every_byte,
    check_slow_reader,
    check_program_that_reads_late,
    check_dialogue,
    check_quoting,
    check_globbing,
    check_long_commands,
    check_too_long_command,
    check_environment,
    check_the_process,
    check_startup_files,
    check_shell_without_a_terminal,
    check_background_processes,
    check_survivors_of_the_connection,
    check_bootstrap,
    check_channels,
    check_one_that_does_not_read,
)
