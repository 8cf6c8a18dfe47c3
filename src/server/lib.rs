//! The user's server: terminals of Terminado, and streams over them.
//!
//! The user controls that server, and so does everybody she shares it with: everything from there is hostile.

pub mod agent;
pub mod mux;
pub mod terminado;
