//! What every part of the project agrees on: names, the configuration's first tables, homes, uids,
//! paths, log lines.
//!
//! Everything here is pure: it touches no file, no network and no process state. The NSS and PAM
//! modules run inside sshd and link only this crate and the wire.

pub(crate) mod entry;
pub mod error;
pub mod homes;
pub mod hub_url;
pub mod logfmt;
pub mod names;
pub mod paths;
pub mod settings;
pub mod table;
pub mod template;
pub mod text;
pub mod uid;

pub use entry::Passwd;
pub use error::ConfigError;
pub use hub_url::HubUrl;
pub use names::{LoginName, NameError, ServerName, UserName};
pub use settings::Settings;
