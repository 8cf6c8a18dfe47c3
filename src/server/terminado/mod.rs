//! A terminal of the user's Jupyter server: what is started in it, its WebSocket, and how much may be typed
//! into it at a time. Nothing here blocks (but [`socket::TerminalSocket::connect`], which has a deadline) and
//! nothing starts a thread: the gateway's poll loop drives these pieces.

pub mod codec; // messages of a terminal's WebSocket
pub mod control; // the control terminal: exact answers about unread input, output stopped and resumed
pub mod echo; // typed text seen again in the output
pub mod marker; // the wrapper's own messages, taken out of the output
pub mod pacing; // how much more input the terminal can take
pub mod replay; // what is new after a reconnect
pub mod rest; // REST calls: bodies and meanings of the answers
pub mod shell; // what is started in a terminal
pub mod socket; // the WebSocket itself
pub mod utf8; // bytes typed to text
