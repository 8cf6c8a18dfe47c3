"""The packets of docs/mux.md, written down once more for tests: whoever speaks for an agent needs them."""

import base64
import json
import zlib

ACK, RESUME, PING, PONG, BYE, HELLO = range(1, 7)
OPEN, OPENING, OPENED, REFUSED, DATA, EOF, CREDIT, STOP, RESIZE, SIGNAL, EXIT, CLOSE = range(16, 28)


def packet(nonce, kind, number=0, stream=0, part=0, payload=b""):
    """A packet as a line."""
    if isinstance(payload, dict):
        payload = json.dumps(payload).encode()
    data = bytes((kind,)) + number.to_bytes(8, "big") + stream.to_bytes(4, "big") + bytes((part,)) + payload
    check = zlib.crc32(data, int(nonce[:8], 16))
    return "~" + base64.b64encode(data + check.to_bytes(4, "big")).decode() + "\n"


def parse(line):
    """(kind, number, stream, part, payload) of a line, or None where it is none."""
    try:
        data = base64.b64decode(line.rpartition("~")[2], validate=True)
    except ValueError:
        return None
    if len(data) < 18:
        return None
    return data[0], int.from_bytes(data[1:9], "big"), int.from_bytes(data[9:13], "big"), data[13], data[14:-4]
