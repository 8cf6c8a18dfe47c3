import os, time
import pytest
from lib.clientchecks import rsync_command, made_tree, make_random
from test_old_servers import place
def test_speed(place):
    def timed(what, f):
        t = time.monotonic(); r = f(); print("SPEED", place.user, what, "%.2f" % (time.monotonic() - t), flush=True); return r
    with place.scratch() as here:
        make_random(here / "whole", 20_000_000)
        timed("up", lambda: place.run(rsync_command(place, here / "whole", f"{place.host}:whole")))
        timed("truncate", lambda: place.ssh("truncate -s 2000000 whole"))
        timed("append", lambda: place.run(rsync_command(place, "--partial", "--append-verify", here / "whole", f"{place.host}:whole")))
        timed("cat up", lambda: place.ssh("cat >whole2", input=(here / "whole").read_bytes()))
        timed("cat both", lambda: place.ssh("cat", input=(here / "whole").read_bytes()))
        timed("down", lambda: place.run(rsync_command(place, f"{place.host}:whole", here / "back")))
        tree = made_tree(here, 1000)
        timed("tree", lambda: place.run(rsync_command(place, "-a", f"{tree}/", f"{place.host}:tree/")))
        timed("again", lambda: place.run(rsync_command(place, "-a", "--checksum", f"{tree}/", f"{place.host}:tree/")))
        timed("back", lambda: place.run(rsync_command(place, "-a", f"{place.host}:tree", here / "b2")))
        client = place.start(rsync_command(place, "--partial", "--inplace", "--bwlimit=8m", here / "whole", f"{place.host}:w3"))
        time.sleep(2); import signal; os.killpg(client.pid, signal.SIGKILL); client.wait()
        for _ in range(4):
            timed("after kill", lambda: place.ssh("true"))
        place.ssh("rm -rf whole whole2 w3 tree")
