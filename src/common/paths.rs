//! Names and places that the modules, the programs and the package agree on.

/// The configuration file. World-readable: NSS reads it in every sshd process; it holds no secret.
pub const CONFIG_FILE: &str = "/etc/jupyterhub-openssh/config.toml";
/// The gateway's program, run by the PAM module.
pub const PROGRAM: &str = "/usr/bin/jupyterhub-openssh";
/// Login shell of every hub user, and the ForceCommand. It marks an account as ours: it is not in
/// /etc/shells, so chsh(1) gives it to nobody.
pub const SESSION_SHELL: &str = "/usr/lib/jupyterhub-openssh/session";
/// The program that builds a session's jail, run by the PAM module as root.
pub const JAIL_PROGRAM: &str = "/usr/lib/jupyterhub-openssh/jail";
/// Our directory under /run, owned by root.
pub const RUN_DIR: &str = "/run/jupyterhub-openssh";
/// What ChrootDirectory names: an empty directory on the host, the jail in a session's mount namespace.
pub const JAIL_DIR: &str = "/run/jupyterhub-openssh/jail";
/// One symbolic link for each uid that has had a session since boot; its target is the user's name. A link
/// that itself belongs to the uid (lchown(2)) says by its group which gid the user has; of one that belongs
/// to root, the uid rule says it.
pub const UID_DIR: &str = "/run/jupyterhub-openssh/uids";
/// The gateway's socket, as a session sees it inside the jail.
pub const GATEWAY_SOCKET: &str = "/run/gateway.sock";
/// Where syslog(3) writes, inside the jail: the gateway reads what comes out.
pub const LOG_SOCKET: &str = "/dev/log";
/// Serves the sftp subsystem, inside the jail as on the host: the distribution's.
pub const SFTP_SERVER: &str = "/usr/lib/openssh/sftp-server";
/// Serves `rsync --server`, inside the jail as on the host; only with `files.rsync`.
pub const RSYNC: &str = "/usr/bin/rsync";
/// Serves `scp -t` and `scp -f`, inside the jail as on the host; only with `files.rsync`.
pub const SCP: &str = "/usr/bin/scp";
/// The system user of gateways and of each jail's first process.
pub const GATEWAY_USER: &str = "_jupyterhub-openssh";
/// The system user that may read the hub service's token: of each keeper, of what asks the hub
/// for `check`, and of the program below.
pub const KEYS_USER: &str = "_jupyterhub-openssh-keys";
/// sshd's AuthorizedKeysCommand for hub users.
pub const AUTHORIZED_KEYS_PROGRAM: &str = "/usr/lib/jupyterhub-openssh/authorized-keys";
/// Names a user's keys that the hub or a git forge knows. It runs as [`KEYS_USER`] whoever starts it.
pub const HUB_KEYS_PROGRAM: &str = "/usr/lib/jupyterhub-openssh/hub-keys";
/// What those have answered, for the time when they don't.
pub const KEYS_CACHE: &str = "/var/cache/jupyterhub-openssh/keys";
/// The supplementary group of every hub user, which sshd's Match block selects.
pub const GROUP: &str = "jupyterhub";
/// What every abstract socket name begins with at which a gateway serves channels where there is no jail.
pub const CHANNELS_SOCKET_PREFIX: &str = "jupyterhub-openssh-channels/";
/// The rest of such a name, for the session: a variable of the PAM environment.
pub const CHANNELS_VARIABLE: &str = "JUPYTERHUB_OPENSSH_CHANNELS";
/// Where an sshd that isn't root's has its log: nobody but root can make /dev/log.
pub const OWN_LOG_SOCKET: &str = "/run/jupyterhub-openssh/log";
/// The configuration of an sshd that isn't root's. It includes the system's.
pub const OWN_SSHD_CONFIG: &str = "/run/jupyterhub-openssh/sshd_config";
/// PAM environment variable that carries the gateway's handle from authenticate to open_session.
pub const HANDLE_VARIABLE: &str = "JUPYTERHUB_OPENSSH_GATEWAY";
/// What every abstract socket name of a gateway starts with.
pub const GATEWAY_SOCKET_PREFIX: &str = "jupyterhub-openssh/";
/// What every abstract socket name begins with at which a gateway answers root about its session.
pub const ADMIN_SOCKET_PREFIX: &str = "jupyterhub-openssh-session/";
/// Each byte of it that is locked is a connection; root's alone.
pub const CONNECTIONS: &str = "/run/jupyterhub-openssh/connections";
/// What gateways have counted: fixed in size, root's alone.
pub const COUNTERS: &str = "/var/lib/jupyterhub-openssh/counters";
