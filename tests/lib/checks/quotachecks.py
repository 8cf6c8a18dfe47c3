"""Checks of homes with limits, of lib.checks.filechecks' kind: each takes a Place whose home has a quota, sizes in bytes."""

from lib.checks.files import make_random, sha256
from lib.checks.place import leaves_nothing, sftp


def check_limit_is_shown(place, soft, hard):
    """df in sftp shows the user's own limit, not the size of the whole file system."""
    size, used, available = (1024 * int(word) for word in sftp(place, "df").stdout.splitlines()[-1].split()[:3])
    assert size in (soft, hard) and used < soft // 8 and 0 < available <= size, (size, used, available)


@leaves_nothing
def check_full_home(place, hard):
    """A write beyond the limit fails clearly; what was there stays whole, and room that is made can be used."""
    with place.scratch() as here:
        kept = make_random(here / "kept", hard * 3 // 8)
        make_random(here / "huge", hard * 2)
        sftp(place, f"put {here}/kept kept")
        for name in ("huge", "kept.new"):
            said = sftp(place, f"put {here}/huge {name}", check=False)
            assert said.returncode and "huge" in said.stderr, said
            assert place.home.stat("kept").sha256 == kept
            assert place.home.stat(name).size < hard
            sftp(place, f"rm {name}")
        sftp(place, f"get kept {here}/back", f"put {here}/kept again")
        assert sha256(here / "back") == kept == place.home.stat("again").sha256


@leaves_nothing
def check_limits_are_ones_own(place, other, hard):
    """Two homes with the same uid are limited each for itself."""
    with place.scratch() as here:
        kept = make_random(here / "kept", hard * 6 // 8)
        for one in (place, other):
            sftp(one, f"put {here}/kept kept")
            assert one.home.stat("kept").sha256 == kept
        other.home.remove("kept")


@leaves_nothing
def check_status(place, run):
    """`jupyterhub-openssh status` lists usage and limits; `run(*argv)` runs a command on the bastion, its output as text."""
    with place.scratch() as here:
        make_random(here / "file", 2_000_000)
        sftp(place, f"put {here}/file file")
        place.home.run("sync", "-f", place.home.path)
        said = run("jupyterhub-openssh", "status", place.user)
    lines = [line for line in said.splitlines() if place.user in line]
    assert len(lines) == 1 and any(figure in lines[0] for figure in ("1.9", "2.0", "2M", "2 M")), said
