"""What an administrator has to run a bastion with: the log, status, limits, numbers, fail2ban."""

import json
import re
import shutil
import signal
import subprocess
from contextlib import contextmanager
from datetime import UTC, datetime

import paramiko
import pytest
from prometheus_client.parser import text_string_to_metric_families

from lib.actors import rest
from lib.actors.client import Refused
from lib.paths import CACHE, REPOSITORY
from lib.sandbox.namespace import die_with_parent
from lib.sandbox.storage import BY_HOME
from lib.wait import wait_for

pytestmark = pytest.mark.usefixtures("bastion")

PROGRAM = "jupyterhub-openssh"
#: A field of logfmt: a key, and a value that may be quoted.
FIELD = re.compile(r'(\w+)=("(?:[^"\\]|\\.)*"|[^\s"=]+)(?: |$)')


@pytest.fixture
def shared_bastion(homes_bastion):
    return homes_bastion


def fields(text):
    """The fields of one of our lines, which must be nothing else."""
    found, at = {}, 0
    while at < len(text):
        match = FIELD.match(text, at)
        assert match, f"no logfmt from character {at} on: {text}"
        value = match[2]
        found[match[1]] = json.loads(value) if value.startswith('"') else value
        at = match.end()
    return found


def logged(bastion, mark):
    """The fields of our lines since a mark."""
    ours = []
    for entry in bastion.syslog.since(mark):
        text = entry.text.removeprefix("pam_jupyterhub(sshd:auth): ").removeprefix("pam_jupyterhub(sshd:session): ")
        if entry.program == PROGRAM or text != entry.text:
            ours.append(fields(text))
    return ours


def sessions(bastion):
    """The live sessions, as `status --json` has them, by user."""
    answer = json.loads(bastion.box.run(PROGRAM, "status", "--json").stdout)
    assert answer["unanswered"] == []
    return {one["user"]: one for one in answer["sessions"]}


def kinds(session):
    """What a session has open."""
    return sorted(channel["kind"] for channel in session["channels"])


def numbers(bastion):
    """What `metrics` prints, by name and labels, once Prometheus' own parser has read it."""
    text = bastion.box.run(PROGRAM, "metrics").stdout
    return {
        (sample.name.removeprefix("jupyterhub_openssh_"), *sorted(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


# -- the log --------------------------------------------------------------------------------------


def test_a_session_has_one_name_in_all_lines(bastion, client, alice):
    mark = bastion.syslog.mark()
    with client.terminal(bastion, "alice", alice.token) as terminal:
        terminal.prompt()
    bastion.syslog.wait("event=session-closed", mark)
    lines = logged(bastion, mark)
    assert len({line["session"] for line in lines}) == 1, lines
    assert all(line["user"] == "alice" and line["peer"].startswith("10.77.1.") for line in lines)
    events = [line["event"] for line in lines]
    order = ["login", "session-opened", "channel-opened", "session-closed"]
    assert [event for event in events if event in order] == order and "token" in events, events
    login = next(line for line in lines if line["event"] == "login")
    assert (login["outcome"], login["by"]) == ("granted", "token")
    known = (REPOSITORY / "docs/logs.md").read_text()
    assert all(f"\n| `{event}` |" in known for event in events)


def test_each_refused_login_is_one_line(bastion, client):
    mark = bastion.syslog.mark()
    for token in ("0123456789abcdef", "no token at all"):
        with pytest.raises(Refused):
            client.login(bastion, "alice", token)
    wait_for(lambda: len([line for line in logged(bastion, mark) if line["event"] == "login"]) == 2, "two lines")
    for line in logged(bastion, mark):
        assert line["event"] in ("login", "token") and line["outcome"] == "refused" and line["reason"], line


def test_as_many_connections_as_are_allowed(bastion, client, hub, alice):
    """One more is told so, whatever local users do; others are not concerned, and what has ended makes room."""
    mark = bastion.syslog.mark()
    with bastion.configured(hub.url, "[session]\nmax_connections = 2\n"):
        open_ones = [client.login(bastion, "alice", alice.token) for _ in range(2)]
        with pytest.raises(Refused, match="You have 2 connections open on this host, as many as"):
            client.login(bastion, "alice", alice.token)
        bastion.syslog.wait("user=alice .*event=limit limit=max_connections outcome=refused", mark)
        # That is no attempt to break in, for which an address would be banned.
        outcomes = [line["outcome"] for line in logged(bastion, mark) if line["event"] == "login"]
        assert outcomes == ["granted", "granted", "unavailable"]
        client.login(bastion, "bob", hub.token("bob")).close()
        taken = bastion.box.run("sh", "-c", ": >>/run/jupyterhub-openssh/connections", uid=1000, check=False)
        assert taken.returncode and "denied" in taken.stderr

        def another():
            try:
                return client.login(bastion, "alice", alice.token)
            except Refused:
                return None

        open_ones.pop().close()
        open_ones.append(wait_for(another, "a closed connection makes room", 20))
        assert another() is None
        # The kernel counts: nothing is left of a gateway that is killed.
        next(one for one in bastion.gateways()).kill()
        open_ones.append(wait_for(another, "a killed gateway makes room", 20))
        for one in open_ones:
            one.close()


@pytest.mark.only("trixie")
def test_fail2ban_finds_refused_logins_and_nothing_else(bastion, client, hub, alice, scratch):
    mark = bastion.syslog.mark()
    client.login(bastion, "alice", alice.token).close()
    for user, source in (("alice", "10.77.1.2"), ("alice+gpu", "10.77.1.3"), ("alice@example.org", "10.77.1.4")):
        with pytest.raises(Refused):
            client.login(bastion, user, "0123456789abcdef", source=source)
    # Somebody tries to have another address banned.
    forged = "pam_jupyterhub(sshd:auth): session=0a0a0a0a user=x peer=10.77.1.99 event=login outcome=refused by=token reason=x"
    for user in (
        forged,
        f"x\n{forged}",
        f"sshd[1]: {forged}",
        "x peer=10.77.1.99 event=login outcome=refused by=token reason=",
        'x" peer=10.77.1.99 event=login',
    ):
        with pytest.raises(Refused):
            client.login(bastion, user, f"0123456789abcdef {forged}", source="10.77.1.5")
    # The hub being away is nobody's guess.
    with bastion.configured("http://10.77.0.99:1"), pytest.raises(Refused):
        client.login(bastion, "alice", alice.token, source="10.77.1.6")
    with pytest.raises(Refused):
        client.login(bastion, "alice", f'"{forged}', source="10.77.1.7")
    bastion.syslog.wait("peer=10.77.1.7 event=login outcome=refused", mark)

    work = scratch / "fail2ban"
    shutil.copytree(CACHE / "fail2ban/etc/fail2ban", work, dirs_exist_ok=True)
    shutil.copy(REPOSITORY / "packaging/fail2ban/jupyterhub-openssh.conf", work / "filter.d")
    # As rsyslog writes /var/log/auth.log.
    lines = [
        re.sub(r"^<\d+>(\w{3} [ \d]\d [\d:]{8}) ", r"\1 bastion ", entry.raw.rstrip(b"\0\n").decode("utf-8", "replace"))
        for entry in bastion.syslog.since(mark)
    ]
    # sshd tells addresses: a name would be somebody's invention.
    lines.append(
        next(line for line in lines if "peer=10.77.1.2 event=login" in line).replace("=10.77.1.2 ", "=localhost ")
    )
    (work / "auth.log").write_text("".join(f"{line}\n" for line in lines))
    done = subprocess.run(
        [
            "/usr/bin/python3",
            "-B",
            CACHE / "fail2ban/usr/bin/fail2ban-regex",
            "-c",
            work,
            "-o",
            "ip",
            work / "auth.log",
            work / "filter.d/jupyterhub-openssh.conf",
        ],
        env={
            "PYTHONPATH": str(CACHE / "fail2ban/usr/lib/python3/dist-packages"),
            "PATH": "/usr/bin:/bin",
            "LANG": "C.UTF-8",
        },
        capture_output=True,
        text=True,
        timeout=60,
    )
    found = re.findall(r"^10\.\S+$", done.stdout, re.M)
    assert "127.0.0.1" not in done.stdout and found == ["10.77.1.2", "10.77.1.3", "10.77.1.4", "10.77.1.7"], (
        done.stdout,
        done.stderr,
        "\n".join(lines),
    )


# -- status ---------------------------------------------------------------------------------------


def test_status_of_a_terminal_and_a_command(bastion, client, alice):
    before = datetime.now(UTC).replace(microsecond=0)
    with client.terminal(bastion, "alice", alice.token) as terminal:
        terminal.prompt()
        terminal.run("echo some input")
        command = terminal.transport.open_session()
        command.exec_command("cat")
        command.sendall(b"x" * 1000)
        wait_for(
            lambda: (
                kinds(sessions(bastion)["alice"]) == ["command", "shell"]
                and min(sessions(bastion)["alice"][way] for way in ("bytes_in", "bytes_out")) > 1000
            ),
            lambda: sessions(bastion),
        )
        one = sessions(bastion)["alice"]
        assert one["peer"].startswith("10.77.1.") and one["server"] == "" and one["idle_seconds"] < 60
        assert before <= datetime.fromisoformat(one["since"].replace("Z", "+00:00"))
        assert re.search(rf"session={one['session']} user=alice", bastion.syslog.dump())
        table = bastion.box.run(PROGRAM, "status").stdout
        assert re.search(rf"(?m)^{one['session']} +alice +10\.77\.1\.\d +\S+ +\S+ +\S+ +\S+ +command, shell$", table), (
            table
        )
        assert "HOME" in table or "Homes" in table
        others = bastion.box.run(PROGRAM, "status", "--sessions", uid=65534, check=False)
        assert others.returncode == 1 and "only root" in others.stdout
    bastion.wait_quiet()
    assert sessions(bastion) == {}
    assert "Sessions: none." in bastion.box.run(PROGRAM, "status", "--sessions").stdout


def test_status_of_sftp(bastion, place):
    with place.paramiko() as files:
        files.listdir()
        one = wait_for(lambda: sessions(bastion).get("dora"), "a session")
        assert kinds(one) == ["sftp"] and one["idle_seconds"] is None
        files.close()
        wait_for(lambda: kinds(sessions(bastion)["dora"]) == [], lambda: sessions(bastion))


def test_a_gateway_that_hangs_or_is_killed(bastion, client, alice, bob):
    with client.terminal(bastion, "bob", bob.token) as good, client.terminal(bastion, "alice", alice.token) as bad:
        good.prompt()
        bad.prompt()
        session = sessions(bastion)["alice"]["session"]
        addresses = [name for name in bastion.box.abstract_sockets() if f"-session/{session}" in name]
        # Root's own look at who listens there.
        gateway = next(
            one for one in bastion.gateways() if any(fd_inode(one, inode) for inode in inodes(bastion, addresses[0]))
        )
        gateway.kill(19)
        try:
            done = bastion.box.run(PROGRAM, "status", "--sessions", check=False)
            assert done.returncode == 1
            assert re.search(rf"(?m)^{session} .*does not answer$", done.stdout), done.stdout
            assert re.search(r"(?m)^\S+ +bob ", done.stdout), done.stdout
        finally:
            gateway.kill(18)
        gateway.kill()
        wait_for(lambda: list(sessions(bastion)) == ["bob"], lambda: sessions(bastion))
        assert not set(addresses) & set(bastion.box.abstract_sockets())
        bad.wait_closed()
    for name in alice.jupyter.terminals():
        alice.jupyter.delete_terminal(name)


def inodes(bastion, name):
    """Those of the sockets with an abstract name."""
    with open(f"/proc/{bastion.box.pid}/net/unix") as table:
        return [line.split()[6] for line in table if line.rstrip().endswith(name)]


def fd_inode(process, inode):
    """Whether a process has this socket."""
    done = subprocess.run(
        ["find", process.path("fd"), "-lname", f"socket:\\[{inode}\\]"], capture_output=True, text=True
    )
    return bool(done.stdout)


#: Listens under each of the names that are its arguments, and keeps the queue full of those that begin with "full:".
STRANGER = """
import socket, sys
kept = []
for name in sys.argv[1:]:
    full, name = name.startswith("full:"), "\\0" + name.removeprefix("full:")
    kept.append(socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET))
    kept[-1].bind(name)
    kept[-1].listen(1 if full else 100)
    try:
        while full:
            kept.append(socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK))
            kept[-1].connect(name)
    except BlockingIOError:
        pass
print("ready", flush=True)
sys.stdin.read()
"""


@contextmanager
def stranger(bastion, *names):
    """A local user who has taken abstract names."""
    command = bastion.box.network.command(
        "setpriv",
        "--reuid=65534",
        "--regid=65534",
        "--clear-groups",
        "/usr/bin/python3",
        "-I",
        "-S",
        "-B",
        "-c",
        STRANGER,
        *names,
    )
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, preexec_fn=die_with_parent
    ) as process:
        assert process.stdout.readline() == "ready\n"
        yield
        process.stdin.close()


def test_names_of_a_stranger_hide_no_session(bastion, client, alice):
    """Names that say: it is logging in; that are many and come first; that have the same digits; with a full queue."""
    admin, claim = "jupyterhub-openssh-session/", "jupyterhub-openssh/"
    with client.terminal(bastion, "alice", alice.token) as terminal:
        terminal.prompt()
        session = sessions(bastion)["alice"]["session"]
        (address,) = (
            name.rpartition("/")[2] for name in bastion.box.abstract_sockets() if f"@{admin}{session}" in name
        )
        names = [claim + address, *(f"{admin}{number:032x}" for number in range(900)), admin + session + "f" * 24]
        with stranger(bastion, *names):
            assert sessions(bastion)["alice"]["session"] == session
            assert numbers(bastion)[("sessions",)] == 1
            done = bastion.box.run(PROGRAM, "status", "--sessions")
            assert re.search(rf"(?m)^{session} +alice ", done.stdout), done.stdout
            with stranger(bastion, "full:" + admin + "0" * 28 + "ffff", "full:" + admin + session + "e" * 24):
                done = bastion.box.run(PROGRAM, "status", "--sessions", check=False)
                assert done.returncode == 1 and done.stdout.count("does not answer") == 2, done.stdout
                assert re.match(rf"{session} +alice ", done.stdout.splitlines()[1]), done.stdout
                assert numbers(bastion)[("sessions",)] == 1
                bastion.box.run(PROGRAM, "disconnect", session)
            assert b"An administrator has ended this session." in terminal.wait_closed()
            wait_for(lambda: sessions(bastion) == {}, lambda: sessions(bastion))
    bastion.wait_quiet()


def test_disconnect_while_the_users_server_is_stopped(bastion, client, hub, make_place):
    """Its user must not keep files of this host open by that: the gateway alone waits for terminals to close."""
    place = make_place("alice", 1000, 100)
    hub.start_server("alice")
    mark = bastion.syslog.mark()
    transport = client.login(bastion, "alice", place.token)
    files = transport.open_sftp_client()
    command = transport.open_session()
    command.exec_command("echo runs; sleep 100")
    assert command.recv(100) == b"runs\n"
    stopped = hub.server_processes("alice")
    try:
        for one in stopped:
            one.kill(signal.SIGSTOP)
        bastion.box.run(PROGRAM, "disconnect", sessions(bastion)["alice"]["session"])
        assert b"An administrator has ended this session." in command.makefile_stderr().read()
        wait_for(lambda: not bastion.jails() and not bastion.sftp_servers(), "the jail ends")
        assert bastion.gateways() and "session-closed" not in "".join(one.text for one in bastion.syslog.since(mark))
        with pytest.raises((EOFError, OSError, paramiko.SSHException)):
            files.listdir()
    finally:
        for one in stopped:
            one.kill(signal.SIGCONT)
    bastion.wait_quiet(40)


def test_disconnect(bastion, client, alice, place):
    mark, before = bastion.syslog.mark(), numbers(bastion)
    with client.terminal(bastion, "alice", alice.token) as terminal, place.paramiko() as files:
        terminal.prompt()
        files.listdir()
        live = sessions(bastion)
        for user in ("alice", "dora"):
            bastion.box.run(PROGRAM, "disconnect", live[user]["session"])
        assert b"An administrator has ended this session." in terminal.wait_closed()
        assert terminal.exit_status() == 255
        with pytest.raises((EOFError, OSError, paramiko.SSHException)):
            wait_for(lambda: files.listdir() is None, "the connection ends")
    bastion.wait_quiet()
    assert len([line for line in logged(bastion, mark) if line["event"] == "disconnect"]) == 2
    ended = ("sessions_ended_total", "administrator")
    assert numbers(bastion)[ended] == before[ended] + 2
    unknown = bastion.box.run(PROGRAM, "disconnect", live["alice"]["session"], check=False)
    assert unknown.returncode == 1 and "no such session" in unknown.stderr
    others = bastion.box.run(PROGRAM, "disconnect", live["alice"]["session"], uid=65534, check=False)
    assert others.returncode == 1 and "Only root" in others.stderr


# -- limits ---------------------------------------------------------------------------------------


@contextmanager
def limited(bastion, hub, text, more=""):
    with bastion.configured(hub.url, f"{BY_HOME}{more}[session]\n{text}\n"):
        yield


@pytest.mark.parametrize("mode", ["auto", "plain"])
def test_an_idle_terminal_is_warned_and_ended(bastion, client, hub, alice, mode):
    """And does not keep the user's server from being culled any more: nothing of ours reaches the proxy then."""
    mark = bastion.syslog.mark()
    with limited(bastion, hub, "idle_limit = 10", f'[terminal]\nmode = "{mode}"\n'):
        with client.terminal(bastion, "alice", alice.token) as terminal:
            terminal.prompt()
            terminal.expect(rb"\n\[jupyterhub-openssh: nothing was typed for long: this session ends in 1 second")
            assert b"This session was idle for 10 seconds and has been ended." in terminal.wait_closed()
            assert terminal.exit_status() == 255
        bastion.wait_quiet()
    told = [(line["limit"], line["outcome"]) for line in logged(bastion, mark) if line["event"] == "limit"]
    assert told == [("idle_limit", "warned"), ("idle_limit", "ended")]
    if mode == "auto":
        # Longer than between two of our PINGs.
        wait_for(
            lambda: quiet_for(hub, "alice") > 12,
            lambda: f"the proxy hears nothing, since {quiet_for(hub, 'alice')} s",
            30,
        )


def quiet_for(hub, user):
    """Seconds since the hub's proxy has last seen activity of a user's server: what cullers go by."""
    routes = rest.request(hub.box.network, "GET", "http://127.0.0.1:8001/api/routes", hub.proxy_token).ok().json()
    last = datetime.fromisoformat(routes[f"/user/{user}"]["last_activity"].replace("Z", "+00:00"))
    return (datetime.now(UTC) - last).total_seconds()


def test_a_connection_without_anything_is_idle(bastion, client, hub, alice):
    with bastion.configured(hub.url, "[session]\nidle_limit = 5\n"):
        transport = client.login(bastion, "alice", alice.token)
        wait_for(lambda: not transport.is_active(), "the connection ends", 30)
    bastion.wait_quiet()


def test_typing_and_output_of_commands_are_not_idle(bastion, client, hub, alice, place):
    """Nor is sftp, whose bytes the gateway doesn't see; nor what may be a door for files, of which it sees nothing."""
    with limited(bastion, hub, "idle_limit = 5"), place.paramiko() as files:
        files.listdir()
        silent = client.login(bastion, "alice", alice.token)
        with client.terminal(bastion, "alice", alice.token) as terminal:
            terminal.prompt()
            # What a terminal shows is not somebody's doing.
            terminal.send("while sleep 1; do echo tick; done\r")
            command = client.login(bastion, "alice", alice.token).open_session()
            command.exec_command("for n in 1 2 3 4 5 6 7 8; do sleep 1; echo $n; done")
            assert b"idle for 5 seconds" in terminal.wait_closed()
            assert command.makefile().read() == b"1\n2\n3\n4\n5\n6\n7\n8\n"
            assert command.recv_exit_status() == 0
        assert files.listdir() == [] and silent.is_active()


def test_no_session_is_longer_than_allowed(bastion, client, hub, alice):
    before = numbers(bastion)
    with limited(bastion, hub, "max_length = 5"):
        command = client.login(bastion, "alice", alice.token).open_session()
        command.exec_command("while sleep 0.2; do echo; done")
        assert command.recv_exit_status() == 255
        assert b"This session has lasted 5 seconds" in command.makefile_stderr().read()
        bastion.wait_quiet()
    ended = ("sessions_ended_total", "max_length")
    assert numbers(bastion)[ended] == before[ended] + 1


# -- numbers --------------------------------------------------------------------------------------


def test_what_is_counted(bastion, client, hub):
    hub.add_user("erin")
    before = numbers(bastion)
    with pytest.raises(Refused):
        client.login(bastion, "erin", "0123456789abcdef")
    transport = client.login(bastion, "erin", hub.token("erin"))
    command = transport.open_session()
    command.exec_command("cat")
    command.sendall(b"x" * 5000)
    command.shutdown_write()
    assert command.makefile().read() == b"x" * 5000
    assert numbers(bastion)[("sessions",)] == 1
    transport.close()
    bastion.wait_quiet()
    after = numbers(bastion)
    for key, least in (
        (("logins_total", "refused", "token"), 1),
        (("logins_total", "granted", "token"), 1),
        (("sessions_total",), 1),
        (("received_bytes_total",), 5000),
        (("sent_bytes_total",), 5000),
        (("server_start_seconds_count",), 1),
        (("server_start_seconds_bucket", "+Inf"), 1),
    ):
        assert after[key] - before[key] == least, (key, before, after)
    assert after[("sessions",)] == 0 and after[("server_start_seconds_sum",)] > before[("server_start_seconds_sum",)]
    hub.stop_server("erin")


def test_the_textfile(bastion, hub):
    box, path = bastion.box, "/var/lib/node/jupyterhub-openssh.prom"
    box.path("/var/lib/node").mkdir()
    box.run(PROGRAM, "metrics", "--textfile")
    assert not box.path(path).exists()
    with bastion.configured(hub.url, f'[metrics]\ntextfile = "{path}"\n'):
        box.run(PROGRAM, "metrics", "--textfile")
        assert list(text_string_to_metric_families(box.read(path)))
        assert box.path(path).stat().st_mode & 0o777 == 0o644
        assert [one.name for one in box.path("/var/lib/node").iterdir()] == ["jupyterhub-openssh.prom"]
        # A damaged file of numbers is begun anew, and no login fails for it.
        box.write("/var/lib/jupyterhub-openssh/counters", b"\xff" * 7, 0o600)
        box.run(PROGRAM, "metrics", "--textfile")
    assert numbers(bastion)[("sessions_total",)] == 0
    shutil.rmtree(box.path("/var/lib/node"))
