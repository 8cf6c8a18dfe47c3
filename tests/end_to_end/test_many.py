"""A classroom: 200 logins at once from several addresses."""

import threading
import time

import pytest

from lib.wait import wait_for

pytestmark = pytest.mark.only("trixie")


def test_200_logins_at_once(bastion, client, alice, bob, carol, network):
    count = 200
    users = (alice, bob, carol)
    failures, terminals, took = [], [], []
    gate, lock = threading.Barrier(count), threading.Lock()

    def login(number):
        server = users[number % len(users)]
        source = network.CLIENTS[number % len(network.CLIENTS)]
        try:
            gate.wait(60)
            start = time.monotonic()
            terminal = client.terminal(bastion, server.user, server.token, source=source)
            terminal.prompt(110)
            with lock:
                terminals.append(terminal)
                took.append(time.monotonic() - start)
        except Exception as error:  # noqa: BLE001 (every kind of failure counts)
            with lock:
                failures.append(f"{number}: {type(error).__name__}: {error}")

    threads = [threading.Thread(target=login, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(180)
    assert not failures, f"{len(failures)} of {count} failed: {failures[:5]}"
    print(f"{count} logins: median {sorted(took)[count // 2]:.1f} s, last {max(took):.1f} s")
    assert len(bastion.sessions()) == count
    assert terminals[-1].run("echo still quick", 20) == "still quick\n"
    for terminal in terminals:
        terminal.transport.close()
    bastion.wait_quiet(60)
    for server in users:
        server.no_terminals(60)
    wait_for(lambda: not [m for m in bastion.box.mounts() if m not in bastion.baseline.mounts], "no mount is left")
