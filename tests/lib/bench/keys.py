"""Logins by key beside stock sshd's, and beside the two calls to the hub that ours makes."""

import statistics
import time

from lib.actors import rest
from lib.actors.hub import HUB_UID
from lib.actors.keys import Key, keys_table, openssh, service_token
from lib.bench.figures import milliseconds, verdict
from lib.bench.terminal import Session
from lib.checks.files import local_home


def keys(bench, rounds=15):
    """From the start of the client to the shell's prompt; the key is in the home on the bastion."""
    bastion, key = bench.bastion, Key(bench.scratch)
    home = local_home(bastion.box.path(f"{bench.HOMES}/alice"))
    home.mkdir(".ssh", 0o700, owner=(HUB_UID, HUB_UID))
    home.write(".ssh/authorized_keys", f"{key.public}\n", owner=(HUB_UID, HUB_UID))
    bastion.admin_key(f"{key.public}\n")

    def session(user):
        return Session(
            bench.client,
            bastion,
            user,
            "",
            command=openssh(
                bench.client, "ssh", bastion, user, key, bastion.address, options=("-tt", "-o", "BatchMode=yes")
            ),
        )

    def calls():
        """A token is made and used once, each by a connection of its own."""
        start, scopes = time.monotonic(), ["access:servers!server=alice/", "servers!server=alice/"]
        made = (
            bench.hub.api(
                "POST",
                "/users/alice/tokens",
                {"note": "bench", "expires_in": 300, "scopes": scopes},
                token=bench.hub.keys_token,
            )
            .ok()
            .json()
        )
        rest.request(bench.network.client, "GET", f"{bench.hub.url}/hub/api/user", made["token"]).ok()
        taken = time.monotonic() - start
        bench.hub.api("DELETE", f"/users/alice/tokens/{made['id']}", token=bench.hub.keys_token).ok()
        return taken

    taken = {name: [] for name in ("ours", "stock", "calls", "terminal")}
    with service_token(bastion, bench.hub.keys_token):
        bench.configure(homes=True, extra=keys_table("home"))
        for number in range(rounds + 1):
            once = {"calls": calls()}
            for name, user in (("ours", "alice"), ("stock", bastion.ADMIN)):
                with session(user) as one:
                    once[name] = one.prompt()
            with bench.raw() as one:
                once["terminal"] = one.prompt()
            if number:  # the first one warms caches
                for name, seconds in once.items():
                    taken[name].append(seconds)
    extra = [a - b - c for a, b, c in zip(taken["ours"], taken["stock"], taken["calls"])]
    bench.row(
        "login by key to the first prompt byte, ms",
        milliseconds(taken["ours"]),
        f"stock sshd by key {milliseconds(taken['stock'])}; two calls to the hub {milliseconds(taken['calls'])}; "
        f"a terminal of the server, with one call {milliseconds(taken['terminal'])}",
        f"{milliseconds(extra)} more than sshd and the two calls (goal ≤ 60): "
        f"{verdict(statistics.median(extra) <= 0.060)}",
    )
