//! The user's server: terminals of Terminado, and streams over them.
//!
//! The user controls that server, and so does everybody they share it with: everything that comes
//! from there is hostile.
//!
//! | module | what it is for |
//! |---|---|
//! | [`terminado`] | a terminal: REST calls, the WebSocket, what may be typed, what is new |
//! | [`mux`] | streams over a terminal (docs/mux.md): the gateway's end |
//! | [`agent`] | the program at the other end of the streams, and how it is started |

pub mod agent;
pub mod mux;
pub mod terminado;
