//! Finds the source that lists the offered key. Pure apart from the sources themselves.

use super::offered::{Found, MAX_LINES, Offered};
use common::UserName;
use host::config::Source;
use keys::line::Line;

/// The sources of keys. `None` if a source has no keys of this user; an error is one line for the
/// log.
pub trait Sources {
    /// Reads the user's own authorized_keys file.
    fn home(&mut self) -> Result<Option<Vec<u8>>, String>;
    /// Reads the administrator's file of this user's keys.
    fn file(&mut self) -> Result<Option<Vec<u8>>, String>;
    /// Asks for the keys on the network; each line starts with the name of its source.
    fn network(&mut self) -> Result<Vec<u8>, String>;
}

/// A line for the log, with its severity.
#[derive(Debug, PartialEq, Eq)]
pub enum Note {
    /// An ordinary event.
    Info(String),
    /// Something that an administrator should look at.
    Warning(String),
}

/// Returns the line for sshd, if any, and at most one log line per source. The first source that
/// lists the key decides, even if it forbids the key. A source that fails is skipped.
pub fn search(
    order: &[Source],
    user: &UserName,
    offered: &Offered,
    sources: &mut impl Sources,
) -> (Option<Line>, Vec<Note>) {
    let mut notes = Vec::new();
    // Asked once for `hub` and `url` together.
    let mut network = None;
    let key = format!("key {} of {user}", offered.fingerprint);
    for source in order {
        let in_file = |text: Option<Vec<u8>>| text.map_or(Found::Unknown, |text| offered.find_in_file(&text));
        let found = match source {
            Source::Home => sources.home().map(in_file),
            Source::File => sources.file().map(in_file),
            Source::Hub | Source::Url => match network.get_or_insert_with(|| sources.network()) {
                Ok(answer) => Ok(offered.find_in_answer(answer, source.as_str())),
                // Reported once for both.
                Err(why) => Err(std::mem::take(why)),
            },
        };
        let found = match found {
            Ok(Found::TooLong) => Err(format!("it has more than {MAX_LINES} lines")),
            found => found,
        };
        match found {
            Ok(Found::Key(line)) => {
                notes.push(Note::Info(format!("{key}: known by {source}{}", left_out(&line))));
                return (Some(line), notes);
            }
            Ok(Found::Refused(number, why)) => {
                notes.push(Note::Warning(format!("{key}: refused by {source}: line {number}: {why}")));
                return (None, notes);
            }
            Err(why) if !why.is_empty() => {
                notes.push(Note::Warning(format!("keys of {user}: {source} is left out: {why}")));
            }
            _ => {}
        }
    }
    (None, notes)
}

fn left_out(line: &Line) -> String {
    if line.left_out.is_empty() {
        String::new()
    } else {
        format!(", without its {}", line.left_out.join(", "))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::offered::tests::offered;
    use super::*;
    use Source::{File, Home, Hub, Url};
    use keys::examples::ED25519;

    /// Sources with scripted answers, which count the calls.
    struct Fake {
        home: Result<Option<Vec<u8>>, String>,
        file: Result<Option<Vec<u8>>, String>,
        network: Result<Vec<u8>, String>,
        asked: Vec<&'static str>,
    }

    impl Sources for Fake {
        fn home(&mut self) -> Result<Option<Vec<u8>>, String> {
            self.asked.push("home");
            self.home.clone()
        }
        fn file(&mut self) -> Result<Option<Vec<u8>>, String> {
            self.asked.push("file");
            self.file.clone()
        }
        fn network(&mut self) -> Result<Vec<u8>, String> {
            self.asked.push("network");
            self.network.clone()
        }
    }

    fn nothing() -> Fake {
        Fake { home: Ok(None), file: Ok(None), network: Ok(Vec::new()), asked: Vec::new() }
    }

    fn key() -> String {
        format!("ssh-ed25519 {ED25519}")
    }

    fn run(order: &[Source], fake: &mut Fake) -> (Option<String>, Vec<Note>) {
        let (line, notes) = search(order, &UserName::parse("alice").unwrap(), &offered(), fake);
        (line.map(|line| line.to_string()), notes)
    }

    fn info(text: &str) -> Vec<Note> {
        vec![Note::Info(format!("key SHA256:abc/+ of alice: {text}"))]
    }

    #[test]
    fn the_first_source_that_knows_the_key_decides() {
        let all = || Fake {
            home: Ok(Some(format!("pty {}", key()).into_bytes())),
            file: Ok(Some(format!("no-pty {}", key()).into_bytes())),
            network: Ok(format!("url {}", key()).into_bytes()),
            asked: Vec::new(),
        };
        let mut fake = all();
        assert_eq!(
            run(&[Home, File, Url], &mut fake),
            (Some(format!("pty {}", key())), info("known by home"))
        );
        assert_eq!(fake.asked, ["home"]);
        assert_eq!(
            run(&[File, Home], &mut all()),
            (Some(format!("no-pty {}", key())), info("known by file"))
        );
        let mut fake = all();
        assert_eq!(run(&[Hub, Url, Home], &mut fake), (Some(key()), info("known by url")));
        assert_eq!(fake.asked, ["network"]);
        assert_eq!(run(&[], &mut all()), (None, Vec::new()));
        assert_eq!(run(&[Hub], &mut all()), (None, Vec::new()));
        assert_eq!(run(&[Home, File, Hub, Url], &mut nothing()), (None, Vec::new()));
    }

    #[test]
    fn a_source_that_forbids_the_key_decides_too() {
        let mut fake = Fake {
            home: Ok(Some(format!("#\ncommand=\"x\" {}\n", key()).into_bytes())),
            file: Ok(Some(key().into_bytes())),
            ..nothing()
        };
        let (line, notes) = run(&[Home, File], &mut fake);
        assert_eq!(line, None);
        let expected = "key SHA256:abc/+ of alice: refused by home: line 2: command is not possible here, and without it \
                        the key could do more than its owner meant";
        assert_eq!(notes, [Note::Warning(expected.into())]);
    }

    #[test]
    fn a_source_that_is_out_of_order_is_left_out() {
        let mut fake = Fake {
            home: Err("no answer".into()),
            file: Ok(Some("x\n".repeat(MAX_LINES + 1).into_bytes())),
            network: Err("cannot run it".into()),
            asked: Vec::new(),
        };
        let (line, notes) = run(&[Home, Url, File, Hub], &mut fake);
        assert_eq!(line, None);
        assert_eq!(
            notes,
            [
                "home is left out: no answer",
                "url is left out: cannot run it",
                "file is left out: it has more than 4096 lines"
            ]
            .map(|text| Note::Warning(format!("keys of alice: {text}")))
        );
        assert_eq!(fake.asked, ["home", "network", "file"]);
        fake.file = Ok(Some(key().into_bytes()));
        let (line, notes) = run(&[Home, File], &mut fake);
        assert_eq!((line, notes.len()), (Some(key()), 2));
    }

    #[test]
    fn what_is_left_out_is_said() {
        let text = format!("environment=\"A=secret\",no-touch-required,pty {}", key());
        let mut fake = Fake { home: Ok(Some(text.into_bytes())), ..nothing() };
        let expected = info("known by home, without its environment, no-touch-required");
        assert_eq!(run(&[Home], &mut fake), (Some(format!("pty {}", key())), expected));
    }
}
