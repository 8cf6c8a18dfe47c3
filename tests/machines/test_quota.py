"""Quotas of homes on the bastion itself: ext4 and XFS, by project and by user."""

import re

import pytest

from lib.checks import filechecks
from lib.checks.files import Home
from lib.checks.place import sftp

#: How each file system is made, mounted, and asked; {device}, {target}. The disks are the machine's empty ones.
KINDS = {
    "ext4-project": (
        "mkfs.ext4 -q -E lazy_itable_init=1,nodiscard,quotatype=prjquota -O quota,project {device}",
        "prjquota",
        "repquota -P -v {target}",
    ),
    "xfs-project": ("mkfs.xfs -q -K -f {device}", "prjquota", "xfs_quota -x -c 'report -p -n -N' {target}"),
    "ext4-user": (
        "mkfs.ext4 -q -E lazy_itable_init=1,nodiscard -O quota {device}",
        "usrquota",
        "repquota -u -v -n {target}",
    ),
    "ext4-none": ("mkfs.ext4 -q -E lazy_itable_init=1,nodiscard {device}", "defaults", None),
}
PROJECTS = ("ext4-project", "xfs-project")
#: Shared by all users, so that only projects can tell the homes apart.
SHARED = '[accounts]\nuid = "fixed"\nfixed = [1000, 100]\n'
HOMES = '[homes]\nroot = "/srv/quota"\nmissing = "create"\nquota = ["1M", "2M"]\n'
MEGABYTE = 1 << 20


def of(*kinds):
    """Runs a test with file systems of these kinds; for the others nothing is made."""
    others = pytest.mark.skip("for " + ", ".join(kinds))
    return pytest.mark.parametrize(
        "filesystem",
        [pytest.param(kind, marks=() if kind in kinds else others) for kind in KINDS],
        indirect=True,
        scope="module",
    )


@pytest.fixture(scope="module")
def filesystem(request, shared_bastion):
    """A file system of this kind, mounted."""
    make, options, report = KINDS[request.param]
    device, target = "/dev/vdc", "/srv/quota"
    box = shared_bastion.box
    box.shell(
        f"wipefs -qa {device}; {make.format(device=device)}; mkdir -p {target}; mount -o {options} {device} {target}",
        timeout=120,
    )
    yield request.param, report and report.format(target=target)
    box.shell(f"umount {target}", timeout=60)


@pytest.fixture
def place(bastion, hub, users, filesystem):
    """Alice, whose home is made at her first login."""
    kind, _ = filesystem
    shared = kind in PROJECTS
    bastion.configure(hub.url, (SHARED if shared else "") + HOMES, reload=False)
    bastion.box.run("rm", "-rf", "/srv/quota/alice", "/srv/quota/bob")
    return users.place("alice", Home(bastion.box.output, "/srv/quota/alice"), (1000, 100) if shared else None)


def owned(place):
    """The place, whose owner is known once the home is made."""
    place.owner = tuple(map(int, place.home.run("stat", "-c", "%u %g", place.home.path).split()))
    return place


def limits(bastion, report):
    """(used, soft, hard) in KB of everything that has limits, as the system's own tools tell."""
    found = []
    for line in bastion.box.shell(report).splitlines():
        numbers = re.findall(r"(?<![\w.])\d+(?![\w.])", re.sub(r"^\S+\s", "", line))
        if len(numbers) >= 3 and int(numbers[2]):
            found.append(tuple(map(int, numbers[:3])))
    return found


@of(*PROJECTS, "ext4-user")
def test_limits_are_set_when_a_home_is_made(bastion, place, filesystem, users):
    sftp(place, "ls")
    assert [one[1:] for one in limits(bastion, filesystem[1])] == [(1024, 2048)], bastion.box.shell(filesystem[1])
    filechecks.check_ownership(owned(place))
    bob = users.place("bob", Home(bastion.box.output, "/srv/quota/bob"), place.owner)
    sftp(bob, "ls")
    assert [one[1:] for one in limits(bastion, filesystem[1])] == [(1024, 2048)] * 2


@of(*PROJECTS)
def test_df_shows_the_limit(place, filesystem):
    """By project; a user's quota isn't the file system's size (statvfs(3) knows nothing of it)."""
    sftp(place, "ls")
    size = int(sftp(place, "df").stdout.splitlines()[-1].split()[0])
    assert size in (1024, 2048)


@of(*PROJECTS, "ext4-user")
def test_a_full_home(bastion, place, filesystem, users):
    """The client is told, what was there stays whole, others are not concerned, and there is room after a removal."""
    with place.scratch() as here:
        (here / "small").write_bytes(b"precious" * 1000)
        (here / "large").write_bytes(b"x" * 3 * MEGABYTE)
        sftp(place, f"put {here}/small keep")
        failed = sftp(place, f"put {here}/large keep.new", check=False)
        assert failed.returncode and re.search(r"write remote .*keep\.new.*: \w+", failed.stderr), failed
        assert place.home.read("keep") == b"precious" * 1000
        partial = place.home.stat("keep.new").size
        assert partial <= 2 * MEGABYTE
        # A program that renames after a whole upload keeps the old file.
        assert sftp(place, f"put {here}/large other", check=False).returncode
        sftp(place, f"get keep {here}/back")
        assert (here / "back").read_bytes() == b"precious" * 1000
        bob = users.place("bob", Home(bastion.box.output, "/srv/quota/bob"), place.owner)
        sftp(bob, f"put {here}/small small")
        assert bob.home.read("small") == b"precious" * 1000
        sftp(place, "rm keep.new", "-rm other", f"put {here}/small again")
        assert place.home.read("again") == b"precious" * 1000


@of(*PROJECTS, "ext4-user")
def test_status_lists_homes_and_their_usage(bastion, place, filesystem):
    with place.scratch() as here:
        (here / "file").write_bytes(b"x" * 600 * 1024)
        sftp(place, f"put {here}/file file")
    bastion.box.run("sync", "-f", "/srv/quota")
    said = bastion.box.run("jupyterhub-openssh", "status", "alice").stdout
    line = next(line for line in said.splitlines() if "alice" in line)
    assert (
        re.search(r"60\d ?K|0\.[56]\d* ?M", line)
        and re.search(r"\b1(\.0)? ?M", line)
        and re.search(r"\b2(\.0)? ?M", line)
    ), said


@of("ext4-none")
def test_without_quotas_no_home_is_made(bastion, place, filesystem):
    """Rather than homes without the limits that the administrator asked for."""
    mark = bastion.syslog.mark()
    assert sftp(place, "ls", check=False).returncode
    bastion.syslog.wait(r"user=alice .*quota", mark)
    assert "alice" not in bastion.box.run("ls", "/srv/quota").stdout


@of("ext4-user")
def test_a_shared_uid_needs_projects(bastion, hub, place, filesystem):
    """By user, one home would use up what all others may hold."""
    bastion.configure(hub.url, SHARED + HOMES, reload=False)
    mark = bastion.syslog.mark()
    assert sftp(place, "ls", check=False).returncode
    bastion.syslog.wait(r"user=alice .*(prjquota|project)", mark)
    assert "alice" not in bastion.box.run("ls", "/srv/quota").stdout
