//! Reads the command line of `scp -t` and `scp -f`, the two ends of the old scp protocol. Pure.
//!
//! Only what clients send is accepted.

use super::{Argument, Refusal, Word, shown};

/// The allowed letters besides `t` (receive files) and `f` (send files): recursive, preserve times
/// and modes, target is a directory, verbose, quiet.
const LETTERS: &[u8] = b"rpdvq";

/// Returns the letters of a word such as `-rt`, if all of them are allowed.
#[must_use]
pub fn cluster(word: &[u8]) -> Option<&[u8]> {
    let known = |letter: &u8| LETTERS.contains(letter) || is_direction(*letter);
    word.strip_prefix(b"-").filter(|letters| !letters.is_empty() && letters.iter().all(known))
}

/// True if one of the letters makes scp the remote end of a transfer.
#[must_use]
pub fn names_direction(letters: &[u8]) -> bool {
    letters.iter().any(|letter| is_direction(*letter))
}

fn is_direction(letter: u8) -> bool {
    matches!(letter, b't' | b'f')
}

/// Checks the words after `scp`, and returns the arguments to run it with.
///
/// # Errors
/// Fails if an option is not allowed, if neither `-t` nor `-f` is given, or if the paths don't fit.
pub fn arguments(words: &[Word]) -> Result<Vec<Argument>, Refusal> {
    let mut direction = None;
    let mut letters = Vec::new();
    let mut rest = words;
    while let Some((word, after)) = rest.split_first() {
        let bytes = word.plain().unwrap_or_default();
        let Some(cluster) = bytes.strip_prefix(b"-").filter(|cluster| !cluster.is_empty()) else { break };
        rest = after;
        if cluster == b"-" {
            break;
        }
        for letter in cluster {
            match letter {
                b't' | b'f' if direction.is_none_or(|known| known == *letter) => direction = Some(*letter),
                letter if LETTERS.contains(letter) => letters.push(*letter),
                _ => {
                    return Err(Refusal::new(
                        format_args!("scp's option {} is not served here.", shown(&bytes)),
                        "Use sftp, or scp without -O.",
                    ));
                }
            }
        }
    }
    let direction = direction.ok_or_else(|| {
        Refusal::new(
            "scp serves another scp here, and does nothing else.",
            "Run it on your own machine, for example: scp data.tgz alice@host:",
        )
    })?;
    if rest.is_empty() || direction == b't' && rest.len() > 1 {
        return Err(Refusal::new(
            "This scp command has to name one place to copy to, or files to copy.",
            "Put quotes around the whole of a name with blanks, and a backslash before each blank; or leave out -O.",
        ));
    }
    let options = std::iter::once(direction).chain(letters).map(|letter| Argument::Plain(vec![b'-', letter]));
    let paths = rest.iter().cloned().map(Argument::Path);
    Ok(options.chain([Argument::plain("--")]).chain(paths).collect())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::words;
    use super::*;
    use proptest::prelude::*;

    fn read(command: &str) -> Result<String, Refusal> {
        let arguments = arguments(&words::split(command.as_bytes(), 100).unwrap())?;
        let one = |argument: &Argument| match argument {
            Argument::Plain(bytes) => String::from_utf8(bytes.clone()).unwrap(),
            Argument::Option(..) => unreachable!(),
            Argument::Path(word) => {
                format!("[{}{}]", if word.home { "~" } else { "" }, String::from_utf8(word.bytes()).unwrap())
            }
        };
        Ok(arguments.iter().map(one).collect::<Vec<_>>().join(" "))
    }

    #[test]
    fn what_clients_send() {
        for (command, expected) in [
            // OpenSSH
            ("-t .", "-t -- [.]"),
            ("-v -r -p -d -t x", "-t -v -r -p -d -- [x]"),
            ("-f -- -x", "-f -- [-x]"),
            ("-r -f ~/a '*.csv' *.csv", "-f -r -- [~/a] [*.csv] [*.csv]"),
            ("-t ''", "-t -- []"),
            // libssh2, Go's and Python's
            ("-pf 'a b'", "-f -p -- [a b]"),
            ("-qrt dir", "-t -q -r -- [dir]"),
            ("-f a -t", "-f -- [a] [-t]"),
        ] {
            assert_eq!(read(command).as_deref(), Ok(expected), "{command}");
        }
    }

    #[test]
    fn everything_else_is_refused() {
        for (command, what) in [
            ("", "does nothing else"),
            ("a b:c", "does nothing else"),
            ("-r a b", "does nothing else"),
            ("-S sh -t x", "option -S is"),
            ("-tS x", "option -tS is"),
            ("-o ProxyCommand=sh -t x", "option -o is"),
            ("-t -f x", "option -f is"),
            ("-3 -t x", "option -3 is"),
            ("--help", "option --help is"),
            ("-t", "has to name"),
            ("-t a b", "has to name"),
            ("-f", "has to name"),
        ] {
            let refusal = read(command).unwrap_err().to_string();
            assert!(refusal.contains(what), "{command}: {refusal}");
        }
    }

    proptest! {
        #[test]
        fn no_option_outside_of_the_list(command in "(-[a-zA-Z0-9=-]{0,4} ){0,4}[a-z]?( [a-z-]{1,3}){0,2}") {
            let Ok(arguments) = arguments(&words::split(command.as_bytes(), 100).unwrap()) else { return Ok(()) };
            let end = arguments.iter().position(|one| *one == Argument::plain("--")).unwrap();
            for (at, argument) in arguments.iter().enumerate() {
                match argument {
                    Argument::Plain(bytes) if at < end => {
                        let allowed = if at == 0 { b"tf" } else { LETTERS };
                        prop_assert!(bytes.len() == 2 && bytes[0] == b'-' && allowed.contains(&bytes[1]));
                    }
                    argument => prop_assert!(at == end || matches!(argument, Argument::Path(_)) && at > end),
                }
            }
        }
    }
}
