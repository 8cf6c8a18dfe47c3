//! Checks before there is any hub user whether sshd would confine one: the package's configuration
//! step asks this for a made-up user.
//!
//! sshd looks up the groups of the user for its Match lines. So the user is written into a copy of
//! /etc/passwd, with the group `jupyterhub`, and the copy is mounted over the file in a mount
//! namespace of this process only.
//! That namespace also gets a host key for sshd: images are often built without any.

use super::listener::{Listener, SSHD};
use super::text::{CONFIG, DROP_IN, Fault, fault};
use super::{Answer, ask_sshd};
use crate::config::Jail;
use crate::sys::mount::{self, Tree};
use common::paths::{GROUP, SESSION_SHELL};
use nix::errno::Errno;
use nix::sched::{CloneFlags, unshare};
use nix::unistd::Group;
use std::fs;
use std::io::{self, Write};
use std::path::Path;
use std::process::{Command, Stdio};

/// A user name that nobody has.
const SOMEBODY: &str = "jupyterhub-openssh-check";
/// The rest of the made-up login: addresses reserved for documentation (RFC 5737), which no Match
/// block is meant for.
const SPEC_END: &str = "host=client.invalid,addr=192.0.2.1,laddr=192.0.2.2,lport=22,rdomain=";
/// Where the tmpfs for our files goes, in this namespace only.
const PLACE: &str = "/run";

/// Reports on standard error what is wrong and what to do. Returns 0 if hub users would be
/// confined, 1 if not, 2 if that could not be determined.
#[must_use]
pub fn run() -> u8 {
    let answer = match prepare() {
        Ok(key) => {
            let arguments = vec!["-h".to_owned(), key];
            let listener = Listener { program: SSHD.to_owned(), arguments };
            ask_sshd(&listener, &format!("user={SOMEBODY},{SPEC_END}"), Path::new(CONFIG), Jail::Namespaces)
        }
        // In a container that may not mount, judge by the text of the file.
        Err(error) if error.raw_os_error() == Some(Errno::EPERM as i32) => by_text(),
        Err(error) => Answer::Unknown(error.to_string()),
    };
    let (status, lines) = match answer {
        Answer::Confined => return 0,
        Answer::Open(what, remedy) => (1, format!("{what}.\n{remedy}")),
        Answer::Unknown(why) => (2, format!("sshd could not be asked whether it confines hub users: {why}")),
    };
    for line in lines.lines() {
        let _ = writeln!(io::stderr(), "jupyterhub-openssh: {}", common::text::one_line(line));
    }
    status
}

fn by_text() -> Answer {
    let config = fs::read(CONFIG).unwrap_or_default();
    match fault(&String::from_utf8_lossy(&config), Path::new(DROP_IN).exists()) {
        Fault::Other => Answer::Unknown("that takes the right to mount; each login asks again".to_owned()),
        found => {
            let (what, remedy) = found.words(CONFIG, "");
            Answer::Open(what, remedy)
        }
    }
}

/// Leaves the host's mount namespace, prepares the files there, and returns the path of a host key.
fn prepare() -> io::Result<String> {
    let group = Group::from_name(GROUP)?
        .ok_or_else(|| io::Error::other(format!("the group {GROUP} is missing; reinstall the package")))?;
    let mut passwd = fs::read("/etc/passwd")?;
    // For sshd the primary group is one of the user's groups.
    let somebody = format!("\n{SOMEBODY}:*:65533:{}::/nonexistent:{SESSION_SHELL}\n", group.gid);
    passwd.extend(somebody.as_bytes());
    unshare(CloneFlags::CLONE_NEWNS)?;
    mount::stop_propagation()?;
    let place = Path::new(PLACE);
    mount::tmpfs(place, 1 << 20, 64)?;
    // `sshd -T` needs this directory, which systemd normally creates.
    fs::create_dir(place.join("sshd"))?;
    fs::write(place.join("passwd"), passwd)?;
    Tree::clone_path(&place.join("passwd"))?.attach(Path::new("/etc/passwd"))?;
    let key = place.join("key").display().to_string();
    let made = Command::new("/usr/bin/ssh-keygen")
        .args(["-q", "-t", "ed25519", "-N", "", "-C", "", "-f", &key])
        .env_clear()
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .status()?;
    if made.success() { Ok(key) } else { Err(io::Error::other("ssh-keygen fails")) }
}
