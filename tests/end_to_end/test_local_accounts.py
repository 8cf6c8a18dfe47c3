"""The administrator's own logins are as before, and nothing of ours uses the network for them."""

import re
import subprocess

import paramiko
import pytest

from lib.actors.client import Refused
from lib.sandbox.namespace import die_with_parent
from lib.wait import wait_for


class Watch:
    """Proves that no program inside the bastion opened a network connection.

    Two witnesses: a counter of packets that the bastion starts itself, and strace(1) on sshd and all
    that it forks.
    """

    def __init__(self, bastion, directory):
        self.bastion, self.file = bastion, directory / "strace"

    def __enter__(self):
        run = self.bastion.box.network.run
        run(
            "nft",
            "table inet watch { counter started { }; chain c { type filter hook output priority 0; "
            "ct direction original meta l4proto { tcp, udp } counter name started; }; }",
        )
        self.strace = subprocess.Popen(
            [
                "strace",
                "-f",
                "-qq",
                "-e",
                "trace=socket,connect,sendto,execve",
                "-o",
                str(self.file),
                "-p",
                str(self.bastion.sshd.pid),
            ],
            preexec_fn=die_with_parent,
        )
        wait_for(lambda: b"TracerPid:\t0\n" not in self.bastion.sshd.read("status"), "strace is attached")
        return self

    def __exit__(self, *exc):
        self.strace.terminate()
        self.strace.wait()
        counter = self.bastion.box.network.run("nft", "list", "counter", "inet", "watch", "started")
        self.bastion.box.network.run("nft", "delete table inet watch")
        if exc[0]:
            return
        calls = self.file.read_text()
        assert "socket(AF_UNIX" in calls, "strace saw nothing"
        assert "packets 0 " in counter, f"the bastion sent packets of its own: {counter}"
        # sshd has getaddrinfo(3) sort the addresses it listens on by connecting UDP sockets to port 22.
        opened = [call for call in re.findall(r".*connect\(.*AF_INET.*", calls) if "htons(22)" not in call]
        assert not opened, f"connections were opened: {opened}"
        ran = re.findall(r'execve\("(/usr/(?:bin|lib)/jupyterhub-openssh[^"]*)"', calls)
        assert not ran, f"our programs were run: {ran}"


@pytest.fixture
def watch(bastion, tmp_path):
    with Watch(bastion, tmp_path) as made:
        yield made


def test_the_watch_sees_a_hub_login(bastion, client, alice, tmp_path):
    """The proof below is worth something only if it can fail."""
    with pytest.raises(AssertionError, match="packets of its own"), Watch(bastion, tmp_path):
        with client.terminal(bastion, "alice", alice.token) as terminal:
            terminal.prompt()


def test_key(bastion, client, watch):
    transport = client.connect(bastion)
    transport.auth_publickey(bastion.ADMIN, paramiko.Ed25519Key.from_private_key_file(str(client.key)))
    with client.terminal(bastion, bastion.ADMIN, None, transport=transport) as terminal:
        terminal.prompt()
        assert "uid=1000(localadmin)" in terminal.run("id")


def test_password(bastion, client, watch):
    with client.admin_terminal(bastion) as terminal:
        terminal.prompt()
        assert terminal.run("echo $SHELL; pwd") == "/bin/bash\n/home/localadmin\n"


def test_wrong_password(bastion, client, watch):
    mark = bastion.syslog.mark()
    with pytest.raises(Exception, match=r"(?i)authentication"):
        client.password_login(bastion, bastion.ADMIN, "wrong")
    bastion.syslog.wait(r"Failed password for localadmin", mark)


def test_commands_and_sftp(bastion, client, watch):
    transport = client.password_login(bastion, bastion.ADMIN, bastion.ADMIN_PASSWORD)
    channel = transport.open_session()
    channel.exec_command("id -un; exit 7")
    assert channel.makefile().read() == b"localadmin\n" and channel.recv_exit_status() == 7
    sftp = paramiko.SFTPClient.from_transport(transport)
    assert ".ssh" in sftp.listdir(".")
    transport.close()


def test_sudo_and_su(bastion, client, watch):
    with client.admin_terminal(bastion) as terminal:
        terminal.prompt()
        terminal.send("sudo -k; sudo id -u\r")
        terminal.expect(r"\[sudo\] password for localadmin: ")
        terminal.send(bastion.ADMIN_PASSWORD + "\r")
        terminal.expect(r"[\r\n]0\r?\n")
        terminal.prompt()
        terminal.send("su localadmin -c 'echo as-$USER'\r")
        terminal.expect(r"Password: ")
        terminal.send(bastion.ADMIN_PASSWORD + "\r")
        terminal.expect(r"as-localadmin\r?\n")
        terminal.prompt()
        terminal.send("sudo su - -c 'id -un'\r")
        terminal.expect(r"[\r\n]root\r?\n")


def test_adduser_of_a_new_name(bastion, client, watch):
    """A hub user's name is free for adduser: nobody but sshd sees hub users who have no session."""
    run = bastion.box.run
    run("adduser", "--disabled-password", "--gecos", "", "dave", env={"DEBIAN_FRONTEND": "noninteractive"})
    try:
        assert run("id", "-u", "dave").stdout.strip().isdigit()
        assert run("getent", "passwd", "dave").stdout.count(":") == 6
        run("su", "dave", "-c", "true")
    finally:
        run("userdel", "--remove", "dave")
    with client.admin_terminal(bastion) as terminal:  # so that the witness saw something
        terminal.prompt()


def test_a_local_account_wins_over_a_hub_user(bastion, client, hub, faulty):
    """`alice` added on the bastion is the bastion's alice: her token opens nothing, her password does."""
    run = bastion.box.run
    run("useradd", "--create-home", "--shell", "/bin/sh", "alice")
    run("chpasswd", input="alice:local secret 9\n")
    try:
        with bastion.configured(faulty.url):
            with pytest.raises(Refused):
                client.password_login(bastion, "alice", hub.token("alice"))
            with client.password_login(bastion, "alice", "local secret 9") as transport:
                channel = transport.open_session()
                channel.exec_command("id -un; pwd")
                assert channel.makefile().read() == b"alice\n/home/alice\n"
        assert not faulty.requests
    finally:
        run("userdel", "--force", "--remove", "alice")


def test_other_programs_see_no_phantom_accounts(bastion):
    assert bastion.box.run("getent", "passwd", "nobody-ever-heard-of", check=False).returncode == 2
    assert bastion.box.run("id", "alice", check=False).returncode != 0
    assert "alice" not in bastion.box.run("getent", "passwd").stdout


def test_the_hub_being_down_changes_nothing(bastion, client, network):
    with bastion.configured(f"http://{network.ELSEWHERE}:9"), client.admin_terminal(bastion) as terminal:
        terminal.prompt()
        assert terminal.run("sudo -n true; id -un").endswith("localadmin\n")


def test_a_broken_configuration_changes_nothing(bastion, client):
    with bastion.configured('http://x"\nnonsense ='), client.admin_terminal(bastion) as terminal:
        terminal.prompt()
        assert terminal.run("id -un") == "localadmin\n"
