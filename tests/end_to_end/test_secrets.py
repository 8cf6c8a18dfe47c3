"""While a session runs the token is nowhere but in its gateway, and users cannot reach each other."""

import json
import os
import re

import pytest

from lib import paths
from lib.checks.injail import in_jail
from lib.sandbox.processes import memory_holds
from lib.wait import wait_for


@pytest.fixture
def session(bastion, client, alice):
    with client.terminal(bastion, "alice", alice.token) as terminal:
        terminal.prompt()
        yield terminal
    alice.no_terminals()


def test_no_token_in_environments_and_command_lines(bastion, session, alice):
    token = alice.token.encode()
    for one in bastion.box.processes():
        assert token not in one.read("environ"), f"in the environment of {one.command_line()}"
        assert token not in one.read("cmdline"), f"on the command line of {one.name}"


def test_no_token_in_files(bastion, session, alice):
    found = bastion.box.run(
        "grep",
        "-rlF",
        "--exclude-dir=proc",
        "--exclude-dir=sys",
        "--exclude-dir=usr",
        "--exclude-dir=dev",
        alice.token,
        "/",
        check=False,
        timeout=120,
    ).stdout
    assert not found, f"the token is in {found}"
    found = bastion.box.run(
        "grep", "-rlF", "--devices=skip", alice.token, "/run", "/tmp", "/var", "/dev/shm", check=False
    ).stdout
    assert not found, f"the token is in {found}"


def test_no_token_in_logs(bastion, session, alice):
    assert not [one for one in bastion.syslog.entries if alice.token.encode() in one.raw]


def test_no_token_in_open_files_of_others(bastion, session, alice):
    for one in bastion.ours():
        for line in one.read("maps").splitlines():
            assert b"/memfd" not in line


def test_the_token_is_in_the_gateway_only(bastion, session, alice):
    """Rule 4: never in a process that runs under the user's uid."""
    token = alice.token.encode()
    assert any(memory_holds(one, token) for one in bastion.gateways()), "the probe doesn't work"
    for one in [*bastion.sessions(), *bastion.jails()]:
        assert not memory_holds(one, token), f"in the memory of {one.command_line()}"


def test_no_handle_in_the_session(bastion, session):
    """The gateway's handle is taken out of the PAM environment before the session inherits it."""
    for one in bastion.sessions():
        assert b"JUPYTERHUB_OPENSSH" not in one.read("environ")


@pytest.mark.parametrize("which", ["gateways", "jails"])
def test_no_cores_and_no_debugger(bastion, session, which):
    """Of what may hold the token or the handle; a session never does (see above)."""
    for one in getattr(bastion, which)():
        # prctl(2), PR_SET_DUMPABLE 0: the files of /proc/PID belong to root, and there is never a core.
        assert os.stat(one.path("environ")).st_uid == 0, f"{one.command_line()} can be dumped"
        limit = re.search(rb"Max core file size\s+(\S+)", one.read("limits"))[1]
        assert limit == b"0" or one.uid != 0, limit


def test_processes_have_no_privileges_left(bastion, session):
    for one in [*bastion.gateways(), *bastion.jails(), *bastion.sessions()]:
        status = one.read("status").decode()
        assert one.uid != 0, one.command_line()
        for kind in ("CapInh", "CapPrm", "CapEff", "CapAmb"):
            assert re.search(rf"{kind}:\t0+\n", status), f"{one.command_line()} has {kind}"
        ids = set(re.search(r"Uid:\t(.*)", status)[1].split())
        assert ids == {str(one.uid)}, f"{one.command_line()}: {ids}"
        if one in bastion.gateways() + bastion.jails():
            assert "NoNewPrivs:\t1" in status, one.command_line()
            assert one.namespace("mnt"), one


@pytest.fixture
def two_users_one_uid(bastion, client, alice, bob):
    """Sessions of alice and bob, who have the same uid by configuration."""
    with bastion.configured(alice.hub.url, FIXED_UID):
        with client.terminal(bastion, "alice", alice.token) as one:
            one.prompt()
            first = {p.pid: p for p in bastion.sessions()}
            with client.terminal(bastion, "bob", bob.token) as two:
                two.prompt()
                second = [p for p in bastion.sessions() if p.pid not in first]
                assert len(first) == len(second) == 1
                yield next(iter(first.values())), second[0]
    alice.no_terminals()
    bob.no_terminals()


#: Configuration: everyone has this uid and gid.
FIXED_UID = '[accounts]\nuid = "fixed"\nfixed = [70000, 70000]\n'


def test_same_uid_cannot_signal(bastion, two_users_one_uid):
    alices, bobs = two_users_one_uid
    assert alices.uid == bobs.uid
    seen = json.loads(
        in_jail(
            bobs,
            """
        kill = libc.kill
        print([pid for pid in range(1, 4194305) if not kill(pid, 0)])
    """,
        )
    )
    inside = {
        int(re.search(rb"NSpid:.*\t(\d+)\n", p.read("status"))[1])
        for p in bastion.box.processes()
        if p.namespace("pid") == bobs.namespace("pid")
    }
    own = len(inside) + 2
    assert len(seen) <= own, f"bob can signal {seen}; his own are {sorted(inside)}"
    assert bobs.namespace("pid") != alices.namespace("pid")


def test_same_uid_shares_no_sockets_or_files(bastion, two_users_one_uid):
    alices, bobs = two_users_one_uid
    for kind in ("net", "mnt", "pid"):
        assert alices.namespace(kind) != bobs.namespace(kind)
    names = bastion.box.abstract_sockets()
    said = in_jail(
        bobs,
        """
        print(os.listdir("/run"), [path for path in ("/proc", "/home/alice", "/tmp", "/sys") if os.path.exists(path)])
    """,
    )
    assert said == "['gateway.sock'] []\n"
    for name in names:
        assert (
            in_jail(
                bobs,
                f"""
            try:
                socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET).connect("\\0{name[1:]}")
            except OSError:
                print("out")
        """,
            )
            == "out\n"
        ), name


def test_the_jail_reaches_no_network(bastion, session):
    (one,) = bastion.sessions()
    said = in_jail(
        one,
        """
        for address in ("10.77.0.3", "10.77.1.1"):
            try:
                socket.create_connection((address, 8000), 5)
            except OSError:
                print("out")
    """,
    )
    assert said == "out\nout\n"
    links = re.findall(r"^\s*(\S+):", one.read("net/dev").decode(), re.M)
    assert links == ["lo"]


def test_the_jail_is_read_only(bastion, session):
    (one,) = bastion.sessions()
    said = in_jail(
        one,
        """
        for path in ("/x", "/usr/x", "/etc/x", "/run/x", "/dev/x", "/home/x", "/home/alice/x"):
            try:
                open(path, "w")
            except OSError:
                print("no")
    """,
    )
    assert said == 7 * "no\n"
    assert b"\nuid" not in one.read("environ")


def test_an_uninvited_process_cannot_claim_a_gateway(bastion, session):
    """Abstract sockets have no permissions: the handle's secret and the peer's uid must guard them."""
    for name in bastion.box.abstract_sockets():
        if "jupyterhub" not in name:
            continue
        for uid in (1000, 65534):
            done = bastion.box.run(
                "perl",
                "-e",
                "use Socket; socket(my $s, AF_UNIX, SOCK_SEQPACKET, 0) or die;"
                f"connect($s, pack_sockaddr_un(qq(\\0{name[1:]}))) or exit 0; send($s, 'x' x 64, 0); "
                "$SIG{ALRM} = sub { print 'hangs'; exit 0 }; alarm 15; my $n = sysread($s, my $b, 100); "
                "print $n ? 'answered' : '';",
                uid=uid,
                check=False,
            )
            assert done.stdout == "", (name, uid, done)
    assert session.run("echo unharmed") == "unharmed\n"


def test_programs_of_ours_are_no_danger_in_a_users_hands(bastion, session):
    """A local user may run them: they have no privileges and must just say no."""
    for program in (paths.SESSION_SHELL, paths.JAIL_PROGRAM):
        done = bastion.box.run(program, uid=1000, check=False, timeout=30)
        assert done.returncode not in (0, 101, 134), done
    done = bastion.box.run(paths.PROGRAM, "gateway", uid=1000, check=False, timeout=30)
    assert "panicked" not in done.stdout + done.stderr
    wait_for(lambda: len(bastion.gateways()) == 1, "no gateway was left by that")
