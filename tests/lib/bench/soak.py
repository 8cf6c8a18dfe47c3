"""A day of traffic in some minutes: whatever is kept for longer than its session shows as a slope.

    tests/soak [MINUTES]

Round after round of logins, commands, terminals, files, kills and faults, beside sessions that last the whole run. After each
round, when only these are left, everything is counted that could grow. A line is fitted through the counts of all rounds but
the first; what it gains over the run is printed, and must be nothing.
"""

import concurrent.futures
import contextlib
import json
import logging
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from lib.actors.client import Client, Refused
from lib.actors.hub import Hub
from lib.actors.jupyter import Jupyter
from lib.paths import SCRATCH, built_package
from lib.sandbox.bastion import Bastion
from lib.sandbox.network import Network
from lib.wait import wait_for

#: Sessions that last the whole run, half of them terminals in use, half idle.
LASTING = 6
#: A round: commands, terminals, file sessions, connections that break in the middle, refused logins.
COMMANDS, TERMINALS, FILES, BROKEN, WRONG = 12, 4, 3, 3, 2
#: Each how many rounds the hub's proxy is restarted, and a gateway killed.
PROXY, KILL = 5, 3
#: Rounds that are not counted: caches fill, allocators find their size.
WARM = 2
#: What memory may gain: noise of the kernel's accounting, in parts of its mean.
MEMORY_NOISE = 0.05
CONFIG = '[accounts]\nuid = "home"\n[homes]\nroot = "/srv/homes"\n[files]\nlog_level = "ERROR"\n'


def fit(values):
    """(mean, gain over the run) of a line through values that were taken at equal distances; least squares."""
    count = len(values)
    mean, middle = sum(values) / count, (count - 1) / 2
    spread = sum((at - middle) ** 2 for at in range(count))
    slope = sum((at - middle) * (value - mean) for at, value in enumerate(values)) / spread if spread else 0.0
    return mean, slope * (count - 1)


class Soak:
    """The parts, the sessions that last, and the counts."""

    USERS = ("alice", "bob")
    #: Whose gateways are killed: what these cannot close any more stays in this user's server.
    VICTIM = "carol"

    def __init__(self, network, hub, bastion, client, directory):
        self.hub, self.bastion, self.client, self.directory = hub, bastion, client, directory
        self.random = random.Random(1)
        self.tokens = {}
        for user in (*self.USERS, self.VICTIM):
            hub.start_server(user)
            self.tokens[user] = hub.token(user)
            bastion.box.run("install", "-d", "-m", "0700", "-o", "1000", "-g", "100", f"/srv/homes/{user}")
        self.samples, self.failures = [], []
        self.lasting = []
        for number in range(LASTING):
            user = self.USERS[number % len(self.USERS)]
            terminal = client.terminal(bastion, user, self.tokens[user])
            terminal.prompt(60)
            self.lasting.append(terminal)
        #: As ControlMaster has it: many channels of one connection.
        self.master = client.login(bastion, "alice", self.tokens["alice"])

    # -- traffic --------------------------------------------------------------------------------

    def openssh(self, program, user, *arguments, input=None, token=None, expect=0):
        """OpenSSH's client; anything but the expected status is noted."""
        # The first value counts: sftp's batch would forbid to ask.
        options = ["-o", "BatchMode=no"]
        done = subprocess.run(
            self.client.openssh(program, self.bastion, user, *arguments, options=options),
            env=self.client.askpass(token or self.tokens[user]),
            capture_output=True,
            text=True,
            timeout=180,
            start_new_session=True,
            **({"stdin": subprocess.DEVNULL} if input is None else {"input": input}),
        )
        if done.returncode != expect:
            self.failures.append(f"{program} {user} {arguments}: status {done.returncode}: {done.stderr[-300:]}")
        return done

    def command(self, number):
        status = number % 3
        done = self.openssh(
            "ssh",
            self.random.choice(self.USERS),
            self.bastion.address,
            f"cat; seq {number * 500}; exit {status}",
            input="x" * 20000,
            expect=status,
        )
        if len(done.stdout) < 20000:
            self.failures.append(f"command {number}: {len(done.stdout)} bytes came back")

    def terminal(self, number):
        user = self.random.choice(self.USERS)
        terminal = self.client.terminal(self.bastion, user, self.tokens[user])
        terminal.prompt(60)
        terminal.resize(30 + number, 100)
        if terminal.run("echo $((6 * 7)); seq 300 | tail -1", 60) != "42\n300\n":
            self.failures.append(f"terminal {number}: wrong output")
        if number % 2:
            terminal.drop()
        else:
            terminal.close_window()

    def files(self, number):
        user = self.random.choice(self.USERS)
        local = self.directory / f"file{number}"
        local.write_bytes(os.urandom(200_000))
        self.openssh(
            "sftp",
            user,
            "-b",
            "-",
            self.bastion.address,
            input=f"put {local} f{number}\nget f{number} {local}.back\nls -l\nrm f{number}\n",
        )
        if local.read_bytes() != Path(f"{local}.back").read_bytes():
            self.failures.append(f"file {number} came back different")

    def broken(self, number):
        """A client that is killed: in mid-output, in mid-input, before it has logged in."""
        if number % 3 == 2:
            self.client.connect(self.bastion).sock.close()
            return
        user = self.random.choice(self.USERS)
        words = ("yes", "cat >/dev/null")[number % 3]
        child = subprocess.Popen(
            self.client.ssh(self.bastion, user, words),
            env=self.client.askpass(self.tokens[user]),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        if number % 3 == 0:
            child.stdout.read(100_000)
        child.kill()
        for stream in (child.stdin, child.stdout):
            with contextlib.suppress(OSError):
                stream.close()
        child.wait()

    def wrong(self, number):
        with contextlib.suppress(Refused):
            self.client.login(self.bastion, self.USERS[number % 2], "0123456789abcdef" * 2)
            self.failures.append("a wrong token was let in")

    def kill(self):
        """A gateway dies, and a jail's first process: the sessions end, whatever they do."""
        for which in (self.bastion.gateways, self.bastion.jails):
            before = {one.pid for one in which()}
            terminal = self.client.terminal(self.bastion, self.VICTIM, self.tokens[self.VICTIM])
            terminal.prompt(60)
            for one in which():
                if one.pid not in before:
                    one.kill()
            terminal.wait_closed(60)
            terminal.drop()
        jupyter = Jupyter(self.hub, self.VICTIM)
        for name in jupyter.terminals():
            jupyter.delete_terminal(name)

    def use_lasting(self, number):
        """What the sessions that last do in a round."""
        for terminal in self.lasting[::2]:
            said = terminal.run(f"echo {number}; seq 200 | tail -1", 90)
            if said != f"{number}\n200\n":
                self.failures.append(f"round {number}: a lasting terminal said {said!r}")
        for _ in range(4):
            channel = self.master.open_session()
            channel.exec_command("echo through; exit 7")
            if channel.makefile().read() != b"through\n" or channel.recv_exit_status() != 7:
                self.failures.append(f"round {number}: a channel of the lasting connection failed")
            channel.close()

    def round(self, number):
        work = [
            (kind, n)
            for kind, count in (
                (self.command, COMMANDS),
                (self.terminal, TERMINALS),
                (self.files, FILES),
                (self.broken, BROKEN),
                (self.wrong, WRONG),
            )
            for n in range(count)
        ]
        self.random.shuffle(work)
        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            for future in [pool.submit(kind, n) for kind, n in work]:
                try:
                    future.result()
                except Exception as error:  # noqa: BLE001 (every kind of failure counts)
                    self.failures.append(f"round {number}: {type(error).__name__}: {error}"[:500])
        if number % KILL == 0:
            self.kill()
        if number % PROXY == 0:
            self.hub.restart_proxy()
        self.use_lasting(number)

    # -- counts ---------------------------------------------------------------------------------

    def settle(self):
        """Wait until only the sessions that last are left."""
        connections = LASTING + 1
        wait_for(
            lambda: len(self.bastion.gateways()) == len(self.bastion.jails()) == connections,
            lambda: f"{connections} connections are left: {[p.command_line() for p in self.bastion.ours()]}",
            60,
            0.2,
        )
        wait_for(lambda: len(self.bastion.sessions()) == LASTING, "the sessions end", 60, 0.2)
        # Each connection's agent is one. Those that could not be told to end, because the proxy was being restarted, end when
        # they have heard nothing for 100 s (AGENT_PATIENCE_SECONDS).
        wait_for(
            lambda: self.terminals() == connections,
            lambda: f"{self.terminals()} terminals: {connections} are left",
            150,
            0.2,
        )

    def terminals(self):
        """How many terminals users' servers have."""
        return sum(len(Jupyter(self.hub, user).terminals()) for user in self.USERS)

    def sample(self):
        bastion, everything = self.bastion, self.bastion.box.processes()
        run = bastion.box.run("find", "/run", "/tmp", "/var/cache/jupyterhub-openssh").stdout.splitlines()
        counts = {
            "memory of our processes, KiB": sum(memory(one) for one in bastion.ours()),
            "memory of sshd's processes, KiB": sum(memory(one) for one in everything if one.name.startswith("sshd")),
            # Of files' pages a process's share depends on who else on the machine has them: told, and not judged.
            "  the same with files (PSS): ours": sum(memory(one, "Pss") for one in bastion.ours()),
            "descriptors of our processes": sum(map(descriptors, bastion.ours())),
            "descriptors of all processes": sum(map(descriptors, everything)),
            "processes": len(everything),
            "threads of our processes": sum(threads(one) for one in bastion.ours()),
            "mounts of the host": len(bastion.box.mounts()),
            "mounts of the sessions": sum(one.read("mountinfo").count(b"\n") for one in bastion.jails()),
            "namespaces": len(bastion.box.namespaces()),
            "entries of /run, /tmp and the cache": len(run),
            "abstract sockets": len(bastion.box.abstract_sockets()),
            "terminals of users' servers": self.terminals(),
        }
        self.samples.append(counts)
        return counts

    def report(self):
        """Print the table; whether nothing grows."""
        good = True
        counted = self.samples[WARM:]
        print(f"\n{len(counted)} rounds counted; gain over the run by a fitted line\n")
        print(f"{'':40} {'first':>9} {'last':>9} {'mean':>11} {'gain':>9}")
        for what in counted[0]:
            values = [one[what] for one in counted]
            mean, gain = fit(values)
            flat = what.startswith(" ") or (gain <= MEMORY_NOISE * mean if "memory" in what else gain < 0.5)
            good &= flat
            print(f"{what:40} {values[0]:9} {values[-1]:9} {mean:11.1f} {gain:+9.1f}{'' if flat else '  GROWS'}")
        for failure in self.failures[:20]:
            print(f"FAILED: {failure}")
        return good and not self.failures


def memory(process, kind="Pss_Anon"):
    """Its proportional share of memory that no file stands for, in KiB; 0 when it has gone."""
    for line in process.read("smaps_rollup").decode().splitlines():
        if line.startswith(f"{kind}:"):
            return int(line.split()[1])
    return 0


def descriptors(process):
    """How many it has open."""
    try:
        return len(os.listdir(process.path("fd")))
    except OSError:
        return 0


def threads(process):
    """How many it has."""
    try:
        return len(os.listdir(process.path("task")))
    except OSError:
        return 0


def main():
    minutes = float(sys.argv[1]) if len(sys.argv) > 1 else 20.0
    # Connections that the tests break are no news.
    logging.getLogger("paramiko").setLevel(logging.CRITICAL)
    SCRATCH.mkdir(parents=True, exist_ok=True)
    network = Network()
    with tempfile.TemporaryDirectory(dir=SCRATCH) as directory, contextlib.ExitStack() as stack:
        stack.callback(network.close)
        directory = Path(directory)
        for name in ("client", "homes"):
            (directory / name).mkdir()
        hub = Hub(network, log=stack.enter_context(open(directory / "hub.log", "w")))
        stack.callback(hub.close)
        bastion = Bastion(
            network, os.environ["SOAK_SUITE"], built_package(), hub.url, binds=[(directory / "homes", "/srv/homes")]
        )
        stack.callback(bastion.close)
        bastion.configure(hub.url, CONFIG)
        client = Client(network, directory / "client")
        stack.callback(client.close_all)
        soak = Soak(network, hub, bastion, client, directory)
        start, number = time.monotonic(), 0
        while number < WARM + 3 or time.monotonic() - start < minutes * 60:
            soak.round(number)
            soak.settle()
            counts = soak.sample()
            # What the tests themselves remember.
            bastion.syslog.entries.clear()
            print(f"{time.monotonic() - start:6.0f} s, round {number}: {json.dumps(list(counts.values()))}", flush=True)
            number += 1
        good = soak.report()
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
