//! Is the user's server there? What answered in its place cannot always tell; the hub can.

use super::access::Access;
use super::remote::NoTerminal;
use crate::hub::http::Http;
use crate::hub::model::{ServerState, Verified};
use crate::hub::verify::{VerifyError, verify};
use crate::terminado::rest::CreateError;
use std::time::Duration;

/// Time for the hub's word on the server.
const ASK: Duration = Duration::from_secs(9);

/// Whether the server has to be started, after it has refused to make a terminal.
///
/// The hub's proxy passes what is for a server that isn't there to the hub, or, for a named one, to the user's default
/// server: Jupyter's 404 then says nothing about it. So the hub is asked unless the answer is clear.
///
/// # Errors
/// The hub accepts the token no more.
pub fn is_down(http: &Http, access: &Access, refusal: CreateError) -> Result<bool, NoTerminal> {
    if let CreateError::NotRunning(_) = refusal {
        return Ok(true);
    }
    match verify(http, access.token(), access.user(), access.server(), ASK) {
        Ok(Verified { state: ServerState::Ready, .. }) => Ok(false),
        Ok(Verified { state: ServerState::Unknown, may_start, .. }) => Ok(may_start),
        Ok(_) => Ok(true),
        // To start it is to sit this out, and the hub then says whether it runs.
        Err(VerifyError::Unavailable { .. }) => Ok(true),
        Err(VerifyError::Refused(why)) => Err(NoTerminal::new(
            "The hub does not accept your login any more.\nLog in again.",
            format!("no terminal: {refusal}; {}", why.for_log()),
        )),
    }
}
