"""Virtual machines on the tests' network: a bastion with systemd, and a file server, with Debian's own kernel.

A machine looks like a Box to the tests: run, read, write, path, processes, mounts. An agent in it (vm_agent.py)
does the work. Where KVM doesn't work the processor is emulated, several times slower than the machine itself.
"""

import base64
import contextlib
import itertools
import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import tarfile
import threading
import time
import warnings
from dataclasses import dataclass
from pathlib import Path

from lib import paths
from lib.machines.vm_image import IMAGES, image_directory
from lib.sandbox.bastion import Bastion, State
from lib.sandbox.namespace import die_with_parent
from lib.sandbox.syslog import Syslog, parse
from lib.wait import wait_for

_HERE = Path(__file__).parent
_PROCESSES = _HERE.parent / "sandbox" / "processes.py"
#: The agent's TCP port; vm_agent.py has the same.
_AGENT_PORT = 7
#: Seconds to a machine whose agent answers.
_BOOT = {"kvm": 30, "tcg": 300}
_KERNEL_OPTIONS = (
    "root=/dev/vda rw console=ttyS0 net.ifnames=0 nokaslr mitigations=off nopti quiet"
    " systemd.show_status=false"
    # A panic ends qemu at once, with its words on the console, rather than standing still for ever;
    # and an NMI, by which a machine that stands still is asked where it is, is such a panic.
    " panic=-1 unknown_nmi_panic"
    # A processor that must wait misses the timer's interrupts, which the kernel would take for a fault.
    " no_timer_check"
)
#: The newest that is emulated without gaps, and what an emulated machine does without.
_PROCESSOR = {"kvm": "host", "tcg": "Nehalem"}
_ACCELERATOR = {"kvm": "kvm", "tcg": "tcg,thread=multi,tb-size=512"}


#: How many seconds a machine that runs has to accept a connection. An emulated processor may have to wait for a real one.
_PATIENCE = 60


class AgentError(Exception):
    """A request to a machine's agent failed."""


class MachineLost(Exception):
    """A machine that was ready can no longer be reached; says what became of it."""


def _encode(value):
    if isinstance(value, bytes):
        return {"bytes": base64.b64encode(value).decode()}
    if isinstance(value, (list, tuple)):
        return [_encode(item) for item in value]
    if isinstance(value, dict):
        return {key: _encode(item) for key, item in value.items()}
    return os.fspath(value) if isinstance(value, os.PathLike) else value


def _decode(value):
    if isinstance(value, dict):
        if set(value) == {"bytes"}:
            return base64.b64decode(value["bytes"])
        if set(value) == {"stat"}:
            return type("Stat", (), value["stat"])
        return {key: _decode(item) for key, item in value.items()}
    return [_decode(item) for item in value] if isinstance(value, list) else value


@dataclass(frozen=True)
class RemoteProcess:
    """A process of a machine, as lib.sandbox.processes.Process tells of one of this machine's."""

    machine: object
    pid: int
    parent: int
    name: str
    state: str
    uid: int
    program: str
    line: str
    inode: tuple
    spaces: tuple

    def executable(self):
        """The program it runs."""
        return self.program

    def command_line(self):
        """Its arguments, joined by spaces."""
        return self.line

    def file(self):
        """(device, inode) of the program it runs; None when unknown."""
        return self.inode

    def namespace(self, kind):
        """Which namespace of a kind ("net", "mnt", "pid") it was in."""
        return dict(zip(("net", "mnt", "pid"), self.spaces))[kind]

    def kill(self, number=signal.SIGKILL):
        """Send it a signal."""
        self.machine.ask("signal", self.pid, int(number))

    def alive(self):
        """Whether it still runs."""
        return any(one.pid == self.pid and one.name == self.name for one in self.machine.processes())


class RemotePath:
    """A path of a machine with pathlib's methods, each a request to the agent."""

    def __init__(self, machine, path):
        self._machine, self._path = machine, str(path)

    def __truediv__(self, name):
        return RemotePath(self._machine, f"{self._path.rstrip('/')}/{name}")

    def __str__(self):
        return self._path

    def __getattr__(self, method):
        if method.startswith("_"):
            raise AttributeError(method)

        def ask(*arguments, **options):
            if method == "mkdir":
                options.setdefault("mode", 0o777)
            return self._machine.ask("path", self._path, method, *arguments, **options)

        return ask


class Machine:
    """A running virtual machine of a suite with an address of its own on the tests' network.

    `disks` further disks are empty, of 12 GB, /dev/vdc and on; all changes vanish with the machine. A `lean` machine
    has no systemd and no daemon: it boots in a fraction of the time.
    """

    _numbers = itertools.count(1)

    def __init__(self, network, suite, directory, files=(), disks=1, memory=1024, lean=False):
        self.network, self.suite = network, suite
        self.address = network.next_bastion_address()
        self.hostname = f"vm{next(self._numbers)}"
        self.directory = Path(directory) / self.hostname
        self.directory.mkdir()
        self.serial = self.directory / "serial.log"
        self._monitor = self.directory / "monitor"
        self._disks, self._memory, self._lean = disks, memory, lean
        with tarfile.open(self.directory / "files.tar", "w") as archive:
            for file in (_HERE / "vm_agent.py", _PROCESSES, *map(Path, files)):
                archive.add(file, file.name)
        self._tap = f"tap-{self.hostname}"
        network.switch.run("ip", "tuntap", "add", self._tap, "mode", "tap")
        network.switch.run("ip", "link", "set", self._tap, "master", "br0", "up")
        self._process = None
        self._ready = self._hangs = False
        #: Why the machine is lost, once it is: nobody waits for it again.
        self._lost = None

    # -- the machine itself -----------------------------------------------------------------------

    def power_on(self, accelerator):
        """Start the machine; it is ready after `wait_ready`."""
        image = image_directory(self.suite)
        blank = image / "blank.img"
        if not blank.exists():
            with open(blank, "wb") as file:
                os.truncate(file.fileno(), 12 << 30)
        drives = [(image / "root.img", "raw", True), (self.directory / "files.tar", "raw", False)]
        drives += [(blank, "raw", True)] * self._disks
        command = [
            "qemu-system-x86_64",
            "-machine",
            "q35",
            "-accel",
            _ACCELERATOR[accelerator],
            "-cpu",
            _PROCESSOR[accelerator],
            "-m",
            str(self._memory),
            "-smp",
            "1",
            "-display",
            "none",
            "-nodefaults",
            "-no-user-config",
            "-no-reboot",
            "-serial",
            f"file:{self.serial}",
            "-monitor",
            f"unix:{self._monitor},server=on,wait=off",
            "-kernel",
            image / "vmlinux",
            "-initrd",
            image / "initrd.img",
            "-append",
            f"{_KERNEL_OPTIONS} tests.address={self.address}/{self.network.PREFIX}"
            f"{' tests.lean' if self._lean else ''}",
            "-netdev",
            f"tap,id=n,ifname={self._tap},script=no,downscript=no",
            "-device",
            f"virtio-net-pci,netdev=n,romfile=,mac={_mac(self.address)}",
            "-device",
            "virtio-rng-pci",
        ]
        for number, (file, kind, writable) in enumerate(drives):
            # Changes go to a temporary file without a name: the image stays as it is.
            mode = "snapshot=on" if writable else "readonly=on"
            command += [
                "-drive",
                f"if=none,id=d{number},file={file},format={kind},cache=unsafe,discard=unmap,{mode}",
                "-device",
                f"virtio-blk-pci,drive=d{number}",
            ]
        self._ready, self._lost = False, None
        with open(self.directory / "qemu.log", "w") as log:
            self._process = subprocess.Popen(
                self.network.switch.command(*command),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                preexec_fn=die_with_parent,
                start_new_session=True,
            )
        _favour(self._process.pid)

    def answers(self):
        """Whether the agent answers."""
        try:
            return self.ask("call", "os.getpid", seconds=2) > 0
        except (OSError, ValueError):
            return False

    def wait_ready(self, seconds):
        """Wait until the agent answers; raises AssertionError."""

        def ready():
            if self._process.poll() is not None:
                raise RuntimeError(f"qemu ended: {(self.directory / 'qemu.log').read_text()}")
            return self.answers()

        wait_for(ready, lambda: f"{self.hostname} boots; {self.condition()}", seconds, 0.1)
        self._ready = True

    def console(self):
        """The end of what was written to the console."""
        return self.serial.read_text(errors="replace")[-3000:] if self.serial.exists() else ""

    def runs(self):
        """Whether qemu does."""
        return self._process is not None and self._process.poll() is None

    def condition(self):
        """What there is to know of the machine from outside, for a failure's report. Never raises."""
        said = []
        for title, look in (
            ("qemu", self._qemu),
            ("qemu.log", (self.directory / "qemu.log").read_text),
            ("this host's memory and disk", _host),
            ("console, its end", self.console),
        ):
            try:
                said.append(f"{self.hostname}'s {title}: {look().strip()}")
            except Exception as error:  # noqa: BLE001 (a report that fails would hide the failure)
                said.append(f"{self.hostname}'s {title}: {type(error).__name__}: {error}")
        return "\n".join(said)

    def _qemu(self):
        if self._process is None:
            return "not started, or powered off"
        if self._process.poll() is not None:
            status = self._process.returncode
            return f"ended, {'status' if status >= 0 else 'by signal'} {abs(status)}"
        status = Path(f"/proc/{self._process.pid}/status").read_text()
        return "runs; " + ", ".join(re.findall(r"(?m)^(?:State|VmRSS|Threads):.*", status)).replace("\t", " ")

    def monitor(self, *commands):
        """What qemu's monitor answers to commands."""
        said = b""
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(10)
            connection.connect(str(self._monitor))
            for command in (None, *commands):
                if command:
                    connection.sendall(command.encode() + b"\n")
                prompts = said.count(b"(qemu) ") + 1
                while said.count(b"(qemu) ") < prompts:
                    part = connection.recv(65536)
                    if not part:
                        raise OSError("the monitor closed its connection")
                    said += part
        # The banner, and the line editor's echo of each letter.
        answers = said.decode(errors="replace").split("(qemu) ")[1:]
        return "\n".join(answer.partition("\n")[2].replace("\r", "").strip() for answer in answers if "\n" in answer)

    def hang(self):
        """The machine stands still: its connections stay open, and nothing answers."""
        self._hangs = True
        self._process.send_signal(signal.SIGSTOP)

    def resume(self):
        """Undo `hang`; otherwise nothing happens."""
        self._process.send_signal(signal.SIGCONT)
        self._hangs = False

    @contextlib.contextmanager
    def hanging(self):
        """Stand still for a while."""
        self.hang()
        try:
            yield
        finally:
            self.resume()

    def power_off(self):
        """As if the cable were pulled."""
        if self._process:
            self._process.kill()
            self._process.wait()
            self._process = None

    def close(self):
        """End the machine; nothing of it is left."""
        self.power_off()
        self.network.switch.run("ip", "link", "del", self._tap)

    # -- requests to its agent --------------------------------------------------------------------

    def _dial(self, seconds):
        """A connection to the agent; raises MachineLost where there was one before, and is none any more.

        A machine that runs but is slow is given time, and pytest's summary tells of it.
        """
        if self._lost:
            raise MachineLost(f"{self.hostname} was lost before: {self._lost.splitlines()[0]}")
        start = time.monotonic()
        while True:
            if self._ready and not self.runs():
                self._lose(f"{self.hostname}'s qemu has ended")
            try:
                with self.network.client:
                    connection = socket.create_connection((self.address, _AGENT_PORT), timeout=min(seconds or 5, 5))
                break
            except OSError as error:
                took = time.monotonic() - start
                if not self._ready or self._hangs:
                    raise
                # Refused: the machine answers, but its agent has ended.
                if isinstance(error, ConnectionRefusedError) or took >= _PATIENCE:
                    self._lose(f"no connection to {self.hostname} within {took:.0f} s: {error}", error)
        took = time.monotonic() - start
        if self._ready and took > 3:
            warnings.warn(f"{self.hostname} took {took:.0f} s to accept a connection", stacklevel=2)
        return connection

    def _lose(self, what, error=None):
        """Raise MachineLost, and remember it."""
        if self.runs() and not isinstance(error, ConnectionRefusedError):
            # The kernel's last words, if it has any: where it is, on the console, and the end.
            with contextlib.suppress(OSError, subprocess.TimeoutExpired):
                what += "\n" + self.monitor("info status", "info registers", "nmi")[:1500]
                self._process.wait(10)
        self._lost = f"{what}\n{self.condition()}"
        raise MachineLost(self._lost) from error

    def connect(self, request, *arguments, seconds=None, **options):
        """A connection on which a request was sent."""
        connection = self._dial(seconds)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        line = json.dumps({"request": request, "arguments": _encode(arguments), "options": _encode(options)})
        connection.settimeout(seconds)
        connection.sendall(line.encode() + b"\n")
        return connection

    def ask(self, request, *arguments, seconds=600, **options):
        """The answer to a request; raises OSError or AgentError with what went wrong there."""
        with self.connect(request, *arguments, seconds=seconds, **options) as connection:
            line = self._line(connection, seconds)
        answer = json.loads(line or b"null")
        if answer is None:
            raise OSError(f"{self.hostname}: the agent did not answer")
        if "error" in answer:
            text = f"{self.hostname}: {request} {arguments}: {answer['error']}"
            # OSError(2, …) is a FileNotFoundError, as it was there.
            raise OSError(answer["errno"], text) if answer["errno"] else AgentError(text)
        return _decode(answer["result"])

    def _line(self, connection, seconds):
        """The line that a connection brings. A machine that is lost meanwhile is noticed at once, not at the end."""
        deadline, probe, parts = time.monotonic() + seconds, time.monotonic() + 30, []
        while True:
            connection.settimeout(min(2, max(deadline - time.monotonic(), 0.01)))
            try:
                parts.append(connection.recv(1 << 20))
            except TimeoutError:
                now = time.monotonic()
                if self._ready and not self._hangs and (not self.runs() or now >= probe or now >= deadline):
                    # A machine that stands still would be waited for to the end of the request's time.
                    self._dial(None).close()
                    probe = now + 30
                if now >= deadline:
                    raise
                continue
            if not parts[-1] or parts[-1].endswith(b"\n"):
                return b"".join(parts)

    def run_bytes(self, *argv, input=None, check=True, timeout=600, uid=None, gid=None, env=None, online=False):
        """Run a command; CompletedProcess with bytes. `online` is there for the sake of Box: there is no more net."""
        command = [os.fsencode(str(part) if isinstance(part, int) else part) for part in argv]
        if uid is not None:
            command = [
                b"setpriv",
                b"--reuid=%d" % uid,
                b"--regid=%d" % (uid if gid is None else gid),
                b"--clear-groups",
                *command,
            ]
        done = self.ask("run", command, input or b"", timeout=timeout, env=env)
        if done.get("timeout"):
            raise subprocess.TimeoutExpired(shlex.join(map(os.fsdecode, command)), timeout)
        if check and done["status"]:
            raise RuntimeError(
                f"{self.hostname}: {shlex.join(map(os.fsdecode, command))}: status {done['status']}\n"
                f"{(done['stdout'] + done['stderr']).decode(errors='replace')}"
            )
        return subprocess.CompletedProcess(argv, done["status"], done["stdout"], done["stderr"])

    def run(self, *argv, input=None, timeout=60, **options):
        """Run a command inside and wait for it; CompletedProcess with text."""
        done = self.run_bytes(
            *argv, input=input.encode() if isinstance(input, str) else input, timeout=timeout, **options
        )
        return subprocess.CompletedProcess(
            done.args, done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace")
        )

    def output(self, *argv, input=None):
        """The bytes that a command printed, as lib.checks.files.Home wants them."""
        return self.run_bytes(*argv, input=input).stdout

    def shell(self, script, **options):
        """Run a shell script that ends at the first failure; its standard output."""
        return self.run("sh", "-ec", script, **options).stdout

    def start(self, *argv, env=None):
        """Start a command that goes on; its process."""
        pid = self.ask("start", [os.fsencode(str(part)) for part in argv], env=env)
        return next(one for one in self.processes() if one.pid == pid)

    def path(self, inside):
        """A file of the machine."""
        return RemotePath(self, inside)

    def read(self, inside):
        """The text of a file of the machine."""
        return self.path(inside).read_bytes().decode(errors="replace")

    def write(self, inside, text, mode=0o644, owner=None):
        """Write a file of the machine."""
        self.ask("write", str(inside), text if isinstance(text, bytes) else text.encode(), mode, owner)

    def processes(self):
        """The processes inside, the kernel's own left out."""
        return self._processes(self.ask("running"))

    def _processes(self, told):
        return [RemoteProcess(self, *one[:7], one[7] and tuple(one[7]), tuple(one[8])) for one in told]

    def look(self, programs, directories=()):
        """Several looks in one request: programs' files, processes, mounts, abstract sockets, and files by directory."""
        told = self.ask("look", programs, directories)
        return {**told, "programs": set(map(tuple, told["programs"])), "running": self._processes(told["running"])}

    def mounts(self):
        """The mount points, as mountinfo(5) lists them, without their ids."""
        return self.ask("mounts")

    def abstract_sockets(self):
        """The abstract unix sockets."""
        return self.ask("abstract_sockets")

    def namespaces(self):
        """All network, mount and pid namespaces that processes are in."""
        found = {(kind, one.namespace(kind)) for one in self.processes() for kind in ("net", "mnt", "pid")}
        return {item for item in found if item[1]}


class MachineLog(Syslog):
    """The messages that a machine's journal passes on."""

    def __init__(self, machine):
        self.entries = []
        self._socket = machine.connect("log")
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self):
        try:
            for line in self._socket.makefile("rb"):
                self.entries.append(parse(base64.b64decode(line)))
        except (OSError, ValueError):
            return


class MachineBastion(Bastion):
    """A bastion that is a virtual machine: systemd, the journal, logind, NFS and quotas."""

    #: Mounts that come and go with services of the system.
    _OF_THE_SYSTEM = re.compile(r"/run/(rpc_pipefs|user|credentials)\b|/proc/|/sys/")

    def __init__(self, machine, hub_url=None, package=None):  # pylint: disable=super-init-not-called
        self.machine = self.box = machine
        self.network, self.suite, self.address, self.penalties = machine.network, machine.suite, machine.address, False
        self.sshd = None
        self.syslog = MachineLog(machine)
        self._prepare()
        if package:
            self.install(package)
        if hub_url:
            self.configure(hub_url)

    def _prepare(self):
        box = self.box
        box.run("useradd", "--create-home", "--shell", "/bin/bash", "--groups", "sudo", self.ADMIN)
        box.run("chpasswd", input=f"{self.ADMIN}:{self.ADMIN_PASSWORD}\n")
        text = "MaxStartups 500:30:600\nMaxSessions 100\nLogLevel VERBOSE\nUseDNS no\n"
        if self.has_penalties():
            text += "PerSourcePenaltyExemptList 10.77.0.0/16\n"
        box.write("/etc/ssh/sshd_config.d/00-tests.conf", text)
        self.reload_sshd()

    def install(self, package):
        """Install the .deb that lies on the tests' disk; what it depends on is in the image."""
        return self.box.run(
            "dpkg",
            "--install",
            f"/run/tests/{Path(package).name}",
            timeout=300,
            env={"DEBIAN_FRONTEND": "noninteractive"},
        )

    def configure(self, hub_url, extra="", reload=True):
        """Write config.toml; it is read anew with each login."""
        super().configure(hub_url, extra, reload=False)
        if reload:
            self.reload_sshd()

    def reload_sshd(self):
        """systemctl reload ssh; waits until sshd listens anew."""
        mark = self.syslog.mark()
        self.box.run("systemctl", "reload-or-restart", "ssh")
        self.syslog.wait(r"Server listening on 0\.0\.0\.0", mark, 30)

    def state(self):
        """What is there now of sessions: our processes and sshd's, mounts, namespaces, sockets, files."""
        programs = (paths.PROGRAM, paths.JAIL_PROGRAM, paths.SESSION_SHELL, paths.SFTP_SERVER)
        seen = self.box.look(programs, ("/run/jupyterhub-openssh", "/tmp"))
        sessions = [*self._of_sessions(seen, programs), *(one for one in seen["running"] if one.name == "sshd")]
        ignored = re.compile(r"/run/jupyterhub-openssh/(connections|(uids|pts|confined)(/.*)?)$|/tmp/systemd-private-")
        return State(
            tuple(sorted(one.name for one in sessions)),
            tuple(mount for mount in seen["mounts"] if not self._OF_THE_SYSTEM.match(mount)),
            len({(kind, one.namespace(kind)) for one in sessions for kind in ("net", "mnt", "pid")}),
            tuple(name for name in seen["sockets"] if "jupyterhub" in name),
            tuple(sorted(line for line in seen["files"] if not ignored.match(line))),
        )

    def _running(self, *programs):
        return self._of_sessions(self.box.look(programs), programs)

    def _of_sessions(self, seen, programs):
        """Those processes that run one of the programs, but for what the timer runs each minute, whoever is logged in."""
        return [
            one
            for one in self._of(seen["running"], seen["programs"], programs)
            if one.command_line().split()[1:2] != ["metrics"]
        ]

    def close(self):
        """Stop reading the log and end the machine."""
        self.syslog.close()
        self.machine.close()


def _favour(pid):
    """Give a process a larger share of the processors than others get.

    The scheduler shares them out among sessions (sched(7), autogroup), and beside these tests run hundreds, one for
    each login. A machine whose processor is emulated would stand still for seconds, and not even answer ARP.
    """
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, pid, -10)
        Path(f"/proc/{pid}/autogroup").write_text("-10")


def _host():
    """What of this host's memory is available, and what room there is for qemu's changes of its disks."""
    memory = re.search(r"MemAvailable:.*", Path("/proc/meminfo").read_text())[0]
    # qemu's -drive snapshot=on puts them there.
    directory = os.environ.get("TMPDIR", "/var/tmp")
    return f"{memory}, {shutil.disk_usage(directory).free >> 20} MB free in {directory}, load {os.getloadavg()[0]:.1f}"


def _mac(address):
    """A hardware address that no other machine of the network has."""
    return "52:54:{:02x}:{:02x}:{:02x}:{:02x}".format(*map(int, address.split(".")))


def power_on(machines):
    """Start machines together, with KVM where it works; which accelerator it was, and the seconds to their readiness.

    A KVM that is there but cannot run Debian's kernel is tried once only in each boot of the testing machine.
    """
    note = IMAGES / "accelerator"
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    wanted = os.environ.get("JO_VM_ACCELERATOR")
    if not wanted:
        wanted = "kvm" if os.access("/dev/kvm", os.R_OK | os.W_OK) else "tcg"
        if note.exists() and note.read_text() == f"tcg {boot}":
            wanted = "tcg"
    for accelerator in dict.fromkeys((wanted, "tcg")):
        start = time.monotonic()
        for machine in machines:
            machine.power_on(accelerator)
        try:
            for machine in machines:
                machine.wait_ready(_BOOT[accelerator])
            return accelerator, time.monotonic() - start
        except (AssertionError, RuntimeError):
            if accelerator == "tcg":
                raise
            for machine in machines:
                machine.power_off()
            note.write_text(f"tcg {boot}")
    raise AssertionError("unreachable")
