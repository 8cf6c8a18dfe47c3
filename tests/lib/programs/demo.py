"""The demonstration: a real hub, a bastion with the hub's homes, two sessions shown, then yours to try until Ctrl-C."""

import collections
import contextlib
import os
import re
import signal
import sys
import tempfile

import pexpect

from lib.actors.client import PROMPT
from lib.actors.hub import Hub
from lib.paths import CONFIG_FILE, built_package
from lib.sandbox.bastion import Bastion
from lib.sandbox.forward import Forward
from lib.sandbox.namespace import die_with_parent
from lib.sandbox.network import Network

#: What the administrator of a bastion with homes adds to the hub's address.
HOMES = """
[homes]
root = "/srv/homes"

[accounts]
uid = "home"
"""
BOLD, DIM, PLAIN = "\033[1m", "\033[2m", "\033[0m"


def say(text):
    print(f"{BOLD}==> {text}{PLAIN}", flush=True)


class Shown:
    """Prints what a session prints, as it comes."""

    def write(self, text):
        sys.stdout.write(text)

    def flush(self):
        sys.stdout.flush()


def options(directory):
    """The known_hosts file is a throw-away: the sandbox's host key is."""
    return ["-o", f"UserKnownHostsFile={directory}/known_hosts", "-o", "StrictHostKeyChecking=accept-new"]


def ssh_command(user, port, directory):
    """What a person types for a terminal."""
    return ["ssh", "-p", str(port), *options(directory), f"{user}@127.0.0.1"]


def sftp_command(user, port, directory):
    """What a person types for files."""
    return ["sftp", "-P", str(port), *options(directory), f"{user}@127.0.0.1"]


#: A shell's prompt, the last thing on its line, and sftp's.
SHELL, SFTP = r"\$ (\x1b\[[0-9;?]*[a-z])*$", "sftp> $"


def start(command, token, prompt, directory):
    """Start a client on a tty, show what it prints, log in; pexpect's child at its prompt."""
    print(f"{DIM}$ {' '.join(command)}{PLAIN}", flush=True)
    child = pexpect.spawn(
        command[0],
        ["-F", "none", *command[1:]],
        dimensions=(30, 100),
        timeout=60,
        encoding="utf-8",
        preexec_fn=die_with_parent,
        cwd=directory,
        env={"PATH": "/usr/bin:/bin", "HOME": directory, "TERM": "xterm-256color", "LANG": "C.UTF-8"},
    )
    child.logfile_read = Shown()
    child.expect(PROMPT)
    child.sendline(token)
    child.expect(prompt)
    return child


def type_all(child, prompt, lines):
    """Type lines, each when the prompt is there, and wait for what each must print."""
    for typed, expected in lines:
        child.sendline(typed)
        child.expect_exact(expected)
        child.expect(prompt)


def end(child, word):
    """Leave; fails when the session does not end as it should."""
    child.sendline(word)
    child.expect(pexpect.EOF)
    child.close()
    print(flush=True)
    if child.exitstatus != 0:
        raise SystemExit(f"the session ended with status {child.exitstatus}")


def recorded_terminal(user, token, port, directory):
    """A session on the user's server."""
    child = start(ssh_command(user, port, directory), token, SHELL, directory)
    type_all(
        child,
        SHELL,
        (
            ("hostname", "jupyter"),
            ("stty size", "30 100"),
            ("pwd", f"/{user}"),
            ("echo 'größer, 大きい, 😀'", "größer, 大きい, 😀"),
            ("echo 'written on the server' > note.txt", "note.txt"),
        ),
    )
    child.setwinsize(40, 120)
    child.sendline("stty size")
    child.expect(r"\d+ \d+\r\n")
    end(child, "exit")


def recorded_files(user, token, port, directory):
    """The same user's files, without the server."""
    child = start(sftp_command(user, port, directory), token, SFTP, directory)
    type_all(
        child,
        SFTP,
        (
            ("pwd", f"/home/{user}"),
            ("ls -l", "note.txt"),
            ("get note.txt", "100%"),
            ("put note.txt copy.txt", "100%"),
            ("df -h", "Avail"),
            ("cd /", ""),
            ("ls", "home"),
        ),
    )
    end(child, "bye")


def main():
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    suite = os.environ.get("DEMO_SUITE", "bookworm")
    package = built_package()
    if not package:
        raise SystemExit("there is no package: run `make deb`")
    with contextlib.ExitStack() as stack:
        directory = stack.enter_context(tempfile.TemporaryDirectory(prefix="jupyterhub-openssh-demo-"))
        say("starting JupyterHub and its proxy in a sandbox")
        network = Network()
        stack.callback(network.close)
        log = stack.enter_context(open(f"{directory}/hub.log", "w"))
        # One directory, as a file server would have it: the hub's servers and the bastion both mount it.
        homes = f"{directory}/homes"
        os.mkdir(homes)
        try:
            hub = Hub(network, users=("alice", "bob"), log=log, homes=homes)
        except BaseException:
            # It goes with the directory.
            with open(log.name, errors="replace") as written:
                sys.stderr.write("".join(["The hub's log ends:\n", *collections.deque(written, 20)]))
            raise
        stack.callback(hub.close)
        web = Forward(None, 8000, network.client, (network.HUB, 8000))
        stack.callback(web.close)
        url = f"http://127.0.0.1:{web.port}"
        say(f"a Debian {suite} bastion: apt install ./{package.name}")
        bastion = Bastion(network, suite, package, binds=[(homes, "/srv/homes")])
        stack.callback(bastion.close)
        # The bastion finds the hub under the address that the person's browser uses too.
        inner = Forward(bastion.box.network, web.port, network.client, (network.HUB, 8000))
        stack.callback(inner.close)
        bastion.configure(url, HOMES)
        say("its /etc/jupyterhub-openssh/config.toml; then sshd is reloaded")
        print(bastion.box.read(CONFIG_FILE))
        ssh = Forward(None, 2222, network.client, (bastion.address, bastion.PORT))
        stack.callback(ssh.close)
        tokens = {user: hub.token(user) for user in ("alice", "bob")}
        say("alice's server is stopped; she logs in:")
        print(flush=True)
        recorded_terminal("alice", tokens["alice"], ssh.port, directory)
        say("her files, on the same port and with the same token; her server may be stopped")
        hub.stop_server("alice")
        print(flush=True)
        recorded_files("alice", tokens["alice"], ssh.port, directory)
        say("jupyterhub-openssh status")
        print(bastion.box.run("jupyterhub-openssh", "status").stdout)
        say("the bastion's log of these sessions")
        for entry in bastion.syslog.entries:
            if re.search(r"user=alice|alice", entry.text) and "jupyterhub" in entry.program + entry.text.lower():
                print(f"{entry.program}: {entry.text}")
        if os.environ.get("DEMO_ONCE"):
            return
        say("now you (from another terminal of this machine):")
        for user, token in tokens.items():
            print(f"    {' '.join(ssh_command(user, ssh.port, directory))}")
            print(f"    {' '.join(sftp_command(user, ssh.port, directory))}")
            mount = " ".join(["sshfs", "-p", str(ssh.port), *options(directory), f"{user}@127.0.0.1:"])
            print(f"    mkdir -p ~/hub-{user} && {mount} ~/hub-{user}     # fusermount3 -u ~/hub-{user} ends it")
            print(f"    token of {user}: {token}\n")
        print(f"The hub's pages: {url} (users alice and bob, any password). More tokens: {url}/hub/token")
        print(f"The hub's log: {directory}/hub.log")
        print("Ctrl-C ends the demonstration and removes everything.", flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            signal.pause()
        say("removing everything")


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        main()
