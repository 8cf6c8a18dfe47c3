"""The figures of `make bench`: ours beside stock sshd and beside the bare hub, taken in turns in one run.

Single figures of a busy machine mean little: everything that is compared is measured in the same round,
and the spread over the rounds is printed.
"""

import contextlib
import os
import pty
import random
import select
import statistics
import subprocess
import sys
import tempfile
import time
import tty

from lib import processes, rest
from lib.bastion import Bastion
from lib.client import Client
from lib.hub import Hub
from lib.jupyter import Jupyter
from lib.namespace import die_with_parent
from lib.network import Network
from lib.paths import built_package
from lib.wait import wait_for

PROMPT = b"$ "
MANY = int(os.environ.get("BENCH_MANY", "100"))


class Session:
    """OpenSSH's client with a tty (or, for throughput, a pipe) that this process reads."""

    def __init__(self, client, bastion, user, secret, pipe=False):
        command = client.ssh(bastion, user, options=("-tt",))
        self.master, slave = pty.openpty()
        tty.setraw(slave)
        self.start = time.monotonic()
        self.process = subprocess.Popen(command, stdin=slave, stdout=subprocess.PIPE if pipe else slave,
                                        stderr=subprocess.DEVNULL, env=client.askpass(secret) | {"TERM": "xterm"},
                                        start_new_session=True, preexec_fn=die_with_parent)
        os.close(slave)
        self.out = self.process.stdout.fileno() if pipe else self.master
        self.seen = b""

    def read(self, timeout=30.0):
        ready, _, _ = select.select([self.out], [], [], timeout)
        if not ready:
            raise TimeoutError(f"no output for {timeout:g} s; last {self.seen[-200:]!r}")
        piece = os.read(self.out, 1 << 18)
        if not piece:
            raise EOFError(self.seen[-300:])
        return piece

    def until(self, mark, timeout=30.0):
        """Read until `mark` has come; drops what was read."""
        while mark not in self.seen:
            self.seen += self.read(timeout)
        self.seen = self.seen.partition(mark)[2]

    def prompt(self):
        """Seconds from the start of the client to the shell's prompt."""
        self.until(PROMPT)
        return time.monotonic() - self.start

    def send(self, data):
        os.write(self.master, data)

    def close(self):
        self.process.terminate()
        self.process.wait()
        os.close(self.master)
        if self.process.stdout:
            self.process.stdout.close()

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.close()


class Raw:
    """A terminal of the user's server by WebSocket, with the same methods as Session."""

    def __init__(self, jupyter):
        self.start = time.monotonic()
        rest.request(jupyter.namespace, "GET", f"{jupyter.hub.url}/hub/api/user", jupyter.token).ok()
        self.terminal = jupyter.open_terminal()
        self.seen = ""

    def read(self, timeout=30.0):
        return self.terminal.read(timeout)

    def until(self, mark, timeout=30.0):
        mark = mark.decode()
        while mark not in self.seen:
            self.seen += self.read(timeout)
        self.seen = self.seen.partition(mark)[2]

    def prompt(self):
        self.until(PROMPT)
        return time.monotonic() - self.start

    def send(self, data):
        self.terminal.send(data.decode())

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.terminal.close()


def milliseconds(values):
    """min / median / max in ms."""
    return " / ".join(f"{1000 * v:.1f}" for v in (min(values), statistics.median(values), max(values)))


def percentile(values, share):
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]


class Bench:
    """All measurements on one bastion; `rows` collects the table."""

    def __init__(self, client, bastion, hub):
        self.client, self.bastion, self.hub = client, bastion, hub
        self.jupyter = Jupyter(hub, "alice")
        self.token = hub.token("alice")
        self.rows = []

    def ours(self, **options):
        return Session(self.client, self.bastion, "alice", self.token, **options)

    def stock(self, **options):
        return Session(self.client, self.bastion, self.bastion.ADMIN, self.bastion.ADMIN_PASSWORD, **options)

    def raw(self):
        return Raw(self.jupyter)

    def row(self, what, figures, against, verdict=""):
        self.rows.append((what, figures, against, verdict))
        print(f"  {what}: {figures} | {against} | {verdict}", flush=True)

    def login(self, rounds=15):
        ours, stock, raw = [], [], []
        for number in range(rounds + 1):
            taken = []
            for make in (self.ours, self.stock, self.raw):
                with make() as session:
                    taken.append(session.prompt())
            if number:  # the first one warms caches
                for values, value in zip((ours, stock, raw), taken):
                    values.append(value)
        extra = [a - b - c for a, b, c in zip(ours, stock, raw)]
        verdict = "met" if statistics.median(extra) <= 0.060 else "MISSED"
        self.row("login to the first prompt byte, ms", milliseconds(ours),
                 f"stock sshd {milliseconds(stock)}; hub and Terminado {milliseconds(raw)}",
                 f"{milliseconds(extra)} more than their sum (goal ≤ 60): {verdict}")

    @staticmethod
    def echoes(session, count, behind):
        """Seconds from a keystroke to its echo, or to the output that a program sends behind it."""
        session.prompt()
        if behind:
            session.send(b"stty -icanon echo; echo re''ady; while IFS= read -rn1 c; do printf '<%s>' \"$c\"; done\r")
        else:
            session.send(b"stty -icanon echo; echo re''ady; cat >/dev/null\r")
        session.until(b"ready")
        pause, taken = random.Random(1), []
        for number in range(count + 20):
            time.sleep(pause.uniform(0.005, 0.02))
            key = b"abcdefghijklmnopqrstuvwxyz"[number % 26:][:1]
            start = time.monotonic()
            session.send(key)
            session.until(b"<" + key + b">" if behind else key)
            if number >= 20:
                taken.append(time.monotonic() - start)
        return taken

    def echo(self, rounds=3, count=300):
        for behind in (False, True):
            ours, stock, raw = [], [], []
            for _ in range(rounds):
                for values, make in ((ours, self.ours), (raw, self.raw), (stock, self.stock)):
                    with make() as session:
                        values += self.echoes(session, count, behind)
            def show(values):
                return f"{1000 * statistics.median(values):.2f} / {1000 * percentile(values, 0.99):.2f}"
            more = statistics.median(ours) - statistics.median(raw)
            tail = percentile(ours, 0.99) - percentile(raw, 0.99)
            if behind:
                verdict = "met" if percentile(ours, 0.99) <= 0.005 else "MISSED"
                goal = f"p99 (goal ≤ 5): {verdict}"
            else:
                verdict = "met" if more <= 0.001 and tail <= 0.003 else "MISSED"
                goal = f"{1000 * more:.2f} / {1000 * tail:.2f} more (goal ≤ 1.0 / ≤ 3): {verdict}"
            self.row("echo with output behind it, median / p99 ms" if behind else "echo of a key, median / p99 ms",
                     show(ours), f"raw WebSocket {show(raw)}; stock sshd {show(stock)}", goal)

    @staticmethod
    def flood(session, size=50_000_000):
        """Bytes per second of a file's text through a session."""
        session.prompt()
        session.send(b"stty -opost; echo re''ady; cat /mnt/home/alice/big; echo o''ver\r")
        session.until(b"ready")
        start, have = time.monotonic(), len(session.seen)
        while have < size:
            have += len(session.read())
        return have / (time.monotonic() - start)

    def printed(self, rounds=5):
        self.hub.box.write("/mnt/home/alice/big", (b"0123456789abcdefghijklmnopqrstuvwxyz" * 2 + b"\n") * 685_000, 0o644)
        ours, raw = [], []
        for _ in range(rounds):
            with self.raw() as session:
                raw.append(self.flood(session))
            with self.ours(pipe=True) as session:
                ours.append(self.flood(session))
        ratios = [a / b for a, b in zip(ours, raw)]
        def show(values, scale=1e-6):
            return " / ".join(f"{scale * v:.2f}" for v in (min(values), statistics.median(values), max(values)))
        verdict = "met" if statistics.median(ratios) >= 0.95 else "MISSED"
        self.row("50 MB printed, MB/s", show(ours), f"raw WebSocket {show(raw)}",
                 f"ratio {show(ratios, 1)} (goal ≥ 0.95): {verdict}")

    def _all_at_once(self, make):
        start = time.monotonic()
        sessions = [make() for _ in range(MANY)]
        times = []
        for session in sessions:
            session.until(PROMPT, 120)
            times.append(time.monotonic() - start)
        return sessions, max(times)

    @staticmethod
    def _cpu(found):
        """CPU seconds that processes and their ended children have used, to 10 ms each."""
        total = 0
        for one in found:
            fields = one.read("stat").rpartition(b") ")[2].split()
            if len(fields) > 14:
                total += sum(int(ticks) for ticks in fields[11:15])
        return total / os.sysconf("SC_CLK_TCK")

    @staticmethod
    def _cpu_exact(found):
        """CPU seconds of the living threads of processes, to the nanosecond (schedstat)."""
        total = 0
        for one in found:
            with contextlib.suppress(OSError):
                for task in os.listdir(one.path("task")):
                    text = one.read(f"task/{task}/schedstat").split()
                    total += int(text[0]) if text else 0
        return total / 1e9

    def _sshd(self):
        return [one for one in self.bastion.box.processes() if one.name.startswith("sshd")]

    def many(self):
        stock_sessions, stock = self._all_at_once(self.stock)
        for session in stock_sessions:
            session.close()
        self.bastion.wait_quiet()
        hub_before, sshd_before = self._cpu(self.hub.box.processes()), self._cpu(self._sshd())
        clients = self._clients_cpu()
        sessions, ours = self._all_at_once(self.ours)
        ours_cpu = self._cpu_exact(self.bastion.ours())
        sshd_cpu = self._cpu(self._sshd()) - sshd_before
        hub_cpu = self._cpu(self.hub.box.processes()) - hub_before
        self.row(f"{MANY} logins at once, all to a prompt, s", f"{ours:.1f}", f"stock sshd {stock:.1f}",
                 f"CPU seconds: ours {ours_cpu:.1f}, sshd {sshd_cpu:.1f}, hub and servers {hub_cpu:.1f}, "
                 f"clients {self._clients_cpu() - clients:.1f}")
        self.memory()
        self.idle()
        for session in sessions:
            session.close()
        self.bastion.wait_quiet(60)

    @staticmethod
    def _clients_cpu():
        me = os.getpid()
        everything = processes.all_processes()
        return Bench._cpu([p for p in everything.values() if p.name == "ssh" and
                           (p.parent == me or everything.get(p.parent) and everything[p.parent].parent == me)])

    def memory(self):
        sums = {"gateways": 0, "jails": 0, "sessions": 0}
        for kind in sums:
            for one in getattr(self.bastion, kind)():
                for line in one.read("smaps_rollup").decode().splitlines():
                    if line.startswith("Pss:"):
                        sums[kind] += int(line.split()[1])
        total = sum(sums.values()) / 1024 / MANY
        parts = ", ".join(f"{kind} {value / 1024 / MANY:.2f}" for kind, value in sums.items())
        self.row(f"memory of our processes per session, PSS at {MANY} sessions, MB", f"{total:.2f}", parts,
                 f"goal ≤ 3: {'met' if total <= 3 else 'MISSED'}")

    def idle(self, seconds=30):
        found = self.bastion.ours()
        # What the logins left to do is done when two looks find the same.
        last = [self._cpu_exact(found)]

        def settled():
            time.sleep(2)
            now = self._cpu_exact(found)
            same, last[0] = now - last[0] < 0.05, now
            return same

        wait_for(settled, "the sessions are idle", 60)
        before, start = self._cpu_exact(found), time.monotonic()
        time.sleep(seconds)
        share = 100 * (self._cpu_exact(found) - before) / (time.monotonic() - start)
        self.row(f"CPU of {MANY} idle sessions, % of one core", f"{share:.3f}", "–",
                 f"goal < 0.5: {'met' if share < 0.5 else 'MISSED'}")


def main():
    suite = os.environ.get("BENCH_SUITE", "bookworm")
    package = built_package()
    if not package:
        raise SystemExit("there is no package: run `make deb`")
    chosen = sys.argv[1:] or ["login", "echo", "printed", "many"]
    with contextlib.ExitStack() as stack:
        directory = stack.enter_context(tempfile.TemporaryDirectory(prefix="jupyterhub-openssh-bench-"))
        network = Network()
        stack.callback(network.close)
        hub = Hub(network, users=("alice",), log=stack.enter_context(open(f"{directory}/hub.log", "w")))
        stack.callback(hub.close)
        hub.start_server("alice")
        bastion = Bastion(network, suite, package, hub.url)
        stack.callback(bastion.close)
        bench = Bench(Client(network, directory), bastion, hub)
        print(f"Debian {suite}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}; min / median / max", flush=True)
        for name in chosen:
            getattr(bench, name)()
        print("\n| what | ours | against | difference and goal |\n|---|---|---|---|")
        for row in bench.rows:
            print("| " + " | ".join(row) + " |")


if __name__ == "__main__":
    main()
