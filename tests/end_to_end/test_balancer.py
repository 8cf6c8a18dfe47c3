"""Two bastions with the same host keys behind a TCP balancer (haproxy): any of them will do, and one is enough."""

import concurrent.futures
import re
import shutil
import signal
import subprocess
from pathlib import Path

import pytest

from lib.actors.client import Refused
from lib.sandbox.bastion import Bastion
from lib.sandbox.box import Box
from lib.sandbox.roots import root_directory
from lib.wait import wait_for

pytestmark = pytest.mark.only("trixie")

CONFIG = """
defaults
    mode tcp
    timeout connect 2s
    # Longer than ClientAliveInterval, so that idle sessions stay.
    timeout client 5m
    timeout server 5m
    # Who is not there is not waited for: the login goes to the other.
    retries 2
    option redispatch

listen ssh
    bind :22
    balance roundrobin
    # sshd answers, not only its port.
    option tcp-check
    tcp-check expect rstring ^SSH-2.0
"""


class Balancer:
    """haproxy in a sandbox of its own, in front of bastions. Clients take it for one."""

    PORT = 22

    def __init__(self, network, bastions):
        self.address = network.next_bastion_address()
        self.box = Box("balancer", lower=root_directory("trixie"))
        network.join(self.box.network, self.address)
        shutil.copy("/etc/resolv.conf", self.box.path("/etc/resolv.conf"))
        self.box.run(
            "apt-get",
            "--yes",
            "--quiet",
            "--no-install-recommends",
            "install",
            "haproxy",
            online=True,
            timeout=300,
            env={"DEBIAN_FRONTEND": "noninteractive"},
        )
        servers = "".join(
            f"    server {one.box.hostname}{number} {one.address}:{one.PORT} check inter 500ms fall 2 rise 1\n"
            for number, one in enumerate(bastions)
        )
        self.box.write("/etc/haproxy/haproxy.cfg", CONFIG + servers)
        self.process = self.box.start("haproxy", "-W", "-f", "/etc/haproxy/haproxy.cfg")

    def close(self):
        self.box.close()


@pytest.fixture(scope="module")
def pair(network, hub, package, suite):
    """Two bastions that are alike."""
    made = []
    try:
        for _ in range(2):
            made.append(Bastion(network, suite, package, hub.url, sshd=False))
        for key in Path(made[0].box.path("/etc/ssh")).glob("ssh_host_*"):
            shutil.copy2(key, made[1].box.path("/etc/ssh") / key.name)
        for one in made:
            one.start_sshd()
        yield made
    finally:
        for one in made:
            one.close()


@pytest.fixture(scope="module")
def balancer(network, pair, client):
    (client.directory / "known_hosts").unlink(missing_ok=True)
    made = Balancer(network, pair)
    try:
        # Its checks are connections as well.
        for one in pair:
            one.syslog.wait(re.escape(made.address), one.syslog.mark())
        yield made
    finally:
        made.close()


@pytest.fixture(autouse=True)
def nobody_is_left(pair, client):
    yield
    client.close_all()
    for one in pair:
        one.wait_quiet()


def where(pair, client, balancer, server, words="echo $SSH_CONNECTION"):
    """Runs a command through the balancer; the number of the bastion that it came by. Fails unless it succeeds."""
    options = ["-o", "StrictHostKeyChecking=yes"] if (client.directory / "known_hosts").exists() else []
    done = subprocess.run(
        client.ssh(balancer, server.user, words, options=options),
        env=client.askpass(server.token),
        timeout=60,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        start_new_session=True,
    )
    assert done.returncode == 0, done.stderr
    [number] = [n for n, one in enumerate(pair) if done.stdout.split()[2] == one.address]
    return number


def test_logins_are_spread_and_any_bastion_will_do(pair, balancer, client, alice, bob):
    # The first makes known_hosts: from then on another host key would be refused.
    where(pair, client, balancer, alice)
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        came = list(pool.map(lambda n: where(pair, client, balancer, (alice, bob)[n % 2]), range(8)))
    assert set(came) == {0, 1}, came
    with pytest.raises(Refused):
        client.login(balancer, "alice", bob.token)


def test_a_bastion_that_dies_takes_its_sessions_and_nothing_else(pair, balancer, client, alice):
    terminals = [client.terminal(balancer, "alice", alice.token) for _ in range(2)]
    for terminal in terminals:
        terminal.prompt()
    by = [terminal.run("echo $SSH_CONNECTION").split()[2] for terminal in terminals]
    assert sorted(by) == sorted(one.address for one in pair)
    dead, left = terminals if by[0] == pair[0].address else terminals[::-1]
    # A machine that is switched off: its processes are gone, and connections are refused.
    for one in pair[0].box.processes():
        one.kill(signal.SIGKILL)
    dead.wait_closed()
    assert left.run("echo still there") == "still there\n"
    # No login fails, not even before haproxy has noticed.
    assert [where(pair, client, balancer, alice) for _ in range(4)] == [1, 1, 1, 1]
    pair[0].start_sshd()
    wait_for(lambda: where(pair, client, balancer, alice) == 0, "the bastion that came back is used again", 20, 0.2)
    # What the killed gateway could not close.
    left.close_window()
    pair[1].wait_quiet()
    for name in alice.jupyter.terminals():
        alice.jupyter.delete_terminal(name)


def test_what_sshd_sees_is_the_balancer(pair, balancer, client, alice):
    """As documented: the log and SSH_CONNECTION have the balancer's address."""
    marks = [one.syslog.mark() for one in pair]
    number = where(pair, client, balancer, alice)
    pair[number].syslog.wait(rf"Accepted \S+ for alice from {re.escape(balancer.address)} ", marks[number])
