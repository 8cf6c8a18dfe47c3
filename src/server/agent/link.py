# The agent: carries the streams of an SSH connection over a terminal (docs/mux.md).
# Standard library only, Python >= 3.6. loader.py runs it, after protocol.py in one source. A
# section between two lines "#---" is compiled when it is needed. For a quick start imports are few,
# and the modules are those in C below the usual ones (posix for os, _signal for signal, …).
import posix, select, sys
from _collections import deque
from binascii import a2b_base64, b2a_base64, crc32
from time import monotonic

SALT = int(NONCE[:8], 16)
HEAD = 14
# The longest candidate: base64 of the longest packet.
MAX_LINE = (HEAD + MAX_PAYLOAD + 4 + 2) // 3 * 4
NOTICE = b"\r\nThis terminal carries an SSH connection (jupyterhub-openssh). What is typed here goes nowhere.\r\n"

poll = select.poll()
handlers = {}


def watch(fd, events, handler):
    handlers[fd] = handler
    poll.register(fd, events)


def unwatch(fd):
    if handlers.pop(fd, None):
        poll.unregister(fd)


class Violation(Exception):
    """The other end broke the protocol."""


def quoted(text):
    """Return a text as JSON in ASCII."""
    return '"%s"' % "".join(
        c if " " <= c <= "~" and c not in '"\\' else "\\u%04x" % (ord(c) if ord(c) < 65536 else 65533) for c in text)


class Link:
    """The numbered and acknowledged packets, in both directions."""

    def __init__(self, fd):
        self.fd = fd
        self.now = self.heard = self.progress = monotonic()
        # Input: pieces of an incomplete line, and the number of the next packet.
        self.pieces, self.size = [], 0
        self.expected = 0
        self.unsaid, self.ack_due = 0, None
        self.asked, self.asked_at = -1, 0.0
        self.noticed, self.notice = -1e9, False
        # Output: lines without their "~", what is being written, what isn't acknowledged.
        self.out, self.writing, self.blocked = deque(), None, False
        self.next = 0
        self.unacknowledged, self.in_flight = deque(), 0
        # Called when the window has room again.
        self.waiting = deque()
        self.receivers = {}

    def packet(self, kind, number, stream, part, payload):
        head = b"".join((bytes((kind,)), number.to_bytes(8, "big"), stream.to_bytes(4, "big"), bytes((part,))))
        check = crc32(payload, crc32(head, SALT))
        return b2a_base64(b"".join((head, payload, check.to_bytes(4, "big"))))

    def say(self, kind, number=0, payload=b""):
        """Send an unnumbered packet."""
        self.out.append(self.packet(kind, number, 0, 0, payload))

    def send(self, kind, stream, part=0, payload=b""):
        """Send a numbered packet. Only bulk data heed the window; other payloads are small."""
        line = self.packet(kind, self.next, stream, part, payload)
        if not self.unacknowledged:
            self.progress = self.now
        self.next += 1
        self.unacknowledged.append((line, len(payload)))
        self.in_flight += len(payload)
        self.out.append(line)

    def flush(self):
        """Write as much as the terminal takes."""
        while self.writing or self.out or self.notice:
            if not self.writing:
                if self.notice:
                    lines, self.notice = [NOTICE], False
                else:
                    lines, size = [b""], 0
                    while self.out and size < 49152:
                        lines.append(self.out.popleft())
                        size += len(lines[-1])
                self.writing = memoryview(b"~".join(lines))
            try:
                self.writing = self.writing[posix.write(self.fd, self.writing):]
            except BlockingIOError:
                return self.block(True)
            except OSError:
                raise EOFError("the terminal has closed")
        self.block(False)

    def block(self, blocked):
        if blocked != self.blocked:
            self.blocked = blocked
            poll.modify(self.fd, select.POLLIN | select.POLLOUT if blocked else select.POLLIN)

    def room(self):
        """Return how many bytes of bulk data may be sent; 0 rather than a few."""
        room = LINK_WINDOW - self.in_flight
        return room if room >= 8192 else 0

    def acknowledged(self, number):
        if number > self.next:
            raise Violation("packet %d was acknowledged and never sent" % number)
        done = number - self.next + len(self.unacknowledged)
        if done <= 0:
            return
        self.progress = self.now
        for _ in range(done):
            self.in_flight -= self.unacknowledged.popleft()[1]
        # In turns; one that finds no room left waits again.
        for _ in range(len(self.waiting) if self.room() else 0):
            self.waiting.popleft()()

    def repeat(self):
        """Send again what isn't acknowledged. A partial line stays: the next "~" begins anew."""
        self.writing = None
        self.out = deque(line for line, _ in self.unacknowledged)
        self.progress = self.now
        # An ACK may have waited in the old queue.
        self.acknowledge()

    def acknowledge(self):
        self.unsaid, self.ack_due = 0, None
        self.say(ACK, self.expected)

    def missing(self):
        """Ask for what was lost, but not again before progress or a while has passed."""
        if self.asked != self.expected or self.now - self.asked_at >= RESUME_MILLISECONDS / 1000:
            self.asked, self.asked_at = self.expected, self.now
            self.say(RESUME, self.expected)

    def noise(self):
        """Tell somebody who typed what this is, but not all the time."""
        if self.now - self.noticed >= 5:
            self.noticed, self.notice = self.now, True

    def readable(self, events):
        if events == select.POLLOUT:
            return
        for _ in range(16):
            try:
                data = posix.read(self.fd, 65536)
            except BlockingIOError:
                break
            except OSError:
                data = b""
            if not data:
                raise EOFError("the terminal has closed")
            self.heard = self.now
            self.take(data)
        # Typed text has no line feed, and doesn't begin a line of ours.
        if self.pieces and self.pieces[0][:1] != b"~" or self.size > MAX_LINE + 1:
            self.tidy()

    def take(self, data):
        """Split input into lines."""
        if b"\n" in data:
            first, *lines, rest = data.split(b"\n")
            if self.pieces:
                self.pieces.append(first)
                first = b"".join(self.pieces)
            self.line(first)
            for line in lines:
                self.line(line)
            self.pieces, self.size = [], 0
        else:
            rest = data
        if rest:
            self.pieces.append(rest)
            self.size += len(rest)

    def tidy(self):
        """Keep only the part of an incomplete line that may become a packet."""
        text = b"".join(self.pieces)
        start = text.rfind(b"~")
        # A lone return comes from the gateway now and then.
        if text[:1] not in (b"~", b"\r"):
            self.noise()
        if start < 0 or len(text) - start > MAX_LINE + 1:
            if start >= 0:
                self.missing()
            start = len(text)
        self.pieces, self.size = [text[start:]] if text[start:] else [], len(text) - start

    def line(self, line):
        start = line.rfind(b"~")
        if start:
            if line[:1] not in (b"~", b"\r", b""):
                self.noise()
            if start < 0:
                return
        candidate = memoryview(line)[start + 1:]
        try:
            packet = a2b_base64(candidate)
        except ValueError:
            return self.missing()
        # a2b_base64 skips what isn't base64: then the length doesn't fit.
        end = len(packet) - 4
        if (not HEAD <= end <= HEAD + MAX_PAYLOAD or (end + 6) // 3 * 4 != len(candidate)
                or crc32(memoryview(packet)[:end], SALT) != int.from_bytes(packet[end:], "big")):
            return self.missing()
        kind, number = packet[0], int.from_bytes(packet[1:9], "big")
        if kind < FIRST_NUMBERED:
            return self.unnumbered(kind, number, packet[HEAD:end])
        if number != self.expected:
            if number > self.expected:
                return self.missing()
            self.ack_due = self.ack_due or self.now + ACK_MILLISECONDS / 1000
            return
        self.expected += 1
        self.unsaid += end - HEAD
        if self.unsaid >= ACK_BYTES:
            self.acknowledge()
        elif self.ack_due is None:
            self.ack_due = self.now + ACK_MILLISECONDS / 1000
        receiver = self.receivers.get(kind)
        if not receiver:
            raise Violation("no packet of kind %d was expected" % kind)
        receiver(int.from_bytes(packet[9:13], "big"), packet[13], memoryview(packet)[HEAD:end])

    def unnumbered(self, kind, number, payload):
        if kind == ACK:
            self.acknowledged(number)
        elif kind == RESUME:
            self.acknowledged(number)
            self.repeat()
        elif kind == PING:
            self.say(PONG, number)
        elif kind == BYE:
            raise EOFError("goodbye")
        elif kind != PONG:
            raise Violation("no packet of kind %d was expected" % kind)

    def timeout(self):
        """Return the seconds until something is due."""
        due = self.heard + AGENT_PATIENCE_SECONDS
        if self.unacknowledged:
            due = min(due, self.progress + REPEAT_SECONDS)
        if self.ack_due is not None:
            due = min(due, self.ack_due)
        return max(0, due - self.now)

    def tick(self):
        """Do what is due."""
        if self.ack_due is not None and self.now >= self.ack_due:
            self.acknowledge()
        if self.unacknowledged and self.now - self.progress >= REPEAT_SECONDS:
            self.repeat()
        if self.now - self.heard >= AGENT_PATIENCE_SECONDS:
            raise EOFError("nothing was heard for %d s" % AGENT_PATIENCE_SECONDS)


def encoded(text):
    """Return a text as bytes for the system: names may be any bytes."""
    return text.encode(sys.getfilesystemencoding(), "surrogateescape") if isinstance(text, str) else text


def passwd(field):
    """Return a field of the user's entry, or nothing: a container's uid may have none."""
    try:
        import pwd
        return encoded(pwd.getpwuid(posix.getuid())[field])
    except Exception:
        return b""


def home():
    """Return the directory in which the user's processes start."""
    return posix.environ.get(b"HOME") or passwd(5) or b"/"


def shell():
    """Return the user's shell, as in the server's own terminals; nologin and false don't count."""
    for get in (lambda: posix.environ.get(b"SHELL"), lambda: passwd(6), lambda: b"/bin/bash", lambda: b"/usr/bin/bash"):
        path = get()
        if path and path[:1] == b"/" and path.rpartition(b"/")[2] not in (b"nologin", b"false"):
            if posix.access(path, posix.X_OK):
                return path
    return b"/bin/sh"


def sftp_server():
    """Return the path of the image's own SFTP server, or None."""
    for path in ("/usr/lib/openssh/sftp-server", "/usr/libexec/openssh/sftp-server", "/usr/lib/ssh/sftp-server",
                 "/usr/libexec/sftp-server", "/usr/lib/sftp-server"):
        if posix.access(path, posix.X_OK):
            return path
    return None


def terminal():
    """Open the terminal anew, so that no other process's becomes non-blocking; else dup it."""
    for path in (lambda: posix.ttyname(0), lambda: "/proc/self/fd/0"):
        try:
            return posix.open(path(), posix.O_RDWR | posix.O_NOCTTY | posix.O_NONBLOCK)
        except OSError:
            pass
    fd = posix.dup(0)
    posix.set_blocking(fd, False)
    return fd


def main():
    global link
    link = Link(terminal())
    server = sftp_server()
    link.say(HELLO, 0, ('{"version":1,"python":"%d.%d.%d","pid":%d,"home":%s,"shell":%s,"sftp_server":%s}' % (
        *sys.version_info[:3], posix.getpid(), quoted(home().decode("utf-8", "replace")),
        quoted(shell().decode("utf-8", "replace")), quoted(server) if server else "null")).encode())
    watch(link.fd, select.POLLIN, link.readable)
    link.flush()
    need(1)
    serve()


def need(section):
    """Compile a section, once."""
    if SECTIONS[section]:
        code, SECTIONS[section] = compile(SECTIONS[section], "agent", "exec"), None
        exec(code, globals())
