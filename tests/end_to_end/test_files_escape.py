"""A hostile user who can change everything in a home of their own: nothing else is seen, changed or run."""

import contextlib
import os
import re
import stat
import threading
from concurrent.futures import ThreadPoolExecutor

import paramiko
import pytest

from lib.actors.client import Refused
from lib.checks.files import local_home
from lib.checks.place import Place, sftp
from lib.sandbox.storage import BY_HOME, BY_NAME, FIXED

CREATING = BY_NAME.replace("[accounts]", 'missing = "create"\n[accounts]')

#: All that a session may see outside of its home and the shares.
VISIBLE = re.compile(
    r"""
    /(dev|etc|home|run|usr)
    | /(bin|sbin|lib|lib32|lib64|libx32)           # links into /usr, or directories with an ELF interpreter
    | /lib\w*/ld-linux[\w.-]*                      # that
    | /dev/(null|tty|log)
    | /dev/pts(/\d+)?                              # empty files, so that sshd finds a terminal's name
    | /etc/(passwd|group|hosts|localtime|nsswitch\.conf)
    | /run/gateway\.sock
    | /usr/(lib|lib64|bin)
    | /usr/lib/(jupyterhub-openssh(/session)?|openssh(/sftp-server)?)
    | /usr/lib(64)?/ld-linux[\w.-]*
    | /usr/lib/[a-z0-9_]+-linux-gnu\w*
    | /usr/lib/[a-z0-9_]+-linux-gnu\w*/(ld-linux[\w.-]*|lib[\w+-]+(\.so[\d.]*|-[\d.]+\.so))
    | /home/dora
    """,
    re.X,
)


pytestmark = pytest.mark.only("bookworm")


@pytest.fixture
def shared_bastion(homes_bastion):
    return homes_bastion


def listing(files, directory="/"):
    """Every path below a directory, without following links; {path: attributes}."""
    found = {}
    for one in files.listdir_attr(directory):
        path = directory.rstrip("/") + "/" + one.filename
        found[path] = one
        if stat.S_ISDIR(one.st_mode):
            try:
                found.update(listing(files, path))
            except OSError:
                pass
    return found


def test_all_that_is_visible(place):
    """From / downwards, names, kinds and owners: only what the list above has."""
    place.home.write("own", "x", owner=(1000, 100))
    with place.paramiko() as files:
        found = listing(files)
        assert found.pop("/home/dora/own")
        stray = [path for path in found if not VISIBLE.fullmatch(path)]
        assert not stray, f"visible besides: {stray}"
        for path, one in found.items():
            if path == "/home/dora":
                assert (one.st_uid, one.st_gid) == (1000, 100)
            elif not stat.S_ISLNK(one.st_mode) and path not in ("/dev/log", "/run/gateway.sock"):
                assert not path.startswith("/dev/pts/") or stat.S_ISREG(one.st_mode) and not one.st_size
                assert one.st_uid == 0 and (not one.st_mode & 0o022 or path in ("/dev/null", "/dev/tty")), (path, one)
        for path in (
            "/proc",
            "/sys",
            "/tmp",
            "/var",
            "/root",
            "/boot",
            "/srv",
            "/mnt",
            "/bin/sh",
            "/usr/bin/sh",
            "/etc/shadow",
            "/etc/ssh",
            "/etc/jupyterhub-openssh",
            "/dev/ptmx",
            "/dev/mem",
            "/home/localadmin",
            "/run/jupyterhub-openssh",
            "/usr/lib/jupyterhub-openssh/jail",
            "/usr/bin/jupyterhub-openssh",
        ):
            with pytest.raises(OSError):
                files.stat(path)
        names = {line.split(":")[0] for line in files.open("/etc/passwd").read().decode().splitlines()}
        assert "dora" in names and "localadmin" not in names, names


def test_nothing_outside_of_the_home_can_be_changed(bastion, place):
    with place.paramiko() as files:
        found = [path for path in listing(files) if not path.startswith("/home/dora")] + ["/", "/home"]
        folders = [path for path in found if stat.S_ISDIR(files.lstat(path).st_mode)]
        for path in folders:
            for change in (
                lambda p=path: files.open(f"{p}/x", "w"),
                lambda p=path: files.mkdir(f"{p}/x"),
                lambda p=path: files.symlink("x", f"{p}/x"),
            ):
                with pytest.raises(OSError):
                    change()
        for path in found:
            for change in (
                lambda p=path: files.remove(p),
                lambda p=path: files.rename(p, "stolen"),
                lambda p=path: files.chmod(p, 0o777),
                lambda p=path: files.utime(p, (0, 0)),
                lambda p=path: files.rmdir(p),
                lambda p=path: files.posix_rename(p, "stolen"),
                lambda p=path: files.truncate(p, 0) if p not in ("/dev/null", "/dev/tty") else files.open("/x"),
            ):
                with pytest.raises(OSError):
                    change()
    assert place.home.names() == []


def test_dots_lead_nowhere(bastion, place):
    """`..` ends at the jail's own root, however it is written."""
    with place.paramiko() as files:
        for path in (
            "..",
            "../..",
            "../../..",
            "/..",
            "/../..",
            "/home/dora/../../..",
            "./../../../../../../../..",
            "/home/dora/./.././../..",
            "//..//..//",
            "../../../../../proc/1/root",
            "../dora/../../usr/..",
        ):
            normal = files.normalize(path) if "proc" not in path else "/"
            assert set(files.listdir(normal)) <= {
                "dev",
                "etc",
                "home",
                "run",
                "usr",
                "bin",
                "sbin",
                "lib",
                "lib32",
                "lib64",
                "libx32",
                "dora",
            }, path
        for path in (
            "../../srv/homes/dora",
            "../../../../../../etc/shadow",
            "../localadmin",
            "../../root",
            "/../proc/self",
        ):
            with pytest.raises(OSError):
                files.stat(path)


TARGETS = (
    "/etc/shadow",
    "/etc/ssh/ssh_host_ed25519_key",
    "/proc/self/environ",
    "/proc/1/root",
    "/srv/homes/erin/secret",
    "../erin/secret",
    "../../srv/homes/erin/secret",
    "/run/jupyterhub-openssh",
    "/root",
    "/dev/sda",
    "/var/log",
    "/home/localadmin",
    "/sys/kernel",
    "/home/erin/secret",
)


def test_symbolic_links_lead_nowhere(place, make_place):
    """Made by the user over sftp, and by the user's programs at the hub, whatever they point to."""
    erin = make_place("erin", 1000, 100)
    erin.home.write("secret", "erin's", owner=(1000, 100))
    with place.paramiko() as files:
        for number, target in enumerate(TARGETS):
            files.symlink(target, f"made{number}")
            place.home.symlink(target, f"put{number}")
            for name in (f"made{number}", f"put{number}"):
                for attempt in (
                    lambda n=name: files.open(n).read(),
                    lambda n=name: files.listdir(n),
                    lambda n=name: files.stat(n),
                    lambda n=name: files.open(f"{n}/x", "w"),
                    lambda n=name: files.chmod(n, 0o777),
                ):
                    with pytest.raises(OSError):
                        attempt()
    assert erin.home.read("secret") == b"erin's" and erin.home.names() == ["secret"]


def test_hard_links_out_of_the_home_are_refused(place):
    with place.paramiko() as files:
        paths = [path for path in listing(files) if not path.startswith("/home/dora")]
    done = [
        sftp(place, f"ln {path} stolen", check=False)
        for path in (paths[0], "/etc/passwd", "/dev/null", "/run/gateway.sock", "/usr/lib/openssh/sftp-server", "/home")
    ]
    assert all(one.returncode for one in done) and place.home.names() == []


def test_setuid_files_and_device_nodes(bastion, place):
    """Somebody with root at the hub's side puts them there: they are files without meaning here."""
    home = place.home
    home.run("mknod", "-m", "666", home.at("memory"), "c", "1", "1")
    home.run("mknod", "-m", "666", home.at("zero"), "c", "1", "5")
    home.run("mknod", "-m", "666", home.at("disk"), "b", "7", "0")
    home.run("mkfifo", home.at("fifo"))
    home.run("cp", "/bin/true", home.at("setuid"))
    home.run("chmod", "6755", home.at("setuid"))
    home.mkdir("disk2", owner=(1000, 100))
    bastion.box.mount("none", "/srv/homes/dora/disk2", "tmpfs", data="mode=777")
    try:
        home.run("mknod", "-m", "666", home.at("disk2/zero"), "c", "1", "5")
        with place.paramiko() as files:
            for name in ("memory", "zero", "disk", "disk2/zero"):
                for mode in ("r", "w", "r+"):
                    with pytest.raises(OSError):
                        files.open(name, mode)
            assert files.stat("setuid").st_mode & 0o6000
            check_mounts(bastion)
    finally:
        bastion.box.umount("/srv/homes/dora/disk2")


def check_mounts(bastion):
    """Every mount in the namespace of the running sftp-server is restricted; the home with all that is in it fully."""
    (server,) = bastion.sftp_servers()
    homes = 0
    for line in server.read("mountinfo").decode().splitlines():
        fields = line.split()
        point, options = fields[4], set(fields[5].split(","))
        jail = point.removeprefix("/run/jupyterhub-openssh/jail")
        assert "nosuid" in options, line
        assert "nodev" in options or jail in ("/dev/null", "/dev/tty"), line
        if jail.startswith("/home/dora"):
            homes += 1
            assert "noexec" in options and "rw" in options, line
        else:
            assert "ro" in options or jail in ("/dev/null", "/dev/tty", "/dev/log", "/run/gateway.sock"), line
        # Nothing that is mounted in the session may reach the host, or other sessions.
        assert not any(field.startswith("shared:") for field in fields[6 : fields.index("-")]), line
    assert homes == 2, "the home, and the mount inside"


def test_a_fifo_holds_nobody_up(bastion, client, place):
    """Opening one waits for the other end; it is the user's own connection that waits, and it can be ended."""
    place.home.run("mkfifo", place.home.at("fifo"))
    place.home.run("chown", "1000:100", place.home.at("fifo"))
    with place.paramiko() as files:
        files.get_channel().settimeout(1)
        with pytest.raises(TimeoutError):
            files.open("fifo")
        sftp(place, "ls")
    bastion.wait_quiet()


def test_another_user_with_the_same_uid(bastion, hub, place, make_place):
    """All homes belong to 1000:100, so that only the jail is between dora and erin."""
    erin = make_place("erin", 1000, 100)
    erin.home.write("secret", "erin's", owner=(1000, 100))
    with erin.paramiko() as theirs, place.paramiko() as files:
        assert theirs.listdir() == ["secret"]
        assert files.listdir("/home") == ["dora"] and files.listdir("/run") == ["gateway.sock"]
        for path in ("/home/erin", "../erin", "/srv/homes/erin/secret"):
            with pytest.raises(OSError):
                files.stat(path)
        servers = bastion.sftp_servers()
        assert len(servers) == 2 and servers[0].uid == servers[1].uid == 1000
        for kind in ("mnt", "pid", "net"):
            assert servers[0].namespace(kind) != servers[1].namespace(kind)
        sockets = {(one.st_dev, one.st_ino) for one in (os.stat(one.path("root/run/gateway.sock")) for one in servers)}
        assert len(sockets) == 2, "one gateway's socket is seen in both"
        with pytest.raises(OSError):
            files.open("/run/gateway.sock", "r+")


def test_processes_that_serve_files_have_no_privileges(bastion, place):
    sent = {"LC_TIME": "C", "LC_ALL": f"../..{place.shown}/locale", "LC_TERMINAL": "iTerm2"}
    with contextlib.closing(place.login()) as transport:
        channel = transport.open_session()
        for name, value in sent.items():
            channel.set_environment_variable(name, value)
        channel.invoke_subsystem("sftp")
        files = paramiko.SFTPClient(channel)
        files.listdir()
        (server,) = bastion.sftp_servers()
        status = server.read("status").decode()
        assert re.search(r"NoNewPrivs:\t1", status)
        for kind in ("CapInh", "CapPrm", "CapEff", "CapAmb"):
            assert re.search(rf"{kind}:\t0+\n", status), status
        assert re.search(r"Uid:\t1000\t1000\t1000\t1000\n", status) and re.search(r"Gid:\t100\t100\t100\t100\n", status)
        names = {text.split("=", 1)[0] for text in server.read("environ").decode().split("\0") if text}
        # A locale may be a path to whoever looks it up, and the home is the user's.
        assert "LC_TIME" in names <= {"USER", "LOGNAME", "LANG", "TZ", "SSH_CLIENT", "SSH_CONNECTION", "LC_TIME"}, names
        assert place.token.encode() not in server.read("environ") + server.read("cmdline")
        assert sorted(int(name) for name in os.listdir(server.path("fd")))[:3] == [0, 1, 2]
        kept = [os.readlink(server.path(f"fd/{name}")) for name in os.listdir(server.path("fd")) if int(name) > 2]
        assert not [one for one in kept if not one.startswith("socket:")] and len(kept) <= 1, kept  # its /dev/log


#: The command that Debian's sftp subsystem is cannot be told from the subsystem, and serves sftp as well.
COMMANDS = (
    "id",
    "sh",
    "sh -i",
    "/bin/sh",
    "scp",
    "sftp-server;id",
    "/usr/lib/openssh/sftp-server;id",
    "x internal-sftp",
    "rsync --version",
    "$(internal-sftp)",
    "$(id)",
    "`id`",
    "cat /etc/passwd",
    "\nid",
    "-c id",
    "/usr/lib/jupyterhub-openssh/jail",
    "x" * 100_000,
    "hostname",
    "touch /srv/homes/alice/pwned ~/pwned",
)


def test_no_command_is_run_here(bastion, hub, alice, make_place):
    """Commands run in the user's server, which has other files; the jail has no program for them."""
    home = make_place("erin", 1000, 100)
    home.user, home.token = "alice", alice.token
    top = local_home(bastion.box.path("/srv/homes"))
    top.mkdir("alice", owner=(1000, 100))
    with bastion.configured(hub.url, BY_HOME):
        transport = home.login()
        for command in COMMANDS:
            channel = transport.open_session()
            channel.settimeout(20)
            channel.exec_command(command)
            channel.shutdown_write()
            out = b"".join(iter(lambda: channel.recv(4096), b""))
            said = b"".join(iter(lambda: channel.recv_stderr(4096), b""))
            channel.recv_exit_status()
            assert b"uid=1000" not in out + said and b"localadmin" not in out and b"bastion" not in out, (
                command[:200],
                out,
                said,
            )
            assert top.names("alice") == [], f"{command[:200]} had an effect"
        transport.close()
    local_home(hub.box.path("/mnt/home/alice")).remove("pwned")
    top.remove("alice")


def test_no_other_subsystem(place):
    transport = place.login()
    for subsystem in ("netconf", "sftp-server", "sftp\n", "../sftp", "SFTP", "/bin/sh", ""):
        channel = transport.open_session()
        channel.settimeout(20)
        try:
            channel.invoke_subsystem(subsystem)
            assert channel.recv_exit_status() != 0, subsystem
        except paramiko.SSHException:
            pass  # sshd refuses it itself
    transport.close()


def test_no_forwarding_beside_sftp(place):
    transport = place.login()
    with transport.open_sftp_client() as files:
        files.listdir()
        with pytest.raises(Exception, match=r"(?i)prohibited|denied|rejected|failed"):
            transport.open_channel("direct-tcpip", ("127.0.0.1", 22), ("127.0.0.1", 1))
    transport.close()


# Names.

#: For Debian's sshd what follows a slash is no part of the name, but a role of SELinux: bob/x would be bob.
NAMES = (
    "../bob",
    "..",
    ".",
    "-",
    "--",
    "/",
    "/etc",
    "a/b",
    "a/../b",
    "./bob",
    "~",
    "~bob",
    "a\nb",
    "\n",
    "a\0b",
    "\0",
    "x" * 129,
    "x" * 255,
    "x" * 300,
    "x" * 4096,
    "%s",
    "{username}",
    "*",
    " ",
    "a b",
    "-rf",
    "+",
    "+x",
    "a+../b",
    ".jupyterhub-openssh-new",
    "lost+found",
    "é\u202e",
    "\x1b[31m",
    "a\\b",
    "bob\r",
    "bob ",
)


def test_login_names(bastion, hub, client, scratch):
    """With homes that would be created: no name leads out of the directory of homes, and none makes anything."""
    top = local_home(bastion.box.path("/srv"))
    before = top.tree("homes")
    outside = top.names()
    token = hub.token("bob")
    with bastion.configured(hub.url, CREATING):

        def attempt(name, method):
            with pytest.raises((Refused, OSError, EOFError, paramiko.SSHException)):
                getattr(client, method)(bastion, name, token).open_sftp_client().listdir()

        with ThreadPoolExecutor(16) as pool:  # sshd takes its time after each failure
            done = [pool.submit(attempt, name, method) for name in NAMES for method in ("password_login", "login")]
        for name, one in zip((name for name in NAMES for _ in range(2)), done):
            assert one.exception() is None, repr(name)
    assert top.tree("homes") == before and top.names() == outside


def test_names_of_hub_users_that_look_like_paths(bastion, hub, client, scratch):
    """The hub itself may know such users; they may log in, if at all, to a home of just that name."""
    for name in ("..evil", "-rf", "a..b", ".hidden", "..."):
        if hub.api("POST", f"/users/{name}").status not in (201, 409):
            continue
        token = hub.token(name)
        with bastion.configured(hub.url, CREATING):
            top = local_home(bastion.box.path("/srv/homes"))
            place = Place(client, bastion, name, token, local_home(top.at(name)), None, f"/home/{name}", scratch)
            done = sftp(place, "pwd", "mkdir inside", check=False)
            assert set(top.names()) <= {name}
            assert not top.names() or top.names(name) == (["inside"] if done.returncode == 0 else [])
            top.remove(*top.names())


# Races.


class Swapping(threading.Thread):
    """Another process that all the while changes what is found at a home's name, as fast as it can."""

    def __init__(self, top, name, others):
        super().__init__(daemon=True)
        self.top, self.name, self.others = top.path, name, others
        self.rounds, self.ended = 0, threading.Event()

    def run(self):
        directory = os.open(self.top, os.O_RDONLY | os.O_DIRECTORY)
        while not self.ended.is_set():
            for other in self.others:
                # What was there goes aside, the other takes its place, and back again.
                os.rename(self.name, "aside", src_dir_fd=directory, dst_dir_fd=directory)
                os.rename(other, self.name, src_dir_fd=directory, dst_dir_fd=directory)
                self.ended.wait(0.0005 * (self.rounds % 7))
                os.rename(self.name, other, src_dir_fd=directory, dst_dir_fd=directory)
                os.rename("aside", self.name, src_dir_fd=directory, dst_dir_fd=directory)
                self.rounds += 1
                self.ended.wait(0.0003 * (self.rounds % 5))
        os.close(directory)

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *exc):
        self.ended.set()
        self.join()


def swapped_logins(place, swapping, count, allowed):
    """Log in many times; what is found in the home each time must be allowed. How often there was something."""
    found, lock, wrong = [], threading.Lock(), []
    numbers = iter(range(count))

    def some():
        while True:
            with lock:
                if next(numbers, None) is None:
                    return
            try:
                with place.paramiko() as files:
                    # The others' files are as much dora's as the marker.
                    names = [name for name in files.listdir(".") if not name.startswith("written")]
                    if names != allowed and not (names == [] and files.stat(".").st_uid == 0):
                        wrong.append(names)
                    if names == allowed:
                        assert files.open("marker").read() == b"dora's"
                        name = f"written{threading.get_ident()}"
                        files.open(name, "w").close()
                        files.remove(name)
                    found.append(names)
            except (OSError, EOFError, Refused, paramiko.SSHException) as error:
                found.append(str(error) or type(error).__name__)

    threads = [threading.Thread(target=some) for _ in range(4)]
    with swapping:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(300)
    assert not wrong, f"shown as dora's home: {wrong[:5]}"
    assert len(found) == count and swapping.rounds > count
    return sum(one == allowed for one in found)


@pytest.mark.parametrize("rule", ["home", "fixed"])
def test_a_home_that_is_swapped_during_logins(bastion, hub, make_place, rule):
    """100 logins for each rule: dora's home, or none; never what a link leads to, nor somebody else's."""
    ids = {"home": (5001, 5001), "fixed": (1000, 100)}[rule]
    place, erin = make_place("dora", *ids), make_place("erin", *((5002, 5002) if rule == "home" else ids))
    top = local_home(bastion.box.path("/srv/homes"))
    place.home.write("marker", "dora's", owner=ids)
    erin.home.write("secret", "erin's", owner=erin.owner)
    for number, target in enumerate(("erin", "/etc", "/srv/homes/erin", "..", "/proc/self/root", "/home/localadmin")):
        top.symlink(target, f"swap{number}")
    top.write("swapfile", "x", owner=ids)
    top.mkdir("swaproot", owner=(0, 0))
    top.write("swaproot/secret", "root's", mode=0o600)
    others = [f"swap{number}" for number in range(6)] + ["swapfile", "swaproot"]
    try:
        with bastion.configured(hub.url, BY_HOME if rule == "home" else FIXED):
            served = swapped_logins(place, Swapping(top, "dora", others), 100, ["marker"])
        print(f"dora's own home in {served} of 100 logins")
        assert served, "not one login in the race had its home: nothing was tested"
        assert erin.home.tree() == {"secret": erin.home.stat("secret")} and erin.home.read("secret") == b"erin's"
        assert top.names("swaproot") == ["secret"]
    finally:
        top.remove("aside", *others)


def test_a_component_that_is_swapped_during_logins(bastion, hub, make_place):
    """The user owns the directory above the home: students/dora/home, and makes `home` a link at the right moment."""
    place = make_place("dora", 1000, 100, path="students/dora/home")
    erin = make_place("erin", 1000, 100, path="students/erin/home")
    above = local_home(bastion.box.path("/srv/homes/students/dora"))
    above.run("chown", "1000:100", above.path)
    place.home.write("marker", "dora's", owner=(1000, 100))
    erin.home.write("secret", "erin's", owner=(1000, 100))
    for number, target in enumerate(("../erin/home", "/srv/homes/students/erin/home", "/etc", ".")):
        above.symlink(target, f"swap{number}")
    text = FIXED.replace("[accounts]", 'template = "students/{username}/home"\n[accounts]')
    try:
        with bastion.configured(hub.url, text):
            assert swapped_logins(place, Swapping(above, "home", [f"swap{n}" for n in range(4)]), 60, ["marker"])
    finally:
        local_home(bastion.box.path("/srv/homes")).remove("students")
