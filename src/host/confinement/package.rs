//! The same question before any hub user is known: asked by the package's configuration step, for a user who is made up.
//!
//! sshd looks up whose group a Match line means. So the user is written into a copy of /etc/passwd, with the group
//! `jupyterhub`, and the copy is laid over the file in a mount namespace of this process only. There sshd has a host key,
//! too: images are often built without any.

use super::listener::{Listener, SSHD};
use super::text::{CONFIG, DROP_IN, Fault, fault};
use super::{Answer, ask};
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

/// Nobody has this name.
const SOMEBODY: &str = "jupyterhub-openssh-check";
/// An address of documentation (RFC 5737): one that no Match block is meant for.
const SPEC_END: &str = "host=client.invalid,addr=192.0.2.1,laddr=192.0.2.2,lport=22,rdomain=";
/// Only root's, in this namespace.
const PLACE: &str = "/run";

/// Says on standard error what is wrong, and what to do. Returns 0 if hub users would be confined, 1 if not, 2 if nobody
/// knows.
#[must_use]
pub fn run() -> u8 {
    let answer = match prepare() {
        Ok(key) => {
            let arguments = vec!["-h".to_owned(), key];
            let listener = Listener { program: SSHD.to_owned(), arguments };
            ask(&listener, &format!("user={SOMEBODY},{SPEC_END}"), Path::new(CONFIG), Jail::Namespaces)
        }
        // A container that may not mount: what the text of the file tells.
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

/// Leaves the host's mount namespace; returns the name of a host key.
fn prepare() -> io::Result<String> {
    let group = Group::from_name(GROUP)?
        .ok_or_else(|| io::Error::other(format!("the group {GROUP} is missing; reinstall the package")))?;
    let mut passwd = fs::read("/etc/passwd")?;
    // A primary group is one of the user's groups to sshd.
    let somebody = format!("\n{SOMEBODY}:*:65533:{}::/nonexistent:{SESSION_SHELL}\n", group.gid);
    passwd.extend(somebody.as_bytes());
    unshare(CloneFlags::CLONE_NEWNS)?;
    mount::stop_propagation()?;
    let place = Path::new(PLACE);
    mount::tmpfs(place, 1 << 20, 64)?;
    // What sshd -T wants, and systemd makes.
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
