"""A user's Jupyter server, talked to directly: what our sessions are compared with."""

import contextlib
import json
import threading
import time
from urllib.parse import quote

import websocket

from lib.actors import rest


class Jupyter:
    """REST and raw terminals of one user's server, through the proxy."""

    def __init__(self, hub, user, name="", token=None):
        self.hub = hub
        self.namespace = hub.network.client
        self.base = f"{hub.url}/user/{quote(user, safe='@~')}/" + (f"{name}/" if name else "")
        self.token = token or hub.token(user)

    def call(self, method, path, body=None, timeout=10.0):
        """A call of the server's REST API."""
        return rest.request(self.namespace, method, f"{self.base}api/{path}", self.token, body, timeout)

    def terminals(self):
        """The names of the terminals that exist."""
        return sorted(item["name"] for item in self.call("GET", "terminals").ok().json())

    def delete_terminal(self, name):
        """Ask the server to end a terminal; its answer."""
        return self.call("DELETE", f"terminals/{name}", timeout=30)

    def open_terminal(self, **body):
        """A new terminal with a raw WebSocket to it."""
        name = self.call("POST", "terminals", body or None).ok().json()["name"]
        return RawTerminal(self, name)


class RawTerminal:
    """A WebSocket to a terminal, speaking Terminado's messages and answering each with a pong."""

    def __init__(self, server, name, timeout=10.0):
        self.server, self.name = server, name
        address = f"{server.base}terminals/websocket/{name}"
        connection = rest.connect(server.namespace, address, timeout)
        self.socket = websocket.create_connection(
            "ws" + address[4:],
            socket=connection,
            header=[f"Authorization: token {server.token}"],
            timeout=timeout,
            enable_multithread=False,
            skip_utf8_validation=True,
        )

    def send(self, text):
        """Type text."""
        self.socket.send(json.dumps(["stdin", text]))

    def resize(self, rows, columns):
        """Tell the window's size."""
        self.socket.send(json.dumps(["set_size", rows, columns]))

    def read(self, timeout=10.0):
        """The next piece of output."""
        self.socket.settimeout(timeout)
        while True:
            message = json.loads(self.socket.recv())
            self.socket.pong(b"")
            if message[0] == "stdout":
                return message[1]
            if message[0] == "disconnect":
                raise EOFError("the terminal ended")

    def read_until(self, text, timeout=10.0):
        """All output up to and including the message that completes `text`."""
        deadline, seen = time.monotonic() + timeout, ""
        while text not in seen:
            seen += self.read(max(0.01, deadline - time.monotonic()))
        return seen

    def close(self, delete=True):
        """Close the connection and, unless told otherwise, the terminal."""
        with contextlib.suppress(OSError, websocket.WebSocketException):
            self.socket.close(timeout=1)
        if delete:
            self.server.delete_terminal(self.name)


class Responsiveness:
    """Measures all the while, in the background, how fast a user's server answers.

    Every round is one REST call and one keystroke's echo in another terminal. `worst` is the longest
    round in seconds, `failures` what went wrong.
    """

    def __init__(self, server, limit=1.0):
        self.server, self.limit = server, limit
        self.worst, self.rounds, self.failures = 0.0, 0, []
        self._stop = threading.Event()
        self._terminal = server.open_terminal()
        self._terminal.send("stty raw echo; PS1=; echo warmed''-up; cat >/dev/null\n")
        self._terminal.read_until("warmed-up")
        self._thread = threading.Thread(target=self._measure, daemon=True)
        self._thread.start()

    def _measure(self):
        while not self._stop.is_set():
            start = time.monotonic()
            try:
                answer = self.server.call("GET", "status", timeout=30)
                assert answer.status == 200, answer.status
                mark = f"m{self.rounds}."
                self._terminal.send(mark)
                self._terminal.read_until(mark, 30)
            except Exception as error:  # noqa: BLE001 (whatever fails is the finding)
                self.failures.append(f"{type(error).__name__}: {error}")
                return
            finally:
                self.worst = max(self.worst, time.monotonic() - start)
            self.rounds += 1
            self._stop.wait(0.05)

    def __enter__(self):
        return self

    def __exit__(self, kind, *rest_of_it):
        self._stop.set()
        self._thread.join(60)
        self._terminal.close()
        if kind is None:
            self.check()

    def check(self):
        """Fails unless every answer so far came within the limit."""
        assert not self.failures, self.failures
        assert self.rounds, "no round was completed"
        assert self.worst <= self.limit, f"the user's server took {self.worst:.2f} s to answer"
