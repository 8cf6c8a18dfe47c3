//! One turn of the poll loop: what everything that acts in it needs.

use super::report::Said;
use crate::job::Jobs;
use host::log::Log;
use std::time::Instant;

/// Handed to whatever acts in a turn. Code that only needs the time takes that alone.
pub struct Turn<'a> {
    /// Starts work that may block.
    pub jobs: &'a Jobs<Said>,
    /// The gateway's log.
    pub log: &'a mut Log,
    /// When the turn began; all that happens in it happens then.
    pub now: Instant,
}
