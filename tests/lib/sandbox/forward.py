"""Carries TCP connections from one network namespace to another, so that a person can reach a sandbox."""

from lib.sandbox.listener import Listener, carry, connect


class Forward(Listener):
    """Listens on 127.0.0.1 in one namespace (None: the machine's own) and connects to a target in another.

    When the port is taken, it is any other.
    """

    def __init__(self, listen_in, port, connect_in, target):
        self._connect_in, self._target = connect_in, target
        try:
            super().__init__(listen_in, ("127.0.0.1", port))
        except OSError:
            super().__init__(listen_in, ("127.0.0.1", 0))

    def serve(self, connection):
        with connect(self._connect_in, self._target) as target:
            carry(connection, target)
