"""The sandbox's /dev/log: every message any program logs is kept and can be waited for."""

import os
import re
import socket
import threading
from dataclasses import dataclass

from lib.wait import wait_for


@dataclass(frozen=True)
class Entry:
    """One message; `text` is what follows the program's name."""

    program: str
    pid: int
    text: str
    raw: bytes


def parse(datagram):
    """Take RFC 3164's local form apart: `<PRI>Mmm dd hh:mm:ss program[pid]: text`."""
    text = datagram.rstrip(b"\0\n").decode("utf-8", "backslashreplace")
    match = re.match(r"(?:<\d+>)?(?:\w{3} [ \d]\d [\d:]{8} )?(?:(\S+?)(?:\[(\d+)\])?: )?(.*)", text, re.S)
    return Entry(match[1] or "", int(match[2] or 0), match[3], datagram)


class Syslog:
    """Reads a box's /dev/log until closed."""

    def __init__(self, box):
        path = box.path("/dev/log")
        self.entries = []
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        self._socket.bind(str(path))
        os.chmod(path, 0o666)
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self):
        while True:
            try:
                datagram = self._socket.recv(65536)
            except OSError:
                return
            if not datagram:
                return
            self.entries.append(parse(datagram))

    def mark(self):
        """A position: what is logged later comes after it."""
        return len(self.entries)

    def since(self, mark=0):
        """The entries after a mark."""
        return self.entries[mark:]

    def wait(self, pattern, mark=0, timeout=10.0):
        """The first entry after the mark whose text matches the regular expression."""
        regex = re.compile(pattern, re.I | re.S)

        def found():
            return next((entry for entry in self.since(mark) if regex.search(entry.text)), None)

        def missing():
            lines = "\n".join(f"  {entry.program}: {entry.text}" for entry in self.since(mark))
            return f"a log line that matches {pattern!r}; there were:\n{lines}"

        return wait_for(found, missing, timeout)

    def dump(self):
        """Everything that was logged, for a failure's report."""
        return "\n".join(f"{entry.program}[{entry.pid}]: {entry.text}" for entry in self.entries)

    def close(self):
        """Stop reading."""
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
