"""What must hold of files over SSH, wherever the homes are: each check takes a Place and fails or returns.

The same checks run against homes on a local file system, on NFS, and against stock sshd for comparison.
A check leaves nothing behind in the home. Here are those with OpenSSH's sftp; other clients are in
lib.checks.clientchecks.
"""

import hashlib
import os
import signal
import time

from lib.checks.clientchecks import (  # noqa: F401
    CLIENTS,
    check_lftp,
    check_paramiko,
    check_rclone,
    check_rsync,
    check_scp,
    check_scp_of_old,
    check_sshfs,
)
from lib.checks.files import AWKWARD_NAMES, checksum, make_random, make_tree, sha256
from lib.checks.place import LONG_AGO, Place, all_owned, leaves_nothing, quoted, same_tree, sftp, sftp_command  # noqa: F401
from lib.wait import wait_for


def timed(call, *arguments, **options):
    """How long a call takes, in seconds."""
    start = time.monotonic()
    call(*arguments, **options)
    return time.monotonic() - start


@leaves_nothing
def check_put_and_get(place):
    """A file up and down again: bytes, owner, group, mode by the umask; over a longer one; an empty one."""
    with place.scratch() as here:
        for name, data in (("long", b"0123456789abcdef" * 100_000), ("short", b"x"), ("empty", b"")):
            (here / name).write_bytes(data)
            (here / name).chmod(0o666)
        said = sftp(
            place,
            "pwd",
            *(
                line
                for name in ("long", "short", "empty")
                for line in (
                    f"put {here}/{name} file",
                    f"get file {here}/{name}.back",
                    f"put {here}/{name} {place.shown}/{name}",
                )
            ),
        )
        assert f"working directory: {place.shown}\n" in said.stdout
        for name in ("long", "short", "empty"):
            stored = place.home.stat(name)
            assert stored.sha256 == sha256(here / name) == sha256(here / f"{name}.back"), name
            assert (stored.uid, stored.gid) == place.owner, stored
            assert stored.mode == 0o666 & ~place.umask, oct(stored.mode)
        assert place.home.stat("file").size == 0, "the file was not truncated"


@leaves_nothing
def check_resume(place):
    """reput and reget continue a partial file, and leave what is there alone."""
    with place.scratch() as here:
        whole = make_random(here / "whole", 3_000_000)
        data = (here / "whole").read_bytes()
        (here / "part").write_bytes(data[:1_234_567])
        (here / "back").write_bytes(data[:2_345_678])
        sftp(place, f"put {here}/part file", f"reput {here}/whole file", f"reget file {here}/back")
        assert place.home.stat("file").sha256 == whole == sha256(here / "back")


@leaves_nothing
def check_rename_over(place):
    """rename replaces an existing file at once; SFTP's plain rename refuses to, and both files stay whole."""
    with place.scratch() as here:
        (here / "new").write_bytes(b"new")
        (here / "old").write_bytes(b"old")
        sftp(place, f"put {here}/new new", f"put {here}/old old", "rename new old", f"put {here}/old other")
        assert place.home.stat("new") is None and place.home.read("old") == b"new"
        sftp(place, "-rename -l other old", "mkdir directory", "rename other directory/other", "rename directory moved")
        assert place.home.read("old") == b"new" and place.home.read("moved/other") == b"old"


@leaves_nothing
def check_symlinks(place):
    """Links are made, followed within the home, removed without their targets; dangling ones are no trouble."""
    with place.scratch() as here:
        (here / "file").write_bytes(b"data")
        listing = sftp(
            place,
            "mkdir directory",
            f"put {here}/file directory/file",
            "ln -s directory/file link",
            "ln -s directory folder",
            "ln -s nowhere dangling",
            f"ln -s {place.shown}/directory absolute",
            f"get link {here}/one",
            f"get folder/file {here}/two",
            f"get absolute/file {here}/three",
            f"put {here}/file folder/more",
            f"-get dangling {here}/four",
            "ls -l",
        ).stdout
        assert [(here / name).read_bytes() for name in ("one", "two", "three")] == [b"data"] * 3
        assert not (here / "four").exists()
        tree = place.home.tree()
        assert {name: tree[name].target for name in ("link", "folder", "dangling")} == {
            "link": "directory/file",
            "folder": "directory",
            "dangling": "nowhere",
        }
        assert tree["directory/more"].size == 4 and listing.count("\nl") + listing.startswith("l") == 4, listing
        sftp(place, "rm link", "rm folder", "rm dangling")
        assert place.home.stat("directory/file").size == 4 and place.home.stat("link") is None


@leaves_nothing
def check_hard_links(place):
    """ln without -s makes a second name of the same file."""
    with place.scratch() as here:
        (here / "file").write_bytes(b"data")
        sftp(place, f"put {here}/file one", "ln one two", "rm one")
        assert place.home.read("two") == b"data" and place.home.stat("one") is None


@leaves_nothing
def check_permissions(place):
    """chmod works, -p keeps modes both ways, a file without permissions cannot be read, chown to others is refused."""
    modes = (0o600, 0o644, 0o755, 0o440, 0o777)
    with place.scratch() as here:
        for mode in modes:
            (here / f"{mode:o}").write_bytes(b"data")
            (here / f"{mode:o}").chmod(mode)
        sftp(
            place,
            *(f"put -p {here}/{mode:o} {mode:o}" for mode in modes),
            *(f"get -p {mode:o} {here}/back-{mode:o}" for mode in modes),
        )
        for mode in modes:
            assert place.home.stat(f"{mode:o}").mode == mode == (here / f"back-{mode:o}").stat().st_mode & 0o7777
        sftp(
            place,
            "mkdir directory",
            "chmod 750 directory",
            "chmod 2755 644",
            "chmod 000 600",
            "-chown 0 755",
            "-chgrp 0 755",
            f"-get 600 {here}/unreadable",
        )
        assert place.home.stat("directory").mode == 0o750 and place.home.stat("600").mode == 0
        assert not (here / "unreadable").exists() or not (here / "unreadable").stat().st_size
        stored = place.home.stat("755")
        assert (stored.uid, stored.gid) == place.owner, stored
        assert sftp(place, "chown 0 755", check=False).returncode, "chown was not refused"


@leaves_nothing
def check_timestamps(place):
    """-p keeps the time of modification both ways, of directories too; without it that is now."""
    with place.scratch() as here:
        (here / "tree").mkdir()
        (here / "tree/file").write_bytes(b"data")
        for name in ("tree/file", "tree"):
            os.utime(here / name, (LONG_AGO, LONG_AGO))
        sftp(place, f"put -pr {here}/tree kept", f"put {here}/tree/file new", f"get -pr kept {here}/back")
        now = int(place.home.run("date", "+%s"))
        assert place.home.stat("kept/file").mtime == LONG_AGO == int((here / "back/file").stat().st_mtime)
        assert place.home.stat("kept").mtime == LONG_AGO == int((here / "back").stat().st_mtime)
        assert abs(place.home.stat("new").mtime - now) < 120


@leaves_nothing
def check_ownership(place):
    """Files, directories and links of the user belong to `place.owner` where they are stored."""
    with place.scratch() as here:
        (here / "file").write_bytes(b"data")
        sftp(
            place,
            "mkdir own",
            f"put {here}/file own/file",
            "mkdir own/deeper",
            "ln -s file own/link",
            "ln own/file own/hard",
            f"put -p {here}/file own/deeper/file",
        )
        all_owned(place, "own")
        assert len(place.home.tree("own")) == 5
        assert (lambda one: (one.uid, one.gid))(place.home.stat("own")) == place.owner


@leaves_nothing
def check_awkward_names(place):
    """Names with spaces, UTF-8, newlines, control characters, leading dashes arrive and come back as they are."""
    with place.scratch() as here:
        (here / "tree").mkdir()
        for number, name in enumerate(AWKWARD_NAMES):
            (here / "tree" / name).write_text(str(number))
        (here / "tree/with a\nnewline").mkdir()
        (here / "tree/with a\nnewline/-f").write_text("x")
        sftp(place, f"put -r {here}/tree {quoted('awk ward')}", f"get -r {quoted('awk ward')} {here}/back")
        same_tree(place, "awk ward", here / "tree")
        same_tree(place, "awk ward", here / "back")
    with place.paramiko() as files:
        # paramiko takes names for UTF-8.
        text = {name for name in AWKWARD_NAMES if name.isprintable() or "\n" in name or "\x1b" in name}
        for name in text:
            path = f"awk ward/{name}"
            assert files.stat(path).st_size == files.lstat(path).st_size
            files.rename(path, "moved")
            files.posix_rename("moved", path)
            files.remove(path)
        assert not text & set(place.home.names("awk ward"))


@leaves_nothing
def check_statvfs(place):
    """df in sftp shows the size of the file system that the home is on."""
    kilobytes = int(sftp(place, "df").stdout.splitlines()[-1].split()[0])
    unit, blocks = map(int, place.home.run("stat", "-f", "-c", "%S %b", place.home.path).split())
    assert kilobytes == unit * blocks // 1024


@leaves_nothing
def check_small_files(place, count=10_000):
    """put -r and get -r of many small files: names, bytes and owners equal on both sides. Both times, in s."""
    with place.scratch() as here:
        make_tree(here / "many", count)
        up = timed(sftp, place, f"put -r {here}/many many", timeout=600)
        same_tree(place, "many", here / "many")
        all_owned(place, "many")
        down = timed(sftp, place, f"get -r many {here}/back", timeout=600)
        same_tree(place, "many", here / "back")
    return up, down


@leaves_nothing
def check_big_file(place, size=4 << 30, seconds=240):
    """A big file of real bytes up and down within `seconds` each: checksums equal. Both times, in s.

    The limit is for a machine that is busy with other tests: one with nothing else to do needs 15 to 60.
    """
    quick = ("-c", "aes128-gcm@openssh.com")
    with place.scratch() as here:
        wanted = make_random(here / "big", size, "blake2b")
        up = timed(sftp, place, f"put {here}/big big", timeout=2 * seconds, arguments=quick)
        (here / "big").unlink()
        assert place.home.blake2b("big") == wanted
        down = timed(sftp, place, f"get big {here}/back", timeout=2 * seconds, arguments=quick)
        assert checksum(here / "back", "blake2b") == wanted
    assert max(up, down) <= seconds, f"{size} bytes took {up:.1f} s up and {down:.1f} s down"
    return up, down


@leaves_nothing
def check_beyond_four_gigabytes(place):
    """Offsets that need more than 32 bits; the file is sparse, so that it costs no time."""
    end = (4 << 30) + 12_345
    place.home.run("truncate", "-s", str(end), place.home.at("large"))
    place.home.run("chown", "{}:{}".format(*place.owner), place.home.at("large"))
    with place.paramiko() as files:
        with files.open("large", "r+") as file:
            file.seek(end)
            file.write(b"behind")
            file.seek(end - 3)
            assert file.read(100) == b"\0\0\0behind"
        assert files.stat("large").st_size == end + 6
    assert place.home.run("tail", "-c", "9", place.home.at("large")) == b"\0\0\0behind"


@leaves_nothing
def check_broken_transfer(place, size=64 << 20, breaking=None, under_way=None):
    """The client is killed in mid-put (or `breaking(client)` ends it): what arrived is a prefix, reput completes it.

    `under_way()` tells that a part has been written, where the home on the server shows it too late.
    """
    with place.scratch() as here:
        whole = make_random(here / "whole", size)
        (here / "batch").write_text(f"put {here}/whole file\n")
        # Limited to 4 MB/s, so that the end comes in the middle.
        command = [str(here / "batch") if part == "-" else part for part in sftp_command(place, "-l", "32000")]
        client = place.start(command)
        try:
            size_there = lambda: (place.home.stat("file", sums=False) or client).__dict__.get("size", 0)  # noqa: E731
            wait_for(under_way or (lambda: size_there() > 2_000_000), "the transfer is under way", 30)
            if breaking:
                breaking(client)
            else:
                os.killpg(client.pid, signal.SIGKILL)
            status = client.wait(30)
            assert status, "the client must say that the transfer failed"
        finally:
            if client.poll() is None:
                os.killpg(client.pid, signal.SIGKILL)
                client.wait()
        wait_for(lambda: unchanged(place, "file"), "nobody writes to the file any more", 30)
        stored = place.home.stat("file")
        assert 0 < stored.size < size, "the transfer was not broken in the middle"
        with open(here / "whole", "rb") as file:
            assert hashlib.sha256(file.read(stored.size)).hexdigest() == stored.sha256, "not a prefix"
        sftp(place, f"reput {here}/whole file")
        assert place.home.stat("file").sha256 == whole


def unchanged(place, name):
    """Whether a file's size stays as it is for half a second."""
    before = place.home.stat(name, sums=False)
    time.sleep(0.5)
    return place.home.stat(name, sums=False) == before


#: Checks that are quick, for a parametrized test.
QUICK = (
    check_put_and_get,
    check_resume,
    check_rename_over,
    check_symlinks,
    check_hard_links,
    check_permissions,
    check_timestamps,
    check_ownership,
    check_awkward_names,
    check_statvfs,
)
