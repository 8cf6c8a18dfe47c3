"""Virtual machines with Debian's own kernel, for NFS, quotas and systemd."""
