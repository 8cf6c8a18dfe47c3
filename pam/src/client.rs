//! libpam as a trait, so that hooks can be tested with a scripted fake; and the real one.

use crate::sys;
use common::text::one_line;
use pam::constants::{PAM_ERROR_MSG, PAM_PROMPT_ECHO_OFF, PamResultCode};
use pam::conv::Conv;
use pam::items::{RHost, Service};
use pam::module::PamHandle;
use zeroize::Zeroizing;

/// The priority of a log line, as in syslog(3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// An administrator has to fix something.
    Error,
    /// One user was rejected.
    Notice,
    /// Normal operation.
    Info,
}

impl Level {
    /// The number that syslog(3) has for it.
    fn priority(self) -> libc::c_int {
        match self {
            Self::Error => libc::LOG_ERR,
            Self::Notice => libc::LOG_NOTICE,
            Self::Info => libc::LOG_INFO,
        }
    }
}

/// libpam, as one call of a hook sees it.
pub trait Client {
    /// The service that uses PAM (PAM_SERVICE), such as `sshd`; empty if not set.
    fn service(&self) -> String;
    /// The login name (PAM_USER). Never prompts, as sshd sets it beforehand.
    ///
    /// # Errors
    /// libpam has no name.
    fn user(&mut self) -> Result<String, PamResultCode>;
    /// The client's address (PAM_RHOST); empty if not set.
    fn rhost(&self) -> String;
    /// Asks the user for a secret; `None` if the client sent no answer.
    ///
    /// # Errors
    /// libpam's code, such as `PAM_CONV_ERR` when the connection is gone.
    fn prompt(&mut self, text: &str) -> Result<Option<Zeroizing<Vec<u8>>>, PamResultCode>;
    /// Shows the user an error message, if the client can show one.
    fn error(&mut self, text: &str);
    /// Sets a variable of the PAM environment, or removes it if `value` is `None`.
    ///
    /// # Errors
    /// libpam's code.
    fn set_variable(&mut self, name: &str, value: Option<&str>) -> Result<(), PamResultCode>;
    /// Reads a variable of the PAM environment.
    fn variable(&self, name: &str) -> Option<String>;
    /// Writes one line to the system log, after libpam's prefix `pam_jupyterhub(sshd:auth): `.
    ///
    /// Implementations escape control characters.
    fn log(&self, level: Level, text: &str);
}

impl Client for PamHandle {
    fn service(&self) -> String {
        let item = self.get_item::<Service<'_>>().ok().flatten();
        item.map(|s| s.to_string_lossy().into_owned()).unwrap_or_default()
    }

    fn user(&mut self) -> Result<String, PamResultCode> {
        self.get_user(None)
    }

    fn rhost(&self) -> String {
        let item = self.get_item::<RHost<'_>>().ok().flatten();
        item.map(|s| s.to_string_lossy().into_owned()).unwrap_or_default()
    }

    fn prompt(&mut self, text: &str) -> Result<Option<Zeroizing<Vec<u8>>>, PamResultCode> {
        let conversation = self.get_item::<Conv<'_>>()?.ok_or(PamResultCode::PAM_CONV_ERR)?;
        let answer = conversation.send(PAM_PROMPT_ECHO_OFF, text)?;
        Ok(answer.map(|secret| Zeroizing::new(secret.as_bytes().to_vec())))
    }

    fn error(&mut self, text: &str) {
        if let Ok(Some(conversation)) = self.get_item::<Conv<'_>>() {
            // If the client cannot show it, the login fails anyway.
            let _ = conversation.send(PAM_ERROR_MSG, text);
        }
    }

    fn set_variable(&mut self, name: &str, value: Option<&str>) -> Result<(), PamResultCode> {
        sys::putenv(self, name, value)
    }

    fn variable(&self, name: &str) -> Option<String> {
        sys::getenv(self, name)
    }

    fn log(&self, level: Level, text: &str) {
        sys::log(self, level.priority(), &one_line(text));
    }
}
