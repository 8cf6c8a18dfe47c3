"""Names that a URL writes otherwise than the hub shows them."""

import re
from urllib.parse import quote

import pytest

from lib.actors.hub import HUB_UID
from lib.checks.files import local_home
from lib.checks.shellplace import ShellPlace
from lib.paths import REPOSITORY
from lib.wait import wait_for

pytestmark = pytest.mark.only("trixie")

#: Every character that a name may have here; a `+` only before an `@`.
NAME = "t-a_g.0+x+y@example.org"
#: Prints what JupyterHub makes of each name on standard input, in hexadecimal.
ESCAPE = """
import sys
from types import SimpleNamespace
from jupyterhub.user import User
try:
    from jupyterhub.utils import url_escape_path
except ImportError:
    url_escape_path = None
for line in sys.stdin:
    name = bytes.fromhex(line).decode()
    escaped = User.escaped_name.fget(SimpleNamespace(name=name))
    assert url_escape_path is None or url_escape_path(name) == escaped
    print(escaped)
"""


@pytest.mark.parametrize("venv", ["venv", "venv-old1", "venv-old6"])
def test_names_are_escaped_as_by_jupyterhub(hub, venv, suite):
    """The vectors that the Rust code is compared with are what JupyterHub 6, 2 and 1 write into their URLs."""
    lines = (REPOSITORY / "src/common/tests/vectors.tsv").read_text().splitlines()
    names, _, _, segments = zip(*(line.split("\t")[:4] for line in lines if not line.startswith("#")))
    done = hub.box.run(f"/mnt/hub/{venv}/bin/python", "-c", ESCAPE, input="\n".join(names), timeout=60)
    assert done.stdout.splitlines() == list(segments)


def test_a_login_with_every_character(bastion, client, hub, hub_homes):
    """Commands, terminals and a named server of a user whose name is quoted in the server's address."""
    hub.add_user(NAME)
    token = hub.token(NAME)
    hub.start_server(NAME)
    for login, server in ((NAME, ""), (f"{NAME}+g-1", "g-1")):
        place = ShellPlace(
            client, bastion, login, token, local_home(hub_homes / NAME), (HUB_UID, HUB_UID), f"/mnt/home/{NAME}", None
        )
        done = place.ssh("echo $JUPYTERHUB_SERVICE_PREFIX")
        assert (done.status, done.text) == (0, f"/user/{quote(NAME, safe='@~')}/{server}/".replace("//", "/") + "\n"), (
            done
        )
        with client.terminal(bastion, login, token) as terminal:
            terminal.prompt()
            assert terminal.run("echo $((6*7))") == "42\n"
        hub.stop_server(NAME, server)


def enter(bastion, client, hub, name):
    """A connection of this user, who has no server; its uid here."""
    hub.add_user(name)
    mark = bastion.syslog.mark()
    client.login(bastion, name, hub.token(name))
    bastion.syslog.wait(rf"user={re.escape(name)} .*event=session-opened", mark)
    return int(bastion.box.run("find", "/run/jupyterhub-openssh/uids", "-lname", name, "-printf", "%f").stdout)


def test_a_name_that_looks_like_a_uid_is_not_told_for_one(bastion, client, hub):
    """What stat(1) and ps(1) show is given to chown(1), to which 1000 is a local account where no such name is known."""
    for name, told in (("1000", False), ("1000.100", False), ("fay.100", True)):
        uid = enter(bastion, client, hub, name)
        bastion.box.run("sh", "-c", f"touch /tmp/hers && chown {uid} /tmp/hers")
        shown = bastion.box.run("stat", "-c", "%U", "/tmp/hers").stdout.strip()
        bastion.box.run("rm", "/tmp/hers")
        assert shown == (name if told else "UNKNOWN")
        client.close_all()


def test_groups_of_the_system_are_not_a_hub_users(bastion, client, hub):
    """An account `fay` has left this host, her memberships have not; then somebody calls herself fay at the hub."""
    before = bastion.box.read("/etc/group")
    jupyterhub = re.search(r"^jupyterhub:x:(\d+):", before, re.M)[1]
    bastion.box.write(
        "/etc/group",
        re.sub(r"^(users:x:100:.*)$", r"\1,fay", before, flags=re.M).replace(":,", ":")
        + "docker:x:977:fay\nproject:x:3977:localadmin,fay\n",
    )
    mark = bastion.syslog.mark()
    try:
        uid = enter(bastion, client, hub, "fay")
        # sshd's child becomes the user a moment after the session has opened.
        hers = wait_for(lambda: [one for one in bastion.box.processes() if one.uid == uid], "a process of the user's")
        for one in hers:
            groups = re.search(rb"^Groups:(.*)$", one.read("status"), re.M)[1].decode().split()
            assert set(groups) - {str(uid)} == {"100", "3977", jupyterhub}
        bastion.syslog.wait(r"groups of this host have fay .* getent group 977", mark)
        transport = client.password_login(bastion, bastion.ADMIN, bastion.ADMIN_PASSWORD)
        with client.terminal(bastion, bastion.ADMIN, None, transport=transport) as terminal:
            terminal.prompt()
            assert {"sudo", "project"} <= set(terminal.run("id -Gn").split())
    finally:
        bastion.box.write("/etc/group", before)
