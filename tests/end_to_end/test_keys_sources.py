"""Where keys come from: an administrator's directory, the hub, a git forge; one or several, slow, down, damaged."""

import contextlib
import re
import stat

import paramiko
import pytest

from lib import paths
from lib.actors.faultyhub import answer, drip, hang
from lib.actors.keys import (
    AUTHORIZED_KEYS_PROGRAM,
    CACHE,
    DIRECTORY,
    HUB_KEYS_PROGRAM,
    KEYS_USER,
    Door,
    Forge,
    administrators_file,
    age_answers,
    door,
    forget_answers,
    keys_table,
    service_token,
    sshd_says,
    strangers_key,
    trusted,
    uid_of,
)
from lib.actors.tls import Authority
from lib.sandbox.storage import BY_HOME

pytestmark = pytest.mark.only("trixie")


@pytest.fixture
def shared_bastion(homes_bastion):
    return homes_bastion


@pytest.fixture(scope="session")
def authority(homes_bastion, tmp_path_factory):
    """Signs the forge's certificate, and the bastion's system trusts it."""
    made = Authority(tmp_path_factory.mktemp("authority"), "forge")
    with trusted(homes_bastion, made):
        yield made


@pytest.fixture
def forge(network, hub, authority):
    made = Forge(network, hub.box.network, authority)
    yield made
    made.close()


@pytest.fixture
def open_door(bastion, client, hub, place):
    """open_door(*sources, **keys): dora's logins with these sources and keys of [keys]. None has been asked before."""
    with contextlib.ExitStack() as stack:

        def make(*sources, url=None, hub_url=None, **more):
            forget_answers(bastion)
            config = BY_HOME + keys_table(*sources, **more, **({"url": url} if url else {}))
            return stack.enter_context(door(client, bastion, hub, place, config, hub_url))

        yield make


# The administrator's directory.


@pytest.fixture
def from_file(bastion, open_door):
    """Dora's logins with the keys of an administrator's file."""
    yield open_door("file")
    bastion.box.run("rm", "-rf", f"{DIRECTORY}/dora")
    bastion.box.run("chmod", "755", DIRECTORY)


def test_file(bastion, from_file, key):
    from_file.authorize(key.public)
    from_file.shut(key)
    administrators_file(bastion, "erin", key.public)
    from_file.shut(key)
    administrators_file(bastion, "dora", "# dora's", strangers_key(), f"restrict {key.public} dora@laptop")
    from_file.opens(key, "file")
    administrators_file(bastion, "dora", f'command="/bin/true" {key.public}')
    from_file.shut(key, log=r"refused by file: .*command")
    bastion.box.path(f"{DIRECTORY}/erin").unlink()


#: What is done to the administrator's file → what is logged.
WRONG_FILES = {
    f"chmod 666 {DIRECTORY}/dora": r"can write",
    f"chown 1000 {DIRECTORY}/dora": r"belongs to uid 1000",
    f"chmod 777 {DIRECTORY}": r"can write",
    f"mv {DIRECTORY}/dora /etc/jupyterhub-openssh/moved; ln -s ../moved {DIRECTORY}/dora": r"symbolic link",
    f"chmod 600 {DIRECTORY}/dora": r"Permission denied|EACCES",
}


@pytest.mark.parametrize("command", WRONG_FILES)
def test_a_file_that_is_refused(bastion, from_file, key, command):
    """Users read it as themselves, and only root may have written it."""
    administrators_file(bastion, "dora", key.public)
    try:
        bastion.box.run("sh", "-c", command)
        from_file.shut(key, log=rf"file is left out: .*({WRONG_FILES[command]})")
    finally:
        bastion.box.path("/etc/jupyterhub-openssh/moved").unlink(missing_ok=True)


# The hub.


@pytest.fixture
def auth_state(hub):
    """auth_state(**fields): what the hub keeps of dora."""
    hub.add_user("dora")
    yield lambda **fields: hub.set_auth_state("dora", **fields)
    hub.set_auth_state("dora")


@pytest.mark.parametrize("shape", ["list", "text", "other field"])
def test_hub(open_door, auth_state, key, shape):
    more = {"hub_field": "keys of ssh"} if shape == "other field" else {}
    doras = open_door("hub", **more)
    field = more.get("hub_field", "ssh_public_keys")
    listed = [strangers_key(), f"{key.public} dora@laptop"]
    auth_state(**{field: "\n".join(listed) if shape == "text" else listed, "token": "not for us"})
    doras.opens(key, "hub")


@pytest.mark.parametrize(
    ("value", "log"),
    [
        (7, "neither a text nor a list"),
        ({"a": "b"}, "neither a text nor a list"),
        ([["a"]], "neither a text nor a list"),
        ("no-pty {key}", "has options"),
        ("x" * 300_000, "hub: "),
    ],
    ids=["number", "object", "nested list", "options", "long"],
)
def test_what_the_hub_keeps_is_no_list_of_keys(open_door, auth_state, key, value, log):
    doras = open_door("hub")
    auth_state(ssh_public_keys=value.replace("{key}", key.public) if isinstance(value, str) else value)
    doras.shut(key, log=log)


def test_the_hub_keeps_nothing(bastion, open_door, auth_state, key):
    """Most users have listed no key: nothing to be warned of."""
    doras = open_door("hub")
    mark = bastion.syslog.mark()
    for fields in ({}, {"other": 1}, {"ssh_public_keys": None}, {"ssh_public_keys": []}, {"ssh_public_keys": ""}):
        auth_state(**fields)
        forget_answers(bastion)
        doras.shut(key)
    assert not [one.text for one in bastion.syslog.since(mark) if "hub-keys" in one.text]


def test_the_service_may_not_read_what_the_hub_keeps(bastion, client, hub, place, auth_state, key):
    auth_state(ssh_public_keys=key.public)
    forget_answers(bastion)
    with service_token(bastion, hub.service_token), bastion.configured(hub.url, BY_HOME + keys_table("hub")):
        Door(client, bastion, "dora").shut(key, log=r"hub: .*scopes? admin:auth_state")


# A git forge.


def test_url(forge, open_door, key):
    doras = open_door("url", url=forge.template)
    doras.shut(key)
    forge.publish("dora", strangers_key(), f"{key.public} dora@forge")
    forge.publish("erin", strangers_key())
    # Nobody had keys a moment ago, and for a minute that holds.
    doras.shut(key)
    age_answers(doras.bastion, 61)
    doras.opens(key, "url")
    assert forge.asked("dora") == 2 and not forge.asked("erin")
    # The service's token is for the hub alone.
    assert not [one.head for one in forge.requests if one.header("Authorization") or one.header("Cookie")]


def test_url_of_a_name_with_an_at_sign(bastion, client, hub, forge, make_place, key):
    place = make_place("dora@example.org", 5001, 5001)
    forget_answers(bastion)
    with door(client, bastion, hub, place, BY_HOME + keys_table("url", url=forge.template)) as doras:
        forge.publish("dora@example.org", key.public)
        doras.opens(key, "url")


def test_a_forges_options_and_rubbish(forge, open_door, key):
    doras = open_door("url", url=forge.template)
    forge.publish("dora", "<html>", f"no-pty {key.public}", "\x1b[2J", "ssh-dss AAAA", "\0" * 1000)
    doras.shut(key, log=r"url: .*left out")


def test_a_key_that_is_taken_back(bastion, forge, open_door, key):
    doras = open_door("url", url=forge.template)
    forge.publish("dora", key.public)
    doras.opens(key, "url")
    forge.publish("dora")
    age_answers(bastion, 61)
    doras.shut(key)
    # What it said before is no answer any more.
    forge.answers("dora", hang)
    age_answers(bastion, 61)
    doras.shut(key)


def test_a_forge_that_is_not_who_it_says(network, hub, open_door, key, tmp_path):
    other = Forge(network, hub.box.network, Authority(tmp_path, "other"))
    try:
        other.publish("dora", key.public)
        open_door("url", url=other.template).shut(key, log=r"url: .*(TLS|certificate)")
        assert not other.requests
    finally:
        other.close()


def test_a_forge_that_points_elsewhere(forge, elsewhere, open_door, key):
    doras = open_door("url", url=forge.template)
    elsewhere.on("GET", "", answer(200, f"{key.public}\n"))
    forge.answers("dora", answer(302, "", Location=f"{elsewhere.url}/dora.keys"))
    doras.shut(key, log=r"url: .*302")
    assert not elsewhere.requests, "the redirect was followed"


# Several sources.


def test_the_first_that_knows_the_key_decides(bastion, forge, open_door, key):
    doras = open_door("file", "home", "url", url=forge.template)
    try:
        administrators_file(bastion, "dora", key.public)
        doras.authorize(key.public)
        forge.publish("dora", key.public)
        doras.opens(key, "file")
        administrators_file(bastion, "dora", strangers_key())
        doras.opens(key, "home")
        assert not forge.requests
        doras.authorize(f'command="/bin/true" {key.public}')
        doras.shut(key, log=r"refused by home: .*command")
        assert not forge.requests
        doras.authorize(strangers_key())
        doras.opens(key, "url")
        assert forge.asked("dora") == 1
    finally:
        bastion.box.path(f"{DIRECTORY}/dora").unlink()


def test_another_order(forge, open_door, key):
    doras = open_door("url", "home", url=forge.template)
    doras.authorize(key.public)
    doras.opens(key, "home")
    assert forge.asked("dora") == 1
    forge.publish("dora", key.public)
    age_answers(doras.bastion, 61)
    doras.opens(key, "url")


def test_hub_and_forge(forge, faulty, open_door, auth_state, key):
    """One run of the program asks both, and each keeps its place in the order."""
    doras = open_door("hub", "url", url=forge.template, hub_url=faulty.url)
    auth_state(ssh_public_keys=strangers_key())
    forge.publish("dora", key.public)
    doras.opens(key, "url")
    auth_state(ssh_public_keys=key.public)
    age_answers(doras.bastion, 61)
    doras.opens(key, "hub")
    assert len(faulty.seen(r"/users/dora$", "GET")) == forge.asked("dora") == 2


# Sources that are slow, or down.

FAULTS = {
    "hanging": hang,
    "dripping": drip,
    "closing": lambda connection: None,
    "500": answer(500, "no"),
    "no HTTP": b"\x00\xff\x1b[2Jgarbage\r\n\r\n" * 50,
    "10 megabytes": answer(200, b"#" * 10_000_000),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_forge_with_a_fault(bastion, forge, open_door, key, fault):
    """Costs seconds and a line in the log, and no login that doesn't depend on it."""
    doras = open_door("url", "home", url=forge.template)
    forge.answers("dora", FAULTS[fault])
    doras.authorize(key.public)
    mark = bastion.syslog.mark()
    doras.opens(key, "home")
    entry = bastion.syslog.wait(r"url: .*its keys are left out", mark)
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f]", entry.text)
    doras.home.remove(".ssh")
    # The second one neither waits nor asks nor complains.
    mark = bastion.syslog.mark()
    doras.shut(key)
    assert forge.asked("dora") == 1 and not [one.text for one in bastion.syslog.since(mark) if "url: " in one.text]


def test_a_forge_that_is_down_is_done_without(bastion, forge, open_door, key):
    """For as long as configured, with what it said last; the log says so."""
    doras = open_door("url", url=forge.template, cache_max_age=3600)
    forge.publish("dora", key.public)
    doras.opens(key, "url")
    forge.answers("dora", FAULTS["hanging"])
    age_answers(bastion, 600)
    mark = bastion.syslog.mark()
    doras.opens(key, "url")
    bastion.syslog.wait(r"url: .*its answer of 1[01] min ago is used", mark)
    doras.opens(key, "url")
    assert forge.asked("dora") == 2
    forge.answers("dora", FAULTS["500"])
    age_answers(bastion, 3600)
    doras.shut(key, log=r"url: .*its keys are left out")


def test_no_answer_is_kept(bastion, forge, open_door, key):
    """With cache_max_age = 0 none is used longer than for one client's keys."""
    doras = open_door("url", url=forge.template, cache_max_age=0)
    forge.publish("dora", key.public)
    doras.opens(key, "url")
    forge.answers("dora", FAULTS["500"])
    age_answers(bastion, 61)
    doras.shut(key, log=r"url: .*its keys are left out")


def test_a_hub_that_does_not_tell(bastion, faulty, open_door, auth_state, key):
    """It makes tokens, but doesn't say what it keeps of users."""
    doras = open_door("hub", hub_url=faulty.url)
    auth_state(ssh_public_keys=key.public)
    doras.opens(key, "hub")
    faulty.on("GET", r"/users/dora$", hang)
    age_answers(bastion, 300)
    mark = bastion.syslog.mark()
    doras.opens(key, "hub")
    bastion.syslog.wait(r"hub: .*its answer of [56] min ago is used", mark)


def test_all_of_them_at_once(forge, faulty, open_door, key):
    """Both hang, and the home still lets in, in time."""
    doras = open_door("hub", "url", "home", url=forge.template, hub_url=faulty.url)
    faulty.on("GET", r"/users/dora$", hang)
    forge.answers("dora", hang)
    doras.authorize(key.public)
    doras.opens(key, "home")


def test_a_damaged_cache(bastion, forge, open_door, key):
    """Is as good as none; and one that cannot be written costs a question each time, not the login."""
    doras = open_door("url", url=forge.template)
    forge.publish("dora", key.public)
    doras.opens(key, "url")
    for damage in (
        "truncate -s -5 $0/*",
        "for file in $0/*; do head -c 9999 /dev/urandom >$file; done",
        "for file in $0/*; do : >$file; done",
        "chmod 500 $0; rm -f $0/*",
    ):
        asked = forge.asked("dora")
        bastion.box.run("sh", "-c", damage, CACHE)
        try:
            doras.opens(key, "url")
        finally:
            bastion.box.run("chmod", "700", CACHE)
        assert forge.asked("dora") == asked + 1, damage
    bastion.box.run("find", CACHE, "-mindepth", "1", "-delete")


# Clients with many keys.


@pytest.mark.parametrize("state", ["up", "down"])
def test_many_keys_are_one_question(bastion, client, forge, open_door, key, state):
    doras = open_door("url", "home", url=forge.template)
    if state == "up":
        forge.publish("dora", *map(strangers_key, range(50)), key.public)
    else:
        forge.answers("dora", hang)
        doras.authorize(key.public)
    with sshd_says(bastion, "MaxAuthTries 200"):
        transport = client.connect(bastion)
        for _ in range(99 if state == "up" else 12):
            with pytest.raises(paramiko.AuthenticationException):
                transport.auth_publickey("dora", paramiko.ECDSAKey.generate())
        assert transport.auth_publickey("dora", key.paramiko()) == []
        assert forge.asked("dora") == 1
        transport.close()


# The programs in other hands.


def test_who_may_ask_for_keys(bastion, hub, forge, open_door, make_place, key):
    """The program has rights of its own; it lends them to nobody but the user, and to root."""
    open_door("url", url=forge.template)
    make_place("erin", 5001, 5001)
    forge.publish("dora", key.public)
    status = bastion.box.path(HUB_KEYS_PROGRAM).stat()
    assert status.st_uid == uid_of(bastion, KEYS_USER) != 0
    assert status.st_mode & stat.S_ISUID and not status.st_mode & 0o022

    def ask(*arguments, **options):
        return bastion.box.run(HUB_KEYS_PROGRAM, *arguments, check=False, timeout=30, **options)

    for options in ({}, {"uid": 1000, "gid": 100}):
        done = ask("dora", **options)
        assert (done.returncode, done.stdout) == (0, f"url {key.public}\n"), done
    for uid in (65534, 5001, uid_of(bastion, paths.GATEWAY_USER)):
        done = ask("dora", uid=uid)
        assert (done.returncode, done.stdout) == (1, ""), (uid, done)
    # Limits that leave it no way to look at the home, or make it fail for others later, are no way in.
    for limits in ("-S -n 4", "-n 4", "-f 0", "-t 1"):
        for uid in (1000, 5001):
            done = bastion.box.run("bash", "-c", f"ulimit {limits}; exec {HUB_KEYS_PROGRAM} dora", uid=uid, check=False)
            answer = f"url {key.public}\n" if limits.startswith("-S") and uid == 1000 else ""
            assert (done.returncode, done.stdout) == (int(not answer), answer), (limits, done)
    for rubbish in ((), ("",), ("-h",), ("../dora",), ("a" * 5000,), ("dora", "erin"), ("dora\n",)):
        done = ask(*rubbish)
        assert (done.returncode, done.stdout) == (1, "") and "panicked" not in done.stderr, (rubbish, done)
        assert hub.keys_token not in done.stderr
    forget_answers(bastion)
    done = ask(
        "dora",
        uid=1000,
        gid=100,
        env={
            "HTTPS_PROXY": "http://127.0.0.1:9",
            "SSL_CERT_FILE": "/dev/null",
            "SSL_CERT_DIR": "/nonexistent",
            "LD_PRELOAD": "/x.so",
            "OPENSSL_CONF": "/nonexistent",
            "TMPDIR": "/nonexistent",
        },
    )
    assert done.stdout == f"url {key.public}\n", done


def test_many_at_once_do_not_harm_the_cache(bastion, forge, open_door, key):
    open_door("url", url=forge.template)
    forge.publish("dora", key.public)
    ask = f"for i in $(seq 20); do {HUB_KEYS_PROGRAM} dora & done; wait"
    assert bastion.box.run("sh", "-c", ask).stdout == 20 * f"url {key.public}\n"
    asked = forge.asked("dora")
    assert bastion.box.run("sh", "-c", ask).stdout == 20 * f"url {key.public}\n"
    assert forge.asked("dora") == asked
    left = {file.name for file in bastion.box.path(CACHE).iterdir()} - {".tidied"}
    assert len(left) == 1, left


def test_nobody_speaks_for_the_program(bastion, open_door, forge, key):
    """What it prints lets people in: no other process of the same uid may write to its output, or trace it."""
    open_door("url", url=forge.template)
    forge.answers("dora", hang)
    kind, blob = key.public.split()
    running = bastion.box.start(AUTHORIZED_KEYS_PROGRAM, "dora", kind, blob, key.fingerprint(), uid=1000, gid=100)
    try:
        look = (
            "p=/proc/$(pgrep -o authorized-key); cat $p/comm; for what in fd/1 maps mem; do "
            "head -c 1 $p/$what >/dev/null 2>&1 && echo $what; (: >>$p/$what) 2>/dev/null && echo $what; done; true"
        )
        seen = bastion.box.run("sh", "-c", look, uid=1000, gid=100).stdout
        assert seen == "authorized-keys"[:15] + "\n" and running.alive()
    finally:
        running.kill()


def test_what_sshd_is_told(bastion, open_door, key):
    """At most one line, and nothing for arguments that are none of sshd's."""
    open_door("home").authorize(f'no-pty {key.public} "comment"', strangers_key())

    def ask(*arguments, uid=1000):
        return bastion.box.run(AUTHORIZED_KEYS_PROGRAM, *arguments, check=False, timeout=30, uid=uid, gid=100)

    kind, blob = key.public.split()
    good = ("dora", kind, blob, key.fingerprint())
    assert (ask(*good).returncode, ask(*good).stdout) == (0, f"no-pty {key.public}\n")
    for nothing in (
        ("dora", *strangers_key(9).split(), "SHA256:x"),
        ("dora", "ssh-ed25519-cert-v01@openssh.com", "AAAA", key.fingerprint()),
        ("erin", *good[1:]),
    ):
        done = ask(*nothing)
        assert (done.returncode, done.stdout) == (0, ""), done
    for rubbish in ((), good[:3], (*good, "more"), ("../dora", *good[1:]), ("dora", kind, "!", good[3])):
        done = ask(*rubbish)
        assert done.returncode not in (0, 101, 134) and done.stdout == "", done
    # Root would read what the user may not.
    mark = bastion.syslog.mark()
    assert ask(*good, uid=0).stdout == ""
    bastion.syslog.wait(r"AuthorizedKeysCommandUser", mark)
