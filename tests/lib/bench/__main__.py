"""The figures of `make bench`: ours beside stock sshd and beside the bare hub, taken in turns in one run.

Single figures of a busy machine mean little: everything that is compared is measured in the same round,
and the spread over the rounds is printed.
"""

import contextlib
import os
import sys
import tempfile

from lib.actors.client import Client
from lib.actors.hub import HUB_UID, Hub
from lib.actors.jupyter import Jupyter
from lib.bench import commands, files, keys, many, terminal
from lib.bench.terminal import Raw, Session
from lib.paths import built_package
from lib.sandbox.bastion import Bastion
from lib.sandbox.network import Network
from lib.sandbox.syslog import Syslog

PARTS = {
    "login": terminal.login,
    "keys": keys.keys,
    "echo": terminal.echo,
    "printed": terminal.printed,
    "many": many.many,
    "sftp": files.sftp,
    "commands": commands.commands,
}


class Bench:
    """What is measured with: a bastion, a hub with alice's server, a client; `rows` collects the table."""

    #: Where the homes are on the bastion.
    HOMES = "/srv/homes"
    #: Where it has those of the hub's own servers, for comparison.
    HUB_HOMES = "/srv/hub"

    def __init__(self, network, client, bastion, hub, scratch):
        self.network, self.client, self.bastion, self.hub, self.scratch = network, client, bastion, hub, scratch
        self.jupyter = Jupyter(hub, "alice")
        self.token = hub.token("alice")
        self.rows = []
        self.make_home("alice", HUB_UID)

    def make_home(self, name, owner):
        """A directory beneath the homes."""
        self.bastion.box.run("install", "-d", "-m", "0700", "-o", str(owner), "-g", str(owner), f"{self.HOMES}/{name}")

    def configure(self, homes=False, extra=""):
        """The bastion's configuration from the next login on, with or without homes."""
        if homes:
            extra = f'[accounts]\nuid = "home"\n[homes]\nroot = "{self.HOMES}"\n{extra}'
        self.bastion.configure(self.hub.url, extra, reload=False)

    def ours(self, **options):
        """A hub user's session."""
        return Session(self.client, self.bastion, "alice", self.token, **options)

    def stock(self, **options):
        """A session of the bastion's local administrator."""
        return Session(self.client, self.bastion, self.bastion.ADMIN, self.bastion.ADMIN_PASSWORD, **options)

    def raw(self):
        """A terminal of alice's server without SSH."""
        return Raw(self.jupyter)

    def row(self, what, figures, against, verdict=""):
        """Note one line of the table, and print it at once."""
        self.rows.append((what, figures, against, verdict))
        print(f"  {what}: {figures} | {against} | {verdict}", flush=True)


def as_with_systemd(bastion):
    """Give the bastion's log the room that systemd gives it: net.unix.max_dgram_qlen is 512, the kernel's default 10."""
    bastion.box.network.run("sh", "-c", "echo 512 >/proc/sys/net/unix/max_dgram_qlen")
    bastion.syslog.close()
    bastion.box.path("/dev/log").unlink()
    with bastion.box.network:
        bastion.syslog = Syslog(bastion.box)


def main():
    suite = os.environ.get("BENCH_SUITE", "bookworm")
    package = built_package()
    if not package:
        raise SystemExit("there is no package: run `make deb`")
    chosen = sys.argv[1:] or list(PARTS)
    unknown = [name for name in chosen if name not in PARTS]
    if unknown:
        raise SystemExit(f"there is no part {unknown[0]}: use some of {', '.join(PARTS)}")
    with contextlib.ExitStack() as stack:
        directory = stack.enter_context(tempfile.TemporaryDirectory(prefix="jupyterhub-openssh-bench-"))
        network = Network()
        stack.callback(network.close)
        memory = "/dev/shm" if os.path.ismount("/dev/shm") else None
        scratch = stack.enter_context(tempfile.TemporaryDirectory(prefix="jupyterhub-openssh-bench-", dir=memory))
        binds = [(f"{scratch}/homes", Bench.HOMES), (f"{scratch}/hub-homes", Bench.HUB_HOMES)]
        for path, _ in binds:
            os.mkdir(path)
        hub = Hub(
            network,
            users=("alice",),
            log=stack.enter_context(open(f"{directory}/hub.log", "w")),
            homes=f"{scratch}/hub-homes",
        )
        stack.callback(hub.close)
        hub.start_server("alice")
        bastion = Bastion(network, suite, package, hub.url, binds=binds)
        stack.callback(bastion.close)
        as_with_systemd(bastion)
        bench = Bench(network, Client(network, directory), bastion, hub, scratch)
        print(f"Debian {suite}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}; min / median / max", flush=True)
        for name in chosen:
            bench.configure()
            PARTS[name](bench)
        print("\n| what | ours | against | difference and goal |\n|---|---|---|---|")
        for row in bench.rows:
            print("| " + " | ".join(row) + " |")


if __name__ == "__main__":
    main()
