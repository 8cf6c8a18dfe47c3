//! How one request to the hub can fail before its answer can be judged.

use super::text::printable;
use std::error::Error as _;
use std::fmt;
use std::io;
use std::time::Duration;

/// Longest foreign text in an error, in characters.
const MAX_DETAIL: usize = 300;

/// A request without a usable answer: what was tried, and what happened. Never contains the token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpError {
    /// Method and URL path, such as `GET /hub/api/user`; for [`Fault::Setup`] what was being set
    /// up.
    pub tried: String,
    /// What happened.
    pub fault: Fault,
}

/// What happened to a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// The client could not be made: bad URL, unreadable or empty CA file.
    Setup(String),
    /// No complete answer within this time (connecting has a shorter limit than the whole request).
    Timeout(Duration),
    /// The hub's host name did not resolve.
    Resolve(String),
    /// No TCP connection.
    Connect(String),
    /// The TLS handshake failed, or the certificate is not trusted.
    Tls(String),
    /// The answer redirects elsewhere. We don't follow it, so the token goes nowhere else.
    Redirect { status: u16, target: String },
    /// The body is longer than this many bytes.
    TooLarge(usize),
    /// The connection broke, or the answer is not HTTP.
    Broken(String),
    /// An answer to something else than the request: a hub in trouble, or a proxy in front of it.
    Trouble(String),
}

impl HttpError {
    /// Classifies an error of reqwest, which says "error sending request" and hides the rest in its
    /// sources.
    pub(super) fn from_reqwest(tried: &str, spent: Duration, error: &reqwest::Error) -> Self {
        let cause = root_cause(error);
        let fault = if error.is_timeout() {
            Fault::Timeout(spent)
        } else if error.is_builder() {
            Fault::Setup(cause)
        } else if error.is_dns() {
            Fault::Resolve(cause)
        } else if is_tls(error) {
            Fault::Tls(cause)
        } else if error.is_connect() {
            Fault::Connect(cause)
        } else {
            Fault::Broken(cause)
        };
        Self { tried: tried.to_owned(), fault }
    }

    /// Classifies an error while reading a body; reqwest wraps its own error in an I/O error.
    pub(super) fn from_read(tried: &str, spent: Duration, error: &io::Error) -> Self {
        match error.get_ref().and_then(|inner| inner.downcast_ref::<reqwest::Error>()) {
            Some(inner) => Self::from_reqwest(tried, spent, inner),
            None => Self {
                tried: tried.to_owned(),
                fault: Fault::Broken(printable(&error.to_string(), MAX_DETAIL)),
            },
        }
    }

    /// True if the same request may succeed a moment later: a hub or proxy is restarting, or a
    /// queue is full. A wrong URL, an untrusted certificate and a redirect are permanent.
    #[must_use]
    pub fn is_passing(&self) -> bool {
        matches!(
            self.fault,
            Fault::Timeout(_) | Fault::Resolve(_) | Fault::Connect(_) | Fault::Broken(_) | Fault::Trouble(_)
        )
    }

    /// True if the host itself could not be reached: its name, its port, its certificate.
    #[must_use]
    pub fn is_about_the_host(&self) -> bool {
        matches!(self.fault, Fault::Resolve(_) | Fault::Connect(_) | Fault::Tls(_))
    }

    /// True if the hub may have carried out the request although its answer was lost.
    #[must_use]
    pub(crate) fn may_have_arrived(&self) -> bool {
        match self.fault {
            Fault::Timeout(_) | Fault::TooLarge(_) | Fault::Broken(_) | Fault::Trouble(_) => true,
            // Whatever sends a redirect does nothing else.
            Fault::Setup(_)
            | Fault::Resolve(_)
            | Fault::Connect(_)
            | Fault::Tls(_)
            | Fault::Redirect { .. } => false,
        }
    }

    /// Two lines for the user at the prompt: what happened, what to do. They name no host, address
    /// or path: nobody needs those before the login, and the log has them.
    #[must_use]
    pub fn for_user(&self) -> String {
        let (what, todo) = match self.fault {
            Fault::Timeout(_) => ("The hub did not answer in time.", WAIT),
            Fault::Resolve(_) | Fault::Connect(_) => ("The hub cannot be reached at the moment.", WAIT),
            Fault::Broken(_) => ("The connection to the hub broke.", WAIT),
            Fault::Trouble(_) => ("The hub has a problem.", WAIT),
            Fault::Tls(_) => {
                ("The hub's certificate is not trusted by this host, so the token was not sent.", TELL)
            }
            Fault::Setup(_) | Fault::Redirect { .. } | Fault::TooLarge(_) => {
                ("This host cannot talk to its hub: one of the two is not set up right.", TELL)
            }
        };
        format!("{what}\n{todo}")
    }
}

const WAIT: &str = "Try again in a minute; if that does not help, tell the administrator of this host.";
const TELL: &str = "Tell the administrator of this host; its log names the reason.";

impl fmt::Display for HttpError {
    /// One line for the administrator.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.tried)?;
        match &self.fault {
            Fault::Setup(why) | Fault::Trouble(why) => write!(f, "{why}"),
            Fault::Timeout(spent) => write!(f, "no complete answer within {:.1} s", spent.as_secs_f32()),
            Fault::Resolve(why) => write!(f, "the host name does not resolve: {why}"),
            Fault::Connect(why) => write!(f, "no connection: {why}"),
            Fault::Tls(why) => write!(f, "TLS failed: {why}"),
            Fault::Redirect { status, target } => {
                write!(
                    f,
                    "redirected ({status}) to {target}, which was not followed; set hub.url to the final address"
                )
            }
            Fault::TooLarge(limit) => write!(f, "the answer is longer than {limit} bytes"),
            Fault::Broken(why) => write!(f, "the connection broke: {why}"),
        }
    }
}

impl std::error::Error for HttpError {}

fn is_tls(error: &reqwest::Error) -> bool {
    let mut source = error.source();
    while let Some(cause) = source {
        if cause.is::<native_tls::Error>() {
            return true;
        }
        source = cause.source();
    }
    false
}

/// Describes the innermost cause. For TLS the outer of the two messages says more (it contains the
/// reason why the certificate was rejected), so the walk ends there.
fn root_cause(error: &reqwest::Error) -> String {
    let mut text = None;
    let mut source = error.source();
    while let Some(cause) = source {
        text = Some(cause.to_string());
        if cause.is::<native_tls::Error>() {
            break;
        }
        source = cause.source();
    }
    printable(&text.unwrap_or_else(|| error.to_string()), MAX_DETAIL)
}
