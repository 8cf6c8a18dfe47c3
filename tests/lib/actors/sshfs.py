"""A home mounted by sshfs, in a mount namespace of its own."""

import shlex
import subprocess
from pathlib import Path

from lib.sandbox import processes
from lib.sandbox.namespace import die_with_parent
from lib.wait import wait_for


class Sshfs:
    """The place's home mounted on `point` for as long as the context lasts."""

    def __init__(self, place, point, options=()):
        self.place, self.point = place, Path(point)
        self.point.mkdir(exist_ok=True)
        # Without --fork nsenter and unshare become sshfs itself.
        command = place.client.network.client.command(
            "unshare",
            "--mount",
            "--propagation",
            "private",
            "--",
            "sshfs",
            "-f",
            f"{place.host}:",
            self.point,
            "-o",
            f"idmap=user,ssh_command={shlex.join(place.ssh_words())}",
            *options,
        )
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env=place.client.askpass(place.token),
            start_new_session=True,
            preexec_fn=die_with_parent,
        )

    def __enter__(self):
        def mounted():
            assert self.process.poll() is None, f"sshfs ended: {self.process.stderr.read()}"
            return f" {self.point} ".encode() in processes.process(self.process.pid).read("mountinfo")

        wait_for(mounted, "sshfs has mounted the home", 30)
        return self

    def run(self, *argv, check=True, timeout=120, cwd=None, input=None):
        """Run a command that sees the mount; its standard output."""
        done = subprocess.run(
            [
                "nsenter",
                f"--mount=/proc/{self.process.pid}/ns/mnt",
                "--",
                "env",
                "-C",
                str(cwd or self.point),
                *map(str, argv),
            ],
            capture_output=True,
            text=True,
            timeout=timeout,
            input=input or "",
            env={
                "PATH": "/usr/bin:/bin:/usr/sbin:/sbin",
                "HOME": str(self.place.client.directory),
                "LANG": "C.UTF-8",
                "GIT_AUTHOR_NAME": "t",
                "GIT_AUTHOR_EMAIL": "t@example.org",
                "GIT_COMMITTER_NAME": "t",
                "GIT_COMMITTER_EMAIL": "t@example.org",
                "GIT_CONFIG_NOSYSTEM": "1",
            },
        )
        if check:
            assert done.returncode == 0, f"{argv}: status {done.returncode}\n{done.stdout}{done.stderr}"
        return done.stdout

    def __exit__(self, *exc):
        self.run("umount", self.point, check=False, cwd="/")
        try:
            self.process.wait(15)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            if not exc[0]:
                raise
        finally:
            self.process.stderr.close()
