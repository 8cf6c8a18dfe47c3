"""The hub behind TLS, as every hub outside of a test is."""

import pytest

from lib.actors.client import Refused
from lib.actors.tls import Authority, TlsFront


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture
def front(network, hub):
    """front(pem): a listener with this certificate, at an address other than the hub's own."""
    made = []

    def make(pem):
        made.append(TlsFront(hub.box.network, network.ELSEWHERE, (network.HUB, 8000), pem))
        return made[-1]

    yield make
    for one in made:
        one.close()


def works(client, bastion, alice):
    with client.terminal(bastion, "alice", alice.token) as terminal:
        terminal.prompt()
        assert terminal.run("echo $((6*7))") == "42\n"
        # More than TLS records and socket buffers hold, in both directions.
        assert terminal.run("seq 200000 | cksum") == "3581800518 1288895\n"


def test_an_authority_named_in_the_configuration(bastion, client, alice, network, front, authority):
    secure = front(authority.sign(network.ELSEWHERE))
    bastion.box.write("/etc/hub-ca.pem", authority.certificate.read_text())
    with bastion.configured(secure.url, 'ca_file = "/etc/hub-ca.pem"\n'):
        works(client, bastion, alice)
    assert secure.handshakes


def test_an_authority_that_the_system_trusts(bastion, client, alice, network, front, authority):
    secure = front(authority.sign(network.ELSEWHERE))
    bastion.box.write("/usr/local/share/ca-certificates/tests.crt", authority.certificate.read_text())
    bastion.box.run("update-ca-certificates")
    try:
        with bastion.configured(secure.url):
            works(client, bastion, alice)
    finally:
        bastion.box.path("/usr/local/share/ca-certificates/tests.crt").unlink()
        bastion.box.run("update-ca-certificates")


@pytest.mark.parametrize("case", ["unknown authority", "wrong address", "other authority configured"])
def test_a_certificate_that_is_not_to_be_trusted(bastion, client, hub, network, front, authority, tmp_path, case):
    address = "10.77.0.99" if case == "wrong address" else network.ELSEWHERE
    secure = front(authority.sign(address))
    other = Authority(tmp_path, "other")
    trusted = {"wrong address": authority, "other authority configured": other}.get(case)
    extra = ""
    if trusted:
        bastion.box.write("/etc/hub-ca.pem", trusted.certificate.read_text())
        extra = 'ca_file = "/etc/hub-ca.pem"\n'
    mark = bastion.syslog.mark()
    with bastion.configured(secure.url, extra), pytest.raises(Refused, match="certificate is not trusted"):
        client.login(bastion, "alice", hub.token("alice"))
    assert bastion.syslog.wait(r"GET /hub/api/user: TLS failed", mark)
