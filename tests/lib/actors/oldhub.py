"""JupyterHubs of earlier years, whose users' servers are of their year, too."""

import re

from lib.actors.hub import Hub
from lib.paths import REPOSITORY


def _versions(requirements):
    return re.findall(r"(?m)^jupyterhub==(.*)$", (REPOSITORY / "tests/requirements" / requirements).read_text())


#: Oldest first; requirements/oldhubs.txt says with what they run.
VERSIONS = _versions("oldhubs.txt")
#: That of the hub which all other tests run with.
NEWEST = _versions("hub.txt")[0]


class OldHub(Hub):
    """A hub of an earlier year, without named servers. It is to be waited for (`ready`), so that several start together."""

    def __init__(self, network, version, number, log=None):
        self.version = version
        super().__init__(network, users=(), log=log, address=f"10.77.0.{200 + number}")

    def _environment(self):
        return {**super()._environment(), "PYTHONPATH": f"/mnt/hub/jupyterhub-{self.version}", "OLD_HUB": self.version}

    @property
    def python(self):
        return f"/mnt/hub/venv{'' if self.version == VERSIONS[-1] else '-old1'}/bin/python"

    def start_hub(self):
        self._launch_hub()

    def ready(self, users):
        """Wait until it answers, and create users."""
        self._wait_for_hub()
        for user in users:
            self.add_user(user)
