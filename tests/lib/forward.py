"""Carries TCP connections from one network namespace to another, so that a person can reach a sandbox."""

import contextlib
import socket
import threading


class Forward:
    """Listens on 127.0.0.1 in one namespace (None: the machine's own) and connects to a target in another."""

    def __init__(self, listen_in, port, connect_in, target):
        self._connect_in, self._target = connect_in, target
        with listen_in or contextlib.nullcontext():
            self._listener = _listen(port)
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._carry, args=(connection,), daemon=True).start()

    def _carry(self, connection):
        try:
            with self._connect_in:
                target = socket.create_connection(self._target, timeout=10)
            target.settimeout(None)
        except OSError:
            connection.close()
            return
        back = threading.Thread(target=_copy, args=(target, connection), daemon=True)
        back.start()
        _copy(connection, target)
        back.join()
        connection.close()
        target.close()

    def close(self):
        """Stop listening."""
        self._listener.close()


def _listen(port):
    """A listener on this port of 127.0.0.1, or on any when it is taken."""
    try:
        return socket.create_server(("127.0.0.1", port))
    except OSError:
        return socket.create_server(("127.0.0.1", 0))


def _copy(source, target):
    with contextlib.suppress(OSError):
        while piece := source.recv(65536):
            target.sendall(piece)
    with contextlib.suppress(OSError):
        target.shutdown(socket.SHUT_WR)
