"""A thousand logins, a hundred of them killed: mounts, namespaces, processes and files are as before."""

import os
import random
import signal
import threading
import time

import pytest

from lib.place import sftp_command
from lib.wait import wait_for


@pytest.fixture
def shared_bastion(homes_bastion):
    return homes_bastion


def host_state():
    """Mounts of this machine and its loop devices: nothing of a bastion may be seen there."""
    with open("/proc/self/mountinfo") as file:
        return sorted(line.split()[4] for line in file)


def test_1000_logins(bastion, place):
    """Eight at a time; each uses its home."""
    count, threads = 1000, 8
    place.home.write("marker", "dora's", owner=place.owner)
    before, outside = bastion.state(), host_state()
    failures, numbers, lock = [], iter(range(count)), threading.Lock()

    def some():
        while len(failures) < 5:
            with lock:
                number = next(numbers, None)
            if number is None:
                return
            try:
                with place.paramiko() as files:
                    assert "marker" in files.listdir(".")
                    if number % 10 == 0:
                        files.open(f"f{number}", "w").close()
                        files.remove(f"f{number}")
            except Exception as error:  # noqa: BLE001 (every kind of failure counts)
                with lock:
                    failures.append(f"{number}: {type(error).__name__}: {error}")

    start = time.monotonic()
    running = [threading.Thread(target=some) for _ in range(threads)]
    for one in running:
        one.start()
    for one in running:
        one.join(600)
    print(f"{count} logins in {time.monotonic() - start:.0f} s")
    assert not failures, failures
    bastion.wait_state(before, 60)
    assert host_state() == outside
    assert place.home.names() == ["marker"]


def test_100_killed_sessions(bastion, place, client):
    """kill -9 of a random process of the session in mid-transfer, each kind in turn."""
    with place.scratch() as here:
        (here / "data").write_bytes(os.urandom(1 << 20))
        (here / "batch").write_text("".join(f"put {here}/data file\nget file {here}/back\n" for _ in range(200)))
        before, outside = bastion.state(), host_state()
        chance = random.Random(1)
        kinds = {
            "client": lambda running: [os.killpg(running.pid, signal.SIGKILL)],
            "sftp-server": lambda running: kill(bastion.sftp_servers()),
            "sshd-monitor": lambda running: kill(one for one in bastion.sshd_of_sessions() if one.uid == 0),
            "sshd-user": lambda running: kill(one for one in bastion.sshd_of_sessions() if one.uid),
            "gateway": lambda running: kill(bastion.gateways()),
            "jail": lambda running: kill(bastion.jails()),
        }
        for number in range(100):
            kind = list(kinds)[number % len(kinds)]
            command = [str(here / "batch") if part == "-" else part for part in sftp_command(place)]
            running = place.start(command)
            try:
                # From the first of the login on to the middle of a transfer.
                if number % 4 == 3:
                    wait_for(bastion.ours, "the login has begun", 20, 0.005)
                    time.sleep(chance.random() * 0.3)
                else:
                    wait_for(bastion.sftp_servers, "files are served", 20, 0.005)
                    time.sleep(chance.random() * 0.05)
                kinds[kind](running)
                if kind == "client" or bastion.ours():
                    with_client_gone(running, kind)
                running.wait(20)
            finally:
                if running.poll() is None:
                    os.killpg(running.pid, signal.SIGKILL)
                    running.wait()
            bastion.wait_quiet()
        bastion.wait_state(before, 60)
        assert host_state() == outside


def kill(processes):
    """kill -9 of each."""
    for one in list(processes):
        one.kill()


def with_client_gone(running, kind):
    """A kill during the login may hit nothing yet: the client then goes too."""
    try:
        running.wait(3)
    except Exception:  # noqa: BLE001 (still running)
        os.killpg(running.pid, signal.SIGKILL)
