"""rsync and scp -O: with files.rsync = true they serve the home, and nothing else is run; else they are commands."""

import shutil

import pytest

from lib.checks import filechecks
from lib.checks.clientchecks import rsync_command
from lib.checks.shellplace import ShellPlace
from lib.sandbox.storage import BY_HOME

ON = BY_HOME + "[files]\nrsync = true\n"


@pytest.fixture
def shared_bastion(homes_bastion):
    bastion = homes_bastion
    if not bastion.box.path("/usr/bin/rsync").exists():
        bastion.apt("install", "rsync")
        bastion.baseline = bastion.state()
    return bastion


@pytest.fixture
def rsync(bastion, hub, place):
    """Dora's place where rsync is on."""
    with bastion.configured(hub.url, ON):
        yield place


@pytest.fixture
def server(bastion, client, hub, hub_homes, make_place, scratch):
    """Erin's running server, and her home on the bastion, which is another directory."""
    hub.unsteer("erin")
    home = make_place("erin", 1000, 100).home
    hub.start_server("erin")
    place = ShellPlace.of_hub(hub, client, bastion, "erin", hub.token("erin"), scratch, hub_homes)
    place.on_the_bastion = home
    yield place
    client.close_all()
    hub.stop_server("erin")
    for one in hub.server_processes("erin"):
        one.kill()
    shutil.rmtree(hub_homes / "erin")


def test_off_by_default(bastion, hub, server):
    """Then they are commands as others are, in the user's server and with its files."""
    with bastion.configured(hub.url, BY_HOME):
        filechecks.check_rsync(server)
        filechecks.check_scp_of_old(server)
    assert server.on_the_bastion.names() == []


def test_rsync(rsync):
    filechecks.check_rsync(rsync)


def test_scp_of_old(rsync):
    filechecks.check_scp_of_old(rsync)


def test_rsync_of_awkward_names(rsync):
    with rsync.scratch() as here:
        for name in ("a name", "'quote'", '"double"', "$(id)", "`id`", ";id", "two\nlines", "*", "-rf", "ü"):
            (here / name).write_text(name)
        rsync.run(rsync_command(rsync, "-a", f"{here}/", f"{rsync.host}:a folder with spaces/"))
        assert set(rsync.home.names("a folder with spaces")) == {path.name for path in here.iterdir()}
        rsync.run(rsync_command(rsync, "-a", f"{rsync.host}:a folder with spaces/", f"{here}/back/"))
        assert {path.name for path in (here / "back").iterdir()} == set(rsync.home.names("a folder with spaces"))
        # Arguments that come by rsync's own protocol are seen by nobody who could check them.
        done = rsync.run(
            rsync_command(rsync, "-a", "-s", f"{rsync.host}:a folder with spaces/", f"{here}/back2/"), check=False
        )
        assert done.returncode and done.stderr.count("\n") >= 2 and not (here / "back2").exists(), done


def test_rsync_with_the_usual_options(rsync):
    """What people and programs commonly add."""
    with rsync.scratch() as here:
        (here / "tree/folder").mkdir(parents=True)
        (here / "tree/folder/file").write_bytes(b"x" * 100_000)
        (here / "tree/skip.o").write_text("x")
        for number, options in enumerate(
            (
                ["-avzP"],
                ["-avh", "--info=progress2", "--no-inc-recursive"],
                ["-rlt", "--size-only"],
                ["-aHAX"],
                ["-aS"],
                ["-a", "--inplace"],
                ["-a", "--exclude=*.o", "--delete-excluded"],
                ["-a", "--chmod=D750,F640"],
                ["-a", "--bwlimit=10m"],
                ["-aR"],
                ["-a", "--backup"],
                ["-a", "--link-dest=../t0"],
                ["-au", "--update", "--ignore-existing"],
                ["-a", "--numeric-ids"],
                ["-a", "--timeout=30"],
                ["-ac", "--stats"],
                ["-an"],
            )
        ):
            done = rsync.run(rsync_command(rsync, *options, f"{here}/tree/", f"{rsync.host}:t{number}/"), check=False)
            assert done.returncode == 0, (options, done.stderr)
            if options != ["-an"] and options != ["-aR"]:
                assert rsync.home.stat(f"t{number}/folder/file").size == 100_000, options


def test_paths_that_people_write(rsync):
    """~, absolute and nothing at all name the home."""
    with rsync.scratch() as here:
        (here / "file").write_text("x")
        for path in ("~/one", "two", "/home/dora/three", "./four", ""):
            rsync.run(rsync_command(rsync, "-t", here / "file", f"{rsync.host}:{path}"))
        for path in ("~/five", "six", "/home/dora/seven"):
            rsync.run(rsync.command("scp", "-O", here / "file", f"{rsync.host}:{path}"))
        assert rsync.home.names() == sorted(["one", "two", "three", "four", "five", "six", "seven", "file"])


def run(transport, command):
    """A command with nothing on its standard input; (status, output, errors)."""
    channel = transport.open_session()
    channel.settimeout(20)
    channel.exec_command(command)
    channel.shutdown_write()
    out = b"".join(iter(lambda: channel.recv(4096), b""))
    errors = b"".join(iter(lambda: channel.recv_stderr(4096), b""))
    return channel.recv_exit_status(), out, errors


#: What no client sends. It is an end of a transfer all the same: refused, and not handed on to the user's server.
HOSTILE = (
    "rsync --server --daemon .",
    "rsync --server --config=/etc/passwd --daemon . .",
    "rsync --server -e sh . .",
    "rsync --server --rsh=sh . .",
    "rsync --server -logDtpre.iLsfxCIvu --rsync-path=sh . .",
    "rsync --server . . ; touch pwned",
    "rsync --server . . && id",
    "rsync --server . . | sh",
    "rsync --server $(touch pwned) .",
    "rsync --server `touch pwned` .",
    "rsync --server . . > pwned",
    "rsync --server . .\ntouch pwned",
    "rsync --server -vD --write-devices . .",
    "rsync --server -v --copy-devices . .",
    "rsync --server --devices --specials . .",
    "rsync --server -v --log-file=pwned . .",
    "rsync --server --log-file=/home/dora/pwned . .",
    "rsync --server --files-from=/etc/passwd . .",
    "rsync --server --address=127.0.0.1 . .",
    "rsync --server --sockopts=x . .",
    "rsync --server --early-input=/etc/passwd . .",
    "rsync --server --password-file=/etc/passwd . .",
    "rsync --server --fake-super . .",
    "rsync --server --super . .",
    "rsync --server --usermap=*:0 . .",
    "rsync --server --write-batch=pwned . .",
    "rsync --server",
    "rsync --server --read-batch=x . .",
    "rsync --server --dparam=x . .",
    "rsync --server --unknown-option . .",
    "scp -t",
    "scp -f",
    "scp -t . ; touch pwned",
    "scp -t $(touch pwned)",
    "scp -t `touch pwned`",
    "scp -t -f .",
    "rsync --server 'unclosed",
    "rsync --server . " + "x" * 120_000,
)
#: Commands as others are.
ELSEWHERE = (
    "rsync -e sh . x:",
    "rsync -e 'sh -c id' x: .",
    "rsync --rsh=sh x: .",
    "rsync",
    "rsync .",
    "rsync a b",
    "rsync --version",
    "/tmp/rsync --server . .",
    "rsync --server; id",
    "RSYNC_RSH=sh rsync --version",
    "env rsync --version",
    "exec rsync --version",
    "./rsync --server . .",
    "~/rsync --server . .",
    "scp",
    "scp a b",
    "scp -3 -t .",
    "./scp -t .",
    "id",
    "sh",
    "ls",
    "",
    " ",
    "'",
    '"',
    "\\",
    "cat /etc/hostname",
    "touch pwned",
)


def test_nothing_else_is_served(bastion, rsync):
    bastion.box.write("/srv/homes/dora/rsync", "#!/bin/sh\ntouch pwned\n", mode=0o755)
    transport = rsync.login()
    for command in HOSTILE:
        status, out, errors = run(transport, command)
        assert status != 0 and errors, (command[:200], status, out, errors)
        assert b"uid=" not in out + errors and b"root:" not in out + errors, command[:200]
        assert rsync.home.names() == ["rsync"], f"{command[:200]} had an effect"
        assert len(bastion.sessions()) == 0
    transport.close()


def test_commands_run_in_the_users_server(bastion, hub, server):
    """And never on the bastion, whatever they look like."""
    server.on_the_bastion.write("rsync", "#!/bin/sh\ntouch pwned\n", mode=0o755, owner=(1000, 100))
    with bastion.configured(hub.url, ON):
        transport = server.login()
        for command in ELSEWHERE:
            status, out, errors = run(transport, command)
            assert b"uid=1000" not in out + errors and b"bastion" not in out + errors, (command, status, out, errors)
            assert server.on_the_bastion.names() == ["rsync"], f"{command} had an effect"
        assert run(transport, "hostname; pwd") == (0, b"jupyter\n/mnt/home/erin\n", b"")
        transport.close()
    assert "pwned" in server.home.names()


def test_no_file_of_the_user_gives_options_another_meaning(bastion, rsync):
    """popt(3) reads ~/.popt before rsync looks at its arguments: an alias would undo the list of what is allowed."""
    bastion.box.write(
        "/srv/homes/dora/.popt",
        "rsync alias --recursive --log-file=pwned\nrsync exec --server /usr/bin/scp\n"
        "rsync alias -r --log-file=pwned\nrsync alias -v --log-file=pwned\n",
    )
    with rsync.scratch() as here:
        (here / "file").write_text("x")
        rsync.run(rsync_command(rsync, "-rv", here / "file", f"{rsync.host}:copy"))
    assert rsync.home.names() == [".popt", "copy"]


def test_rsync_sees_the_home_only(rsync):
    for path in ("/etc/shadow", "/proc/self/environ", "../../../etc/shadow", "/srv/homes"):
        with rsync.scratch() as here:
            done = rsync.run(rsync_command(rsync, "-a", f"{rsync.host}:{path}", here), check=False)
            assert done.returncode and not list(here.iterdir()), done


def test_where_rsync_is_not_installed(bastion, hub, place):
    """The message names what is missing; nothing else is harmed."""
    path = bastion.box.path("/usr/bin/rsync")
    path.rename(path.with_name("rsync.away"))
    try:
        with bastion.configured(hub.url, ON), place.scratch() as here:
            (here / "file").write_text("x")
            done = place.run(rsync_command(place, here / "file", f"{place.host}:"), check=False)
            assert done.returncode and "rsync" in done.stderr, done
            filechecks.check_put_and_get(place)
    finally:
        path.with_name("rsync.away").rename(path)


def test_umask_of_rsync_and_scp(bastion, hub, place):
    with bastion.configured(hub.url, ON + 'umask = "0077"\n'), place.scratch() as here:
        (here / "file").write_text("x")
        (here / "file").chmod(0o666)
        place.run(rsync_command(place, "-r", here / "file", f"{place.host}:one"))
        place.run(place.command("scp", "-O", here / "file", f"{place.host}:two"))
        assert place.home.stat("one").mode == place.home.stat("two").mode == 0o600
