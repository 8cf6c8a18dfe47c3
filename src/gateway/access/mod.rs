//! What a gateway needs to speak for its user: the configuration, the login name and the tokens.

pub mod server_token;

use crate::job::STACK;
use common::{HubUrl, LoginName};
use host::config::Config;
use host::counters::Meter;
use host::log::Log;
use host::secret::Token;
use hub::error::HttpError;
use hub::http::{Http, new_http};
use hub::text::printable;
use server_token::ServerToken;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

/// Everything that speaks for the user. The loop and its jobs share it.
#[derive(Clone)]
pub struct Access(Arc<Inner>);

struct Inner {
    config: Config,
    hub: HubUrl,
    login: LoginName,
    token: Arc<Token>,
    server_token: ServerToken,
    meter: Meter,
    /// Where the user's server is, if the hub has said so.
    place: Mutex<Place>,
    /// The HTTP client that verified the token, with its open connection. An idle gateway drops it,
    /// because it is most of the gateway's memory.
    http: Mutex<Option<Http>>,
}

/// Where the user's server is.
#[derive(Clone)]
enum Place {
    /// Unknown: the hub has not said.
    Unknown,
    /// At this address of the hub.
    At(HubUrl),
    /// At an address to which no token may go.
    Foreign(Foreign),
}

/// An address that the hub gives for the user's server, and that is not the hub's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Foreign {
    said: String,
    hub: String,
}

impl Foreign {
    /// The message for the user: what happened, then what to do.
    #[must_use]
    pub fn for_user(&self) -> String {
        "Your server has an address that this host does not know as the hub's, so your token was not sent there.\n\
         Tell the administrator of this host; its log names the reason."
            .to_owned()
    }
}

impl fmt::Display for Foreign {
    /// The line for the administrator, with what to do.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "the hub says that the server is at {}, which is neither the host of hub.url, {}, nor beneath it with the \
             same scheme and port: no token is sent there. Set hub.url to the address that users open in their browser",
            self.said, self.hub
        )
    }
}

impl Access {
    /// Creates it. `http` is the client that has verified the first token; the second token is for
    /// the user's server.
    #[must_use]
    pub fn new(
        config: Config,
        hub: HubUrl,
        login: LoginName,
        tokens: (Token, ServerToken),
        http: Http,
        meter: Meter,
    ) -> Self {
        Self(Arc::new(Inner {
            config,
            hub,
            login,
            token: Arc::new(tokens.0),
            server_token: tokens.1,
            meter,
            place: Mutex::new(Place::Unknown),
            http: Mutex::new(Some(http)),
        }))
    }

    /// The configuration.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.0.config
    }

    /// The hub's address.
    #[must_use]
    pub fn hub(&self) -> &HubUrl {
        &self.0.hub
    }

    /// The login name.
    #[must_use]
    pub fn login(&self) -> &LoginName {
        &self.0.login
    }

    /// The hub user's name.
    #[must_use]
    pub fn user(&self) -> &str {
        self.0.login.user().as_str()
    }

    /// The server's name; empty for the default server.
    #[must_use]
    pub fn server(&self) -> &str {
        self.0.login.server().map_or("", |server| server.as_str())
    }

    /// The token that logged in. Only the hub may see it: the user's server gets
    /// [`Self::server_token`].
    #[must_use]
    pub fn hub_token(&self) -> &Arc<Token> {
        &self.0.token
    }

    /// The token for the user's server. Sometimes the hub has to make one first.
    ///
    /// # Errors
    /// A token has to be made, and the hub could not be asked.
    pub fn server_token(&self) -> Result<Arc<Token>, HttpError> {
        self.0.server_token.get(self)
    }

    /// Starts making the token for the server, while sshd and the jail complete the login.
    pub fn prepare_server_token(&self) {
        let access = self.clone();
        let made = move || {
            // The first caller that needs it tries again, and reports the failure.
            let _ = access.server_token();
        };
        // If no thread can be started, the token is made when it is needed.
        let _ = std::thread::Builder::new().name("token".to_owned()).stack_size(STACK).spawn(made);
    }

    /// Logs what happened to the token for the server.
    pub fn tell_of_server_token(&self, log: &mut Log) {
        self.0.server_token.tell(log);
    }

    /// Revokes the token for the server. Nothing of the server's may be needed any more.
    pub fn give_server_token_back(&self, log: &mut Log) {
        self.0.server_token.give_back(self, log);
    }

    /// The counters for the administrator.
    #[must_use]
    pub fn meter(&self) -> &Meter {
        &self.0.meter
    }

    /// The page where the hub shows the user's servers.
    #[must_use]
    pub fn home_page(&self) -> String {
        format!("{}/hub/home", self.0.hub.base())
    }

    /// Remembers where the hub says that the user's server is.
    pub fn heed(&self, address: Option<&str>) {
        let Some(address) = address else { return };
        let found = match self.0.hub.at_host_of(address) {
            Some(found) => Place::At(found),
            None => {
                Place::Foreign(Foreign { said: printable(address, 200), hub: self.0.hub.base().to_owned() })
            }
        };
        *self.0.place.lock().unwrap_or_else(PoisonError::into_inner) = found;
    }

    /// True if the hub has said where the user's server is.
    #[must_use]
    pub fn is_located(&self) -> bool {
        !matches!(self.place(), Place::Unknown)
    }

    /// The hub's address to use for the user's server: where that server is, or the hub's own
    /// address until the hub has said so.
    ///
    /// # Errors
    /// The server is at an address to which no token may go.
    pub fn server_hub(&self) -> Result<HubUrl, Foreign> {
        match self.place() {
            Place::Unknown => Ok(self.0.hub.clone()),
            Place::At(hub) => Ok(hub),
            Place::Foreign(foreign) => Err(foreign),
        }
    }

    fn place(&self) -> Place {
        self.0.place.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// An HTTP client for the hub and, at [`Self::server_hub`], for the user's server. Creates one
    /// if there is none.
    ///
    /// # Errors
    /// The CA file in the configuration cannot be used.
    pub fn http(&self) -> Result<Http, HttpError> {
        let mut kept = self.0.http.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(http) = &*kept {
            return Ok(http.clone());
        }
        let http = new_http(&self.0.config, &self.0.hub)?;
        *kept = Some(http.clone());
        Ok(http)
    }

    /// Drops the HTTP client; the next call creates a new one.
    pub fn forget_http(&self) {
        let kept = self.0.http.lock().unwrap_or_else(PoisonError::into_inner).take();
        drop(kept);
    }
}
