"""Where it happens: namespaces, networks, Debian roots, bastions, and how they look from outside."""
