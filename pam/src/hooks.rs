//! The six PAM hooks: every decision of the module.
//!
//! They run over two traits, [`Client`] for libpam and [`System`] for the host, so tests script
//! both.

use crate::client::{Client, Level};
use crate::system::{Account, Confinement, Owner, System};
use crate::token;
use common::logfmt::{Event, Line, fields};
use common::{LoginName, paths};
use pam::constants::PamResultCode;
use wire::By;
use wire::handle::{Handle, from_variable, to_variable};
use wire::login::{Request, Verdict};

/// The PAM services that the module serves: sshd on Debian 12 and 13.
///
/// Without PAMServiceName sshd takes its own base name; since 9.8 the name is fixed.
const SERVICES: [&str; 1] = ["sshd"];

/// Message: the administrator has to fix something; the log says what.
const NOT_SET_UP: &str = "This host cannot reach its JupyterHub: it is not set up completely.\nAsk its administrator; the system log says what is missing.";
/// Message: sshd would not confine this user.
const NOT_CONFINED: &str = "This host is not set up to let users of the hub in.\nAsk its administrator; the system log says what to mend.";
/// Message: the gateway failed, after a token was entered.
const GATEWAY_FAILED: &str =
    "This host could not verify your token.\nTry again; if it persists, ask the administrator of this host.";
/// Message: the gateway failed, at a login by key.
const NO_TOKEN: &str = "This host could not ask the hub about you.\nTry again; if it persists, ask the administrator of this host.";

/// Message after each token that was not accepted.
///
/// After three, OpenSSH's client goes on to the method `password`, with a prompt of its own:
/// "alice@host's password:". No colon in it, because programs look for one to find the prompt.
const ALSO_THE_PASSWORD: &str = "If ssh asks for a password next, that is the token as well.";

/// Message: the login was accepted, but the jail could not be built.
const NO_SESSION: &str = "This host could not open your session.\nTry again; if it persists, ask its administrator: the system log says why.";

/// Log: the name was typed with capitals, and in lower case it is a local account's.
const TAKEN: &str = "this host has an account of its own by this name in lower case";
/// Message: the same, for the user.
const NO_NAME: &str = "This is not a user name of the hub.\nCheck the name before the @.";

/// The variable in which sshd lists how the user was authenticated: a line per method, for a key
/// `publickey TYPE BASE64`.
///
/// It is complete when the session opens. In the account phase the last method, often the only one,
/// is missing (OpenSSH, monitor_child_preauth; tried with 9.2).
const AUTHENTICATED: &str = "SSH_AUTH_INFO_0";
/// The variable in which sshd puts the client's and its own address and port.
const CONNECTION: &str = "SSH_CONNECTION";
/// A hub user on whose behalf sshd calls.
struct User {
    /// The account's name.
    name: LoginName,
    /// The name as typed, perhaps in another case.
    typed: String,
    account: Account,
    /// The account's name belongs to a local account, which typing it in another case must not
    /// bypass.
    taken: bool,
    /// The client's address, or `unknown`.
    peer: String,
}

impl User {
    /// Formats a log line about the login named `session`.
    fn line(&self, session: Option<&str>, line: &Line) -> String {
        let who = [("user", self.name.as_str()), ("peer", &self.peer)];
        let session = session.map(|session| ("session", session));
        let start: Vec<_> = session.into_iter().chain(who).collect();
        format!("{} {line}", fields(&start))
    }
}

/// A log line with the outcome of a login.
fn login(outcome: &str, by: By) -> Line {
    Line::new(Event::Login).with("outcome", outcome).with("by", by.as_str())
}

/// The hub user that a hook is called for; `None` for other services and for accounts that aren't
/// the hub's.
///
/// Every hook begins with this. If it returns `None`, nothing has been asked, read or shown.
fn hub_user(client: &mut impl Client, system: &impl System) -> Option<User> {
    if !SERVICES.contains(&client.service().as_str()) {
        return None;
    }
    let typed = client.user().ok()?;
    let Owner::Hub(account) = system.owner(&typed) else { return None };
    // The shell is ours, so the name comes from our NSS module and parses.
    let name = LoginName::parse(&account.name).ok()?;
    // No service but ours knows `Alice`, the hub's alice. But alice may be a local account, and
    // that has precedence.
    let taken = account.name != typed && system.owner(&account.name) != Owner::Hub(account.clone());
    let rhost = client.rhost();
    let sound = !rhost.is_empty() && rhost.len() <= 255 && rhost.bytes().all(|b| b.is_ascii_graphic());
    let peer = if sound { rhost } else { "unknown".to_owned() };
    Some(User { name, typed, account, taken, peer })
}

/// The result for an account that isn't the hub's: `PAM_IGNORE`, or `code` if a gateway waits for
/// this login.
///
/// The account was the hub's a moment ago then, so it must not pass as a local one.
fn unless_granted(client: &impl Client, code: PamResultCode) -> PamResultCode {
    if client.variable(paths::HANDLE_VARIABLE).is_some() { code } else { PamResultCode::PAM_IGNORE }
}

/// The hook for setcred and close_session: success for hub users, without doing anything.
pub fn succeed(client: &mut impl Client, system: &impl System) -> PamResultCode {
    if hub_user(client, system).is_some() { PamResultCode::PAM_SUCCESS } else { PamResultCode::PAM_IGNORE }
}

/// Asks for a token and has the gateway verify it.
pub fn authenticate(client: &mut impl Client, system: &impl System) -> PamResultCode {
    let Some(user) = hub_user(client, system) else {
        warn_unless_configured(client, system);
        return PamResultCode::PAM_IGNORE;
    };
    let session = system.connection_id();
    let outcome = |outcome: &str, reason: &str| {
        user.line(Some(&session), &login(outcome, By::Token).with("reason", reason))
    };
    if user.taken {
        client.log(Level::Notice, &outcome("refused", TAKEN));
        client.error(NO_NAME);
        return PamResultCode::PAM_AUTH_ERR;
    }
    let page = match system.token_page() {
        Ok(page) => page,
        Err(reason) => {
            client.log(Level::Error, &outcome("unavailable", &reason));
            client.error(NOT_SET_UP);
            return PamResultCode::PAM_AUTHINFO_UNAVAIL;
        }
    };
    let answer = match client.prompt(&question(&user.name, &page)) {
        Ok(answer) => answer.unwrap_or_default(),
        Err(code) => {
            client.log(Level::Notice, &outcome("abandoned", "no answer to the prompt"));
            return code;
        }
    };
    let token = match token::token(&answer) {
        Ok(token) => token,
        Err(shape) => {
            client.log(Level::Notice, &outcome("refused", token::reason(shape)));
            client.error(&refused(token::message(shape)));
            return PamResultCode::PAM_AUTH_ERR;
        }
    };
    let verdict = system.verify(&session, &request(&user, Some(token)));
    drop(answer);
    conclude(client, &user, &session, By::Token, verdict)
}

/// The prompt for a token.
///
/// It ends like ssh's own prompt for a password, for which sshpass, lftp, expect, sshfs and VS Code
/// wait. Nothing before that may look like a prompt to them.
fn question(name: &LoginName, page: &str) -> String {
    format!("Paste a JupyterHub token from {page} as {name}'s password: ")
}

/// Stores a granted login's handle for the session; logs any other verdict and shows it to the
/// user.
fn conclude(
    client: &mut impl Client,
    user: &User,
    session: &str,
    by: By,
    verdict: Result<Verdict, String>,
) -> PamResultCode {
    let (level, outcome, reason, message, code) = match verdict {
        Ok(Verdict::Granted(handle)) => {
            let variable = to_variable(by, &handle);
            let Err(code) = client.set_variable(paths::HANDLE_VARIABLE, Some(&variable)) else {
                client.log(Level::Info, &user.line(Some(session), &login("granted", by)));
                return PamResultCode::PAM_SUCCESS;
            };
            let why = format!("cannot set a PAM variable ({code:?})");
            let line = login("unavailable", by).with("reason", why);
            client.log(Level::Error, &user.line(Some(session), &line));
            return PamResultCode::PAM_SYSTEM_ERR;
        }
        Ok(Verdict::Refused(message)) => {
            let code = match by {
                By::Token => PamResultCode::PAM_AUTH_ERR,
                By::Key => PamResultCode::PAM_PERM_DENIED,
            };
            (Level::Notice, "refused", message.clone(), message, code)
        }
        Ok(Verdict::Unavailable(message)) => {
            let code = PamResultCode::PAM_AUTHINFO_UNAVAIL;
            (Level::Notice, "unavailable", message.clone(), message, code)
        }
        Err(reason) => {
            let message = match by {
                By::Token => GATEWAY_FAILED,
                By::Key => NO_TOKEN,
            };
            let code = PamResultCode::PAM_AUTHINFO_UNAVAIL;
            (Level::Error, "unavailable", reason, message.to_owned(), code)
        }
    };
    client.log(level, &user.line(Some(session), &login(outcome, by).with("reason", reason)));
    client.error(&match by {
        By::Token => refused(&message),
        By::Key => message,
    });
    code
}

/// The message after a token that was not accepted.
fn refused(message: &str) -> String {
    format!("{message}\n{ALSO_THE_PASSWORD}")
}

/// Logs why no hub user can log in, if the configuration is unusable.
///
/// The NSS module knows no hub users then, so nobody gets as far as the prompt. Not called for
/// local accounts.
fn warn_unless_configured(client: &mut impl Client, system: &impl System) {
    if !SERVICES.contains(&client.service().as_str()) {
        return;
    }
    let Ok(name) = client.user() else { return };
    if LoginName::parse(&name).is_err() || system.owner(&name) != Owner::Nobody {
        return;
    }
    if let Err(reason) = system.token_page() {
        let line = Line::new(Event::Login).with("outcome", "unavailable").with("reason", reason);
        client.log(Level::Error, &format!("{} {line}", fields(&[("user", &name)])));
    }
}

/// The login that the gateway is to verify.
fn request<'a>(user: &'a User, token: Option<&'a str>) -> Request<'a> {
    Request { user: user.name.as_str(), peer: &user.peer, token }
}

/// What sshd's Match blocks can look at in this login.
fn confinement_request(client: &impl Client, user: &User) -> Confinement {
    let connection =
        client.variable(CONNECTION).filter(|text| text.bytes().all(|b| (b' '..0x7f).contains(&b)));
    let (typed, name) = (user.typed.clone(), user.name.to_string());
    Confinement { typed, user: name, host: user.peer.clone(), connection }
}

/// Checks that sshd confines the user, and has the hub make a token for a login by key.
///
/// However the user was authenticated: sshd confines a session only if its Match block applies,
/// which goes by the group `jupyterhub`. So a user whom the host doesn't see in that group is
/// rejected here, and so is one for whom sshd itself says that the block isn't in force, or that
/// another one overrides it.
pub fn account(client: &mut impl Client, system: &impl System) -> PamResultCode {
    let Some(user) = hub_user(client, system) else {
        return unless_granted(client, PamResultCode::PAM_PERM_DENIED);
    };
    let handle = client.variable(paths::HANDLE_VARIABLE);
    let carried = handle.as_deref().and_then(from_variable);
    let session =
        carried.map_or_else(|| system.connection_id(), |(_, handle)| handle.connection_id().to_owned());
    if user.taken {
        let by = if handle.is_some() { By::Token } else { By::Key };
        let line = login("refused", by).with("reason", TAKEN);
        client.log(Level::Notice, &user.line(Some(&session), &line));
        client.error(NO_NAME);
        return PamResultCode::PAM_PERM_DENIED;
    }
    let gid = user.account.gid;
    let asked = confinement_request(client, &user);
    let confined = system.in_hub_group(user.name.as_str(), gid).and_then(|()| system.is_confined(asked, gid));
    if let Err(reason) = confined {
        let by = if handle.is_some() { By::Token } else { By::Key };
        let line = login("unavailable", by).with("reason", reason);
        client.log(Level::Error, &user.line(Some(&session), &line));
        client.error(NOT_CONFINED);
        return PamResultCode::PAM_PERM_DENIED;
    }
    if handle.is_some() {
        return PamResultCode::PAM_SUCCESS;
    }
    // No token was asked for, so sshd has accepted something else: a key, unless the administrator
    // allows other methods, which open_session finds out. The hub is asked here because sshd can
    // still reject the login.
    let verdict = system.verify(&session, &request(&user, None));
    conclude(client, &user, &session, By::Key, verdict)
}

/// True if sshd has accepted a key or certificate of the user.
fn has_shown_a_key(client: &impl Client) -> bool {
    client
        .variable(AUTHENTICATED)
        .is_some_and(|methods| methods.lines().any(|line| line.starts_with("publickey ")))
}

/// Takes the gateway's handle out of the PAM environment and enters the jail.
pub fn open_session(client: &mut impl Client, system: &impl System) -> PamResultCode {
    let Some(user) = hub_user(client, system) else {
        return unless_granted(client, PamResultCode::PAM_SESSION_ERR);
    };
    let variable = client.variable(paths::HANDLE_VARIABLE);
    let carried = variable.as_deref().and_then(from_variable);
    let session = carried.as_ref().map(|(_, handle)| handle.connection_id());
    let fail = |client: &mut dyn Client, reason: &str| {
        let line = Line::new(Event::SessionFailed).with("reason", reason);
        client.log(Level::Error, &user.line(session, &line));
        // sshd shows this when it would have started the session.
        client.error(NO_SESSION);
        PamResultCode::PAM_SESSION_ERR
    };
    if user.taken {
        return fail(client, TAKEN);
    }
    if variable.is_none() {
        return fail(client, "there is no gateway; sshd let the user in without asking the module");
    }
    // sshd would copy it to the session's environment.
    if client.set_variable(paths::HANDLE_VARIABLE, None).is_err() {
        return fail(client, "cannot remove the gateway's handle from the environment");
    }
    let handle: &Handle = match &carried {
        Some((By::Token, handle)) => handle,
        Some((By::Key, handle)) if has_shown_a_key(client) => handle,
        Some((By::Key, _)) => {
            return fail(client, "sshd let the user in by neither a key nor a hub token");
        }
        None => return fail(client, "the gateway's handle is damaged"),
    };
    let Account { uid, gid, .. } = user.account;
    match system.enter_jail(&user.name, (uid, gid), handle) {
        Ok(None) => PamResultCode::PAM_SUCCESS,
        Ok(Some(channels)) => match client.set_variable(paths::CHANNELS_VARIABLE, Some(&channels)) {
            Ok(()) => PamResultCode::PAM_SUCCESS,
            Err(_) => fail(client, "cannot tell the session where its gateway is"),
        },
        Err(reason) => fail(client, &reason),
    }
}

/// Tells users who try to change their password that they have none.
pub fn change_token(client: &mut impl Client, system: &impl System) -> PamResultCode {
    if hub_user(client, system).is_none() {
        return PamResultCode::PAM_IGNORE;
    }
    client.error("Hub users have no password here.\nMake or revoke tokens in JupyterHub.");
    PamResultCode::PAM_PERM_DENIED
}

#[cfg(test)]
mod tests;
