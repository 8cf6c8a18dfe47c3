//! What a hook needs of libpam, as a trait, so that hooks can be tested with a scripted fake.

use crate::sys;
use accounts::text::one_line;
use pam::constants::{PAM_ERROR_MSG, PAM_PROMPT_ECHO_OFF, PamResultCode};
use pam::conv::Conv;
use pam::items::{RHost, Service};
use pam::module::PamHandle;
use zeroize::Zeroizing;

/// How important a log line is, as in syslog(3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// Something an administrator has to mend.
    Error,
    /// A refusal that concerns one user.
    Notice,
    /// The ordinary course of things.
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
    /// PAM_SERVICE; empty when it isn't set.
    fn service(&self) -> String;
    /// PAM_USER. Never prompts: sshd has always set it.
    ///
    /// # Errors
    /// libpam's.
    fn user(&mut self) -> Result<String, PamResultCode>;
    /// PAM_RHOST, the client's address; empty when it isn't set.
    fn rhost(&self) -> String;
    /// Asks the user for a secret. `None`: the client gave no answer.
    ///
    /// # Errors
    /// libpam's, such as `PAM_CONV_ERR` when the connection is gone.
    fn prompt(&mut self, text: &str) -> Result<Option<Zeroizing<Vec<u8>>>, PamResultCode>;
    /// Shows the user why something failed, if the client can show it.
    fn error(&mut self, text: &str);
    /// Sets (or with `None` removes) a variable of the PAM environment.
    ///
    /// # Errors
    /// libpam's.
    fn set_variable(&mut self, name: &str, value: Option<&str>) -> Result<(), PamResultCode>;
    /// A variable of the PAM environment.
    fn variable(&self, name: &str) -> Option<String>;
    /// Writes one line to the system log, after libpam's `pam_jupyterhub(sshd:auth): `. Control characters
    /// are escaped by the implementation.
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
            // A client that cannot be told is refused all the same.
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
