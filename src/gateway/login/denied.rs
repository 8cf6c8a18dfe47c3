//! What the PAM module is told instead of a grant.

use common::ConfigError;
use serde::{Deserialize, Serialize};

/// A login that is not granted. `for_user` has two lines: what happened, what to do; `for_log` one.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Denied {
    /// The hub says no, or the request can't be right.
    Refused { for_user: String, for_log: String },
    /// Nobody could say yes or no.
    Unavailable { for_user: String, for_log: String },
}

impl Denied {
    /// The configuration keeps everybody out.
    #[must_use]
    pub fn unconfigured(error: &ConfigError) -> Self {
        Self::Unavailable {
            for_user: "This host is not set up yet.\nTell its administrator; its log names the reason."
                .to_owned(),
            for_log: error.one_line(),
        }
    }
}
