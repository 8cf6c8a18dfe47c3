"""Terminals beside stock sshd's and the bare hub's: login, echo, throughput."""

import os
import pty
import random
import select
import statistics
import subprocess
import time
import tty

from lib.actors import rest
from lib.bench.figures import milliseconds, percentile, spread, verdict
from lib.sandbox.namespace import die_with_parent

PROMPT = b"$ "


class Session:
    """OpenSSH's client with a tty (or, for throughput, a pipe) that this process reads."""

    def __init__(self, client, bastion, user, secret, pipe=False, command=None):
        command = command or client.ssh(bastion, user, options=("-tt",))
        self.master, slave = pty.openpty()
        tty.setraw(slave)
        self.start = time.monotonic()
        self.process = subprocess.Popen(
            command,
            stdin=slave,
            stdout=subprocess.PIPE if pipe else slave,
            stderr=subprocess.DEVNULL,
            env=client.askpass(secret) | {"TERM": "xterm"},
            start_new_session=True,
            preexec_fn=die_with_parent,
        )
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


def login(bench, rounds=15):
    """From the start of the client to the shell's prompt, without and with a home in the jail."""
    makers = {"ours": bench.ours, "home": bench.ours, "stock": bench.stock, "raw": bench.raw}
    taken = {name: [] for name in makers}
    for number in range(rounds + 1):
        for name, make in makers.items():
            bench.configure(homes=name == "home")
            with make() as session:
                seconds = session.prompt()
            if number:  # the first one warms caches
                taken[name].append(seconds)
    for name, what in (
        ("ours", "login to the first prompt byte, ms"),
        ("home", "the same with a home in the jail, ms"),
    ):
        extra = [a - b - c for a, b, c in zip(taken[name], taken["stock"], taken["raw"])]
        bench.row(
            what,
            milliseconds(taken[name]),
            f"stock sshd {milliseconds(taken['stock'])}; hub and Terminado {milliseconds(taken['raw'])}",
            f"{milliseconds(extra)} more than their sum (goal ≤ 60): {verdict(statistics.median(extra) <= 0.060)}",
        )


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
        key = b"abcdefghijklmnopqrstuvwxyz"[number % 26 :][:1]
        start = time.monotonic()
        session.send(key)
        session.until(b"<" + key + b">" if behind else key)
        if number >= 20:
            taken.append(time.monotonic() - start)
    return taken


def echo(bench, rounds=3, count=300):
    """Keystrokes beside a raw WebSocket of the same server."""
    for behind in (False, True):
        ours, stock, raw = [], [], []
        for _ in range(rounds):
            for values, make in ((ours, bench.ours), (raw, bench.raw), (stock, bench.stock)):
                with make() as session:
                    values += echoes(session, count, behind)

        def show(values):
            return f"{1000 * statistics.median(values):.2f} / {1000 * percentile(values, 0.99):.2f}"

        more = statistics.median(ours) - statistics.median(raw)
        tail = percentile(ours, 0.99) - percentile(raw, 0.99)
        if behind:
            goal = f"p99 (goal ≤ 5): {verdict(percentile(ours, 0.99) <= 0.005)}"
        else:
            goal = (
                f"{1000 * more:.2f} / {1000 * tail:.2f} more (goal ≤ 1.0 / ≤ 3): "
                f"{verdict(more <= 0.001 and tail <= 0.003)}"
            )
        bench.row(
            "echo with output behind it, median / p99 ms" if behind else "echo of a key, median / p99 ms",
            show(ours),
            f"raw WebSocket {show(raw)}; stock sshd {show(stock)}",
            goal,
        )


def flood(session, size=50_000_000):
    """Bytes per second of a file's text through a session."""
    session.prompt()
    session.send(b"stty -opost; echo re''ady; cat /mnt/home/alice/big; echo o''ver\r")
    session.until(b"ready")
    start, have = time.monotonic(), len(session.seen)
    while have < size:
        have += len(session.read())
    return have / (time.monotonic() - start)


def printed(bench, rounds=5):
    """A long text, through a terminal."""
    text = (b"0123456789abcdefghijklmnopqrstuvwxyz" * 2 + b"\n") * 685_000
    bench.hub.box.write("/mnt/home/alice/big", text, 0o644)
    ours, raw = [], []
    for _ in range(rounds):
        with bench.raw() as session:
            raw.append(flood(session))
        with bench.ours(pipe=True) as session:
            ours.append(flood(session))
    ratios = [a / b for a, b in zip(ours, raw)]
    bench.row(
        "50 MB printed, MB/s",
        spread(ours, 1e-6),
        f"raw WebSocket {spread(raw, 1e-6)}",
        f"ratio {spread(ratios)} (goal ≥ 0.95): {verdict(statistics.median(ratios) >= 0.95)}",
    )
