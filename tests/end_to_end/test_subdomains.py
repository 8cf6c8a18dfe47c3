"""A hub that gives each user a host of their own (`subdomain_host`): without TLS at its root, and with it and a base path."""

import contextlib
import json

import pytest

from lib.actors.faultyhub import answer
from lib.actors.hub import HUB_UID, Hub
from lib.actors.tls import Authority, TlsFront
from lib.checks.checkcases import look
from lib.checks.shellplace import ShellPlace

pytestmark = pytest.mark.only("trixie")

HOST, PORT = "hub.jupyter.test", 8443
#: Each hub its own: neighbours would look for the second at the first one's MAC address.
PLAIN, SECURE = "10.77.0.5", "10.77.0.6"
USER = "alice"


class Apart:
    """Such a hub, and what a bastion needs for it."""

    def __init__(self, network, log, authority, secure):
        domain = f"https://{HOST}:{PORT}" if secure else f"http://{HOST}:8000"
        self.address = SECURE if secure else PLAIN
        self.hub = Hub(
            network, users=(USER,), log=log, address=self.address, domain=domain, base="/jupyter" if secure else ""
        )
        self.authority, self.secure = authority, secure
        self.front = None
        self.extra = 'ca_file = "/etc/hub-ca.pem"\n' if secure else ""
        if secure:
            self.listen(HOST, f"*.{HOST}")

    def listen(self, *names):
        """TLS with a certificate for these names."""
        if self.front:
            self.front.close()
        pem = self.authority.sign(self.address, *names)
        self.front = TlsFront(self.hub.box.network, self.address, (self.address, 8000), pem, PORT)

    @contextlib.contextmanager
    def on(self, bastion, *names):
        """The bastion's hub for a while; `names` are those that resolve there."""
        before = bastion.box.read("/etc/hosts")
        bastion.box.write("/etc/hosts", before + f"{self.address} {' '.join(names or (HOST, f'{USER}.{HOST}'))}\n")
        bastion.box.write("/etc/hub-ca.pem", self.authority.certificate.read_text())
        try:
            with bastion.configured(self.hub.public_url, self.extra):
                yield
        finally:
            bastion.box.write("/etc/hosts", before)

    def close(self):
        if self.front:
            self.front.close()
        self.hub.close()


@pytest.fixture(scope="module", params=["plain", "tls"])
def apart(network, tmp_path_factory, request):
    directory = tmp_path_factory.mktemp("apart")
    with open(directory / "hub.log", "w") as log:
        made = Apart(network, log, Authority(directory), request.param == "tls")
        yield made
        made.close()


def commands(client, bastion, login, token):
    return ShellPlace(client, bastion, login, token, None, (HUB_UID, HUB_UID), f"/mnt/home/{USER}", None)


def test_servers_are_reached_where_they_are(apart, bastion, client):
    """One that is stopped, with a terminal and commands; a named one; a token that may not read where the server is."""
    hub = apart.hub
    token, narrow = hub.token(USER), hub.token(USER, scopes=[f"access:servers!user={USER}"])
    hub.stop_server(USER)
    mark = bastion.syslog.mark()
    with apart.on(bastion):
        for login, one in ((USER, token), (USER, narrow), (f"{USER}+gpu", token)):
            done = commands(client, bastion, login, one).ssh("echo $((6*7))")
            assert (done.status, done.out) == (0, b"42\n"), done
        with client.terminal(bastion, USER, token) as terminal:
            terminal.prompt()
            assert terminal.run("seq 100000 | tail -1") == "100000\n"
    hub.stop_server(USER, "gpu")
    assert not [
        one.text for one in bastion.syslog.since(mark) if token in one.text or "outcome=unavailable" in one.text
    ]


def test_check_names_what_keeps_a_server_from_being_reached(apart, bastion, client):
    hub = apart.hub
    hub.start_server(USER)
    token = hub.token(USER)

    def finding(what, *names, severity="error"):
        with apart.on(bastion, *names):
            return look(bastion, "--user", USER, token=token).find("user", what, severity)

    finding(f"has a host name of its own, {USER}.{HOST}, which is the hub's", severity="ok")
    finding("WebSockets pass to the server", severity="ok")
    assert f"Have *.{HOST} resolve to" in finding(f"{USER}.{HOST}, which does not resolve", HOST)["remedy"]
    mark = bastion.syslog.mark()
    with apart.on(bastion, HOST):
        done = commands(client, bastion, USER, token).ssh("true")
    assert done.status != 0 and b"but not your server, which has a host name of its own" in done.err
    bastion.syslog.wait(rf"no terminal: POST \S*//{USER}\.{HOST}:\S*: the host name does not resolve", mark)
    if apart.secure:
        apart.listen(HOST)
        try:
            assert f"name *.{HOST}" in finding("whose certificate does not do: ")["remedy"]
        finally:
            apart.listen(HOST, f"*.{HOST}")


def test_a_token_goes_nowhere_else(bastion, client, hub, faulty, elsewhere):
    """The hub, or who answers in its place, names another port: neither the gateway nor check goes there."""
    model = {
        "kind": "user",
        "name": "alice",
        "scopes": ["access:servers!user=alice", "servers!user=alice"],
        "servers": {"": {"ready": True, "pending": None, "url": f"{elsewhere.url}/user/alice/"}},
    }
    faulty.on("GET", r"^/hub/api/user$", answer(200, json.dumps(model)))
    mark = bastion.syslog.mark()
    with bastion.configured(faulty.url):
        done = commands(client, bastion, "alice", "x" * 32).ssh("true")
        found = look(bastion, "--user", "alice", token="x" * 32).find("user", "no token is sent there", "error")
    assert done.status != 0 and b"does not know as the hub's, so your token was not sent there" in done.err
    assert "Set hub.url to the address that users open" in found["remedy"]
    bastion.syslog.wait(r"no token is sent there\. Set hub\.url", mark)
    assert not elsewhere.requests and not faulty.seen(r"^/user/")
