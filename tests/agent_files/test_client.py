"""OpenSSH's sftp client with our server, and with OpenSSH's: it must show the same and leave the same."""

import os
import random
import re
import shlex
import shutil
import subprocess

import pytest

from servers import FILES, STOCK, without_privileges

pytestmark = pytest.mark.skipif(not shutil.which("sftp"), reason="no sftp client is installed")
DAY = 1500000000


class Client:
    """A directory "local" and a directory "remote", and sftp between them."""

    def __init__(self, root, server):
        self.server, self.local, self.remote = server, root / "local", root / "remote"
        self.local.mkdir(parents=True)
        self.remote.mkdir()

    def run(self, *commands, ok=True, options=()):
        """Run a batch; what it shows."""
        done = subprocess.run(
            ["sftp", "-b", "-", *options, "-D", " ".join(map(shlex.quote, map(str, self.server)))],
            cwd=self.local,
            env={**os.environ, "HOME": str(self.remote)},
            input="\n".join(commands) + "\n",
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert (done.returncode == 0) == ok, (done.stdout, done.stderr)
        shown = (done.stdout + done.stderr).replace(str(self.local.parent), "@")
        return re.sub(r"\d\d:\d\d|\d+(\.\d+)?[KMG]?B/s", "#", shown)

    def tree(self):
        """Everything with mode, time and content."""
        found = {}
        for path in sorted([*self.local.rglob("*"), *self.remote.rglob("*")]):
            status = path.lstat()
            if path.is_symlink():
                content = os.readlink(path)
            else:
                content = path.read_bytes() if path.is_file() else None
            old = int(status.st_mtime) if status.st_mtime < DAY * 1.1 else "new"
            found[str(path.relative_to(self.local.parent))] = (oct(status.st_mode), status.st_nlink, old, content)
        return found


class Pair:
    """Two clients, with each of the servers."""

    def __init__(self, clients):
        self.clients = clients

    def each(self, function):
        for one in self.clients:
            function(one)

    def run(self, *commands, **options):
        shown = [one.run(*commands, **options) for one in self.clients]
        assert all(one == shown[0] for one in shown[1:]), shown
        return shown[0]

    def tree(self):
        trees = [one.tree() for one in self.clients]
        assert all(one == trees[0] for one in trees[1:]), trees
        return trees[0]


@pytest.fixture
def pair(python, tmp_path):
    made = [Client(tmp_path / "ours", [*without_privileges(), python, FILES])]
    if STOCK:
        made.append(Client(tmp_path / "them", ["env", "-C", tmp_path / "them/remote", *without_privileges(), STOCK]))
    return Pair(made)


def plant(root, seed=3, files=40):
    """A tree of files of all sizes, with modes and times."""
    rng = random.Random(seed)
    for directory in ("t", "t/a", "t/a/b c", "t/empty"):
        (root / directory).mkdir()
    for number in range(files):
        path = root / rng.choice(("t", "t/a", "t/a/b c")) / f"f {number}"
        path.write_bytes(rng.randbytes(rng.choice((0, 1, 1000, 32768, 32769, 261120, 300000))))
        path.chmod(rng.choice((0o644, 0o600, 0o755, 0o444)))
        os.utime(path, (DAY + number, DAY + number))
    (root / "t/\u00e4 \u2603").write_bytes(b"name")
    for path in [*(root / "t").rglob("*"), root / "t"]:
        if path.is_dir():
            os.utime(path, (DAY, DAY))


def test_trees_there_and_back(pair):
    pair.each(lambda one: plant(one.local))
    pair.run("put -rp t", "get -rp t back")
    tree = pair.tree()
    for name, entry in tree.items():
        if name.startswith("local/t/"):
            assert tree["remote" + name[5:]] == entry and tree["local/back" + name[7:]] == entry, name
    pair.run("put -r t second", "get -r second third")
    pair.tree()


@pytest.mark.parametrize("options", [(), ("-B", "1000", "-R", "3"), ("-B", "261120", "-R", "64")])
def test_large_file(pair, options):
    content = random.Random(7).randbytes(5000000)
    pair.each(lambda one: (one.local / "large").write_bytes(content))
    pair.run("put large", "get large again", options=options)
    assert pair.tree()["local/again"][3] == content


def test_resuming(pair):
    content = random.Random(8).randbytes(1000000)

    def prepare(one):
        for place, name in ((one.local, "up"), (one.remote, "down")):
            (place / name).write_bytes(content)
        (one.remote / "up").write_bytes(content[:300000])
        (one.local / "down").write_bytes(content[:777777])

    pair.each(prepare)
    pair.run("reput up", "reget down")
    tree = pair.tree()
    assert tree["remote/up"][3] == content and tree["local/down"][3] == content


def test_changing_things(pair):
    pair.each(lambda one: (one.local / "f").write_bytes(b"content"))
    pair.run(
        "put f",
        "mkdir d",
        "put f d/g",
        "rename f h",
        "rename h d/g",
        "ln -s d/g sl",
        "ln d/g hl",
        "chmod 640 d/g",
        "cd d",
        "pwd",
        "put ../local/f f",
        "rm f",
        "cd ..",
        "put -f f synced",
        "copy synced copied",
        "rename -l synced moved",
    )
    pair.tree()
    shown = pair.run("ls -la d", "ls -1", "ls -l sl", "ls -n", "ls -lS")
    assert "d/g" in shown
    pair.run("rmdir d", ok=False)
    pair.run("rm d/g", "rmdir d", "rm sl", "-rm missing", "ls -la")
    pair.tree()


@pytest.mark.parametrize(
    "command",
    [
        "mkdir there",
        "get missing",
        "cd missing",
        "cd file",
        "rm missing",
        "rm there",
        "rmdir file",
        "rmdir missing",
        "chown 12345 file",
        "chgrp 54321 file",
        "chmod 600 missing",
        "rename missing x",
        "rename file there",
        "ln missing x",
        "ln file there",
        "ln -s x file",
        "put f missing/x",
        "get there",
        "df missing",
        "ls missing",
        "mkdir missing/x",
        "get locked/x",
        "put f locked/x",
        "ls locked",
        "copy file there",
        "copy missing x",
        "ls -l file/x",
        "rename -l file there",
    ],
)
def test_failures(pair, command):
    def prepare(one):
        (one.local / "f").write_bytes(b"f")
        (one.remote / "there").mkdir()
        (one.remote / "there/inside").write_bytes(b"")
        (one.remote / "file").write_bytes(b"file")
        (one.remote / "locked").mkdir(mode=0)

    pair.each(prepare)
    pair.run(command, ok=False)
    pair.each(lambda one: (one.remote / "locked").chmod(0o700))
    pair.tree()


def test_begins_at_home(pair):
    pair.each(lambda one: (one.remote / "file").write_bytes(b"home"))
    assert "@/remote" in pair.run("pwd", "get file", "cd /", "pwd", "cd /tmp/..", "pwd")
    assert pair.tree()["local/file"][3] == b"home"


def test_df(pair):
    for one in pair.clients:
        assert "%" in one.run("df -h") and "%" in one.run("df -hi .")


def test_many_small_files(pair):
    def prepare(one):
        (one.local / "many").mkdir()
        for number in range(500):
            (one.local / "many" / f"{number}").write_bytes(b"%d" % number)

    pair.each(prepare)
    pair.run("put -r many", "get -r many back", "ls -l many")
    tree = pair.tree()
    assert all(tree[f"local/back/{number}"][3] == b"%d" % number for number in range(500))
