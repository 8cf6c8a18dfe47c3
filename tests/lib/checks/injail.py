"""Running Python in a session's jail, as its user: the jail itself has no program to try things with."""

import re
import subprocess
import sys
import textwrap

#: Joins the namespaces, takes on the root and the ids, and runs the code in a child, which alone is in the pid namespace.
RUNNER = """
import ctypes, encodings.idna, errno, io, os, socket, stat, sys, traceback
pid, uid, gid, code = int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), compile(sys.argv[4], "code", "exec")
libc = ctypes.CDLL(None, use_errno=True)
code_globals = {"libc": libc, "os": os, "socket": socket, "stat": stat, "sys": sys}
spaces = [os.open(f"/proc/{pid}/ns/{kind}", os.O_RDONLY) for kind in ("mnt", "net", "pid", "uts", "ipc")]
root = os.open(f"/proc/{pid}/root", os.O_RDONLY | os.O_DIRECTORY)
for space in spaces:
    if libc.setns(space, 0):
        raise OSError(ctypes.get_errno(), "setns")
os.fchdir(root)
os.chroot(".")
os.closerange(3, 100)
child = os.fork()
if child:
    sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
os.setgroups([])
os.setresgid(gid, gid, gid)
os.setresuid(uid, uid, uid)
exec(code, code_globals)
"""


def in_jail(session, code, timeout=120):
    """What `code` prints that runs in the namespaces, root and ids of a session's process.

    It has os, socket, stat, sys and libc (of ctypes), and cannot import anything else.
    """
    status = session.read("status").decode()
    uid, gid = (re.search(rf"{kind}:\t(\d+)", status)[1] for kind in ("Uid", "Gid"))
    done = subprocess.run(
        [sys.executable, "-B", "-c", RUNNER, str(session.pid), uid, gid, textwrap.dedent(code)],
        capture_output=True,
        text=True,
        timeout=timeout,
        stdin=subprocess.DEVNULL,
        cwd="/",
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
