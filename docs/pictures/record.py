"""Record the README's session: a real hub behind TLS, a bastion with homes, OpenSSH's own clients.

Prints what the terminal showed, with what was typed between ‹ and ›. Run it by docs/pictures/make.
"""

import contextlib
import os
import re
import tempfile
from pathlib import Path

import pexpect

from lib.bastion import Bastion
from lib.hub import HUB_UID, Hub
from lib.namespace import die_with_parent
from lib.network import Network
from lib.paths import built_package
from lib.tls import Authority, TlsFront

HUB, BASTION = "hub.example.org", "bastion.example.org"
CONFIGURATION = 'ca_file = "/etc/hub-ca.pem"\n[homes]\nroot = "/srv/homes"\n'
#: The width of the terminal in the picture; see draw.py.
COLUMNS = 72
LOCAL, REMOTE, SFTP = r"[\r\n]\$ $", r"jovyan@jupyter:~\$ (\x1b\[[0-9;?]*[a-z])*$", r"sftp> $"
#: What is typed, and the prompt that ends its output. The token is pasted where None stands.
TYPED = (
    (f"ssh alice@{BASTION}", "password: $"),
    (None, REMOTE),
    ("ls", REMOTE),
    ("wc -l results.csv", REMOTE),
    ("exit", LOCAL),
    (f"ssh alice@{BASTION} 'sort -n | tail -1' < numbers.txt", LOCAL),
    (f"rsync -av data alice@{BASTION}:", LOCAL),
    (f"sftp alice@{BASTION}", SFTP),
    ("get results.csv", SFTP),
    ("bye", LOCAL),
)


def write_client_files(directory, address):
    """The person's own machine: ~/.ssh/config as docs/users.md has it, and some files."""
    (directory / "hosts").write_text(f"127.0.0.1 localhost\n{address} {BASTION}\n")
    (directory / "config").write_text(
        f"Host {BASTION}\n UserKnownHostsFile {directory}/known_hosts\n StrictHostKeyChecking accept-new\n"
        f" LogLevel ERROR\n ControlMaster auto\n ControlPath {directory}/master\n ControlPersist 1h\n"
    )
    (directory / "bin").mkdir()
    for client in ("ssh", "sftp"):
        path = directory / "bin" / client
        path.write_text(f'#!/bin/sh\nexec /usr/bin/{client} -F {directory}/config "$@"\n')
        path.chmod(0o755)
    (directory / "work/data").mkdir(parents=True)
    (directory / "work/numbers.txt").write_text("".join(f"{n * 37 % 1009}\n" for n in range(1000)))
    for name in ("january.csv", "february.csv"):
        (directory / "work/data" / name).write_text("day,value\n" * 400)


def recorded(directory, network, token):
    """Everything that the terminal showed, with marks around what was typed."""
    # In the clients' network, where the bastion has its name.
    shell = f"mount --bind {directory}/hosts /etc/hosts && exec bash --norc --noprofile"
    child = pexpect.spawn(
        "nsenter",
        [f"--net=/proc/{network.client.pid}/ns/net", "unshare", "--mount", "sh", "-c", shell],
        dimensions=(40, COLUMNS),
        timeout=60,
        encoding="utf-8",
        preexec_fn=die_with_parent,
        cwd=directory / "work",
        env={
            "PATH": f"{directory}/bin:/usr/bin:/bin",
            "HOME": str(directory),
            "PS1": "$ ",
            "TERM": "xterm-256color",
            "LANG": "C.UTF-8",
            "INPUTRC": "/dev/null",
        },
    )
    child.expect(r"\$ (\x1b\[[0-9;?]*[a-z])*$")
    child.sendline("bind 'set enable-bracketed-paste off'")
    child.expect(LOCAL)
    shown = ["$ "]
    for typed, prompt in TYPED:
        child.sendline(token if typed is None else typed)
        child.expect(prompt)
        output = child.before + child.after
        if typed is not None:
            # Readline breaks a line that is longer than the terminal by a blank and a carriage return.
            output = output.replace(" \r", "", 1) if len(typed) > COLUMNS - 20 and typed not in output else output
            if typed not in output:
                raise SystemExit(f"{typed!r} is not echoed: {output!r}")
            output = output.replace(typed, f"‹{typed}›", 1)
        if token in output:
            raise SystemExit("the token is shown")
        shown.append(output)
    child.sendline(f"ssh -O exit {BASTION}; exit")
    child.expect(pexpect.EOF)
    return "".join(shown)


def plain(output):
    """What a reader saw: without escape sequences, of a line that was drawn anew its last text."""
    text = re.sub(r"\x1b\[[0-9;?]*[a-zA-JL-Z]", "", output).replace("\r\n", "\n").replace("\x1b[K", "\r")
    lines = []
    for line in text.split("\n"):
        *drawn, last = line.split("\r")
        progress = [one for one in drawn if one.strip()]
        if last.startswith("jovyan@") and progress:
            lines.append(progress[-1].rstrip())
        lines.append((last if last.strip() else (progress or [""])[-1]).rstrip())
    return "\n".join(lines)


def main():
    with contextlib.ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="jupyterhub-openssh-picture-")))
        network = Network()
        stack.callback(network.close)
        homes = directory / "homes"
        homes.mkdir()
        hub = Hub(network, users=("alice",), homes=str(homes))
        stack.callback(hub.close)
        hub.steer("alice", delay=3, messages=["Spawning server..."])
        results = homes / "alice/results.csv"
        results.write_text("".join(f"{n},{n * n}\n" for n in range(1000)))
        os.chown(results, HUB_UID, HUB_UID)
        authority = Authority(directory)
        front = TlsFront(
            hub.box.network, network.ELSEWHERE, (network.HUB, 8000), authority.sign(network.ELSEWHERE, HUB), 443
        )
        stack.callback(front.close)
        bastion = Bastion(network, os.environ["DEMO_SUITE"], built_package(), binds=[(str(homes), "/srv/homes")])
        stack.callback(bastion.close)
        bastion.box.write("/etc/hub-ca.pem", authority.certificate.read_text())
        bastion.box.write("/etc/hosts", f"127.0.0.1 localhost\n{network.ELSEWHERE} {HUB}\n")
        bastion.configure(f"https://{HUB}", CONFIGURATION)
        write_client_files(directory, bastion.address)
        shown = recorded(directory, network, hub.token("alice"))
        print(plain(shown).removesuffix("\n$"))


if __name__ == "__main__":
    main()
