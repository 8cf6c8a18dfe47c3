"""Homes of a bastion on a real local file system: an ext4 image, mounted by a loop device."""

import os
import stat
import subprocess
import tempfile
from pathlib import Path

from lib.paths import SCRATCH
from lib.sandbox.namespace import run

#: Configurations of homes, which follow the hub's address: where they are alone, and with each rule for uids.
HOMES = '[homes]\nroot = "/srv/homes"\n'
BY_HOME = HOMES + '[accounts]\nuid = "home"\n'
BY_NAME = HOMES + '[accounts]\nuid = "hash"\n'
FIXED = HOMES + '[accounts]\nuid = "fixed"\nfixed = [1000, 100]\n'


def scratch_file(size):
    """An empty sparse file on the machine's disk; the caller unlinks it."""
    SCRATCH.mkdir(parents=True, exist_ok=True)
    fd, path = tempfile.mkstemp(dir=SCRATCH)
    os.ftruncate(fd, size)
    os.close(fd)
    return Path(path)


class Ext4:
    """A new ext4 file system on `target` of a box; it vanishes with the box.

    `quotas` switches project and user quotas on. The image is sparse, already unlinked, and lies on the disk.
    """

    def __init__(self, box, target, size=12 << 30, quotas=False):
        image = scratch_file(size)
        try:
            features = ["-O", "quota,project", "-E", "quotatype=usrquota:grpquota:prjquota"] if quotas else []
            run(["mkfs.ext4", "-q", "-m", "0", "-i", "65536" if size > 4 << 30 else "16384", *features, str(image)])
            self.device = run(["losetup", "--find", "--show", str(image)]).strip()
            # The box has no disks in its /dev.
            node = box.path(self.device)
            os.mknod(node, stat.S_IFBLK | 0o600, os.stat(self.device).st_rdev)
            box.mount(self.device, target, "ext4", data="prjquota,usrquota" if quotas else None)
            node.unlink()
            box.path(target).joinpath("lost+found").rmdir()
        finally:
            image.unlink()
            if hasattr(self, "device"):
                # Takes effect when the last mount is gone.
                subprocess.run(["losetup", "--detach", self.device], stdin=subprocess.DEVNULL, check=False)
