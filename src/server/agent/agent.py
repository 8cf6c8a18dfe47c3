# The agent: carries the streams of an SSH connection over a terminal, as docs/mux.md says. Standard library only,
# Python >= 3.6. protocol.py comes before it in one source, loader.py runs it. The text between two lines "#---" is
# compiled when it is needed, and a start is quick because little is: so imports are few, and modules are those
# of C below the ones that everybody uses (posix for os, _signal for signal, …).
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
    """The other end doesn't keep to the protocol."""


def quoted(text):
    """A text as JSON, of ASCII."""
    return '"%s"' % "".join(
        c if " " <= c <= "~" and c not in '"\\' else "\\u%04x" % (ord(c) if ord(c) < 65536 else 65533) for c in text)


class Link:
    """The numbered and acknowledged packets, in both directions."""

    def __init__(self, fd):
        self.fd = fd
        self.now = self.heard = self.progress = monotonic()
        # What comes in: the pieces of a line that isn't complete, and how far the packets are.
        self.pieces, self.size = [], 0
        self.expected = 0
        self.unsaid, self.ack_due = 0, None
        self.asked, self.asked_at = -1, 0.0
        self.noticed, self.notice = -1e9, False
        # What goes out: lines without their "~", what is being written, what may have to be repeated.
        self.out, self.writing, self.blocked = deque(), None, False
        self.next = 0
        self.unacknowledged, self.in_flight = deque(), 0
        # Those who would send, but for the window: called when there is room.
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
        """Send a numbered packet. Only those who send bulk heed the window; the others' payload is small."""
        line = self.packet(kind, self.next, stream, part, payload)
        if not self.unacknowledged:
            self.progress = self.now
        self.next += 1
        self.unacknowledged.append((line, len(payload)))
        self.in_flight += len(payload)
        self.out.append(line)

    def flush(self):
        """Write what the terminal takes."""
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
        """How much bulk may be sent; nothing rather than crumbs."""
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
        # In turns; who finds no room any more waits again.
        for _ in range(len(self.waiting) if self.room() else 0):
            self.waiting.popleft()()

    def repeat(self):
        """Send again what isn't acknowledged. A line that is written in part is left so: the next "~" begins anew."""
        self.writing = None
        self.out = deque(line for line, _ in self.unacknowledged)
        self.progress = self.now
        # One may have waited to be written.
        self.acknowledge()

    def acknowledge(self):
        self.unsaid, self.ack_due = 0, None
        self.say(ACK, self.expected)

    def missing(self):
        """Something was lost: ask for it, but not again before progress or a while has passed."""
        if self.asked != self.expected or self.now - self.asked_at >= RESUME_MILLISECONDS / 1000:
            self.asked, self.asked_at = self.expected, self.now
            self.say(RESUME, self.expected)

    def noise(self):
        """Somebody typed: say what this is, but not all the time."""
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
        # What is typed has no line feed, and is no line's beginning.
        if self.pieces and self.pieces[0][:1] != b"~" or self.size > MAX_LINE + 1:
            self.tidy()

    def take(self, data):
        """Cut what came into lines."""
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
        """Of an incomplete line keep what may become one."""
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
        # a2b_base64 passes over what isn't base64: then the length doesn't fit.
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
        """Seconds until there is something to do."""
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
    """A text as the system has it: names may be any bytes."""
    return text.encode(sys.getfilesystemencoding(), "surrogateescape") if isinstance(text, str) else text


def passwd(field):
    """A field of the user's entry, or nothing: containers run under uids that nobody has."""
    try:
        import pwd
        return encoded(pwd.getpwuid(posix.getuid())[field])
    except Exception:
        return b""


def home():
    """Where the user's processes begin."""
    return posix.environ.get(b"HOME") or passwd(5) or b"/"


def shell():
    """The user's shell, as the server's own terminals have it. One that only says goodbye is none."""
    for get in (lambda: posix.environ.get(b"SHELL"), lambda: passwd(6), lambda: b"/bin/bash", lambda: b"/usr/bin/bash"):
        path = get()
        if path and path[:1] == b"/" and path.rpartition(b"/")[2] not in (b"nologin", b"false"):
            if posix.access(path, posix.X_OK):
                return path
    return b"/bin/sh"


def sftp_server():
    """The image's own SFTP server."""
    for path in ("/usr/lib/openssh/sftp-server", "/usr/libexec/openssh/sftp-server", "/usr/lib/ssh/sftp-server",
                 "/usr/libexec/sftp-server", "/usr/lib/sftp-server"):
        if posix.access(path, posix.X_OK):
            return path
    return None


def terminal():
    """The terminal by a description of its own, so that nobody else's becomes non-blocking; else the one we have."""
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


#---
# The streams, and processes without a terminal.
import _signal
import gc
from fcntl import fcntl

WINDOW = 524288
F_SETPIPE_SZ = 1031
streams = {}
opening = {}
# Children, each with its stream, or with nothing when nobody waits for its status.
children = {}
last = -1
SIGNALS = {}


def set_nonblocking(*descriptors):
    for fd in descriptors:
        posix.set_blocking(fd, False)


class Source:
    """A part that the agent sends: what a descriptor has to be read."""

    def __init__(self, stream, part, fd, credit):
        self.stream, self.part, self.fd, self.credit = stream, part, fd, credit
        self.watched = self.queued = False
        # The process behind a terminal has ended: what can be read now is all.
        self.final = False
        stream.sources[part] = self
        self.resume()

    def resume(self):
        """There is room in the window again, or credit."""
        self.queued = False
        if self.fd >= 0 and self.credit and not self.watched:
            self.watched = True
            watch(self.fd, select.POLLIN, self.readable)
            if self.final:
                self.readable(0)

    def pause(self):
        if self.watched:
            self.watched = False
            unwatch(self.fd)

    def readable(self, events):
        while self.read() and self.final:
            pass

    def read(self):
        """Read once and send it. False: that was all for now."""
        room = link.room()
        if not room:
            self.pause()
            if not self.queued:
                self.queued = True
                link.waiting.append(self.resume)
            return False
        try:
            data = posix.read(self.fd, min(MAX_PAYLOAD, self.credit, room))
        except BlockingIOError:
            if self.final:
                self.end()
            return False
        except OSError:
            data = b""
        if not data:
            self.end()
            return False
        self.credit -= len(data)
        link.send(DATA, self.stream.number, self.part, data)
        if not self.credit:
            self.pause()
        return self.credit > 0

    def grant(self, credit):
        self.credit += credit
        if self.credit > MAX_CREDIT:
            raise Violation("too much credit")
        if not self.queued:
            self.resume()

    def close(self):
        if self.fd >= 0:
            self.pause()
            posix.close(self.fd)
            self.fd = -1

    def end(self):
        """There is no more."""
        self.close()
        del self.stream.sources[self.part]
        link.send(EOF, self.stream.number, self.part)
        self.stream.settle()


class Sink:
    """The part that the agent receives: a descriptor to be written to."""

    def __init__(self, stream, fd):
        self.stream, self.fd = stream, fd
        self.granted, self.consumed = WINDOW, 0
        self.pending = deque()
        self.complete = False

    def data(self, payload):
        size = len(payload)
        self.granted -= size
        if self.granted < 0:
            raise Violation("more data than credit")
        if self.fd < 0 or self.complete:
            return
        if not self.pending:
            payload = self.write(payload)
            if payload is None:
                return
            if payload:
                watch(self.fd, select.POLLOUT, self.writable)
        if payload:
            self.pending.append(payload)

    def write(self, data):
        """Write, and return the rest; nothing when the reader is gone."""
        try:
            n = posix.write(self.fd, data)
        except BlockingIOError:
            return data
        except OSError:
            return self.stop()
        self.consumed += n
        if self.consumed >= WINDOW // 4:
            self.granted += self.consumed
            link.send(CREDIT, self.stream.number, 0, self.consumed.to_bytes(4, "big"))
            self.consumed = 0
        return data[n:]

    def writable(self, events):
        while self.pending:
            rest = self.write(self.pending[0])
            if rest is None:
                return
            if rest:
                self.pending[0] = rest
                return
            self.pending.popleft()
        unwatch(self.fd)
        if self.complete:
            self.finish()

    def eof(self):
        self.complete = True
        if self.fd >= 0 and not self.pending:
            self.finish()

    def finish(self):
        """All is written."""
        self.stream.half_close(self)
        self.stream.settle()

    def stop(self):
        """Its reader is gone."""
        if self.fd >= 0:
            self.close()
            if not self.complete:
                link.send(STOP, self.stream.number, 0)
            self.stream.settle()

    def close(self):
        if self.fd >= 0:
            unwatch(self.fd)
            posix.close(self.fd)
            self.fd = -1
            self.pending.clear()


class Stream:
    """What all kinds of streams have in common, and what processes have."""

    #: Its terminal's other side, if it has one.
    tty = -1

    def __init__(self, number, pid=0):
        self.number, self.pid = number, pid
        self.sources, self.sink = {}, None
        if pid:
            children[pid] = self
        streams[number] = self

    def opened(self):
        link.send(OPENED, self.number, 0, b'{"window":%d}' % WINDOW)

    def half_close(self, sink):
        sink.close()

    def reaped(self, status):
        """The process has ended. What it wrote comes still."""
        self.pid = 0
        link.send(EXIT, self.number, 0, outcome(status).encode())
        if self.sink:
            self.sink.stop()
        if self.tty >= 0:
            # Its descendants may hold the terminal, and sshd doesn't wait for them either.
            for source in list(self.sources.values()):
                source.final = True
                if source.watched:
                    source.readable(0)
        self.settle()

    def stop(self, source):
        """The other end wants no more of a part. Of a terminal's nothing is read then, as with sshd."""
        source.close()
        del self.sources[source.part]
        self.settle()

    def over(self):
        return not self.pid and not self.sources

    def settle(self):
        """The last word, when everything else has been said."""
        if self.number in streams and self.over():
            self.release()
            link.send(CLOSE, self.number)

    def release(self):
        """Close everything."""
        for source in self.sources.values():
            source.close()
        if self.sink:
            self.sink.close()
        if self.tty >= 0:
            posix.close(self.tty)
        streams.pop(self.number, None)

    def abandon(self):
        """Nobody is interested any more."""
        self.release()
        if self.pid:
            children[self.pid] = None
            hang_up(self.pid)
        link.send(CLOSE, self.number)


def outcome(status):
    """A status of waitpid as JSON."""
    if posix.WIFSIGNALED(status):
        number = posix.WTERMSIG(status)
        names()
        return '{"signal":"%s"}' % SIGNALS.get(number, "RT%d" % number)
    return '{"status":%d}' % posix.WEXITSTATUS(status)


def names():
    """Signals' names by number."""
    if not SIGNALS:
        for name in dir(_signal):
            if name[:3] == "SIG" and name.isalnum() and name not in ("SIGCLD", "SIGIOT", "SIGPOLL"):
                SIGNALS[int(getattr(_signal, name))] = name[3:]


def send(pid, number):
    try:
        posix.kill(pid, number)
    except OSError:
        return False
    return True


def send_group(pid, number):
    """To the group of a child that runs; it may not have made it yet."""
    return send(-pid, number) or send(pid, number)


def hang_up(pid):
    send_group(pid, _signal.SIGHUP)
    send_group(pid, _signal.SIGCONT)


def parse(text):
    """JSON. The module json takes longer to import than all of us; what it stands on doesn't."""
    try:
        from _json import make_scanner

        class Context:
            strict, memo = True, {}
            object_hook = object_pairs_hook = array_hook = None
            parse_float, parse_int, parse_constant = float, int, float
        value, end = make_scanner(Context)(text, 0)
    except (ImportError, AttributeError):
        import json
        return json.loads(text)
    except StopIteration:
        raise ValueError("no JSON")
    if text[end:].strip():
        raise ValueError("no JSON")
    return value


def receive_opening(number, part, payload):
    pieces = opening.setdefault(number, [])
    pieces.append(payload)
    if number % 2 == 0 or number <= last or sum(map(len, pieces)) > MAX_DESCRIPTION or len(opening) > 16:
        raise Violation("a stream can't be opened so")


def receive_open(number, part, payload):
    global last
    receive_opening(number, part, payload)
    last = number
    text = b"".join(opening.pop(number))
    made = []
    try:
        description = parse(text.decode())
        window = description["window"]
        if not 0 <= window <= MAX_CREDIT:
            raise ValueError("window")
        if description["type"] == "process" and "tty" not in description:
            run_process(number, description, window, made)
        else:
            need(2)
            OPENERS[description["type"]](number, description, window, made)
    except Exception as error:
        for fd in made:
            posix.close(fd)
        refuse(number, reason(error))


def reason(error):
    """An error for people."""
    return (isinstance(error, OSError) and error.strerror or
            "the description of the stream is malformed (%s: %s)" % (type(error).__name__, error))


def refuse(number, why):
    link.send(REFUSED, number, 0, ('{"error":%s}' % quoted(why[:500])).encode())


def pipe(made, ours):
    """A pipe whose end `ours` doesn't block: (to read, to write)."""
    ends = posix.pipe()
    made.extend(ends)
    try:
        fcntl(ends[0], F_SETPIPE_SZ, WINDOW)
    except OSError:
        pass
    posix.set_blocking(ends[ours], False)
    return ends


def command_of(description):
    """What the shell is to run; nothing for a login shell."""
    command = description.get("command")
    if command is not None:
        command = a2b_base64(command)
        if b"\0" in command:
            raise ValueError("the command has a NUL")
    return command


def environment_of(description):
    return {encoded(name): encoded(value) for name, value in description.get("environment", {}).items()}


def run_process(number, description, window, made):
    command, wanted = command_of(description), environment_of(description)
    pipes = pipe(made, 1), pipe(made, 0), pipe(made, 0)
    theirs = pipes[0][0], pipes[1][1], pipes[2][1]
    stream = Stream(number, start(theirs, lambda: execute(command, surroundings(wanted, False))))
    for fd in theirs:
        posix.close(fd)
    stream.opened()
    stream.sink = Sink(stream, pipes[0][1])
    Source(stream, 1, pipes[1][0], window)
    Source(stream, 2, pipes[2][0], window)


def start(descriptors, run):
    """Fork; the child calls `run` in a session of its own, with these as standard input, output and error."""
    # A signal that comes before the child is ready for it is kept, not lost.
    # 32 to 34 may be the C library's own (signal(7)), and Python before 3.6.6 says so by an exception.
    _signal.pthread_sigmask(_signal.SIG_BLOCK, [n for n in range(1, _signal.NSIG) if not 31 < n < 35])
    pid = -1
    try:
        pid = posix.fork()
    finally:
        if pid:
            _signal.pthread_sigmask(_signal.SIG_SETMASK, ())
    if pid:
        children[pid] = None
        return pid
    try:
        _signal.set_wakeup_fd(-1)
        for number in range(1, _signal.NSIG):
            try:
                _signal.signal(number, _signal.SIG_DFL)
            except (OSError, ValueError):
                pass
        posix.setsid()
        for number, fd in enumerate(descriptors):
            posix.dup2(fd, number)
        _signal.pthread_sigmask(_signal.SIG_SETMASK, ())
        run()
    except BaseException as error:
        try:
            posix.write(2, ("jupyterhub-openssh: %s\n" % error).encode("utf-8", "replace"))
        except OSError:
            pass
    finally:
        posix._exit(1)


def execute(command, environment):
    """Become the shell, as OpenSSH's session.c does."""
    program, directory = shell(), environment[b"HOME"]
    try:
        posix.chdir(directory)
    except (OSError, ValueError) as error:
        posix.write(2, b"Could not chdir to home directory %s: %s\n" % (directory, str(error.strerror).encode()))
        posix.chdir("/")
    environment[b"SHELL"] = program
    name = program.rpartition(b"/")[2]
    try:
        posix.execve(program, [b"-" + name] if command is None else [name, b"-c", command], environment)
    except OSError as error:
        posix.write(2, b"%s: %s\n" % (program, error.strerror.encode()))


LOCALES = (b"LANG", b"LC_ALL", b"LC_ADDRESS", b"LC_COLLATE", b"LC_CTYPE", b"LC_IDENTIFICATION", b"LC_MEASUREMENT",
           b"LC_MESSAGES", b"LC_MONETARY", b"LC_NAME", b"LC_NUMERIC", b"LC_PAPER", b"LC_TELEPHONE", b"LC_TIME")


def surroundings(wanted, tty):
    """The environment of a process: that of the server's terminals, and what the client said. In the child."""
    try:
        # Python itself sets LC_CTYPE where there is no locale.
        with_nul = slurp("/proc/self/environ")
        environment = dict(entry.partition(b"=")[::2] for entry in with_nul.split(b"\0") if b"=" in entry)
    except OSError:
        environment = dict(posix.environ)
    for name in (b"COLUMNS", b"LINES", b"PYXTERM_DIMENSIONS", b"SHLVL", b"OLDPWD", b"PWD", b"_"):
        environment.pop(name, None)
    if not tty:
        environment.pop(b"TERM", None)
        wanted.pop(b"TERM", None)
    environment.setdefault(b"HOME", home())
    everything = environment.get(b"LC_ALL")
    good = everything or environment.get(b"LANG")
    for name, value in wanted.items():
        if name == b"TERM":
            need(2)
            value = terminal_type(value, environment)
        elif name in LOCALES:
            # A locale that this host lacks would turn UTF-8 off; and the server's own LC_ALL would hide it.
            if value != good:
                try:
                    import _locale
                    _locale.setlocale(_locale.LC_ALL, value.decode("ascii"))
                except (ImportError, ValueError, _locale.Error):
                    continue
                good = value
            if everything:
                environment.pop(b"LC_ALL", None)
                everything = None
        environment[name] = value
    return environment


def slurp(path):
    fd = posix.open(path, posix.O_RDONLY)
    try:
        return b"".join(iter(lambda: posix.read(fd, 65536), b""))
    finally:
        posix.close(fd)


def known(number):
    """The stream of a packet; nothing if it is over."""
    if number > last or number % 2 == 0:
        raise Violation("stream %d was never opened" % number)
    return streams.get(number)


def receive_data(number, part, payload):
    stream = known(number)
    if stream and stream.sink and part == 0:
        stream.sink.data(payload)
    elif stream:
        raise Violation("data of a part that isn't open")


def receive_eof(number, part, payload):
    stream = known(number)
    if stream and stream.sink:
        stream.sink.eof()


def receive_credit(number, part, payload):
    stream = known(number)
    source = stream and stream.sources.get(part)
    if source:
        source.grant(int.from_bytes(payload, "big"))


def receive_stop(number, part, payload):
    stream = known(number)
    source = stream and stream.sources.get(part)
    if source:
        stream.stop(source)


def receive_resize(number, part, payload):
    stream = known(number)
    if stream and stream.tty >= 0:
        resize(stream.tty, int.from_bytes(payload[:2], "big"), int.from_bytes(payload[2:4], "big"))


def receive_signal(number, part, payload):
    stream = known(number)
    name = "SIG" + str(payload, "ascii", "replace")
    if stream and stream.pid and name.isalnum() and hasattr(_signal, name):
        send_group(stream.pid, getattr(_signal, name))


def receive_close(number, part, payload):
    stream = known(number)
    if stream:
        stream.abandon()


def reap():
    while children:
        try:
            pid, status = posix.waitpid(-1, posix.WNOHANG)
        except ChildProcessError:
            return
        if not pid:
            return
        stream = children.pop(pid, None)
        if stream:
            stream.reaped(status)


def signalled(events):
    numbers = posix.read(ears, 4096)
    if any(number != _signal.SIGCHLD for number in numbers):
        raise EOFError("signal %d" % max(numbers))
    reap()


def serve():
    global ears
    link.receivers = {OPENING: receive_opening, OPEN: receive_open, DATA: receive_data, EOF: receive_eof,
                      CREDIT: receive_credit, STOP: receive_stop, RESIZE: receive_resize, SIGNAL: receive_signal,
                      CLOSE: receive_close}
    gc.enable()
    null = posix.open("/dev/null", posix.O_RDWR)
    for fd in range(3):
        posix.dup2(null, fd)
    ears, mouth = posix.pipe()
    set_nonblocking(ears, mouth)
    _signal.set_wakeup_fd(mouth)
    for number in (_signal.SIGCHLD, _signal.SIGHUP, _signal.SIGTERM):
        _signal.signal(number, lambda *_: None)
    _signal.pthread_sigmask(_signal.SIG_SETMASK, ())
    for number in (_signal.SIGINT, _signal.SIGQUIT, _signal.SIGTSTP, _signal.SIGTTIN, _signal.SIGTTOU, _signal.SIGPIPE):
        _signal.signal(number, _signal.SIG_IGN)
    watch(ears, select.POLLIN, signalled)
    posix.chdir("/")
    try:
        link.take(LEFT)
        while True:
            link.flush()
            ready = poll.poll(link.timeout() * 1000 + 1)
            link.now = monotonic()
            for fd, events in ready:
                # It may have been closed a moment ago.
                handler = handlers.get(fd)
                if handler:
                    handler(events)
            link.tick()
    except (Violation, EOFError) as error:
        need(2)
        end(str(error))
    except BaseException:
        need(2)
        finish()
        raise


#---
# The end, and the other kinds of streams.
from fcntl import ioctl


def end(why):
    """Everything ends, the guardian takes over, and so the terminal closes soon."""
    link.writing, link.notice = None, False
    link.out.clear()
    link.say(BYE, 0, why.encode()[:1000])
    try:
        link.flush()
        if link.blocked:
            poll.poll(200)
            link.flush()
    except (OSError, EOFError):
        pass
    finish()
    posix.write(MOUTH, b".")
    posix._exit(0)


def finish():
    """End what the streams run, but not what they have left in the background."""
    for number in (_signal.SIGHUP, _signal.SIGTERM):
        _signal.signal(number, _signal.SIG_IGN)
    gone = list(streams.values())
    for stream in gone:
        stream.release()
    running = [stream.pid for stream in gone if stream.pid]
    for pid in running:
        hang_up(pid)
    if running:
        try:
            if posix.fork() == 0:
                try:
                    bury(running)
                finally:
                    posix._exit(0)
        except OSError:
            for pid in running:
                send(pid, _signal.SIGTERM)


def bury(running):
    """In a process of its own, without the terminal: who doesn't end by the hangup is made to."""
    from time import sleep
    _signal.set_wakeup_fd(-1)
    close_all_but()
    posix.setsid()
    births = {pid: birth(pid) for pid in running}
    for tick in range(61):
        sleep(0.05)
        births = {pid: born for pid, born in births.items() if born and birth(pid) == born}
        if not births:
            return
        if tick in (19, 59):
            for pid in births:
                send(pid, _signal.SIGTERM if tick == 19 else _signal.SIGKILL)


def birth(pid):
    """When a process began: its number may become another's. Nothing if it has ended."""
    try:
        fields = slurp("/proc/%d/stat" % pid).rpartition(b")")[2].split()
        return None if fields[0] in (b"Z", b"X") else fields[19]
    except OSError:
        return None


def close_all_but(*kept):
    """Close what a child that runs no other program has of ours, except standard input, output and error."""
    try:
        descriptors = sorted(map(int, posix.listdir("/proc/self/fd")))
    except OSError:
        descriptors = range(1024)
    for fd in descriptors:
        if fd > 2 and fd not in kept:
            posix.closerange(fd, fd + 1)


def native(number, size):
    return number.to_bytes(size, sys.byteorder)


def resize(fd, rows, columns):
    import termios
    try:
        ioctl(fd, termios.TIOCSWINSZ, native(rows, 2) + native(columns, 2) + bytes(4))
    except OSError:
        pass


# RFC 4254, section 8; the numbers that Python has no name for are Linux's.
CHARACTERS = {1: "VINTR", 2: "VQUIT", 3: "VERASE", 4: "VKILL", 5: "VEOF", 6: "VEOL", 7: "VEOL2", 8: "VSTART",
              9: "VSTOP", 10: "VSUSP", 12: "VREPRINT", 13: "VWERASE", 14: "VLNEXT", 16: "VSWTC", 18: "VDISCARD"}
FLAGS = {30: "IGNPAR", 31: "PARMRK", 32: "INPCK", 33: "ISTRIP", 34: "INLCR", 35: "IGNCR", 36: "ICRNL", 37: "IUCLC",
         38: "IXON", 39: "IXANY", 40: "IXOFF", 41: "IMAXBEL", 42: "IUTF8", 50: "ISIG", 51: "ICANON", 52: "XCASE",
         53: "ECHO", 54: "ECHOE", 55: "ECHOK", 56: "ECHONL", 57: "NOFLSH", 58: "TOSTOP", 59: "IEXTEN", 60: "ECHOCTL",
         61: "ECHOKE", 62: "PENDIN", 70: "OPOST", 71: "OLCUC", 72: "ONLCR", 73: "OCRNL", 74: "ONOCR", 75: "ONLRET",
         90: "CS7", 91: "CS8", 92: "PARENB", 93: "PARODD"}
UNNAMED = {"IUCLC": 0o1000, "IUTF8": 0o40000, "OLCUC": 2, "XCASE": 4, "VSWTC": 7}


def set_modes(fd, modes):
    """Set a terminal's modes as those of the client's."""
    import termios
    attributes = termios.tcgetattr(fd)
    attributes[0] |= UNNAMED["IUTF8"]
    for opcode, value in modes:
        name = CHARACTERS.get(opcode) or FLAGS.get(opcode)
        if opcode in CHARACTERS:
            attributes[6][getattr(termios, name, UNNAMED.get(name))] = bytes((0 if value == 255 else value & 255,))
        elif opcode in FLAGS:
            field = 0 if opcode < 50 else 3 if opcode < 70 else 1 if opcode < 90 else 2
            flag = getattr(termios, name, UNNAMED.get(name, 0))
            if opcode not in (90, 91):
                attributes[field] = attributes[field] | flag if value else attributes[field] & ~flag
            elif value:
                attributes[2] = attributes[2] & ~termios.CSIZE | flag
        elif opcode in (128, 129):
            attributes[opcode - 124] = getattr(termios, "B%d" % value, attributes[opcode - 124])
    termios.tcsetattr(fd, termios.TCSANOW, attributes)


def described(name, environment):
    """Whether this host can describe a terminal type: else curses programs refuse to start."""
    if not name or b"/" in name or b"\0" in name:
        return False
    places = [environment.get(b"HOME", b"") + b"/.terminfo", environment.get(b"TERMINFO", b""),
              *environment.get(b"TERMINFO_DIRS", b"").split(b":"), b"/etc/terminfo", b"/lib/terminfo",
              b"/usr/share/terminfo", encoded(sys.prefix) + b"/share/terminfo"]
    for place in places:
        for letter in (name[:1], b"%x" % name[0]):
            if place and posix.access(b"/".join((place, letter, name)), posix.R_OK):
                return True
    return False


def terminal_type(name, environment):
    """The client's type, or the nearest that this host can describe."""
    types = [name]
    if name.startswith((b"screen", b"tmux")):
        types += [b"screen-256color", b"screen", b"xterm-256color"]
    elif name not in (b"dumb", b"unknown", b"linux") and not (name[:2] == b"vt" and name[2:3].isdigit()):
        types += [b"xterm-256color", b"xterm"]
    for one in types:
        if described(one, environment):
            return one
    return types[1:2][0] if types[1:] else name


def type_ahead(master, slave, typed):
    """Put in what was typed before there was a program, without an echo: the client's terminal has echoed it."""
    import termios
    if not typed:
        return
    before = termios.tcgetattr(slave)
    # That terminal has also erased, translated and so on: only the ends of lines and files mean something again.
    characters = list(before[6])
    for name in ("VERASE", "VKILL", "VEOL", "VEOL2"):
        characters[getattr(termios, name)] = b"\0"
    canonical = before[3] & termios.ICANON
    termios.tcsetattr(slave, termios.TCSANOW, [0] + before[1:3] + [canonical] + before[4:6] + [characters])
    try:
        posix.write(master, typed)
        # The kernel takes it in its own time. A look for input helps, and when there is as much as will be, it has:
        # whole lines, without the marks of their ends (n_tty.c, inq_canon), or everything.
        expected = typed
        if canonical:
            end = before[6][termios.VEOF]
            expected = typed[:max(typed.rfind(b"\n"), typed.rfind(end)) + 1].replace(end, b"")
        look = select.poll()
        look.register(slave, select.POLLIN)
        for _ in range(50):
            look.poll(0)
            if int.from_bytes(ioctl(slave, termios.FIONREAD, bytes(4)), sys.byteorder) >= len(expected):
                break
            select.poll().poll(1)
    finally:
        termios.tcsetattr(slave, termios.TCSANOW, before)


def run_in_terminal(number, description, window, made):
    import termios
    tty = description["tty"]
    command, wanted = command_of(description), environment_of(description)
    master, slave = posix.openpty()
    made += [master, slave]
    set_modes(slave, tty["modes"])
    resize(master, tty["rows"], tty["cols"])
    wanted[b"SSH_TTY"] = encoded(posix.ttyname(slave))
    posix.set_blocking(master, False)
    type_ahead(master, slave, a2b_base64(tty.get("typed", "")))
    # One descriptor for each purpose, as sshd has it: they are watched and closed apart.
    for _ in range(2):
        made.append(posix.dup(master))

    def run():
        ioctl(0, termios.TIOCSCTTY, 0)
        execute(command, surroundings(wanted, True))
    stream = Stream(number, start((slave,) * 3, run))
    posix.close(slave)
    stream.tty = master
    stream.opened()
    stream.sink = Sink(stream, made[2])
    Source(stream, 1, made[3], window)


def run_files(number, description, window, made):
    source, umask = description.get("source"), int(description.get("umask", 0o022))
    pipes = pipe(made, 1), pipe(made, 0)
    theirs = pipes[0][0], pipes[1][1], posix.open("/dev/null", posix.O_RDWR)
    made.append(theirs[2])
    stream = Stream(number, start(theirs, lambda: serve_files(source, umask)))
    for fd in theirs:
        posix.close(fd)
    stream.opened()
    stream.sink = Sink(stream, pipes[0][1])
    Source(stream, 1, pipes[1][0], window)


def serve_files(source, umask):
    """In the child: become the image's SFTP server, or run ours."""
    try:
        posix.chdir(home())
    except OSError:
        posix.chdir("/")
    if source is None:
        posix.execve(sftp_server(), ["sftp-server", "-u", "%03o" % umask], surroundings({}, False))
    close_all_but()
    posix.environ.setdefault(b"HOME", home())
    status = 0
    try:
        exec(compile(source, "files", "exec"), {"__name__": "__main__", "umask": umask})
    except SystemExit as error:
        status = error.code if isinstance(error.code, int) else 1 if error.code else 0
    posix._exit(status)


class Connection(Stream):
    """A connection to a host and port, or to a unix socket."""

    #: What a child that connects will tell; then the connection.
    socket = None

    def over(self):
        return not self.pid and not self.sources and self.sink.fd < 0

    def connecting(self, answer, window):
        self.socket, self.window = answer, window
        answer.setblocking(False)
        watch(answer.fileno(), select.POLLIN, self.connected)

    def connected(self, events):
        """The child has sent the connection, or why there is none."""
        import _socket
        try:
            why, passed = self.socket.recvmsg(1000, _socket.CMSG_SPACE(4), _socket.MSG_CMSG_CLOEXEC)[:2]
        except BlockingIOError:
            return
        self.forget()
        if not passed:
            self.release()
            return refuse(self.number, str(why, "utf-8", "replace") or "the attempt to connect failed")
        fd = int.from_bytes(passed[0][2][:4], sys.byteorder)
        self.socket = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM, 0, fd)
        made = []
        try:
            self.socket.setblocking(False)
            for _ in range(2):
                made.append(posix.dup(fd))
        except OSError as error:
            for fd in made:
                posix.close(fd)
            self.release()
            return refuse(self.number, reason(error))
        self.opened()
        self.sink = Sink(self, made[0])
        Source(self, 1, made[1], self.window)

    def forget(self):
        """The child has done its work, or isn't wanted any more."""
        unwatch(self.socket.fileno())
        self.socket.close()
        self.socket = None
        if self.pid:
            send(self.pid, _signal.SIGKILL)
            children[self.pid] = None
            self.pid = 0

    def reaped(self, status):
        """The child is gone. What it has said, if anything, can be read."""
        # Its number may soon be another's.
        self.pid = 0
        if self.socket and not self.sink:
            self.connected(0)

    def shut(self, how):
        try:
            self.socket.shutdown(how)
        except OSError:
            pass

    def half_close(self, sink):
        sink.close()
        self.shut(1)

    def stop(self, source):
        self.shut(0)
        super().stop(source)

    def release(self):
        if self.socket and not self.sink:
            self.forget()
        super().release()
        if self.socket:
            self.socket.close()


def run_connection(number, description, window, made):
    import _socket
    host, port, path = (description.get(name) for name in ("host", "port", "path"))
    if path is None:
        host, port = encoded(host), int(port)
    else:
        path = encoded(path)
    ours, theirs = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_STREAM, 0)
    # A child connects: to resolve a name takes long, and nothing else may wait.
    stream = Connection(number, start((), lambda: connect(theirs, host, port, path)))
    theirs.close()
    stream.connecting(ours, window)


def connect(answer, host, port, path):
    """In the child: connect, and pass the connection on."""
    import _socket
    close_all_but(answer.fileno())
    why = "no address"
    try:
        if path is None:
            addresses = _socket.getaddrinfo(host, port, 0, _socket.SOCK_STREAM)
        else:
            addresses = [(_socket.AF_UNIX, _socket.SOCK_STREAM, 0, "", path)]
    except OSError as error:
        addresses, why = [], error.strerror or str(error)
    for family, kind, protocol, _, address in addresses:
        try:
            one = _socket.socket(family, kind, protocol)
            one.settimeout(60)
            one.connect(address)
            if path is None:
                one.setsockopt(_socket.IPPROTO_TCP, _socket.TCP_NODELAY, 1)
            answer.sendmsg([b"."], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, native(one.fileno(), 4))])
            posix._exit(0)
        except (OSError, ValueError) as error:
            why = getattr(error, "strerror", None) or str(error)
    answer.send(why.encode("utf-8", "replace")[:500])
    posix._exit(0)


OPENERS = {"process": run_in_terminal, "files": run_files, "connection": run_connection}
