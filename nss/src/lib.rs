//! `libnss_jupyterhub.so.2`: an NSS module that lets sshd know the hub's users before they have
//! ever logged in.
//!
//! Every process on the host may load it. It makes no network call, starts no thread, calls no
//! other NSS module, reads no environment variable, and keeps one thing in memory: the users it has
//! answered for in this process ([`answered`]). In sshd, and only where the owner of the home
//! decides the uid, a child process looks at the home, with a time limit ([`child`]).
//!
//! * By name it answers in sshd only: adduser(8), su(1) and ls(1) see no phantom accounts.
//! * By uid it answers everywhere, for uids that have had a session since boot.
//! * Group `jupyterhub` is an ordinary one in /etc/group; the module adds hub users to it.
//! * If something is broken, the answer is UNAVAIL and a line in the log, never an entry.
//!
//! From top to bottom, each file using only those below it:
//!
//! * [`entry`]: the C functions that glibc calls;
//! * [`lookup`]: by name and by uid; [`answered`]: what was said before, which decides about
//!   groups;
//! * [`mod@env`]: where to look; [`files`]: the configuration and group(5); [`home`]: the owner of a
//!   home;
//! * [`child`]: system calls with a time limit;
//! * [`sys`]: system calls.

mod answered;
mod child;
mod entry;
mod env;
mod files;
mod home;
mod lookup;
mod sys;
