"""A user's server may be a dashboard or an editor: there is nothing to run commands in, and that is said at once."""

import time

import pytest

from lib.checks import filechecks
from lib.sandbox.storage import BY_HOME

pytestmark = pytest.mark.only("trixie")

WHAT = "What runs as your server is not Jupyter"


@pytest.fixture
def shared_bastion(homes_bastion):
    return homes_bastion


@pytest.fixture
def dash(hub, make_place):
    """A user with a server that is no Jupyter, and a home on the bastion."""
    place = make_place("dash", 1000, 100)
    hub.unsteer("dash")
    yield place
    hub.unsteer("dash")
    hub.stop_server("dash")


def refused(client, dash, status=1):
    """What a command's client is told, and how long that takes."""
    began = time.monotonic()
    done = dash.run(dash.command("ssh", dash.host, "true"), check=False)
    assert done.returncode != 0 and WHAT in done.stderr, done
    return done.stderr, time.monotonic() - began


def test_its_user_is_told_at_once(bastion, client, hub, dash):
    # Its start is what takes the time.
    text, _ = refused(client, dash)
    assert hub.running("dash") and f"start a Jupyter server in its place at {hub.url}/hub/home" in text
    for refusal in (405, 500, 200, 302, 404, 403):
        hub.steer("dash", refusal=refusal)
        text, took = refused(client, dash)
        assert took < 6, (refusal, took)
    with client.terminal(bastion, "dash", dash.token) as terminal:
        said = terminal.wait_closed().decode()
        assert WHAT in said and terminal.exit_status() != 0


def test_files_go_on_where_this_host_has_the_home(bastion, client, hub, dash):
    hub.start_server("dash")
    with bastion.configured(hub.url, BY_HOME):
        assert "sftp and scp to this host" in refused(client, dash)[0]
        filechecks.check_put_and_get(dash)
        filechecks.check_scp(dash)


def test_check_tells_the_administrator(bastion, hub, dash):
    hub.start_server("dash")
    done = bastion.box.run("jupyterhub-openssh", "check", "--user", "dash", input=f"{dash.token}\n", check=False)
    assert "is no Jupyter server" in done.stdout, done.stdout + done.stderr
