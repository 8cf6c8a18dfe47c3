"""Many sessions at once: how long their logins take, and what they cost while nobody types."""

import os
import time

from lib.bench.cpu import cpu, cpu_exact
from lib.bench.figures import verdict
from lib.bench.terminal import PROMPT
from lib.sandbox import processes
from lib.wait import wait_for

MANY = int(os.environ.get("BENCH_MANY", "100"))


def _all_at_once(make):
    start = time.monotonic()
    sessions = [make() for _ in range(MANY)]
    times = []
    for session in sessions:
        session.until(PROMPT, 120)
        times.append(time.monotonic() - start)
    return sessions, max(times)


def _clients_cpu():
    me = os.getpid()
    everything = processes.all_processes()
    return cpu(
        [
            p
            for p in everything.values()
            if p.name == "ssh" and (p.parent == me or everything.get(p.parent) and everything[p.parent].parent == me)
        ]
    )


def many(bench):
    """Logins at once, then memory and CPU of the idle sessions."""

    def sshd():
        return [one for one in bench.bastion.box.processes() if one.name.startswith("sshd")]

    stock_sessions, stock = _all_at_once(bench.stock)
    for session in stock_sessions:
        session.close()
    bench.bastion.wait_quiet()
    hub_before, sshd_before = cpu(bench.hub.box.processes()), cpu(sshd())
    clients = _clients_cpu()
    sessions, ours = _all_at_once(bench.ours)
    ours_cpu = cpu_exact(bench.bastion.ours())
    sshd_cpu = cpu(sshd()) - sshd_before
    hub_cpu = cpu(bench.hub.box.processes()) - hub_before
    bench.row(
        f"{MANY} logins at once, all to a prompt, s",
        f"{ours:.1f}",
        f"stock sshd {stock:.1f}",
        f"CPU seconds: ours {ours_cpu:.1f}, sshd {sshd_cpu:.1f}, hub and servers {hub_cpu:.1f}, "
        f"clients {_clients_cpu() - clients:.1f}",
    )
    _memory(bench)
    _idle(bench)
    for session in sessions:
        session.close()
    bench.bastion.wait_quiet(60)


def _memory(bench):
    sums = {"gateways": 0, "jails": 0, "sessions": 0}
    for kind in sums:
        for one in getattr(bench.bastion, kind)():
            for line in one.read("smaps_rollup").decode().splitlines():
                if line.startswith("Pss:"):
                    sums[kind] += int(line.split()[1])
    total = sum(sums.values()) / 1024 / MANY
    parts = ", ".join(f"{kind} {value / 1024 / MANY:.2f}" for kind, value in sums.items())
    bench.row(
        f"memory of our processes per session, PSS at {MANY} sessions, MB",
        f"{total:.2f}",
        parts,
        f"goal ≤ 3: {verdict(total <= 3)}",
    )


def _idle(bench, seconds=30):
    found = bench.bastion.ours()
    # What the logins left to do is done when two looks find the same.
    last = [cpu_exact(found)]

    def settled():
        time.sleep(2)
        now = cpu_exact(found)
        same, last[0] = now - last[0] < 0.05, now
        return same

    wait_for(settled, "the sessions are idle", 60)
    before, start = cpu_exact(found), time.monotonic()
    time.sleep(seconds)
    share = 100 * (cpu_exact(found) - before) / (time.monotonic() - start)
    bench.row(f"CPU of {MANY} idle sessions, % of one core", f"{share:.3f}", "–", f"goal < 0.5: {verdict(share < 0.5)}")
