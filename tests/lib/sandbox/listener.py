"""Servers of the tests: TCP connections accepted in a network namespace, each served by a thread of its own."""

import contextlib
import socket
import threading


class Listener:
    """Listens from construction until `close`; a subclass says in `serve` what a connection gets.

    A subclass calls this constructor last: connections may come at once.
    """

    def __init__(self, namespace, address, backlog=512):
        with namespace or contextlib.nullcontext():
            self._socket = socket.create_server(address, backlog=backlog)
        self.host, self.port = self._socket.getsockname()
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection):
        with connection, contextlib.suppress(OSError):
            self.serve(connection)

    def serve(self, connection):
        """Serve one connection, which is closed afterwards; an OSError ends it silently."""
        raise NotImplementedError

    def close(self):
        """Stop listening."""
        # Closing alone would leave the thread in accept(2).
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()


def connect(namespace, target):
    """A connection from a namespace to (address, port)."""
    with namespace:
        connection = socket.create_connection(target, timeout=10)
    connection.settimeout(None)
    return connection


def carry(one, other):
    """Copy bytes in both directions until both have ended; the ends of streams are passed on."""
    back = threading.Thread(target=_copy, args=(other, one), daemon=True)
    back.start()
    _copy(one, other)
    back.join()


def _copy(source, target):
    try:
        while piece := source.recv(65536):
            target.sendall(piece)
        target.shutdown(socket.SHUT_WR)
    except OSError:
        # The other direction must not wait for somebody who has gone.
        for one in (source, target):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
