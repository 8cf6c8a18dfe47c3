"""A small network of its own: a switch to which clients, bastions and the hub are joined.

Nothing of it is visible in the machine's own network namespace.
"""

import itertools

from lib.sandbox.namespace import HeldNamespace, run


class Network:
    """10.77.0.0/16, with a client namespace that has several addresses."""

    PREFIX = 16
    CLIENTS = tuple(f"10.77.1.{n}" for n in range(1, 9))
    HUB = "10.77.0.3"
    ELSEWHERE = "10.77.0.4"

    def __init__(self):
        self._ports = itertools.count()
        self._bastions = itertools.count(11)
        self.switch = HeldNamespace()
        self.switch.run("ip", "link", "add", "br0", "type", "bridge")
        self.switch.run("ip", "link", "set", "br0", "up")
        self.client = HeldNamespace()
        self.join(self.client, *self.CLIENTS)

    def next_bastion_address(self):
        """An address that no other bastion has."""
        return f"10.77.0.{next(self._bastions)}"

    def join(self, namespace, *addresses):
        """Give the namespace an eth0 on the switch with these addresses."""
        port = f"p{next(self._ports)}"
        run(
            [
                "nsenter",
                f"--net=/proc/{self.switch.pid}/ns/net",
                "--",
                "ip",
                "link",
                "add",
                port,
                "type",
                "veth",
                "peer",
                "name",
                "eth0",
                "netns",
                str(namespace.pid),
            ]
        )
        self.switch.run("ip", "link", "set", port, "master", "br0", "up")
        namespace.run("ip", "link", "set", "eth0", "up")
        for address in addresses:
            namespace.run("ip", "addr", "add", f"{address}/{self.PREFIX}", "dev", "eth0", "broadcast", "+")

    def close(self):
        """Take the network down; its namespaces vanish with their holders."""
        self.client.close()
        self.switch.close()
