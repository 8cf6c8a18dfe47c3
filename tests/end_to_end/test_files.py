"""Homes over sftp and scp on a local file system: transfers, owners, clients, configuration."""

import re
import subprocess

import pytest

from lib.actors.hub import HUB_UID
from lib.checks import expect, filechecks
from lib.checks.commandchecks import FULL
from lib.checks.files import local_home
from lib.checks.place import sftp
from lib.sandbox.storage import BY_HOME, BY_NAME, FIXED, HOMES

BIG = (4 << 30) if FULL else (1 << 30)


@pytest.fixture
def shared_bastion(homes_bastion):
    return homes_bastion


# Transfers.


@pytest.mark.parametrize("check", filechecks.QUICK, ids=lambda check: check.__name__)
def test_with_sftp(place, check):
    check(place)


@pytest.mark.parametrize("check", filechecks.CLIENTS, ids=lambda check: check.__name__)
def test_with_other_clients(place, check):
    check(place)


def test_10_000_small_files(place):
    print("up and down: {:.1f} s, {:.1f} s".format(*filechecks.check_small_files(place)))


@pytest.mark.only("trixie")
def test_a_big_file(place):
    """Real bytes; the offsets beyond 4 GB are the next test's."""
    print("up and down: {:.1f} s, {:.1f} s".format(*filechecks.check_big_file(place, BIG)))


@pytest.mark.only("trixie")
def test_a_file_beyond_four_gigabytes(place):
    filechecks.check_beyond_four_gigabytes(place)


def test_a_client_killed_in_mid_transfer(place):
    filechecks.check_broken_transfer(place)


@pytest.mark.parametrize("which", ["sftp-server", "sshd", "gateway"])
def test_a_server_killed_in_mid_transfer(place, bastion, which):
    def breaking(client):
        found = {"sftp-server": bastion.sftp_servers, "gateway": bastion.gateways, "sshd": bastion.sshd_of_sessions}[
            which
        ]()
        assert found, f"no {which} is running"
        for one in found:
            one.kill()

    filechecks.check_broken_transfer(place, breaking=breaking)


# Whose files they are.


@pytest.mark.parametrize("rule", ["separate", "shared", "fixed"])
def test_owner_and_group(bastion, hub, make_place, rule):
    owners, config = {
        "separate": (((5001, 5001), (5002, 6002)), BY_HOME),
        "shared": (((1000, 100), (1000, 100)), BY_HOME),
        "fixed": (((1000, 100), (1000, 100)), FIXED),
    }[rule]
    with bastion.configured(hub.url, config):
        for user, ids in zip(("dora", "erin"), owners):
            place = make_place(user, *ids)
            filechecks.check_ownership(place)
            filechecks.check_put_and_get(place)


def test_uids_by_the_name(bastion, hub, make_place):
    """With uids computed from names a home that is created belongs to its user's."""
    hub.add_user("erin")
    with bastion.configured(hub.url, BY_NAME.replace("[accounts]", 'missing = "create"\n[accounts]')):
        place = make_place("erin", 4242, 4242)
        place.home.run("rmdir", place.home.path)
        sftp(place, "pwd")
        (stored,) = [one for name, one in local_home(bastion.box.path("/srv/homes")).tree().items() if name == "erin"]
        assert stored.uid == stored.gid >= 1879048192 and stored.mode == 0o700
        place.owner = (stored.uid, stored.gid)
        filechecks.check_ownership(place)


# Beside the terminal.


@pytest.fixture
def alices_own(bastion, hub, alice, make_place):
    """Alice's home is the directory that her server uses, and shown under the same path."""
    config = '[homes]\nroot = "/srv/hub"\npath = "/mnt/home/{username}"\n[accounts]\nuid = "home"\n'
    with bastion.configured(hub.url, config):
        home = local_home(bastion.box.path("/srv/hub/alice"))
        place = make_place("bob", HUB_UID, HUB_UID, root="/srv/hub", shown="/mnt/home/bob")
        place.user, place.token, place.home, place.shown = "alice", alice.token, home, "/mnt/home/alice"
        yield place


def test_terminal_and_sftp_see_the_same_files(bastion, client, alice, alices_own, scratch):
    place = alices_own
    with client.terminal(bastion, "alice", alice.token) as terminal, place.scratch() as here:
        terminal.prompt()
        (here / "up").write_text("by sftp\n")
        sftp(place, "mkdir shared-files", f"put {here}/up shared-files/up", "pwd")
        try:
            assert terminal.run("pwd; cat ~/shared-files/up") == "/mnt/home/alice\nby sftp\n"
            terminal.run("umask 022; echo by terminal >~/shared-files/down; mkdir ~/shared-files/folder")
            said = sftp(
                place,
                f"get {place.shown}/shared-files/down {here}/down",
                "rm shared-files/down",
                "rename shared-files/up shared-files/folder/up",
                "ls -l shared-files",
            ).stdout
            assert (here / "down").read_text() == "by terminal\n" and "folder" in said
            assert terminal.run("find ~/shared-files | sort") == "".join(
                f"/mnt/home/alice/shared-files{name}\n" for name in ("", "/folder", "/folder/up")
            )
            owners = terminal.run(
                "echo mine >~/shared-files/mine; stat -c '%u:%g:%a' ~/shared-files/mine "
                "~/shared-files/folder/up ~/shared-files ~/shared-files/folder"
            ).split()
            assert owners == [f"{HUB_UID}:{HUB_UID}:644"] * 2 + [f"{HUB_UID}:{HUB_UID}:755"] * 2
        finally:
            place.home.remove("shared-files")


def test_sftp_starts_no_server(bastion, hub, place):
    """Dora's server is stopped and stays so (the fixture looks again); the hub is asked for nothing but who she is."""
    before = len(hub.log_text())
    sftp(place, "ls")
    asked = re.findall(r"(\d+ (?:GET|POST|DELETE) /hub/\S+) \(dora@", hub.log_text()[before:])
    assert set(asked) <= {"200 GET /hub/api/user"}, asked
    assert hub.idle("dora")


def test_terminal_and_sftp_over_one_connection(bastion, client, alice, alices_own):
    """ControlMaster: sftp beside a terminal, one login."""
    transport = client.login(bastion, "alice", alice.token)
    with client.terminal(bastion, "alice", None, transport=transport) as terminal:
        terminal.prompt()
        files = transport.open_sftp_client()
        assert files.normalize(".") == "/mnt/home/alice"
        two = transport.open_sftp_client()
        assert two.listdir() == files.listdir()
        files.close()
        assert terminal.run("echo on") == "on\n" and two.listdir() is not None


# Configuration of [files].


@pytest.mark.parametrize("umask", ["0027", "0002", "0077"])
def test_umask(bastion, hub, place, umask):
    place.umask = int(umask, 8)
    with bastion.configured(hub.url, BY_HOME + f'[files]\numask = "{umask}"\n'):
        filechecks.check_put_and_get(place)
        sftp(place, "mkdir directory")
        assert place.home.stat("directory").mode == 0o777 & ~place.umask


def test_read_only(bastion, hub, place):
    place.home.write("file", "data", owner=(1000, 100))
    with bastion.configured(hub.url, BY_HOME + '[files]\nsftp_options = ["-R"]\n'), place.scratch() as here:
        sftp(place, f"get file {here}/file")
        for line in (
            f"put {here}/file new",
            "rm file",
            "mkdir new",
            "chmod 600 file",
            "rename file new",
            "ln -s file new",
        ):
            assert sftp(place, line, check=False).returncode, f"{line} was not refused"
    assert place.home.names() == ["file"] and place.home.read("file") == b"data"


def test_refused_requests(bastion, hub, place):
    with bastion.configured(hub.url, BY_HOME + '[files]\nsftp_options = ["-P", "symlink,remove"]\n'):
        place.home.write("file", "data", owner=(1000, 100))
        assert sftp(place, "ln -s file link", check=False).returncode
        assert sftp(place, "rm file", check=False).returncode
        sftp(place, "rename file moved")
    assert place.home.names() == ["moved"]


@pytest.mark.parametrize(
    "text", ['umask = "9"', 'sftp_options = ["-e"]', 'sftp_options = ["-d", "/"]', 'log_level = "X"']
)
def test_a_wrong_configuration_keeps_hub_users_out(bastion, hub, place, text):
    """And is told to the administrator; nobody is served with half of it."""
    mark = bastion.syslog.mark()
    with bastion.configured(hub.url, BY_HOME + f"[files]\n{text}\n"):
        assert sftp(place, "ls", check=False).returncode
        bastion.syslog.wait(re.escape(f"files.{text.split()[0]}"), mark)


# Where homes are, and where they are shown.


@pytest.mark.parametrize(
    "path", ["/home/jovyan", "/home/{username}", "/mnt/data/home/{escaped}", "/home", "/work/{slug}/x"]
)
def test_shown_paths(bastion, hub, make_place, path):
    text = BY_HOME.replace("[accounts]", f'path = "{path}"\n[accounts]')
    with bastion.configured(hub.url, text):
        shown = path.format(username="dora", escaped="dora", slug="dora")
        place = make_place("dora", 1000, 100, shown=shown)
        filechecks.check_put_and_get(place)
        with place.paramiko() as files:
            assert path.split("/")[1] in files.listdir("/")
            assert files.listdir(shown) == files.listdir(".")


def test_templates(bastion, hub, make_place):
    """A name with a character that directories' names don't have: {escaped} and {slug} as spawners make them."""
    for template, stored in (
        ("students/{escaped}", "students/dora-40example-2eorg"),
        ("x{username}y", "xdora@example.orgy"),
    ):
        text = BY_HOME.replace("[accounts]", f'template = "{template}"\n[accounts]')
        with bastion.configured(hub.url, text):
            place = make_place("dora@example.org", 5001, 5001, path=stored)
            filechecks.check_put_and_get(place)


def test_mounts_inside_a_home_are_seen(bastion, place):
    """A data disk that the administrator mounted into the home is part of it, with the same restrictions."""
    place.home.mkdir("disk", owner=(1000, 100))
    bastion.box.mount("none", "/srv/homes/dora/disk", "tmpfs", data="mode=777")
    try:
        with place.scratch() as here:
            (here / "file").write_text("data")
            sftp(place, f"put {here}/file disk/file")
            assert bastion.box.path("/srv/homes/dora/disk/file").read_text() == "data"
    finally:
        bastion.box.umount("/srv/homes/dora/disk")


# Shares.

SHARES = """
[[shares]]
source = "/srv/shared/data"
path = "/shared/data"
[[shares]]
source = "/srv/shared/drop"
path = "/shared/drop"
writable = true
[[shares]]
source = "/srv/shared/course"
path = "/courses/physics"
writable = true
groups = ["physics", "teachers"]
"""


@pytest.fixture
def shares(bastion, hub):
    """Three shared directories, one of them for groups of the hub."""
    top = local_home(bastion.box.path("/srv"))
    for name in ("data", "drop", "course"):
        top.mkdir(f"shared/{name}", mode=0o1777)
        top.write(f"shared/{name}/file", name, mode=0o644)
    with bastion.configured(hub.url, BY_HOME + SHARES):
        yield local_home(bastion.box.path("/srv/shared"))
    hub.set_groups("dora", [])
    top.remove("shared")


def test_shares(bastion, hub, place, shares):
    with place.scratch() as here:
        (here / "new").write_text("data")
        sftp(place, f"get /shared/data/file {here}/data", f"put {here}/new /shared/drop/new")
        assert (here / "data").read_text() == "data"
        stored = shares.stat("drop/new")
        assert (stored.uid, stored.gid, stored.size) == (1000, 100, 4)
        for line in (
            f"put {here}/new /shared/data/new",
            "rm /shared/data/file",
            "rm /shared/drop/file",
            f"put {here}/new /shared/new",
            "ls /courses/physics",
            "ls /shared/course",
        ):
            assert sftp(place, line, check=False).returncode, f"{line} was not refused"
        assert shares.names("data") == ["file"] and place.home.names() == []


def test_shares_of_groups(bastion, hub, place, shares):
    hub.set_groups("dora", ["teachers", "others"])
    place.token = hub.token("dora")
    with place.scratch() as here:
        sftp(place, f"get /courses/physics/file {here}/file", f"put {here}/file /courses/physics/mine")
        assert shares.stat("course/mine").size == len("course")
    hub.set_groups("dora", ["others"])
    assert sftp(place, "ls /courses/physics", check=False).returncode, "the group has gone, the share has not"


def test_a_share_that_is_missing(bastion, hub, place, shares):
    """Costs nobody the session: it is logged, and the rest is there."""
    shares.run("mv", shares.at("drop"), shares.at("gone"))
    mark = bastion.syslog.mark()
    sftp(place, "ls /shared/data/file", "pwd")
    bastion.syslog.wait(r"user=dora .*/srv/shared/drop", mark)
    assert sftp(place, "ls /shared/drop/file", check=False).returncode


def test_a_share_is_nosuid_nodev_noexec(bastion, place, shares):
    bastion.box.mount("none", "/srv/shared/drop", "tmpfs", data="mode=777")
    try:
        with place.paramiko() as files:
            files.listdir("/shared/drop")
            (server,) = bastion.sftp_servers()
            lines = [line.split() for line in server.read("mountinfo").decode().splitlines() if "/shared/" in line]
            for fields in lines:
                assert {"nosuid", "nodev", "noexec"} <= set(fields[5].split(",")), fields
                assert ("ro" in fields[5].split(",")) == fields[4].endswith("/data"), fields
            assert len(lines) >= 2
    finally:
        bastion.box.umount("/srv/shared/drop")


# Homes that are created.


def created(bastion, hub, make_place, more, accounts='[accounts]\nuid = "home"\n'):
    """Dora's place without her home, with a configuration that creates homes."""
    place = make_place("dora", 1000, 100)
    place.home.run("rmdir", place.home.path)
    return place, bastion.configured(hub.url, HOMES + 'missing = "create"\nowner = [1000, 100]\n' + more + accounts)


def test_a_missing_home_is_created(bastion, hub, make_place):
    place, configured = created(bastion, hub, make_place, 'mode = "2750"\nskeleton = "/srv/skel"\n')
    skeleton = local_home(bastion.box.path("/srv"))
    skeleton.mkdir("skel/folder")
    skeleton.write("skel/folder/readme", "welcome\n", mode=0o640)
    skeleton.write("skel/run", "#!/bin/sh\n", mode=0o755)
    skeleton.symlink("folder/readme", "skel/link")
    with configured:
        sftp(place, "ls")
        tree = place.home.tree()
        assert set(tree) == {"folder", "folder/readme", "run", "link"}
        assert all((one.uid, one.gid) == (1000, 100) for one in tree.values()), tree
        assert (tree["folder/readme"].mode, tree["run"].mode, tree["link"].target) == (0o640, 0o755, "folder/readme")
        top = local_home(bastion.box.path("/srv/homes"))
        assert top.stat("dora").mode == 0o2750
        assert top.names() == ["dora"], "something was left beside the home"
        place.home.write("run", "changed", owner=(1000, 100))
        filechecks.check_put_and_get(place)
        assert place.home.read("run") == b"changed", "a home that is there was overwritten"


def test_many_logins_create_one_home(bastion, hub, client, make_place):
    """All of a classroom's first logins at the same moment: everyone gets the same home."""
    place, configured = created(bastion, hub, make_place, "")
    with configured:
        command = place.command("sftp", "-b", "/dev/fd/0", place.host, options=["-o", "BatchMode=no"])
        running = [
            subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                env=client.askpass(place.token),
                start_new_session=True,
            )
            for _ in range(10)
        ]
        for number, one in enumerate(running):
            one.stdin.write(f"mkdir d{number}\n")
            one.stdin.close()
        for one in running:
            one.stdin = None
            said = one.communicate(timeout=60)
            assert one.returncode == 0, said
        assert place.home.names() == sorted(f"d{number}" for number in range(10))


def test_a_quota_where_there_are_none(bastion, hub, make_place):
    """A home without its limit is not made: the first user to find that out is the administrator's test."""
    place, configured = created(bastion, hub, make_place, 'quota = ["1M", "2M"]\n')
    mark = bastion.syslog.mark()
    with configured:
        said = sftp(place, "ls", check=False)
        assert said.returncode and re.search(expect.NO_FILES["not-created"][0], said.stderr), said
        bastion.syslog.wait(r"/srv/homes/dora could not be created: .*quota", mark)
    assert not local_home(bastion.box.path("/srv/homes")).names()
