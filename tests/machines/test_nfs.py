"""Homes on a file server of its own, by the kernel's NFS in versions 4.2 and 3, with root_squash."""

import re

import pytest

from lib.checks import filechecks
from lib.checks.place import sftp
from lib.machines.vm_files import mounted

#: Who owns the homes: everybody's is the same uid's, as hubs in containers do it, or each is its user's.
OWNERS = {"shared": (1000, 1000), "separate": (20001, 20002)}
CONFIGURATION = {
    "shared": '[accounts]\nuid = "fixed"\nfixed = [1000, 100]\n[homes]\nroot = "/srv/homes"\n[files]\nrsync = true\n',
    "separate": '[accounts]\nuid = "home"\n[homes]\nroot = "/srv/homes"\n[files]\nrsync = true\n',
}
#: Each version and each kind of owners once; all four with --all.
COMBINATIONS = [("4.2", "separate"), ("3", "shared")]
MORE = [("4.2", "shared"), ("3", "separate")]
#: Compares the sizes by the byte; NFS rounds them, see below.
QUICK = [check for check in filechecks.QUICK if check is not filechecks.check_statvfs]


@pytest.fixture(scope="module", params=[*COMBINATIONS, *MORE], ids="-".join)
def combination(request, everything):
    if request.param in MORE and not everything:
        pytest.skip("with --all")
    return request.param


@pytest.fixture(scope="module")
def homes(shared_bastion, server, combination):
    """The directory on the file server, mounted on the bastion."""
    version, kind = combination
    path = server.export(f"homes-{version}-{kind}")
    with mounted(shared_bastion, server, path, version=version):
        yield path


@pytest.fixture
def place(bastion, hub, server, users, homes, combination):
    kind = combination[1]
    bastion.configure(hub.url, CONFIGURATION[kind], reload=False)
    return users.on_server(server, homes, "alice", OWNERS[kind][0], 100)


@pytest.mark.parametrize("check", QUICK, ids=lambda check: check.__name__)
def test_transfers(place, check):
    check(place)


@pytest.fixture
def of_this_run(check, combination, everything):
    """Asked for before `place`, which need not be made for a test that is skipped."""
    if not everything and (combination != COMBINATIONS[0] or check.__name__ != "check_paramiko"):
        pytest.skip("with --all")


@pytest.mark.parametrize(
    "check",
    [filechecks.check_scp_of_old, filechecks.check_rsync, *filechecks.CLIENTS],
    ids=lambda check: check.__name__,
)
def test_clients(of_this_run, place, check):
    check(place)


def test_small_files(place, combination, everything):
    count = 10_000 if everything else 300 if combination == COMBINATIONS[0] else 200
    print(filechecks.check_small_files(place, count))


def test_a_large_file(place, combination, everything):
    """The limit of time is no measure of speed: the processor may be emulated."""
    size = 4 << 30 if everything else 64 << 20 if combination == COMBINATIONS[0] else 40 << 20
    print(filechecks.check_big_file(place, size, 3600))


def test_a_file_beyond_four_gigabytes(place):
    filechecks.check_beyond_four_gigabytes(place)


def test_df_shows_the_servers_file_system(place):
    kilobytes = int(sftp(place, "df").stdout.splitlines()[-1].split()[0])
    unit, blocks = map(int, place.home.run("stat", "-f", "-c", "%S %b", place.home.path).split())
    assert abs(kilobytes - unit * blocks // 1024) <= 2048


def test_a_broken_transfer_is_resumed(place):
    """The server learns of the data when the bastion's kernel likes: what sftp-server has written is what counts."""

    def under_way():
        written = [
            re.search(r"wchar: (\d+)", place.bastion.box.read(f"/proc/{one.pid}/io"))
            for one in place.bastion.sftp_servers()
        ]
        return any(one and int(one[1]) > 2_000_000 for one in written)

    filechecks.check_broken_transfer(place, under_way=under_way)


def test_one_user_does_not_reach_the_home_of_another(place, server, users, homes, combination):
    """Also where both have the same uid."""
    bob = users.on_server(server, homes, "bob", OWNERS[combination[1]][1], 100)
    bob.home.write("secret", b"bob's", 0o600, bob.owner)
    with place.paramiko() as files:
        for path in ("/home/bob/secret", "../bob/secret", "/srv/homes/bob/secret"):
            with pytest.raises(OSError):
                files.stat(path)
        assert files.listdir("/home") == ["alice"]
    with bob.paramiko() as files:
        assert files.listdir() == ["secret"]


def test_parents_that_only_users_may_enter(bastion, hub, server, users, client):
    """root_squash makes root nobody, which may not search a directory of mode 0750: the user may."""
    path = server.export("closed")
    server.shell(f"mkdir -p {path}/students; chown 0:100 {path}/students; chmod 0750 {path}/students")
    bastion.configure(
        hub.url, CONFIGURATION["shared"].replace("[files]", 'template = "students/{username}"\n[files]'), reload=False
    )
    with mounted(bastion, server, path):
        assert bastion.box.run("ls", "/srv/homes/students", check=False).returncode, "root may not enter it"
        place = users.on_server(server, f"{path}/students", "alice", 1000, 100)
        filechecks.check_put_and_get(place)


def test_mounts_inside_the_home_are_as_harmless_as_the_home(bastion, hub, server, users):
    """File systems that the server mounts in a home (crossmnt) are nosuid, nodev and noexec in the session."""
    path = server.export("cross", options=",crossmnt")
    bastion.configure(hub.url, CONFIGURATION["separate"], reload=False)
    with mounted(bastion, server, path):
        place = users.on_server(server, path, "alice", 20001, 100)
        inner = place.home.at("inner")
        server.shell(f"""
            mkdir {inner}; mount -t tmpfs tmpfs {inner}
            exportfs -o rw,no_subtree_check,fsid=77 '*:{inner}'
            cp /bin/true {inner}/suid; chmod 4755 {inner}/suid; mknod {inner}/null c 1 3; chmod 666 {inner}/null
            chmod 777 {inner}""")
        try:
            with place.paramiko() as files:
                assert set(files.listdir("inner")) == {"suid", "null"}
                with pytest.raises(OSError):
                    files.open("inner/null", "r").read(1)
                server_process = bastion.sftp_servers()[0]
                lines = bastion.box.read(f"/proc/{server_process.pid}/mountinfo").splitlines()
                inside = {line.split()[4]: line.split()[5].split(",") for line in lines if " - nfs" in line}
                assert set(inside) == {"/home/alice", "/home/alice/inner"}, lines
                for options in inside.values():
                    assert {"nosuid", "nodev", "noexec"} <= set(options), inside
        finally:
            bastion.box.run("umount", "-l", "/srv/homes/alice/inner", check=False)
            server.shell(f"exportfs -u '*:{inner}'; umount -l {inner}")
