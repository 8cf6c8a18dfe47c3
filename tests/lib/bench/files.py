"""Files beside stock sshd's internal-sftp: the same sshd, client, cipher and file system, in turns.

The homes are in memory, so that no disk hides a difference: three times BENCH_BYTES must be free.
"""

import os
import select
import shutil
import statistics
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from lib.actors import rest
from lib.bench.cpu import box_cpu
from lib.bench.figures import milliseconds, spread, verdict
from lib.sandbox.namespace import die_with_parent
from lib.wait import wait_for

BYTES = int(os.environ.get("BENCH_BYTES", "1000000000"))
FILES = int(os.environ.get("BENCH_FILES", "10000"))
FILE_BYTES = 4096
#: How often each comparison is made, besides a first time that does not count.
ROUNDS = int(os.environ.get("BENCH_ROUNDS", "8"))
#: What sftp prints for `pwd`, which takes no message to the server.
HERE = b"Remote working directory: "
#: Where the local administrator has internal-sftp instead of a shell; the second one logs transfers as ours does.
PORTS = {"ERROR": 2022, "INFO": 2023}
DROP_IN = "/etc/ssh/sshd_config.d/10-bench.conf"


class Sftp:
    """OpenSSH's sftp in batch mode, told one command after the other."""

    def __init__(self, bench, user, secret, port):
        # The first value of an option counts, and -b would set BatchMode=yes: no password then.
        command = bench.client.openssh(
            "sftp",
            bench.bastion,
            user,
            "-q",
            "-b",
            "-",
            bench.bastion.address,
            options=("-o", "BatchMode=no"),
            port=port,
        )
        self.start = time.monotonic()
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=bench.client.askpass(secret),
            start_new_session=True,
            preexec_fn=die_with_parent,
        )
        self._seen = b""

    def run(self, *commands, timeout=300.0):
        """Give commands and wait until they are done; the seconds that took."""
        start = time.monotonic()
        self.process.stdin.write("".join(f"{line}\n" for line in (*commands, "pwd")).encode())
        self.process.stdin.flush()
        while HERE not in self._seen:
            if not select.select([self.process.stdout], [], [], timeout)[0]:
                raise TimeoutError(f"{commands}: nothing for {timeout:g} s; last {self._seen[-300:]!r}")
            piece = os.read(self.process.stdout.fileno(), 1 << 16)
            if not piece:
                raise EOFError(f"{commands}: sftp ended: {self._seen[-500:]!r}")
            self._seen += piece
        self._seen = self._seen.partition(HERE)[2]
        return time.monotonic() - start

    def first_answer(self):
        """Seconds from the start of the client until it knows where it is."""
        self.run()
        return time.monotonic() - self.start

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.process.stdin.close()
        if exc[0]:
            self.process.kill()
        self.process.wait()
        self.process.stdout.close()


@dataclass(frozen=True)
class Way:
    """One way to the files: ours or stock sshd's, with a log level."""

    name: str
    ours: bool
    log_level: str

    def open(self, bench):
        """A session in the directory that the measurements use."""
        bastion = bench.bastion
        if self.ours:
            bench.configure(homes=True, extra=f'[files]\nlog_level = "{self.log_level}"\n')
            return Sftp(bench, "alice", bench.token, bastion.PORT)
        return Sftp(bench, bastion.ADMIN, bastion.ADMIN_PASSWORD, PORTS[self.log_level])

    def directory(self, bench):
        """That directory, as the session names it and as we reach it."""
        user = "alice" if self.ours else bench.bastion.ADMIN
        real = f"{bench.HOMES}/{user}"
        return ("/home/alice" if self.ours else real), bench.bastion.box.path(real)


#: As installed, both: ours logs each transfer, stock internal-sftp none. Then alike: no log on either side, a log on both.
OURS, STOCK = Way("ours", True, "INFO"), Way("stock", False, "ERROR")
QUIET, LOGGING = Way("ours without log", True, "ERROR"), Way("stock with log", False, "INFO")
AS_INSTALLED, ALIKE = (OURS, STOCK), ((QUIET, STOCK), (OURS, LOGGING))


def _prepare(bench):
    """Lets the administrator in by internal-sftp, to a directory beside alice's home."""
    bastion = bench.bastion
    lines = [f"Port {bastion.PORT}", *(f"Port {port}" for port in PORTS.values())]
    for level, port in PORTS.items():
        # Without -l nothing but errors is logged.
        force = "internal-sftp" if level == "ERROR" else f"internal-sftp -l {level}"
        lines += [f"Match User {bastion.ADMIN} LocalPort {port}", f"\tForceCommand {force}"]
    bastion.box.write(DROP_IN, "\n".join(lines) + "\n")
    bench.make_home(bastion.ADMIN, bastion.ADMIN)
    mark = bastion.syslog.mark()
    bastion.reload_sshd()
    for port in PORTS.values():
        bastion.syslog.wait(rf"Server listening on 0\.0\.0\.0 port {port}", mark)


def _login(bench, rounds=15):
    ours, stock, hub = [], [], []
    for number in range(rounds + 1):
        taken = []
        for way in (OURS, STOCK):
            with way.open(bench) as session:
                taken.append(session.first_answer())
        start = time.monotonic()
        rest.request(bench.network.client, "GET", f"{bench.hub.url}/hub/api/user", bench.token).ok()
        taken.append(time.monotonic() - start)
        if number:  # the first one warms caches
            for values, value in zip((ours, stock, hub), taken):
                values.append(value)
    extra = [a - b - c for a, b, c in zip(ours, stock, hub)]
    bench.row(
        "login to the first sftp answer, ms",
        milliseconds(ours),
        f"stock sshd and internal-sftp {milliseconds(stock)}; hub call {milliseconds(hub)}",
        f"{milliseconds(extra)} more than their sum (goal ≤ 50): {verdict(statistics.median(extra) <= 0.050)}",
    )


def _size(path):
    """Bytes of a file, or of the files in a directory."""
    return sum(one.stat().st_size for one in path.iterdir()) if path.is_dir() else path.stat().st_size


def _remove(path):
    shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


def _transfer(bench, way, source, scratch):
    """Seconds of a put and of a get of a file, or of a directory's files; the bastion's CPU seconds for both."""
    name, recursive = source.name, "-r " if source.is_dir() else ""
    shown, real = way.directory(bench)
    back, expected = scratch / "back", _size(source)
    idle = {one.pid for one in bench.bastion.box.processes()}
    before = box_cpu(bench.bastion.box)
    with way.open(bench) as session:
        session.run(f"cd {shown}")
        put = session.run(f"put {recursive}{source}")
        assert _size(real / name) == expected, f"{way.name}: put left {_size(real / name)} of {expected} bytes"
        get = session.run(f"get {recursive}{name} {back}")
        assert _size(back) == expected, f"{way.name}: get brought {_size(back)} of {expected} bytes"
    # What still runs hasn't been counted yet.
    wait_for(lambda: {one.pid for one in bench.bastion.box.processes()} == idle, f"{way.name}: the session is over", 60)
    used = box_cpu(bench.bastion.box) - before
    _remove(back)
    _remove(real / name)
    return put, get, used


def _compare(bench, what, pairs, source, scratch, rounds):
    """Put and get in turns, in each way that is in one of the `pairs`: ours, and what it is held against."""
    units, unit = (FILES, "files/s") if source.is_dir() else (BYTES / 1e6, "MB/s")
    ways = sorted({way for pair in pairs for way in pair}, key=lambda way: way.name)
    rates, used = {way: ([], []) for way in ways}, {way: [] for way in ways}
    for number in range(rounds + 1):
        # Each way is first in one round, last in another.
        turn = number % len(ways)
        for way in (*ways[turn:], *ways[:turn]):
            *both, cpu = _transfer(bench, way, source, scratch)
            if number:  # the first one warms caches
                used[way].append(cpu)
                for values, seconds in zip(rates[way], both):
                    values.append(units / seconds)
    for direction, verb in enumerate(("put", "get")):
        for ours, stock in pairs:
            mine, theirs = rates[ours][direction], rates[stock][direction]
            ratios = [a / b for a, b in zip(mine, theirs)]
            bench.row(
                f"{verb} of {what}, {unit}",
                f"{ours.name} {spread(mine, digits=0)}",
                f"{stock.name} {spread(theirs, digits=0)}",
                f"ratio {spread(ratios)} (goal ≥ 0.97): {verdict(statistics.median(ratios) >= 0.97)}",
            )
    for ours, stock in pairs:
        bench.row(
            f"CPU of the bastion for a login, a put and a get of {what}, s",
            f"{ours.name} {spread(used[ours])}",
            f"{stock.name} {spread(used[stock])}",
            f"ratio {spread([a / b for a, b in zip(used[ours], used[stock])])}",
        )


def sftp(bench):
    """Login, one big file, many small files."""
    _prepare(bench)
    _login(bench)
    bench.bastion.wait_quiet()
    with tempfile.TemporaryDirectory(dir=bench.scratch) as scratch:
        scratch = Path(scratch)
        big, many, block = scratch / "big", scratch / "many", os.urandom(1 << 20)
        with open(big, "wb") as file:
            for start in range(0, BYTES, len(block)):
                file.write(block[: BYTES - start])
        many.mkdir()
        for number in range(FILES):
            (many / f"{number:05}").write_bytes(block[number * 7 :][:FILE_BYTES])
        _compare(bench, f"{BYTES / 1e9:g} GB", (AS_INSTALLED,), big, scratch, ROUNDS)
        _compare(bench, f"{FILES} files of 4 KB", (AS_INSTALLED, *ALIKE), many, scratch, ROUNDS)
