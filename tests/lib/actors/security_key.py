"""A FIDO security key made of software, in an SSH agent: whether it was touched and asked for a PIN is the test's to say."""

import base64
import hashlib
import socketserver
import struct
import threading
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

#: Flags of a signature (OpenSSH's PROTOCOL.u2f): the key was touched, and has made sure who touches it.
TOUCHED, VERIFIED = 1, 4
KIND, APPLICATION = b"sk-ssh-ed25519@openssh.com", b"ssh:"
#: Messages of draft-ietf-sshm-ssh-agent, section 5.
FAILURE, REQUEST_IDENTITIES, IDENTITIES_ANSWER, SIGN_REQUEST, SIGN_RESPONSE = 5, 11, 12, 13, 14


class SecurityKey:
    """Listens as an agent from construction until `close`.

    `flags` are those of its next signatures; `options` name the agent, and `path` and `public` are as a Key's.
    """

    def __init__(self, directory):
        self.flags = TOUCHED
        self._key, self._uses = Ed25519PrivateKey.generate(), 0
        point = self._key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        self._blob = _string(KIND) + _string(point) + _string(APPLICATION)
        self.public = f"{KIND.decode()} {base64.b64encode(self._blob).decode()}"
        # The public half: the client finds the other one in the agent.
        self.path = Path(directory) / "security-key.pub"
        self.path.write_text(f"{self.public}\n")
        # The path of a socket must be short.
        agent = str(Path(directory) / "agent")
        self.options = ("-o", f"IdentityAgent={agent}", "-o", "BatchMode=yes")

        class Handler(socketserver.StreamRequestHandler):
            def handle(handler):
                while (length := handler.rfile.read(4)) and len(length) == 4:
                    request = handler.rfile.read(struct.unpack(">I", length)[0])
                    handler.wfile.write(_string(self._answer(request)))

        self._server = socketserver.ThreadingUnixStreamServer(agent, Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def _answer(self, request):
        if request[0] == REQUEST_IDENTITIES:
            return bytes([IDENTITIES_ANSWER]) + struct.pack(">I", 1) + _string(self._blob) + _string(b"security key")
        if request[0] == SIGN_REQUEST:
            _, rest = _take_string(request[1:])
            data, _ = _take_string(rest)
            return bytes([SIGN_RESPONSE]) + _string(self._sign(data))
        return bytes([FAILURE])

    def _sign(self, data):
        """As OpenSSH's PROTOCOL.u2f, "SSH U2F signatures", has it."""
        self._uses += 1
        state = struct.pack(">BI", self.flags, self._uses)
        digests = [hashlib.sha256(part).digest() for part in (APPLICATION, data)]
        return _string(KIND) + _string(self._key.sign(digests[0] + state + digests[1])) + state

    def close(self):
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()


def _string(data):
    """RFC 4251, section 5."""
    return struct.pack(">I", len(data)) + data


def _take_string(data):
    """The first string of some bytes, and what follows it."""
    end = 4 + struct.unpack_from(">I", data)[0]
    return data[4:end], data[end:]
