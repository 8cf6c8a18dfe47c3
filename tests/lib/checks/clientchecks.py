"""Checks of lib.checks.filechecks' kind with other clients than OpenSSH's sftp."""

import io
import os
import shlex
import signal

from lib.actors.sshfs import Sshfs
from lib.checks.files import make_random, make_tree, sha256
from lib.checks.place import LONG_AGO, all_owned, leaves_nothing, same_tree
from lib.wait import wait_for


def made_tree(here, count=120):
    """A local tree with what copying tools like to get wrong."""
    tree = make_tree(here / "tree", count, per_directory=40)
    (tree / "a name with spaces and ü").write_text("x")
    (tree / "empty directory").mkdir()
    (tree / "d000/f00007").chmod(0o755)
    os.utime(tree / "d000/f00008", (LONG_AGO, LONG_AGO))
    return tree


def copy_both_ways(place, copy, here, tree):
    """`copy(from, to)` takes the local tree there and back; remote names begin with a colon."""
    copy(tree, ":tree")
    same_tree(place, "tree", tree)
    all_owned(place, "tree")
    copy(":tree", here / "back")
    same_tree(place, "tree", here / "back")


def remote(place, name):
    """A name as scp and rsync take it: `:x` is x in the home."""
    return f"{place.host}{name}" if str(name).startswith(":") else str(name)


def _scp(place, *flags):
    with place.scratch() as here:

        def copy(source, target):
            place.run(place.command("scp", *flags, "-r", "-p", remote(place, source), remote(place, target)))

        tree = made_tree(here)
        (tree / "link").symlink_to("d000/f00001")  # scp follows it
        copy(tree, ":tree")
        copy(":tree", here / "back")
        (tree / "link").unlink()
        (tree / "link").write_bytes((tree / "d000/f00001").read_bytes())
        same_tree(place, "tree", tree)
        same_tree(place, "tree", here / "back")
        all_owned(place, "tree")
        assert place.home.stat("tree/d000/f00007").mode == 0o755
        assert place.home.stat("tree/d000/f00008").mtime == LONG_AGO == int((here / "back/d000/f00008").stat().st_mtime)
        # Whoever the server knows by that name, or nobody.
        copy(f":~{place.user}/tree/link", here / "link")
        copy(here / "link", f":~{place.user}/tree/d000/again")
        assert (here / "link").read_bytes() == (tree / "link").read_bytes() == place.home.read("tree/d000/again")
        missing = place.run(place.command("scp", *flags, f"{place.host}:missing", here), check=False)
        assert missing.returncode and "missing" in missing.stderr, missing


@leaves_nothing
def check_scp(place):
    """OpenSSH's scp in its SFTP mode, both ways, -r and -p."""
    _scp(place)


@leaves_nothing
def check_scp_of_old(place):
    """scp -O both ways; files.rsync must be true."""
    _scp(place, "-O")


@leaves_nothing
def check_paramiko(place):
    """paramiko: the calls that programs use, random access, many requests at once, many open files."""
    with place.paramiko() as files:
        assert files.normalize(".") == place.shown
        data = os.urandom(2_000_000)
        assert files.putfo(io.BytesIO(data), "file").st_size == len(data)
        back = io.BytesIO()
        files.getfo("file", back)
        assert back.getvalue() == data
        with files.open("file", "r+") as file:
            file.seek(1_000_000)
            file.write(b"changed")
            file.truncate(1_000_010)
            file.seek(999_999)
            assert file.read() == data[999_999:1_000_000] + b"changed" + data[1_000_007:1_000_010]
            assert [bytes(part) for part in file.readv([(0, 5), (10, 5)])] == [data[:5], data[10:15]]
        with files.open("file", "a") as file:
            file.write(b"appended")
        assert place.home.read("file").endswith(b"appended") and place.home.stat("file").size == 1_000_018
        files.mkdir("directory", 0o700)
        files.symlink("../file", "directory/link")
        assert files.readlink("directory/link") == "../file"
        assert files.stat("directory/link").st_size == 1_000_018 and files.lstat("directory/link").st_size == 7
        files.utime("file", (LONG_AGO, LONG_AGO))
        files.chmod("file", 0o640)
        stored = place.home.stat("file")
        assert (stored.mtime, stored.mode, stored.uid, stored.gid) == (LONG_AGO, 0o640, *place.owner)
        for refused in (
            lambda: files.rmdir("directory"),
            lambda: files.open("missing"),
            lambda: files.mkdir("directory"),
        ):
            try:
                refused()
            except OSError:
                continue
            raise AssertionError("this must fail")
        opened = [files.open(f"directory/f{number}", "wx") for number in range(60)]
        for number, file in enumerate(opened):
            file.set_pipelined(True)
            file.write(str(number) * 1000)
        for file in opened:
            file.close()
        listed = {one.filename: one.st_size for one in files.listdir_iter("directory")}
        assert len(listed) == 61 and listed["f7"] == 1000 and listed["f42"] == 2000


PROGRAM = r"""#include <stdio.h>
#include "greeting.h"
int main(void) { puts(GREETING); return 0; }
"""
MAKEFILE = (
    "CFLAGS = -O2 -Wall\nall: hello other\n%: %.c greeting.h\n\t$(CC) $(CFLAGS) -o $@ $<\nclean:\n\trm -f hello other\n"
)


@leaves_nothing
def check_sshfs(place):
    """sshfs: a git clone, a build and a commit in the mount, then renames over, appending and truncating."""
    with place.scratch() as here:
        source = make_tree(here / "source", 150, per_directory=50)
        for name, text in (
            ("hello.c", PROGRAM),
            ("other.c", PROGRAM),
            ("greeting.h", '#define GREETING "built"\n'),
            ("Makefile", MAKEFILE),
        ):
            (source / name).write_text(text)
        with Sshfs(place, here / "mount") as mount:
            git = ("git", "-c", "init.defaultBranch=main", "-c", "commit.gpgsign=false")
            mount.run(*git, "init", "--quiet", cwd=source)
            mount.run(*git, "add", ".", cwd=source)
            mount.run(*git, "commit", "--quiet", "-m", "first", cwd=source)
            mount.run(*git, "clone", "--quiet", f"file://{source}", "clone")
            clone = mount.point / "clone"
            assert mount.run(*git, "status", "--porcelain", cwd=clone) == ""
            mount.run("make", "--silent", cwd=clone)
            assert mount.run("./hello", cwd=clone) == "built\n"
            # SFTP tells times in whole seconds: too coarse for make in a test.
            mount.run(
                "sh",
                "-ec",
                "echo '#define GREETING \"again\"' >greeting.h; touch -d '5 seconds' greeting.h; "
                "make --silent 2>&1; ./other >said",
                cwd=clone,
            )
            assert place.home.read("clone/said") == b"again\n"
            mount.run("make", "--silent", "clean", cwd=clone)
            mount.run(*git, "commit", "--quiet", "-am", "second", cwd=clone)
            mount.run(*git, "fsck", "--strict", cwd=clone)
            mount.run(
                "sh",
                "-ec",
                "echo one >a; echo two >b; mv b a; echo three >>a; truncate -s 6 a; rm -r clone/d000; "
                "ln -s a link; cp -a clone copy; test -h link",
            )
            assert place.home.read("a") == b"two\nth"
            assert mount.run("df", "--output=size", ".").split()[-1].isdigit()
        all_owned(place, "copy")
        assert place.home.stat("clone/d000") is None and place.home.stat("copy/.git/HEAD").size


@leaves_nothing
def check_rclone(place):
    """rclone copies both ways, finds no difference and removes what is gone."""
    with place.scratch() as here:
        obscured = place.run(["rclone", "obscure", place.token]).stdout.strip()
        (here / "rclone.conf").write_text(
            f"[place]\ntype = sftp\nhost = {place.host}\nport = {place.port or place.bastion.PORT}\n"
            f"user = {place.user}\npass = {obscured}\n{place.rclone}"
        )

        def rclone(*arguments):
            command = (
                "rclone",
                "--config",
                here / "rclone.conf",
                "--quiet",
                "--checkers",
                "2",
                "--transfers",
                "2",
                *arguments,
            )
            return place.run(place.client.network.client.command(*command))

        tree = made_tree(here)
        copy_both_ways(
            place,
            lambda source, target: rclone(
                "copy",
                "--create-empty-src-dirs",
                *(f"place{one}" if str(one).startswith(":") else one for one in (source, target)),
            ),
            here,
            tree,
        )
        rclone("check", "--download", tree, "place:tree")
        assert place.home.stat("tree/d000/f00008").mtime == LONG_AGO
        (tree / "d000/f00001").unlink()
        rclone("sync", "--create-empty-src-dirs", tree, "place:tree")
        same_tree(place, "tree", tree)


@leaves_nothing
def check_lftp(place):
    """lftp mirrors both ways."""
    with place.scratch() as here:
        ssh = shlex.join(place.ssh_words())

        def lftp(command):
            (here / "script").write_text(
                "set cmd:fail-exit yes\nset net:max-retries 1\nset sftp:auto-confirm yes\n"
                f'set sftp:connect-program "{ssh} -a -x"\n'
                f"open -u '{place.user},{place.token}' sftp://{place.host}:{place.port or place.bastion.PORT}\n{command}\n"
            )
            # Without the askpass program: lftp answers the prompt itself, on a terminal of its own.
            place.run(
                place.client.network.client.command("lftp", "--norc", "-f", here / "script"),
                env={"SSH_ASKPASS_REQUIRE": "never"},
            )

        def copy(source, target):
            up = ["-R"] if str(target).startswith(":") else []
            lftp(shlex.join(["mirror", *up, str(source).lstrip(":"), str(target).lstrip(":")]))

        copy_both_ways(place, copy, here, made_tree(here))


def rsync_command(place, *arguments):
    """The command line of rsync in the client namespace; the home is `host:`."""
    return place.client.network.client.command("rsync", "-e", shlex.join(place.ssh_words()), *arguments)


@leaves_nothing
def check_rsync(place):
    """rsync -a both ways, --delete, --checksum, --partial; files.rsync must be true."""
    with place.scratch() as here:

        def rsync(*arguments, **options):
            return place.run(rsync_command(place, *arguments), **options)

        tree = made_tree(here, 1000)
        (tree / "link").symlink_to("d000/f00001")
        (tree / "--server").write_text("x")
        rsync("-a", f"{tree}/", f"{place.host}:tree/")
        same_tree(place, "tree", tree)
        all_owned(place, "tree")
        assert place.home.stat("tree/d000/f00008").mtime == LONG_AGO
        rsync("-a", f"{place.host}:tree", here / "back")
        same_tree(place, "tree", here / "back/tree")
        rsync("-a", f"{place.host}:~{place.user}/tree/--server", here / "named")
        assert (here / "named").read_text() == "x"
        (tree / "d000/f00001").unlink()
        (tree / "d000/f00002").write_text("changed")
        said = rsync("-avz", "--delete", "--checksum", "--itemize-changes", f"{tree}/", f"{place.host}:tree/").stdout
        assert "*deleting" in said and "f00002" in said and "f00003" not in said, said
        same_tree(place, "tree", tree)
        # Without owners, which differ: locally everything is root's.
        said = rsync("-rlptin", "--delete", "--checksum", f"{place.host}:tree/", f"{tree}/").stdout
        assert not said.strip(), said
        whole = make_random(here / "whole", 40_000_000)
        client = place.start(
            rsync_command(place, "--partial", "--inplace", "--bwlimit=8m", here / "whole", f"{place.host}:whole")
        )
        wait_for(
            lambda: (place.home.stat("whole", sums=False) or client).__dict__.get("size", 0) > 2_000_000,
            "rsync is under way",
            30,
        )
        os.killpg(client.pid, signal.SIGKILL)
        client.wait()
        rsync("--partial", "--append-verify", here / "whole", f"{place.host}:whole")
        assert place.home.stat("whole").sha256 == whole == sha256(here / "whole")


#: All clients but OpenSSH's sftp, as far as they need nothing to be configured.
CLIENTS = (check_scp, check_paramiko, check_sshfs, check_rclone, check_lftp)
