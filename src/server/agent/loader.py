# Loads the agent (docs/mux.md). Argument: nonce. No single quotes in here: see typed.txt.
import gc, posix, sys, _signal
from binascii import a2b_base64, b2a_base64
from termios import *

def say(text, around=""):
    posix.write(0, ("%s\33]7730;%s;%s\33\\%s" % (around, sys.argv[1], text, around)).encode())

def guard(ear):
    # In a process session of its own no signal of the terminal reaches it, and it may read.
    posix.setsid()
    posix.chdir("/")
    import select
    why = b""
    while 1:
        word = posix.read(ear, 200)
        if not word:
            break
        why += word
    if why != b"." and select.select([], [0], [], 1)[1]:
        why = why.decode("ascii", "replace") or "it was killed"
        # The agent may have written part of a line.
        say("gone;" + "".join(c if " " <= c <= "~" else "?" for c in why[:200]), "\n")
    poll = select.poll()
    poll.register(0, select.POLLIN)
    while poll.poll(200 if why == b"." else 3000) and posix.read(0, 65536):
        pass

mode = tcgetattr(0)
mode[0] = mode[1] = mode[3] = 0
mode[2] = mode[2] & ~PARENB | CS8
mode[6][VMIN], mode[6][VTIME] = 1, 0
tcsetattr(0, TCSANOW, mode)
try:
    strangers = map(int, posix.listdir("/proc/self/fd"))
except OSError:
    strangers = range(1024)
for fd in strangers:
    if fd > 2:
        posix.closerange(fd, fd + 1)
ear, mouth = posix.pipe()
# Blocked before the fork: we may end, and so hang up, before the guardian runs.
signals = 1, 2, 3, 13, 15, 20, 21, 22
_signal.pthread_sigmask(_signal.SIG_BLOCK, signals)
if posix.fork() == 0:
    try:
        posix.close(mouth)
        guard(ear)
    finally:
        posix._exit(0)
_signal.pthread_sigmask(_signal.SIG_UNBLOCK, signals)
posix.close(ear)
posix.write(0, b"This terminal carries an SSH connection (jupyterhub-openssh). Please leave it alone: "
    b"closing it ends that connection.\r\n")
try:
    posix.fchmod(0, 0o600)
except OSError:
    pass
say("loader")
# The sender may be gone.
_signal.alarm(100)
text = b""
while 1:
    line, end, left = text.partition(b"\n")
    if end and b"~" in line:
        break
    if end:
        # Somebody has typed.
        text = left
        continue
    data = posix.read(0, 65536)
    if not data or len(text) > 1 << 20:
        posix._exit(1)
    text += data
_signal.alarm(0)
gc.disable()
try:
    # Each section is compiled when it is needed; HELLO needs the first.
    line = line[line.rfind(b"~") + 1:] + b"\n"
    source = a2b_base64(line)
    if b2a_base64(source) != line or not source:
        raise ValueError
    sections = source.decode().split("\n#---\n")
    code = compile(sections[0], "agent", "exec")
except Exception:
    say("bad-source")
    posix.write(mouth, b".")
    posix._exit(1)
try:
    me = {"__name__": "agent", "NONCE": sys.argv[1], "MOUTH": mouth, "LEFT": left, "SECTIONS": sections}
    exec(code, me)
    me["main"]()
except BaseException as error:
    posix.write(mouth, repr(error).encode()[:200])
posix._exit(1)
