"""Everything works as well with servers of earlier years, which hubs still start for users with an old image.

jupyter_server 1 obeys a terminal's `shell_command` already. The classic notebook ignores it: what runs in its terminals
is the user's shell, in which the agent is started by typing.
"""

import os

import pytest

from lib.actors import rest
from lib.checks import filechecks
from lib.checks.shellplace import ShellPlace
from lib.wait import wait_for

pytestmark = pytest.mark.only("trixie")

VERSIONS = {"old1": "1.13.5", "old6": "6.5.7"}
#: Whose terminals run the shell_command that they are created with.
OBEYING = {"old1"}


@pytest.fixture
def place(bastion, client, hub, hub_homes, old_server, scratch):
    user = old_server.user
    return ShellPlace.of_hub(hub, client, bastion, user, old_server.token, scratch, hub_homes)


def test_the_server_is_old(old_server):
    jupyter = old_server.jupyter
    answer = rest.request(jupyter.namespace, "GET", f"{jupyter.base}api", jupyter.token)
    assert answer.ok().json()["version"] == VERSIONS[old_server.user]
    terminal = jupyter.open_terminal(shell_command=["sh", "-c", "echo obe''yed; cat"])
    terminal.send("echo ign''ored\n")
    terminal.read_until("obeyed" if old_server.user in OBEYING else "ignored")
    terminal.close()


def test_terminal(bastion, client, old_server):
    with client.terminal(bastion, old_server.user, old_server.token, rows=31, columns=97) as terminal:
        terminal.prompt()
        assert terminal.run("stty size; pwd") == f"31 97\n/mnt/home/{old_server.user}\n"
        terminal.resize(40, 111)
        wait_for(lambda: terminal.run("stty size") == "40 111\n", "the terminal has its new size")
        assert terminal.run("printf 'gr\\303\\274n %s' $((6 * 7)); echo") == "gr\u00fcn 42\n"
        terminal.send("exit 7\r")
        assert terminal.exit_status() == 7
    old_server.no_terminals()


def test_command(place):
    done = place.ssh("echo out; echo err >&2; exit 3")
    assert (done.status, done.out, done.err) == (3, b"out\n", b"err\n")


def test_command_with_binary_data(place):
    data = os.urandom(1 << 20) + bytes(range(256))
    done = place.ssh("cat", input=data)
    assert (done.status, done.err) == (0, b"") and done.out == data


def test_command_with_a_tty(place):
    done = place.ssh("test -t 0 && test -t 1 && stty size >/dev/null && echo a tty; exit 4", options=["-tt"])
    assert (done.status, done.out) == (4, b"a tty\r\n")


@pytest.mark.parametrize(
    "check",
    [filechecks.check_put_and_get, filechecks.check_scp, filechecks.check_rsync],
    ids=lambda check: check.__name__,
)
def test_files(place, check):
    check(place)
