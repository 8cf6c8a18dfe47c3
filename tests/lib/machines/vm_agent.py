"""What the tests do inside a virtual machine: run commands, touch files, look at processes, read the log.

Runs in the machine as root, from the disk of the tests' programs; vm.py talks to it. Each connection carries one
request, a line of JSON, and one answer, a line of JSON; only the log's connection goes on. Bytes are in base64.
"""

import base64
import contextlib
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import threading
from pathlib import Path

sys.path.insert(0, "/run/tests")

import processes

PORT = 7
#: What a program finds in its environment unless the request says otherwise.
ENVIRONMENT = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8"}
#: Where journald passes its messages on to (journald.conf(5), ForwardToSyslog).
JOURNAL_SOCKET = "/run/systemd/journal/syslog"
#: rsyslog's buffer is as large.
JOURNAL_BUFFER = 8 << 20
SO_RCVBUFFORCE = 33  # socket(7); the module does not name it

entries = []
more_entries = threading.Condition()


def encode(value):
    """A value as JSON can hold it."""
    if isinstance(value, bytes):
        return {"bytes": base64.b64encode(value).decode()}
    if isinstance(value, os.stat_result):
        return {"stat": {name: getattr(value, name) for name in dir(value) if name.startswith("st_")}}
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, (list, tuple)):
        return [encode(item) for item in value]
    if isinstance(value, dict):
        return {key: encode(item) for key, item in value.items()}
    return value


def decode(value):
    """What `encode` made of a value."""
    if isinstance(value, dict):
        return base64.b64decode(value["bytes"]) if set(value) == {"bytes"} else {k: decode(v) for k, v in value.items()}
    return [decode(item) for item in value] if isinstance(value, list) else value


def run(argv, input=b"", env=None, timeout=60, cwd="/"):
    """Run a command to its end; its group is killed when the time is up."""
    process = subprocess.Popen(
        argv,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=cwd,
        env={**ENVIRONMENT, "HOME": "/root", **(env or {})},
        start_new_session=True,
    )
    try:
        out, err = process.communicate(input, timeout)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, 9)
        # A process that hangs in the kernel is not waited for.
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.communicate(timeout=2)
        return {"timeout": True}
    return {"status": process.returncode, "stdout": out, "stderr": err}


def start(argv, env=None):
    """Start a command that outlives the request; its process id."""
    process = subprocess.Popen(
        argv,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**ENVIRONMENT, "HOME": "/root", **(env or {})},
        cwd="/",
        start_new_session=True,
    )
    threading.Thread(target=process.wait, daemon=True).start()
    return process.pid


def path(name, method, *arguments, **options):
    """A method of pathlib.Path."""
    result = getattr(Path(name), method)(*arguments, **options)
    if method in ("iterdir", "glob", "rglob"):
        return sorted(str(one) for one in result)
    return result


def write(name, data, mode, owner):
    """Make a file, and the directories above it."""
    file = Path(name)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(data)
    file.chmod(mode)
    if owner is not None:
        os.chown(file, owner, owner)


def call(function, *arguments, **options):
    """A function of the modules os and shutil, or of this file."""
    module, _, name = function.rpartition(".")
    return getattr({"os": os, "shutil": shutil}[module], name)(*arguments, **options)


def users_processes():
    """Every process but the kernel's own, which are most of a machine's: of these as little as possible is read."""
    for entry in os.listdir("/proc"):
        try:
            with open(f"/proc/{int(entry)}/stat", "rb") as file:
                of_the_kernel = entry == "2" or file.read().rpartition(b")")[2].split()[1] == b"2"
        except (OSError, ValueError):
            continue
        one = None if of_the_kernel else processes.process(entry)
        if one and one.state not in "ZX":
            yield one


def running():
    """Every process but the kernel's own, with its program and its command line."""
    found = []
    for one in users_processes():
        found.append(
            [
                one.pid,
                one.parent,
                one.name,
                one.state,
                one.uid,
                one.executable(),
                one.command_line(),
                one.file(),
                [one.namespace(kind) for kind in ("net", "mnt", "pid")],
            ]
        )
    return found


def mounts():
    """The mount points of the machine's own namespace, as mountinfo(5) lists them, without their ids."""
    lines = Path("/proc/1/mountinfo").read_text().splitlines()
    return sorted(line.split()[4] + " " + line.split(" - ")[1] for line in lines)


def abstract_sockets():
    """The abstract unix sockets of the machine's network namespace."""
    table = Path("/proc/1/net/unix").read_text().splitlines()[1:]
    return sorted(fields[7] for fields in map(str.split, table) if len(fields) > 7 and fields[7].startswith("@"))


def files_of(programs):
    """(device, inode) of each program that is there."""
    found = []
    for program in programs:
        with contextlib.suppress(FileNotFoundError):
            status = os.stat(program)
            found.append((status.st_dev, status.st_ino))
    return found


def below(directories):
    """The directories and everything below them, on their file systems only; what `find -xdev` prints."""
    found = []
    for top in directories:
        with contextlib.suppress(FileNotFoundError):
            device = os.lstat(top).st_dev
            found.append(top)
            for folder, folders, files in os.walk(top):
                found += [os.path.join(folder, name) for name in (*folders, *files)]
                folders[:] = [name for name in folders if _device(os.path.join(folder, name)) == device]
    return found


def _device(directory):
    try:
        return os.lstat(directory).st_dev
    except OSError:
        return None


def look(programs, directories=()):
    """Several looks in one answer: the files of programs, what runs, mounts, sockets, and what is below directories."""
    return {
        "programs": files_of(programs),
        "running": running(),
        "mounts": mounts(),
        "sockets": abstract_sockets(),
        "files": below(directories),
    }


def signal(pid, number):
    """kill(2); nothing happens when the process has gone."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


REQUESTS = {
    one.__name__: one
    for one in (run, start, path, write, call, running, files_of, look, mounts, abstract_sockets, signal)
}


def read_journal(connection):
    """Keep every message that the journal passes on."""
    while True:
        entry = connection.recv(65536)
        with more_entries:
            entries.append(entry)
            more_entries.notify_all()


def follow(connection):
    """Send the log from its beginning on, as it grows."""
    sent = 0
    while True:
        with more_entries:
            more_entries.wait_for(lambda: len(entries) > sent)
            batch = entries[sent : sent + 500]
        sent += len(batch)
        connection.sendall(b"".join(base64.b64encode(entry) + b"\n" for entry in batch))


def serve(connection):
    """Answer one request."""
    with connection:
        request = json.loads(connection.makefile("rb").readline())
        if request["request"] == "log":
            with contextlib.suppress(OSError):
                follow(connection)
            return
        try:
            handler = REQUESTS[request["request"]]
            answer = {"result": encode(handler(*decode(request["arguments"]), **decode(request["options"])))}
        except Exception as error:  # noqa: BLE001 (the tests judge whatever goes wrong)
            answer = {"error": f"{type(error).__name__}: {error}", "errno": getattr(error, "errno", None)}
        with contextlib.suppress(OSError):
            connection.sendall(json.dumps(answer).encode() + b"\n")


def main():
    journal = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    os.makedirs(os.path.dirname(JOURNAL_SOCKET), exist_ok=True)
    with contextlib.suppress(FileNotFoundError):
        os.unlink(JOURNAL_SOCKET)
    journal.bind(JOURNAL_SOCKET)
    journal.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, JOURNAL_BUFFER)
    threading.Thread(target=read_journal, args=(journal,), daemon=True).start()
    address = re.search(r"tests\.address=(\S+)", Path("/proc/cmdline").read_text())[1]
    for command in ("link set lo up", "link set eth0 up", f"addr add {address} dev eth0 broadcast +"):
        subprocess.run(["ip", *command.split()], check=True)
    listener = socket.create_server(("0.0.0.0", PORT), backlog=100)
    while True:
        connection, _ = listener.accept()
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        threading.Thread(target=serve, args=(connection,), daemon=True).start()


main()
