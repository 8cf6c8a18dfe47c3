#!/usr/bin/env python3
"""Writes src/common/tests/vectors.tsv from the real escapism and kubespawner.

Run it where both are installed (pip install escapism jupyterhub-kubespawner), and commit the result:

    python3 tests/vectors/make_vectors.py > src/common/tests/vectors.tsv
"""

import hashlib
import string
import sys
from importlib.metadata import version
from types import SimpleNamespace
from urllib.parse import quote

import escapism
from kubespawner import KubeSpawner

NAMES = [
    # plain
    "a",
    "x",
    "alice",
    "bob-1",
    "student01",
    "first.last",
    "under_score",
    "_service",
    "trailing-",
    "trailing.",
    "a-b",
    "a--b",
    "a---b",
    "a-b-c-d",
    "-leading",
    "--",
    "---",
    "x-1",
    "x--1",
    # upper case
    "Alice",
    "ALICE",
    "aliCe",
    "A",
    "Z9",
    "McDonald",
    # digits first
    "1",
    "007",
    "20231234",
    "1alice",
    "9-lives",
    "0x10",
    "2-" + "b" * 40,
    "3" * 48,
    "4" * 34 + "-" + "a" * 20,
    "5" * 33 + "-" + "a" * 20,
    "6" * 35 + "-" + "a" * 20,
    "7" * 36 + "-a",
    # e-mail
    "alice@example.org",
    "Alice.Smith@Example.ORG",
    "alice+tag@example.org",
    "a@b",
    "a@b@c",
    "@",
    "a@",
    "firstname.lastname@students.informatics.university.example.edu",
    # long
    "a" * 47,
    "a" * 48,
    "a" * 49,
    "a" * 63,
    "a" * 64,
    "a" * 128,
    "A" * 85,
    "A" * 128,
    "a" * 36 + "-" + "b" * 20,
    "a" * 37 + "-" + "b" * 20,
    "a" * 38 + "-b",
    "a" * 36 + "--b",
    "a" * 35 + "@@@@@b",
    "b" * 47 + "-",
    "c-" * 24,
    "d." * 40,
    # hostile
    ".",
    "..",
    "../../etc/passwd",
    "/",
    "/etc",
    "a/b",
    "a//b",
    "~root",
    "~",
    "a b",
    " a",
    "a ",
    "a\tb",
    "a\nb",
    "abc\n",
    "\n",
    "\r\n",
    "a\0b",
    "\x01",
    "\x7f",
    "a:b",
    "a;b",
    "$(id)",
    "`id`",
    "'",
    '"',
    "a\\b",
    "%2f",
    "%",
    "a%00b",
    "{username}",
    "*",
    "!",
    "#",
    "?",
    "&",
    "=",
    "+",
    "a+b",
    "a+",
    ",",
    "|",
    "<>",
    "()",
    "[]",
    "^",
    # every character of ASCII that can be seen
    string.digits + string.ascii_letters,
    string.punctuation,
    "tag+x@example.org",
    "t-a_g.0+x+y@example.org",
    # outside ASCII: case folding, combining characters, signs that fold to ASCII, four bytes
    "é",
    "Élodie",
    "ß",
    "ẞ",
    "İ",
    "ı",
    "ﬁ",
    "Σίσυφος",
    "ΑΣ",
    "\u212a",
    "\u212b",
    "日本語",
    "😀",
    "a\u0301",
    "\u202eabc",
    "\u00a0",
    "\uff41",
    "Ａ",
    "\u0660",
]


def kubespawner(name, scheme):
    """What a template's {username} becomes, by the spawner's own method."""
    spawner = KubeSpawner.__new__(KubeSpawner)
    fake = SimpleNamespace(
        name="", user=SimpleNamespace(name=name, id=1), slug_scheme=scheme, _namespace_default=lambda: "default"
    )
    return type(spawner)._expand_user_properties(fake, "{username}", slug_scheme=scheme)


def main():
    print("# Made by tests/vectors/make_vectors.py with", end=" ")
    print(f"escapism {version('escapism')}, kubespawner {version('jupyterhub-kubespawner')},", end=" ")
    print(f"Python {sys.version_info.major}.{sys.version_info.minor}")
    print("# name in hexadecimal of its UTF-8, {escaped}, {slug}, path segment, uid by hash, name as Python shows it")
    safe = set(string.ascii_lowercase + string.digits)
    low, high = 1879048192, 2147483646
    for name in NAMES:
        escaped = escapism.escape(name, safe=safe, escape_char="-").lower()
        assert escaped == kubespawner(name, "escape"), name
        number = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big")
        uid = low + number % (high - low + 1)
        fields = [name.encode().hex(), escaped, kubespawner(name, "safe"), quote(name, safe="@~"), uid, ascii(name)]
        print(*fields, sep="\t")


if __name__ == "__main__":
    main()
