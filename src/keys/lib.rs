//! authorized_keys(5): keys, what may stand before them, and the files that list them.

pub mod blob;
pub mod directory;
#[cfg(any(test, feature = "testing"))]
pub mod examples;
pub mod file;
pub mod home;
pub mod line;
pub(crate) mod options;
mod refused;
