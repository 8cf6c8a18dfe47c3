"""Logins with keys: key pairs and certificates, what a bastion needs for them, and the tokens that come of them."""

import base64
import contextlib
import hashlib
import json
import os
import re
import select
import struct
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

import paramiko

from lib import paths
from lib.actors.client import Refused
from lib.actors.faultyhub import FaultyHub, answer
from lib.actors.tls import TlsFront
from lib.sandbox.namespace import die_with_parent, run
from lib.wait import wait_for

#: Where things are on a bastion.
KEYS_USER = "_jupyterhub-openssh-keys"
HUB_KEYS_PROGRAM = "/usr/lib/jupyterhub-openssh/hub-keys"
AUTHORIZED_KEYS_PROGRAM = "/usr/lib/jupyterhub-openssh/authorized-keys"
CACHE = "/var/cache/jupyterhub-openssh/keys"
SERVICE_TOKEN = "/etc/jupyterhub-openssh/service-token"
DIRECTORY = "/etc/jupyterhub-openssh/keys"
#: Read before the package's own file, so that what it says counts.
DROP_IN = "/etc/ssh/sshd_config.d/01-keys.conf"

#: Longest time that a login with a key may take, and longer than the PAM module waits for a refusal, in seconds.
LOGIN, REFUSAL = 10.0, 13.0

#: What refused users are told and what is logged, as in lib.checks.expect.
REFUSALS = {
    "not-allowed": (
        r"you may not log in to this host\.\nAsk the administrator",
        r"outcome=refused by=\w+ reason=.*login\.(allow|deny)_users",
    ),
    "unknown-user": (
        r"does not know this user \(any more\).*\nCheck the user name",
        r'outcome=refused by=key reason="the hub does not know this user',
    ),
    "hub-down": (r"cannot be reached.*\nTry again", r"no connection"),
    "hub-hanging": (r"did not answer in time.*\nTry again", r"no complete answer within|no token in time"),
    "no-scope": (r"\nLog in with a token", r"service token .*lacks the scope .{0,2}tokens"),
    "wrong-service-token": (r"\nLog in with a token", r"service token is not valid"),
    "service-token-modes": (
        r"\nLog in with a token",
        rf"chown root:{KEYS_USER} {SERVICE_TOKEN} && chmod 640 {SERVICE_TOKEN}",
    ),
    # Nobody knows the key: sshd goes on to the next method.
    "no-key": (r"", r""),
}


class Key:
    """A key pair in files of a directory, made unless it is there; `public` is its line without options and comment."""

    CLASSES = {"ed25519": paramiko.Ed25519Key, "ecdsa": paramiko.ECDSAKey, "rsa": paramiko.RSAKey}

    def __init__(self, directory, name="key", kind="ed25519"):
        self.path, self._class = Path(directory) / f"{name}-{kind}", self.CLASSES[kind]
        if not self.path.exists():
            run(["ssh-keygen", "-q", "-t", kind, "-N", "", "-C", "a comment", "-f", str(self.path)])
        self.public = " ".join(self.path.with_name(f"{self.path.name}.pub").read_text().split()[:2])

    def fingerprint(self):
        """As sshd and ssh-keygen -l write it."""
        return fingerprint(self.public)

    def certificate(self, authority, principal, validity="-5m:+1h"):
        """A certificate for this key by another one, for a user's name; a file."""
        copy = self.path.with_name(f"{self.path.name}-{authority.path.name}-{principal}{validity.replace(':', '')}.pub")
        copy.write_text(f"{self.public}\n")
        run(["ssh-keygen", "-q", "-s", str(authority.path), "-I", "tests", "-n", principal, "-V", validity, str(copy)])
        return copy.with_name(copy.name.removesuffix(".pub") + "-cert.pub")

    def paramiko(self, certificate=None):
        """For paramiko; with a certificate if its file is named."""
        loaded = self._class.from_private_key_file(str(self.path))
        if certificate:
            loaded.load_certificate(str(certificate))
        return loaded


def fingerprint(public):
    """The fingerprint of a line without options."""
    digest = hashlib.sha256(base64.b64decode(public.split()[1])).digest()
    return "SHA256:" + base64.b64encode(digest).decode().rstrip("=")


def strangers_key(number=0):
    """The line of a key that nobody can log in with; another one for each number."""
    kind, point = b"ssh-ed25519", hashlib.sha256(b"stranger %d" % number).digest()
    blob = struct.pack(">I", len(kind)) + kind + struct.pack(">I", len(point)) + point
    return f"ssh-ed25519 {base64.b64encode(blob).decode()}"


# The bastion's configuration.


def table(name, **values):
    """A table of config.toml. What these values are made of is written alike in JSON and TOML."""
    return f"[{name}]\n" + "".join(f"{key} = {json.dumps(value)}\n" for key, value in values.items())


def keys_table(*sources, **more):
    """[keys] with sources, switched on."""
    return table("keys", service_token_file=SERVICE_TOKEN, sources=sources, **more)


@contextlib.contextmanager
def service_token(bastion, token, mode=0o640, owner=f"root:{KEYS_USER}"):
    """The token of the hub's service in its file, for a while; by default as it has to be."""
    # Nobody may read it before it has its owner.
    bastion.box.write(SERVICE_TOKEN, "", 0o600)
    bastion.box.write(SERVICE_TOKEN, f"{token}\n", 0o600)
    bastion.box.run("chown", owner, SERVICE_TOKEN)
    bastion.box.path(SERVICE_TOKEN).chmod(mode)
    try:
        yield
    finally:
        bastion.box.path(SERVICE_TOKEN).unlink()


@contextlib.contextmanager
def sshd_says(bastion, *lines):
    """More lines of sshd's configuration for hub users, for a while."""
    bastion.box.write(DROP_IN, "Match Group jupyterhub\n" + "".join(f"\t{line}\n" for line in lines))
    bastion.reload_sshd()
    try:
        yield
    finally:
        bastion.box.path(DROP_IN).unlink()
        bastion.reload_sshd()


@contextlib.contextmanager
def trusted(bastion, authority):
    """The bastion's system trusts an authority for a while."""
    path = bastion.box.path("/usr/local/share/ca-certificates/keys.crt")
    path.write_text(authority.certificate.read_text())
    bastion.box.run("update-ca-certificates")
    try:
        yield
    finally:
        path.unlink()
        bastion.box.run("update-ca-certificates")


# Sources of keys.


def administrators_file(bastion, user, *lines):
    """Write the user's file of the source "file"."""
    bastion.box.path(DIRECTORY).mkdir(mode=0o755, exist_ok=True)
    bastion.box.write(f"{DIRECTORY}/{user}", "".join(f"{line}\n" for line in lines))


class Forge:
    """A git forge that tells users' keys over HTTPS; `requests` are those that arrived.

    It has an address of the network for itself. Users have no keys until `publish`.
    """

    def __init__(self, network, namespace, authority):
        self._behind = FaultyHub(network, namespace)
        self._front = TlsFront(
            namespace, network.ELSEWHERE, (self._behind.host, self._behind.port), authority.sign(network.ELSEWHERE)
        )
        #: For keys.url.
        self.template = f"{self._front.url}/{{username}}.keys"

    @property
    def requests(self):
        """Those that arrived since `forget`."""
        return self._behind.requests

    def asked(self, user):
        """How often it was asked for the user's keys."""
        return sum(one.path == f"/{user}.keys" for one in self.requests)

    def publish(self, user, *lines):
        """The user has these keys from now on."""
        self.answers(user, answer(200, "".join(f"{line}\n" for line in lines), Content_Type="text/plain"))

    def answers(self, user, action):
        """What happens to whoever asks for the user's keys: see FaultyHub.on."""
        path = rf"^/{re.escape(user)}\.keys$"
        self._behind.rules[:] = [rule for rule in self._behind.rules if rule.path != path]
        self._behind.on("GET", path, action)

    def forget(self):
        """Nobody has keys, and nobody asked."""
        self._behind.rules.clear()
        self._behind.requests.clear()

    def close(self):
        """Stop listening."""
        self._front.close()
        self._behind.close()


def forget_answers(bastion):
    """The bastion has never asked for keys."""
    bastion.box.run("find", CACHE, "-type", "f", "-delete")


def age_answers(bastion, seconds):
    """What the bastion was told of keys is older by this than it is, failures too."""
    files = [file for file in bastion.box.path(CACHE).iterdir() if file.is_file()]
    assert files, f"nothing is in {CACHE}"
    now = time.time()

    def older(match):
        at = int(match[1])
        return b"%d%s" % (at - seconds, match[2]) if abs(at - now) < 10_000_000 else match[0]

    for file in files:
        modified = file.stat().st_mtime - seconds
        # Seconds since 1970, or a smaller unit.
        file.write_bytes(re.sub(rb"\b(\d{10})(\d*)\b", older, file.read_bytes()))
        os.utime(file, (modified, modified))


# Logins.


def key_login(client, bastion, user, key, certificate=None, source=None):
    """A transport logged in with nothing but a key; raises Refused with what the user was shown."""
    transport = client.connect(bastion, source)
    try:
        missing = transport.auth_publickey(user, key.paramiko(certificate))
    except paramiko.SSHException as error:
        # What sshd says when PAM refuses comes as a banner, and then the connection has gone.
        banner = (transport.auth_handler and transport.auth_handler.banner) or b""
        transport.close()
        raise Refused([banner.decode(errors="replace"), str(error)]) from error
    if missing:
        transport.close()
        raise Refused([f"sshd asks for {', '.join(missing)} as well"])
    return transport


def openssh(client, program, bastion, user, key, *arguments, options=()):
    """The command line of `ssh`, `sftp` or `ssh-copy-id` with a key; the arguments name the host."""
    words = client.openssh(program, bastion, user, *arguments)
    at = words.index(program) + 1
    # The first value of an option counts.
    return [*words[:at], "-i", str(key.path), *options, "-o", "PubkeyAuthentication=yes", *words[at:]]


@dataclass
class Door:
    """Logins of one user with keys.

    `home` is the user's home (lib.checks.files.Home) that belongs to `owner`, (uid, gid); only `authorize` needs it.
    """

    client: object
    bastion: object
    user: str
    home: object = None
    owner: tuple = None

    def authorize(self, *lines):
        """Write the keys into the home, as ssh-copy-id leaves them; bytes are written as they are."""
        text = lines[0] if len(lines) == 1 and isinstance(lines[0], bytes) else "".join(f"{line}\n" for line in lines)
        self.home.mkdir(".ssh", mode=0o700, owner=self.owner)
        self.home.write(".ssh/authorized_keys", text, mode=0o600, owner=self.owner)

    def enter(self, key, user=None, **options):
        """A transport, in time; raises Refused."""
        start = time.monotonic()
        transport = key_login(self.client, self.bastion, user or self.user, key, **options)
        took = time.monotonic() - start
        assert took < LOGIN, f"the login took {took:.1f} s"
        return transport

    def opens(self, key, known_by=None, **options):
        """Fails unless the key logs in; `known_by` is the source that the log must name."""
        mark = self.bastion.syslog.mark()
        self.enter(key, **options).close()
        if known_by:
            self.bastion.syslog.wait(
                rf"key {re.escape(key.fingerprint())} of {re.escape(self.user)}: known by {known_by}\b", mark
            )

    def shut(self, key, case="no-key", log=None, **options):
        """Fails unless the key is refused in time, with the message and the log line of the case, and with `log`."""
        message, reason = REFUSALS[case]
        mark, start = self.bastion.syslog.mark(), time.monotonic()
        try:
            key_login(self.client, self.bastion, options.pop("user", self.user), key, **options).close()
        except Refused as refused:
            took, shown = time.monotonic() - start, str(refused)
        else:
            raise AssertionError(f"the key {key.public} let {self.user} in")
        assert took < REFUSAL, f"the refusal took {took:.1f} s"
        assert re.search(message, shown, re.I | re.S), f"the user was shown: {shown}"
        for pattern in filter(None, (reason, log)):
            entry = self.bastion.syslog.wait(pattern, mark)
            assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f]", entry.text), "control characters in the log"
        return shown

    def told(self, mark):
        """What has been logged since a mark when sshd asked whether keys are known."""
        return [one.text for one in self.bastion.syslog.since(mark) if "program=authorized-keys " in one.text]


@contextlib.contextmanager
def door(client, bastion, hub, place, config, url=None):
    """A Door of a place's owner, with a configuration; at the end no token that was made for its logins is left.

    `url` is an address of the hub other than its own.
    """
    forget_minted(hub, place.user)
    with service_token(bastion, hub.keys_token), bastion.configured(url or hub.url, config):
        yield Door(client, bastion, place.user, place.home, place.owner)
        client.close_all()
        none_minted(hub, place.user)


class Session:
    """OpenSSH's client with an sftp subsystem that has answered; it needs no server of the user."""

    def __init__(self, client, bastion, user, key):
        self._client = subprocess.Popen(
            openssh(client, "ssh", bastion, user, key, "-s", bastion.address, "sftp", options=["-o", "BatchMode=yes"]),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            bufsize=0,
            preexec_fn=die_with_parent,
        )

    def wait_up(self, timeout=60):
        """Returns when the subsystem answers."""
        # SSH_FXP_INIT, version 3; the answer is SSH_FXP_VERSION (draft-ietf-secsh-filexfer-02).
        self._client.stdin.write(b"\0\0\0\5\1\0\0\0\3")
        assert select.select([self._client.stdout], [], [], timeout)[0], f"no sftp within {timeout} s"
        said = self._client.stdout.read(5)
        assert said[4:] == b"\2", f"the subsystem said {said!r}, status {self._client.poll()}"

    def leave(self):
        """End in good order; the client's exit status."""
        self._client.stdin.close()
        return self.wait_over()

    def kill(self):
        """kill -9 of the client."""
        self._client.kill()

    def wait_over(self, timeout=30):
        """Wait until the client has ended; its exit status."""
        status = self._client.wait(timeout)
        self._client.stdout.close()
        return status


# Tokens that are made for such logins.


def minted(hub, user):
    """Those that exist at the hub for a user."""
    return [one for one in hub.tokens_of(user) if one["note"].startswith("jupyterhub-openssh: ")]


def forget_minted(hub, user):
    """Revoke what gateways that an earlier test has killed have left: it is good for a quarter of an hour."""
    for one in minted(hub, user):
        hub.revoke(user, one["id"])


def none_minted(hub, user, timeout=20.0):
    """Wait until all of them are revoked."""
    left = []

    def none():
        left[:] = minted(hub, user)
        return not left

    wait_for(none, lambda: f"the tokens of {user} are revoked: {left}", timeout, 0.1)


def uid_of(bastion, name):
    """The uid of a user of the bastion's."""
    return int(bastion.box.run("id", "-u", name).stdout)


def keepers(bastion):
    """The processes that hold the hub service's token while they make and revoke a session's."""
    uid = uid_of(bastion, KEYS_USER)
    return [one for one in bastion.gateways() if one.uid == uid]


def gateways(bastion):
    """The gateways without their keepers."""
    uid = uid_of(bastion, paths.GATEWAY_USER)
    return [one for one in bastion.gateways() if one.uid == uid]
