//! The gateway: one process for one SSH connection, unprivileged. It holds the token, speaks with
//! the hub and with the user's server, and moves the bytes of all channels of the connection.
//!
//! A file or folder here is a room. Rooms use only those below them in this table, so that each can
//! be read without those above; `tests/lib/programs/circles.py` fails when two use each other.
//!
//! | room | what it does |
//! |---|---|
//! | [`start`] | starts the process, gives up its rights, leads it from the login to the end |
//! | [`login`] | checks the token, or has the keeper get one; answers the PAM module |
//! | [`serve`] | waits for the claim, then polls: channels, limits, the administrator, transfers |
//! | [`channel`] | one channel: its session program; a command, a plain terminal, or files |
//! | [`link`] | the agent in the user's server, and its streams |
//! | [`terminal`] | the bytes of a plain terminal: input, screen, and its control terminal |
//! | [`remote`] | a terminal at the user's server: the jobs that open, reconnect and delete it |
//! | [`access`] | what speaks for the user: tokens, the hub's address, the HTTP client |
//! | [`connections`], [`job`], [`output`], [`process`] | the ground: no room is below these |

mod access;
mod channel;
mod connections;
mod job;
mod link;
mod login;
mod output;
mod process;
mod remote;
mod serve;
mod start;
mod terminal;

pub use start::run;
