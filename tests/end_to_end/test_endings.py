"""How sessions end: exit, lost connections, killed processes, restarted proxies; nothing is left behind."""

import signal

import pexpect
import pytest

from lib.checks import expect
from lib.sandbox import processes
from lib.wait import wait_for

pytestmark = [pytest.mark.usefixtures("terminal_mode"), pytest.mark.waits]


def test_exit(bastion, client, alice):
    with client.terminal(bastion, "alice", alice.token) as terminal:
        terminal.prompt()
        terminal.send("exit\r")
        terminal.wait_closed()
        assert terminal.exit_status() == 0
    alice.no_terminals()


def test_ctrl_d(bastion, client, alice):
    with client.terminal(bastion, "alice", alice.token) as terminal:
        terminal.prompt()
        terminal.send(b"\x04")
        terminal.wait_closed()
        assert terminal.exit_status() == 0


def test_the_last_words_of_a_shell_arrive(bastion, client, alice):
    for _ in range(5):
        with client.terminal(bastion, "alice", alice.token) as terminal:
            terminal.prompt()
            terminal.send("exec sh -c 'seq 20000; echo last''-words'\r")
            assert b"19999\r\n20000\r\nlast-words" in terminal.wait_closed()


def test_the_clients_tty_is_restored(bastion, client, alice):
    child = client.spawn(bastion, "alice", alice.token)
    child.expect(r"\$ ")
    child.sendline("exit")
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 0


@pytest.mark.parametrize("how", ["close_window", "drop"])
def test_a_closed_connection_closes_the_terminal(bastion, client, alice, how):
    terminal = client.terminal(bastion, "alice", alice.token)
    terminal.prompt()
    terminal.send("sleep 12345\r")
    terminal.expect("12345\r\n")
    getattr(terminal, how)()
    alice.no_terminals()
    wait_for(
        lambda: not any("sleep 12345" in one.command_line() for one in alice.hub.server_processes("alice")),
        "the program in the terminal has ended",
    )


def test_a_killed_client(bastion, client, alice):
    child = client.spawn(bastion, "alice", alice.token)
    child.expect(r"\$ ")
    child.kill(signal.SIGKILL)
    child.close()
    alice.no_terminals()


def test_a_connection_that_goes_dead(bastion, client, alice, network):
    """The client's machine vanishes: no FIN, no reset. sshd's keepalives find out."""
    bastion.box.write(
        "/etc/ssh/sshd_config.d/01-alive.conf", "Match User alice\nClientAliveInterval 1\nClientAliveCountMax 2\n"
    )
    bastion.reload_sshd()
    source = network.CLIENTS[7]
    try:
        terminal = client.terminal(bastion, "alice", alice.token, source=source)
        terminal.prompt()
        rule = (
            f"table inet dead {{ chain c {{ type filter hook input priority 0; ip saddr {source} drop; }}; "
            f"chain o {{ type filter hook output priority 0; ip daddr {source} drop; }}; }}"
        )
        bastion.box.network.run("nft", rule)
        alice.no_terminals(30)
        bastion.wait_quiet()
    finally:
        bastion.box.path("/etc/ssh/sshd_config.d/01-alive.conf").unlink()
        bastion.box.network.run("nft", "delete table inet dead")
        bastion.reload_sshd()
        terminal.drop()


PROCESSES = {
    "gateway": lambda bastion: bastion.gateways(),
    "jail": lambda bastion: bastion.jails(),
    "session": lambda bastion: bastion.sessions(),
    "sshd-monitor": lambda bastion: [one for one in bastion.sshd_of_sessions() if one.uid == 0],
    "sshd-user": lambda bastion: [one for one in bastion.sshd_of_sessions() if one.uid != 0],
}


@pytest.mark.parametrize("busy", [False, True], ids=["idle", "busy"])
@pytest.mark.parametrize("which", PROCESSES)
def test_kill_9_of_each_process(bastion, client, alice, which, busy):
    terminal = client.terminal(bastion, "alice", alice.token)
    terminal.prompt()
    if busy:
        terminal.send("yes a-flood\r")
        terminal.expect("a-flood\r\na-flood")
    found = PROCESSES[which](bastion)
    assert found, f"no {which} among {[p.command_line() for p in bastion.box.processes()]}"
    for one in found:
        one.kill()
    try:
        rest = terminal.wait_closed(20)
        if which == "gateway":
            assert terminal.exit_status() != 0 and rest.strip(), "a lost gateway must be told to the user"
    except (OSError, EOFError):
        pass
    terminal.transport.close()
    bastion.wait_quiet()
    if which == "gateway":
        # Nobody is left who holds the token: the terminal stays until its user or the culler ends it.
        for name in alice.jupyter.terminals():
            alice.jupyter.delete_terminal(name)
    alice.no_terminals()


def test_the_listener_restarted_leaves_sessions_alone(bastion, client, alice):
    with client.terminal(bastion, "alice", alice.token) as terminal:
        terminal.prompt()
        bastion.reload_sshd()
        assert terminal.run("echo on") == "on\n"


def test_the_proxy_restarted_in_mid_session(bastion, client, alice, hub, terminal_mode):
    with client.terminal(bastion, "alice", alice.token) as terminal:
        terminal.prompt()
        terminal.send("answer=kept; echo set''-up\r")
        terminal.expect("set-up")
        terminal.prompt()
        hub.restart_proxy()
        if terminal_mode == "plain":
            terminal.expect(expect.RECONNECTED, 60)
        # An agent loses nothing, and says so only when it takes long.
        terminal.send("\r")
        terminal.prompt(60)
        assert terminal.run("echo $answer") == "kept\n"
        assert len(alice.jupyter.terminals()) == 1
    alice.no_terminals()


def test_the_server_stopped_in_mid_session(bastion, client, hub):
    hub.unsteer("bob")
    hub.start_server("bob")
    with client.terminal(bastion, "bob", hub.token("bob")) as terminal:
        terminal.prompt()
        hub.stop_server("bob")
        said = terminal.wait_closed(90)
        assert said.strip() and terminal.exit_status() != 0


def test_two_sessions_of_one_user(bastion, client, alice):
    with client.terminal(bastion, "alice", alice.token) as one, client.terminal(bastion, "alice", alice.token) as two:
        one.prompt()
        two.prompt()
        assert one.run("tty") != two.run("tty")
        one.send("exit\r")
        one.wait_closed()
        assert two.run("echo here") == "here\n"


def test_two_channels_of_one_connection(bastion, client, alice):
    """ControlMaster: several sessions over one login."""
    transport = client.login(bastion, "alice", alice.token)
    one = client.terminal(bastion, "alice", None, transport=transport)
    one.prompt()
    two = client.terminal(bastion, "alice", None, transport=transport)
    two.prompt()
    assert one.run("echo 1") == "1\n" and two.run("echo 2") == "2\n"
    one.send("exit\r")
    one.wait_closed()
    assert two.run("echo 3") == "3\n"
    transport.close()


def test_an_idle_server_child_list(bastion, client, alice):
    """What a session costs on the bastion: one process each, no more."""
    with client.terminal(bastion, "alice", alice.token) as terminal:
        terminal.prompt()
        assert [len(bastion.gateways()), len(bastion.jails()), len(bastion.sessions())] == [1, 1, 1]
        assert all(processes.process(one.pid).uid != 0 for one in bastion.ours()), "a process of ours runs as root"
