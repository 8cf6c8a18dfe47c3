"""The user's server survives us: a paste at a program that doesn't read, and then the worst happens.

When a pseudoterminal reaches its end while a write to it is blocked, Jupyter Server's main thread waits
for ever. So nothing we do may ever block such a write.
"""

import subprocess
import threading

import pytest

from lib.actors.jupyter import Responsiveness
from lib.wait import wait_for

pytestmark = [pytest.mark.usefixtures("terminal_mode"), pytest.mark.only("trixie")]

SIZES = {"62K": 62_000, "1M": 1_000_000, "5M": 5_000_000}


def paste(terminal, data):
    """Paste in the background; the terminal may be taken away meanwhile."""

    def work():
        try:
            terminal.send(data, 120)
        except (OSError, EOFError):
            pass

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread


def close_window(terminal, bastion, server):
    terminal.close_window()


def kill_client(terminal, bastion, server):
    terminal.drop()


def kill_gateway(terminal, bastion, server):
    for one in bastion.gateways():
        one.kill()


def kill_session(terminal, bastion, server):
    for one in bastion.sessions():
        one.kill()


def delete_terminal(terminal, bastion, server, name):
    answer = server.jupyter.delete_terminal(name)
    assert answer.status in (204, 404)


@pytest.mark.parametrize("mode", ["raw", "cooked"])
@pytest.mark.parametrize(
    "end", [close_window, kill_client, kill_gateway, kill_session, delete_terminal], ids=lambda end: end.__name__
)
@pytest.mark.parametrize("size", SIZES)
def test_a_paste_that_nobody_reads(bastion, client, alice, size, end, mode, terminal_mode):
    with Responsiveness(alice.jupyter) as answers:
        others = set(alice.jupyter.terminals())
        terminal = client.terminal(bastion, "alice", alice.token)
        terminal.prompt()
        (name,) = set(alice.jupyter.terminals()) - others
        if mode == "raw":
            terminal.raw("sleep 1000", "asleep")
        else:
            terminal.start("sleep 1000; echo asl''eep")
        line = b"p" * 79 + b"\r"
        thread = paste(terminal, line * (SIZES[size] // len(line)))
        # Long enough for a careless gateway to have filled the pseudoterminal.
        rounds = answers.rounds
        wait_for(lambda: answers.rounds >= rounds + 15 or answers.failures, "the other terminal is used meanwhile", 30)
        answers.check()
        end(*([terminal, bastion, alice] + ([name] if end is delete_terminal else [])))
        rounds = answers.rounds
        wait_for(lambda: answers.rounds >= rounds + 15 or answers.failures, "and afterwards", 30)
        answers.check()
        if end is kill_gateway:
            # Nobody is left who could: the user's terminal, and the one the gateway controls it with.
            for left in set(alice.jupyter.terminals()) - others:
                alice.jupyter.delete_terminal(left)
        if terminal_mode == "auto":
            # An agent stays for as long as its connection.
            terminal.drop()
        wait_for(lambda: name not in alice.jupyter.terminals(), "the terminal has gone", 20)
        terminal.drop()
        thread.join(20)
        bastion.wait_quiet(30)


def test_a_paste_at_a_program_that_reads_late(bastion, client, alice):
    """What was held back arrives, whole, when the program reads at last."""
    with Responsiveness(alice.jupyter), client.terminal(bastion, "alice", alice.token) as terminal:
        terminal.prompt()
        terminal.raw("sleep 4; head -c 300000 | cksum")
        data = b"0123456789abcdef" * 18_750
        thread = paste(terminal, data)
        expected = subprocess.run(["cksum"], input=data, capture_output=True).stdout.split()[0]
        assert terminal.expect(rb"(\d+) 300000", 120)[1] == expected
        thread.join()
        terminal.expect("raw-over")


def test_ctrl_c_reaches_a_program_that_does_not_read(bastion, client, alice):
    """Typed after a paste that is held back, Ctrl-C still gets through soon."""
    with client.terminal(bastion, "alice", alice.token) as terminal:
        terminal.prompt()
        # The program says that it has the terminal: Ctrl-C before that is the shell's, which then waits for it.
        terminal.send("sh -c 'echo star\"\"ted; exec sleep 1000'\r")
        terminal.expect("started\r\n")
        terminal.send(b"typed ahead\r" * 200)
        terminal.send(b"\x03")
        terminal.expect(rb"\^C", 5)
        terminal.prompt(5)
