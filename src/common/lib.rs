//! Names, home templates and uid rules of hub users, and the constants that the modules share.
//!
//! Everything here is pure: no file, no network, no process state is touched. The NSS and PAM modules
//! run inside sshd and link only this crate, never the root package.

pub mod entry;
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
pub use template::Template;
