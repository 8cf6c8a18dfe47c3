"""A file server of its own: a virtual machine that exports homes by the kernel's NFS server."""

import contextlib

from lib.checks.files import Home
from lib.machines.vm import Machine
from lib.wait import wait_for

#: What is exported; the file system has project quotas, as the bastion's own may have.
EXPORT = "/export"
#: Without the 90 s in which a restarted server waits for the clients that it had.
_START = "rpc.nfsd --grace-time 10 --lease-time 10 4; echo Y >/proc/fs/nfsd/v4_end_grace"


class FileServer(Machine):
    """A lean machine with an NFS server for versions 3 and 4.2."""

    def __init__(self, network, suite, directory):
        super().__init__(network, suite, directory, lean=True, memory=768)

    def prepare(self):
        """Make the file system and start the server; once, after the machine was powered on."""
        self.shell(f"""
            mkfs.ext4 -q -E lazy_itable_init=1,nodiscard /dev/vdc
            mkdir -p {EXPORT} /var/lib/nfs/v4recovery
            mount -o noatime /dev/vdc {EXPORT}
            mount -t nfsd nfsd /proc/fs/nfsd
            rpcbind -w
            {_START}
            rpc.mountd
        """)

    def export(self, name, root_squash=True, options=""):
        """Export a directory below /export, made unless it is there; returns its path."""
        path = f"{EXPORT}/{name}"
        squash = "root_squash" if root_squash else "no_root_squash"
        self.shell(f"mkdir -p {path}; exportfs -o rw,{squash},no_subtree_check,sync{options} '*:{path}'")
        return path

    def unexport(self, name):
        """Export it no more; clients get ESTALE."""
        self.shell(f"exportfs -u '*:{EXPORT}/{name}'; exportfs -f")

    def stop_nfs(self):
        """Stop the NFS server: its port is closed."""
        self.run("rpc.nfsd", "0")

    def start_nfs(self):
        """Start the NFS server again, and wait until it listens."""
        self.shell(_START)
        wait_for(lambda: ":0801 " in self.read("/proc/net/tcp") + self.read("/proc/net/tcp6"), "nfsd listens", 20)

    @contextlib.contextmanager
    def stopped(self):
        """The NFS server is stopped for a while, as `systemctl stop nfs-server` does it."""
        self.stop_nfs()
        try:
            yield
        finally:
            self.start_nfs()

    def home(self, path, uid, gid, mode=0o700):
        """An empty home on this server; one that is there is the same directory afterwards."""
        home = Home(self.output, path)
        home.mkdir(mode=mode, owner=(uid, gid))
        self.run("find", path, "-mindepth", "1", "-delete")
        return home


@contextlib.contextmanager
def mounted(bastion, server, path, target="/srv/homes", version="4.2", options=""):
    """A directory of the file server mounted on a bastion, with the options that administrators use."""
    bastion.box.shell(
        f"mkdir -p {target}; mount -t nfs -o vers={version}{options} {server.address}:{path} {target}", timeout=120
    )
    try:
        yield target
    finally:
        unmount(bastion, target)


def unmount(bastion, target):
    """Unmount all that is on a directory, at once, whatever the server does."""
    bastion.box.shell(f"while umount -l {target} 2>/dev/null; do :; done")
