#---
# The end of the agent, and the rarer kinds of streams.
from fcntl import ioctl


def end(why):
    """Say goodbye, end everything, and leave the terminal to the guardian, which closes it soon."""
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
    """In a process of its own, without the terminal: end those that the hangup didn't."""
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
    """Return when a process started (pids are reused), or None if it has ended."""
    try:
        fields = slurp("/proc/%d/stat" % pid).rpartition(b")")[2].split()
        return None if fields[0] in (b"Z", b"X") else fields[19]
    except OSError:
        return None


def close_all_but(*kept):
    """In a child that runs no other program: close all descriptors but stdin, stdout, stderr."""
    try:
        descriptors = sorted(map(int, posix.listdir("/proc/self/fd")))
    except OSError:
        descriptors = range(1024)
    for fd in descriptors:
        if fd > 2 and fd not in kept:
            posix.closerange(fd, fd + 1)
