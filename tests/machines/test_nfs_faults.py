"""The file server hangs, stops, comes back, forgets; mounts come and go. Nobody waits longer than the deadline."""

import concurrent.futures
import contextlib
import os
import re
import signal
import time

import paramiko
import pytest

from lib.checks import filechecks
from lib.checks.files import Home, make_random
from lib.checks.place import sftp, sftp_command
from lib.machines.vm_files import mounted, unmount
from lib.wait import wait_for

#: How much longer than with an answering server a login may take (jail's deadline, or NSS's and the jail's), and
#: what an emulated processor that other tests share may add to that.
DEADLINE, SLACK = 5, 4

BY_HOME = '[accounts]\nuid = "home"\n[homes]\nroot = "/srv/homes"\n'
FIXED = '[accounts]\nuid = "fixed"\nfixed = [1000, 100]\n[homes]\nroot = "/srv/homes"\n'
HASHED = '[homes]\nroot = "/srv/homes"\n'


@contextlib.contextmanager
def silent(server, how):
    """The server stands still (no packet is answered), or its NFS server is stopped (connections are refused)."""
    with server.hanging() if how == "hanging" else server.stopped():
        yield


def refused_sftp(place):
    """sftp is refused, with two lines that say why; what they say."""
    done = sftp(place, "put /etc/hostname refused", "ls", check=False)
    assert done.returncode, done
    assert re.search(r"Failure|home", done.stderr) and len(done.stderr.strip().splitlines()) >= 2, done
    return done.stderr


def seconds_to(action):
    """How long something takes."""
    start = time.monotonic()
    action()
    return time.monotonic() - start


def prompt(client, bastion, place):
    """Log in with a terminal, to its prompt, and out."""
    with client.terminal(bastion, place.user, place.token) as terminal:
        terminal.prompt(60)
        assert terminal.run("echo $((6*7))") == "42\n"


@pytest.fixture
def homes(bastion, server):
    path = server.export("faults")
    with mounted(bastion, server, path):
        yield path


def forget(bastion, known):
    """Empty the bastion's caches of the server's files; with `known`, it knows of their owners and modes again.

    That much may be answered without the server, and a login must not be misled by it.
    """
    bastion.box.shell("sync; echo 3 >/proc/sys/vm/drop_caches")
    if known:
        bastion.box.run("ls", "-la", "/srv/homes")


#: How the server is silent, whose uid a session gets, and whether the bastion has attributes in its cache.
SILENCES = {
    "hanging-uid-of-home": ("hanging", BY_HOME, False),
    "stopped-uid-fixed": ("stopped", FIXED, False),
    "hanging-uid-fixed-attributes-known": ("hanging", FIXED, True),
    "hanging-uid-hashed": ("hanging", HASHED, False),
    "stopped-uid-of-home": ("stopped", BY_HOME, False),
    "hanging-uid-of-home-attributes-known": ("hanging", BY_HOME, True),
    "hanging-uid-fixed": ("hanging", FIXED, False),
    "stopped-uid-hashed": ("stopped", HASHED, False),
}


@pytest.fixture
def of_this_run(silence, everything):
    """Asked for before all that a test needs, and a test that is skipped does not."""
    if not everything and silence not in list(SILENCES)[:4]:
        pytest.skip("with --all")


@pytest.mark.parametrize("silence", SILENCES)
def test_no_answer_before_the_login(of_this_run, bastion, hub, client, server, users, homes, alice, silence):
    """A terminal is there after the deadline, sftp says why it isn't, and the next login after that works."""
    how, configuration, known = SILENCES[silence]
    uid = 1000 if configuration is FIXED else 20001
    bastion.configure(hub.url, configuration, reload=False)
    place = users.on_server(server, homes, "alice", uid, 100)
    normal = seconds_to(lambda: prompt(client, bastion, place))
    for action in ("terminal", "sftp"):
        mark = bastion.syslog.mark()
        forget(bastion, known)
        with silent(server, how):
            if action == "terminal":
                slow = seconds_to(lambda: prompt(client, bastion, place))
                assert slow < normal + DEADLINE + SLACK, (normal, slow)
            else:
                refused_sftp(place)
            bastion.syslog.wait(r"alice.*no answer within \d s", mark)
            # While the server is still silent: nothing of these sessions may be stuck on it.
            bastion.wait_quiet(20)
    if configuration is not HASHED:
        filechecks.check_put_and_get(place)


def test_other_users_and_administrators_do_not_wait(bastion, hub, client, server, users):
    """Alice's home hangs; Bob's is elsewhere, and administrators have none on the server."""
    path = server.export("faults")
    place = users.on_server(server, path, "alice", 1000, 100)
    bastion.configure(hub.url, FIXED, reload=False)
    bastion.box.shell("mkdir -p /srv/homes/bob; chown 1000:100 /srv/homes/bob; chmod 700 /srv/homes/bob")
    try:
        with mounted(bastion, server, place.home.path, "/srv/homes/alice"):
            bob = users.place("bob", Home(bastion.box.output, "/srv/homes/bob"), (1000, 100))

            def by_sftp():
                with bob.paramiko() as files:
                    files.listdir()

            def administrator():
                client.password_login(bastion, bastion.ADMIN, bastion.ADMIN_PASSWORD).close()

            normal = seconds_to(by_sftp), seconds_to(administrator)
            with place.paramiko() as files:
                files.listdir()
                with concurrent.futures.ThreadPoolExecutor() as pool, server.hanging():
                    stuck = pool.submit(files.stat, "what the cache doesn't know")
                    refused = pool.submit(refused_sftp, place)
                    assert seconds_to(by_sftp) < 1.5 * normal[0] + SLACK
                    assert seconds_to(administrator) < 1.5 * normal[1] + SLACK
                    assert refused.result() and not stuck.done()
                    server.resume()
                    with pytest.raises(FileNotFoundError):
                        stuck.result(60)
            filechecks.check_put_and_get(place)
    finally:
        bastion.box.run("rm", "-rf", "/srv/homes/bob")


@pytest.mark.parametrize("how", ["hanging", "stopped"])
def test_home_itself_is_the_hanging_mount(bastion, hub, client, server, users, alice, how):
    """homes.root = "/home": what hides /home from sessions must not touch it either."""
    path = server.export("faults")
    place = users.on_server(server, path, "alice", 1000, 100)
    bastion.configure(hub.url, FIXED.replace("/srv/homes", "/home"), reload=False)
    with mounted(bastion, server, path, "/home"):
        filechecks.check_put_and_get(place)
        normal = seconds_to(lambda: prompt(client, bastion, place))
        forget(bastion, False)
        with silent(server, how):
            assert seconds_to(lambda: prompt(client, bastion, place)) < normal + DEADLINE + SLACK
            refused_sftp(place)
            bastion.wait_quiet(20)
        filechecks.check_put_and_get(place)


def transfer(place, here, size=40 << 20):
    """A put of random bytes with 2 MB/s, begun; (checksum, client)."""
    whole = make_random(here / "whole", size)
    (here / "batch").write_text(f"put {here}/whole file\n")
    command = [str(here / "batch") if part == "-" else part for part in sftp_command(place, "-l", "16000")]
    client = place.start(command)

    def under_way():
        assert client.poll() is None, "the client ended"
        # What was written there; it reaches the server when the bastion's kernel likes.
        written = [
            re.search(r"wchar: (\d+)", place.bastion.box.read(f"/proc/{one.pid}/io"))
            for one in place.bastion.sftp_servers()
        ]
        return any(one and int(one[1]) > 1_000_000 for one in written)

    wait_for(under_way, "the transfer is under way", 60, 0.2)
    return whole, client


@pytest.mark.parametrize("how", ["hanging", "stopped"])
def test_a_transfer_goes_on_when_the_server_is_back(bastion, hub, server, users, homes, how):
    bastion.configure(hub.url, BY_HOME, reload=False)
    place = users.on_server(server, homes, "alice", 20001, 100)
    with place.scratch() as here:
        whole, client = transfer(place, here)
        with silent(server, how):
            time.sleep(6)  # the fault itself: longer than any buffer on the way lasts
            assert client.poll() is None
        assert client.wait(120) == 0
        assert place.home.stat("file").sha256 == whole


def test_a_transfer_that_was_given_up_leaves_nothing_stuck(bastion, hub, server, users, homes):
    """The client is killed while its file's server hangs. What the kernel has yet to write waits for the server."""
    bastion.configure(hub.url, BY_HOME, reload=False)
    place = users.on_server(server, homes, "alice", 20001, 100)
    with place.scratch() as here:
        whole, client = transfer(place, here)
        with server.hanging():
            time.sleep(3)  # until sftp-server waits for the server
            os.killpg(client.pid, signal.SIGKILL)
            client.wait()
        bastion.wait_quiet(60)
        assert not bastion.sftp_servers()
        sftp(place, f"reput {here}/whole file", timeout=300)
        assert place.home.stat("file").sha256 == whole


def test_a_client_that_is_gone_while_the_server_hangs(bastion, hub, client, server, users, homes):
    """A session that only waits for an answer ends with its client, while the server is still silent."""
    bastion.configure(hub.url, BY_HOME, reload=False)
    place = users.on_server(server, homes, "alice", 20001, 100)
    with place.paramiko() as files, server.hanging(), concurrent.futures.ThreadPoolExecutor() as pool:
        stuck = pool.submit(files.stat, "what the cache doesn't know")
        wait_for(lambda: any(one.state == "D" for one in bastion.sftp_servers()), "sftp-server waits", 30)
        files.get_channel().get_transport().sock.close()
        bastion.wait_quiet(30)
        assert not bastion.sftp_servers()
        with pytest.raises((EOFError, OSError, paramiko.SSHException)):
            stuck.result(60)


def test_a_directory_that_was_made_anew(bastion, hub, server, users, homes):
    """The home is deleted and made again on the server: the session's handle is stale, the next login's isn't."""
    bastion.configure(hub.url, BY_HOME, reload=False)
    place = users.on_server(server, homes, "alice", 20001, 100)
    with place.paramiko() as files:
        files.listdir()
        server.run("rm", "-rf", place.home.path)
        users.on_server(server, homes, "alice", 20001, 100)
        # The bastion still believes in the old one; at once, before its cache of attributes expires.
        filechecks.check_put_and_get(place)

        def fails():
            try:
                with files.open(f"new{time.monotonic()}", "w") as file:
                    file.write(b"x")
            except OSError as error:
                return error

        wait_for(fails, "writing to a deleted home fails", 70, 1)
    filechecks.check_put_and_get(place)


def works(place):
    """Whether sftp works."""
    return sftp(place, "ls", check=False).returncode == 0


def test_an_export_that_is_withdrawn(bastion, hub, client, server, users, homes, alice):
    bastion.configure(hub.url, FIXED, reload=False)
    place = users.on_server(server, homes, "alice", 1000, 100)
    filechecks.check_ownership(place)
    mark = bastion.syslog.mark()
    server.unexport("faults")
    try:
        wait_for(lambda: not works(place), "sftp is refused", 70, 1)
        refused_sftp(place)
        bastion.syslog.wait(r"user=alice .*(Stale|Permission denied|not permitted)", mark)
        prompt(client, bastion, place)
    finally:
        server.export("faults")
    wait_for(lambda: works(place), "sftp works again", 70, 1)
    filechecks.check_put_and_get(place)


def test_a_remount_during_a_session(bastion, hub, server, users):
    """The session keeps what it has; the next one has the new mount. What was unmounted lazily goes with the session."""
    path, other = server.export("faults"), server.export("faults-too")
    bastion.configure(hub.url, BY_HOME, reload=False)
    place = users.on_server(server, path, "alice", 20001, 100)
    elsewhere = users.on_server(server, other, "alice", 20001, 100)
    elsewhere.home.write("other", b"x")
    with mounted(bastion, server, path):
        with place.paramiko() as files:
            files.open("before", "w").close()
            unmount(bastion, "/srv/homes")
            with mounted(bastion, server, other):
                files.open("after", "w").close()
                assert set(files.listdir()) == {"before", "after"} == set(place.home.names())
                with elsewhere.paramiko() as new:
                    assert new.listdir() == ["other"]


# Automounters.


def test_autofs(bastion, hub, client, server, users, alice):
    """Each home is a mount of its own, made by autofs when it is looked for."""
    path = server.export("homes-auto", options=",crossmnt")
    bastion.box.write("/etc/auto.master.d/homes.autofs", "/srv/auto /etc/auto.homes --timeout=60\n")
    bastion.box.write("/etc/auto.homes", f"* -fstype=nfs4,vers=4.2 {server.address}:{path}/&\n")
    bastion.box.shell("systemctl unmask autofs; systemctl restart autofs", timeout=120)
    try:
        bastion.configure(hub.url, BY_HOME.replace("/srv/homes", "/srv/auto"), reload=False)
        place = users.on_server(server, path, "alice", 20001, 100)
        assert "/srv/auto/alice" not in bastion.box.read("/proc/mounts")
        filechecks.check_put_and_get(place)
        assert "/srv/auto/alice" in bastion.box.read("/proc/mounts")
        mark = bastion.syslog.mark()
        refused_sftp(users.place("carol", None, None))
        bastion.syslog.wait(r"user=carol .*/srv/auto/carol does not exist", mark)
        # Not mounted, and the server doesn't answer.
        bastion.configure(hub.url, FIXED.replace("/srv/homes", "/srv/auto"), reload=False)
        place = users.on_server(server, path, "alice", 1000, 100)
        bastion.box.run("umount", "-l", "/srv/auto/alice")
        normal = seconds_to(lambda: prompt(client, bastion, place))
        # The session that ends is not to be the last that holds this mount: its end would wait for the server.
        bastion.wait_quiet(20)
        bastion.box.run("umount", "-l", "/srv/auto/alice")
        with server.hanging():
            assert seconds_to(lambda: prompt(client, bastion, place)) < normal + DEADLINE + SLACK
            bastion.wait_quiet(20)
    finally:
        bastion.box.shell("systemctl kill -s KILL autofs; systemctl stop autofs; systemctl mask autofs", timeout=120)
        unmount(bastion, "/srv/auto")


def test_systemd_automount(bastion, hub, server, users):
    path = server.export("homes-auto", options=",crossmnt")
    place = users.on_server(server, path, "alice", 20001, 100)
    bastion.configure(hub.url, BY_HOME.replace("/srv/homes", "/srv/units"), reload=False)
    bastion.box.shell(f"""
        mkdir -p /srv/units
        printf '[Mount]\\nWhat={server.address}:{path}\\nWhere=/srv/units\\nType=nfs4\\n' >/run/systemd/system/srv-units.mount
        printf '[Automount]\\nWhere=/srv/units\\n' >/run/systemd/system/srv-units.automount
        systemctl daemon-reload; systemctl start srv-units.automount""")
    try:
        filechecks.check_put_and_get(place)
    finally:
        bastion.box.shell(
            "systemctl stop srv-units.automount srv-units.mount; rm /run/systemd/system/srv-units.*"
            "; systemctl daemon-reload"
        )


# A home that isn't there.


def test_a_missing_home_is_made_only_where_root_may(bastion, hub, server, users):
    extra = FIXED + 'missing = "create"\nowner = [1000, 100]\nmode = "0700"\n'
    bastion.configure(hub.url, extra, reload=False)
    for squash in (True, False):
        path = server.export(f"missing-{squash}", root_squash=squash)
        server.run("rm", "-rf", f"{path}/alice")
        with mounted(bastion, server, path):
            place = users.place("alice", Home(server.output, f"{path}/alice"), (1000, 100))
            mark = bastion.syslog.mark()
            if squash:
                refused_sftp(place)
                entry = bastion.syslog.wait(r"user=alice .*root_squash", mark)
                assert "\n" not in entry.text
                assert "alice" not in server.run("ls", path).stdout
            else:
                sftp(place, "ls")
                filechecks.check_put_and_get(place)
                made = server.run("stat", "-c", "%u:%g %a", f"{path}/alice").stdout
                assert made == "1000:100 700\n"
