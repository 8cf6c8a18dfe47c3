"""A hub with faults: passes requests on to the real one, except those it is told to answer itself."""

import contextlib
import re
import socket
import threading
from dataclasses import dataclass, field

from lib.sandbox.listener import Listener, carry, connect


@dataclass
class Request:
    """What a client sent, up to the end of its headers."""

    method: str
    path: str
    head: bytes

    def header(self, name):
        """A header's value, or None."""
        match = re.search(rb"(?im)^" + re.escape(name.encode()) + rb":[ \t]*(.*?)\r$", self.head)
        return match[1].decode(errors="replace") if match else None


@dataclass
class Rule:
    """Requests that get an answer of ours: how often, and which bytes (or a function of the socket)."""

    method: str
    path: str
    action: object
    times: int = 1 << 30
    used: int = field(default=0)

    def takes(self, request):
        """Whether the rule is for this request."""
        return (
            self.used < self.times and re.fullmatch(self.method, request.method) and re.search(self.path, request.path)
        )


def answer(status, body=b"", **headers):
    """Bytes of a complete HTTP answer; headers are given with _ for -."""
    body = body.encode() if isinstance(body, str) else body
    lines = [f"HTTP/1.1 {status} Fault", f"Content-Length: {len(body)}", "Connection: close"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + body


def hang(connection):
    """Never answer; ends when the other side does."""
    while connection.recv(65536):
        pass


def drip(connection):
    """An answer that comes a byte at a time and never ends: each read succeeds, none is enough."""
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 100000\r\n\r\n")
    stop = threading.Event()
    while not stop.wait(0.5):
        connection.sendall(b" ")


#: For FaultyHub.on: the real hub is asked, and its answer is lost.
LOSE_ANSWER = object()


class FaultyHub(Listener):
    """Listens beside the real hub. `requests` records everything that arrived."""

    def __init__(self, network, namespace, upstream=None, address=None):
        self.requests, self.rules = [], []
        self._upstream, self._namespace = upstream, namespace
        super().__init__(namespace, (address or network.ELSEWHERE, 0))
        self.url = f"http://{self.host}:{self.port}"

    def on(self, method, path, action, times=1 << 30):
        """Answer requests whose method and path match with `action`: bytes, or a function of the socket."""
        self.rules.append(Rule(method, path, action, times))
        return self

    def seen(self, path="", method=".*"):
        """The recorded requests whose path and method match."""
        return [one for one in self.requests if re.search(path, one.path) and re.fullmatch(method, one.method)]

    def tokens(self):
        """Every Authorization header that arrived."""
        return [one.header("Authorization") for one in self.requests if one.header("Authorization")]

    def serve(self, connection):
        # What is no request line is a client's fault, not ours.
        with contextlib.suppress(ValueError):
            self._answer(connection)

    def _answer(self, connection):
        head = b""
        while b"\r\n\r\n" not in head and len(head) < 1 << 20:
            piece = connection.recv(65536)
            if not piece:
                return
            head += piece
        head, _, rest = head.partition(b"\r\n\r\n")
        method, path = head.split(b"\r\n", 1)[0].decode(errors="replace").split(" ")[:2]
        request = Request(method, path, head + b"\r\n")
        self.requests.append(request)
        for rule in self.rules:
            if rule.takes(request):
                rule.used += 1
                if rule.action is LOSE_ANSWER:
                    self._lose_answer(connection, request, rest)
                elif callable(rule.action):
                    rule.action(connection)
                else:
                    connection.sendall(rule.action)
                    # The request's body is read, lest closing resets what was sent.
                    connection.shutdown(socket.SHUT_WR)
                    connection.settimeout(5)
                    while connection.recv(65536):
                        pass
                return
        if self._upstream:
            self._pass_on(connection, request, rest)
        else:
            connection.sendall(answer(404, "{}"))

    def _lose_answer(self, connection, request, rest):
        """Hand the request to the real hub, wait for the whole answer, and hang up."""
        while len(rest) < int(request.header("Content-Length") or 0):
            rest += connection.recv(65536)
        with connect(self._namespace, self._upstream) as upstream:
            upstream.sendall(closing(request.head) + b"\r\n" + rest)
            while upstream.recv(65536):
                pass

    def _pass_on(self, connection, request, rest):
        """Hand the request to the real hub, one request a connection unless it is an upgrade."""
        head = request.head if request.header("Upgrade") else closing(request.head)
        with connect(self._namespace, self._upstream) as upstream:
            upstream.sendall(head + b"\r\n" + rest)
            carry(connection, upstream)


def closing(head):
    """The head of a request after whose answer the connection is to end."""
    return re.sub(rb"(?im)^connection:.*\r\n", b"", head) + b"Connection: close\r\n"
