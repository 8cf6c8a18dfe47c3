"""Connections, and the SFTP server."""

import contextlib
import os
import socket
import struct
import threading

import pytest


@contextlib.contextmanager
def listener(family, address, serve):
    """A server for one connection."""
    with socket.socket(family, socket.SOCK_STREAM) as one:
        one.bind(address)
        one.listen(1)

        def run():
            with contextlib.suppress(OSError):
                connection, _ = one.accept()
                with connection:
                    serve(connection)

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        yield one.getsockname()
        thread.join(5)


def echo(connection):
    """Send back what comes, and a word after its end: half-close works both ways."""
    while data := connection.recv(65536):
        connection.sendall(data)
    connection.sendall(b"end")


def places(tmp_path):
    """One of each kind."""
    found = [(socket.AF_INET, ("127.0.0.1", 0)), (socket.AF_UNIX, str(tmp_path / "a socket"))]
    with contextlib.suppress(OSError):
        with socket.socket(socket.AF_INET6) as one:
            one.bind(("::1", 0))
        found.append((socket.AF_INET6, ("::1", 0)))
    return found


def test_connections(peer, tmp_path):
    """To IPv4, IPv6 and unix sockets; half-closed by both."""
    data = os.urandom(3_000_000)
    for family, address in places(tmp_path):
        with listener(family, address, echo) as where:
            target = {"path": where} if family == socket.AF_UNIX else {"host": where[0], "port": where[1]}
            stream = peer.open(type="connection", **target)
            stream.write(data)
            stream.eof()
            stream.wait()
            assert stream.out == data + b"end" and stream.ends == {1} and stream.exit is None


def test_connection_by_name(peer):
    """Names are resolved, without holding up others."""
    with listener(socket.AF_INET, ("127.0.0.1", 0), echo) as (_, port):
        stream = peer.open(type="connection", host="localhost", port=port)
        stream.eof()
        assert stream.wait().out == b"end"


def test_refused_connections(peer, tmp_path):
    """With the reason."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        free = one.getsockname()[1]
    assert peer.open(type="connection", host="127.0.0.1", port=free).wait().refused == "Connection refused"
    assert peer.open(type="connection", path=str(tmp_path / "none")).wait().refused == "No such file or directory"
    assert peer.open(type="connection", path="x" * 200).wait().refused
    assert peer.open(type="connection", host="name.invalid", port=1).wait(30).refused
    assert peer.open(type="connection", host="127.0.0.1", port=99999).wait().refused
    assert peer.run("echo fine").out == b"fine\n"


def test_connection_abandoned(peer):
    """While it is being made (nobody answers), and later."""
    stream = peer.open(type="connection", host="192.0.2.1", port=9)
    stream.close()
    stream.wait()
    with listener(socket.AF_INET, ("127.0.0.1", 0), lambda one: one.recv(10)) as (host, port):
        stream = peer.open(type="connection", host=host, port=port)
        peer.wait(lambda: stream.credit)
        stream.close()
        stream.wait()


def test_connection_reset(peer):
    """A reset ends both directions."""

    def reset(connection):
        connection.recv(10)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    with listener(socket.AF_INET, ("127.0.0.1", 0), reset) as (host, port):
        stream = peer.open(type="connection", host=host, port=port)
        stream.write(b"x")
        peer.wait(lambda: stream.ends)
        stream.write(bytes(1000))
        stream.write(bytes(1000))
        stream.wait()
        assert stream.stopped or stream.closed


def test_connection_that_nobody_reads(peer):
    """STOP from the gateway: the other side is told by the end of the connection at the latest."""
    with listener(socket.AF_INET, ("127.0.0.1", 0), lambda one: one.recv(10)) as (host, port):
        stream = peer.open(type="connection", host=host, port=port)
        peer.wait(lambda: stream.credit)
        stream.stop(1)
        stream.write(b"x")
        stream.eof()
        stream.wait()


SERVER = """
import os, sys
assert __name__ == "__main__"
os.write(1, ("%o %s %s|" % (umask, os.getcwd(), sorted(os.listdir("/proc/self/fd")))).encode())
while True:
    data = os.read(0, 65536)
    if not data:
        break
    os.write(1, data)
sys.exit(3)
"""


def test_file_service(peer):
    """The source runs in a process of its own, with nothing but its pipes, in the home."""
    data = os.urandom(2_000_000)
    stream = peer.open(type="files", source=SERVER, umask=0o27)
    stream.write(data)
    stream.eof()
    stream.wait()
    head, _, rest = stream.out.partition(b"|")
    # The fourth is that of listdir.
    assert head.decode() == f"27 {os.environ['HOME']} ['0', '1', '2', '3']"
    assert rest == data and stream.exit == {"status": 3} and stream.ends == {1}


def test_file_service_that_fails(peer):
    """It ends, and nothing else."""
    assert peer.open(type="files", source="syntax error", umask=0).wait().exit == {"status": 1}
    assert peer.open(type="files", source="1/0", umask=0).wait().exit == {"status": 1}
    assert peer.run("echo fine").out == b"fine\n"


def test_sftp_server_of_the_image(peer):
    """Is run where there is one."""
    if not peer.hello["sftp_server"]:
        pytest.skip("this machine has no sftp-server")
    stream = peer.open(type="files", umask=0o22)
    stream.write(struct.pack(">IBI", 5, 1, 3))
    peer.wait(lambda: len(stream.received[1]) > 9)
    assert stream.out[4:9] == struct.pack(">BI", 2, 3)
    stream.eof()
    assert stream.wait().exit == {"status": 0}
