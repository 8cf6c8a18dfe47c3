"""What a program has of a user who signed in to it in the browser: an access token of the hub, by OAuth."""

import http.client
from urllib.parse import parse_qs, urlencode, urlsplit

from lib.actors import rest


class Browser:
    """A browser that is signed in at the hub, with its cookies and nothing else of one."""

    def __init__(self, hub, user):
        self.hub, self.cookies = hub, {}
        self.request("GET", "/hub/login")
        xsrf = self.cookies["_xsrf"]
        signed_in = self.request(
            "POST", f"/hub/login?{urlencode({'_xsrf': xsrf})}", {"username": user, "password": "x", "_xsrf": xsrf}
        )
        assert signed_in.status == 302, signed_in.body

    def request(self, method, path, form=None):
        """One request; the cookies that come with the answer are kept."""
        answer = _request(
            self.hub, method, path, form, {"Cookie": "; ".join(f"{k}={v}" for k, v in self.cookies.items())}
        )
        for cookie in answer.headers.get_all("Set-Cookie") or []:
            name, value = cookie.split(";")[0].split("=", 1)
            self.cookies[name] = value
        return answer


def access_token(hub, user, client_id, secret, callback):
    """Sign in to the program with this id and secret, whose server takes the browser back at `callback`; its token."""
    where = {"client_id": client_id, "redirect_uri": callback}
    back = Browser(hub, user).request(
        "GET", "/hub/api/oauth2/authorize?" + urlencode({**where, "response_type": "code"})
    )
    assert back.status == 302, back.body
    code = parse_qs(urlsplit(back.headers["Location"]).query)["code"][0]
    given = _request(
        hub,
        "POST",
        "/hub/api/oauth2/token",
        {**where, "client_secret": secret, "grant_type": "authorization_code", "code": code},
    )
    return given.ok().json()["access_token"]


def _request(hub, method, path, form=None, headers=()):
    headers = dict(headers)
    if form is not None:
        headers["Content-Type"] = "application/x-www-form-urlencoded"
    host = urlsplit(hub.url)
    connection = http.client.HTTPConnection(host.hostname, host.port or 80, timeout=15)
    connection.sock = rest.connect(hub.network.client, hub.url, 15)
    try:
        connection.request(method, path, None if form is None else urlencode(form), headers)
        response = connection.getresponse()
        return rest.Answer(response.status, response.headers, response.read())
    finally:
        connection.close()
