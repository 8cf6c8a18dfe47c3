//! Paths, users and other names that the modules, the programs and the package agree on.

/// The configuration file. World-readable: NSS reads it in every sshd process; it holds no secret.
pub const CONFIG_FILE: &str = "/etc/jupyterhub-openssh/config.toml";
/// The gateway's program, run by the PAM module.
pub const PROGRAM: &str = "/usr/bin/jupyterhub-openssh";
/// The session program: login shell of every hub user, and the ForceCommand.
///
/// It marks an account as ours. It is not in /etc/shells, so nobody can chsh(1) to it.
pub const SESSION_SHELL: &str = "/usr/lib/jupyterhub-openssh/session";
/// The program that builds a session's jail, run by the PAM module as root.
pub const JAIL_PROGRAM: &str = "/usr/lib/jupyterhub-openssh/jail";
/// Our directory under /run, owned by root.
pub const RUN_DIR: &str = "/run/jupyterhub-openssh";
/// The ChrootDirectory: the jail in a session's mount namespace, an empty directory on the host.
pub const JAIL_DIR: &str = "/run/jupyterhub-openssh/jail";
/// A directory with a symbolic link for each uid that has had a session since boot. Its target is
/// the user's name.
///
/// If the uid owns the link (lchown(2)), the link's group is the gid. For a link of root's, the uid
/// rule tells the gid.
pub const UID_DIR: &str = "/run/jupyterhub-openssh/uids";
/// The gateway's socket, as a session sees it inside the jail.
pub const GATEWAY_SOCKET: &str = "/run/gateway.sock";
/// The socket of syslog(3) inside the jail, from which the gateway reads.
pub const LOG_SOCKET: &str = "/dev/log";
/// The distribution's sftp-server, at the same path in the jail and on the host.
pub const SFTP_SERVER: &str = "/usr/lib/openssh/sftp-server";
/// The program that serves `rsync --server`, in the jail and on the host; only with `files.rsync`.
pub const RSYNC: &str = "/usr/bin/rsync";
/// The program that serves `scp -t` and `scp -f`, in the jail and on the host; only with
/// `files.rsync`.
pub const SCP: &str = "/usr/bin/scp";
/// The system user of gateways and of each jail's first process.
pub const GATEWAY_USER: &str = "_jupyterhub-openssh";
/// The system user that may read the hub service's token: for keepers, for `check`, and for
/// [`HUB_KEYS_PROGRAM`].
pub const KEYS_USER: &str = "_jupyterhub-openssh-keys";
/// sshd's AuthorizedKeysCommand for hub users.
pub const AUTHORIZED_KEYS_PROGRAM: &str = "/usr/lib/jupyterhub-openssh/authorized-keys";
/// The program that lists a user's keys from the hub or a git forge. Set-user-ID: it always runs as
/// [`KEYS_USER`].
pub const HUB_KEYS_PROGRAM: &str = "/usr/lib/jupyterhub-openssh/hub-keys";
/// The last answers of these sources, for when they are down.
pub const KEYS_CACHE: &str = "/var/cache/jupyterhub-openssh/keys";
/// The supplementary group of every hub user, which sshd's Match block selects.
pub const GROUP: &str = "jupyterhub";
/// Prefix of the abstract sockets at which gateways serve sessions without a jail.
pub const CHANNELS_SOCKET_PREFIX: &str = "jupyterhub-openssh-channels/";
/// PAM environment variable with the rest of such a name, for the session program.
pub const CHANNELS_VARIABLE: &str = "JUPYTERHUB_OPENSSH_CHANNELS";
/// The log socket of an sshd that runs without root, which cannot make /dev/log.
pub const OWN_LOG_SOCKET: &str = "/run/jupyterhub-openssh/log";
/// The configuration of an sshd that runs without root. It includes the system's.
pub const OWN_SSHD_CONFIG: &str = "/run/jupyterhub-openssh/sshd_config";
/// PAM environment variable that carries the gateway's handle from authenticate to open_session.
pub const HANDLE_VARIABLE: &str = "JUPYTERHUB_OPENSSH_GATEWAY";
/// Prefix of the abstract sockets at which gateways wait to be claimed.
pub const GATEWAY_SOCKET_PREFIX: &str = "jupyterhub-openssh/";
/// Prefix of the abstract sockets at which gateways answer root's `status` and `disconnect`.
pub const ADMIN_SOCKET_PREFIX: &str = "jupyterhub-openssh-session/";
/// A file of root's in which each locked byte is a connection.
pub const CONNECTIONS: &str = "/run/jupyterhub-openssh/connections";
/// A file of root's, of fixed size, with the counters of all gateways.
pub const COUNTERS: &str = "/var/lib/jupyterhub-openssh/counters";
