//! A terminal of the user's Jupyter server (Terminado): how it is started, driven and read.
//!
//! Nothing here blocks, except [`socket::TerminalSocket::connect`], which has a deadline, and
//! nothing starts a thread: the gateway's poll loop drives these pieces.
//!
//! | module | what it is for |
//! |---|---|
//! | [`rest`] | REST calls: bodies, and meanings of the answers |
//! | [`shell`] | the command that runs in a terminal |
//! | [`socket`] | the WebSocket |
//! | [`codec`] | the WebSocket's messages |
//! | [`utf8`] | typed bytes to text |
//! | [`marker`] | the wrapper's own messages, taken out of the output |
//! | [`replay`] | what is new after a reconnect |
//! | [`pacing`] | how much more input the terminal can take |
//! | [`echo`] | typed text seen again in the output |
//! | [`control`] | the control terminal: exact answers about unread input, output held back |

pub mod codec;
pub mod control;
pub mod echo;
pub mod marker;
pub mod pacing;
pub mod replay;
pub mod rest;
pub mod shell;
pub mod socket;
pub mod utf8;
