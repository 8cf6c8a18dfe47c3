//! Logging in with a key: the keys that users have listed, and the hub service's token, by which the hub makes one for a
//! user who has shown no other.

pub mod authorized_keys; // what sshd asks for each key
pub mod blob; // a key
pub mod directory; // files of the administrator's
pub mod file; // whose, and who may write to it
pub mod home; // files of the users'
pub mod line; // of an authorized_keys file
pub mod network; // sources that are asked over the network, as users see them
pub mod offered; // the client's key
pub mod options; // before a key
pub mod remote; // sources that are asked over the network, as the program for them does
pub mod search; // which source knows a key
pub mod service_token; // makes tokens for users
