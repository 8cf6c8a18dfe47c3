"""Keys in homes that the kernel's NFS serves: root may not read there, and the server may be away."""

import contextlib
import time

import pytest
from test_nfs_faults import DEADLINE, FIXED, SLACK, forget, silent

from lib.actors.keys import administrators_file, door, keys_table
from lib.checks import filechecks
from lib.machines.vm_files import mounted

#: sshd asks twice for a key that it takes, and each time the home is given so many seconds.
ASKED = 2 * 2


@contextlib.contextmanager
def alices(bastion, hub, client, server, users, *sources):
    """Logins of alice with keys of these sources; her home is on the file server, which squashes root."""
    path = server.export("keys")
    with mounted(bastion, server, path):
        place = users.on_server(server, path, "alice", 1000, 100)
        with door(client, bastion, hub, place, FIXED + keys_table(*sources)) as made:
            yield made, place


def test_a_key_in_a_home_where_root_may_not_read(bastion, hub, client, server, users, key):
    with alices(bastion, hub, client, server, users, "home") as (doors, _):
        doors.authorize(key.public)
        assert (
            "Permission denied" in bastion.box.run("cat", "/srv/homes/alice/.ssh/authorized_keys", check=False).stderr
        )
        doors.opens(key, "home")


@pytest.mark.parametrize("how", ["hanging", "stopped"])
def test_a_home_that_does_not_answer(bastion, hub, client, server, users, key, how):
    """Another source is asked then, and nothing is left of the looks at the home."""
    with alices(bastion, hub, client, server, users, "home", "file") as (doors, place):
        administrators_file(bastion, "alice", key.public)
        start = time.monotonic()
        doors.opens(key, "file")
        normal = time.monotonic() - start
        mark = bastion.syslog.mark()
        forget(bastion, False)
        with silent(server, how):
            start = time.monotonic()
            doors.opens(key, "file")
            assert time.monotonic() - start < normal + ASKED + DEADLINE + SLACK
            bastion.syslog.wait(r"home is left out: .*no answer within 2 s", mark)
            bastion.wait_quiet(20)
        doors.authorize(key.public)
        doors.opens(key, "home")
        filechecks.check_put_and_get(place)
