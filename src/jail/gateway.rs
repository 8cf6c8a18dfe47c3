//! The gateway that serves this connection, started by the PAM module and waiting to be claimed.

use super::failure::{Failure, why};
use common::paths;
use host::sys::socket;
use nix::unistd::User;
use std::os::fd::{AsFd, OwnedFd};
use wire::jail::Request;

/// Looks up the uid and gid of the system user that gateways run as.
pub fn ids() -> Result<(u32, u32), Failure> {
    match User::from_name(paths::GATEWAY_USER) {
        Ok(Some(user)) if !user.uid.is_root() => Ok((user.uid.as_raw(), user.gid.as_raw())),
        Ok(Some(_)) => Err(format!("the system user {} must not be root", paths::GATEWAY_USER)),
        Ok(None) => Err(format!("the system user {} is missing; reinstall the package", paths::GATEWAY_USER)),
        Err(e) => Err(format!("cannot look up the system user {}: {e}", paths::GATEWAY_USER)),
    }
}

/// Connects to the gateway.
///
/// Abstract socket names belong to a network namespace, so this comes before leaving the host's.
pub fn connect(request: &Request, gateway_uid: u32) -> Result<OwnedFd, Failure> {
    let gateway = socket::connect_abstract(&request.handle.socket_name())
        .map_err(why("the gateway that verified the token is gone"))?;
    let credentials = socket::peer(gateway.as_fd()).map_err(why("cannot tell who the gateway is"))?;
    // It listens as root, before it gives up root; its own user is as good.
    if credentials.uid() == 0 || credentials.uid() == gateway_uid {
        Ok(gateway)
    } else {
        Err(format!("uid {} listens in the gateway's place", credentials.uid()))
    }
}
