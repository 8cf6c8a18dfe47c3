"""boot.sh and the line that is typed find a Python and start the agent, in any shell."""

import os
import shutil
import sys
import textwrap

import pytest

from peer import AGENT, BOOT, LOADER, Peer

SHELLS = [["dash"], ["bash", "--posix"], ["busybox", "sh"], ["ksh"], ["zsh", "--emulate", "sh"]]
#: A program with a name and a parent's place.
RUNNER = "import os, sys; os._exit(os.waitpid(os.spawnv(os.P_NOWAIT, sys.argv[1], sys.argv[1:]), 0)[1] >> 8)"


def available(shells):
    """Those that this machine has."""
    return [
        pytest.param(shell, id=shell[0], marks=[] if shutil.which(shell[0]) else pytest.mark.skip("not installed"))
        for shell in shells
    ]


def booted(nonce, shell=("/bin/sh",), parent=(), boot=BOOT):
    """The command of a terminal that boots; `parent` is a program that runs it as a child."""
    return [*parent, *shell, "-c", boot, "jupyterhub-openssh", nonce, LOADER]


@pytest.fixture
def terminal():
    """Starts a terminal and closes it."""
    peers = []

    def start(make, **options):
        nonce = os.urandom(16).hex()
        peers.append(Peer(command=make(nonce), nonce=nonce, start=False, **options))
        return peers[-1]

    yield start
    for peer in peers:
        peer.close()


@pytest.fixture
def tools(tmp_path):
    """A directory for the PATH with the usual programs, without any Python."""
    for name in ("cat", "sleep", "readlink", "stty", "head", "dd", "sh", "env", "kill"):
        if shutil.which(name):
            (tmp_path / name).symlink_to(shutil.which(name))
    return tmp_path


def script(path, text):
    """A program."""
    path.write_text(textwrap.dedent(text))
    path.chmod(0o755)
    return path


def hello(peer):
    """Waits for the agent, and lets it do something."""
    peer.start()
    assert peer.marker(b"sh") + b"" in peer.before
    assert peer.run("echo fine").out == b"fine\n"
    assert peer.end() < 2
    return peer.hello


@pytest.mark.parametrize("shell", available(SHELLS))
def test_python_of_the_parent(terminal, tools, shell):
    """The Jupyter server's own Python is found though the PATH has none, and becomes the terminal's process."""
    shell = [shutil.which(shell[0]), *shell[1:]]
    peer = terminal(lambda nonce: booted(nonce, shell), environment={**os.environ, "PATH": str(tools)})
    assert hello(peer)["python"] == "%d.%d.%d" % sys.version_info[:3]
    assert peer.hello["pid"] == peer.pid


def test_text_is_small():
    """It travels as arguments of a process."""
    assert len(BOOT) < 2000 and len(LOADER) < 3000
    assert "'" not in LOADER, "it stands in single quotes where the start is typed"
    assert "\n#---\n" not in LOADER + BOOT


def test_python_of_the_path(terminal, tools, python):
    """Where the parent isn't a Python."""
    script(tools / "python3", f'#!/bin/sh\nexec {python} "$@"\n')
    peer = terminal(
        lambda nonce: ["/bin/sh", "-c", '"$@"; exit', "x", *booted(nonce)],
        environment={**os.environ, "PATH": str(tools)},
    )
    assert hello(peer)["python"]


def test_python_that_is_too_old_or_broken(terminal, tools):
    """The search goes on."""
    script(tools / "python3", "#!/bin/sh\nexit 1\n")
    boot = BOOT.replace("/usr/bin/python3 /usr/local", f"{tools}/none {tools}/python3 /usr/local")
    script(tools / "python", f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    boot = boot.replace("/usr/local/bin/python3 /opt/conda/bin/python3", "")
    peer = terminal(
        lambda nonce: ["/bin/sh", "-c", '"$@"; exit', "x", *booted(nonce, boot=boot)],
        environment={**os.environ, "PATH": str(tools)},
    )
    assert hello(peer)


def test_no_python(terminal, tools):
    """It says so, waits for a line, and leaves nothing."""
    boot = BOOT.replace("/usr/bin/python3 /usr/local/bin/python3 /opt/conda/bin/python3", "")
    peer = terminal(
        lambda nonce: ["/bin/sh", "-c", '"$@"; exit', "x", *booted(nonce, boot=boot)],
        environment={**os.environ, "PATH": str(tools)},
    )
    peer.wait_raw(peer.marker(b"no-python"))
    peer.idle(0.2)
    assert not peer.gone
    peer.out.append(b"\n")
    peer.wait_gone(2)


def test_no_python_and_nobody(terminal, tools):
    """After a time it ends without the line."""
    boot = BOOT.replace("/usr/bin/python3 /usr/local/bin/python3 /opt/conda/bin/python3", "")
    boot = boot.replace("sleep 60", "sleep 1")
    peer = terminal(
        lambda nonce: ["/bin/sh", "-c", '"$@"; exit', "x", *booted(nonce, boot=boot)],
        environment={**os.environ, "PATH": str(tools)},
    )
    peer.wait_raw(peer.marker(b"no-python"))
    peer.wait_gone(3)


def test_settings_of_the_shell(terminal):
    """`set -eu` handed down by the environment doesn't matter."""
    peer = terminal(
        lambda nonce: booted(nonce, ("bash", "--posix")),
        environment={**os.environ, "SHELLOPTS": "errexit:nounset:pipefail", "ENV": "/nowhere", "BASH_ENV": "/nowhere"},
    )
    hello(peer)


# The line that is typed.

INTERACTIVE = [
    ["bash", "--norc"],
    ["bash", "--norc", "-e"],
    ["bash"],
    ["dash", "-i"],
    ["zsh", "-f"],
    ["fish"],
    ["csh", "-f"],
    ["tcsh", "-f"],
    ["busybox", "sh"],
    ["ksh"],
]


@pytest.mark.parametrize("shell", available(INTERACTIVE))
def test_typed(terminal, tmp_path, shell):
    """Typed into a shell that starts, with an rc file that prints."""
    (tmp_path / ".bashrc").write_text("echo from the rc file; set -e\nPS1='$ '\n")
    peer = terminal(
        lambda nonce: [shutil.which(shell[0]), *shell[1:]],
        environment={**os.environ, "HOME": str(tmp_path), "TERM": "xterm"},
    )
    peer.idle(0.5)
    text = f"set -- {peer.nonce} '{LOADER}'\n{BOOT}".encode()
    line = (AGENT / "typed.txt").read_text().split("\n\n")[-1].strip("\n")
    line = " " + line.replace("{NONCE}", peer.nonce).replace("{LENGTH}", str(len(text))).strip()
    assert len(line) < 900 and "\n" not in line
    assert peer.marker(b"typed") not in line.encode()
    peer.out.append(line.encode() + b"\r")
    peer.wait_raw(peer.marker(b"typed"))
    assert peer.raw.count(peer.marker(b"typed")) == 1
    peer.out.append(text)
    hello(peer)
    assert peer.hello["pid"] == peer.pid


def test_typed_line_is_plain():
    """One line, one pair of single quotes, and nothing that a shell would take inside them."""
    line = (AGENT / "typed.txt").read_text().split("\n\n")[-1].strip("\n")
    assert line.count("'") == 2
    inside = line.split("'")[1]
    assert not set("!'\n") & set(inside) and "\\\\" not in inside
    assert line.startswith("exec ") and len(line) < 900
