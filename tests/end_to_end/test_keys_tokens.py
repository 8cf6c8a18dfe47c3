"""The tokens that logins with keys are given: how long they live, what they can do, and who sees what makes them."""

import json
import re
import time
from datetime import datetime

import pytest
from test_refusals import refuse

from lib import paths
from lib.actors import rest
from lib.actors.faultyhub import LOSE_ANSWER, answer
from lib.actors.keys import (
    HUB_KEYS_PROGRAM,
    KEYS_USER,
    SERVICE_TOKEN,
    Door,
    Session,
    door,
    gateways,
    keepers,
    keys_table,
    minted,
    none_minted,
    service_token,
    table,
    uid_of,
)
from lib.checks.commandchecks import FULL
from lib.sandbox.processes import memory_holds
from lib.sandbox.storage import BY_HOME
from lib.wait import wait_for

pytestmark = pytest.mark.only("trixie")

CONFIG = BY_HOME + keys_table("home", token_lifetime=600)
#: How many sessions there are in the count of tokens, and how many at once.
SESSIONS, WAVE = (500 if FULL else 60), 10


@pytest.fixture
def shared_bastion(homes_bastion):
    return homes_bastion


@pytest.fixture
def dora(bastion, hub, client, place, key):
    """Dora's logins with the key, which is in her home. Her server is never started."""
    with door(client, bastion, hub, place, CONFIG) as made:
        made.authorize(key.public)
        yield made


@pytest.fixture
def through_faulty(bastion, hub, faulty, dora):
    """The hub with faults, in the hub's place."""
    with bastion.configured(faulty.url, CONFIG):
        yield faulty
        dora.client.close_all()
        none_minted(hub, "dora")


def made(faulty):
    """The requests that asked for a token."""
    return faulty.seen(r"/hub/api/users/[^/]+/tokens$", "POST")


def revoked(faulty):
    """The requests that revoked one."""
    return faulty.seen(r"/hub/api/users/[^/]+/tokens/[^/]+$", "DELETE")


# As many are revoked as are made.


def test_every_token_is_revoked(bastion, client, hub, dora, through_faulty, key):
    """Sessions that end in good order, whose client is killed, and whose gateway is: a third each."""
    for number in range(0, SESSIONS, WAVE):
        how = ("leave", "client", "gateway")[number // WAVE % 3]
        wave = [Session(client, bastion, "dora", key) for _ in range(WAVE)]
        for one in wave:
            one.wait_up()
        assert len(minted(hub, "dora")) == len(keepers(bastion)) == len(gateways(bastion)) == WAVE
        if how == "gateway":
            for one in gateways(bastion):
                one.kill()
        for one in wave:
            if how == "leave":
                assert one.leave() == 0
            else:
                if how == "client":
                    one.kill()
                one.wait_over()
        none_minted(hub, "dora", 60)
        wait_for(lambda: not keepers(bastion), "the keepers end", 20)
    assert len(made(through_faulty)) == len(revoked(through_faulty)) == SESSIONS


def test_a_login_without_a_session(bastion, client, hub, dora, through_faulty, key):
    """sshd has let in, and then nobody comes: a client that only looks whether a key is good."""
    dora.enter(key).close()
    none_minted(hub, "dora")
    dora.enter(key).sock.close()
    none_minted(hub, "dora")
    assert len(made(through_faulty)) == len(revoked(through_faulty)) == 2


def test_one_connection_has_one_token(bastion, client, hub, dora, key):
    transport = dora.enter(key)
    for _ in range(3):
        transport.open_sftp_client()
    assert len(minted(hub, "dora")) == len(keepers(bastion)) == 1
    transport.close()


def test_a_hub_that_cannot_revoke_for_a_while(bastion, hub, dora, through_faulty, key):
    """The keeper tries again; a proxy's 404 is no word of the hub's."""
    through_faulty.on("DELETE", r"/tokens/", answer(503, "no"), times=1)
    through_faulty.on("DELETE", r"/tokens/", answer(404, "<html>no such page</html>"), times=1)
    mark = bastion.syslog.mark()
    dora.enter(key).close()
    bastion.syslog.wait(r"event=keeper outcome=not-revoked .*ten minutes", mark)
    bastion.syslog.wait(r"event=keeper outcome=revoked", mark, 20)
    assert len(revoked(through_faulty)) == 3


def test_the_answer_with_the_token_is_lost(bastion, hub, dora, through_faulty, key):
    """The hub has made one, and nobody has heard of it: it is found by its note, and nothing else is revoked."""
    other = hub.new_token("dora")
    through_faulty.on("POST", r"/tokens$", LOSE_ANSWER, times=1)
    mark = bastion.syslog.mark()
    assert "connection to the hub broke" in dora.shut(key)
    bastion.syslog.wait(r"outcome=revoked token_id=\w+ message=\"it was made, but", mark)
    assert not minted(hub, "dora") and len(revoked(through_faulty)) == 1
    assert hub.api("GET", "/user", token=other["token"]).status == 200
    hub.revoke("dora", other["id"])


def test_a_token_that_has_gone_already(bastion, hub, dora, through_faulty, key):
    """Its user has revoked it on the hub's token page."""
    transport = dora.enter(key)
    (token,) = minted(hub, "dora")
    hub.revoke("dora", token["id"])
    mark = bastion.syslog.mark()
    transport.close()
    bastion.syslog.wait(r"event=keeper outcome=(revoked|gone)", mark)
    assert len(revoked(through_faulty)) <= 1


def test_a_hub_that_cannot_narrow_a_token(bastion, hub, dora, through_faulty, key):
    """As those before 3.0: what it makes may do all that its user may, and is not used."""
    wide = {"token": "0123456789abcdef", "id": "a4711", "user": "dora", "roles": ["token"], "expires_at": "2030-01-01"}
    through_faulty.on("POST", r"/tokens$", answer(201, json.dumps(wide)), times=1)
    mark = bastion.syslog.mark()
    assert "Log in with a token" in dora.shut(key)
    bastion.syslog.wait(r"outcome=unavailable by=key reason=.*may do more than was asked.*before 3\.0", mark)
    assert [one.method for one in through_faulty.seen(r"/tokens/a4711$")] == ["GET"], (
        "it was not looked for, to be revoked"
    )
    assert "token 0123456789abcdef" not in through_faulty.tokens()


def test_another_token_with_the_same_id(bastion, hub, dora, key):
    """A hub may give the id of a token that has gone to the next one, which is somebody else's to revoke."""
    transport = dora.enter(key)
    (token,) = minted(hub, "dora")
    hub.revoke("dora", token["id"])
    other = hub.new_token("dora")
    assert other["id"] == token["id"], "this hub doesn't give ids again: the test shows nothing"
    transport.close()
    wait_for(lambda: not keepers(bastion), "the keeper ends", 20)
    assert hub.api("GET", "/user", token=other["token"]).status == 200, "a token was revoked that is not the session's"


def test_the_keeper_asked_to_end(bastion, hub, dora, key):
    """As when the package is removed: the token is revoked at once."""
    transport = dora.enter(key)
    (keeper,) = keepers(bastion)
    keeper.kill(15)
    none_minted(hub, "dora")
    wait_for(lambda: not keeper.alive(), "the keeper ends")
    transport.close()


def test_refused_logins_leave_no_token(bastion, hub, dora, through_faulty, key):
    """The hub makes one before it is known that its user may not log in here."""
    with bastion.configured(through_faulty.url, CONFIG + table("login", deny_users=["dora"])):
        dora.shut(key, "not-allowed")
        none_minted(hub, "dora")
    through_faulty.on("GET", r"/hub/api/user$", answer(500, "no"))
    with bastion.configured(through_faulty.url, CONFIG):
        dora.shut(key)
        none_minted(hub, "dora")
    assert len(made(through_faulty)) == len(revoked(through_faulty)) > 0


# What they can do.


def test_what_a_token_says_of_itself(hub, dora, key):
    before = time.time()
    transport = dora.enter(key)
    (token,) = minted(hub, "dora")
    assert re.fullmatch(r"jupyterhub-openssh: ssh from 10\.77\.1\.\d[ -~]{0,150}", token["note"])
    lifetime = datetime.fromisoformat(token["expires_at"].replace("Z", "+00:00")).timestamp() - before
    assert 590 < lifetime < 630
    assert {"access:servers!server=dora/", "servers!server=dora/"} <= set(token["scopes"])
    # The hub adds what these imply, about nobody else.
    wide = [scope for scope in token["scopes"] if not re.search(r"!(server=dora/|user=dora)$", scope)]
    assert not wide and not [scope for scope in token["scopes"] if "token" in scope or scope.startswith("admin")]
    transport.close()


def test_what_a_token_cannot_do(bastion, client, hub, alice, bob, make_place, faulty, key):
    """It opens the one server, and nothing else of its user's nor of anybody's."""
    place = make_place("alice", 1000, 100)
    with door(client, bastion, hub, place, CONFIG, faulty.url) as alices:
        alices.authorize(key.public)
        with client.terminal(bastion, "alice", None, transport=alices.enter(key)) as terminal:
            terminal.prompt()
            tokens = {header.split()[-1] for header in faulty.tokens()} - {hub.keys_token}
            assert len(tokens) == 1
            token = tokens.pop()

            def status(method, path, body=None):
                return rest.request(hub.network.client, method, f"{hub.url}{path}", token, body).status

            assert status("GET", "/user/alice/api/status") == 200
            # The server sees it, and so whoever else may run something there.
            refuse(client, bastion, "server", "alice", token)
            for method, path, body in (
                ("GET", "/user/bob/api/status", None),
                ("GET", "/user/bob/api/contents", None),
                ("GET", "/hub/api/users/bob", None),
                ("POST", "/hub/api/users/bob/server", None),
                ("POST", "/hub/api/users/alice/tokens", {"note": "more"}),
                ("GET", "/hub/api/users/alice/tokens", None),
                ("GET", "/hub/api/users", None),
                ("POST", "/hub/api/users/bob/tokens", {"note": "more"}),
                ("POST", "/hub/api/users/alice/servers/other", None),
                ("DELETE", "/hub/api/users/alice", None),
                ("PATCH", "/hub/api/users/alice", {"admin": True}),
            ):
                assert status(method, path, body) in (302, 403, 404), (method, path)
        alices.client.close_all()
        none_minted(hub, "alice")
        assert status("GET", "/hub/api/user") == 403


# The service's token.


def test_who_sees_the_services_token(bastion, client, hub, alice, make_place, key):
    """The keeper, for as long as it asks the hub; no process of the session's, no file but its own, no log."""
    place = make_place("alice", 1000, 100)
    with door(client, bastion, hub, place, CONFIG) as alices:
        alices.authorize(key.public)
        with client.terminal(bastion, "alice", None, transport=alices.enter(key)) as terminal:
            terminal.prompt()
            secret = hub.keys_token.encode()
            assert keepers(bastion) and gateways(bastion) and bastion.sessions() and bastion.jails()
            for one in [*gateways(bastion), *bastion.sessions(), *bastion.jails(), *bastion.sshd_of_sessions()]:
                assert not memory_holds(one, secret), f"in the memory of {one.command_line()}"
            for one in bastion.box.processes():
                assert secret not in one.read("environ") + one.read("cmdline"), one.command_line()
            found = bastion.box.run(
                "grep",
                "-rlF",
                "--devices=skip",
                hub.keys_token,
                "/etc",
                "/run",
                "/tmp",
                "/var",
                "/dev/shm",
                "/srv/homes/alice",
                check=False,
            ).stdout.split()
            assert found == [SERVICE_TOKEN], found
    assert not [one for one in bastion.syslog.entries if secret in one.raw]


@pytest.mark.parametrize("who", ["a hub user", "a local user", "the gateways' user"])
def test_who_can_read_the_services_token(bastion, hub, dora, who):
    uid, gid = {
        "a hub user": (1000, 100),
        "a local user": (65534, 65534),
        "the gateways' user": (uid_of(bastion, paths.GATEWAY_USER),) * 2,
    }[who]
    done = bastion.box.run("cat", SERVICE_TOKEN, uid=uid, gid=gid, check=False)
    assert done.returncode and not done.stdout
    done = bastion.box.run(HUB_KEYS_PROGRAM, "dora", uid=uid, gid=gid, check=False)
    assert hub.keys_token not in done.stdout + done.stderr
    assert KEYS_USER not in bastion.box.run("id", "-nG", paths.GATEWAY_USER).stdout.split()


def test_the_keeper_has_no_privileges(bastion, dora, key):
    transport = dora.enter(key)
    (keeper,) = keepers(bastion)
    status = keeper.read("status").decode()
    assert "NoNewPrivs:\t1" in status and re.search(r"Groups:\t\s*\n", status)
    assert set(re.search(r"Uid:\t(.*)", status)[1].split()) == {str(keeper.uid)}
    for kind in ("CapInh", "CapPrm", "CapEff", "CapAmb"):
        assert re.search(rf"{kind}:\t0+\n", status), kind
    # Not dumpable: nobody but root looks into it, not even another process of its user's.
    assert bastion.box.run("cat", f"/proc/{inside(keeper)}/environ", uid=keeper.uid, check=False).returncode
    transport.close()


def inside(process):
    """A process's id as its own namespace has it."""
    return re.search(rb"NSpid:.*\t(\d+)\n", process.read("status"))[1].decode()


def test_the_services_token_is_changed(bastion, client, hub, place, key):
    """The keeper reads the file anew when it revokes: nothing has to be restarted."""
    doras = Door(client, bastion, "dora", place.home, place.owner)
    doras.authorize(key.public)
    with bastion.configured(hub.url, CONFIG):
        with service_token(bastion, hub.keys_token):
            transport = doras.enter(key)
        with service_token(bastion, hub.tests_token):
            transport.close()
            none_minted(hub, "dora")
