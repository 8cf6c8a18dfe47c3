"""Hubs of every age that README names start a stopped server for whoever logs in: for a command, a terminal, files.

The newest is the one that all other tests run with. What a hub says for a server that isn't running has changed over the years:
a POST to it was a 405 before JupyterHub 4.0, and is a page that complains about `_xsrf` since.
"""

import subprocess

import pytest
from test_refusals import refuse

from lib.actors.keys import minted
from lib.actors.oldhub import NEWEST, VERSIONS, OldHub
from lib.wait import wait_for

pytestmark = pytest.mark.only("trixie")

#: One for each thing that a session can be, so that each finds its server stopped.
USERS = ("commander", "typist", "filer")


@pytest.fixture(scope="session")
def old_hubs(network, tmp_path_factory):
    """A hub of each version: they start beside each other, and once, since pytest may run another file's tests in between."""
    logs, made = tmp_path_factory.mktemp("old-hubs"), {}
    try:
        for number, version in enumerate(VERSIONS):
            made[version] = OldHub(network, version, number, log=open(logs / version, "w"))
        for one in made.values():
            one.ready(USERS)
        yield made
    finally:
        for one in made.values():
            one.close()


@pytest.fixture(params=[*VERSIONS, NEWEST])
def old_hub(old_hubs, hub, request):
    """A hub of each version; no server runs there before and after a test."""
    one = old_hubs.get(request.param, hub)
    if one is hub:
        for user in USERS:
            hub.add_user(user)
    yield one
    for user in USERS:
        one.stop_server(user)


def start(client, bastion, hub, program, user, *arguments, options=(), input=None):
    """Start a client of OpenSSH's that types the user's token by askpass(1)."""
    command = client.openssh(program, bastion, user, *arguments, options=options)
    child = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=client.askpass(hub.token(user.split("+")[0])),
        start_new_session=True,
    )
    child.stdin.write(input or "")
    child.stdin.close()
    child.stdin = None
    return child


def test_a_stopped_server_is_started(bastion, client, old_hub, request, tmp_path):
    """Three users log in at the same time, and none of them has a server."""
    version = old_hub.api("GET", "").ok().json()["version"]
    assert version == request.node.callspec.params["old_hub"]
    mark = bastion.syslog.mark()
    (tmp_path / "file").write_text("some data\n")
    with bastion.configured(old_hub.url):
        command = start(client, bastion, old_hub, "ssh", "commander", bastion.address, "echo out; echo err >&2; exit 3")
        files = start(
            client,
            bastion,
            old_hub,
            "sftp",
            "filer",
            "-b",
            "-",
            bastion.address,
            options=["-o", "BatchMode=no"],
            input=f"put {tmp_path}/file file\nget file {tmp_path}/back\n",
        )
        with client.terminal(bastion, "typist", old_hub.token("typist")) as terminal:
            terminal.prompt(90)
            assert terminal.run("pwd") == "/mnt/home/typist\n"
        out, err = command.communicate(timeout=90)
        assert (command.returncode, out, err.splitlines()[-1]) == (3, "out\n", "err"), err
        out, err = files.communicate(timeout=90)
        assert (files.returncode, (tmp_path / "back").read_text()) == (0, "some data\n"), out + err
        assert all(old_hub.running(user) for user in USERS)
        # What a server sees is narrowed where the hub can, and its own token is told from the user's.
        outcome = 'not-narrowed reason=".*before 3.0' if version.startswith("2.") else "narrowed token_id="
        bastion.syslog.wait(rf"user=typist .*event=token outcome={outcome}", mark)
        refuse(client, bastion, "server-of-old", "typist", old_hub.server_variables("typist")["JUPYTERHUB_API_TOKEN"])
        # While their servers are still there to close terminals of.
        client.close_all()
        bastion.wait_quiet()
        assert not any(minted(old_hub, user) for user in USERS)


@pytest.mark.parametrize("old_hub", [VERSIONS[0], VERSIONS[-1]], indirect=True)
def test_a_server_that_is_stopped_meanwhile(bastion, client, old_hub):
    """What the hub then says to the closing of the terminal is no reason to try on."""
    with bastion.configured(old_hub.url):
        old_hub.start_server("typist")
        with client.terminal(bastion, "typist", old_hub.token("typist")) as terminal:
            terminal.prompt(90)
            old_hub.stop_server("typist")
        wait_for(lambda: not bastion.gateways(), "the gateway ends at once", 8)


@pytest.mark.parametrize("old_hub", [VERSIONS[0], VERSIONS[-1]], indirect=True)
def test_named_servers_are_switched_off(bastion, client, old_hub):
    """Also while the default server runs, which would answer for any other."""
    old_hub.start_server("commander")
    with bastion.configured(old_hub.url):
        done = start(client, bastion, old_hub, "ssh", "commander+gpu", bastion.address, "true")
        _, err = done.communicate(timeout=60)
    assert done.returncode != 0 and 'The hub has no server "gpu" for you' in err, err
