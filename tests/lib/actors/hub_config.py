"""Configuration of the tests' JupyterHub; runs inside its sandbox.

What a user's server does when it starts is steered by /mnt/control/USER.json:
  delay        seconds before the server starts
  messages     progress messages, spread over that time
  fail         the start fails with this reason
  stop_delay   seconds that stopping takes
  start_timeout  seconds after which the hub gives up

Users whose name begins with a key of OLD have a server of that age, those with "dash" one that is no Jupyter
(no_jupyter.py), others a present one.
"""

import asyncio
import contextlib
import itertools
import json
import os
import socket
import sys
from pathlib import Path

from jupyterhub.spawner import SimpleLocalProcessSpawner

TOOLS = "/mnt/hub"
#: The version of a hub of an earlier year, whose users' servers are of that year, too.
OLD_HUB = os.environ.get("OLD_HUB")
STATE = Path("/mnt/state")
#: Beginning of users' names → the application of their server; its venv is named like the beginning.
OLD = {"old1": "jupyter_server.serverapp.ServerApp", "old6": "notebook.notebookapp.NotebookApp"}


_ports = itertools.count(20000)


def new_port():
    """A port that nobody listens on. The hub's own choice may give one to two servers that start at the same time."""
    for port in _ports:
        with contextlib.suppress(OSError), socket.socket() as one:
            one.bind(("127.0.0.1", port))
            return port


class SteeredSpawner(SimpleLocalProcessSpawner):
    """Starts a real server as a process, after what the control file asks for."""

    def control(self):
        try:
            return json.loads(Path(f"/mnt/control/{self.user.name}.json").read_text())
        except FileNotFoundError:
            return {}

    def age(self):
        """The key of OLD that the user's name begins with; None for a present server."""
        return next((age for age in OLD if self.user.name.startswith(age)), None)

    def run_pre_spawn_hook(self):
        # Here, because the hub reads the timeout before it runs start().
        self.start_timeout = self.control().get("start_timeout", 60)
        return super().run_pre_spawn_hook()

    async def start(self):
        control = self.control()
        age = self.age()
        if age:
            # With the JupyterHub of its time, and without options that came later.
            self.cmd, self.args = [f"{TOOLS}/venv-{age}/bin/python", "-m", "jupyterhub.singleuser"], []
        if self.user.name.startswith("dash"):
            self.cmd, self.args = [sys.executable, "/mnt/etc/no_jupyter.py"], []
        await asyncio.sleep(control.get("delay", 0))
        if control.get("fail"):
            error = RuntimeError(control["fail"])
            error.jupyterhub_message = control["fail"]
            raise error
        self.port = new_port()
        return await super().start()

    async def stop(self, now=False):
        await asyncio.sleep(self.control().get("stop_delay", 0))
        return await super().stop(now=now)

    async def progress(self):
        control = self.control()
        messages = control.get("messages", [])
        for number, message in enumerate(messages, 1):
            yield {"progress": number * 90 // len(messages), "message": message}
            await asyncio.sleep(control.get("delay", 0) / (len(messages) + 1))

    def user_env(self, env):
        env = super().user_env(env)
        env["SHELL"] = "/bin/bash"
        if self.age():
            env["JUPYTERHUB_SINGLEUSER_APP"] = OLD[self.age()]
        return env


c = get_config()  # noqa: F821 (given by traitlets)
c.JupyterHub.bind_url = os.environ["PUBLIC_URL"]
c.JupyterHub.subdomain_host = os.environ["SUBDOMAIN_HOST"]
c.JupyterHub.hub_ip = "127.0.0.1"
c.JupyterHub.hub_port = 8081
c.JupyterHub.db_url = f"sqlite:///{STATE}/jupyterhub.sqlite"
c.JupyterHub.cookie_secret_file = f"{STATE}/cookie_secret"
c.JupyterHub.allow_named_servers = not OLD_HUB
c.JupyterHub.cleanup_servers = False
c.JupyterHub.concurrent_spawn_limit = 0
# The proxy is run beside the hub, so that tests restart the one without the other.
c.ConfigurableHTTPProxy.should_start = False
c.ConfigurableHTTPProxy.api_url = "http://127.0.0.1:8001"
c.ConfigurableHTTPProxy.auth_token = os.environ["CONFIGPROXY_AUTH_TOKEN"]
c.JupyterHub.proxy_check_interval = 5

c.JupyterHub.authenticator_class = "dummy"
c.Authenticator.allow_all = True
c.Authenticator.admin_users = {"admin"}
# Users' public keys may be kept there.
c.Authenticator.enable_auth_state = True

c.JupyterHub.services = [
    {"name": "tests", "api_token": os.environ["TESTS_TOKEN"]},
    {"name": "plain", "api_token": os.environ["PLAIN_TOKEN"]},
    {"name": "ssh-bastion", "api_token": os.environ["KEYS_TOKEN"]},
]
c.JupyterHub.load_roles = [
    {
        "name": "tests",
        "services": ["tests"],
        "scopes": [
            "admin:users",
            "admin:servers",
            "tokens",
            "access:servers",
            "proxy",
            "list:users",
            "read:hub",
            "shutdown",
            "admin:groups",
        ],
    },
    # A service that may open everyone's server: still no user, so never let in.
    {"name": "plain", "services": ["plain"], "scopes": ["read:users", "servers", "access:servers"]},
    # As docs/keys.md has it: mints and revokes tokens, and reads the keys that auth_state may hold.
    {"name": "ssh-bastion", "services": ["ssh-bastion"], "scopes": ["tokens", "read:users:name", "admin:auth_state"]},
]

c.JupyterHub.spawner_class = SteeredSpawner
c.SimpleLocalProcessSpawner.home_dir_template = "/mnt/home/{username}"
c.Spawner.cmd = [sys.executable, "-m", "jupyterhub.singleuser"]
c.Spawner.args = ["--ServerApp.log_level=INFO", "--ServerApp.allow_unauthenticated_access=False"]
c.Spawner.env_keep = ["PATH", "LANG", "CONFIGPROXY_AUTH_TOKEN_NEVER"]
c.Spawner.environment = {"JUPYTERHUB_SINGLEUSER_APP": "jupyter_server.serverapp.ServerApp"}
c.Spawner.http_timeout = 30
if OLD_HUB:
    # Without options that came later.
    c.Spawner.args = []
    c.Spawner.environment["PYTHONPATH"] = os.environ["PYTHONPATH"]
