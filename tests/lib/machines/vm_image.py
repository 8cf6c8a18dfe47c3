"""The disk, kernel and initial RAM disk of the tests' virtual machines, made by mmdebstrap and kept in the cache.

The machine that runs the tests may have neither NFS nor quota in its kernel; a virtual machine with Debian's own
kernel has both. No test ever writes to the image: each machine's changes vanish with it.
"""

import datetime
import hashlib
import os
import shutil
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

from lib.paths import CACHE, SUITES
from lib.sandbox.roots import sources

#: One directory for each image.
IMAGES = CACHE / "vm"

#: The smaller of Debian's kernels: it has nfsd, NFS, quotas, XFS and autofs, and no drivers for real hardware.
KERNEL = "linux-image-cloud-amd64"

#: A bastion with systemd, and what an NFS server and file systems with quotas need.
PACKAGES = (
    KERNEL,
    "initramfs-tools",
    "cpio",
    "busybox-static",
    "zstd",
    "kmod",
    "udev",
    "systemd-sysv",
    "dbus",
    "libpam-systemd",
    "libpam-runtime",
    "iproute2",
    "nftables",
    "procps",
    "psmisc",
    "util-linux",
    "python3",
    "ca-certificates",
    "adduser",
    "passwd",
    "sudo",
    "openssh-server",
    "openssh-client",
    "openssh-sftp-server",
    "rsync",
    "nfs-kernel-server",
    "nfs-common",
    "autofs",
    "xfsprogs",
    "e2fsprogs",
    "quota",
    "acl",
    "attr",
    "strace",
)

#: What is loaded before the root file system is mounted: the disks and the network card.
MODULES = "virtio_pci virtio_blk virtio_net"

#: Nothing of these is of use here, and each takes its share of the emulated processor. The machine's devices are
#: known beforehand, so udev isn't needed either.
MASKED = (
    "apt-daily.timer",
    "apt-daily-upgrade.timer",
    "dpkg-db-backup.timer",
    "e2scrub_all.timer",
    "e2scrub_reap.service",
    "fstrim.timer",
    "logrotate.timer",
    "man-db.timer",
    "systemd-tmpfiles-clean.timer",
    "getty@.service",
    "serial-getty@.service",
    "getty.target",
    "systemd-random-seed.service",
    "systemd-timesyncd.service",
    "nfs-server.service",
    "autofs.service",
    "systemd-journal-flush.service",
    "systemd-update-utmp.service",
    "systemd-update-utmp-runlevel.service",
    "kmod-static-nodes.service",
    "quotaon.service",
    "rpc-statd-notify.service",
    "fsidd.service",
    "nfs-blkmap.service",
    "modprobe@.service",
    "dev-hugepages.mount",
    "dev-mqueue.mount",
    "sys-kernel-debug.mount",
    "sys-kernel-tracing.mount",
    "sys-fs-fuse-connections.mount",
    "sys-kernel-config.mount",
    "proc-sys-fs-binfmt_misc.automount",
    "systemd-binfmt.service",
    "systemd-modules-load.service",
    "systemd-sysusers.service",
    "systemd-tmpfiles-setup-dev.service",
    "systemd-tmpfiles-setup-dev-early.service",
    "systemd-udevd.service",
    "systemd-udevd-control.socket",
    "systemd-udevd-kernel.socket",
    "systemd-udev-trigger.service",
    "systemd-udev-load-credentials.service",
    "ldconfig.service",
    "systemd-journal-catalog-update.service",
    "systemd-update-done.service",
    "run-lock.mount",
)

#: Takes the tests' programs from the second disk and runs the agent (vm_agent.py).
AGENT = """\
#!/bin/sh
mkdir -p /run/tests
tar -C /run/tests -xf /dev/vdb --no-same-owner
exec /usr/bin/python3 -I -S -B /run/tests/vm_agent.py
"""

AGENT_UNIT = """\
[Unit]
Description=Agent of the tests
DefaultDependencies=no
After=systemd-remount-fs.service systemd-tmpfiles-setup.service

[Service]
ExecStart=/usr/local/sbin/tests-agent
KillMode=process
OOMScoreAdjust=-1000
TasksMax=infinity
LimitNOFILE=65536

[Install]
WantedBy=sysinit.target
"""

#: The whole system of a machine that needs no systemd: the agent is its first process.
LEAN_INIT = """\
#!/bin/sh
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t tmpfs tmpfs /run
mkdir -p /dev/pts /dev/shm /run/lock /run/rpcbind /run/sendsigs.omit.d
mount -t devpts devpts /dev/pts
exec /usr/local/sbin/tests-agent
"""

#: The initial RAM disk's only program. Debian's own would do, but takes seconds of an emulated processor.
RAM_DISK_INIT = """\
#!/bin/busybox sh
/bin/busybox mount -t devtmpfs dev /dev
/bin/busybox mount -t proc proc /proc
for module in /modules/*; do /bin/busybox insmod "$module"; done
/bin/busybox mount -t ext4 -o noatime /dev/vda /new
init=/sbin/init
case "$(/bin/busybox cat /proc/cmdline)" in *tests.lean*) init=/usr/local/sbin/tests-lean-init ;; esac
/bin/busybox umount /proc
/bin/busybox mount --move /dev /new/dev
exec /bin/busybox switch_root /new "$init"
"""

#: Makes the new root, $1, ready; what it installs lies beside it.
CUSTOMIZE = f"""\
#!/bin/sh
set -e
here=$(dirname "$0")
echo vm >"$1/etc/hostname"
printf '127.0.0.1 localhost\\n127.0.1.1 vm\\n' >"$1/etc/hosts"
cp "$here/tests-agent.service" "$1/etc/systemd/system/"
install "$here/tests-agent" "$here/tests-lean-init" "$1/usr/local/sbin/"
chroot "$1" systemctl --quiet enable ssh tests-agent
chroot "$1" systemctl --quiet mask {" ".join(MASKED)}
mkdir -p "$1/etc/systemd/journald.conf.d"
# The agent takes rsyslog's place: it passes on what the journal hands over.
printf '[Journal]\\nStorage=volatile\\nForwardToSyslog=yes\\nRateLimitBurst=0\\n' >"$1/etc/systemd/journald.conf.d/tests.conf"
: >"$1/etc/machine-id"
# The initial RAM disk.
mkdir -p "$here/ram/bin" "$here/ram/dev" "$here/ram/proc" "$here/ram/new" "$here/ram/modules"
cp "$1/bin/busybox" "$here/ram/bin/"
install "$here/init" "$here/ram/init"
version=$(ls "$1/lib/modules")
number=10
for module in $(chroot "$1" modprobe -S "$version" --show-depends --all {MODULES} | awk '$1 == "insmod" {{ print $2 }}'); do
	case $module in
	*.xz) xz -dc "$1$module" >"$here/ram/modules/$number" ;;
	*) cp "$1$module" "$here/ram/modules/$number" ;;
	esac
	number=$((number + 1))
done
mv "$here/ram" "$1/tmp/ram"
chroot "$1" sh -c 'cd /tmp/ram && find . | cpio --quiet -o -H newc' >"$here/initrd.img"
rm -r "$1/tmp/ram"
"""


def image_directory(suite, today=None):
    """The directory of a suite's current image; it may not exist yet. Made anew each week, as roots are."""
    week = "{0[0]}w{0[1]:02}".format((today or datetime.date.today()).isocalendar())
    recipe = [*PACKAGES, *sources(suite), AGENT, AGENT_UNIT, LEAN_INIT, RAM_DISK_INIT, CUSTOMIZE]
    return IMAGES / f"{suite}-{week}-{hashlib.sha256(chr(10).join(recipe).encode()).hexdigest()[:10]}"


def build_image(suite):
    """Make the suite's image unless it is there; returns its directory."""
    directory = image_directory(suite)
    if directory.is_dir():
        return directory
    print(f"==> making a Debian {suite} virtual machine", file=sys.stderr, flush=True)
    IMAGES.mkdir(parents=True, exist_ok=True)
    partial = directory.with_name(directory.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    with tempfile.TemporaryDirectory(prefix="vm-root-", dir=IMAGES) as work:
        _fill(Path(work), partial, suite)
    partial.rename(directory)
    for old in IMAGES.glob(f"{suite}-*"):
        if old != directory:
            shutil.rmtree(old, ignore_errors=True)
    return directory


def _fill(work, target, suite):
    root = work / "root"
    for name, text in (
        ("tests-agent.service", AGENT_UNIT),
        ("tests-agent", AGENT),
        ("tests-lean-init", LEAN_INIT),
        ("init", RAM_DISK_INIT),
        ("customize", CUSTOMIZE),
    ):
        (work / name).write_text(text)
    (work / "customize").chmod(0o755)
    _run(
        "mmdebstrap",
        "--quiet",
        "--mode=root",
        "--variant=minbase",
        f"--include={','.join(PACKAGES)}",
        '--aptopt=Apt::Install-Recommends "false"',
        "--dpkgopt=force-unsafe-io",
        # The machine gets an initial RAM disk of its own.
        '--essential-hook=mkdir -p "$1/etc/initramfs-tools/conf.d"',
        '--essential-hook=echo MODULES=list >"$1/etc/initramfs-tools/conf.d/tests"',
        f'--customize-hook={work}/customize "$1"',
        "--skip=cleanup/apt/lists",
        suite,
        str(root),
        *sources(suite),
    )
    kernel = next((root / "boot").glob("vmlinuz-*"))
    (target / "vmlinux").write_bytes(unpacked_kernel(kernel.read_bytes()))
    shutil.copy(work / "initrd.img", target / "initrd.img")
    image = target / "root.img"
    with open(image, "wb") as file:
        os.truncate(file.fileno(), 5 << 30)
    _run("mke2fs", "-q", "-t", "ext4", "-m", "0", "-E", "lazy_itable_init=0,nodiscard", "-d", str(root), str(image))


def unpacked_kernel(image):
    """The ELF file in a bzImage (Linux, Documentation/arch/x86/boot.rst).

    qemu enters it directly by PVH, and no emulated processor has to unpack it.
    """
    sectors = image[0x1F1] or 4
    offset, length = struct.unpack_from("<II", image, 0x248)
    start = (sectors + 1) * 512 + offset
    payload = image[start : start + length - 4]
    tools = {b"\x02\x21": "lz4", b"\xfd\x37": "xz", b"\x28\xb5": "zstd", b"\x1f\x8b": "gzip"}
    done = subprocess.run([tools[payload[:2]], "-dc"], input=payload, stdout=subprocess.PIPE, check=False)
    if not done.stdout.startswith(b"\x7fELF"):
        raise SystemExit("the kernel could not be unpacked")
    return done.stdout


def _run(*command):
    done = subprocess.run(command, stdin=subprocess.DEVNULL, check=False)
    if done.returncode:
        raise SystemExit(f"{command[0]} failed (status {done.returncode})")


if __name__ == "__main__":
    for name in sys.argv[1:] or SUITES:
        print(build_image(name))
