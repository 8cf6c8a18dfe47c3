"""Circles between the files of a crate, or between its rooms, read from the paths that they use.

Files that use each other can only be understood together. What several of them need belongs in a file below them.
A room is a folder beside `lib.rs`, or a file there: of a big crate only these are looked at.
Tests don't count, and neither does `mod x;`: it says where a file is, not that it is used.

    python -m lib.programs.circles      prints the circles; status 1 if there are any
"""

import re
import sys

from lib.paths import REPOSITORY

#: The crates without circles: the folder of `lib.rs` or `main.rs`.
CRATES = ("nss/src", "pam/src", "src/jail", "src/keys")
#: The crates whose rooms have none.
CRATES_WITH_ROOMS = ("src/gateway",)

TESTS = re.compile(r"(?ms)^#\[cfg\(test\)\]\n(?:#\[[^\n]*\]\n)*(?:pub(?:\([a-z]+\))? )?mod \w+ \{.*")
COMMENT_OR_STRING = re.compile(r'//[^\n]*|"(?:[^"\\]|\\.)*"')
#: A path, and what follows it: a group of paths after `::`.
PATH = re.compile(r"(?<![\w:$])((?:\w+::)+)(\{|\w*)")


def is_test(path):
    """True for a file that is only built for tests."""
    return path.stem == "tests" or path.stem.endswith("_tests")


def paths(text):
    """The paths in `text`, as lists of names, with `a::{b, c::d}` taken apart."""
    for match in PATH.finditer(text):
        names = match[1].split("::")[:-1]
        if match[2] == "{":
            for inner in members(text, match.end()):
                yield from (names + rest for rest in paths_of_member(inner))
        else:
            yield names + [match[2]]


def members(text, start):
    """The comma-separated members of the group whose `{` ends at `start`."""
    depth, begin = 0, start
    for at in range(start, len(text)):
        if text[at] == "{":
            depth += 1
        elif text[at] == "}" and depth:
            depth -= 1
        elif text[at] in ",}" and not depth:
            yield text[begin:at].strip()
            begin = at + 1
            if text[at] == "}":
                return


def paths_of_member(member):
    """The paths of one member of a group."""
    if "::" in member:
        # Its first name may stand alone before a group: `a::{b}`.
        yield from paths(member)
    elif member:
        yield [member.split()[0]]


class Crate:
    """The files of a crate, and which of them use which."""

    def __init__(self, folder):
        self.root = folder
        found = (file for file in sorted(folder.rglob("*.rs")) if not is_test(file))
        self.files = {self.module(file): file for file in found}

    def module(self, file):
        """The path of a file's module: `("a", "b")` for a/b.rs and for a/b/mod.rs."""
        parts = file.relative_to(self.root).with_suffix("").parts
        return parts[:-1] if parts[-1] in ("mod", "lib", "main") else parts

    def target(self, module, names):
        """The module that a path in `module` leads to, or `None` if that is not in this crate."""
        first, *rest = names
        if first == "crate":
            place = ()
        elif first in ("self", "super"):
            place = module[:-1] if first == "super" else module
            while rest and rest[0] == "super":
                place, rest = place[:-1], rest[1:]
        elif module + (first,) in self.files:
            place, rest = module, names
        else:
            return None
        while rest and place + (rest[0],) in self.files:
            place, rest = place + (rest[0],), rest[1:]
        return place if place in self.files else None

    def used(self, module):
        """The other modules that a module uses."""
        text = COMMENT_OR_STRING.sub("", self.files[module].read_text())
        found = {self.target(module, names) for names in paths(TESTS.sub("", text))}
        return found - {module, None}

    def arrows(self, depth=None):
        """Who uses whom: modules, or for a depth of 1 rooms. The crate's own file is the room `()`."""
        found = {}
        for module in self.files:
            room = module[:depth]
            found.setdefault(room, set()).update({used[:depth] for used in self.used(module)} - {room})
        return found

    def circles(self, depth=None):
        """Circles of modules or rooms, the shortest through each, every one once."""
        arrows = self.arrows(depth)
        seen = set()
        for start in arrows:
            ways = [(start,)]
            visited = set()
            while ways:
                way = ways.pop(0)
                if start in arrows[way[-1]]:
                    if frozenset(way) not in seen:
                        seen.add(frozenset(way))
                        yield way + (start,)
                    break
                for after in sorted(arrows[way[-1]] - visited):
                    visited.add(after)
                    ways.append(way + (after,))


def circles():
    """All circles, a line each."""
    for place in CRATES:
        crate = Crate(REPOSITORY / place)
        for circle in crate.circles():
            names = [str(crate.files[module].relative_to(crate.root)) for module in circle]
            yield f"{place}: a circle of files: {' -> '.join(names)}"
    for place in CRATES_WITH_ROOMS:
        for circle in Crate(REPOSITORY / place).circles(depth=1):
            yield f"{place}: a circle of rooms: {' -> '.join('::'.join(room) or 'the crate itself' for room in circle)}"


if __name__ == "__main__":
    found = list(circles())
    print("\n".join(found) or "no circles")
    sys.exit(bool(found))
