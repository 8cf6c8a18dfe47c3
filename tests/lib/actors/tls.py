"""TLS in front of the real hub, with certificates of an authority that the tests make."""

import socket
import ssl
import subprocess

from lib.sandbox.listener import Listener, carry, connect


class Authority:
    """Signs certificates; `certificate` is the path of its own, in PEM."""

    def __init__(self, directory, name="tests"):
        self._directory, self._name = directory, name
        self.certificate, self._key = directory / f"{name}.crt", directory / f"{name}.key"
        _openssl(
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
            "-days",
            "2",
            "-subj",
            f"/CN=authority {name}",
            "-keyout",
            self._key,
            "-out",
            self.certificate,
        )

    def sign(self, address, *names):
        """Certificate and key for an IP address and host names, in one file."""
        base = self._directory / f"{self._name}-{address}-{len(names)}"
        _openssl(
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
            "-days",
            "2",
            "-CA",
            self.certificate,
            "-CAkey",
            self._key,
            "-subj",
            f"/CN={address}",
            "-addext",
            ",".join([f"subjectAltName=IP:{address}", *(f"DNS:{name}" for name in names)]),
            "-addext",
            "basicConstraints=critical,CA:FALSE",
            "-keyout",
            f"{base}.key",
            "-out",
            f"{base}.crt",
        )
        both = base.with_suffix(base.suffix + ".pem")
        both.write_text(base.with_name(base.name + ".key").read_text() + base.with_name(base.name + ".crt").read_text())
        return both


def _openssl(*arguments):
    subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True)


class TlsFront(Listener):
    """Ends TLS and passes on what it carries; `handshakes` counts the connections that trusted it."""

    def __init__(self, namespace, address, upstream, pem, port=0):
        self._namespace, self._upstream, self.handshakes = namespace, upstream, 0
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(pem)
        super().__init__(namespace, (address, port))
        self.url = f"https://{self.host}:{self.port}"

    def serve(self, connection):
        with self._context.wrap_socket(connection, server_side=True) as secure:
            self.handshakes += 1
            with connect(self._namespace, self._upstream) as upstream:
                for one in (secure, upstream):
                    one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                carry(secure, upstream)
