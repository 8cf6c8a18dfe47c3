"""What is tested, what with, and what it is compared with."""

import functools
import os
import shutil
import subprocess
import sys
from pathlib import Path

FILES = Path(__file__).resolve().parents[2] / "src/server/agent/files.py"
#: Where distributions have OpenSSH's; None where there is none.
STOCK = next(
    (
        path
        for path in ("/usr/lib/openssh/sftp-server", "/usr/libexec/openssh/sftp-server", "/usr/lib/ssh/sftp-server")
        if os.access(path, os.X_OK)
    ),
    None,
)


def version(python):
    """The interpreter's version, None when it doesn't run."""
    try:
        done = subprocess.run(
            [python, "-c", "import sys; print('%d.%d' % sys.version_info[:2])"],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            timeout=30,
        )
    except OSError:
        return None
    return done.stdout.strip() if done.returncode == 0 else None


@functools.cache
def interpreters():
    """Version → path."""
    named = os.environ.get("AGENT_PYTHONS")
    candidates = named.split(":") if named else [shutil.which(f"python3.{minor}") for minor in range(6, 15)]
    found = {}
    for python in filter(None, candidates):
        number = version(python)
        assert number or not named, f"AGENT_PYTHONS: {python} doesn't run"
        if number:
            found.setdefault(number, python)
    return found or {version(sys.executable): sys.executable}


def without_privileges():
    """Before a command: also root meets refusals then."""
    return ["setpriv", "--bounding-set=-all", "--inh-caps=-all", "--"] if os.geteuid() == 0 else []
