//! What a gateway needs to speak for its user: the configuration, the login name and the token.

use crate::config::Config;
use crate::hub::error::HttpError;
use crate::hub::http::Http;
use crate::metrics::counters::Meter;
use crate::secret::Token;
use accounts::{HubUrl, LoginName};
use std::sync::{Arc, Mutex, PoisonError};

/// Shared by the loop and its jobs.
#[derive(Clone)]
pub struct Access(Arc<Inner>);

struct Inner {
    config: Config,
    hub: HubUrl,
    login: LoginName,
    token: Token,
    meter: Meter,
    /// The client that verified the token, with its connection; dropped while a gateway is idle, because
    /// it is most of the memory of an idle gateway.
    http: Mutex<Option<Http>>,
}

impl Access {
    /// Puts them together; `http` is the client that has verified the token.
    #[must_use]
    pub fn new(
        config: Config,
        hub: HubUrl,
        login: LoginName,
        token: Token,
        http: Http,
        meter: Meter,
    ) -> Self {
        Self(Arc::new(Inner { config, hub, login, token, meter, http: Mutex::new(Some(http)) }))
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

    /// Who has logged in.
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

    /// The token, for the Authorization header.
    #[must_use]
    pub fn token(&self) -> &Token {
        &self.0.token
    }

    /// What is counted for the administrator.
    #[must_use]
    pub fn meter(&self) -> &Meter {
        &self.0.meter
    }

    /// Where the hub shows the user's servers.
    #[must_use]
    pub fn home_page(&self) -> String {
        format!("{}/hub/home", self.0.hub.base())
    }

    /// A client for the hub and, by the hub's proxy, for the user's server. Made when there is none.
    ///
    /// # Errors
    /// The configuration's CA file is not usable.
    pub fn http(&self) -> Result<Http, HttpError> {
        let mut kept = self.0.http.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(http) = &*kept {
            return Ok(http.clone());
        }
        let http = new_http(&self.0.config, &self.0.hub)?;
        *kept = Some(http.clone());
        Ok(http)
    }

    /// Drops the client: the next use makes a new one.
    pub fn forget_http(&self) {
        let kept = self.0.http.lock().unwrap_or_else(PoisonError::into_inner).take();
        drop(kept);
    }
}

/// A client as the configuration wants it.
///
/// # Errors
/// Its CA file is not usable.
pub fn new_http(config: &Config, hub: &HubUrl) -> Result<Http, HttpError> {
    let settings = &config.settings.hub;
    Http::new(&format!("{}/", hub.base()), settings.ca_file.as_deref())
}
