"""What the pages for people say is so: messages are ours, links lead somewhere."""

import re

import pytest
from conftest import REPOSITORY

#: Messages of ssh and sshd that users see, too.
STOCK = (
    "Permission denied",
    "Too many authentication failures",
    "REMOTE HOST IDENTIFICATION",
    "Connection reset",
    "closed",
    "scp",
    "sshfs",
    "ServerAliveInterval",
    "alice@bastion.example.org's password:",
    "Password:",
)
#: What the page writes where a program has a name.
NAMES = r"\b(?:[Aa]lice|gpu)\b"
PAGES = [
    *sorted(REPOSITORY.glob("*.md")),
    REPOSITORY / "tests/README.md",
    *sorted((REPOSITORY / "docs").rglob("*.md")),
    *sorted((REPOSITORY / "packaging").rglob("*.md")),
]


def test_the_messages_in_the_users_page_are_those_of_the_programs():
    text = (REPOSITORY / "docs/users.md").read_text().split("## When something is wrong")[1]
    quoted = [one for row in re.findall(r"(?m)^\| (`.*?) \|", text) for one in re.findall(r"`([^`]+)`", row)]
    programs = [
        file for top in ("src", "pam/src") for file in (REPOSITORY / top).rglob("*.rs") if "tests" not in file.stem
    ]
    sources = "".join(file.read_text() for file in programs).replace('\\"', '"')
    ours = [one for one in quoted if not one.startswith(STOCK)]
    assert len(ours) > 15

    def said(message):
        return re.search(r"\{\w+\}".join(map(re.escape, re.split(NAMES, message))), sources)

    assert [one for one in ours if not said(one)] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(REPOSITORY)))
def test_links_lead_somewhere(page):
    def anchor(heading):
        return re.sub(r"[^\w -]", "", heading.strip().lower()).replace(" ", "-")

    for target in re.findall(r"""(?:\]\(|src(?:set)?=")([^)"\s]+)[)"]""", page.read_text()):
        if target.startswith(("http:", "https:", "mailto:")):
            continue
        path, _, fragment = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), target
        if fragment:
            assert fragment in [anchor(one) for one in re.findall(r"(?m)^#+ (.*)$", file.read_text())], target


def test_capabilities_are_the_same_everywhere():
    documented = re.findall(r"(?m)^\| `([A-Z_]+)` \|", (REPOSITORY / "packaging/container/README.md").read_text())
    command = re.findall(r"--cap-add (\w+)", (REPOSITORY / "packaging/container/README.md").read_text())
    compose = re.search(r"cap_add: \[(.*)\]", (REPOSITORY / "packaging/container/compose.yaml").read_text())[1].split(
        ", "
    )
    assert sorted(documented) == sorted(command) == sorted(compose)
