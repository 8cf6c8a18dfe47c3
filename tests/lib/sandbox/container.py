"""The container image of packaging/container: built and run by podman, in a sandbox of its own."""

import json
import re
import shutil
import subprocess

from lib import paths
from lib.sandbox.bastion import config_text
from lib.sandbox.box import Box
from lib.sandbox.roots import root_directory
from lib.wait import wait_for

#: What packaging/container/README.md tells administrators to add, and nothing more.
CAPABILITIES = tuple(
    re.findall(r"(?m)^\| `([A-Z_]+)` \|", (paths.REPOSITORY / "packaging/container/README.md").read_text())
)
IMAGE = "localhost/jupyterhub-openssh:tests"
BASE = "localhost/debian:tests"
#: podman's own settings: neither the tests' machine nor its sandbox need have cgroups that podman may change, nor may
#: it raise limits there.
SETTINGS = """
[containers]
cgroups = "disabled"
default_ulimits = []
log_driver = "k8s-file"
[engine]
cgroup_manager = "cgroupfs"
events_logger = "none"
"""
#: What stands in the place of the toy hub of compose.yaml, and of its ports.
OVERRIDE = """
services:
  hub: !reset null
  bastion:
    depends_on: !reset null
    network_mode: host
    ports: !reset []
configs:
  bastion_config:
    content: |
      [hub]
      url = "{hub_url}"
"""
#: crun wants a cgroup file system of either version.
CGROUPS = (
    "mount -t tmpfs cgroup /sys/fs/cgroup && mkdir /sys/fs/cgroup/devices && "
    "{ mount -t cgroup -o devices cgroup /sys/fs/cgroup/devices || "
    "{ umount /sys/fs/cgroup && mount -t cgroup2 cgroup /sys/fs/cgroup; }; }"
)


class ContainerHost:
    """A host with podman and the image; the containers use the host's network, and so its address."""

    PORT = 22

    def __init__(self, network, package, scratch):
        self.address = network.next_bastion_address()
        storage = scratch / "containers"
        storage.mkdir()
        root = root_directory("trixie")
        self.box = Box(
            "containers",
            lower=root,
            binds=[(storage, "/var/lib/containers"), (paths.REPOSITORY, "/src"), (root, "/base")],
        )
        network.join(self.box.network, self.address)
        try:
            self._prepare(package)
        except BaseException:
            self.close()
            raise

    def _prepare(self, package):
        box = self.box
        shutil.copy("/etc/resolv.conf", box.path("/etc/resolv.conf"))
        # Options that are the machine's, such as a proxy's, are apt's own.
        box.run(
            "apt-get",
            "--yes",
            "--quiet",
            "--no-install-recommends",
            "install",
            "podman",
            "crun",
            "buildah",
            "mount",
            "docker-compose",
            online=True,
            timeout=300,
            env={"DEBIAN_FRONTEND": "noninteractive"},
        )
        box.run("sh", "-c", CGROUPS)
        box.write("/etc/containers/containers.conf", SETTINGS)
        box.write("/etc/containers/policy.json", json.dumps({"default": [{"type": "insecureAcceptAnything"}]}))
        box.run("sh", "-c", f"tar -C /base -c . | podman import --quiet - {BASE}", timeout=300)
        shutil.copy(package, box.path("/root/package.deb"))
        limits = box.run("sh", "-c", "ulimit -Hn").stdout.strip(), box.run("bash", "-c", "ulimit -Hu").stdout.strip()
        options = (
            f"--isolation=chroot --network=host --ulimit nofile={limits[0]}:{limits[0]}"
            f" --ulimit nproc={limits[1]}:{limits[1]}"
        )
        box.run(
            "/src/packaging/container/build",
            IMAGE,
            online=True,
            timeout=600,
            env={"JO_DEB": "/root/package.deb", "BASE": BASE, "BUILDER": "podman", "BUILD_OPTIONS": options},
        )

    def configure(self, hub_url, extra=""):
        """Write the config.toml that containers are given."""
        self.box.write("/root/config.toml", config_text(hub_url, extra), owner=0)

    def start(self, name, *options, capabilities=CAPABILITIES, ready=True, port=22):
        """Run a container of the image with these options of podman; returns a Container."""
        added = [f"--cap-add={one}" for one in capabilities]
        self.box.run(
            "podman",
            "run",
            "--detach",
            "--quiet",
            f"--name={name}",
            "--network=host",
            "--cap-drop=ALL",
            *added,
            "--volume=/root/config.toml:/etc/jupyterhub-openssh/config.toml:ro",
            *options,
            IMAGE,
        )
        made = Container(self, name, port)
        if ready:
            made.wait_ready()
        return made

    def compose(self, hub_url, *words):
        """Run Docker Compose on packaging/container/compose.yaml with this hub instead of its own.

        It speaks with podman, which understands Docker's API; the network is the host's, as of every container here.
        """
        self.box.write("/root/override.yaml", OVERRIDE.format(hub_url=hub_url))
        if not self.box.path("/run/podman.sock").exists():
            self.box.start("podman", "system", "service", "--time=0", "unix:///run/podman.sock")
            wait_for(self.box.path("/run/podman.sock").exists, "podman serves its API", 20)
        files = [f"--file={file}" for file in ("/src/packaging/container/compose.yaml", "/root/override.yaml")]
        return self.box.run(
            "docker-compose",
            *files,
            *words,
            timeout=120,
            env={"DOCKER_HOST": "unix:///run/podman.sock", "BASTION_IMAGE": IMAGE},
        )

    def close(self):
        """End the host and every container."""
        self.box.close()


class Container:
    """A running bastion of the image. Clients of the tests take it for a bastion."""

    def __init__(self, host, name, port):
        self.host, self.name, self.address, self.PORT = host, name, host.address, port

    def run(self, *command, check=True):
        """Run a command in the container."""
        return self.host.box.run("podman", "exec", self.name, *command, check=check)

    def healthy(self):
        """Whether its health check says so."""
        return self.run("/usr/local/sbin/healthy", check=False).returncode == 0

    def wait_ready(self):
        """Wait until sshd takes logins."""
        wait_for(self.healthy, lambda: f"{self.name} is healthy:\n{self.log()}", 30, 0.1)

    def log(self):
        """All that it has written to its standard output and error."""
        done = self.host.box.run("podman", "logs", self.name, check=False)
        return done.stdout + done.stderr

    def stop_in_background(self, seconds):
        """Begin to stop it; returns the Popen of podman."""
        return subprocess.Popen(
            self.host.box.command("podman", "stop", f"--time={seconds}", self.name),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def running(self):
        """Whether it has not ended yet."""
        return self.host.box.run("podman", "inspect", "--format={{.State.Running}}", self.name).stdout.strip() == "true"

    def remove(self):
        """End it at once."""
        self.host.box.run("podman", "rm", "--force", "--time=0", self.name, check=False)
