"""A real JupyterHub with its real proxy, in a sandbox of its own, run without privileges."""

import json
import os
import secrets
import signal
import subprocess
from pathlib import Path

from lib.actors import rest
from lib.paths import HUB_TOOLS
from lib.sandbox.box import Box
from lib.wait import wait_for

#: The uid that the hub and the users' servers run as.
HUB_UID = 2000
PROXY = "/mnt/hub/node_modules/configurable-http-proxy/bin/configurable-http-proxy"


class Hub:
    """The hub as the tests use it: users, tokens, servers, and the faults of its processes.

    `homes` is a directory of the machine for the users' homes; without it they are in memory.
    """

    USERS = ("alice", "bob", "carol", "admin")

    python = "/mnt/hub/venv/bin/python"

    def __init__(self, network, users=USERS, log=None, homes=None, address=None, base="", domain=None):
        """`domain` is a public address (https://HOST:PORT) beneath whose host each user has one of their own."""
        self.network = network
        self.address = address or network.HUB
        #: For the tests' own calls.
        self.url = f"http://{self.address}:8000{base}"
        #: For users, and for bastions.
        self.public_url = f"{domain}{base}" if domain else self.url
        self._domain = domain
        self._secrets = {
            "CONFIGPROXY_AUTH_TOKEN": secrets.token_hex(16),
            "TESTS_TOKEN": secrets.token_hex(16),
            "PLAIN_TOKEN": secrets.token_hex(16),
            "KEYS_TOKEN": secrets.token_hex(16),
            # What users' auth_state is encrypted with.
            "JUPYTERHUB_CRYPT_KEY": secrets.token_hex(32),
            "PUBLIC_URL": self.url,
            "SUBDOMAIN_HOST": domain or "",
        }
        #: A service with every right; for the tests themselves.
        self.tests_token = self._secrets["TESTS_TOKEN"]
        #: For the proxy's own API.
        self.proxy_token = self._secrets["CONFIGPROXY_AUTH_TOKEN"]
        #: A service that may open everyone's server.
        self.service_token = self._secrets["PLAIN_TOKEN"]
        #: The service that a bastion logs users with keys in by.
        self.keys_token = self._secrets["KEYS_TOKEN"]
        self.box = Box(
            "jupyter", binds=[(HUB_TOOLS, "/mnt/hub"), *([(homes, "/mnt/home")] if homes else [])], tmpfs=["/mnt"]
        )
        network.join(self.box.network, self.address, *([] if address else [network.ELSEWHERE]))
        self._log = log or subprocess.DEVNULL
        for name in ("state", "control", "home", "tmp"):
            path = self.box.path(f"/mnt/{name}")
            path.mkdir(exist_ok=True)
            os.chown(path, HUB_UID, HUB_UID)
        self.box.write(
            "/mnt/etc/passwd",
            f"root:x:0:0:root:/root:/bin/bash\njovyan:x:{HUB_UID}:{HUB_UID}:Jupyter:/mnt/home:/bin/bash\n",
        )
        self.box.run("mount", "--bind", "/mnt/etc/passwd", "/etc/passwd")
        for name, source in (("jupyterhub_config.py", "hub_config.py"), ("no_jupyter.py", "no_jupyter.py")):
            self.box.write(f"/mnt/etc/{name}", Path(__file__).with_name(source).read_text())
        self.proxy = self.process = None
        try:
            self.start_proxy()
            self.start_hub()
            for user in users:
                self.add_user(user)
        except BaseException:
            self.close()
            raise

    def _environment(self):
        return self._secrets

    def _start(self, *argv):
        env = {**self._environment(), "HOME": "/mnt/state", "TMPDIR": "/mnt/tmp", "SHELL": "/bin/bash"}
        return self.box.start(*argv, uid=HUB_UID, env=env, stdout=self._log)

    def start_proxy(self):
        """Start the proxy and wait until it listens."""
        self.proxy = self._start(
            "node",
            PROXY,
            "--ip",
            self.address,
            "--port",
            "8000",
            "--api-ip",
            "127.0.0.1",
            "--api-port",
            "8001",
            "--error-target",
            "http://127.0.0.1:8081/hub/error",
            *(["--host-routing"] if self._domain else []),
        )
        wait_for(
            lambda: self._listens(f"http://{self.address}:8000") and self._listens("http://127.0.0.1:8001"),
            "the proxy listens",
            20,
        )

    def start_hub(self):
        """Start JupyterHub and wait until it answers through the proxy."""
        self._launch_hub()
        self._wait_for_hub()

    def _launch_hub(self):
        self.process = self._start(
            "sh", "-c", f"cd /mnt/state && exec {self.python} -m jupyterhub -f /mnt/etc/jupyterhub_config.py"
        )

    def _wait_for_hub(self):
        wait_for(self._answers, "JupyterHub answers", 60, 0.1)

    def _listens(self, url):
        try:
            rest.connect(self.box.network, url, 1).close()
            return True
        except OSError:
            return False

    def _answers(self):
        try:
            return self.api("GET", "/user", timeout=5).status == 200
        except OSError:
            return False

    def restart_proxy(self, pause=None):
        """Kill the proxy and start it anew, as an upgrade does; the hub restores its routes.

        `pause` is called while no proxy runs.
        """
        self.proxy.kill()
        wait_for(lambda: not self.proxy.alive(), "the proxy is gone")
        if pause:
            pause()
        self.start_proxy()
        # Asks the hub itself to restore the routes now instead of at its next check.
        done = rest.request(self.box.network, "POST", "http://127.0.0.1:8081/hub/api/proxy", self.tests_token)
        done.ok()

    def hang(self):
        """Stop the hub's process: connections are accepted and never answered."""
        self.process.kill(signal.SIGSTOP)

    def resume(self):
        """Undo `hang`."""
        self.process.kill(signal.SIGCONT)

    def api(self, method, path, body=None, token=None, timeout=15.0):
        """A call of the hub's REST API, as the tests' service unless a token is given."""
        return rest.request(
            self.network.client, method, f"{self.url}/hub/api{path}", token or self.tests_token, body, timeout
        )

    def add_user(self, name):
        """Create a user with an empty home; an existing one is left as it is."""
        answer = self.api("POST", f"/users/{name}")
        assert answer.status in (201, 409), answer.body
        home = self.box.path(f"/mnt/home/{name}")
        home.mkdir(exist_ok=True)
        os.chown(home, HUB_UID, HUB_UID)

    def delete_user(self, name):
        """Delete a user who has no server; their home stays."""
        self.api("DELETE", f"/users/{name}").ok()

    def set_auth_state(self, user, **fields):
        """What an authenticator would have kept of the user."""
        self.api("PATCH", f"/users/{user}", {"auth_state": fields}).ok()

    def tokens_of(self, user):
        """The user's tokens, as the hub describes them: id, note, scopes, expires_at, …"""
        return self.api("GET", f"/users/{user}/tokens").ok().json()["api_tokens"]

    def set_groups(self, user, groups):
        """Make the user a member of exactly these groups of the hub."""
        for group in self.api("GET", "/groups").ok().json():
            if user in group["users"] and group["name"] not in groups:
                self.api("DELETE", f"/groups/{group['name']}/users", {"users": [user]}).ok()
        for group in groups:
            assert self.api("POST", f"/groups/{group}").status in (201, 409)
            self.api("POST", f"/groups/{group}/users", {"users": [user]}).ok()

    def token(self, user, scopes=None, expires_in=None):
        """A new token of the user."""
        return self.new_token(user, scopes, expires_in)["token"]

    def new_token(self, user, scopes=None, expires_in=None):
        """A new token of the user with its id, as the hub describes it."""
        body = {"note": "tests"}
        if scopes is not None:
            body["scopes"] = scopes
        if expires_in is not None:
            body["expires_in"] = expires_in
        return self.api("POST", f"/users/{user}/tokens", body).ok().json()

    def revoke(self, user, token_id):
        """Delete a token."""
        self.api("DELETE", f"/users/{user}/tokens/{token_id}").ok()

    def steer(self, user, **control):
        """How the user's next start behaves; see hub_config.py."""
        self.box.write(f"/mnt/control/{user}.json", json.dumps(control))

    def unsteer(self, user):
        """Starts are ordinary again."""
        self.box.path(f"/mnt/control/{user}.json").unlink(missing_ok=True)

    def server(self, user, name=""):
        """The hub's model of a user's server, or None when there is none."""
        return self.api("GET", f"/users/{user}?include_stopped_servers").ok().json()["servers"].get(name)

    def running(self, user, name=""):
        """Whether the server is ready."""
        server = self.server(user, name)
        return bool(server and server["ready"])

    def idle(self, user, name=""):
        """Whether the server has not been started, nor is it being."""
        server = self.server(user, name)
        return not (server and (server["ready"] or server["pending"] or server["started"]))

    def start_server(self, user, name=""):
        """Start a server and wait until it is ready."""
        if not self.running(user, name):
            path = f"/users/{user}/servers/{name}" if name else f"/users/{user}/server"
            answer = self.api("POST", path)
            assert answer.status in (201, 202), (answer.status, answer.body)
            wait_for(lambda: self.running(user, name), f"{user}'s server runs", 60, 0.1)

    def stop_server(self, user, name=""):
        """Stop a server and wait until it has gone."""
        path = f"/users/{user}/servers/{name}" if name else f"/users/{user}/server"
        answer = self.api("DELETE", path)
        if answer.status not in (204, 404):
            assert answer.status in (202, 400), (answer.status, answer.body)
        wait_for(
            lambda: not (self.server(user, name) or {}).get("pending") and not self.running(user, name),
            f"{user}'s server stops",
            60,
            0.1,
        )

    def server_processes(self, user):
        """The processes of the user's servers, terminals' shells included."""
        home = f"/mnt/home/{user}"
        return [one for one in self.box.processes() if f"\0HOME={home}\0".encode() in b"\0" + one.read("environ")]

    def server_variables(self, user):
        """The environment of the user's running default server, in which the hub has put its token."""
        for one in self.server_processes(user):
            pairs = (text.partition("=") for text in one.read("environ").decode(errors="replace").split("\0"))
            found = {name: value for name, _, value in pairs}
            if found.get("JUPYTERHUB_API_TOKEN"):
                return found
        raise AssertionError(f"{user} has no running server")

    def log_text(self):
        """What hub, proxy and servers have written, when a log file was given."""
        return Path(self._log.name).read_text(errors="replace") if hasattr(self._log, "name") else ""

    def close(self):
        """End the hub, its proxy and all servers."""
        self.box.close()
