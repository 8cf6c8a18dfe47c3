"""A name with capitals is the user's whom the hub has without: one person is one account, and no case gets past a rule."""

import json
import re
from contextlib import contextmanager

import pytest

from lib.actors.client import Refused
from lib.actors.faultyhub import answer

#: By the rule `hash`, from the name in lower case.
UID = 2_089_708_914


def refused(client, bastion, user, token, message, log):
    """Fails unless the login is refused with this message and line of the log."""
    mark = bastion.syslog.mark()
    with pytest.raises(Refused) as refusal:
        client.login(bastion, user, token)
    assert re.search(message, str(refusal.value), re.S), str(refusal.value)
    bastion.syslog.wait(log, mark)


@contextmanager
def sshd_says(bastion, line):
    """A line of sshd's own configuration for a while."""
    file = bastion.box.path("/etc/ssh/sshd_config.d/01-capitals.conf")
    file.write_text(f"{line}\n")
    try:
        bastion.reload_sshd()
        yield
    finally:
        file.unlink()
        bastion.reload_sshd()


def test_a_name_with_capitals_is_the_users(bastion, client, hub, alice):
    mark = bastion.syslog.mark()
    transport = client.login(bastion, "Alice", alice.token)
    assert "as alice's password: " in "\n".join(transport.shown)
    with client.terminal(bastion, "Alice", None, transport=transport) as terminal:
        terminal.prompt()
        bastion.syslog.wait(rf"user=alice peer=\S+ event=session-opened uid={UID}\b", mark)
        assert "alice" in bastion.box.run("jupyterhub-openssh", "status").stdout
    client.password_login(bastion, "ALICE", alice.token).close()
    refused(client, bastion, "Alice", hub.token("bob"), "does not belong to alice", "belongs to another user")


def test_no_case_gets_past_a_rule(bastion, client, hub):
    token = hub.token("alice")
    with bastion.configured(hub.url, '[login]\ndeny_users = ["alice"]\n'):
        refused(client, bastion, "Alice", token, "may not log in to this host", "is in login.deny_users")
    with sshd_says(bastion, "DenyUsers alice"):
        refused(client, bastion, "Alice", token, "", r"User alice from \S+ not allowed because listed in DenyUsers")
    with sshd_says(bastion, "AllowUsers localadmin"):
        refused(
            client, bastion, "Alice", token, "", r"User alice from \S+ not allowed because not listed in AllowUsers"
        )


def test_no_case_gets_past_a_local_account(bastion, client, hub, faulty):
    """sshd would give the session the groups of the local account."""
    run = bastion.box.run
    run("useradd", "--create-home", "--shell", "/bin/sh", "--groups", "sudo", "alice")
    try:
        with bastion.configured(faulty.url):
            for login in (client.login, client.password_login):
                mark = bastion.syslog.mark()
                with pytest.raises(Refused):
                    login(bastion, "Alice", hub.token("alice"))
                bastion.syslog.wait(r"outcome=refused .*account of its own by this name in lower case", mark)
        assert not faulty.requests, "nothing of it reaches the hub"
    finally:
        run("userdel", "--force", "--remove", "alice")


def test_a_hub_that_tells_capitals_apart(bastion, client, hub, faulty):
    """It has an authenticator that keeps them; until the host is told, nobody is taken for somebody else."""
    model = {"kind": "user", "name": "Alice", "scopes": ["access:servers!user=Alice"], "token_id": "a1"}
    faulty.on("GET", "/hub/api/user$", answer(200, json.dumps(model), Content_Type="application/json"))
    token = "0123456789abcdef"
    with bastion.configured(faulty.url):
        for user in ("alice", "Alice"):
            refused(
                client,
                bastion,
                user,
                token,
                "belongs to Alice, and on this host you are alice.*administrator",
                r"only with accounts\.lower_case = false \(token id a1\)",
            )
    apart = "[accounts]\nlower_case = false\n"
    with bastion.configured(faulty.url, apart):
        refused(client, bastion, "alice", token, "belongs to Alice, and on this host you are alice", "lower_case")
        mark = bastion.syslog.mark()
        client.login(bastion, "Alice", token).close()
        bastion.syslog.wait(r"user=Alice peer=\S+ event=login outcome=granted", mark)
    with bastion.configured(hub.url, apart):
        refused(
            client,
            bastion,
            "Alice",
            hub.token("alice"),
            "belongs to alice, and on this host you are Alice",
            r"only with accounts\.lower_case = true",
        )
