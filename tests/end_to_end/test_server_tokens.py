"""What users' servers have of their users, or see of them: it opens nothing on this host."""

import re
import time
from datetime import datetime

import pytest
from test_refusals import refuse

from lib.actors import oauth
from lib.actors.faultyhub import LOSE_ANSWER, answer
from lib.actors.keys import forget_minted, minted, none_minted

pytestmark = pytest.mark.only("trixie")


@pytest.fixture
def variables(hub, alice):
    """The environment of alice's running server, which whoever runs something there can read."""
    hub.start_server("alice")
    return hub.server_variables("alice")


def test_a_servers_own_token_logs_nobody_in(bastion, client, hub, alice, variables):
    """Unless the administrator wants that."""
    token = variables["JUPYTERHUB_API_TOKEN"]
    assert hub.api("GET", "/user", token=token).ok().json()["name"] == "alice"
    refuse(client, bastion, "server", "alice", token)
    with bastion.configured(hub.url, "[login]\nserver_tokens = true\n"):
        client.login(bastion, "alice", token).close()


def test_what_a_program_has_of_the_browser_logs_nobody_in(bastion, client, hub, alice, variables):
    """By OAuth: the server itself when its user opens it, and a service that users sign in to."""
    token = oauth.access_token(
        hub,
        "alice",
        variables["JUPYTERHUB_CLIENT_ID"],
        variables["JUPYTERHUB_API_TOKEN"],
        variables["JUPYTERHUB_OAUTH_CALLBACK_URL"],
    )
    scopes = hub.api("GET", "/user", token=token).ok().json()["scopes"]
    assert "access:servers!server=alice/" in scopes, "it does not open the server: the test shows nothing"
    refuse(client, bastion, "program", "alice", token)


@pytest.fixture
def on_the_way(bastion, hub, faulty):
    """What passes between this host and the hub with its servers."""
    forget_minted(hub, "alice")
    with bastion.configured(faulty.url):
        yield faulty


def shown(on_the_way):
    """The tokens that were sent to users' servers."""
    return {one.header("Authorization").split()[-1] for one in on_the_way.seen("^/user/")}


def test_the_server_sees_what_it_has_anyway(bastion, client, hub, alice, variables, on_the_way):
    """A token of the same scopes as its own, which logs nobody in, and ends with the connection."""
    mark, began = bastion.syslog.mark(), time.time()
    with client.terminal(bastion, "alice", alice.token) as terminal:
        terminal.prompt()
        (seen,) = shown(on_the_way)
        assert seen != alice.token

        def scopes(token):
            return hub.api("GET", "/user", token=token).ok().json()["scopes"]

        assert scopes(seen) == scopes(variables["JUPYTERHUB_API_TOKEN"])
        for method, path in (
            ("GET", "/users/alice/tokens"),
            ("POST", "/users/alice/tokens"),
            ("GET", "/users/bob"),
            ("DELETE", "/users/alice/server"),
        ):
            assert hub.api(method, path, token=seen).status in (403, 404), (method, path)
        (made,) = minted(hub, "alice")
        host = re.escape(bastion.box.run("uname", "-n").stdout.strip())
        assert re.fullmatch(
            rf"jupyterhub-openssh: for your server, of ssh to {host} from 10\.77\.1\.\d, session \w+", made["note"]
        )
        ends = datetime.fromisoformat(made["expires_at"].replace("Z", "+00:00")).timestamp()
        assert 850 < ends - began < 1000
        bastion.syslog.wait(rf"event=token outcome=narrowed token_id={made['id']} expires_at=", mark)
        refuse(client, bastion, "server", "alice", seen)
    none_minted(hub, "alice")
    bastion.syslog.wait(rf"event=token outcome=revoked token_id={made['id']}", mark)
    assert shown(on_the_way) == {seen}
    assert hub.api("GET", "/user", token=seen).status == 403
    assert hub.api("GET", "/user", token=alice.token).status == 200


def test_a_token_that_may_make_no_others_is_shown_as_it_is(bastion, client, hub, alice, variables, on_the_way):
    token = hub.token("alice", scopes=["access:servers!user=alice", "servers!user=alice"])
    mark = bastion.syslog.mark()
    with client.terminal(bastion, "alice", token) as terminal:
        terminal.prompt()
        bastion.syslog.wait(r"event=token outcome=not-narrowed reason=.*scope tokens", mark)
    assert shown(on_the_way) == {token} and not minted(hub, "alice")


def test_a_hub_in_trouble_shows_the_server_nothing(bastion, client, hub, alice, variables, on_the_way):
    """Whoever can keep a hub busy does not get the token that was typed."""
    on_the_way.on("POST", r"/tokens$", answer(502, "no"))
    transport = client.login(bastion, "alice", alice.token)
    with client.terminal(bastion, "alice", None, transport=transport) as terminal:
        terminal.expect(rb"The hub has a problem\..*\n.*Try again in a minute")
    assert not shown(on_the_way)


def test_a_token_whose_making_was_not_heard_of_is_revoked(bastion, client, hub, alice, variables, on_the_way):
    on_the_way.on("POST", r"/tokens$", LOSE_ANSWER, times=1)
    with client.terminal(bastion, "alice", alice.token) as terminal:
        terminal.prompt()
        assert len(minted(hub, "alice")) == 2
    none_minted(hub, "alice")
    assert alice.token not in shown(on_the_way)
