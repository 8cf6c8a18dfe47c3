"""Logins with keys: what of a user's own file opens, what doesn't, and who may come in at all."""

import json
import re
import subprocess
import tempfile

import paramiko
import pytest

from lib.actors.client import Refused
from lib.actors.faultyhub import answer
from lib.actors.hub import HUB_UID
from lib.actors.keys import (
    AUTHORIZED_KEYS_PROGRAM,
    KEYS_USER,
    REFUSALS,
    Door,
    Key,
    door,
    key_login,
    keys_table,
    minted,
    none_minted,
    openssh,
    service_token,
    sshd_says,
    strangers_key,
    table,
)
from lib.actors.security_key import TOUCHED, VERIFIED, SecurityKey
from lib.checks import expect
from lib.checks.files import local_home
from lib.checks.place import Place, sftp
from lib.sandbox.storage import BY_HOME

CONFIG = BY_HOME + keys_table("home")


@pytest.fixture
def shared_bastion(homes_bastion):
    return homes_bastion


@pytest.fixture(scope="session")
def directory(tmp_path_factory):
    return tmp_path_factory.mktemp("keys")


@pytest.fixture
def dora(bastion, hub, client, place):
    """Dora's logins with the keys of her home. Her server is never started."""
    with door(client, bastion, hub, place, CONFIG) as made:
        yield made


# What such a login is.


def test_a_session_like_any_other(bastion, client, hub, alice, make_place, key):
    """Terminal, command and files with a key alone, and the user's own server behind them."""
    place = make_place("alice", 1000, 100)
    with door(client, bastion, hub, place, CONFIG) as alices:
        alices.authorize(f"{key.public} alice@laptop")
        mark = bastion.syslog.mark()
        with client.terminal(bastion, "alice", None, transport=alices.enter(key)) as terminal:
            terminal.prompt()
            assert terminal.run("echo $((6*7)); pwd") == "42\n/mnt/home/alice\n"
        bastion.syslog.wait(rf"key {re.escape(key.fingerprint())} of alice: known by home", mark)
        bastion.syslog.wait(r"event=keeper outcome=revoked", mark)
        command = openssh(
            client, "ssh", bastion, "alice", key, bastion.address, "cat; exit 7", options=["-o", "BatchMode=yes"]
        )
        done = subprocess.run(command, input=b"\0through\xff", capture_output=True, timeout=60)
        assert (done.returncode, done.stdout, done.stderr) == (7, b"\0through\xff", b"")
        files = alices.enter(key).open_sftp_client()
        assert ".ssh" in files.listdir()


@pytest.mark.parametrize("kind", ["ecdsa", "rsa"])
def test_other_kinds_of_keys(directory, dora, kind):
    other = Key(directory, "other", kind)
    dora.authorize(other.public)
    dora.opens(other, "home")


def test_a_named_server(hub, dora, key):
    dora.authorize(key.public)
    transport = dora.enter(key, user="dora+gpu")
    (token,) = minted(hub, "dora")
    assert "access:servers!server=dora/gpu" in token["scopes"]
    transport.close()


def test_a_name_with_capitals(place, dora, key):
    """The same home and the same keys."""
    dora.authorize(key.public)
    place.home.write("of-dora", b"x", owner=place.owner)
    dora.opens(key, "home", user="DORA")
    with dora.enter(key, user="Dora") as transport, transport.open_sftp_client() as files:
        assert files.normalize(".") == place.shown and "of-dora" in files.listdir(".")


def test_ssh_copy_id_through_the_server(bastion, client, hub, alice, scratch, key):
    """The home that the server writes to is the one that the bastion reads."""
    config = '[homes]\nroot = "/srv/hub"\n[accounts]\nuid = "home"\n' + keys_table("home")
    home = local_home(bastion.box.path("/srv/hub/alice"))
    place = Place(client, bastion, "alice", alice.token, home, (HUB_UID, HUB_UID), "/home/alice", scratch)
    try:
        with door(client, bastion, hub, place, config) as alices:
            alices.shut(key)
            said = copy_id(client, bastion, place, key)
            assert "Number of key(s) added: 1" in said.stdout, said
            alices.opens(key, "home")
            said = copy_id(client, bastion, place, key)
            assert "already exist on the remote system" in said.stderr, said
            assert home.read(".ssh/authorized_keys").decode().count(key.public) == 1
    finally:
        home.remove(".ssh")


def test_ssh_copy_id_by_sftp(bastion, client, place, dora, key):
    """While the user's server is stopped, and stays so."""
    said = copy_id(client, bastion, place, key, "-s")
    assert "Number of key(s) added: 1" in said.stdout, said
    dora.opens(key, "home")


def copy_id(client, bastion, place, key, *arguments):
    """Run ssh-copy-id, the token typed where it is asked for; CompletedProcess with text."""
    # What it makes there is the path of a socket, which must be short.
    with tempfile.TemporaryDirectory() as home:
        subprocess.run(["mkdir", "-m", "700", f"{home}/.ssh"], check=True)
        return place.run(
            openssh(client, "ssh-copy-id", bastion, place.user, key, *arguments, bastion.address), env={"HOME": home}
        )


# Security keys.


@pytest.fixture
def security_key():
    # What it makes there is the path of a socket, which must be short.
    with tempfile.TemporaryDirectory() as directory:
        made = SecurityKey(directory)
        yield made
        made.close()


def enters(client, bastion, security_key, flags):
    """Whether OpenSSH's client gets in when the key signs with these flags."""
    security_key.flags = flags
    command = openssh(
        client, "ssh", bastion, "dora", security_key, "-s", bastion.address, "sftp", options=security_key.options
    )
    # sftp-server ends with its input.
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 or "Permission denied" in done.stderr, done
    return done.returncode == 0


def test_a_security_key_must_be_touched(bastion, client, dora, security_key):
    """Also where the user's own file says otherwise."""
    for line in (security_key.public, f"no-touch-required {security_key.public}"):
        dora.authorize(line)
        assert enters(client, bastion, security_key, TOUCHED)
        assert not enters(client, bastion, security_key, 0)


def test_a_security_key_that_must_ask_for_its_pin(bastion, client, dora, security_key):
    """By the key's own line, and by sshd's configuration for all."""
    dora.authorize(f"verify-required {security_key.public}")
    assert not enters(client, bastion, security_key, TOUCHED)
    assert enters(client, bastion, security_key, TOUCHED | VERIFIED)
    dora.authorize(security_key.public)
    with sshd_says(bastion, "PubkeyAuthOptions verify-required"):
        assert not enters(client, bastion, security_key, TOUCHED)
        assert enters(client, bastion, security_key, TOUCHED | VERIFIED)


# Lines of the file.

#: name → (lines, what is logged); {key} is the key, {other} somebody else's.
LET_IN = {
    "no newline at its end": ("{key}", None),
    "CRLF": ("# my keys\r\n\r\n{other} home\r\n{key} dora@laptop\r\n", None),
    "blanks before it": ("\n \t {key}\n", None),
    "comment with quotes": ("{key} it's \"dora's\", and more\n", None),
    "after broken lines": ("rubbish\nssh-ed25519\nssh-ed25519 !!!\nssh-ed25519 AAAA\n\0\1\n\xff\n,,,\n{key}\n", None),
    "twice": ("{key}\n{other}\n{key}\n", None),
    "restrictions": (
        'restrict,pty,from="10.77.0.0/16,!192.0.2.1",expiry-time="20990101",permitopen="localhost:1" {key}\n',
        None,
    ),
    "restrictions in capitals": ("No-PTY,NO-USER-RC {key}\n", None),
    "environment": ('environment="A=b \\"c\\" d",no-pty {key}\n', r"environment"),
    "tunnel": ('tunnel="0" {key}\n', r"tunnel"),
}
KEPT_OUT = {
    "another's key": ("{other}\n", None),
    "commented out": ("# {key}\n", None),
    "command": ('command="/bin/true" {key}\n', r"command"),
    "restrictions and command": ('restrict,command="internal-sftp" {key}\n', r"command"),
    "authority": ("cert-authority {key}\n", r"cert-authority"),
    "principals": ('principals="dora" {key}\n', r"principals"),
    "unknown option": ("no-such-option {key}\n", r"no-such-option"),
    "quotes that don't end": ('from="10.77.0.0/16 {key}\n', None),
    "expired": ('expiry-time="20200101" {key}\n', None),
    "from elsewhere": ('from="192.0.2.0/24" {key}\n', None),
    "NUL": ("{key} a\0b\n", None),
    "terminal's escapes": ("{key} \x1b[2J\n", None),
    "two lines that were one": ("ssh-ed25519\n{key[1]}\n", None),
    "another type": ("ssh-rsa {key[1]}\n", None),
    "cut": ("{cut}\n", None),
}


def lines(text, key):
    """A file of the tables above."""
    for name, value in {
        "{key}": key.public,
        "{other}": strangers_key(),
        "{key[1]}": key.public.split()[1],
        "{cut}": key.public[:-8],
    }.items():
        text = text.replace(name, value)
    return text.encode("latin-1")


@pytest.mark.parametrize("case", LET_IN)
def test_lines_that_let_in(bastion, dora, key, case):
    text, log = LET_IN[case]
    dora.authorize(lines(text, key))
    mark = bastion.syslog.mark()
    dora.opens(key, "home")
    if log:
        bastion.syslog.wait(log, mark)


@pytest.mark.parametrize("case", KEPT_OUT)
def test_lines_that_keep_out(dora, key, case):
    text, log = KEPT_OUT[case]
    dora.authorize(lines(text, key))
    dora.shut(key, log=log)


def test_restrictions_hold(dora, key):
    dora.authorize(f"restrict {key.public}")
    transport = dora.enter(key)
    assert ".ssh" in transport.open_sftp_client().listdir()
    with pytest.raises(paramiko.SSHException):
        transport.open_session().get_pty()
    transport.close()


# The file.


def swap(home, name):
    """Put a symbolic link to it in the place of a file."""
    home.run("mv", home.at(name), home.at("moved"))
    home.symlink("../moved" if "/" in name else "moved", name)


def instead(home, *command):
    """Put something else in the file's place."""
    home.remove(".ssh/authorized_keys")
    home.run(*command, home.at(".ssh/authorized_keys"))


#: name → (what is done to a home whose file has the key, what is logged).
WRONG_FILES = {
    "home writable by the group": (lambda home, key: home.run("chmod", "770", home.path), r"writ"),
    "directory writable by others": (lambda home, key: home.run("chmod", "777", home.at(".ssh")), r"writ"),
    "file writable by the group": (
        lambda home, key: home.run("chmod", "660", home.at(".ssh/authorized_keys")),
        r"writ",
    ),
    "directory of another": (lambda home, key: home.run("chown", "1234", home.at(".ssh")), r"own|belong|permission"),
    "file of another": (
        lambda home, key: home.run("chown", "1234", home.at(".ssh/authorized_keys")),
        r"own|belong|permission",
    ),
    "symbolic link to the file": (lambda home, key: swap(home, ".ssh/authorized_keys"), r"symbolic link"),
    "symbolic link to the directory": (lambda home, key: swap(home, ".ssh"), r"symbolic link"),
    "directory in its place": (lambda home, key: instead(home, "mkdir"), r"regular|directory"),
    "pipe in its place": (lambda home, key: instead(home, "mkfifo"), r"regular|pipe|FIFO"),
    "10 MB": (lambda home, key: home.write(".ssh/authorized_keys", f"{key.public}\n" + "#" * 10_000_000), r"longer"),
    "5000 lines": (lambda home, key: home.write(".ssh/authorized_keys", 5000 * "#\n" + key.public), r"lines"),
}


@pytest.mark.parametrize("case", WRONG_FILES)
def test_files_that_are_refused(bastion, dora, key, case):
    """As with StrictModes; none of them costs more than the file, and the log says why, in one line a login at most."""
    change, log = WRONG_FILES[case]
    dora.authorize(key.public)
    change(dora.home, key)
    mark = bastion.syslog.mark()
    dora.shut(key, log=log)
    assert len(dora.told(mark)) == 1


def test_no_file(bastion, dora, key):
    """Is nothing to be warned of: most users have none."""
    mark = bastion.syslog.mark()
    dora.shut(key)
    dora.home.mkdir(".ssh", mode=0o700, owner=dora.owner)
    dora.shut(key)
    dora.authorize()
    dora.shut(key)
    assert not dora.told(mark)


def test_a_binary_file(dora, key):
    dora.authorize(key.path.read_bytes() + bytes(range(256)) * 400)
    dora.shut(key)


def test_thousands_of_keys(dora, key):
    dora.authorize(*map(strangers_key, range(3000)), key.public)
    dora.opens(key, "home")


def test_files_of_root_are_fine(dora, key):
    """An administrator may have put them there."""
    dora.authorize(key.public)
    dora.home.run("chown", "-R", "root:root", dora.home.at(".ssh"))
    dora.home.run("chmod", "755", dora.home.at(".ssh"))
    dora.home.run("chmod", "644", dora.home.at(".ssh/authorized_keys"))
    dora.opens(key, "home")


# Certificates.


def test_certificates(bastion, directory, dora, key):
    """sshd itself judges them, by an authority of the administrator's; our sources have no part in it."""
    ours, other = Key(directory, "authority"), Key(directory, "other-authority")
    bastion.box.write("/etc/ssh/tests-authority.pub", f"{ours.public}\n")
    with sshd_says(bastion, "TrustedUserCAKeys /etc/ssh/tests-authority.pub"):
        mark = bastion.syslog.mark()
        dora.opens(key, certificate=key.certificate(ours, "dora"))
        assert not dora.told(mark)
        dora.shut(key)
        # That the key is known doesn't make a certificate good.
        dora.authorize(key.public)
        for bad in (
            key.certificate(ours, "dora", "-2h:-1h"),
            key.certificate(ours, "erin"),
            key.certificate(other, "dora"),
        ):
            dora.shut(key, certificate=bad)
        dora.opens(key, "home")


# Who may come in.

#: name → ([login], groups of dora's at the hub, whether she is let in).
POLICIES = {
    "allowed": ({"allow_users": ["erin", "dora"]}, [], True),
    "another is allowed": ({"allow_users": ["erin"]}, [], False),
    "allowed by a group": ({"allow_users": ["erin"], "allow_groups": ["physics", "staff"]}, ["staff"], True),
    "not in the group": ({"allow_groups": ["physics"]}, ["staff"], False),
    "denied": ({"deny_users": ["dora"]}, [], False),
    "denied wins": ({"allow_users": ["dora"], "allow_groups": ["staff"], "deny_users": ["dora"]}, ["staff"], False),
    "another is denied": ({"deny_users": ["erin"]}, [], True),
}


@pytest.mark.parametrize("case", POLICIES)
def test_who_may_log_in(bastion, client, hub, dora, place, key, case):
    """The same for tokens and for keys."""
    login, groups, let_in = POLICIES[case]
    hub.set_groups("dora", groups)
    dora.authorize(key.public)
    try:
        with bastion.configured(hub.url, CONFIG + table("login", **login)):
            if let_in:
                dora.opens(key, "home")
                client.login(bastion, "dora", hub.token("dora")).close()
                return
            dora.shut(key, "not-allowed")
            message, log = REFUSALS["not-allowed"]
            mark = bastion.syslog.mark()
            with pytest.raises(Refused, match=f"(?is){message}"):
                client.login(bastion, "dora", hub.token("dora"))
            bastion.syslog.wait(log, mark)
            none_minted(hub, "dora")
    finally:
        hub.set_groups("dora", [])


def test_a_token_that_cannot_tell_the_groups(bastion, client, hub, faulty):
    """A hub that answers without groups leaves open whether the user is in one: they stay outside."""
    hub.add_user("dora")
    token = hub.token("dora", scopes=["access:servers!user=dora", "servers!user=dora"])
    model = hub.api("GET", "/user", token=token).ok().json()
    model.pop("groups", None)
    faulty.on("GET", r"/hub/api/user$", answer(200, json.dumps(model), Content_Type="application/json"))
    mark = bastion.syslog.mark()
    with bastion.configured(faulty.url, table("login", allow_groups=["physics"])), pytest.raises(Refused):
        client.login(bastion, "dora", token)
    bastion.syslog.wait(r"outcome=refused .*read:users:groups!user", mark)


def test_a_user_whom_the_hub_has_deleted(bastion, client, hub, make_place, key):
    """Home and key are still there."""
    place = make_place("erin", 5001, 5001)
    with bastion.configured(hub.url, CONFIG), service_token(bastion, hub.keys_token):
        erins = Door(client, bastion, "erin", place.home, place.owner)
        erins.authorize(key.public)
        erins.opens(key, "home")
        none_minted(hub, "erin")
        hub.delete_user("erin")
        erins.shut(key, "unknown-user")


def test_the_hub_down(bastion, network, dora, key):
    dora.authorize(key.public)
    with bastion.configured(f"http://{network.ELSEWHERE}:9", CONFIG):
        dora.shut(key, "hub-down")


def test_a_hanging_hub(bastion, hub, dora, key):
    """A token that it makes when the user has been sent away is revoked."""
    dora.authorize(key.public)
    mark = bastion.syslog.mark()
    hub.hang()
    try:
        dora.shut(key, "hub-hanging")
    finally:
        hub.resume()
    bastion.syslog.wait(r"event=keeper outcome=revoked", mark, 30)


# Keys beside tokens.


def second_factor(client, bastion, user, key, token):
    """A transport logged in with a key and, where that isn't enough, a token."""
    transport = client.connect(bastion)
    try:
        if transport.auth_publickey(user, key.paramiko()):
            transport.auth_interactive(user, lambda title, instructions, prompts: [token for _ in prompts])
    except paramiko.SSHException as error:
        transport.close()
        raise Refused([str(error)]) from error
    return transport


def test_key_and_token(bastion, client, hub, dora, directory, key):
    """`publickey,keyboard-interactive:pam`: the token is the session's, and none is made for it."""
    dora.authorize(key.public)
    token = hub.token("dora")
    with sshd_says(bastion, "AuthenticationMethods publickey,keyboard-interactive:pam"):
        with pytest.raises(Refused, match="keyboard-interactive"):
            key_login(client, bastion, "dora", key)
        for refused, typed in ((key, "0123456789abcdef0123456789abcdef"), (Key(directory, "strangers"), token)):
            with pytest.raises(Refused):
                second_factor(client, bastion, "dora", refused, typed)
        with pytest.raises(Refused):
            client.login(bastion, "dora", token)
        transport = second_factor(client, bastion, "dora", key, token)
        assert transport.is_authenticated() and ".ssh" in transport.open_sftp_client().listdir()
        assert not minted(hub, "dora")
        transport.close()


def test_keys_alone(bastion, client, hub, dora, key):
    dora.authorize(key.public)
    with sshd_says(bastion, "AuthenticationMethods publickey"):
        dora.opens(key, "home")
        with pytest.raises(Refused):
            client.login(bastion, "dora", hub.token("dora"))


def test_tokens_beside_keys(bastion, client, hub, dora, key):
    """One who offers a key that nobody knows is asked for a token on the same connection."""
    transport = client.connect(bastion)
    with pytest.raises(paramiko.AuthenticationException):
        transport.auth_publickey("dora", key.paramiko())
    shown = []

    def type_token(title, instructions, prompts):
        shown.extend([title, instructions, *(text for text, _ in prompts)])
        return [hub.token("dora") for _ in prompts]

    transport.auth_interactive("dora", type_token)
    assert transport.is_authenticated() and expect.PROMPT.format(url=hub.url) in "\n".join(shown)
    assert not minted(hub, "dora")
    transport.close()


# Keys off, or not set up as they have to be.


@pytest.mark.parametrize("case", ["as it comes", "no service token", "no sources"])
def test_keys_are_off(bastion, client, hub, place, key, case):
    """Then nothing is read, asked or logged."""
    config = (
        BY_HOME
        + {"as it comes": "", "no service token": table("keys", sources=["home"]), "no sources": keys_table()}[case]
    )
    doras = Door(client, bastion, "dora", place.home, place.owner)
    doras.authorize(key.public)
    with service_token(bastion, hub.keys_token), bastion.configured(hub.url, config):
        mark = bastion.syslog.mark()
        doras.shut(key)
        assert not [one for one in bastion.syslog.since(mark) if "jupyterhub-openssh" in one.program]
        client.login(bastion, "dora", place.token).close()


@pytest.mark.parametrize("case", ["readable by all", "of a user", "no scope", "no such token"])
def test_a_service_token_that_is_not_good(bastion, client, hub, place, key, case):
    """Nobody comes in by a key, the log says how to put it right, and tokens are as good as ever."""
    token, options, refusal = {
        "readable by all": (hub.keys_token, {"mode": 0o644}, "service-token-modes"),
        "of a user": (hub.keys_token, {"owner": f"1000:{KEYS_USER}"}, "service-token-modes"),
        "no scope": (hub.service_token, {}, "no-scope"),
        "no such token": ("0123456789abcdef", {}, "wrong-service-token"),
    }[case]
    doras = Door(client, bastion, "dora", place.home, place.owner)
    doras.authorize(key.public)
    with service_token(bastion, token, **options), bastion.configured(hub.url, CONFIG):
        doras.shut(key, refusal)
        client.login(bastion, "dora", place.token).close()


@pytest.mark.parametrize(
    ("text", "key_of"),
    [
        (keys_table("home"), r"keys\.sources"),
        (keys_table("url"), r"keys\.(url|sources)"),
        (keys_table("file", "file"), r"keys\.sources"),
        (keys_table("url", url="http://forge/{username}.keys"), r"keys\.url"),
        (keys_table("url", url="https://forge/keys"), r"keys\.url"),
        (keys_table("file", token_lifetime=60), r"keys\.token_lifetime"),
        (table("login", allow_users="dora"), r"login\.allow_users"),
    ],
    ids=["home without homes", "no url", "twice", "http", "no name in the url", "short life", "no list"],
)
def test_a_wrong_configuration_keeps_hub_users_out(bastion, client, hub, text, key_of):
    """And is told to the administrator; nobody is served with half of it."""
    mark = bastion.syslog.mark()
    with bastion.configured(hub.url, text), pytest.raises(Refused):
        client.login(bastion, "alice", hub.token("alice"))
    bastion.syslog.wait(key_of, mark)


# Local accounts.


def test_local_accounts_have_their_own_keys(bastion, client, dora, key):
    """The administrator's keys are not ours to judge, and nothing that a hub user writes opens a local account."""
    admins = paramiko.Ed25519Key.from_private_key_file(str(client.key))
    dora.authorize(key.public)
    run = bastion.box.run
    run("useradd", "--create-home", "--shell", "/bin/sh", "dora")
    try:
        mark = bastion.syslog.mark()
        dora.shut(key)
        transport = client.connect(bastion)
        transport.auth_publickey(bastion.ADMIN, admins)
        channel = transport.open_session()
        channel.exec_command("id -un")
        assert channel.makefile().read() == b"localadmin\n"
        transport.close()
        bastion.box.write("/home/dora/.ssh/authorized_keys", key.public)
        run("chown", "-R", "dora:dora", "/home/dora/.ssh")
        run("chmod", "-R", "go=", "/home/dora/.ssh")
        dora.enter(key).close()
        ours = [one.text for one in bastion.syslog.since(mark) if "jupyterhub-openssh" in one.program]
        assert not ours, ours
    finally:
        run("userdel", "--force", "--remove", "dora")


def test_what_sshd_runs(bastion, hub):
    """For hub users only, and as the user, so that nothing is read with more rights than the user's own."""

    def asked(user):
        return bastion.box.run("/usr/sbin/sshd", "-T", "-C", f"user={user},host=h,addr=192.0.2.1").stdout

    with bastion.configured(hub.url):
        said = asked("alice")
        for line in (
            f"authorizedkeyscommand {AUTHORIZED_KEYS_PROGRAM} %u %t %k %f",
            "authorizedkeyscommanduser %u",
            "authorizedkeysfile none",
            "authorizedprincipalscommand /bin/echo %u",
        ):
            assert line in said.splitlines(), said
        assert "authorizedkeyscommand none" in asked(bastion.ADMIN)


def test_sftp_with_a_key(bastion, client, place, dora, key):
    """OpenSSH's own client; a batch asks for no password."""
    dora.authorize(key.public)
    with place.scratch() as here:
        (here / "up").write_text("data")
        command = openssh(client, "sftp", bastion, "dora", key, "-b", "-", bastion.address)
        done = subprocess.run(command, input=f"put {here}/up\n", capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
    assert place.home.read("up") == b"data"
    assert "up" in sftp(place, "ls").stdout
