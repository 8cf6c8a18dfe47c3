"""The agents in a user's server, looked at from outside, and what they and their gateways cost."""

import re

from lib.wait import wait_for


class Agents:
    """The agents of a user: `processes()` lists what runs in the user's server."""

    #: In the command line of an agent, and of its guardian, which is its child.
    MARK = "7730;"

    def __init__(self, processes):
        self.processes = processes

    def _all(self):
        return [one for one in self.processes() if self.MARK in one.command_line() and one.name.startswith("python")]

    def agents(self):
        """The agents."""
        found = self._all()
        pids = {one.pid for one in found}
        return [one for one in found if one.parent not in pids]

    def guardians(self):
        """Their guardians."""
        found = self._all()
        pids = {one.pid for one in found}
        return [one for one in found if one.parent in pids]

    def agent(self):
        """The one agent, waited for."""
        (one,) = wait_for(
            lambda: len(self.agents()) == 1 and self.agents(), lambda: f"there is one agent: {self.agents()}"
        )
        return one

    def none(self, timeout=20.0):
        """Wait until there is neither agent nor guardian."""
        wait_for(lambda: not self._all(), lambda: f"agents end: {self._all()}", timeout, 0.1)


def peak(process):
    """The most memory that a process has ever held (VmHWM of proc(5)), in bytes."""
    match = re.search(rb"VmHWM:\s+(\d+) kB", process.read("status"))
    return int(match[1]) * 1024 if match else 0


def resident(process):
    """The memory that a process holds (VmRSS), in bytes."""
    match = re.search(rb"VmRSS:\s+(\d+) kB", process.read("status"))
    return int(match[1]) * 1024 if match else 0


def proportional(process):
    """The same with its share of what others have too (PSS), in bytes."""
    match = re.search(rb"(?m)^Pss:\s+(\d+) kB", process.read("smaps_rollup"))
    return int(match[1]) * 1024 if match else 0


def locked(process):
    """The memory that a process holds locked (mlock(2)), in bytes."""
    match = re.search(rb"(?m)^Locked:\s+(\d+) kB", process.read("smaps_rollup"))
    return int(match[1]) * 1024 if match else 0
