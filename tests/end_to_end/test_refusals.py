"""Every login that must not succeed: refused, with a message for the user and a log line of its own."""

import re
import time
from contextlib import contextmanager

import paramiko
import pytest

from lib.actors.client import Refused
from lib.actors.faultyhub import answer, drip, hang
from lib.checks import expect


def refuse(client, bastion, case, user, token, seconds=11.0, method="login"):
    """Try to log in; check message and log line of the case, and that the answer came in time."""
    message, log = expect.REFUSALS[case]
    mark = bastion.syslog.mark()
    start = time.monotonic()
    with pytest.raises(Refused) as refused:
        getattr(client, method)(bastion, user, token)
    took = time.monotonic() - start
    text = "\n".join(refused.value.messages)
    if message and method == "login":
        assert re.search(message, text, re.I | re.S), f"the user was shown: {text}"
    entry = bastion.syslog.wait(log, mark)
    assert took < seconds, f"it took {took:.1f} s"
    for logged in bastion.syslog.since(mark):
        assert token not in logged.text or len(token) < 8, "the token is in the log"
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f]", entry.text), "control characters in the log"
    assert token not in text or len(token) < 8, "the token is shown"
    return text


def test_the_prompt_names_the_token_page(bastion, client, alice, hub):
    with client.login(bastion, "alice", alice.token) as transport:
        assert expect.PROMPT.format(url=hub.url) in "\n".join(transport.shown)


def test_own_token_is_let_in_by_both_methods(bastion, client, alice):
    with client.terminal(bastion, "alice", alice.token) as terminal:
        terminal.prompt()
    transport = client.password_login(bastion, "alice", alice.token)
    with client.terminal(bastion, "alice", None, transport=transport) as terminal:
        terminal.prompt()


@pytest.mark.parametrize("method", ["login", "password_login"])
def test_wrong_token(bastion, client, method):
    refuse(client, bastion, "wrong", "alice", "0123456789abcdef0123456789abcdef", method=method)


def test_expired_token(bastion, client, hub):
    token = hub.token("alice", expires_in=1)
    time.sleep(2)  # the hub's clock decides
    refuse(client, bastion, "expired", "alice", token)


def test_revoked_token(bastion, client, hub):
    made = hub.new_token("alice")
    hub.revoke("alice", made["id"])
    refuse(client, bastion, "revoked", "alice", made["token"])


def test_anothers_token(bastion, client, hub):
    refuse(client, bastion, "other-user", "alice", hub.token("bob"))


def test_admins_token(bastion, client, hub):
    refuse(client, bastion, "admin", "alice", hub.token("admin"))


def test_services_token(bastion, client, hub):
    refuse(client, bastion, "service", "alice", hub.service_token)


def test_services_token_as_the_service(bastion, client, hub):
    refuse(client, bastion, "service", "plain", hub.service_token)


@pytest.mark.parametrize(
    "scopes", [["read:users!user=alice"], ["servers!user=alice"], ["access:servers!server=alice/gpu"]]
)
def test_scopes_that_cannot_open_the_server(bastion, client, hub, scopes):
    hub.start_server("alice")
    refuse(client, bastion, "no-scope", "alice", hub.token("alice", scopes=scopes))


def test_narrow_scopes_that_suffice(bastion, client, alice, hub):
    token = hub.token("alice", scopes=["access:servers!user=alice", "servers!user=alice"])
    with client.terminal(bastion, "alice", token) as terminal:
        terminal.prompt()


@pytest.mark.parametrize("extra", ["\r\nX-Injected: yes", "\n", "\x1b[31m", "\x7f", "é"])
def test_control_characters_in_the_token(bastion, client, hub, faulty, extra):
    with bastion.configured(faulty.url):
        token = hub.token("alice")
        refuse(client, bastion, "control-characters", "alice", token[:10] + extra + token[10:])
    assert not faulty.requests, "such a token must not reach the hub"


def test_nul_in_the_token(bastion, client, hub, faulty):
    """sshd itself ends a connection that sends one."""
    with bastion.configured(faulty.url), pytest.raises(Refused):
        client.login(bastion, "alice", hub.token("alice")[:8] + "\x00" + hub.token("alice")[8:])
    assert not faulty.requests


def test_empty_token(bastion, client, faulty):
    with bastion.configured(faulty.url):
        refuse(client, bastion, "empty", "alice", "")
        with pytest.raises(Refused):  # which sshd refuses without asking PAM (PermitEmptyPasswords)
            client.password_login(bastion, "alice", "")
    assert not faulty.requests


def test_enormous_token(bastion, client, faulty):
    with bastion.configured(faulty.url), pytest.raises(Refused):
        client.login(bastion, "alice", "x" * 100_000)
    assert not faulty.requests


@pytest.mark.parametrize("user", ["No-Such-User!", "-dash", "a" * 300, "al ice", "..", "alice\\\\bob"])
def test_junk_password_for_names_that_are_none(bastion, client, faulty, user):
    """sshd calls PAM with a junk password then; nothing of it may reach the hub."""
    with bastion.configured(faulty.url):
        mark = bastion.syslog.mark()
        with pytest.raises(Refused):
            client.password_login(bastion, user, "a-password")
        bastion.syslog.wait(r"invalid user|illegal user|failed", mark)
    assert not faulty.requests


def test_user_whom_the_hub_does_not_know(bastion, client, hub):
    refuse(client, bastion, "unknown-user", "zed", hub.token("alice"))


HUB_FAULTS = {
    "hub-hanging": hang,
    "hub-dripping": drip,
    "hub-500": answer(500, "no"),
    "hub-garbage": b"\x00\xff\x1b[2Jgarbage\r\n\r\n" * 50,
    "hub-not-json": answer(200, "<html>\x1b[2J</html>", Content_Type="application/json"),
    "hub-10-megabytes": answer(200, b'{"name": "' + b"a" * 10_000_000 + b'"}', Content_Type="application/json"),
}


@pytest.mark.parametrize("case", HUB_FAULTS)
def test_hub_with_a_fault(bastion, client, hub, faulty, case):
    faulty.on("GET", "/hub/api", HUB_FAULTS[case])
    with bastion.configured(faulty.url):
        refuse(client, bastion, case, "alice", hub.token("alice"))
    assert faulty.requests


def test_hub_down(bastion, client, hub, network):
    with bastion.configured(f"http://{network.ELSEWHERE}:9"):
        refuse(client, bastion, "hub-down", "alice", hub.token("alice"))


def test_hub_that_drops_packets(bastion, client, hub, network):
    with blackhole(bastion, network.ELSEWHERE), bastion.configured(f"http://{network.ELSEWHERE}:8000"):
        refuse(client, bastion, "hub-dropped", "alice", hub.token("alice"))


@contextmanager
def blackhole(bastion, address):
    """Packets to an address vanish for a while."""
    run = bastion.box.network.run
    run("nft", f"table inet hole {{ chain c {{ type filter hook output priority 0; ip daddr {address} drop; }}; }}")
    try:
        yield
    finally:
        run("nft", "delete table inet hole")


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_redirect_elsewhere_keeps_the_token(bastion, client, hub, faulty, elsewhere, status):
    faulty.on("GET", "/hub/api", answer(status, "", Location=f"{elsewhere.url}/hub/api/user"))
    with bastion.configured(faulty.url):
        refuse(client, bastion, "hub-redirect", "alice", hub.token("alice"))
    assert not elsewhere.requests, "the redirect was followed"


def test_a_hanging_real_hub(bastion, client, hub):
    token = hub.token("alice")
    hub.hang()
    try:
        refuse(client, bastion, "hub-hanging", "alice", token)
    finally:
        hub.resume()


@pytest.mark.parametrize("kind", ["local", "remote"])
def test_forwarding_is_refused(bastion, client, alice, kind):
    transport = client.login(bastion, "alice", alice.token)
    with client.terminal(bastion, "alice", None, transport=transport) as terminal:
        terminal.prompt()
        ask = {
            "local": lambda: transport.open_channel("direct-tcpip", ("127.0.0.1", 22), ("127.0.0.1", 1)),
            "remote": lambda: transport.request_port_forward("127.0.0.1", 0),
        }[kind]
        with pytest.raises(paramiko.SSHException, match=r"(?i)prohibited|denied|rejected|failed"):
            ask()
