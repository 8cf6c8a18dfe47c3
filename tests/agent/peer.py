"""The gateway's end of docs/mux.md, over a pty, for tests of the agent."""

import base64
import fcntl
import json
import os
import pty
import re
import secrets
import select
import signal
import struct
import termios
import time
import zlib
from collections import deque
from pathlib import Path

AGENT = Path(__file__).resolve().parents[2] / "src" / "server" / "agent"
BOOT = (AGENT / "boot.sh").read_text()
LOADER = (AGENT / "loader.py").read_text()
PROTOCOL = (AGENT / "protocol.py").read_text()
#: The agent itself: the files that the gateway sends, in its order.
FILES = re.findall(r'"(\w+\.py)"', re.search(r"const AGENT\b.*?\];", (AGENT / "mod.rs").read_text(), re.DOTALL)[0])
SOURCE = "\n\n".join((AGENT / name).read_text() for name in FILES)


class Kinds:
    """The constants of protocol.py."""


def _constants():
    found = {}
    exec(PROTOCOL, found)
    for name, value in found.items():
        if name.isupper():
            setattr(Kinds, name, value)


_constants()


def source(**patches):
    """The agent's source, with other values for some constants of the protocol."""
    text = PROTOCOL + SOURCE
    for name, value in patches.items():
        before = f"\n{name} = {getattr(Kinds, name)}\n"
        assert before in text
        text = text.replace(before, f"\n{name} = {value}\n")
    return text


def encode(kind, number=0, stream=0, part=0, payload=b"", salt=0):
    """A packet as a line."""
    body = struct.pack(">BQIB", kind, number, stream, part) + payload
    body += struct.pack(">I", zlib.crc32(body, salt))
    return b"~" + base64.b64encode(body) + b"\n"


def decode(line, salt):
    """(kind, number, stream, part, payload) of a line without its line feed, or None for noise."""
    _, mark, candidate = line.rpartition(b"~")
    try:
        body = base64.b64decode(candidate, validate=True)
    except ValueError:
        return None
    if not mark or len(body) < 18 or zlib.crc32(body[:-4], salt) != int.from_bytes(body[-4:], "big"):
        return None
    return (*struct.unpack_from(">BQIB", body), body[14:-4])


class Gone(Exception):
    """The terminal has closed."""


class Stream:
    """A stream as the gateway sees it."""

    def __init__(self, peer, number):
        self.peer, self.number = peer, number
        self.received = {1: bytearray(), 2: bytearray()}
        self.counts = {1: 0, 2: 0}
        self.ends = set()
        self.credit = None
        self.refused = self.exit = None
        self.closed = self.stopped = False
        #: Give credit back as data comes.
        self.generous = True
        #: Keep what comes; else it is counted, and given to `sink`.
        self.keep = True
        self.sink = None
        self.to_send = deque()

    def write(self, data):
        """Send as the credit allows; the rest when there is more."""
        self.to_send.append(memoryview(data))
        self.push()

    def eof(self):
        self.to_send.append(None)
        self.push()

    def push(self):
        while self.to_send and self.credit is not None and not self.closed:
            if self.to_send[0] is None:
                self.peer.send(Kinds.EOF, self.number, 0)
                self.to_send.popleft()
                continue
            size = min(self.credit, Kinds.MAX_PAYLOAD, len(self.to_send[0]))
            if self.stopped:
                self.to_send.popleft()
                continue
            if not size or not self.peer.room():
                return
            self.peer.send(Kinds.DATA, self.number, 0, bytes(self.to_send[0][:size]))
            self.credit -= size
            self.to_send[0] = self.to_send[0][size:]
            if not self.to_send[0]:
                self.to_send.popleft()

    def signal(self, name):
        self.peer.send(Kinds.SIGNAL, self.number, 0, name.encode())

    def resize(self, rows, columns):
        self.peer.send(Kinds.RESIZE, self.number, 0, struct.pack(">HH", rows, columns))

    def stop(self, part):
        self.peer.send(Kinds.STOP, self.number, part)

    def close(self):
        self.peer.send(Kinds.CLOSE, self.number)

    def grant(self, part, credit):
        self.peer.send(Kinds.CREDIT, self.number, part, struct.pack(">I", credit))

    def wait(self, timeout=20):
        """Wait for the end; returns self."""
        self.peer.wait(lambda: self.closed or self.refused is not None, timeout)
        return self

    def wait_output(self, text, part=1, timeout=10):
        """Wait until `text` has come."""
        self.peer.wait(lambda: text in self.received[part], timeout)
        return self

    @property
    def out(self):
        return bytes(self.received[1])

    @property
    def err(self):
        return bytes(self.received[2])


class Peer:
    """An agent in a terminal, and the other end of it.

    `command` is what runs in the terminal, by default the loader by `python`. `start=False` leaves the start to the
    caller.
    """

    def __init__(self, python=None, command=None, environment=None, start=True, nonce=None, preexec=None, **patches):
        self.nonce = nonce or secrets.token_hex(16)
        self.salt = int(self.nonce[:8], 16)
        self.patches = patches
        command = command or [python, "-BISc", LOADER, self.nonce]
        self.started = time.monotonic()
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            try:
                for number in range(1, 65):
                    try:
                        signal.signal(number, signal.SIG_DFL)
                    except (OSError, ValueError):
                        pass
                if preexec:
                    preexec()
                environment = os.environ if environment is None else environment
                os.execvpe(command[0], command, environment)
            finally:
                os._exit(127)
        fcntl.ioctl(self.fd, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
        os.set_blocking(self.fd, False)
        self.raw = bytearray()
        self.noise = bytearray()
        self.rest = b""
        self.lines = True
        self.out = deque()
        self.writing = b""
        self.expected = self.next = self.unsaid = 0
        self.unacknowledged = deque()
        self.in_flight = 0
        self.streams = {}
        self.number = -1
        self.hello = self.bye = None
        self.resumes, self.asked = 0, (-1, 0)
        self.pongs = []
        #: Kinds of the unnumbered packets that came.
        self.said = []
        self.seen = []
        self.violations = []
        #: The agent may end by an error.
        self.may_fail = False
        #: Of bytes on their way, what is lost: functions from bytes to bytes.
        self.lose_out = self.lose_in = None
        #: Give no acknowledgement.
        self.mute = False
        #: Don't read.
        self.deaf = False
        self.gone = False
        self.status = None
        if start:
            self.start()

    def marker(self, text):
        return b"\x1b]7730;" + self.nonce.encode() + b";" + text + b"\x1b\\"

    def start(self):
        """From `loader` to HELLO."""
        self.wait_raw(self.marker(b"loader"))
        self.before = bytes(self.raw)
        self.send_source()
        self.wait(lambda: self.hello)
        self.ready = time.monotonic()

    def send_source(self):
        self.lines = True
        self.out.append(b"~" + base64.b64encode(source(**self.patches).encode()) + b"\n")

    def wait_raw(self, text, timeout=10):
        """Wait until `text` has come, whatever it is."""
        self.wait(lambda: text in self.raw, timeout)

    # The link

    def room(self):
        return self.in_flight < Kinds.LINK_WINDOW - Kinds.MAX_PAYLOAD

    def say(self, kind, number=0, payload=b""):
        self.out.append(encode(kind, number, 0, 0, payload, self.salt))

    def send(self, kind, stream=0, part=0, payload=b""):
        line = encode(kind, self.next, stream, part, payload, self.salt)
        self.next += 1
        self.unacknowledged.append((line, len(payload)))
        self.in_flight += len(payload)
        self.out.append(line)

    def repeat(self):
        self.writing = b""
        self.out = deque(line for line, _ in self.unacknowledged)

    def resume(self):
        self.resumes += 1
        self.say(Kinds.RESUME, self.expected)

    def open(self, type="process", window=262144, pieces=None, **description):
        """Open a stream."""
        if isinstance(description.get("command"), (bytes, str)):
            command = description["command"]
            command = command.encode() if isinstance(command, str) else command
            description["command"] = base64.b64encode(command).decode()
        return self.open_by(json.dumps({"type": type, "window": window, **description}).encode(), pieces)

    def open_by(self, text, pieces=None):
        """Open a stream by a description as it is."""
        self.number += 2
        stream = self.streams[self.number] = Stream(self, self.number)
        size = pieces or Kinds.MAX_PAYLOAD
        while len(text) > size:
            self.send(Kinds.OPENING, self.number, 0, text[:size])
            text = text[size:]
        self.send(Kinds.OPEN, self.number, 0, text)
        return stream

    def run(self, command, stdin=b"", timeout=20, **description):
        """Run a command to its end."""
        stream = self.open(command=command, **description)
        if stdin:
            stream.write(stdin)
        stream.eof()
        return stream.wait(timeout)

    def wait(self, condition, timeout=20):
        """Move bytes until `condition` holds."""
        end = time.monotonic() + timeout
        while not condition():
            if self.gone:
                raise Gone(f"noise: {bytes(self.noise[-2000:])!r} raw: {bytes(self.raw[-500:])!r} bye: {self.bye}")
            if time.monotonic() > end:
                raise TimeoutError(f"noise: {bytes(self.noise[-2000:])!r} raw: {bytes(self.raw[-500:])!r} {self.bye}")
            self.pump(min(1.0, end - time.monotonic()))
        return True

    def idle(self, seconds):
        """Move bytes for a while."""
        end = time.monotonic() + seconds
        while time.monotonic() < end and not self.gone:
            self.pump(max(0, end - time.monotonic()))

    def pump(self, timeout=0.1):
        """Read and write what can be."""
        events = 0 if self.deaf else select.POLLIN
        poll = select.poll()
        poll.register(self.fd, events | (select.POLLOUT if self.out or self.writing else 0))
        for _, events in poll.poll(min(timeout, 0.04) * 1000 + 1):
            if events & select.POLLOUT:
                self._write()
            if events & (select.POLLIN | select.POLLHUP | select.POLLERR) and not self.deaf:
                self._read()
        if self.unsaid and not self.mute:
            self.unsaid = 0
            self.say(Kinds.ACK, self.expected)

    def _write(self):
        if not self.writing:
            if not self.out:
                return
            self.writing = self.out.popleft()
            if self.lose_in:
                self.writing = self.lose_in(self.writing)
        try:
            self.writing = memoryview(self.writing)[os.write(self.fd, self.writing) :]
        except BlockingIOError:
            pass
        except OSError:
            self.gone = True

    def _read(self):
        pieces = []
        for _ in range(16):
            try:
                data = os.read(self.fd, 1 << 20)
            except BlockingIOError:
                break
            except OSError:
                data = b""
            if not data:
                self.gone = True
                self.noise += self.rest
                break
            pieces.append(data)
        data = b"".join(pieces)
        if self.lose_out:
            data = self.lose_out(data)
        if not self.hello:
            self.raw += data
        *lines, self.rest = (self.rest + data).split(b"\n")
        for line in lines:
            packet = decode(line, self.salt) if b"~" in line else None
            if packet is None:
                self.noise += line
                if b"~" in line and self.hello:
                    self._missing()
            else:
                self._packet(*packet)

    def _missing(self):
        now = time.monotonic()
        if self.asked[0] != self.expected or now - self.asked[1] > 0.1:
            self.asked = (self.expected, now)
            self.resume()

    def _packet(self, kind, number, stream, part, payload):
        if kind < Kinds.FIRST_NUMBERED:
            self._unnumbered(kind, number, payload)
            return
        if number != self.expected:
            if number > self.expected:
                self._missing()
            return
        self.expected += 1
        self.unsaid += 1
        self.seen.append((kind, stream, part, len(payload)))
        one = self.streams[stream]
        if one.closed:
            self.violations.append(f"kind {kind} after CLOSE")
        if kind == Kinds.OPENED:
            one.credit = json.loads(payload)["window"]
            one.push()
        elif kind == Kinds.REFUSED:
            one.refused = json.loads(payload)["error"]
        elif kind == Kinds.DATA:
            if part in one.ends:
                self.violations.append("DATA after EOF")
            one.counts[part] += len(payload)
            if one.sink:
                one.sink(part, payload)
            elif one.keep:
                one.received[part] += payload
            if one.generous:
                one.grant(part, len(payload))
        elif kind == Kinds.EOF:
            one.ends.add(part)
        elif kind == Kinds.CREDIT:
            one.credit += int.from_bytes(payload, "big")
            one.push()
        elif kind == Kinds.STOP:
            one.stopped = True
        elif kind == Kinds.EXIT:
            one.exit = json.loads(payload)
        elif kind == Kinds.CLOSE:
            one.closed = True
        else:
            self.violations.append(f"kind {kind}")

    def _unnumbered(self, kind, number, payload):
        self.said.append(kind)
        if kind in (Kinds.ACK, Kinds.RESUME):
            while self.unacknowledged and self.next - len(self.unacknowledged) < number:
                self.in_flight -= self.unacknowledged.popleft()[1]
            if kind == Kinds.RESUME:
                self.repeat()
            for stream in list(self.streams.values()):
                stream.push()
        elif kind == Kinds.HELLO:
            self.hello = json.loads(payload)
        elif kind == Kinds.BYE:
            self.bye = payload.decode()
        elif kind == Kinds.PONG:
            self.pongs.append(number)
        elif kind == Kinds.PING:
            self.say(Kinds.PONG, number)

    # The end

    def end(self, timeout=10):
        """Say goodbye; returns the seconds until the terminal has closed."""
        began = time.monotonic()
        self.say(Kinds.BYE, 0, b"done")
        self.wait_gone(timeout)
        return time.monotonic() - began

    def wait_gone(self, timeout=10):
        """Wait until the terminal has closed: the agent and its guardian have ended."""
        end = time.monotonic() + timeout
        while not self.gone and time.monotonic() < end:
            self.pump()
        assert self.gone, "the terminal is still open"

    def reap(self):
        """The exit status of the terminal's process."""
        if self.status is None:
            _, self.status = os.waitpid(self.pid, 0)
        return self.status

    def close(self):
        """Close the terminal, as the Jupyter server does."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1
        if self.status is None:
            deadline = time.monotonic() + 3
            while time.monotonic() < deadline:
                pid, status = os.waitpid(self.pid, os.WNOHANG)
                if pid:
                    self.status = status
                    return
                time.sleep(0.01)
            os.kill(self.pid, signal.SIGKILL)
            self.reap()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
