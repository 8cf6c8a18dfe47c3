//! The six hooks of the module: what happens in which case.

use crate::client::{Client, Level};
use crate::reply::{Verdict, is_handle};
use crate::system::{Account, Host, Owner, System};
use crate::token;
use accounts::{LoginName, paths};
use pam::constants::{PamFlag, PamResultCode};
use pam::module::{PamHandle, PamHooks};
use std::ffi::CStr;
use zeroize::Zeroizing;

/// The PAM service of sshd on Debian 12 and 13 (without PAMServiceName, sshd takes its own base name; from
/// 9.8 on the name is fixed). The module serves no other.
const SERVICES: [&str; 1] = ["sshd"];

/// What users see when the administrator has to mend something; the log says what.
const NOT_SET_UP: &str = "This bastion cannot reach its JupyterHub: it is not set up completely.\nAsk its administrator; the system log says what is missing.";
/// What users see when the gateway itself fails.
const GATEWAY_FAILED: &str = "Your token could not be verified: the gateway on this bastion failed.\nTry again; if it persists, ask the bastion's administrator.";

/// What users see when the token was good but the jail could not be built.
const NO_SESSION: &str = "This bastion could not open your session.\nTry again; if it persists, ask its administrator: the system log says why.";

/// The module, as libpam sees it. Arguments in /etc/pam.d are ignored: there are none.
pub struct Module;

impl PamHooks for Module {
    fn sm_authenticate(handle: &mut PamHandle, _: Vec<&CStr>, _: PamFlag) -> PamResultCode {
        authenticate(handle, &Host)
    }

    fn acct_mgmt(handle: &mut PamHandle, _: Vec<&CStr>, _: PamFlag) -> PamResultCode {
        account(handle, &Host)
    }

    fn sm_setcred(handle: &mut PamHandle, _: Vec<&CStr>, _: PamFlag) -> PamResultCode {
        for_hub_users(handle, &Host, PamResultCode::PAM_SUCCESS)
    }

    fn sm_open_session(handle: &mut PamHandle, _: Vec<&CStr>, _: PamFlag) -> PamResultCode {
        open_session(handle, &Host)
    }

    /// Nothing to do: the jail's first process watches sshd itself, for sshd may be killed.
    fn sm_close_session(handle: &mut PamHandle, _: Vec<&CStr>, _: PamFlag) -> PamResultCode {
        for_hub_users(handle, &Host, PamResultCode::PAM_SUCCESS)
    }

    fn sm_chauthtok(handle: &mut PamHandle, _: Vec<&CStr>, _: PamFlag) -> PamResultCode {
        change_token(handle, &Host)
    }
}

/// A hub user on whose behalf sshd calls.
struct User {
    name: LoginName,
    account: Account,
    /// Start of each log line: `user=alice rhost=192.0.2.7`.
    who: String,
}

/// The guard, before anything else: `None` for every other service and for every account that isn't the
/// hub's. Nothing has been asked, read or shown then.
fn hub_user(client: &mut impl Client, system: &impl System) -> Option<User> {
    if !SERVICES.contains(&client.service().as_str()) {
        return None;
    }
    let name = client.user().ok()?;
    let Owner::Hub(account) = system.owner(&name) else { return None };
    // The account's shell is ours, so the NSS module has parsed this name already.
    let name = LoginName::parse(&name).ok()?;
    let who = format!("user={name} rhost={}", client.rhost());
    Some(User { name, account, who })
}

fn for_hub_users(client: &mut impl Client, system: &impl System, code: PamResultCode) -> PamResultCode {
    if hub_user(client, system).is_some() { code } else { PamResultCode::PAM_IGNORE }
}

fn authenticate(client: &mut impl Client, system: &impl System) -> PamResultCode {
    let Some(user) = hub_user(client, system) else {
        warn_unless_configured(client, system);
        return PamResultCode::PAM_IGNORE;
    };
    let refuse = |client: &mut dyn Client, reason: &str, message: &str, code| {
        client.log(Level::Notice, &format!("{} refused: {reason}", user.who));
        client.error(message);
        code
    };
    let page = match system.token_page() {
        Ok(page) => page,
        Err(reason) => {
            client.log(Level::Error, &format!("{} refused: {reason}", user.who));
            client.error(NOT_SET_UP);
            return PamResultCode::PAM_AUTHINFO_UNAVAIL;
        }
    };
    let answer = match client.prompt(&format!("JupyterHub token for {} (make one at {page}): ", user.name)) {
        Ok(answer) => answer.unwrap_or_default(),
        Err(code) => {
            client.log(Level::Notice, &format!("{} refused: no answer to the prompt", user.who));
            return code;
        }
    };
    let token = match token::token(&answer) {
        Ok(token) => token,
        Err(shape) => return refuse(client, shape.reason(), shape.message(), PamResultCode::PAM_AUTH_ERR),
    };
    let verdict = system.verify(&gateway_request(&user, &client.rhost(), token));
    drop(answer);
    match verdict {
        Ok(Verdict::Granted(handle)) => match client.set_variable(paths::HANDLE_VARIABLE, Some(&handle)) {
            Ok(()) => PamResultCode::PAM_SUCCESS,
            Err(code) => {
                client.log(
                    Level::Error,
                    &format!("{} refused: cannot set a PAM variable ({code:?})", user.who),
                );
                PamResultCode::PAM_SYSTEM_ERR
            }
        },
        Ok(Verdict::Refused(message)) => refuse(client, &message, &message, PamResultCode::PAM_AUTH_ERR),
        Ok(Verdict::Unavailable(message)) => {
            refuse(client, &message, &message, PamResultCode::PAM_AUTHINFO_UNAVAIL)
        }
        Err(reason) => {
            client.log(Level::Error, &format!("{} refused: {reason}", user.who));
            client.error(GATEWAY_FAILED);
            PamResultCode::PAM_AUTHINFO_UNAVAIL
        }
    }
}

/// Without a usable configuration the NSS module knows no hub users, so nobody comes as far as the prompt:
/// the log must say why. Local accounts never get here.
fn warn_unless_configured(client: &mut impl Client, system: &impl System) {
    if !SERVICES.contains(&client.service().as_str()) {
        return;
    }
    let Ok(name) = client.user() else { return };
    if LoginName::parse(&name).is_err() || system.owner(&name) != Owner::Nobody {
        return;
    }
    if let Err(reason) = system.token_page() {
        client.log(Level::Error, &format!("user={name} is unknown: {reason}"));
    }
}

/// The text for the gateway's standard input. Its memory is wiped; it never grows, so that no copy is left
/// behind.
fn gateway_request(user: &User, rhost: &str, token: &[u8]) -> Zeroizing<Vec<u8>> {
    let peer = if !rhost.is_empty() && rhost.len() <= 255 && rhost.bytes().all(|b| b.is_ascii_graphic()) {
        rhost
    } else {
        "unknown"
    };
    let parts: [&[u8]; 7] =
        [b"user ", user.name.as_str().as_bytes(), b"\npeer ", peer.as_bytes(), b"\ntoken ", token, b"\n"];
    let mut text = Zeroizing::new(Vec::with_capacity(parts.iter().map(|part| part.len()).sum()));
    for part in parts {
        text.extend_from_slice(part);
    }
    text
}

/// sshd confines a session only if its Match block applies, and that goes by the group. So a user whom the
/// host doesn't see in it is turned away here, however the authentication went.
fn account(client: &mut impl Client, system: &impl System) -> PamResultCode {
    let Some(user) = hub_user(client, system) else { return PamResultCode::PAM_IGNORE };
    match system.in_hub_group(user.name.as_str(), user.account.gid) {
        Ok(()) => PamResultCode::PAM_SUCCESS,
        Err(reason) => {
            client.log(Level::Error, &format!("{} refused: {reason}", user.who));
            client.error(NOT_SET_UP);
            PamResultCode::PAM_PERM_DENIED
        }
    }
}

fn open_session(client: &mut impl Client, system: &impl System) -> PamResultCode {
    let Some(user) = hub_user(client, system) else { return PamResultCode::PAM_IGNORE };
    let fail = |client: &mut dyn Client, reason: &str| {
        client.log(Level::Error, &format!("{} no session: {reason}", user.who));
        // sshd keeps this for the moment at which it would have started the session.
        client.error(NO_SESSION);
        PamResultCode::PAM_SESSION_ERR
    };
    let Some(handle) = client.variable(paths::HANDLE_VARIABLE) else {
        return fail(client, "there is no gateway; sshd let the user in without a hub token");
    };
    // sshd would put it into the session's environment.
    if client.set_variable(paths::HANDLE_VARIABLE, None).is_err() {
        return fail(client, "cannot remove the gateway's handle from the environment");
    }
    if !is_handle(&handle) {
        return fail(client, "the gateway's handle is damaged");
    }
    let Account { uid, gid } = user.account;
    match system.enter_jail(&format!("user {}\nhandle {handle}\nuid {uid}\ngid {gid}\n", user.name)) {
        Ok(()) => PamResultCode::PAM_SUCCESS,
        Err(reason) => fail(client, &reason),
    }
}

fn change_token(client: &mut impl Client, system: &impl System) -> PamResultCode {
    if hub_user(client, system).is_none() {
        return PamResultCode::PAM_IGNORE;
    }
    client.error("Hub users have no password here.\nMake or revoke tokens in JupyterHub.");
    PamResultCode::PAM_PERM_DENIED
}

#[cfg(test)]
mod tests;
