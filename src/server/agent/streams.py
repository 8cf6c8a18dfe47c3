#---
# The streams, and processes without a terminal.
import _signal
import gc
from fcntl import fcntl

WINDOW = 524288
F_SETPIPE_SZ = 1031
streams = {}
opening = {}
# Children by pid, with their streams; None if nothing waits for the status.
children = {}
last = -1
SIGNALS = {}


def set_nonblocking(*descriptors):
    for fd in descriptors:
        posix.set_blocking(fd, False)


class Source:
    """A part that the agent sends: what is read from a descriptor."""

    def __init__(self, stream, part, fd, credit):
        self.stream, self.part, self.fd, self.credit = stream, part, fd, credit
        self.watched = self.queued = False
        # True when the terminal's process has ended: what can be read now is all.
        self.final = False
        stream.sources[part] = self
        self.resume()

    def resume(self):
        """Go on: there is room in the window again, or credit."""
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
        """Read once and send it. Return False if that was all for now."""
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
        """Tell the other end that there is no more."""
        self.close()
        del self.stream.sources[self.part]
        link.send(EOF, self.stream.number, self.part)
        self.stream.settle()


class Sink:
    """The part that the agent receives and writes to a descriptor."""

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
        """Write, and return the rest; None if the reader is gone."""
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
        """Everything is written: close."""
        self.stream.half_close(self)
        self.stream.settle()

    def stop(self):
        """The reader is gone: ask for no more."""
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
    """The base of all streams, and the stream of a process."""

    #: The terminal's master side, or -1.
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
        """The process has ended. What it wrote is still sent."""
        self.pid = 0
        link.send(EXIT, self.number, 0, outcome(status).encode())
        if self.sink:
            self.sink.stop()
        if self.tty >= 0:
            # Descendants may hold the terminal; sshd doesn't wait for them either.
            for source in list(self.sources.values()):
                source.final = True
                if source.watched:
                    source.readable(0)
        self.settle()

    def stop(self, source):
        """The other end wants no more of a part. A terminal is then not read, as with sshd."""
        source.close()
        del self.sources[source.part]
        self.settle()

    def over(self):
        return not self.pid and not self.sources

    def settle(self):
        """Close the stream if everything else has been sent."""
        if self.number in streams and self.over():
            self.release()
            link.send(CLOSE, self.number)

    def release(self):
        """Close all descriptors."""
        for source in self.sources.values():
            source.close()
        if self.sink:
            self.sink.close()
        if self.tty >= 0:
            posix.close(self.tty)
        streams.pop(self.number, None)

    def abandon(self):
        """The other end has closed the stream."""
        self.release()
        if self.pid:
            children[self.pid] = None
            hang_up(self.pid)
        link.send(CLOSE, self.number)


def outcome(status):
    """Return a status of waitpid as JSON."""
    if posix.WIFSIGNALED(status):
        number = posix.WTERMSIG(status)
        names()
        return '{"signal":"%s"}' % SIGNALS.get(number, "RT%d" % number)
    return '{"status":%d}' % posix.WEXITSTATUS(status)


def names():
    """Fill SIGNALS: names by number."""
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
    """Signal a child's process group, or the child if it has none yet."""
    return send(-pid, number) or send(pid, number)


def hang_up(pid):
    send_group(pid, _signal.SIGHUP)
    send_group(pid, _signal.SIGCONT)


def parse(text):
    """Parse JSON. Importing json takes longer than all of the agent; its C part doesn't."""
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
    """Return an error as text for people."""
    return (isinstance(error, OSError) and error.strerror or
            "the description of the stream is malformed (%s: %s)" % (type(error).__name__, error))


def refuse(number, why):
    link.send(REFUSED, number, 0, ('{"error":%s}' % quoted(why[:500])).encode())


def pipe(made, ours):
    """Make a pipe (to read, to write) whose end `ours` doesn't block."""
    ends = posix.pipe()
    made.extend(ends)
    try:
        fcntl(ends[0], F_SETPIPE_SZ, WINDOW)
    except OSError:
        pass
    posix.set_blocking(ends[ours], False)
    return ends


def command_of(description):
    """Return what the shell is to run; None for a login shell."""
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
    """Fork; the child calls `run` in a new process session, with these as stdin, stdout, stderr."""
    # A signal that comes before the child is ready for it is kept, not lost.
    # 32 to 34 may be the C library's own (signal(7)); Python before 3.6.6 raises for them.
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
    """In the child: return the environment, the server's terminals' own plus the client's."""
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
            # A missing locale would turn UTF-8 off; the server's LC_ALL would hide the client's.
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
    """Return the stream of a packet; None if it is over."""
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
                # Another handler may have closed it just now.
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
