"""Programs that wait for ssh's prompt for a password and type one there, each with its own defaults."""

import contextlib
import shutil
import subprocess
import tempfile
from pathlib import Path

import pexpect
from pexpect import pxssh

from lib.sandbox.namespace import die_with_parent
from lib.wait import wait_for

#: Types the passwords in its arguments one after another. A prompt is what ends as sshd's own does.
EXPECT = r"""
set timeout 60
spawn ssh -o NumberOfPasswordPrompts=3 [lindex $argv 0] echo let''-in
foreach password [lrange $argv 1 end] {
    expect {
        "*password: " { send "$password\r" }
        timeout { exit 3 }
        eof { exit 4 }
    }
}
expect {
    let-in { exit 0 }
    "*password: " { exit 5 }
    timeout { exit 3 }
    eof { exit 4 }
}
"""

#: With a key agent or a terminal of its own ssh would ask otherwise.
ENV = {"LANG": "C.UTF-8", "TERM": "xterm"}


class Programs:
    """The programs, in the client namespace of `client`, with an `ssh` in PATH that knows only the bastion's port."""

    def __init__(self, client, bastion, user, directory):
        self.client, self.user, self.directory = client, user, Path(directory)
        self.host = f"{user}@{bastion.address}"
        self.address = bastion.address
        config = self.directory / "ssh_config"
        config.write_text(
            f"Port {bastion.PORT}\nStrictHostKeyChecking no\nUserKnownHostsFile {directory}/known_hosts\n"
            "GlobalKnownHostsFile /dev/null\n"
        )
        ssh = self.directory / "ssh"
        ssh.write_text(f'#!/bin/sh\nexec {" ".join(client.network.client.command("/usr/bin/ssh"))} -F {config} "$@"\n')
        ssh.chmod(0o755)
        self.env = {**ENV, "PATH": f"{directory}:/usr/bin:/bin", "HOME": str(directory)}

    def run(self, *command, input="", timeout=90):
        """Run one of them on no terminal; CompletedProcess with text."""
        return subprocess.run(
            [str(part) for part in command],
            capture_output=True,
            text=True,
            input=input,
            timeout=timeout,
            env=self.env,
            start_new_session=True,
            cwd=self.directory,
        )

    def sshpass(self, password):
        """sshpass, without options: its status."""
        return self.run("sshpass", "-p", password, "ssh", self.host, "true").returncode

    def expect(self, *passwords):
        """A script of expect(1): its status, 5 if there was a prompt more than passwords."""
        (self.directory / "script").write_text(EXPECT)
        done = self.run("expect", "-f", self.directory / "script", self.host, *passwords)
        return done.returncode, done.stdout

    def lftp(self, password):
        """lftp with an address sftp://: what it said, and whether it could list the home."""
        (self.directory / "lftp").write_text(
            "set cmd:fail-exit yes\nset net:max-retries 1\nset net:timeout 30\n"
            f"open -u '{self.user},{password}' sftp://{self.address}\nls\n"
        )
        done = self.run("lftp", "--norc", "-f", self.directory / "lftp")
        return done.returncode == 0, done.stdout + done.stderr

    def pxssh(self, password):
        """pexpect's pxssh: what a command in the terminal says. Raises ExceptionPxssh."""
        session = pxssh.pxssh(env=self.env, encoding="utf-8")
        try:
            session.login(self.address, self.user, password)
            session.sendline("echo let''-in")
            session.prompt()
            return session.before
        finally:
            with contextlib.suppress(pexpect.ExceptionPexpect):
                session.close()

    def sshfs(self, password):
        """sshfs -o password_stdin: the names in the mounted home."""
        point = self.directory / "mount"
        point.mkdir()
        process = subprocess.Popen(
            [
                "unshare",
                "--mount",
                "--propagation",
                "private",
                "--",
                "sshfs",
                "-f",
                f"{self.host}:",
                point,
                "-o",
                "password_stdin",
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            env=self.env,
            start_new_session=True,
            preexec_fn=die_with_parent,
        )
        try:
            process.stdin.write(f"{password}\n")
            process.stdin.close()

            def mounted():
                assert process.poll() is None, f"sshfs ended: {process.stderr.read()}"
                return f" {point} " in Path(f"/proc/{process.pid}/mountinfo").read_text()

            wait_for(mounted, "sshfs has mounted the home", 30)
            return self.run("nsenter", f"--mount=/proc/{process.pid}/ns/mnt", "--", "ls", "-A", point).stdout.split()
        finally:
            # Its mount is gone with the last process of its namespace.
            process.kill()
            process.wait()
            process.stderr.close()


@contextlib.contextmanager
def programs(client, bastion, user):
    """The programs, with a directory of their own for a while."""
    directory = tempfile.mkdtemp(prefix="passwords-")
    try:
        yield Programs(client, bastion, user, directory)
    finally:
        shutil.rmtree(directory, ignore_errors=True)
