"""The demonstration: a real hub, a bastion, one session shown, then yours to try until Ctrl-C."""

import contextlib
import os
import re
import signal
import sys
import tempfile

import pexpect

from lib.bastion import Bastion
from lib.client import PROMPT
from lib.forward import Forward
from lib.hub import Hub
from lib.namespace import die_with_parent
from lib.network import Network
from lib.paths import built_package

BOLD, DIM, PLAIN = "\033[1m", "\033[2m", "\033[0m"


def say(text):
    print(f"{BOLD}==> {text}{PLAIN}", flush=True)


class Shown:
    """Prints what a session prints, as it comes."""

    def write(self, text):
        sys.stdout.write(text)

    def flush(self):
        sys.stdout.flush()


def ssh_command(user, port, directory):
    """What a person types. The known_hosts file is a throw-away: the sandbox's host key is."""
    return ["ssh", "-p", str(port), "-o", f"UserKnownHostsFile={directory}/known_hosts",
            "-o", "StrictHostKeyChecking=accept-new", f"{user}@127.0.0.1"]


def recorded_session(user, token, port, directory):
    """Run one session on a tty and show it; fails when it does not go as it should."""
    command = ssh_command(user, port, directory)
    print(f"{DIM}$ {' '.join(command)}{PLAIN}", flush=True)
    child = pexpect.spawn(command[0], ["-F", "none", *command[1:]], dimensions=(30, 100), timeout=60,
                          encoding="utf-8", preexec_fn=die_with_parent,
                          env={"PATH": "/usr/bin:/bin", "HOME": directory, "TERM": "xterm-256color", "LANG": "C.UTF-8"})
    child.logfile_read = Shown()
    child.expect(PROMPT)
    child.sendline(token)
    child.expect(r"\$ (\x1b\[[0-9;?]*[a-z])*$")
    for typed, expected in (("hostname", "jupyter"), ("stty size", "30 100"), ("pwd", f"/{user}"),
                            ("echo 'größer, 大きい, 😀'", "größer, 大きい, 😀")):
        child.sendline(typed)
        child.expect_exact(expected)
        child.expect(r"\$ (\x1b\[[0-9;?]*[a-z])*$")
    child.setwinsize(40, 120)
    child.sendline("stty size")
    child.expect(r"\d+ \d+\r\n")
    child.sendline("exit")
    child.expect(pexpect.EOF)
    child.close()
    print(flush=True)
    if child.exitstatus != 0:
        raise SystemExit(f"the session ended with status {child.exitstatus}")


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
        hub = Hub(network, users=("alice", "bob"), log=log)
        stack.callback(hub.close)
        web = Forward(None, 8000, network.client, (network.HUB, 8000))
        stack.callback(web.close)
        url = f"http://127.0.0.1:{web.port}"
        say(f"a Debian {suite} bastion: apt install ./{package.name}")
        bastion = Bastion(network, suite, package)
        stack.callback(bastion.close)
        # The bastion finds the hub under the address that the person's browser uses too.
        inner = Forward(bastion.box.network, web.port, network.client, (network.HUB, 8000))
        stack.callback(inner.close)
        say(f'in config.toml: url = "{url}"; then sshd is reloaded')
        bastion.configure(url)
        ssh = Forward(None, 2222, network.client, (bastion.address, bastion.PORT))
        stack.callback(ssh.close)
        tokens = {user: hub.token(user) for user in ("alice", "bob")}
        say("alice's server is stopped; she logs in:")
        print(flush=True)
        recorded_session("alice", tokens["alice"], ssh.port, directory)
        say("the bastion's log of this session")
        for entry in bastion.syslog.entries:
            if re.search(r"user=alice|alice", entry.text) and "jupyterhub" in entry.program + entry.text.lower():
                print(f"{entry.program}: {entry.text}")
        if os.environ.get("DEMO_ONCE"):
            return
        say("now you (from another terminal of this machine):")
        for user, token in tokens.items():
            print(f"    {' '.join(ssh_command(user, ssh.port, directory))}\n    token of {user}: {token}\n")
        print(f"The hub's pages: {url} (users alice and bob, any password). More tokens: {url}/hub/token")
        print(f"The hub's log: {directory}/hub.log")
        print("Ctrl-C ends the demonstration and removes everything.", flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            signal.pause()
        say("removing everything")


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        main()
