"""The container image, run with the capabilities that its README names and no other, under podman's seccomp profile."""

import json
import re
import subprocess

import paramiko
import pytest

from lib.actors.client import Refused
from lib.actors.keys import forget_minted, minted, none_minted
from lib.checks.files import local_home
from lib.checks.place import Place, sftp
from lib.sandbox.container import CAPABILITIES, Container, ContainerHost
from lib.wait import wait_for

pytestmark = pytest.mark.only("trixie")

#: The homes' mount and the host keys' volume.
HOMES, KEYS = "--volume=/srv/homes:/srv/homes", "--volume=/root/keys:/etc/ssh/keys"
CONFIG = '[homes]\nroot = "/srv/homes"\n'


@pytest.fixture(scope="module")
def container_host(network, package, scratch, suite):
    if suite != "trixie":
        pytest.skip("the image is of Debian 13")
    made = ContainerHost(network, package, scratch)
    for directory in ("/srv/homes", "/root/keys"):
        made.box.path(directory).mkdir(exist_ok=True)
    yield made
    made.close()


@pytest.fixture
def container(container_host, hub, client):
    """A running bastion with homes, removed after the test."""
    (client.directory / "known_hosts").unlink(missing_ok=True)
    container_host.configure(hub.url, CONFIG)
    made = container_host.start("bastion", HOMES, KEYS)
    yield made
    client.close_all()
    made.remove()


@pytest.fixture
def dora(container_host, container, hub, client, scratch):
    """Dora's home in it."""
    hub.add_user("dora")
    home = local_home(container_host.box.path("/srv/homes/dora"))
    home.run("rm", "-rf", "--", home.path)
    home.mkdir(mode=0o700, owner=(1000, 100))
    return Place(client, container, "dora", hub.token("dora"), home, (1000, 100), "/home/dora", scratch)


def command(client, container, server, *words, options=()):
    """A command through OpenSSH's client; CompletedProcess."""
    return subprocess.run(
        client.ssh(container, server.user, *words, options=options),
        env=client.askpass(server.token),
        timeout=60,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        start_new_session=True,
    )


def test_terminals_commands_and_files(container, client, alice, dora):
    with client.terminal(container, "alice", alice.token) as terminal:
        terminal.prompt()
        assert terminal.run("echo $((6 * 7))") == "42\n"
    done = command(client, container, alice, "echo out; echo err >&2; exit 3")
    assert (done.returncode, done.stdout, done.stderr) == (3, "out\n", "err\n")
    (dora.directory / "made").write_text("text")
    sftp(dora, f"put {dora.directory}/made", "rename made kept")
    assert dora.home.names() == ["kept"]
    with pytest.raises(Refused):
        client.login(container, "alice", "wrong" * 6)


def test_it_is_confined(container):
    """Not privileged: the bounding set holds what is documented, and system calls are filtered."""
    status = container.run("cat", "/proc/1/status").stdout
    bounding = int(re.search(r"(?m)^CapBnd:\s+(\w+)", status)[1], 16)
    numbers = {
        "CHOWN": 0,
        "DAC_OVERRIDE": 1,
        "FOWNER": 3,
        "KILL": 5,
        "SETGID": 6,
        "SETUID": 7,
        "NET_BIND_SERVICE": 10,
        "NET_ADMIN": 12,
        "SYS_CHROOT": 18,
        "SYS_PTRACE": 19,
        "SYS_ADMIN": 21,
    }
    assert bounding == sum(1 << numbers[name] for name in CAPABILITIES)
    assert re.search(r"(?m)^Seccomp:\s+2$", status)


def test_the_log_comes_out_line_by_line(container, client, alice):
    assert command(client, container, alice, "true").returncode == 0
    with pytest.raises(Refused):
        client.login(container, "alice", "x" * 2000)
    for line in (
        r"info sshd-session\[\d+\]: Accepted keyboard-interactive/pam for alice",
        r"info jupyterhub-openssh\[\d+\]: session=\w+ user=alice peer=[\d.]+ event=token outcome=accepted",
        r"sshd-session\[\d+\]: pam_jupyterhub\(sshd:auth\): session=\w+ user=alice .*outcome=refused",
    ):
        wait_for(
            lambda: re.search(rf"(?m)^\d{{4}}-\S+ \w+ {line}|^\d{{4}}-\S+ {line}", container.log()),
            lambda: f"{line} in:\n{container.log()}",
        )


def test_host_keys_of_the_volume_stay(container_host, container, client, hub):
    keys = container_host.box.path("/root/keys")
    before = {file.name: file.read_bytes() for file in keys.iterdir()}
    assert sorted(before) == ["ssh_host_ecdsa_key", "ssh_host_ed25519_key"]
    key = client.connect(container).get_remote_server_key().asbytes()
    container.remove()
    again = container_host.start("again", HOMES, KEYS)
    try:
        assert {file.name: file.read_bytes() for file in keys.iterdir()} == before
        assert client.connect(again).get_remote_server_key().asbytes() == key
    finally:
        again.remove()


def test_a_secret_s_host_keys_and_token(container_host, hub, client, alice):
    """Links to files that are readable for others, as Kubernetes mounts a Secret with fsGroup; of Helm's form."""
    box = container_host.box
    box.run(
        "sh",
        "-c",
        "mkdir -p /root/secret/..data && cd /root/secret && "
        "openssl genpkey -algorithm ed25519 -out ..data/ssh_host_ed25519_key && chmod 640 ..data/* && "
        f"echo {hub.keys_token} >..data/service-token && ln -sf ..data/* .",
    )
    box.write("/root/keys-of-file/alice", client.public_key)
    container_host.configure(
        hub.url, '[keys]\nservice_token_file = "/etc/jupyterhub-openssh/service-token"\nsources = ["file"]\n'
    )
    made = container_host.start(
        "secret",
        "--env=END_SESSIONS_AFTER=0",
        "--volume=/root/secret:/etc/ssh/keys:ro",
        "--volume=/root/secret:/etc/jupyterhub-openssh/secrets:ro",
        "--volume=/root/keys-of-file:/etc/jupyterhub-openssh/keys:ro",
    )
    forget_minted(hub, "alice")
    try:
        (client.directory / "known_hosts").unlink(missing_ok=True)
        transport = client.connect(made)
        transport.auth_publickey("alice", paramiko.Ed25519Key.from_private_key_file(str(client.key)))
        channel = transport.open_session()
        channel.exec_command("echo by key")
        assert channel.makefile().read() == b"by key\n", made.log()
        checked = made.run("jupyterhub-openssh", "check", check=False)
        # The tests' service may more than keys in files need, which is a warning.
        assert checked.returncode < 2, checked.stdout
        # Stopped, it ends the session, and the token that the hub has made for it.
        channel = transport.open_session()
        channel.exec_command("sleep 1000")
        assert minted(hub, "alice")
        assert made.stop_in_background(60).wait(50) == 0, made.log()
        assert b"administrator" in channel.makefile_stderr().read()
        assert not minted(hub, "alice")
    finally:
        client.close_all()
        made.remove()
        none_minted(hub, "alice")


def test_docker_compose(container_host, hub, client, alice):
    """compose.yaml, by Docker's own program; without its toy hub."""
    (client.directory / "known_hosts").unlink(missing_ok=True)
    container_host.compose(hub.url, "up", "--detach")
    made = Container(container_host, "jupyterhub-openssh-bastion-1", 22)
    try:
        made.wait_ready()
        done = command(client, made, alice, "echo by compose")
        assert (done.returncode, done.stdout) == (0, "by compose\n"), made.log()
    finally:
        client.close_all()
        # Without sessions it ends at once, long before its ten minutes.
        container_host.compose(hub.url, "down", "--volumes")
    assert "jupyterhub-openssh" not in container_host.box.run("podman", "ps", "--all").stdout


def test_stopping_waits_for_sessions(container, client, alice):
    terminal = client.terminal(container, "alice", alice.token)
    terminal.prompt()
    stopping = container.stop_in_background(60)
    wait_for(lambda: not container.healthy(), "it takes no more logins", 20, 0.1)
    with pytest.raises(OSError):
        client.connect(container)
    assert terminal.run("echo still there") == "still there\n"
    terminal.close_window()
    assert stopping.wait(30) == 0
    assert "waiting for sessions to end" in container.log()


def test_without_what_the_jail_needs_nobody_gets_in(container_host, hub, client, alice):
    """Fail closed, with a reason in the log."""
    container_host.configure(hub.url)
    (client.directory / "known_hosts").unlink(missing_ok=True)
    made = container_host.start("bare", capabilities=[one for one in CAPABILITIES if one != "SYS_ADMIN"])
    try:
        done = command(client, made, alice, "echo inside")
        assert done.returncode == 254 and "inside" not in done.stdout
        wait_for(lambda: "CAP_SYS_ADMIN missing?" in made.log(), made.log)
    finally:
        client.close_all()
        made.remove()


#: What Kubernetes' Pod Security Standard "restricted" asks for, and a root file system that nobody can write to.
ORDINARY = (
    "--user=20022:20022",
    "--security-opt=no-new-privileges",
    "--read-only",
    "--read-only-tmpfs=false",
    "--tmpfs=/run/jupyterhub-openssh:mode=1777",
)
BARE = '[session]\njail = "none"\n[accounts]\nuid = "fixed"\nfixed = [20022, 100]\n'


def test_terminals_without_any_privileges(container_host, hub, client, alice, bob):
    """No root, no capability, no way to get one: terminals, commands and the server's files for whoever has a token."""
    container_host.configure(hub.url, BARE)
    (client.directory / "known_hosts").unlink(missing_ok=True)
    made = container_host.start("ordinary", *ORDINARY, capabilities=(), port=2222)
    try:
        status = made.run("cat", "/proc/1/status").stdout
        assert re.findall(r"(?m)^Cap(?:Prm|Eff|Bnd|Amb):\s+(\w+)", status) == ["0" * 16] * 4
        assert re.search(r"(?m)^NoNewPrivs:\s+1$", status) and re.search(r"(?m)^Uid:(\s+20022){4}$", status)
        with client.terminal(made, "alice", alice.token) as terminal:
            terminal.prompt()
            assert terminal.run("echo $((6 * 7))") == "42\n"

            # Gateway, watcher and session have filters of their own besides the container's.
            def filters(pid):
                return int(re.search(r"Seccomp_filters:\s+(\d+)", made.run("cat", f"/proc/{pid}/status").stdout)[1])

            ours = made.run("pgrep", "-x", "jupyterhub-open|session|jupyterhub-jail").stdout.split()
            assert len(ours) == 3 and all(filters(pid) > filters(1) for pid in ours)
            live = json.loads(made.run("jupyterhub-openssh", "status", "--json").stdout)
            assert [one["user"] for one in live["sessions"]] == ["alice"]
        done = command(client, made, alice, "echo out; echo err >&2; exit 3")
        assert (done.returncode, done.stdout, done.stderr) == (3, "out\n", "err\n")
        with pytest.raises(Refused):
            client.login(made, "alice", bob.token)
        # Files are those of the user's server.
        with client.login(made, "alice", alice.token) as transport, transport.open_sftp_client() as files:
            with files.open("by-sftp", "w") as file:
                file.write("text")
        assert command(client, made, alice, "cat by-sftp; rm by-sftp").stdout == "text"
        # Another's session has the same uid, and is not to be had by its name.
        with client.terminal(made, "bob", bob.token) as others:
            others.prompt()
            names = set(re.findall(r"@jupyterhub-openssh-channels/(\w+)", made.run("cat", "/proc/net/unix").stdout))
            assert names
            for name in names:
                done = command(
                    client,
                    made,
                    alice,
                    "echo $JUPYTERHUB_USER",
                    options=["-o", f"SetEnv=JUPYTERHUB_OPENSSH_CHANNELS={name}"],
                )
                assert done.stdout == "alice\n"
        done = command(client, made, alice, options=["-W", "127.0.0.1:2222"])
        assert done.returncode and "forwarding failed" in done.stderr, done.stderr
        checked = made.run("jupyterhub-openssh", "check", check=False)
        assert checked.returncode == 0, checked.stdout
        assert re.search(r"(?m)pam_jupyterhub\[\d+\]: session=\w+ user=alice .*outcome=refused", made.log())
        assert re.search(r"(?m)sshd\S*: Accepted keyboard-interactive/pam for alice", made.log())
        terminal = client.terminal(made, "alice", alice.token)
        terminal.prompt()
        idle = client.login(made, "bob", bob.token)
        wait_for(
            lambda: len(json.loads(made.run("jupyterhub-openssh", "status", "--json").stdout)["sessions"]) == 2,
            "both are there",
        )
        made.run("jupyterhub-openssh", "disconnect", "--all")
        terminal.wait_closed()
        wait_for(lambda: not idle.is_active(), "the connection without a channel ends, too", 20)
        wait_for(lambda: "jupyterhub-" not in made.run("ps", "-eo", "comm").stdout, "gateways and watchers end")
    finally:
        client.close_all()
        made.remove()


def test_root_s_sshd_makes_a_jail_or_none_gets_in(container_host, hub, client, alice):
    """session.jail = "none" is no way to do without one where there could be one."""
    container_host.configure(hub.url, BARE)
    (client.directory / "known_hosts").unlink(missing_ok=True)
    made = container_host.start("careless")
    try:
        with pytest.raises(Refused):
            client.login(made, "alice", alice.token)
        wait_for(lambda: "would not be confined" in made.log(), made.log)
        assert made.run("jupyterhub-openssh", "check", check=False).returncode == 2
    finally:
        client.close_all()
        made.remove()


def test_in_a_user_namespace(container_host, hub, client, alice):
    """Root of the container is nobody on the host."""
    container_host.configure(hub.url, "[accounts]\nrange = [20000, 60000]\n")
    (client.directory / "known_hosts").unlink(missing_ok=True)
    # Its root must own the file, whatever its number is outside.
    container_host.box.run("chown", "200000:200000", "/root/config.toml")
    # The network is not the namespace's, as it would be with a network of the container's own.
    container_host.box.run("sh", "-c", "echo 0 >/proc/sys/net/ipv4/ip_unprivileged_port_start")
    made = container_host.start("mapped", "--uidmap=0:200000:65536", "--gidmap=0:200000:65536")
    try:
        done = command(client, made, alice, "echo inside")
        assert (done.returncode, done.stdout) == (0, "inside\n"), made.log()
    finally:
        client.close_all()
        made.remove()
