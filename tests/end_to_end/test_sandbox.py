"""What each process of a connection may still do: a test for each row of the table in docs/threats.md.

What a forbidden call does is tried by the unit tests of src/host/sandbox, in a process that is confined in the same way. Here is
shown that the processes of real sessions are, and that nothing of theirs is refused.
"""

import os
import re
import subprocess

import pytest

from lib import paths
from lib.actors.faultyhub import hang
from lib.actors.keys import (
    AUTHORIZED_KEYS_PROGRAM,
    HUB_KEYS_PROGRAM,
    KEYS_USER,
    Key,
    door,
    gateways,
    keepers,
    keys_table,
    service_token,
    uid_of,
)
from lib.checks.injail import in_jail
from lib.checks.place import sftp
from lib.sandbox.storage import BY_HOME, FIXED
from lib.wait import wait_for

CAPABILITIES = ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")
#: Filter mode of seccomp(2), in /proc/PID/status.
FILTERED = "2"
#: Soft and hard limits of processes that speak with the network, as in src/host/sandbox/limits.rs.
LIMITS = {
    "Max data size": 1 << 30,
    "Max open files": 1024,
    "Max file size": 1 << 20,
    "Max core file size": 0,
    "Max msgqueue size": 0,
}
CONFIG = BY_HOME + keys_table("home", token_lifetime=600)


@pytest.fixture
def shared_bastion(homes_bastion):
    return homes_bastion


@pytest.fixture(scope="module")
def key(tmp_path_factory):
    return Key(tmp_path_factory.mktemp("keys"))


@pytest.fixture
def login(bastion, client, hub, alice, make_place, key):
    """Alice's terminal after a login with a key: every process that there is. An sftp session besides."""
    place = make_place("alice", 1000, 100)
    with door(client, bastion, hub, place, CONFIG) as alices:
        alices.authorize(key.public)
        transport = alices.enter(key)
        files = transport.open_sftp_client()
        files.listdir()
        with client.terminal(bastion, "alice", None, transport=transport) as terminal:
            terminal.prompt()
            yield terminal


def status(process):
    """The fields of /proc/PID/status (proc(5))."""
    return dict(line.split(":\t", 1) for line in process.read("status").decode().splitlines() if ":\t" in line)


def limits(process):
    """Soft and hard limit by name; None is unlimited."""
    found = {}
    for line in process.read("limits").decode().splitlines()[1:]:
        name, soft, hard = re.match(r"(\S.*?)\s{2,}(\S+)\s+(\S+)", line).groups()
        found[name] = tuple(None if value == "unlimited" else int(value) for value in (soft, hard))
    return found


def descriptors(process):
    """The paths of its open files."""
    return [process.path(f"fd/{number}") for number in os.listdir(process.path("fd"))]


def is_hidden(process):
    """Not dumpable: the files of /proc/PID are root's (PR_SET_DUMPABLE(2const))."""
    return os.stat(process.path("environ")).st_uid == 0 and process.uid != 0


def unprivileged(process, user=None):
    """Checks the identity of a process: one uid, no group but its own, no capability, no way to get one."""
    found = status(process)
    assert set(found["Uid"].split()) == {str(process.uid)} and process.uid != 0
    assert user is None or process.uid == user
    assert found["NoNewPrivs"] == "1", process.command_line()
    return found


def confined(process, user):
    """Checks everything that gateway, keeper and the jail's first process have in common."""
    found = unprivileged(process, user)
    assert not found["Groups"].split() or set(found["Groups"].split()) == {found["Gid"].split()[0]}
    for kind in CAPABILITIES:
        assert int(found[kind], 16) == 0, f"{process.command_line()} has {kind}"
    assert found["Seccomp"] == FILTERED and is_hidden(process)
    has_limits(process)
    return found


def has_limits(process):
    """Checks the limits of all but sessions."""
    have = limits(process)
    for name, most in LIMITS.items():
        assert have[name] == (most, most), f"{process.command_line()}: {name} {have[name]}"


def test_gateway(bastion, login):
    (gateway,) = gateways(bastion)
    found = confined(gateway, uid_of(bastion, paths.GATEWAY_USER))
    assert found["Seccomp_filters"] == "3"
    # All that it can write to, and not map to be executed (mmap(2)).
    counters = [path for path in descriptors(gateway) if os.readlink(path).endswith("counters")]
    assert [os.statvfs(path).f_flag & os.ST_NOEXEC for path in counters] == [os.ST_NOEXEC]
    # The host's namespaces: it has to reach the hub, and names of it.
    assert gateway.namespace("net") != bastion.sessions()[0].namespace("net")


def test_keeper(bastion, login):
    (keeper,) = keepers(bastion)
    found = confined(keeper, uid_of(bastion, KEYS_USER))
    assert found["Seccomp_filters"] == "3"
    assert os.readlink(keeper.path("cwd")) == "/"


def test_jail(bastion, login):
    (jail,) = bastion.jails()
    found = confined(jail, uid_of(bastion, paths.GATEWAY_USER))
    assert found["Seccomp_filters"] == "1"
    for kind in ("net", "mnt", "pid"):
        assert jail.namespace(kind) == bastion.sessions()[0].namespace(kind)
    assert found["NSpid"].split()[-1] == "1"


def confined_in_jail(bastion, process):
    found = unprivileged(process, 1000)
    assert found["Seccomp"] == FILTERED and found["Seccomp_filters"] == "1"
    for kind in ("CapInh", "CapPrm", "CapEff", "CapAmb"):
        assert int(found[kind], 16) == 0, kind
    assert limits(process)["Max core file size"] == (0, 0)
    (gateway,) = gateways(bastion)
    for kind in ("net", "mnt", "pid", "ipc", "uts"):
        assert process.namespace(kind) != gateway.namespace(kind)
    assert re.findall(r"^\s*(\S+):", process.read("net/dev").decode(), re.M) == ["lo"]


def test_session(bastion, login):
    (session,) = bastion.sessions()
    confined_in_jail(bastion, session)
    assert is_hidden(session)


def test_sftp_server(bastion, login):
    (server,) = bastion.sftp_servers()
    confined_in_jail(bastion, server)
    # It hides itself: platform_disable_tracing() in OpenSSH.
    assert is_hidden(server)


def test_sshd(bastion, login):
    """Stock sshd: a monitor that is root, and an unprivileged process for the connection, in the session's namespaces."""
    (session,) = bastion.sessions()
    of_alice = [one for one in bastion.sshd_of_sessions() if one.namespace("net") == session.namespace("net")]
    by_uid = {one.uid: one for one in of_alice}
    assert set(by_uid) == {0, 1000}, of_alice
    for kind in ("CapInh", "CapPrm", "CapEff", "CapAmb"):
        assert int(status(by_uid[1000])[kind], 16) == 0
    for kind in ("mnt", "ipc", "uts"):
        assert by_uid[0].namespace(kind) == by_uid[1000].namespace(kind) == session.namespace(kind)
    # Without its chroot the user's process would be refused the first step of every path; see test_confinement.py.
    root = os.stat(by_uid[0].path("root/."))
    assert (root.st_uid, root.st_mode & 0o777) == (0, 0o700)
    for name in ("tmp", "var/tmp", "dev/shm"):
        assert os.listdir(by_uid[0].path(f"root/{name}")) == [], name


@pytest.fixture
def asking(bastion, hub, faulty, key):
    """authorized-keys as sshd runs it, and hub-keys, for a few seconds: the hub doesn't answer."""
    hub.add_user("dora")
    faulty.on("GET", r"/users/dora$", hang)
    kind, blob = key.public.split()
    with service_token(bastion, hub.keys_token), bastion.configured(faulty.url, FIXED + keys_table("hub")):
        bastion.box.start(AUTHORIZED_KEYS_PROGRAM, "dora", kind, blob, key.fingerprint(), uid=1000, gid=100)
        wait_for(lambda: faulty.seen(r"/users/dora$"), "the hub is asked")
        (authorized_keys,), (hub_keys,) = bastion._running(AUTHORIZED_KEYS_PROGRAM), bastion._running(HUB_KEYS_PROGRAM)
        yield authorized_keys, hub_keys
        wait_for(lambda: not bastion._running(AUTHORIZED_KEYS_PROGRAM, HUB_KEYS_PROGRAM), "both end", 20)


def test_hub_keys(bastion, asking):
    _, hub_keys = asking
    found = unprivileged(hub_keys, uid_of(bastion, KEYS_USER))
    assert found["Seccomp_filters"] == "3" and is_hidden(hub_keys)
    has_limits(hub_keys)


def test_authorized_keys(bastion, asking):
    """No filter and no no_new_privs: hub-keys has another uid. It has nobody's privileges but the user's."""
    authorized_keys, _ = asking
    found = status(authorized_keys)
    assert set(found["Uid"].split()) == {"1000"} and is_hidden(authorized_keys)
    for kind in ("CapInh", "CapPrm", "CapEff", "CapAmb"):
        assert int(found[kind], 16) == 0, kind
    has_limits(authorized_keys)


# What they can do.


def test_gateways_cannot_look_at_each_other(bastion, login):
    """They share a uid, and the jail's first process has it too."""
    (gateway,) = gateways(bastion)
    for one in (gateway, *bastion.jails(), *keepers(bastion)):
        number = re.search(r"NSpid:\t.*", one.read("status").decode())[0].split()[1:]
        # As the bastion numbers it: its sandbox is a namespace of its own.
        number = number[1] if len(number) > 1 else number[0]
        for file in ("environ", "maps", "mem", "fd/"):
            done = bastion.box.run("ls", f"/proc/{number}/{file}", uid=gateway.uid, check=False)
            done = (
                done
                if file == "fd/"
                else bastion.box.run("cat", f"/proc/{number}/{file}", uid=gateway.uid, check=False)
            )
            assert done.returncode, (one.command_line(), file)


def test_a_local_account_with_the_same_uid(bastion, client, login, request):
    """It gets neither at the terminal nor into the processes; the log names it. Only signals reach them."""
    (session,) = bastion.sessions()
    terminal = os.readlink(session.path("fd/0"))
    assert re.fullmatch(r"/dev/pts/\d+", terminal)
    owner = bastion.box.path(terminal).stat()
    assert owner.st_uid == 0 and owner.st_mode & 0o7777 in (0o600, 0o620)
    of_alice = [session, *(one for one in bastion.sshd_of_sessions() if one.uid == 1000)]
    assert len(of_alice) == 2
    numbers = [re.search(r"NSpid:\t\d+\t(\d+)", one.read("status").decode())[1] for one in of_alice]
    ways = [
        terminal,
        *(
            f"/proc/{number}/{way}"
            for number in numbers
            for way in (*(f"fd/{fd}" for fd in range(12)), "root/dev/tty", f"root{terminal}", "cwd/.", "mem")
        ),
    ]
    with client.admin_terminal(bastion) as admin:
        admin.prompt()
        assert "uid=1000" in admin.run("id")
        said = admin.run(
            "for way in %s; do { : <$way; } 2>/dev/null || { : >>$way; } 2>/dev/null && echo $way; done; "
            "echo done" % " ".join(ways)
        )
        assert said == "done\n"
    # It is what it was to sshd and to its user.
    login.resize(33, 111)
    assert login.run("stty size") == "33 111\n"
    of_session = r"session=\S+ user=alice peer=\S+ event=uid uid=1000 accounts=localadmin "
    bastion.syslog.wait(of_session, request.node.log_mark)
    of_sshd = [entry.text for entry in bastion.syslog.since(request.node.log_mark) if entry.program.startswith("sshd")]
    assert not [line for line in of_sshd if "error:" in line or "/dev/pts" in line]


@pytest.mark.only("bookworm")
def test_who_is_on(bastion, login, suite):
    """In utmp(5) a terminal has the name that it has on the host."""
    if suite != "bookworm":
        pytest.skip("Debian 13's sshd keeps no utmp")
    (session,) = bastion.sessions()
    terminal = os.readlink(session.path("fd/0")).removeprefix("/dev/")
    assert re.search(rf"^alice .*{terminal}\b", bastion.box.run("who").stdout, re.M)


def test_the_session_reaches_no_other_family_of_sockets(bastion, login):
    (session,) = bastion.sessions()
    said = in_jail(
        session,
        """
        for family in (socket.AF_INET, socket.AF_INET6):
            try:
                socket.socket(family, socket.SOCK_STREAM).connect(("10.77.0.3", 8000) if family == socket.AF_INET
                                                                  else ("fd00::1", 8000))
            except OSError:
                print("out")
    """,
    )
    assert said == "out\nout\n"


@pytest.fixture
def nothing_refused():
    """Fails when the kernel refused a system call of our programs meanwhile: it logs those (SECCOMP_FILTER_FLAG_LOG)."""
    before = kernel_log()
    yield
    after = kernel_log()
    since = after[after.index(before[-1]) + 1 :] if before and before[-1] in after else after
    ours = re.compile(r'type=1326.*exe="/usr/(bin|lib)/jupyterhub-openssh')
    refused = [line for line in since if ours.search(line)]
    assert not refused, "\n".join(refused)


def kernel_log():
    """Its lines, as far back as they are kept."""
    return subprocess.run(["dmesg", "--raw"], capture_output=True, text=True, check=True).stdout.splitlines()


@pytest.fixture
def hub_by_name(bastion, hub):
    """The hub's address with a name, which the bastion has to look up: its modules are loaded after the confinement."""
    address = hub.url.split("/")[2].split(":")[0]
    hosts = bastion.box.read("/etc/hosts")
    bastion.box.write("/etc/hosts", f"{hosts}{address} hub.test\n")
    yield hub.url.replace(address, "hub.test")
    bastion.box.write("/etc/hosts", hosts)


def test_nothing_is_refused(nothing_refused, bastion, client, hub, hub_by_name, alice, make_place, key):
    """A login with a key, the server started, a terminal, a command, files: no call is missing from the tables."""
    place = make_place("alice", 1000, 100)
    hub.stop_server("alice")
    with door(client, bastion, hub, place, CONFIG, hub_by_name) as alices:
        alices.authorize(key.public)
        transport = alices.enter(key)
        with client.terminal(bastion, "alice", None, transport=transport) as terminal:
            terminal.prompt(timeout=60)
            assert terminal.run("echo $((6*7))") == "42\n"
            channel = transport.open_session()
            channel.exec_command("seq 100000 | cksum")
            assert channel.makefile().read() == b"2052179976 588895\n"
            sftp(place, "pwd")
    wait_for(lambda: not bastion.ours(), "all have ended", 20)
