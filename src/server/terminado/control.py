# Watches the tty of another terminal, for the gateway that types into it. Standard library only,
# Python >= 3.6.
# Arguments: nonce, path of the tty (/dev/pts/N), process id of its session's leader.
# A request is a line "ID COMMAND"; its answer a line "NONCE ID ANSWER":
#   ?      r N | c N   N bytes are unread in raw mode, or in complete lines in canonical mode, after
#                      a short wait for none
#   stop   ok          the terminal's output is suspended, until `go` or our end (12 s of silence)
#   go     ok          it is resumed
#   drain  ok          unread input is discarded
# or "gone" (that terminal has ended) or "error".
import fcntl, os, select, signal, struct, sys, termios, time, tty

nonce, path, leader = sys.argv[1:4]
stopped = False


def owner():
    """Return start time and tty of the leader: a tty's number is reused, this pair isn't."""
    with open("/proc/%s/stat" % leader, "rb") as f:
        fields = f.read().rpartition(b")")[2].split()
    number = int(fields[4])
    return fields[19], os.makedev(number >> 8 & 0xFFF, number & 0xFF | number >> 12 & 0xFFF00)


class Gone(Exception):
    pass


class Tty:
    """Opened for each request only: an open descriptor would hide the terminal's end."""

    def __enter__(self):
        try:
            if owner() != known:
                raise Gone
            self.fd = os.open(path, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
        except OSError:
            raise Gone
        if os.fstat(self.fd).st_rdev != known[1]:
            os.close(self.fd)
            raise Gone
        return self.fd

    def __exit__(self, *_):
        os.close(self.fd)


def waiting(fd):
    return struct.unpack("i", fcntl.ioctl(fd, termios.FIONREAD, b"\0\0\0\0"))[0]


def unread():
    end = time.monotonic() + 0.02
    while True:
        with Tty() as fd:
            # FIONREAD waits for a read in progress; polling a tty without input moves the kernel's
            # flip buffer to it. So two zeros mean that nothing is unread anywhere.
            poll = select.poll()
            poll.register(fd, select.POLLIN)
            n = waiting(fd)
            if n == 0:
                poll.poll(0)
                n = waiting(fd)
            mode = "c" if termios.tcgetattr(fd)[3] & termios.ICANON else "r"
        if n == 0 or time.monotonic() > end:
            return "%s %d" % (mode, n)
        if select.select([0], [], [], 0.0005)[0]:
            end = 0


def flow(how):
    global stopped
    stopped = how == termios.TCOOFF
    with Tty() as fd:
        termios.tcflow(fd, how)


def answer(command):
    try:
        if command == "?":
            return unread()
        if command == "stop":
            flow(termios.TCOOFF)
        elif command == "go":
            flow(termios.TCOON)
        elif command == "drain":
            with Tty() as fd:
                termios.tcflush(fd, termios.TCIFLUSH)
        else:
            return "error"
        return "ok"
    except Gone:
        return "gone"
    except Exception:
        return "error"


def leave(*_):
    sys.exit(0)


def say(text):
    os.write(1, ("%s %s\n" % (nonce, text)).encode())


for number in (signal.SIGHUP, signal.SIGTERM, signal.SIGINT):
    signal.signal(number, leave)
try:
    tty.setraw(0)
    known = owner()
    with Tty():
        pass
    say("0 hello")
    rest = b""
    while True:
        # After such a silence the gateway is gone: if it was killed, it can't delete us.
        if not select.select([0], [], [], 12)[0]:
            break
        data = os.read(0, 4096)
        if not data:
            break
        *lines, rest = (rest + data).split(b"\n")
        if len(rest) > 100:
            break
        for line in lines:
            number, _, command = line.decode("ascii", "replace").partition(" ")
            say("%d %s" % (int(number), answer(command)))
except Gone:
    pass
except OSError:
    pass  # our own terminal has ended
finally:
    for number in (signal.SIGHUP, signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    if stopped:
        try:
            flow(termios.TCOON)
        except Exception:
            pass
