"""Commands through the user's server: beside the login, beside stock sshd, beside what a terminal there carries.

The files are in memory. What is compared is measured in turns; a first round warms caches and doesn't count.
"""

import base64
import contextlib
import os
import shlex
import shutil
import statistics
import subprocess
import tempfile
import time
from pathlib import Path
from urllib.parse import urlsplit

from lib.actors import rest
from lib.actors.hub import HUB_UID
from lib.actors.jupyter import Jupyter
from lib.bench.cpu import cpu
from lib.bench.figures import milliseconds, percentile, spread, verdict
from lib.bench.files import FILE_BYTES, FILES, ROUNDS
from lib.bench.terminal import Raw, echoes, flood
from lib.paths import HUB_TOOLS
from lib.sandbox.agents import Agents, peak, proportional
from lib.sandbox.namespace import die_with_parent
from lib.wait import wait_for

#: Bytes of one bulk transfer.
BULK = int(os.environ.get("BENCH_BULK", "200000000"))
#: Keystrokes of one measurement.
KEYS = int(os.environ.get("BENCH_KEYS", "300"))
#: Sizes of the messages of which the best one makes the ceiling of input.
MESSAGES = tuple(size << 10 for size in (16, 32, 64, 256, 1024))
#: A login shell in a terminal of the Jupyter server, as before there was an agent.
PLAIN = '[terminal]\nmode = "plain"\n'
#: What three bytes are in base64.
BASE64 = 3 / 4


class Wire:
    """A terminal's WebSocket on a plain TCP socket: no JSON is decoded, no frame is cut: it isn't the bottleneck.

    It starts where the gateway does, in the bastion's network, and goes through the hub's proxy as the gateway does.
    """

    #: As often as ours, in a flood (src/server/terminado/socket.rs): one for each message slows the server.
    PONG_GAP = 0.002
    PONG = b"\x8a\x80\0\0\0\0"

    def __init__(self, jupyter, name, timeout=30.0):
        self.jupyter, self.name, self._ponged = jupyter, name, 0.0
        url = urlsplit(f"{jupyter.base}terminals/websocket/{name}")
        self.socket = rest.connect(jupyter.namespace, url.geturl(), timeout)
        key = base64.b64encode(os.urandom(16)).decode()
        self.socket.sendall(
            f"GET {url.path} HTTP/1.1\r\nHost: {url.netloc}\r\nAuthorization: token {jupyter.token}\r\n"
            f"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
            f"Sec-WebSocket-Key: {key}\r\n\r\n".encode()
        )
        self.seen = b""
        self.socket.settimeout(60)
        answer = self.until(b"\r\n\r\n")
        assert b" 101 " in answer.partition(b"\r\n")[0], answer[:300]

    @staticmethod
    def message(text):
        """A message that types a text, as a frame. Its mask is 0, which leaves the bytes alone (RFC 6455, 5.3)."""
        payload = b'["stdin","' + text.replace(b"\n", b"\\n") + b'"]'
        size = len(payload)
        head = (
            bytes((0x80 | size,))
            if size < 126
            else b"\xfe" + size.to_bytes(2, "big")
            if size < 65536
            else b"\xff" + size.to_bytes(8, "big")
        )
        return b"\x81" + head + bytes(4) + payload

    def send(self, frame):
        """Send a frame, or many."""
        self.socket.sendall(frame)

    def until(self, mark):
        """Read until `mark` has come; what came with it and before it, as far as that hasn't been thrown away."""
        seen = self.seen
        while mark not in seen:
            # The mark may have come in part.
            piece = self.socket.recv(1 << 20)
            if not piece:
                raise EOFError(seen[-300:])
            now = time.monotonic()
            if now - self._ponged >= self.PONG_GAP:
                self._ponged = now
                self.socket.sendall(self.PONG)
            seen = seen[-len(mark) :] + piece if len(seen) > 4096 else seen + piece
        before, _, self.seen = seen.partition(mark)
        return before

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.socket.close()
        self.jupyter.delete_terminal(self.name)


class Commands:
    """What the measurements have in common; made anew for each part of the table."""

    def __init__(self, bench):
        self.bench, self.hub, self.bastion = bench, bench.hub, bench.bastion
        self.users = {"ours": ("alice", bench.token), "stock": (self.bastion.ADMIN, self.bastion.ADMIN_PASSWORD)}
        self.near = Jupyter(self.hub, "alice")
        self.near.namespace = self.bastion.box.network
        self.agents = Agents(lambda: self.hub.server_processes("alice"))
        self.home = self.hub.box.path("/mnt/home/alice")

    def command(self, who, *arguments, options=()):
        """ssh's command line for a command, ours or stock sshd's."""
        return self.bench.client.ssh(self.bastion, self.users[who][0], *arguments, options=options)

    def start(self, who, *arguments, options=(), **pipes):
        """Start a client (Popen)."""
        pipes = {name: pipes.get(name, subprocess.DEVNULL) for name in ("stdin", "stdout", "stderr")}
        return subprocess.Popen(
            self.command(who, *arguments, options=options),
            env=self.environment(who),
            bufsize=0,
            start_new_session=True,
            preexec_fn=die_with_parent,
            **pipes,
        )

    def environment(self, who):
        """A client's, which answers the question for the password."""
        return self.bench.client.askpass(self.users[who][1])

    def true(self, who, options=()):
        """Seconds of `ssh host true`."""
        start = time.monotonic()
        status = self.start(who, "true", options=options).wait(60)
        taken = time.monotonic() - start
        assert status == 0, f"{who}: status {status}"
        return taken

    @contextlib.contextmanager
    def shared(self, who):
        """(Options of clients that go over one connection meanwhile, the process that holds it)."""
        with tempfile.TemporaryDirectory(prefix="jo-") as directory:
            path = Path(directory) / "control"
            options = ("-o", f"ControlPath={path}")
            master = self.start(who, "-N", options=(*options, "-o", "ControlMaster=yes"))
            try:
                wait_for(lambda: path.exists() or master.poll() is not None, "the connection is made", 60)
                assert master.poll() is None, f"{who}: the master's client ended with status {master.returncode}"
                yield options, master
            finally:
                master.terminate()
                master.wait(20)
                if who == "ours":
                    self.quiet()

    def quiet(self):
        """Wait until the last connection has closed its terminals: each stalls the user's server."""
        self.bastion.wait_quiet(60)

    def terminal(self, argv):
        """A terminal of the user's server that runs `argv`, looked at from the bastion."""
        name = self.near.call("POST", "terminals", {"shell_command": argv}).ok().json()["name"]
        return Wire(self.near, name)


def _opened(commands, argv):
    """Seconds from the call that makes a terminal until what its program prints is here."""
    start = time.monotonic()
    with commands.terminal(argv) as wire:
        wire.until(b"started")
        return time.monotonic() - start


def _true(commands, rounds):
    """A command on a connection of its own."""
    bench = commands.bench
    # The one that runs the agent, too; by its name in the virtual environment it would take longer.
    python = os.path.realpath(HUB_TOOLS / "venv/bin/python")
    programs = {
        "python": [python, "-ISc", "import time; print('started', flush=True); time.sleep(60)"],
        "sh": ["/bin/sh", "-c", "echo started; read -r _"],
    }
    taken = {name: [] for name in ("login", *programs, "ours", "stock")}
    for number in range(rounds + 1):
        once = {}
        bench.configure(extra=PLAIN)
        with bench.ours() as session:
            once["login"] = session.prompt()
        commands.quiet()
        for name, argv in programs.items():
            once[name] = _opened(commands, argv)
        bench.configure()
        once["ours"] = commands.true("ours")
        commands.quiet()
        once["stock"] = commands.true("stock")
        if number:
            for name, value in once.items():
                taken[name].append(value)
    python = [a - b for a, b in zip(taken["python"], taken["sh"])]
    more = [a - b - c for a, b, c in zip(taken["ours"], taken["login"], python)]
    bench.row(
        "`ssh host true`, ms",
        milliseconds(taken["ours"]),
        f"login to a plain terminal {milliseconds(taken['login'])}; Python in a terminal instead of sh "
        f"{milliseconds(python)} more; stock sshd {milliseconds(taken['stock'])}",
        f"{milliseconds(more)} more than login and Python (goal ≤ 50): {verdict(statistics.median(more) <= 0.050)}",
    )


def _true_again(commands, rounds):
    """The same over a connection that is there."""
    taken = {"ours": [], "stock": []}
    with commands.shared("ours") as (ours, _), commands.shared("stock") as (stock, _):
        for number in range(rounds + 1):
            for who, options in (("ours", ours), ("stock", stock)):
                seconds = commands.true(who, options)
                if number:
                    taken[who].append(seconds)
    more = [a - b for a, b in zip(taken["ours"], taken["stock"])]
    commands.bench.row(
        "the same over an open ControlMaster, ms",
        milliseconds(taken["ours"]),
        f"stock sshd {milliseconds(taken['stock'])}",
        f"{milliseconds(more)} more (goal ≤ 15): {verdict(statistics.median(more) <= 0.015)}",
    )


def _out(commands, who, source):
    """Bytes per second that a command's output comes at; its last bytes show that it is complete."""
    with commands.start(who, f"printf r; {source}", stdout=subprocess.PIPE) as child:
        out = child.stdout.fileno()
        assert os.read(out, 1) == b"r", "the command has not begun"
        start, have = time.monotonic(), 0
        while piece := os.read(out, 1 << 20):
            have += len(piece)
        taken = time.monotonic() - start
    assert (child.returncode, have) == (0, BULK), f"{who}: status {child.returncode}, {have} bytes"
    commands.quiet()
    return BULK / taken


def _in(commands, who, block):
    """Bytes per second that a command takes its input at."""
    with commands.start(
        who, f"printf r; head -c {BULK} >/dev/null; printf d", stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as child:
        out = child.stdout.fileno()
        assert os.read(out, 1) == b"r", "the command has not begun"
        start, left = time.monotonic(), BULK
        while left:
            left -= os.write(child.stdin.fileno(), block[:left])
        assert os.read(out, 1) == b"d", "the command has not taken all"
        taken = time.monotonic() - start
    commands.quiet()
    return BULK / taken


def _ceiling_out(commands):
    """Bytes per second that a program in a terminal can print: lines as long as the agent's."""
    script = "stty raw -echo; printf 'start!'; cat /mnt/home/alice/lines; printf 'end!'; read -r _"
    with commands.terminal(["/bin/sh", "-c", f"read -r _; {script}"]) as wire:
        wire.send(Wire.message(b"\n"))
        wire.until(b"start!")
        start = time.monotonic()
        wire.until(b"end!")
        return BULK / (time.monotonic() - start)


def _ceiling_in(commands, size):
    """Bytes per second that a program in a terminal can read, typed in messages of `size` bytes."""
    count = BULK // size
    script = f"stty raw -echo; printf 'start!'; head -c {count * size} >/dev/null; printf 'end!'; read -r _"
    frame = Wire.message((b"A" * 43 + b"\n") * (size // 44) + b"A" * (size % 44))
    with commands.terminal(["/bin/sh", "-c", script]) as wire:
        wire.until(b"start!")
        start = time.monotonic()
        for _ in range(count):
            wire.send(frame)
        wire.until(b"end!")
        return count * size / (time.monotonic() - start)


def _bulk(commands, rounds):
    """Many bytes out and in, beside what a terminal of that server carries."""
    bench, block = commands.bench, os.urandom(1 << 20)
    line = base64.b64encode(block[: 32 << 10]) + b"\n"
    for name, piece in (("bulk", block), ("lines", line)):
        with open(commands.home / name, "wb") as file:
            for start in range(0, BULK, len(piece)):
                file.write(piece[: BULK - start])
        os.chown(commands.home / name, HUB_UID, HUB_UID)
    shutil.copyfile(commands.home / "bulk", bench.bastion.box.path("/tmp/bulk"))
    best = max(MESSAGES, key=lambda size: _ceiling_in(commands, size))
    measures = {
        "ceiling out": lambda: _ceiling_out(commands) * BASE64,
        "random out": lambda: _out(commands, "ours", "cat bulk"),
        "zeros out": lambda: _out(commands, "ours", f"head -c {BULK} /dev/zero"),
        "stock out": lambda: _out(commands, "stock", "cat /tmp/bulk"),
        "ceiling in": lambda: _ceiling_in(commands, best) * BASE64,
        "in": lambda: _in(commands, "ours", block),
        "stock in": lambda: _in(commands, "stock", block),
    }
    rates = {name: [] for name in measures}
    for number in range(rounds + 1):
        for name, measure in measures.items():
            rate = measure()
            if number:
                rates[name].append(rate)
    for what, name, way, goal, how in (
        ("from a file", "random out", "out", 0.9, "lines of 44 KB"),
        ("of /dev/zero", "zeros out", "out", 0.9, "lines of 44 KB"),
        ("random", "in", "in", 0.8, f"messages of {best >> 10} KB"),
    ):
        ratios = [a / b for a, b in zip(rates[name], rates[f"ceiling {way}"])]
        bench.row(
            f"{BULK / 1e6:g} MB {way}, {what}, MB/s",
            spread(rates[name], 1e-6, 1),
            f"3/4 of raw WebSocket, {how}, {spread(rates[f'ceiling {way}'], 1e-6, 1)}; "
            f"stock sshd {spread(rates[f'stock {way}'], 1e-6, 0)}",
            f"ratio {spread(ratios)} (goal ≥ {goal}): {verdict(statistics.median(ratios) >= goal)}",
        )
    bench.bastion.box.path("/tmp/bulk").unlink()


#: What keeps the link busy for as long as it is let, by the directions that the bytes go.
FLOODS = {"out": "cat /dev/zero", "in": "cat >/dev/null", "both": "cat /dev/zero & cat >/dev/null"}


@contextlib.contextmanager
def _flooding(commands, way, options):
    """Bytes move all the while, from and to the client's devices: nobody else takes part."""
    with open("/dev/zero", "rb") as zeros:
        stdin = subprocess.DEVNULL if way == "out" else zeros
        child = commands.start("ours", FLOODS[way], options=options, stdin=stdin)
        try:
            yield
            assert child.poll() is None, f"{way}: the flood ended with status {child.returncode}"
        finally:
            child.terminate()
            child.wait(20)


def _moved(master):
    """Bytes that a client has written: to its output, or as a little more to the network (proc(5))."""
    return int(Path(f"/proc/{master.pid}/io").read_text().split()[3])


def _echo(commands, rounds):
    """Keys in another terminal of that server meanwhile."""
    bench = commands.bench
    taken, rates = {way: [] for way in ("idle", "out", "in")}, {"out": [], "in": []}
    with commands.shared("ours") as (options, master):
        for _ in range(rounds):
            for way, values in taken.items():
                flood_ = _flooding(commands, way, options) if way != "idle" else contextlib.nullcontext()
                with Raw(bench.jupyter) as session, flood_:
                    before, start = _moved(master), time.monotonic()
                    values += echoes(session, KEYS, False)
                    if way != "idle":
                        rates[way].append((_moved(master) - before) / (time.monotonic() - start))
                commands.true("ours", options)

    def show(values):
        return f"{1000 * statistics.median(values):.2f} / {1000 * percentile(values, 0.99):.2f}"

    for way, values in rates.items():
        tail = percentile(taken[way], 0.99)
        bench.row(
            f"echo in another terminal while bytes go {way}, median / p99 ms",
            show(taken[way]),
            f"idle {show(taken['idle'])}; meanwhile {spread(values, 1e-6, 1)} MB/s",
            f"p99 (goal ≤ 7): {verdict(tail <= 0.007)}",
        )


def _memory(commands, seconds=10):
    """The most that gateway and agent hold while bytes go both ways."""
    bench, highest = commands.bench, 0
    with commands.shared("ours") as (options, master), _flooding(commands, "both", options):
        agent = commands.agents.agent()
        (gateway,) = bench.bastion.gateways()
        before, start = _moved(master), time.monotonic()
        used = cpu([gateway]), cpu([agent])
        while time.monotonic() < start + seconds:
            highest = max(highest, proportional(gateway))
            time.sleep(0.1)
        taken = time.monotonic() - start
        rate = (_moved(master) - before) / taken
        used = [100 * (now - then) / taken for now, then in zip((cpu([gateway]), cpu([agent])), used)]
        held = peak(agent)
    bench.row(
        "memory under full load both ways, gateway's PSS / agent's RSS, MB",
        f"{highest / 1e6:.1f} / {held / 1e6:.1f}",
        f"{rate / 1e6:.1f} MB/s in both directions together; CPU of one core {used[0]:.0f} % / {used[1]:.0f} %",
        f"goal ≤ 8 / ≤ 25: {verdict(highest <= 8 << 20 and held <= 25 << 20)}",
    )


def _rsync(commands, rounds):
    """Many small files."""
    bench, bastion = commands.bench, commands.bastion
    if not bastion.box.path("/usr/bin/rsync").exists():
        bastion.apt("install", "rsync")
    # Beside alice's home, in the same file system.
    theirs = f"{bench.HUB_HOMES}/stock"
    bastion.box.run("install", "-d", "-o", bastion.ADMIN, theirs)
    targets = {
        "ours": ("many", commands.home / "many"),
        "stock": (f"{theirs}/many", bastion.box.path(f"{theirs}/many")),
    }
    taken = {(way, who): [] for way in ("put", "get") for who in targets}
    with tempfile.TemporaryDirectory(dir=bench.scratch) as scratch:
        many, back, block = Path(scratch) / "many", Path(scratch) / "back", os.urandom(1 << 20)
        many.mkdir()
        for number in range(FILES):
            (many / f"{number:05}").write_bytes(block[number * 7 :][:FILE_BYTES])

        def rsync(who, *arguments):
            words = commands.command(who)
            ssh = shlex.join(words[words.index("ssh") : -1])
            start = time.monotonic()
            done = subprocess.run(
                bench.network.client.command("rsync", "-a", "-e", ssh, *arguments),
                timeout=600,
                capture_output=True,
                text=True,
                env=commands.environment(who),
                start_new_session=True,
            )
            assert done.returncode == 0, f"{who}: {arguments}: status {done.returncode}\n{done.stderr[-2000:]}"
            seconds = time.monotonic() - start
            if who == "ours":
                commands.quiet()
            return seconds

        for number in range(rounds + 1):
            order = list(targets.items())
            for who, (shown, real) in order if number % 2 else reversed(order):
                for way, pair in (
                    ("put", (f"{many}/", f"{bastion.address}:{shown}/")),
                    ("get", (f"{bastion.address}:{shown}/", f"{back}/")),
                ):
                    seconds = rsync(who, *pair)
                    assert len(os.listdir(real if way == "put" else back)) == FILES, f"{who}: {way} left files out"
                    if number:
                        taken[way, who].append(seconds)
                shutil.rmtree(real)
                shutil.rmtree(back)
    for way in ("put", "get"):
        ours, stock = taken[way, "ours"], taken[way, "stock"]
        ratios = [a / b for a, b in zip(ours, stock)]
        bench.row(
            f"rsync, {way} of {FILES} files of 4 KB, login included, s",
            spread(ours),
            f"stock sshd {spread(stock)}",
            f"{spread(ratios)} times (goal ≤ 2): {verdict(statistics.median(ratios) <= 2)}",
        )


def _shells(commands, rounds):
    """A login shell of the agent's beside a plain terminal: what the default mode is chosen by."""
    bench, modes = commands.bench, {"auto": "", "plain": PLAIN}
    logins, keys, printed = ({mode: [] for mode in modes} for _ in range(3))
    size = 50_000_000
    text = (b"0123456789abcdefghijklmnopqrstuvwxyz" * 2 + b"\n") * 685_000
    bench.hub.box.write("/mnt/home/alice/big", text[:size], 0o644)
    for number in range(rounds + 1):
        for mode, extra in modes.items():
            bench.configure(extra=extra)
            with bench.ours() as session:
                seconds = session.prompt()
            commands.quiet()
            if not number:
                continue
            logins[mode].append(seconds)
            with bench.ours() as session:
                keys[mode] += echoes(session, KEYS, False)
            commands.quiet()
            with bench.ours(pipe=True) as session:
                printed[mode].append(flood(session, size))
            commands.quiet()
    bench.configure()

    def show(values):
        return f"{1000 * statistics.median(values):.2f} / {1000 * percentile(values, 0.99):.2f}"

    more = [a - b for a, b in zip(logins["auto"], logins["plain"])]
    bench.row(
        "login to the first prompt byte, a shell of the agent's, ms",
        milliseconds(logins["auto"]),
        f"plain terminal {milliseconds(logins['plain'])}",
        f"{milliseconds(more)} more",
    )
    bench.row(
        "echo of a key in it, median / p99 ms",
        show(keys["auto"]),
        f"plain terminal {show(keys['plain'])}",
        f"{1000 * (statistics.median(keys['auto']) - statistics.median(keys['plain'])):.2f} / "
        f"{1000 * (percentile(keys['auto'], 0.99) - percentile(keys['plain'], 0.99)):.2f} more",
    )
    ratios = [a / b for a, b in zip(printed["auto"], printed["plain"])]
    bench.row(
        "50 MB printed in it, MB/s",
        spread(printed["auto"], 1e-6),
        f"plain terminal {spread(printed['plain'], 1e-6)}",
        f"ratio {spread(ratios)}",
    )


#: The parts; BENCH_COMMANDS names some of them.
PARTS = {
    "true": (_true, 2),
    "master": (_true_again, 4),
    "bulk": (_bulk, 1),
    "echo": (_echo, 0),
    "memory": (_memory, 0),
    "rsync": (_rsync, 1),
    "shells": (_shells, 1),
}


def commands(bench):
    """All of it."""
    for name in os.environ.get("BENCH_COMMANDS", "").split() or PARTS:
        measure, times = PARTS[name]
        made = Commands(bench)
        made.quiet()
        # What is quick is done more often; keystrokes are many already.
        if name == "memory":
            measure(made)
        else:
            measure(made, ROUNDS * times if times else min(ROUNDS, 3))
        bench.configure()
