"""Trees of files: made, compared, and looked at from the side where they are stored."""

import hashlib
import os
import re
import stat
from dataclasses import dataclass
from pathlib import Path

#: One letter for each kind of file, as `find -printf %y` writes it.
KINDS = {"f": stat.S_IFREG, "d": stat.S_IFDIR, "l": stat.S_IFLNK}


@dataclass(frozen=True)
class Entry:
    """What a file is: `kind` is find(1)'s letter (f, d, l, …), `sha256` a regular file's, `target` a link's."""

    kind: str
    mode: int
    uid: int
    gid: int
    size: int
    mtime: int
    sha256: str = ""
    target: str = ""


def contents(tree):
    """Of a tree only what a transfer without -p keeps: kinds, bytes and targets."""
    return {name: (one.kind, one.sha256, one.target) for name, one in tree.items()}


def difference(before, after):
    """The names in which two dictionaries differ, with both values; for messages. At most ten."""
    names = sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name))
    return [(name, before.get(name), after.get(name)) for name in names[:10]]


class Home:
    """A home as it is stored, whoever serves it.

    `run(*argv, input=None)` runs a command where it is stored, as root, with bytes in and bytes out, and
    raises where the command fails; `path` is the home's path there. It needs coreutils and findutils only.
    Names are relative to the home, and text whose undecodable bytes are surrogates (os.fsdecode).
    """

    def __init__(self, run, path):
        self._run, self.path = run, str(path)

    def at(self, name=""):
        """The absolute path of a file there."""
        return f"{self.path}/{name}" if name else self.path

    def run(self, *argv, input=None):
        """Run a command there; its standard output as bytes."""
        return self._run(*argv, input=input)

    def tree(self, name="", sums=True):
        """Everything below a directory (or the file itself, under the name ""), as {relative name: Entry}."""
        top = self.at(name)
        found = self.run("find", top, "-printf", r"%y/%m/%U/%G/%s/%T@/%P\0%l\0")
        sha256 = self._sums(top) if sums else {}
        fields, tree = found.split(b"\0")[:-1], {}
        for described, target in zip(fields[::2], fields[1::2]):
            kind, mode, uid, gid, size, mtime, relative = described.split(b"/", 6)
            relative = os.fsdecode(relative)
            tree[relative] = Entry(
                kind.decode(),
                int(mode, 8),
                int(uid),
                int(gid),
                int(size),
                int(float(mtime)),
                sha256.get(relative, ""),
                os.fsdecode(target),
            )
        if tree.get("") and tree[""].kind == "d":
            del tree[""]
        return tree

    def _sums(self, top):
        lines = self.run("find", top, "-type", "f", "-exec", "sha256sum", "--zero", "--", "{}", "+").split(b"\0")
        sums = {}
        for line in lines[:-1]:
            sum_, path = line[:64].decode(), os.fsdecode(line[66:])
            sums[path.removeprefix(top).lstrip("/")] = sum_
        return sums

    def stat(self, name, sums=True):
        """One file, which may be a directory or a link; None where there is none."""
        directory, _, base = self.at(name).rpartition("/")
        pattern = re.sub(r"([*?\[\]\\])", r"\\\1", base)
        found = self.run(
            "find", directory, "-maxdepth", "1", "-mindepth", "1", "-name", pattern, "-printf", r"%y/%m/%U/%G/%s/%T@/%l"
        )
        if not found:
            return None
        kind, mode, uid, gid, size, mtime, target = found.split(b"/", 6)
        sha256 = ""
        if kind == b"f" and sums:
            sha256 = self.run("sha256sum", "--zero", "--", self.at(name))[:64].decode()
        return Entry(
            kind.decode(), int(mode, 8), int(uid), int(gid), int(size), int(float(mtime)), sha256, os.fsdecode(target)
        )

    def blake2b(self, name):
        """A file's BLAKE2b checksum, as b2sum(1) has it: several times as quick as SHA-256 in coreutils."""
        return self.run("b2sum", "--zero", "--", self.at(name))[:128].decode()

    def read(self, name):
        """A file's bytes."""
        return self.run("cat", "--", self.at(name))

    def write(self, name, data, mode=0o644, owner=None):
        """Write a file; `owner` is (uid, gid)."""
        self.run("dd", "status=none", f"of={self.at(name)}", input=data.encode() if isinstance(data, str) else data)
        self._own(name, mode, owner)

    def mkdir(self, name="", mode=0o755, owner=None):
        """Make a directory (or the home itself), with those above it."""
        self.run("mkdir", "-p", "--", self.at(name))
        self._own(name, mode, owner)

    def _own(self, name, mode, owner):
        if owner is not None:
            self.run("chown", "--no-dereference", "{}:{}".format(*owner), "--", self.at(name))
        self.run("chmod", f"{mode:o}", "--", self.at(name))

    def symlink(self, target, name):
        """Make a symbolic link."""
        self.run("ln", "-s", "--", target, self.at(name))

    def remove(self, *names):
        """Remove files and directories, those that are not there too."""
        self.run("rm", "-rf", "--", *(self.at(name) for name in names))

    def names(self, name=""):
        """The names in a directory."""
        found = self.run("find", self.at(name), "-mindepth", "1", "-maxdepth", "1", "-printf", r"%f\0")
        return sorted(os.fsdecode(part) for part in found.split(b"\0")[:-1])


def local_home(path):
    """A directory of this machine (which may be reached through /proc/PID/root) as a Home."""
    import subprocess

    def run(*argv, input=None):
        options = {"stdin": subprocess.DEVNULL} if input is None else {"input": input}
        done = subprocess.run(
            [os.fsencode(part) for part in argv],
            capture_output=True,
            timeout=600,
            env={"PATH": "/usr/bin:/bin:/usr/sbin:/sbin", "LANG": "C.UTF-8"},
            **options,
        )
        if done.returncode:
            raise RuntimeError(f"{argv}: status {done.returncode}: {done.stderr.decode(errors='replace')}")
        return done.stdout

    return Home(run, path)


#: Names that are awkward for some layer, each legal on Linux.
AWKWARD_NAMES = (
    "with space",
    " leading and trailing ",
    "größer 大きい 😀",
    "e\u0301 decomposed",
    "two\nlines",
    "-rf",
    "--help",
    "~",
    "#hash",
    "'quote'",
    '"double"',
    "back\\slash",
    "*",
    "[x]?",
    "$(id)",
    "`id`",
    ";id",
    "|id",
    "&",
    "%s%n",
    "a" * 255,
    os.fsdecode(b"not-utf8-\xff\xfe"),
    "...",
    "tab\there",
    "esc\x1b[31m",
    "cr\rhere",
    ".hidden",
)


def make_tree(directory, count, size=0, per_directory=100):
    """Write `count` files of different bytes below a local directory; `size` 0: of 0 to 4 KB. Its path."""
    directory = Path(directory)
    for number in range(count):
        folder = directory / f"d{number // per_directory:03}"
        if number % per_directory == 0:
            folder.mkdir(parents=True)
        data = hashlib.sha256(str(number).encode()).digest() * 128
        (folder / f"f{number:05}").write_bytes(data[: size or number % 4097])
    return directory


def make_random(path, size, kind="sha256"):
    """A file of random bytes that cannot be compressed nor stored sparsely; returns its checksum."""
    digest, left = hashlib.new(kind), size
    # One block of the kernel's randomness, changed in each repetition: quick, and no two blocks are equal.
    block = bytearray(os.urandom(1 << 20))
    with open(path, "wb") as file:
        number = 0
        while left:
            block[:8] = number.to_bytes(8, "big")
            part = memoryview(block)[: min(left, len(block))]
            file.write(part)
            digest.update(part)
            left -= len(part)
            number += 1
    return digest.hexdigest()


def checksum(path, kind):
    """A local file's checksum, of hashlib's kind."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, kind).hexdigest()


def sha256(path):
    """A local file's checksum."""
    return checksum(path, "sha256")
