"""Arrows that must never exist, read from `cargo tree`, and where unsafe code may live and circles between
files, read from the sources.

    python -m lib.programs.dependencies      prints what is wrong; status 1 if anything is
"""

import re
import subprocess
import sys

from lib.paths import REPOSITORY
from lib.programs.circles import circles

#: What a module that every process, or root's sshd, loads must not bring along.
HEAVY = {
    "reqwest",
    "hyper",
    "native-tls",
    "openssl",
    "openssl-sys",
    "rustls",
    "tokio",
    "mio",
    "async-std",
    "smol",
    "futures",
    "clap",
    "tungstenite",
    "syslog",
    "rayon",
    "ureq",
    "curl",
    "serde",
    "serde_json",
}
#: What connects to somewhere: no part of the small programs.
TLS = {
    "reqwest",
    "hyper",
    "native-tls",
    "openssl",
    "openssl-sys",
    "rustls",
    "tokio",
    "tungstenite",
    "clap",
    "hub",
    "server",
    "gateway",
    "admin",
}
#: What does I/O.
IO = {"nix", "libc", "rustix"}
FORBIDDEN = {
    "nss_jupyterhub": HEAVY | {"host", "pam_jupyterhub"},
    "pam_jupyterhub": HEAVY | {"host", "nss_jupyterhub"},
    "common": HEAVY | IO,
    "wire": (HEAVY | IO),
    "host": TLS,
    "keys": TLS,
    "jail": TLS | {"keys"},
    "session": TLS | {"keys"},
    "authorized-keys": TLS,
    # Neither speaks with users' servers.
    "hub": {"server", "keys", "clap", "tungstenite"},
    "hub-keys": {"server", "gateway", "clap", "tungstenite"},
    # The administrator's commands are no part of a gateway's source.
    "gateway": {"admin", "clap", "keys"},
}
#: (files, what they must not name).
INNER = (
    ("src/common", r"std::(fs|net::(Tcp|Udp|ToSocket)|process|thread)"),
    ("src/wire", r"std::(fs|net|process|thread)"),
    ("nss/src", r"std::(net|thread|process)\b"),
    ("pam/src", r"std::(net|thread)\b"),
)
#: The only files with unsafe code.
UNSAFE = re.compile(r"src/host/sys/\w+\.rs|(nss|pam)/src/(entry|sys)\.rs")


def tree(package):
    """The names of everything a package is built with, itself left out; tests' dependencies do not count."""
    lines = subprocess.run(
        ["cargo", "tree", "--locked", "-p", package, "-e", "normal", "--prefix", "none"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
    return {line.split()[0] for line in lines if line.strip()} - {package}


def without_tests(text):
    """A source file up to its test module, without comments and strings' contents."""
    text = re.split(r"(?m)^#\[cfg\(test\)\]\n(?:#\[.*\]\n)*mod tests", text)[0]
    text = re.sub(r"//[^\n]*", "", text)
    return re.sub(r'"(?:[^"\\]|\\.)*"', '""', text)


def sources():
    """The Rust files of the repository, with their paths as written in messages."""
    for top in ("nss", "pam", "src"):
        for file in sorted((REPOSITORY / top).rglob("*.rs")):
            if "target" not in file.parts:
                yield str(file.relative_to(REPOSITORY)), file.read_text()


def problems():
    """Everything that is wrong, a line each."""
    for package, forbidden in FORBIDDEN.items():
        for name in sorted(tree(package) & forbidden):
            yield f"{package} depends on {name}"
    for path, text in sources():
        code = without_tests(text)
        for place, pattern in INNER:
            match = re.search(pattern, code)
            if path.startswith(place + "/") and match:
                yield f"{path} uses {match[0]}"
        if re.search(r"\bunsafe\b", code) and not UNSAFE.fullmatch(path):
            yield f"{path} has unsafe code"
        if re.search(r"allow\(.*unsafe_code", code) and not UNSAFE.fullmatch(path):
            yield f"{path} allows unsafe code"
    yield from circles()


if __name__ == "__main__":
    found = list(problems())
    print("\n".join(found) or "dependencies and unsafe code are where they may be")
    sys.exit(bool(found))
