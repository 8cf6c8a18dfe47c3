"""Checks of lib.checks.commandchecks' kind with programs that run commands over SSH: rsync, git, tar, ansible, …"""

import asyncio
import os
import shlex
import socket
import subprocess
import sys
from pathlib import Path

import asyncssh

from lib.checks.clientchecks import check_rsync, check_scp_of_old, rsync_command
from lib.checks.commandchecks import FULL, over_one_connection
from lib.checks.files import make_tree
from lib.checks.place import all_owned, leaves_nothing, same_tree


def check_rsync_over_one_connection(place):
    """rsync's many ways, over a ControlMaster."""
    with place.master():
        check_rsync(place)


@leaves_nothing
def check_rsync_of_many(place, count=10_000 if FULL else 2000):
    """Many small files up, changed, and down."""
    with place.scratch() as here:
        make_tree(here / "many", count)
        place.run(rsync_command(place, "-a", f"{here}/many/", f"{place.host}:many/"), timeout=300)
        same_tree(place, "many", here / "many")
        all_owned(place, "many")
        (here / "many/d000/f00001").unlink()
        (here / "many/d001/f00101").write_text("changed")
        place.run(
            rsync_command(place, "-a", "--delete", "--protect-args", f"{here}/many/", f"{place.host}:many/"),
            timeout=300,
        )
        same_tree(place, "many", here / "many")
        place.run(rsync_command(place, "-az", f"{place.host}:many/", here / "back"), timeout=300)
        same_tree(place, "many", here / "back")


@leaves_nothing
def check_git(place):
    """git init, push, clone, fetch and a shallow clone, over ssh."""
    with place.scratch() as here:
        (here / "gitconfig").write_text("[user]\nname = t\nemail = t@example.org\n[init]\ndefaultBranch = main\n")
        env = {
            "GIT_SSH_COMMAND": shlex.join(place.ssh_words()),
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_CONFIG_GLOBAL": str(here / "gitconfig"),
            "GIT_SSH_VARIANT": "ssh",
        }

        def git(*arguments, cwd=here):
            return place.run(place.client.network.client.command("git", *arguments), cwd=cwd, env=env).stdout

        assert place.ssh("git init --quiet --bare -b main 'a repo.git'").status == 0
        url = f"{place.host}:a repo.git"
        work = make_tree(here / "work", 300)
        git("init", "--quiet", cwd=work)
        git("add", ".", cwd=work)
        git("commit", "--quiet", "-m", "first", cwd=work)
        git("remote", "add", "origin", url, cwd=work)
        git("push", "--quiet", "-u", "origin", "main", cwd=work)
        git("clone", "--quiet", url, "clone")
        (work / "d000/f00001").write_bytes(os.urandom(3_000_000))
        git("commit", "--quiet", "-am", "second", cwd=work)
        git("push", "--quiet", cwd=work)
        git("pull", "--quiet", cwd=here / "clone")
        heads = {git("rev-parse", "HEAD", cwd=directory) for directory in (work, here / "clone")}
        assert len(heads) == 1 and git("status", "--porcelain", cwd=here / "clone") == ""
        git("clone", "--quiet", "--depth=1", f"ssh://{place.host}{place.shown}/a%20repo.git", "shallow")
        assert git("rev-list", "--count", "HEAD", cwd=here / "shallow") == "1\n"
        # What the far end has to say comes through.
        refused = place.run(
            place.client.network.client.command("git", "clone", f"{place.host}:missing.git", "x"),
            check=False,
            cwd=here,
            env=env,
        )
        assert refused.returncode and "missing.git" in refused.stderr, refused
        all_owned(place, "a repo.git")


@leaves_nothing
@over_one_connection
def check_tar(place):
    """tar through a pipe, both ways."""
    with place.scratch() as here:
        tree = make_tree(here / "tree", 500)
        (tree / "link").symlink_to("d000")
        there = shlex.join(place.ssh_line("mkdir copy && tar -C copy -x"))
        place.run(["bash", "-o", "pipefail", "-c", f"tar -C {tree} -c . | {there}"])
        same_tree(place, "copy", tree)
        (here / "back").mkdir()
        back = shlex.join(place.ssh_line("tar -C copy -cz ."))
        place.run(["bash", "-o", "pipefail", "-c", f"{back} | tar -C {here}/back -xz"])
        same_tree(place, "copy", here / "back")


@leaves_nothing
def check_scp_of_commands(place):
    """scp -O, whose other end is a command."""
    with place.master():
        check_scp_of_old(place)


@leaves_nothing
def check_ansible(place):
    """ansible: ping, a command's status, a file copied once and then found unchanged; also with pipelining."""
    tools = Path(sys.executable).parent
    # Its own options come later, and the first value of an option counts.
    login = [
        "-o",
        "KbdInteractiveAuthentication=yes",
        "-o",
        "PasswordAuthentication=yes",
        "-o",
        "PreferredAuthentications=keyboard-interactive,password",
    ]
    with place.scratch() as here, place.master():
        (here / "inventory").write_text(f"far ansible_host={place.host} ansible_python_interpreter=/usr/bin/python3\n")
        (here / "file").write_bytes(os.urandom(200_000))
        (here / "ansible.cfg").write_text("[defaults]\nhost_key_checking = False\n")

        def ansible(module, arguments="", check=True, **env):
            said = place.run(
                place.client.network.client.command(
                    tools / "ansible", "far", "-i", here / "inventory", "-m", module, "-a", arguments
                ),
                check=False,
                cwd=here,
                env={
                    "ANSIBLE_HOME": str(here / "ansible"),
                    "ANSIBLE_CONFIG": str(here / "ansible.cfg"),
                    "ANSIBLE_NOCOLOR": "1",
                    "PATH": f"{tools}:/usr/bin:/bin",
                    "LC_ALL": "C.UTF-8",
                    "ANSIBLE_SSH_ARGS": shlex.join([*place.ssh_words()[1:], *login]),
                    **env,
                },
            )
            assert (said.returncode == 0) == check, f"{said.stdout}{said.stderr}"
            return said.stdout

        for pipelining in ("False", "True"):
            assert '"pong"' in ansible("ping", ANSIBLE_PIPELINING=pipelining)
        assert "CHANGED" in ansible("copy", f"src={here}/file dest=~/copied mode=0640")
        assert "SUCCESS" in ansible("copy", f"src={here}/file dest=~/copied mode=0640")
        assert place.home.read("copied") == (here / "file").read_bytes() and place.home.stat("copied").mode == 0o640
        assert "a  b" in ansible("shell", "echo 'a  b'; pwd") and "rc=3" in ansible("shell", "exit 3", check=False)
        place.control, shared = None, place.control
        try:
            assert '"pong"' in ansible("ping")
        finally:
            place.control = shared


@leaves_nothing
def check_paramiko_commands(place):
    """paramiko: statuses, both streams, the end of input, an empty command, several channels by turns."""
    transport = place.login()
    try:

        def run(command, data=b""):
            channel = transport.open_session()
            channel.settimeout(30)
            channel.exec_command(command)
            channel.sendall(data)
            channel.shutdown_write()
            out = b"".join(iter(lambda: channel.recv(1 << 16), b""))
            err = b"".join(iter(lambda: channel.recv_stderr(1 << 16), b""))
            return channel.recv_exit_status(), out, err

        assert run("echo out; echo err >&2; exit 42") == (42, b"out\n", b"err\n")
        assert run("cat", b"x" * 300_000) == (0, b"x" * 300_000, b"")
        assert run("") == (0, b"", b"")
        # Without a status; paramiko has no name for the signal.
        assert run("kill -9 $$") == (-1, b"", b"")
        channels = [transport.open_session() for _ in range(8)]
        for channel in channels:
            channel.settimeout(30)
            channel.exec_command('while read -r line; do echo "$0 $line"; done; exit 8')
        for word in (b"one", b"two", b"three"):
            for number, channel in enumerate(channels):
                channel.sendall(b"%s%d\n" % (word, number))
            for number, channel in enumerate(channels):
                line = b""
                while not line.endswith(b"\n"):
                    line += channel.recv(100)
                assert line == b"bash %s%d\n" % (word, number)
        for channel in channels:
            channel.shutdown_write()
            assert channel.recv_exit_status() == 8
        terminal = transport.open_session()
        terminal.get_pty("vt100", 77, 33)
        terminal.exec_command("stty size; echo $TERM; exit 12")
        assert terminal.makefile().read() == b"33 77\r\nvt100\r\n" and terminal.recv_exit_status() == 12
    finally:
        transport.close()


def check_asyncssh(place):
    """asyncssh: statuses, signals by name, both streams, many commands at once, a terminal that changes its size."""
    with place.client.network.client:
        connection = socket.create_connection((place.host, place.port or place.bastion.PORT), timeout=20)
    connection.setblocking(False)

    async def work():
        async with asyncssh.connect(
            sock=connection,
            username=place.user,
            password=place.token,
            client_keys=None,
            known_hosts=None,
            config=None,
            agent_path=None,
            login_timeout=60,
        ) as far:
            done = await far.run("echo out; echo err >&2; exit 42")
            assert (done.exit_status, done.stdout, done.stderr) == (42, "out\n", "err\n"), done
            for name in ("KILL", "TERM", "SEGV", "USR1", "PIPE"):
                done = await far.run(f"ulimit -c 0; echo before; kill -{name} $$")
                assert done.stdout == "before\n" and done.exit_signal[0] == name, (name, done)
            data = os.urandom(2_000_000)
            done = await asyncio.gather(
                *(far.run(f"cat; exit {number}", input=data + bytes((number,)), encoding=None) for number in range(10))
            )
            for number, one in enumerate(done):
                assert one.exit_status == number and one.stdout == data + bytes((number,)), number
            async with far.create_process(
                "trap 'stty size' WINCH; stty size; while :; do sleep 0.1; done", term_type="xterm", term_size=(90, 30)
            ) as process:
                assert await process.stdout.readline() == "30 90\r\n"
                process.change_terminal_size(101, 31)
                assert await process.stdout.readline() == "31 101\r\n"
                process.close()

    asyncio.run(asyncio.wait_for(work(), 120))


@leaves_nothing
@over_one_connection
def check_pipeline(place):
    """Commands of several connections as parts of a local pipeline."""
    one, two = (shlex.join(place.ssh_line(command)) for command in ("seq 100000", "sort -rn | head -n 2"))
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", f"{one} | {two}"],
        capture_output=True,
        env=place.environment,
        stdin=subprocess.DEVNULL,
        timeout=60,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, b"100000\n99999\n", b""), done


#: All of them.
CLIENTS = (
    check_rsync,
    check_rsync_over_one_connection,
    check_rsync_of_many,
    check_git,
    check_tar,
    check_scp_of_old,
    check_scp_of_commands,
    check_ansible,
    check_paramiko_commands,
    check_asyncssh,
    check_pipeline,
)
