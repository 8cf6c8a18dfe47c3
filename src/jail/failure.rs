//! Why there is no jail: one line, which the PAM module writes to the log.

use std::fmt::Display;
use std::io;

/// A line for the log.
pub type Failure = String;

/// Returns a function that turns an error into a line that says what cannot be mounted.
pub fn step(what: &'static str) -> impl Fn(io::Error) -> Failure {
    move |e| format!("cannot mount {what} for the jail: {e}")
}

/// Returns a function that puts a reason before an error.
pub fn why<E: Display>(what: &'static str) -> impl Fn(E) -> Failure {
    move |e| format!("{what}: {e}")
}
