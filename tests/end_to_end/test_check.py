"""`jupyterhub-openssh check`: what is broken is named with its remedy, and mended it is fine again."""

import json
import os
import pty
import re
import select
import subprocess
import termios

import pytest

from lib import paths
from lib.actors.faultyhub import hang
from lib.actors.keys import (
    KEYS_USER,
    Key,
    administrators_file,
    forget_minted,
    keys_table,
    none_minted,
    service_token,
    uid_of,
)
from lib.checks.checkcases import CASES, LONGEST, World, look, stripped
from lib.sandbox.namespace import die_with_parent
from lib.sandbox.storage import BY_HOME

ONLY = pytest.mark.only("trixie")
#: Of the schema in jupyterhub-openssh(8).
TOPICS = {
    "configuration",
    "hub",
    "service",
    "package",
    "nss",
    "sshd",
    "pam",
    "systemd",
    "log",
    "accounts",
    "homes",
    "files",
    "shares",
    "login",
    "keys",
    "user",
}


@pytest.fixture
def world(bastion, hub, network, faulty, tmp_path):
    return World(bastion, hub, network, faulty, tmp_path)


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[] if len(case.suites) > 1 else pytest.mark.only(*case.suites))
        for name, case in CASES.items()
    ],
)
def test_what_is_broken_is_named_and_mended(world, name, suite):
    case = CASES[name]
    if suite not in case.suites and len(case.suites) == 1 and case.suites[0] == "bookworm":
        pytest.skip("this Debian's sshd takes it")
    breaks = case.breaks(world)
    next(breaks)
    try:
        found = look(world.bastion)
        finding = found.find(case.topic, case.what, case.severity)
        assert found.status == (2 if any(one["severity"] == "error" for one in found.findings) else 1), found.shown()
        assert re.search(case.remedy, finding["remedy"]), finding
        with pytest.raises(StopIteration):
            breaks.send(finding)
    finally:
        breaks.close()
    world.bastion.reload_sshd()
    look(world.bastion).fine()


def test_a_new_bastion_is_in_order(bastion):
    found = look(bastion).fine()
    assert {one["topic"] for one in found.findings} <= TOPICS
    found.find("hub", r"^JupyterHub \d+\.\d+\.\d+ answers at http://10\.77\.0\.3:8000$", "ok")
    found.find("hub", "WebSockets reach its proxy", "ok")
    found.find("sshd", "hub users are confined to their sessions", "ok")
    found.find("pam", "our lines are in the stack of sshd", "ok")


@ONLY
def test_the_object_is_as_documented(bastion):
    done = bastion.box.run(paths.PROGRAM, "check", "--json")
    report = json.loads(done.stdout)
    assert set(report) == {"schema", "program_version", "user", "severity", "exit_status", "findings"}
    assert (report["schema"], report["user"], report["exit_status"]) == (1, None, 0) and done.stdout.count("\n") == 1
    for finding in report["findings"]:
        assert set(finding) == {"topic", "severity", "what", "remedy"}
        assert finding["severity"] in ("ok", "info") and finding["topic"] in TOPICS
        assert (finding["remedy"] is None) == (finding["severity"] == "ok")


@ONLY
def test_people_read_lines(bastion):
    done = bastion.box.run(paths.PROGRAM, "check")
    lines = done.stdout.splitlines()
    assert lines[-1] == "Everything is in order." and "\x1b" not in done.stdout
    assert all(re.match(r"(ok|info) +[a-z]+: \S|         > \S", line) for line in lines[:-1]), done.stdout
    # With colours on a terminal that has them, unless somebody doesn't want them.
    for variables, coloured in (
        ({}, True),
        ({"NO_COLOR": "1"}, False),
        ({"NO_COLOR": ""}, True),
        ({"TERM": "dumb"}, False),
    ):
        variables = {"TERM": "xterm-256color", **variables}
        shown = bastion.box.run("script", "-qec", f"{paths.PROGRAM} check", "/dev/null", env=variables).stdout
        assert ("\x1b[32mok" in shown) == coloured, shown


@ONLY
def test_without_root_it_says_what_it_cannot_know(bastion):
    found = look(bastion, uid=1000)
    assert found.status == 1, found.shown()
    assert "sudo" in found.find("configuration", "not run as root", "unknown")["remedy"]
    found.find("sshd", "sshd could not be asked", "unknown")
    found.find("hub", "JupyterHub", "ok")


@ONLY
def test_it_ends_whatever_hangs(bastion, hub, faulty):
    """The hub at each of its questions, and a token's: `look` gives it 20 seconds."""
    assert LONGEST == 20
    faulty.on("GET", r"^/hub/api/user", hang).on("POST", ".*", hang)
    with service_token(bastion, hub.keys_token), bastion.configured(faulty.url, keys_table("hub")):
        found = look(bastion, "--user", "alice", token="x" * 32)
    assert found.find("service", "the hub did not answer as it should", "unknown")
    assert found.find("user", "the token could not be tried|could not be found out", "unknown")


@ONLY
def test_tokens_are_where_gateways_have_them(bastion, hub, alice, faulty):
    """The service's with the user who may read it, one that was typed with another. As the hub sees it, while it is asked."""
    holders = []

    def note(connection):
        # Root's process waits for the answer of the one that asks.
        checks = [one for one in bastion.gateways() if " check " in one.command_line()]
        holders.append({one.uid for one in checks} - {0})

    faulty.on("GET", r"^/hub/api/user$", note)
    with service_token(bastion, hub.keys_token), bastion.configured(faulty.url, keys_table("hub")):
        look(bastion, "--user", "alice", token=alice.token)
    asked = [one.header("Authorization") for one in faulty.seen(r"^/hub/api/user$")]
    assert asked == [f"token {token}" for token in (hub.keys_token, alice.token)]
    assert holders == [{uid_of(bastion, KEYS_USER)}, {uid_of(bastion, paths.GATEWAY_USER)}]


# One login.


@pytest.fixture
def key(tmp_path):
    return Key(tmp_path)


@ONLY
def test_a_login_is_followed(bastion, hub, alice):
    forget_minted(hub, "alice")
    found = look(bastion, "--user", "alice", token=alice.token).fine()
    for what in (
        "alice is the hub user alice, default server",
        "sessions have uid",
        "the token is good",
        "the server runs",
        "the server sees another token",
        "the server has terminals",
        "WebSockets pass to the server",
    ):
        found.find("user", what, "ok")
    none_minted(hub, "alice")
    assert json.loads(found.text)["user"] == "alice" and alice.token not in found.text
    without = look(bastion, "--user", "alice").fine()
    without.find("user", "no token was tried", "info")


@ONLY
def test_a_stripped_upgrade_is_certain_with_a_token(world, bastion, alice):
    with stripped(world):
        found = look(bastion, "--user", "alice", token=alice.token)
    assert "proxy_set_header Upgrade" in found.find("user", "WebSockets do not pass")["remedy"]


@ONLY
def test_tokens_that_do_not_open_it(bastion, hub):
    hub.add_user("erin")
    for token, what in (
        (hub.token("bob"), 'belongs to another user, "bob"'),
        ("0" * 32, "the hub refused the token with status 403"),
        (hub.service_token, 'belongs to the service "plain"'),
        (hub.token("erin", scopes=["read:users!user"]), "do not cover access to the default server"),
        (hub.token("erin", scopes=["access:servers!user", "users:activity!user"]), "it looks like the user's server's"),
    ):
        found = look(bastion, "--user", "erin", token=token)
        finding = found.find("user", re.escape(what))
        assert finding["remedy"] and token not in found.text and found.status == 2
    look(bastion, "--user", "erin", token="a b").find("user", "what was given is no token", "info")
    look(bastion, "--user", "erin", token=hub.token("erin")).fine().find(
        "user", "the server is stopped: a login starts it", "ok"
    )
    unknown = look(bastion, "--user", "erin+gpu", token=hub.token("erin"))
    unknown.find(
        "user", "the hub knows no server gpu of erin's: a login starts it only if the hub lets users have", "unknown"
    )
    hub.start_server("erin", "gpu")
    hub.stop_server("erin", "gpu")
    known = look(bastion, "--user", "erin+gpu", token=hub.token("erin")).fine()
    known.find("user", "the server is stopped: a login starts it", "ok")
    limited = hub.token("erin", scopes=["access:servers!user", "read:servers!user"])
    look(bastion, "--user", "erin", token=limited).find("user", "is stopped, and this token may not start it")


@ONLY
def test_names_and_rules(bastion, hub):
    look(bastion, "--user", "a b").find("user", "is not a name of a hub user")
    taken = look(bastion, "--user", bastion.ADMIN).find("user", r"there is a local account localadmin")
    assert "usermod -l NEWNAME localadmin" in taken["remedy"]
    for system in ("root", "nobody", "sshd"):
        taken = look(bastion, "--user", system).find("user", rf"there is a local account {system} ")
        assert "usermod" not in taken["remedy"] and "at the hub" in taken["remedy"]
    with bastion.configured(hub.url, '[login]\ndeny_users = ["bob"]\nallow_groups = ["staff"]\n'):
        look(bastion, "--user", "Bob").find("user", r"bob may not log in: the user is in login\.deny_users")
        found = look(bastion, "--user", "carol", token=hub.token("carol"))
        found.find("user", r"carol may not log in: .*login\.allow_groups")
        look(bastion, "--user", "carol").find("user", "depends on the hub's groups", "info")


@ONLY
def test_each_source_of_keys_answers(bastion, hub, key):
    box = bastion.box
    hub.add_user("dora")
    hub.set_auth_state("dora", ssh_public_keys=[key.public])
    administrators_file(bastion, "dora", key.public, 'command="x" ' + key.public)
    box.run(
        "sh",
        "-c",
        "install -d -m 755 /srv/check; install -d -m 700 -o 1000 -g 100 /srv/check/dora /srv/check/dora/.ssh; "
        f"echo '{key.public} a' >/srv/check/dora/.ssh/authorized_keys; chown -R 1000:100 /srv/check/dora",
    )
    config = BY_HOME.replace("/srv/homes", "/srv/check") + keys_table(
        "home", "hub", "file", "url", url="https://10.77.0.4:1/{username}.keys"
    )
    try:
        with service_token(bastion, hub.keys_token), bastion.configured(hub.url, config):
            found = look(bastion, "--user", "dora")
            found.find("user", "sessions have uid 1000 and gid 100; the home is /srv/check/dora", "ok")
            found.find("user", "the local account localadmin has uid 1000, as this user's sessions do", "warning")
            found.find("accounts", "the local account localadmin has uid 1000, as homes do", "warning")
            found.find("user", "the source home has 1 key$", "ok")
            found.find("user", "the source hub has 1 key$", "ok")
            found.find("user", "the source file has 1 key, and lines that do not count: line 2: command", "warning")
            found.find("user", r"the source url does not answer: GET https://10\.77\.0\.4:1/dora\.keys")
            box.path("/srv/check/dora/.ssh").chmod(0o777)
            look(bastion, "--user", "dora").find("user", "keys of the source home are left out: others .* can write")
    finally:
        box.run("rm", "-rf", "/srv/check", "/etc/jupyterhub-openssh/keys/dora")


@ONLY
def test_no_token_is_echoed(bastion, alice):
    """At a terminal: the prompt is shown, the token is not, and the terminal is left as it was."""
    master, slave = pty.openpty()
    before = termios.tcgetattr(slave)
    command = bastion.box.command(paths.PROGRAM, "check", "--user", "alice")
    running = subprocess.Popen(command, stdin=slave, stdout=slave, stderr=slave, preexec_fn=die_with_parent)
    shown = b""

    def read_until(end):
        nonlocal shown
        while end not in shown:
            assert select.select([master], [], [], LONGEST)[0], shown
            shown += os.read(master, 65536)

    try:
        read_until(b"Token of alice to try (empty: none): ")
        os.write(master, alice.token.encode() + b"\r")
        read_until(b"in order.")
        assert running.wait(LONGEST) == 0
        assert alice.token.encode() not in shown and b"the token is good" in shown
        assert termios.tcgetattr(slave) == before
    finally:
        running.kill()
        running.wait()
        os.close(master)
        os.close(slave)
