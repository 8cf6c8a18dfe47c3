"""Where the tests find their tools and keep what they fetched."""

import os
from pathlib import Path

#: The repository's top level.
REPOSITORY = Path(os.environ.get("JO_REPOSITORY", Path(__file__).resolve().parents[2]))
#: Everything fetched from the network is kept here between runs.
CACHE = Path(
    os.environ.get("JO_CACHE")
    or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "jupyterhub-openssh"
)
#: JupyterHub's virtual environment and its proxy; mounted into the hub's sandbox.
HUB_TOOLS = CACHE / "hub"
#: One unpacked Debian root for each suite.
ROOTS = CACHE / "roots"
#: Large files of running tests; on the disk, which /tmp needn't be.
SCRATCH = CACHE / "scratch"

#: The Debian suites that the package supports.
SUITES = ("bookworm", "trixie")

#: The package's own paths, as installed on a bastion.
CONFIG_FILE = "/etc/jupyterhub-openssh/config.toml"
PROGRAM = "/usr/bin/jupyterhub-openssh"
SESSION_SHELL = "/usr/lib/jupyterhub-openssh/session"
JAIL_PROGRAM = "/usr/lib/jupyterhub-openssh/jail"
SFTP_SERVER = "/usr/lib/openssh/sftp-server"
RUN_DIR = "/run/jupyterhub-openssh"
JAIL_DIR = "/run/jupyterhub-openssh/jail"
GATEWAY_USER = "_jupyterhub-openssh"


def built_package():
    """The newest .deb of `make deb`, or the one that JO_DEB names; None when there is none."""
    named = os.environ.get("JO_DEB")
    if named:
        return Path(named)
    target = Path(os.environ.get("CARGO_TARGET_DIR", REPOSITORY / "target"))
    found = sorted((target / "deb").glob("jupyterhub-openssh_*.deb"), key=lambda p: p.stat().st_mtime)
    return found[-1] if found else None
