"""CPU time of processes, from proc(5)."""

import contextlib
import os

from lib.sandbox import processes


def cpu(found):
    """CPU seconds that processes and their ended children have used, to 10 ms each."""
    total = 0
    for one in found:
        fields = one.read("stat").rpartition(b") ")[2].split()
        if len(fields) > 14:
            total += sum(int(ticks) for ticks in fields[11:15])
    return total / os.sysconf("SC_CLK_TCK")


def cpu_exact(found):
    """CPU seconds of the living threads of processes, to the nanosecond (schedstat)."""
    total = 0
    for one in found:
        with contextlib.suppress(OSError):
            for task in os.listdir(one.path("task")):
                text = one.read(f"task/{task}/schedstat").split()
                total += int(text[0]) if text else 0
    return total / 1e9


def box_cpu(box):
    """CPU seconds of everything that runs or ran in a sandbox; exact when nothing of interest still runs."""
    return cpu([*box.processes(), processes.process(box.pid)])
