"""A user's server whose terminals hold an agent of ours, which does what no true one would."""

import base64
import contextlib
import hashlib
import json
import re
import socket
import time

from lib.actors import mux
from lib.actors.faultyhub import FaultyHub, answer


class FakeTerminal:
    """The far end of a terminal's WebSocket: what is typed is read, what is to be printed is written.

    `nonce` is what the gateway has given to its agent. Numbered packets are counted.
    """

    def __init__(self, connection, nonce):
        self._connection, self.nonce = connection, nonce
        self._incoming, self._typed = b"", ""
        self.number = self.expected = 0
        #: How many bytes have been sent in frames.
        self.sent = 0
        #: Every packet that the gateway has sent so far.
        self.heard = []

    def _receive(self, count):
        while len(self._incoming) < count:
            piece = self._connection.recv(65536)
            if not piece:
                raise EOFError
            self._incoming += piece
        data, self._incoming = self._incoming[:count], self._incoming[count:]
        return data

    def _message(self):
        """The next message of the gateway (RFC 6455); what isn't text is skipped."""
        while True:
            first, length = self._receive(2)
            masked, length = length & 0x80, length & 0x7F
            if length > 125:
                length = int.from_bytes(self._receive(2 if length == 126 else 8), "big")
            mask = self._receive(4) if masked else bytes(4)
            data = self._receive(length)
            key = int.from_bytes((mask * (length // 4 + 1))[:length], "big")
            data = (int.from_bytes(data, "big") ^ key).to_bytes(length, "big")
            if first & 0x0F == 8:
                raise EOFError
            if first & 0x0F == 1:
                return json.loads(data)

    def send_frame(self, data, kind=1):
        """Send a WebSocket frame."""
        length = len(data)
        head = (
            bytes((length,))
            if length < 126
            else (b"\x7e" + length.to_bytes(2, "big") if length < 65536 else b"\x7f" + length.to_bytes(8, "big"))
        )
        self._connection.sendall(bytes((0x80 | kind,)) + head + data)
        self.sent += length

    def print(self, text):
        """Print text in the terminal."""
        self.send_frame(json.dumps(["stdout", text]).encode())

    def line(self):
        """The next line that is typed."""
        while "\n" not in self._typed:
            message = self._message()
            if message[0] == "stdin":
                self._typed += message[1]
        line, _, self._typed = self._typed.partition("\n")
        return line

    def say(self, text):
        """A marker, as boot.sh and the loader print it."""
        self.print(f"\x1b]7730;{self.nonce};{text}\x1b\\")

    def boot(self):
        """Be started, as far as the source."""
        self.send_frame(b'["setup", {}]')
        self.say("sh")
        self.say("loader")
        assert self.line().startswith("~"), "the source did not come"

    def hello(self, **changes):
        """Greet."""
        self.unnumbered(
            mux.HELLO,
            payload={
                "version": 1,
                "python": "3.11",
                "pid": 1,
                "home": "/home/x",
                "shell": "/bin/bash",
                "sftp_server": None,
                **changes,
            },
        )

    def unnumbered(self, kind, number=0, payload=b"", **more):
        """Send a packet about the link."""
        self.print(mux.packet(self.nonce, kind, number, payload=payload, **more))

    def send(self, kind, stream=1, part=0, payload=b"", number=None):
        """Send a numbered packet; `number` only if it is to be a wrong one."""
        self.print(mux.packet(self.nonce, kind, self.number if number is None else number, stream, part, payload))
        if number is None:
            self.number += 1

    def take(self, *kinds):
        """The next packet of one of these kinds, all before it acknowledged."""
        while True:
            found = mux.parse(self.line())
            if not found:
                continue
            self.heard.append(found)
            if found[0] == mux.PING:
                self.unnumbered(mux.PONG, found[1])
            if found[0] >= 16:
                self.expected = found[1] + 1
                self.unnumbered(mux.ACK, self.expected)
            if found[0] in kinds:
                return found

    def opened(self, window=65536):
        """Come as far as the first stream is open; its description."""
        self.boot()
        self.hello()
        description = json.loads(self.take(mux.OPEN)[4])
        self.send(mux.OPENED, payload={"window": window})
        return description

    def idle(self):
        """Go on reading until the gateway leaves."""
        with contextlib.suppress(EOFError):
            while True:
                self.take(mux.CLOSE)


class FakeServer(FaultyHub):
    """In front of the real hub: the terminals of one user's server hold `agent`, a function of a FakeTerminal.

    `deleted` counts the terminals that the gateway has deleted, `faults` is what went wrong in the agent itself.
    """

    def __init__(self, network, namespace, upstream, user, agent):
        self.user, self.agent = user, agent
        self.created, self.deleted, self.faults, self._nonces = 0, 0, [], {}
        super().__init__(network, namespace, upstream)

    def serve(self, connection):
        # Only looked at: requests for the hub are left in the socket.
        head, deadline = b"", time.monotonic() + 10
        while b"\r\n\r\n" not in head and time.monotonic() < deadline:
            seen = connection.recv(1 << 16, socket.MSG_PEEK)
            if not seen:
                return
            if seen == head:
                time.sleep(0.01)
            head = seen
        method, path = head.split(b"\r\n", 1)[0].decode(errors="replace").split(" ")[:2]
        base = f"/user/{self.user}/"
        if path == f"{base}api/terminals" and method == "POST":
            self._create(connection, head)
        elif path.startswith(f"{base}api/terminals/") and method == "DELETE":
            self.deleted += 1
            connection.sendall(answer(204))
        elif path.startswith(f"{base}terminals/websocket/"):
            self._attach(connection, head, path.rpartition("/")[2].partition("?")[0])
        else:
            super().serve(connection)

    def _create(self, connection, head):
        length = int(re.search(rb"(?im)^content-length:\s*(\d+)", head)[1])
        total, data = len(head.partition(b"\r\n\r\n")[0]) + 4 + length, b""
        while len(data) < total:
            data += connection.recv(65536)
        body = data.partition(b"\r\n\r\n")[2].decode()
        nonce = re.search(r'"([0-9a-f]{32})"', body)
        assert nonce, f"no nonce in {body[:500]}"
        self.created += 1
        name = str(self.created)
        self._nonces[name] = nonce[1]
        connection.sendall(
            answer(
                200,
                json.dumps({"name": name, "last_activity": "2030-01-01T00:00:00Z"}),
                Content_Type="application/json",
            )
        )

    def _attach(self, connection, head, name):
        connection.recv(len(head.partition(b"\r\n\r\n")[0]) + 4)
        key = re.search(rb"(?im)^sec-websocket-key:\s*(\S+)", head)[1]
        accept = base64.b64encode(hashlib.sha1(key + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest()).decode()
        connection.sendall(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            + f"Sec-WebSocket-Accept: {accept}\r\n\r\n".encode()
        )
        try:
            self.agent(FakeTerminal(connection, self._nonces.get(name, "0" * 32)))
        except (EOFError, OSError):
            pass
        except Exception as error:
            self.faults.append(f"{type(error).__name__}: {error}")
            raise
