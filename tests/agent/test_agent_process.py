"""Processes without a terminal behave as those of sshd."""

import hashlib
import os
import re
import resource
import signal
import time
from pathlib import Path

import pytest

from peer import AGENT, Kinds

MEGABYTE = 1 << 20


def alive(pid):
    """Whether a process runs."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def test_hello_says_what_is_there(peer):
    """HELLO names the version of the protocol, Python, and the user's home and shell."""
    assert peer.hello["version"] == 1
    assert re.fullmatch(r"3\.\d+\.\d+", peer.hello["python"])
    assert peer.hello["pid"] == peer.pid
    assert peer.hello["home"] == os.environ["HOME"]
    assert os.access(peer.hello["shell"], os.X_OK)


def test_exit_statuses(peer):
    """Every exit status arrives."""
    streams = {status: peer.open(command=f"exit {status}") for status in (0, 1, 2, 42, 126, 127, 128, 254, 255)}
    for status, stream in streams.items():
        assert stream.wait().exit == {"status": status}
        assert stream.ends == {1, 2}


def test_death_by_signal(peer):
    """So does the name of the signal that a process died of."""
    for name in ("HUP", "INT", "ABRT", "KILL", "SEGV", "PIPE", "ALRM", "TERM", "USR1", "USR2"):
        assert peer.run(f"ulimit -c 0; kill -{name} $$").exit == {"signal": name}, name


def test_output_and_error_are_apart_and_exact(peer):
    """Every byte value passes in all three parts."""
    every = bytes(range(256)) * 100
    stream = peer.run("tee /dev/stderr", every)
    assert (stream.out, stream.err, stream.exit) == (every, every, {"status": 0})


def test_empty_input_and_output(peer):
    """Nothing in, nothing out."""
    stream = peer.run("cat")
    assert (stream.out, stream.err, stream.exit) == (b"", b"", {"status": 0})


def test_tiny_writes(peer):
    """Many writes of a byte."""
    stream = peer.run("i=0; while [ $i -lt 20000 ]; do echo; i=$((i+1)); done")
    assert stream.out == b"\n" * 20000


def test_half_close(peer):
    """A program that reads to the end of its input goes on after it; one may close its output and go on."""
    assert peer.run("sort; echo end", b"b\na\n").out == b"a\nb\nend\n"
    stream = peer.open(command="exec >&-; cat >&2; exit 5")
    peer.wait(lambda: 1 in stream.ends)
    assert stream.exit is None
    stream.write(b"later")
    stream.eof()
    assert (stream.wait().err, stream.exit) == (b"later", {"status": 5})


def test_reader_of_the_output_is_gone(peer):
    """STOP closes the pipe: `yes | head`."""
    stream = peer.open(command="yes")
    stream.keep = False
    peer.wait(lambda: stream.counts[1] > 100_000)
    stream.stop(1)
    assert stream.wait().exit == {"signal": "PIPE"}


def test_reader_of_the_input_is_gone(peer):
    """A program that closes its standard input: the agent says STOP, and what still comes is ignored."""
    stream = peer.open(command="exec <&-; echo closed; read -r x; sleep 0.5; echo end")
    stream.wait_output(b"closed\n")
    stream.write(bytes(200_000))
    peer.wait(lambda: stream.stopped)
    assert b"end\n" in stream.wait().out
    assert not peer.bye


def test_input_after_the_end(peer):
    """The end of the process says STOP for an input that was still open."""
    stream = peer.open(command="true")
    stream.wait()
    assert stream.stopped
    peer.send(Kinds.DATA, stream.number, 0, b"late")
    assert peer.run("echo fine").out == b"fine\n"


@pytest.mark.parametrize("size", [64 * MEGABYTE])
def test_bulk(peer, size):
    """64 MB out and 64 MB in, with checksums and bounded memory; the figures are printed."""
    block = os.urandom(MEGABYTE)
    digest = hashlib.sha256()
    began = time.monotonic()
    stream = peer.open(command="cat")
    stream.keep = False
    stream.sink = lambda part, data: digest.update(data)
    for _ in range(size // MEGABYTE):
        stream.write(block)
    stream.eof()
    stream.wait(60)
    both = time.monotonic() - began
    assert digest.digest() == hashlib.sha256(block * (size // MEGABYTE)).digest()
    assert stream.counts[1] == size and stream.exit == {"status": 0}
    status = Path(f"/proc/{peer.pid}/status").read_text()
    peak = int(re.search(r"VmHWM:\s+(\d+)", status)[1]) / 1024
    print(
        f"\nagent {peer.hello['python']}: {size / both / 1e6:.1f} MB/s in and out at once, peak {peak:.1f} MB, "
        f"start {1000 * (peer.ready - peer.started):.0f} ms"
    )
    assert peak < 25


def test_credit_is_respected(peer):
    """A sender never sends more than was granted; a reader that grants nothing gets nothing more."""
    stream = peer.open(command="yes", window=1000)
    stream.generous = False
    peer.wait(lambda: stream.counts[1] == 1000)
    peer.idle(0.2)
    assert stream.counts[1] == 1000
    stream.grant(1, 70_000)
    peer.wait(lambda: stream.counts[1] == 71_000)
    peer.idle(0.2)
    assert stream.counts[1] == 71_000
    # And it holds up nobody else.
    assert peer.run("echo other").out == b"other\n"
    stream.close()
    stream.wait()


def test_window_is_kept(agent):
    """Without acknowledgement no more than the link's window is sent, and acknowledged it goes on."""
    peer = agent()
    peer.mute = True
    stream = peer.open(command="yes", window=Kinds.MAX_CREDIT)
    stream.generous = stream.keep = False
    peer.wait(lambda: stream.counts[1] > Kinds.LINK_WINDOW - 10_000)
    peer.idle(0.3)
    assert stream.counts[1] <= Kinds.LINK_WINDOW
    peer.mute = False
    peer.wait(lambda: stream.counts[1] == Kinds.MAX_CREDIT)
    stream.close()


def test_a_program_that_does_not_read(peer):
    """Its input fills up to the credit; others, and the terminal, aren't held up."""
    slow = peer.open(command="sleep 1000")
    slow.write(bytes(4 * MEGABYTE))
    peer.wait(lambda: slow.credit == 0)
    assert peer.run("wc -c", bytes(MEGABYTE)).out.strip() == b"1048576"
    slow.close()
    slow.wait()


def test_many_streams_at_once(peer):
    """Each keeps its own bytes."""
    streams = [peer.open(command=f"yes {number} | head -c 300000") for number in range(20)]
    for number, stream in enumerate(streams):
        stream.wait(30)
        assert stream.out == (f"{number}\n".encode() * 300000)[:300000]


def test_signals(peer):
    """SIGNAL reaches the whole group; unknown names are ignored."""
    stream = peer.open(
        command="sh -c 'trap \"echo inner; exit 0\" USR1; echo up; while :; do sleep 0.05; done'; echo $?"
    )
    stream.wait_output(b"up\n")
    for name in ("NONSENSE", "", "_DFL", "9", "\xff"):
        stream.signal(name)
    stream.signal("USR1")
    stream.wait()
    assert b"inner" in stream.out or stream.exit == {"signal": "USR1"}
    stream = peer.open(command="sleep 1000")
    stream.signal("INT")
    assert stream.wait().exit == {"signal": "INT"}


def test_signal_dispositions_are_the_defaults(agent):
    """Also where the server was started by nohup, and though Python ignores SIGPIPE.

    But for 32 and 33, the C library's own (signal(7), nptl(7)): it lets nobody change what it inherited of them, and
    some container runtimes leave them ignored.
    """
    ours = ~(1 << 31 | 1 << 32)

    def ignore():
        for number in (signal.SIGHUP, signal.SIGINT, signal.SIGPIPE, signal.SIGCHLD):
            signal.signal(number, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGUSR1, signal.SIGTERM))

    peer = agent(preexec=ignore)
    out = peer.run("exec cat /proc/self/status").out.decode()
    for field in ("SigBlk", "SigIgn", "SigCgt"):
        assert int(re.search(rf"{field}:\s+([0-9a-f]+)", out)[1], 16) & ours == 0, field


def test_descriptors_of_processes(peer):
    """Pipes, and nothing else: neither the terminal nor what belongs to others. In a session of their own."""
    other = peer.open(command="sleep 1000")
    out = peer.run("ls -l /proc/$$/fd; exec cut -d' ' -f1,5,6,7 /proc/self/stat").out.decode().splitlines()
    descriptors = [line.split("->")[1].split(":")[0].strip() for line in out[:-1] if "->" in line]
    assert descriptors == ["pipe"] * 3
    pid, group, session, tty = out[-1].split()
    assert (pid == group == session) and tty == "0"
    other.close()


def test_environment(agent):
    """That of the server's terminals, without what belongs to a terminal, and with what the client says."""
    environment = {
        "HOME": "/",
        "PATH": os.environ["PATH"],
        "COLUMNS": "80",
        "LINES": "25",
        "PYXTERM_DIMENSIONS": "80x25",
        "SHLVL": "7",
        "OLDPWD": "/x",
        "TERM": "xterm",
        "KEPT": "yes \u00e9\n=",
        "SHELL": "/bin/sh",
    }
    peer = agent(environment=environment)
    out = (
        peer.run("exec cat /proc/self/environ", environment={"SSH_CLIENT": "192.0.2.1 1 22", "TERM": "vt100"})
        .out.decode()
        .split("\0")
    )
    found = dict(entry.split("=", 1) for entry in out if entry)
    assert found.pop("KEPT") == "yes \u00e9\n="
    assert found.pop("SSH_CLIENT") == "192.0.2.1 1 22"
    # What the shell itself adds.
    for name in ("PWD", "SHLVL", "_", "OLDPWD"):
        found.pop(name, None)
    assert found == {"HOME": "/", "PATH": os.environ["PATH"], "SHELL": "/bin/sh"}


def test_locale_of_the_client(agent):
    """Is taken if this host has it, and the server's own LC_ALL doesn't hide it then."""
    base = {"HOME": "/", "PATH": os.environ["PATH"], "SHELL": "/bin/sh", "LANG": "POSIX", "LC_ALL": "C"}
    peer = agent(environment=base)
    show = "echo $LANG,$LC_ALL,$LC_TIME"
    assert peer.run(show).out == b"POSIX,C,\n"
    assert peer.run(show, environment={"LANG": "xx_XX.UTF-8", "LC_TIME": "nonsense"}).out == b"POSIX,C,\n"
    assert peer.run(show, environment={"LANG": "xx_XX.UTF-8", "LC_TIME": "C"}).out == b"POSIX,,C\n"


def test_variables_of_the_client_that_are_no_locales(agent):
    """Arrive as they are, and change nothing of the server's locale."""
    base = {"HOME": "/", "PATH": os.environ["PATH"], "SHELL": "/bin/sh", "LC_ALL": "C"}
    sent = {"LC_TERMINAL": "iTerm2", "LC_WHO": "J\u00f6rg 'X' $(id)\n", "PROJECT": ""}
    out = agent(environment=base).run("exec cat /proc/self/environ", environment=sent).out.decode().split("\0")
    found = dict(entry.split("=", 1) for entry in out if entry)
    assert {name: found.get(name) for name in [*sent, "LC_ALL"]} == {**sent, "LC_ALL": "C"}


def test_login_shell_reads_a_script(agent, bash, tmp_path):
    """Without a command: the user's shell as login shell."""
    peer = agent(environment={**os.environ, "SHELL": bash, "HOME": str(tmp_path)})
    (tmp_path / ".bash_profile").write_text("echo profile\n")
    stream = peer.open()
    stream.write(b"echo $0; pwd; exit 9\n")
    stream.eof()
    assert (stream.wait().out, stream.exit) == (f"profile\n-bash\n{tmp_path}\n".encode(), {"status": 9})


def test_shells_that_are_none(agent):
    """What only says that there is no login isn't taken."""
    for value in ("/usr/sbin/nologin", "/bin/false", "/nowhere/sh", "relative", ""):
        peer = agent(environment={"HOME": "/", "PATH": os.environ["PATH"], "SHELL": value})
        assert peer.run("echo $SHELL").out.strip().rpartition(b"/")[2] in (b"sh", b"bash", b"zsh", b"dash", b"ash")
        peer.close()


def test_shell_that_cannot_run(agent, tmp_path):
    """As sshd says it."""
    broken = tmp_path / "shell"
    broken.write_text("#!/nowhere/interpreter\n")
    broken.chmod(0o755)
    peer = agent(environment={**os.environ, "SHELL": str(broken)})
    stream = peer.run("true")
    assert (stream.err, stream.exit) == (f"{broken}: No such file or directory\n".encode(), {"status": 1})


def test_home_that_is_not_there(agent):
    """The process starts in / and says so, as with sshd."""
    peer = agent(environment={**os.environ, "HOME": "/nowhere/at all"})
    stream = peer.run("pwd")
    assert stream.err == b"Could not chdir to home directory /nowhere/at all: No such file or directory\n"
    assert stream.out == b"/\n"


def test_poor_surroundings(agent, tmp_path):
    """No HOME, no PATH, no locale, a directory that was deleted."""
    directory = tmp_path / "deleted"
    directory.mkdir()

    def leave():
        os.chdir(directory)
        directory.rmdir()

    peer = agent(environment={"LANG": "C"}, preexec=leave)
    stream = peer.run("echo ${HOME:+set}; echo \u00e9")
    assert (stream.out, stream.exit) == ("set\n\u00e9\n".encode(), {"status": 0})


def test_disk_that_is_full(agent):
    """Or so it seems: nobody may write a byte to a file. The agent doesn't, also not for a cache of Python's."""

    def nothing():
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))

    peer = agent(preexec=nothing)
    assert peer.run("cat", b"x" * 100_000).out == b"x" * 100_000
    assert peer.run("tty", tty={"rows": 24, "cols": 80, "modes": []}).out.startswith(b"/dev/pts/")
    stream = peer.open(type="files", source=(AGENT / "files.py").read_text(), umask=0o22)
    stream.write(b"\0\0\0\5\1\0\0\0\3")
    stream.wait_output(b"\0\0\0\3")
    stream.close()


def test_long_and_odd_commands(peer):
    """Of any bytes but NUL, and up to what a kernel takes."""
    assert peer.run(b"printf %s '\xff\xfe'\"$(printf '\\x27')\" # \n").out == b"\xff\xfe'"
    long = "x" * 120_000
    assert peer.run(f"echo {long} | wc -c").out.strip() == b"120001"
    assert peer.run(f": {'y' * 131_072}").err.endswith(b"Argument list too long\n")
    assert "malformed" in peer.run(b"a\0b").refused


def test_description_in_pieces(peer):
    """A long description comes in several packets."""
    assert peer.run("echo " + "z" * 5000, pieces=100).out == b"z" * 5000 + b"\n"


def test_background_process_that_keeps_the_output(peer):
    """EXIT comes with the shell's end; CLOSE, as with sshd, when nobody holds the output any more."""
    stream = peer.open(command="(sleep 0.7; echo late) & exit 4")
    peer.wait(lambda: stream.exit)
    assert stream.exit == {"status": 4} and not stream.closed
    assert stream.wait().out == b"late\n"


def test_background_process_survives(peer):
    """`nohup program &` outlives its stream and the link."""
    stream = peer.run("nohup sleep 1000 >/dev/null 2>&1 </dev/null & echo $!")
    pid = int(stream.out)
    assert stream.exit == {"status": 0}
    peer.end()
    time.sleep(0.2)
    assert alive(pid)
    os.kill(pid, signal.SIGKILL)


def test_close_hangs_up(peer, tmp_path):
    """CLOSE from the gateway: the process gets SIGHUP, its pipes are closed, the answer is CLOSE."""
    # bash would say that `sleep` was hung up on, and die of that: nobody reads it any more.
    stream = peer.open(
        command=f"exec 2>/dev/null; trap 'echo hangup >{tmp_path}/seen; exit' HUP; echo $$; "
        "while :; do sleep 0.05; done"
    )
    stream.wait_output(b"\n")
    stream.close()
    stream.wait()
    peer.wait(lambda: (tmp_path / "seen").exists() and (tmp_path / "seen").read_text() == "hangup\n")
    assert stream.exit is None
    assert peer.run("echo fine").out == b"fine\n"


def test_malformed_descriptions_are_refused(peer):
    """With a text, and nothing else happens."""
    peer.run("true")
    before = len(os.listdir(f"/proc/{peer.pid}/fd"))
    texts = [
        b"",
        b"{",
        b"[]",
        b"null",
        b"{}",
        b'{"type":"process"}',
        b'{"type":"process","window":-1}',
        b"\xff\xfe",
        b'{"type":"process","window":1e9,"command":"eA=="}',
        b'{"type":"process","window":"x"}',
        b'{"type":[],"window":1}',
        b'{"type":"nothing","window":1}',
        b'{"type":"process","window":1,"command":5}',
        b"[" * 30_000,
        b'{"type":"process","window":1,"command":"!","environment":7}',
        b'{"type":"process","window":1} x',
        b'{"type":"process","window":1,"tty":null}',
        b'{"type":"process","window":1,"tty":{"rows":70000,"cols":1,"modes":[]}}',
        b'{"type":"process","window":1,"tty":{"rows":1,"cols":1,"modes":[[1]]}}',
        b'{"type":"connection","window":1}',
        b'{"type":"connection","window":1,"host":"x","port":{}}',
    ]
    for text in texts:
        stream = peer.open_by(text)
        peer.wait(lambda one=stream: one.refused is not None)
        assert stream.refused, text
    assert peer.run("echo fine").out == b"fine\n"
    assert len(os.listdir(f"/proc/{peer.pid}/fd")) == before


def test_no_descriptors_left(agent):
    """Streams beyond what the limit allows are refused with the reason, and later ones work again."""
    peer = agent(preexec=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (24, 24)))
    streams = [peer.open(command="cat") for _ in range(12)]
    peer.wait(lambda: all(one.credit is not None or one.refused is not None for one in streams))
    refused = [one for one in streams if one.refused is not None]
    assert refused and len(refused) < 12
    assert all(one.refused == "Too many open files" for one in refused)
    for one in streams:
        one.eof()
    peer.wait(lambda: all(one.closed or one.refused for one in streams))
    assert peer.run("echo fine").out == b"fine\n"


@pytest.mark.skipif(os.getuid() != 0, reason="needs another uid, for which there are limits")
def test_no_processes_left(agent, python):
    """Where fork fails, the stream is refused with the reason."""
    uid = 54321
    for path in [Path(python), *Path(python).resolve().parents]:
        if not path.stat().st_mode & 0o001:
            pytest.skip(f"others can't run {python}")

    def limited():
        os.setgid(uid)
        os.setuid(uid)
        # The agent and its guardian.
        resource.setrlimit(resource.RLIMIT_NPROC, (2, 2))

    peer = agent(preexec=limited)
    assert peer.run("true").refused == "Resource temporarily unavailable"
    assert peer.run("true").refused
