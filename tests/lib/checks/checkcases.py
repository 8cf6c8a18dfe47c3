"""Bastions with something broken, for `jupyterhub-openssh check`: each is named, and its remedy mends it."""

import contextlib
import datetime
import ipaddress
import json
import re
import time
from dataclasses import dataclass, field

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from lib import paths
from lib.actors.faultyhub import answer, hang
from lib.actors.keys import KEYS_USER, SERVICE_TOKEN, keys_table, service_token
from lib.actors.tls import Authority, TlsFront
from lib.sandbox.listener import Listener, carry, connect
from lib.sandbox.storage import BY_HOME

DROP_IN = "/etc/ssh/sshd_config.d/50-jupyterhub.conf"
#: Read before the package's own.
EARLIER = "/etc/ssh/sshd_config.d/01-check.conf"
#: The whole check takes less, whatever hangs, in seconds.
LONGEST = 20


@dataclass
class Report:
    """What check has found."""

    status: int
    text: str
    findings: list = field(default_factory=list)

    def find(self, topic, what, severity="error"):
        """The finding whose text matches; fails unless there is one."""
        found = [one for one in self.findings if one["topic"] == topic and re.search(what, one["what"])]
        assert found, f"nothing like {what!r} about {topic}:\n{self.shown()}"
        assert found[0]["severity"] == severity, found[0]
        return found[0]

    def fine(self):
        """Fails unless all is in order."""
        assert self.status == 0 and not self.bad(), self.shown()
        return self

    def bad(self):
        """What is not in order."""
        return [one for one in self.findings if one["severity"] not in ("ok", "info")]

    def shown(self):
        """What is not in order, and what else there is, for a failure's report."""
        return f"status {self.status}\n" + "\n".join(
            f"{one['severity']} {one['topic']}: {one['what']} > {one['remedy']}" for one in self.bad() or self.findings
        )


def look(bastion, *arguments, token="", **options):
    """Run check as root; `token` is what --user asks for."""
    done = bastion.box.run(
        paths.PROGRAM, "check", "--json", *arguments, check=False, input=f"{token}\n", timeout=LONGEST, **options
    )
    assert done.stderr == "", done.stderr
    report = json.loads(done.stdout)
    assert report["schema"] == 1 and report["exit_status"] == done.returncode
    return Report(done.returncode, done.stdout, report["findings"])


@dataclass
class World:
    """What cases are made of."""

    bastion: object
    hub: object
    network: object
    faulty: object
    directory: object

    def sshd_says(self, text, path=EARLIER):
        """Another file of sshd's configuration, and the one that was there."""
        return self.file(path, text)

    @contextlib.contextmanager
    def file(self, path, text):
        """Another text in a file, for a while; None: no file."""
        there = self.bastion.box.path(path)
        before = there.read_bytes() if there.exists() else None
        mode = there.stat().st_mode & 0o7777 if there.exists() else 0o644
        if text is None:
            there.unlink()
        else:
            self.bastion.box.write(path, text, mode)
        try:
            yield
        finally:
            there.unlink(missing_ok=True) if before is None else self.bastion.box.write(path, before, mode)

    def change(self, path, old, new):
        """A file with a piece of it exchanged, for a while."""
        text = self.bastion.box.read(path)
        changed = re.sub(old, new, text, flags=re.M)
        assert changed != text, f"nothing like {old!r} in {path}"
        return self.file(path, changed)

    def sh(self, command):
        """A remedy, as the administrator types it."""
        return self.bastion.box.run("sh", "-c", command)

    def keys(self, token, *sources, **more):
        """Keys switched on, with a service's token."""
        stack = contextlib.ExitStack()
        stack.enter_context(service_token(self.bastion, token))
        stack.enter_context(self.bastion.configured(self.hub.url, keys_table(*(sources or ["hub"]), **more)))
        return stack


@dataclass
class Case:
    """A generator breaks something, is given the finding, and mends it."""

    breaks: object
    topic: str
    what: str
    remedy: str
    severity: str
    #: Whether the bastion's Debian makes a difference.
    suites: tuple


CASES = {}


def case(topic, what, remedy, severity="error", suites=("trixie",)):
    """Registers a generator of a world."""

    def register(breaks):
        CASES[breaks.__name__] = Case(breaks, topic, what, remedy, severity, suites)
        return breaks

    return register


BOTH = ("bookworm", "trixie")

# The configuration.


@case("configuration", r"hub\.url is not set", r"address that users open in their browser")
def no_address(world):
    with world.file(paths.CONFIG_FILE, "[hub]\n"):
        yield


@case("configuration", r"line 1, key `hubs`: unknown table", r"Did you mean hub\?")
def misspelt(world):
    with world.file(paths.CONFIG_FILE, "[hubs]\n"):
        yield


@case(
    "configuration",
    r"line 4: this is not valid TOML: duplicate key",
    r"in the file already: put the lines under the first",
)
def table_twice(world):
    with world.file(paths.CONFIG_FILE, '[hub]\nurl = "http://10.77.0.3:8000"\n[homes]\n[hub]\n'):
        yield
        # Nobody is a hub user now, which is not sshd's fault.
        found = look(world.bastion)
        found.find("sshd", "until the configuration is fixed", "unknown")
        assert {one["topic"] for one in found.findings if one["severity"] == "error"} == {"configuration"}, (
            found.shown()
        )


@case("configuration", r"can write", r"chmod")
def configuration_of_others(world):
    world.bastion.box.path(paths.CONFIG_FILE).chmod(0o666)
    yield
    world.bastion.box.path(paths.CONFIG_FILE).chmod(0o644)


# The way to the hub.


@case("hub", r"its name hub\.invalid does not resolve", r"getent ahosts hub\.invalid")
def no_name(world):
    with world.bastion.configured("http://hub.invalid:8000"):
        yield


@case("hub", r"no connection to 10\.77\.0\.3 port 1: Connection refused", r"curl -v http://10\.77\.0\.3:1/hub/api/")
def nobody_listens(world):
    with world.bastion.configured(f"http://{world.network.HUB}:1"):
        yield


@case("hub", r"did not answer within 4 s", r"See whether the hub hangs")
def hub_hangs(world):
    world.faulty.on("GET", ".*", hang)
    with world.bastion.configured(world.faulty.url):
        yield


@case("hub", r"is not a JupyterHub", r"address that users open in their browser")
def another_page(world):
    world.faulty.on("GET", ".*", answer(200, "<html>welcome</html>"))
    with world.bastion.configured(world.faulty.url):
        yield


@case("hub", r"is redirected to /hub/jupyter/hub/api/, which is not followed", r'url = "http://10\.77\.0\.3:8000"')
def wrong_base_path(world):
    with world.bastion.configured(f"{world.hub.url}/jupyter"):
        yield


# Another host is not proposed: whoever answers in the hub's place may have sent it.
@case(
    "hub",
    r"is redirected to http://10\.77\.0\.3:8000/hub/api/",
    r"^Set hub\.url in config\.toml to the address that users open in",
)
def redirected(world):
    world.faulty.on("GET", ".*", answer(301, Location=f"{world.hub.url}/hub/api/"))
    with world.bastion.configured(world.faulty.url):
        yield


@case("hub", r"is JupyterHub 1\.5\.0, whose tokens have no scopes", r"Upgrade the hub to 2\.0")
def old_hub(world):
    world.faulty.on("GET", ".*", answer(200, '{"version": "1.5.0"}'))
    with world.bastion.configured(world.faulty.url):
        yield


@case("hub", r"the proxy at .* answers, the hub behind it does not seem to \(status 503\)", r"See whether the hub runs")
def hub_behind_the_proxy_is_down(world):
    world.faulty.on("GET", ".*", answer(503, "down"))
    with world.bastion.configured(world.faulty.url):
        yield


@case("hub", r"this host's clock is \d+ s behind the hub's", r"timedatectl set-ntp true", "warning")
def clock_is_wrong(world):
    ahead = time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(time.time() + 600))
    world.faulty.on("GET", ".*", answer(200, '{"version": "5.0.0"}', Date=ahead))
    with world.bastion.configured(world.faulty.url):
        yield


def _certificate(directory, authority, address, days):
    """Certificate and key for an address, valid until in so many days."""
    key = ec.generate_private_key(ec.SECP256R1())
    signer = serialization.load_pem_private_key((directory / f"{authority}.key").read_bytes(), None)
    issuer = x509.load_pem_x509_certificate((directory / f"{authority}.crt").read_bytes())
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([]))
        .issuer_name(issuer.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=30))
        .not_valid_after(now + datetime.timedelta(days=days))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(address))]), critical=True)
        .sign(signer, hashes.SHA256())
    )
    path = directory / f"{address}-{days}.pem"
    path.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        + made.public_bytes(serialization.Encoding.PEM)
    )
    return path


@contextlib.contextmanager
def _tls(world, address=None, days=1, trusted=True):
    """The hub behind TLS, with a certificate that may be wrong; trusted by hub.ca_file or not at all."""
    authority = Authority(world.directory)
    pem = _certificate(world.directory, "tests", address or world.network.ELSEWHERE, days)
    front = TlsFront(world.hub.box.network, world.network.ELSEWHERE, (world.network.HUB, 8000), pem)
    world.bastion.box.write("/etc/hub-ca.pem", authority.certificate.read_text())
    try:
        with world.bastion.configured(front.url, 'ca_file = "/etc/hub-ca.pem"\n' if trusted else ""):
            yield
    finally:
        front.close()


@case("hub", r"its certificate has expired", r"Renew it where TLS ends", suites=BOTH)
def certificate_expired(world):
    with _tls(world, days=-1):
        yield


@case("hub", r"its certificate is for another name than 10\.77\.0\.4", r"subjectAltName", suites=BOTH)
def certificate_of_another(world):
    with _tls(world, address="10.77.0.99"):
        yield


@case("hub", r"signed by an authority that this host does not trust", r"hub\.ca_file", suites=BOTH)
def certificate_of_unknown_authority(world):
    with _tls(world, trusted=False):
        yield


@case("hub", r"10\.77\.0\.3 port 8000 speaks http, and hub\.url says https", r"https://10\.77\.0\.3:8000 is not it$")
def https_for_http(world):
    with world.bastion.configured(world.hub.url.replace("http:", "https:")):
        yield


@case("hub", r"speaks https, and hub\.url says http$", r'^Set in config\.toml: url = "https://10\.77\.0\.4:\d+"$')
def http_for_https(world):
    with _tls(world), world.change(paths.CONFIG_FILE, "https://", "http://"):
        yield


@case("hub", r"127\.0\.0\.1 port 22 is an SSH server \(SSH-2\.0-OpenSSH", r"address that users open in their browser")
def ssh_for_http(world):
    with world.bastion.configured("http://127.0.0.1:22"):
        yield
        with world.bastion.configured("https://127.0.0.1:22"):
            look(world.bastion).find("hub", r"port 22 is an SSH server")


class InFrontOfTheHub(Listener):
    """The port that the hub itself has for its proxy and users' servers, on an address that others reach."""

    def __init__(self, world):
        self._namespace = world.hub.box.network
        super().__init__(self._namespace, (world.network.ELSEWHERE, 0))
        self.url = f"http://{self.host}:{self.port}"

    def serve(self, connection):
        with connect(self._namespace, ("127.0.0.1", 8081)) as upstream:
            carry(connection, upstream)


@case("hub", r"is the hub itself, not its proxy: users' servers cannot be reached", r"port 8000 .* proxy-public")
def port_of_the_hub_itself(world):
    front = InFrontOfTheHub(world)
    try:
        with world.bastion.configured(front.url):
            yield
            # While a server runs a token says so, too.
            world.hub.start_server("alice")
            found = look(world.bastion, "--user", "alice", token=world.hub.token("alice"))
            found.find("user", r"does not reach it, but is redirected to \S*/hub/user/alice/api/terminals")
    finally:
        front.close()


class StrippingProxy(Listener):
    """A reverse proxy as nginx is by default: it does not pass on the wish for a WebSocket."""

    def __init__(self, network, namespace):
        self._upstream, self._namespace = (network.HUB, 8000), namespace
        super().__init__(namespace, (network.ELSEWHERE, 0))
        self.url = f"http://{self.host}:{self.port}"

    def serve(self, connection):
        head = b""
        while b"\r\n\r\n" not in head:
            piece = connection.recv(65536)
            if not piece:
                return
            head += piece
        lines = [line for line in head.split(b"\r\n") if not re.match(rb"(?i)(connection|upgrade):", line)]
        lines.insert(1, b"Connection: close")
        with connect(self._namespace, self._upstream) as upstream:
            upstream.sendall(b"\r\n".join(lines))
            carry(connection, upstream)


@contextlib.contextmanager
def stripped(world):
    """The hub behind such a proxy."""
    proxy = StrippingProxy(world.network, world.hub.box.network)
    try:
        with world.bastion.configured(proxy.url):
            yield proxy
    finally:
        proxy.close()


@case("hub", r"WebSockets do not seem to pass", r"proxy_set_header Upgrade .*check --user NAME", "warning")
def proxy_strips_upgrade(world):
    with stripped(world):
        yield


# The service.


@case(
    "service", r"the hub does not know the token in /etc/jupyterhub-openssh/service-token", r"the service's api_token"
)
def service_token_is_wrong(world):
    with world.keys("0" * 32):
        yield


@case("service", r"plain lacks tokens, admin:auth_state", r'"tokens", "admin:auth_state"')
def service_may_not(world):
    with world.keys(world.hub.service_token):
        yield


@case("service", r"tests may do more than it has to: .*admin:", r'Leave only these .*"tokens"', "warning")
def service_may_too_much(world):
    with world.keys(world.hub.tests_token):
        yield


@case(
    "keys",
    r"is readable or writable for others than it should be \(mode 644\)",
    rf"chown root:{KEYS_USER} {SERVICE_TOKEN}",
)
def service_token_is_readable(world):
    with world.keys(world.hub.keys_token):
        world.bastion.box.path(SERVICE_TOKEN).chmod(0o644)
        finding = yield
        world.sh(finding["remedy"].rstrip("."))
        look(world.bastion).fine()


# NSS and PAM.


@case("nss", r"has no jupyterhub in its line passwd", r'"passwd: files jupyterhub"', suites=BOTH)
def nsswitch_without(world):
    with world.change("/etc/nsswitch.conf", r"^(passwd:.*) jupyterhub", r"\1"):
        yield


@case("nss", r"jupyterhub is not the last in the line group", r'"group: files systemd jupyterhub"')
def nsswitch_not_last(world):
    with world.change("/etc/nsswitch.conf", r"^(group:.*)", r"\1 systemd"):
        yield


@case("nss", r"nscd caches passwd", r"Set enable-cache passwd no in /etc/nscd\.conf", "warning")
def nscd(world):
    world.bastion.box.path("/run/nscd").mkdir()
    world.bastion.box.write("/run/nscd/socket", "")
    try:
        with world.file("/etc/nscd.conf", "enable-cache passwd yes\nenable-cache group no\n"):
            yield
    finally:
        world.sh("rm -r /run/nscd")


def _pam_mended(world, finding):
    # What stands in brackets is for files that were changed by hand, as here.
    command = finding["remedy"].split(" (")[0]
    world.bastion.box.run("sh", "-c", f"{command} --force", env={"DEBIAN_FRONTEND": "noninteractive"})


@case("pam", r"no token is ever asked for: the auth lines", r"pam-auth-update --enable jupyterhub-openssh", suites=BOTH)
def pam_without(world):
    world.sh("sed -i /pam_jupyterhub/d /etc/pam.d/common-auth")
    _pam_mended(world, (yield))


@case("pam", r"in /etc/pam\.d/sshd pam_unix\.so stands before", r"pam-auth-update", suites=BOTH)
def pam_order(world):
    with world.change("/etc/pam.d/sshd", r"\A", "auth sufficient pam_unix.so\n"):
        yield


@case("pam", r"no session of a hub user gets its jail", r"pam-auth-update")
def pam_not_included(world):
    with world.change("/etc/pam.d/sshd", r"^@include common-session$", ""):
        yield


# sshd.


@case("sshd", r"UsePAM is no", r"systemctl reload ssh", suites=BOTH)
def without_pam(world):
    with world.sshd_says("UsePAM no\n"):
        yield


@case(
    "sshd",
    r"no hub user is let in: .*ForceCommand is /bin/sh, not .*only that is known to confine them",
    r"grep -riE 'ForceCommand'",
    suites=BOTH,
)
def another_command(world):
    with world.sshd_says("Match User *\n\tForceCommand /bin/sh\n"):
        yield


@case("sshd", r"PermitUserEnvironment is yes: .*\.ssh/environment", r"PermitUserEnvironment to no", "warning")
def environment_of_users(world):
    with world.sshd_says("PermitUserEnvironment yes\nDenyUsers carol@example.org\n"):
        yield
        look(world.bastion).find(
            "sshd", r"DenyUsers has carol@example\.org, which to sshd is carol coming from", "warning"
        )
        with world.sshd_says("DenyUsers carol?example.org\n"):
            look(world.bastion, "--user", "carol@example.org").find(
                "sshd", r"carol@example\.org cannot log in: DenyUsers has"
            )


@case("sshd", r'hub users may log in by "hostbased"', r"AuthenticationMethods", suites=BOTH)
def another_method(world):
    with world.sshd_says("Match Group jupyterhub\n\tAuthenticationMethods publickey,hostbased\n"):
        yield


@case("sshd", r"AllowGroups leaves out jupyterhub", r"Add jupyterhub to AllowGroups", suites=BOTH)
def groups_without_ours(world):
    with world.sshd_says("AllowGroups sudo\n"):
        yield


@case("sshd", r"would not confine hub users: .*50-jupyterhub\.conf is missing", r"force-confmiss jupyterhub-openssh")
def drop_in_is_gone(world):
    with world.file(DROP_IN, None):
        yield


@case("sshd", r"hub users are kept out: sshd refused", r"dpkg --configure jupyterhub-openssh")
def drop_in_is_aside(world):
    text = world.bastion.box.read(DROP_IN)
    with world.file(DROP_IN, None), world.file(f"{DROP_IN}.refused", text):
        yield


@case("sshd", r"doesn't include /etc/ssh/sshd_config\.d", r"at the top of /etc/ssh/sshd_config")
def nothing_is_included(world):
    with world.change("/etc/ssh/sshd_config", r"^Include .*$", ""):
        yield


@case("sshd", r"sshd refuses its configuration: .*Subsystem", r"Keep one line Subsystem sftp", suites=("bookworm",))
def subsystem_twice(world):
    with world.sshd_says("Subsystem sftp internal-sftp\n"):
        yield


@case(
    "sshd",
    r"sshd refuses its configuration, and will not start again: .*line 1: Bad configuration option",
    r"sshd -t",
    suites=BOTH,
)
def sshd_refuses(world):
    with world.sshd_says("NoSuchOption yes\n"):
        yield


@case("sshd", r"AuthorizedPrincipalsCommand is not in force", r"before AuthorizedKeysCommand", suites=BOTH)
def certificates_without_principals(world):
    # sshd 9.2 passes over the command of principals behind that of keys, and over a "none" before another one.
    command = (
        "AuthorizedKeysCommand /usr/lib/jupyterhub-openssh/authorized-keys %u %t %k %f"
        if world.bastion.suite == "bookworm"
        else "AuthorizedPrincipalsCommand none"
    )
    with world.sshd_says(f"Match Group jupyterhub\n\tTrustedUserCAKeys /etc/ssh/ca.pub\n\t{command}\n"):
        yield


@case(
    "sshd",
    r"was changed after sshd had read its configuration",
    r"sshd -t && systemctl reload ssh",
    "warning",
    suites=BOTH,
)
def not_reloaded(world):
    with world.sshd_says("# nothing\n"):
        yield


# What the package installed.


@case(
    "package",
    r"the local account localadmin is in the group jupyterhub",
    r"gpasswd -d localadmin jupyterhub",
    suites=BOTH,
)
def a_local_member(world):
    world.sh(f"gpasswd -a {world.bastion.ADMIN} jupyterhub")
    finding = yield
    # sshd says it as well: this one would have no shell.
    look(world.bastion).find("sshd", "the local account localadmin would be treated as a hub user")
    world.sh(finding["remedy"])


@case("package", rf"hub-keys does not run as {KEYS_USER}", r"dpkg-statoverride", "warning", suites=BOTH)
def set_id_is_lost(world):
    world.sh(
        "dpkg-statoverride --remove /usr/lib/jupyterhub-openssh/hub-keys; "
        "chown root:root /usr/lib/jupyterhub-openssh/hub-keys; chmod 755 /usr/lib/jupyterhub-openssh/hub-keys"
    )
    finding = yield
    with world.keys(world.hub.keys_token):
        look(world.bastion).find("package", "keys of the hub and of url are not found")
    world.sh(finding["remedy"])


@case(
    "package", r"/run/jupyterhub-openssh/jail is not a directory of root's with mode 0755", r"systemd-tmpfiles --create"
)
def directory_is_open(world):
    world.bastion.box.path("/run/jupyterhub-openssh/jail").chmod(0o777)
    world.sh((yield)["remedy"])


@case("package", r"others than root can change /usr/lib/jupyterhub-openssh/jail", r"chmod 755")
def program_is_writable(world):
    world.bastion.box.path(paths.JAIL_PROGRAM).chmod(0o777)
    world.sh((yield)["remedy"])


@case("log", r"nobody listens at /dev/log: everything that is logged is lost", r"apt install rsyslog", "warning")
def nobody_logs(world):
    socket = world.bastion.box.path("/dev/log")
    aside = socket.rename(socket.with_name("log.aside"))
    try:
        yield
    finally:
        aside.rename(socket)


# Homes.


@case("homes", r"No such file or directory", r"Mount the file system of the homes there")
def homes_are_missing(world):
    with world.bastion.configured(world.hub.url, '[homes]\nroot = "/srv/nowhere"\n'):
        yield


def _mount_on_itself(world, path):
    """As mount(8) does it for the options bind,nosuid,nodev."""
    world.bastion.box.mount(path, path, flags=["bind"])
    world.bastion.box.mount(path, path, flags=["remount", "bind", "nosuid", "nodev"])


@case(
    "homes",
    r"can write to 1 homes in /srv/check, or to \.ssh in them, such as dora's",
    r"chmod go-w /srv/check/dora",
    "warning",
)
def keys_do_not_count(world):
    _mount_on_itself(world, "/srv/check")
    world.sh("install -d -m 700 -o 1500 -g 100 /srv/check/dora; install -d -m 770 -o 1500 -g 100 /srv/check/dora/.ssh")
    config = BY_HOME.replace("/srv/homes", "/srv/check") + keys_table("home")
    with service_token(world.bastion, world.hub.keys_token), world.bastion.configured(world.hub.url, config):
        world.sh((yield)["remedy"])
        assert not [one for one in look(world.bastion).bad() if one["topic"] == "homes"]
    world.bastion.box.umount("/srv/check")
    world.sh("rm -r /srv/check")


@case("homes", r"/srv/check is on /, which is mounted without nosuid,nodev", r"bind,nosuid,nodev", suites=BOTH)
def homes_may_hold_setuid_programs(world):
    """So may writable shares; both are mended by what the line of the remedy says."""
    world.sh("install -d -m 755 /srv/check /srv/share")
    share = '[[shares]]\nsource = "/srv/share"\npath = "/shared"\nwritable = true\n'
    try:
        with world.file("/etc/fstab", ""):
            with world.bastion.configured(world.hub.url, BY_HOME.replace("/srv/homes", "/srv/check") + share):
                found = [
                    (yield),
                    look(world.bastion).find("shares", r"/srv/share is on /, which .* the share /srv/share count"),
                ]
                for path, finding in zip(("/srv/check", "/srv/share"), found):
                    line = f"{path} {path} none bind,nosuid,nodev 0 0"
                    assert finding["remedy"] == f'Put into /etc/fstab: "{line}"; then: mount {path}'
                    # The sandbox has no mount(8).
                    world.sh(f"echo '{line}' >>/etc/fstab")
                    _mount_on_itself(world, path)
                look(world.bastion).fine()
                for path in ("/srv/check", "/srv/share"):
                    world.bastion.box.umount(path)
    finally:
        world.sh("rmdir /srv/check /srv/share")


@case(
    "accounts",
    r"the local account localadmin has uid 1000, as sessions may",
    r"usermod -u NEWUID localadmin",
    "warning",
)
def fixed_uid_of_an_account(world):
    with world.bastion.configured(world.hub.url, '[accounts]\nuid = "fixed"\nfixed = [1000, 100]\n'):
        yield
