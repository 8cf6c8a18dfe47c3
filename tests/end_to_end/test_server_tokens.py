"""What users' servers have of their users, or see of them: it opens nothing on this host."""

import pytest

from lib import oauth
from test_refusals import refuse

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
    token = oauth.access_token(hub, "alice", variables["JUPYTERHUB_CLIENT_ID"], variables["JUPYTERHUB_API_TOKEN"],
                               variables["JUPYTERHUB_OAUTH_CALLBACK_URL"])
    scopes = hub.api("GET", "/user", token=token).ok().json()["scopes"]
    assert "access:servers!server=alice/" in scopes, "it does not open the server: the test shows nothing"
    refuse(client, bastion, "program", "alice", token)
