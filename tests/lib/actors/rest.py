"""A small HTTP client whose connections start in a chosen network namespace."""

import http.client
import json
import socket
from dataclasses import dataclass
from urllib.parse import urlsplit


@dataclass
class Answer:
    """What a server answered."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes

    def json(self):
        """The body, parsed."""
        return json.loads(self.body)

    def ok(self):
        """Itself, when the status says success; fails otherwise."""
        assert 200 <= self.status < 300, f"HTTP {self.status}: {self.body[:400]!r}"
        return self


def connect(namespace, url, timeout=10.0, source=None):
    """A TCP connection to the server of `url`, made inside `namespace`."""
    parts = urlsplit(url)
    with namespace:
        connection = socket.create_connection(
            (parts.hostname, parts.port or 80), timeout=timeout, source_address=source and (source, 0)
        )
    # A keystroke must not wait for the acknowledgement of the pong before it.
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def request(namespace, method, url, token=None, body=None, timeout=15.0):
    """One request on a connection of its own; `body` is sent as JSON."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname, parts.port or 80, timeout=timeout)
    connection.sock = connect(namespace, url, timeout)
    headers = {"Content-Type": "application/json"} if body is not None else {}
    if token:
        headers["Authorization"] = f"token {token}"
    path = parts.path + (f"?{parts.query}" if parts.query else "")
    try:
        connection.request(method, path, None if body is None else json.dumps(body), headers)
        response = connection.getresponse()
        return Answer(response.status, response.headers, response.read())
    finally:
        connection.close()
