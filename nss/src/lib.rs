//! NSS module: lets sshd know the hub's users before they have logged in.
//!
//! Every process on the host may load it. It makes no network call, starts no thread, asks no other NSS
//! module, reads no environment and keeps one thing in memory: whom it has answered for in this process
//! (answered.rs). In sshd, and only if the uid is to be the owner of the home, a child process looks at the home
//! for a limited time (child.rs).
//!
//! - By name it answers in sshd only; everywhere else adduser(8), su(1) and ls(1) see no phantom accounts.
//! - By uid it answers everywhere, for uids that have had a session since boot.
//! - Group `jupyterhub` is an ordinary one in /etc/group; the module adds hub users to it.
//! - What cannot be answered because something is broken is UNAVAIL, with one line in the log; never an answer.

mod answered;
mod child;
mod env;
mod ffi;
mod files;
mod home;
mod lookup;
