//! Finds the sshd that has accepted this connection, and the options it was started with.
//!
//! A listener shows its command line as its process title: `sshd: /usr/sbin/sshd -D -p 2222
//! [listener] 0 of 10-100 startups`. A connection's own processes have overwritten theirs.
//! Where systemd listens (`sshd -i`) there is no listener; then the usual sshd with its usual file
//! is assumed.

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// The distribution's sshd.
pub(crate) const SSHD: &str = "/usr/sbin/sshd";
/// Options that take a value (sshd(8), 9.2 to 10.0).
const WITH_VALUE: &str = "CEbcfghkopu";
/// Options that change what a user gets, or that `sshd -T` needs: configuration file, option, host
/// key.
const PASSED_ON: &str = "foh";
/// Most ancestors to look at: this program, the process of a PAM conversation, the monitor, the
/// listener.
const GENERATIONS: usize = 6;

/// An sshd to ask.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Listener {
    /// Path of the program.
    pub program: String,
    /// Options to pass on to it.
    pub arguments: Vec<String>,
}

/// Finds the sshd listener among our ancestors. Only processes of the uid `owner` count. `None` if
/// there is none.
///
/// # Errors
/// There is a listener, but its options cannot be determined.
pub(crate) fn find(owner: u32) -> Result<Option<Listener>, &'static str> {
    for (process, title) in ancestors(owner) {
        if is_cut(&title) {
            return Err("the options of this sshd cannot be seen: its title is cut off");
        }
        let Some(arguments) = arguments(&title) else { continue };
        // The link of a program that has been replaced since names the new one.
        let program = fs::read_link(process.join("exe")).ok().and_then(|name| {
            let name = name.to_str()?;
            sound(name.strip_suffix(" (deleted)").unwrap_or(name), owner).map(str::to_owned)
        });
        return Ok(program.map(|program| Listener { program, arguments }));
    }
    Ok(None)
}

/// True if a listener's title is truncated: it has only the room of the original command line and
/// environment, which may be small.
fn is_cut(title: &str) -> bool {
    title.starts_with("sshd: /") && !title.contains(" [listener]")
}

/// Returns our ancestors of this uid with their titles, the nearest first.
fn ancestors(owner: u32) -> impl Iterator<Item = (PathBuf, String)> {
    let mut next = Some(nix::unistd::getppid().as_raw());
    let step = move || {
        // In a container the listener may be process 1 itself.
        let pid = next.filter(|pid| *pid >= 1)?;
        let process = Path::new("/proc").join(pid.to_string());
        if fs::metadata(&process).ok()?.uid() != owner {
            return None;
        }
        let title = read(&process.join("cmdline"))?;
        next = read(&process.join("stat")).and_then(|stat| parent(&stat));
        Some((process, title))
    };
    std::iter::from_fn(step).take(GENERATIONS)
}

/// Returns the path if only root and `owner` can change that program.
fn sound(name: &str, owner: u32) -> Option<&str> {
    let found = fs::metadata(name).ok()?;
    let safe = found.is_file() && (found.uid() == 0 || found.uid() == owner) && found.mode() & 0o022 == 0;
    (safe && name.starts_with('/')).then_some(name)
}

fn read(path: &Path) -> Option<String> {
    let mut bytes = Vec::new();
    File::open(path).ok()?.take(8192).read_to_end(&mut bytes).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

/// Parses the parent's process id in /proc/PID/stat: `4711 (name) S 1 …`, where the name may
/// contain anything.
fn parent(stat: &str) -> Option<i32> {
    stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
}

/// Returns the options to pass on from a listener's title; `None` for other processes.
fn arguments(title: &str) -> Option<Vec<String>> {
    let (line, _) = title.strip_prefix("sshd: ")?.split_once(" [listener]")?;
    let mut words = line.split(' ').skip(1).peekable();
    let mut found = Vec::new();
    while let Some(word) = words.next() {
        let Some(letters) = word.strip_prefix('-') else { continue };
        let Some((at, letter)) = letters.char_indices().find(|(_, letter)| WITH_VALUE.contains(*letter))
        else {
            continue;
        };
        let attached = &letters[at + letter.len_utf8()..];
        let mut value = if attached.is_empty() { words.next()?.to_owned() } else { attached.to_owned() };
        // The title doesn't show where an argument ends: an option of the configuration extends to
        // the next option letter.
        while letter == 'o' && words.peek().is_some_and(|next| !next.starts_with('-')) {
            value = format!("{value} {}", words.next().unwrap_or_default());
        }
        if PASSED_ON.contains(letter) {
            found.extend([format!("-{letter}"), value]);
        }
    }
    Some(found)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_listeners_title_tells_its_options() {
        let of = |title: &str| arguments(title).map(|found| found.join("|"));
        assert_eq!(of("sshd: /usr/sbin/sshd -D [listener] 0 of 10-100 startups\0").unwrap(), "");
        assert_eq!(of("sshd: sshd [listener] 0 of 10-100 startups").unwrap(), "");
        assert_eq!(
            of("sshd: /usr/sbin/sshd -f /etc/ssh/b -p2222 -Do UsePAM=yes -oBanner /x y -4 -E /log -h /key [listener] 1 of 10").unwrap(),
            "-f|/etc/ssh/b|-o|UsePAM=yes|-o|Banner /x y|-h|/key"
        );
        for other in [
            "sshd: alice [priv]",
            "sshd: root@pts/0",
            "/usr/sbin/sshd -D",
            "",
            "bash\0-c\0sshd: x [listener]",
            "sshd: x -f [listener]",
        ] {
            assert_eq!(of(other), None, "{other}");
        }
    }

    #[test]
    fn a_title_that_is_cut_off_is_no_other_process() {
        for (title, cut) in [
            ("sshd: /usr/sbin/sshd -D -f /etc/ssh", true),
            ("sshd: /usr/sbin/sshd -D [listener] 0 of 10-100 startups", false),
            ("sshd: alice [priv]", false),
            ("/usr/sbin/sshd -D", false),
        ] {
            assert_eq!(is_cut(title), cut, "{title}");
        }
    }

    #[test]
    fn the_parent_is_found_behind_any_name() {
        assert_eq!(parent("47 (a) S 9 (x)) S 12 47 47 0"), Some(12));
        assert_eq!(parent("47 (a"), None);
        let own = read(Path::new("/proc/self/stat")).unwrap();
        assert_eq!(parent(&own), Some(nix::unistd::getppid().as_raw()));
        assert_eq!(find(u32::MAX), Ok(None));
    }
}
