"""A thousand logins, a hundred of them killed: mounts, namespaces, processes and files are as before."""

import os
import random
import signal
import threading
import time

import pytest

from lib.checks.place import sftp_command
from lib.wait import wait_for

pytestmark = pytest.mark.only("trixie")


@pytest.fixture
def shared_bastion(homes_bastion):
    return homes_bastion


def mounts_of_jails():
    """Mounts of a jail that this machine sees; whatever else is mounted meanwhile is none of our business."""
    with open("/proc/self/mountinfo") as file:
        return sorted(line for line in file if "/run/jupyterhub-openssh" in line)


def test_1000_logins(bastion, place):
    """Eight at a time; each uses its home."""
    count, threads = 1000, 8
    place.home.write("marker", "dora's", owner=place.owner)
    before = bastion.state()
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
    assert mounts_of_jails() == []
    assert place.home.names() == ["marker"]


#: What is killed: (process, how).
KILLS = {
    "client": lambda bastion, clients: [os.killpg(one.pid, signal.SIGKILL) for one in clients],
    "sftp-server": lambda bastion, clients: kill(bastion.sftp_servers()),
    "sshd-monitor": lambda bastion, clients: kill(one for one in bastion.sshd_of_sessions() if one.uid == 0),
    "sshd-user": lambda bastion, clients: kill(one for one in bastion.sshd_of_sessions() if one.uid),
    "gateway": lambda bastion, clients: kill(bastion.gateways()),
    "jail": lambda bastion, clients: kill(bastion.jails()),
}


def kill(processes):
    """kill -9 of each."""
    for one in list(processes):
        one.kill()


def test_100_killed_sessions(bastion, place):
    """kill -9 of each kind of process, in mid-transfer and during the login; four sessions at a time."""
    with place.scratch() as here:
        (here / "data").write_bytes(os.urandom(1 << 20))
        (here / "batch").write_text(f"put {here}/data file\nget file /dev/null\n" * 2000)
        before = bastion.state()
        chance = random.Random(1)
        command = [str(here / "batch") if part == "-" else part for part in sftp_command(place)]
        for number in range(26):
            clients = [place.start(command) for _ in range(4)]
            try:
                if number < 18:
                    wait_for(lambda: len(bastion.sftp_servers()) == 4, "files are served", 30)
                    time.sleep(chance.random() * 0.05)
                else:
                    wait_for(bastion.ours, "the logins have begun", 30, 0.005)
                    time.sleep(chance.random() * 0.5)
                list(KILLS.values())[number % len(KILLS)](bastion, clients)
                if number < 18:
                    for one in clients:
                        assert one.wait(20), "a client whose session was killed says so"
            finally:
                # Of logins some may have escaped.
                for one in clients:
                    if one.poll() is None:
                        os.killpg(one.pid, signal.SIGKILL)
                        one.wait()
            if number < 18:
                bastion.wait_quiet()
        # Among them are gateways whose session was killed before it claimed them: they wait for 20 s.
        bastion.wait_state(before, 60)
        assert mounts_of_jails() == []
