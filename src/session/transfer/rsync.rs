//! Reads the command line of `rsync --server`. Only what rsync(1) clients send is accepted. Pure.
//!
//! The options are those that a client passes to the remote end (rsync's `server_options()`; its
//! own `rrsync` allows about the same). Some are left out because they lead elsewhere or need root:
//! `--daemon` and `--config`, remote shells, devices and `--log-file`. So is `-s`
//! (`--secluded-args`): its arguments come on standard input, where nothing could check them.
//!
//! The program never gets the client's text. Its command line is written anew from what was
//! understood, with `--` before the paths: `rsync --server [--sender] OPTIONS -- . PATHS`.

use super::{Argument, Refusal, Word, shown};

/// The allowed one-letter options without a value; they may be written together.
const LETTERS: &[u8] = b"ACDEHIJKLNORSUWXbcdgiklmnopqrtuvxyz";

/// What value an option takes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Takes {
    /// No value.
    Nothing,
    /// A number, perhaps with a sign before it and a unit of size after it.
    Number,
    /// Letters, digits and `,` `.` `:` `_` `+` `-`.
    Words,
    /// Any text, such as a suffix or a format.
    Text,
    /// A path in the jail.
    Path,
}

/// The allowed long options, without `--`, and the value that each takes.
#[rustfmt::skip]
const OPTIONS: &[(&str, Takes)] = {
    use Takes::{Nothing, Number, Path, Text, Words};
    &[
        ("append", Nothing), ("backup-dir", Path), ("block-size", Number), ("bwlimit", Number),
        ("checksum-choice", Words), ("checksum-seed", Number), ("compare-dest", Path), ("compress-choice", Words),
        ("compress-level", Number), ("compress-threads", Number), ("copy-dest", Path), ("copy-unsafe-links", Nothing),
        ("debug", Words), ("delay-updates", Nothing), ("delete", Nothing), ("delete-after", Nothing),
        ("delete-before", Nothing), ("delete-delay", Nothing), ("delete-during", Nothing),
        ("delete-excluded", Nothing), ("delete-missing-args", Nothing), ("existing", Nothing),
        ("fake-super", Nothing), ("files-from", Path), ("force", Nothing), ("from0", Nothing), ("fsync", Nothing),
        ("fuzzy", Nothing), ("group", Nothing), ("groupmap", Text), ("hard-links", Nothing), ("iconv", Words),
        ("ignore-errors", Nothing), ("ignore-existing", Nothing), ("ignore-missing-args", Nothing),
        ("ignore-times", Nothing), ("info", Words), ("inplace", Nothing), ("link-dest", Path), ("links", Nothing),
        ("list-only", Nothing), ("log-format", Text), ("max-alloc", Number), ("max-delete", Number),
        ("max-size", Number), ("min-size", Number), ("mkpath", Nothing), ("modify-window", Number),
        ("msgs2stderr", Nothing), ("munge-links", Nothing), ("new-compress", Nothing), ("no-W", Nothing),
        ("no-implied-dirs", Nothing), ("no-msgs2stderr", Nothing), ("no-r", Nothing), ("no-relative", Nothing),
        ("no-specials", Nothing), ("numeric-ids", Nothing), ("old-compress", Nothing), ("one-file-system", Nothing),
        ("open-noatime", Nothing), ("owner", Nothing), ("partial", Nothing), ("partial-dir", Path),
        ("perms", Nothing), ("preallocate", Nothing), ("recursive", Nothing), ("remove-sent-files", Nothing),
        ("remove-source-files", Nothing), ("safe-links", Nothing), ("size-only", Nothing), ("skip-compress", Text),
        ("specials", Nothing), ("stats", Nothing), ("stderr", Words), ("suffix", Text), ("super", Nothing),
        ("temp-dir", Path), ("timeout", Number), ("times", Nothing), ("use-qsort", Nothing), ("usermap", Text),
    ]
};

/// Checks the words after `rsync`, and returns the arguments to run it with.
///
/// # Errors
/// Fails if `--server` is not the first word, if an option or its value is not allowed, or if no
/// `.` ends the options.
pub fn arguments(words: &[Word]) -> Result<Vec<Argument>, Refusal> {
    let Some(mut rest) =
        words.split_first().filter(|(first, _)| is(first, b"--server")).map(|(_, rest)| rest)
    else {
        return Err(Refusal::new(
            "rsync serves another rsync here, and does nothing else.",
            "Run it on your own machine, for example: rsync -a dir/ alice@host:dir/",
        ));
    };
    let mut out = vec![Argument::plain("--server")];
    if let Some((_, after)) = rest.split_first().filter(|(first, _)| is(first, b"--sender")) {
        out.push(Argument::plain("--sender"));
        rest = after;
    }
    loop {
        let (word, after) = rest.split_first().ok_or_else(|| {
            Refusal::new("This rsync command names no files.", "Use an rsync client of version 3 or newer.")
        })?;
        rest = after;
        if is(word, b".") {
            break;
        }
        let (argument, after) = option(word, rest)?;
        out.push(argument);
        rest = after;
    }
    out.extend(["--", "."].map(Argument::plain));
    out.extend(rest.iter().cloned().map(Argument::Path));
    Ok(out)
}

fn is(word: &Word, text: &[u8]) -> bool {
    word.plain().is_some_and(|bytes| bytes == text)
}

/// Reads one option, whose value may be the next word. Returns it and the words that follow.
fn option<'a>(word: &Word, rest: &'a [Word]) -> Result<(Argument, &'a [Word]), Refusal> {
    let bytes = word.plain().unwrap_or_default();
    if let Some(long) = bytes.strip_prefix(b"--") {
        return long_option(long, rest);
    }
    match bytes.strip_prefix(b"-") {
        Some(letters) if are_letters(letters) || is_short_number(letters) => {
            Ok((Argument::Plain(bytes.clone()), rest))
        }
        Some(letters)
            if letters.iter().take_while(|letter| **letter != b'e').any(|letter| *letter == b's') =>
        {
            Err(Refusal::new(
                "rsync's option --secluded-args (-s, --protect-args) is not served here.",
                "Leave it out, or add --no-secluded-args; with an older rsync --no-protect-args.",
            ))
        }
        _ => Err(not_served(&bytes)),
    }
}

/// True for letters such as `vlogDtpre.iLsfxCIvu`.
///
/// With `--server`, `e` is followed by the client's abilities (`maybe_add_e_option()`); in a
/// client's own command line it would name a remote shell.
fn are_letters(letters: &[u8]) -> bool {
    let (flags, abilities) = match letters.iter().position(|letter| *letter == b'e') {
        Some(at) => letters.split_at(at),
        None => (letters, &b""[..]),
    };
    let understood = match abilities.split_first() {
        None => true,
        Some((_, abilities)) => {
            let dot = abilities.iter().take_while(|byte| byte.is_ascii_digit()).count();
            abilities.get(dot) == Some(&b'.')
                && abilities.iter().skip(dot + 1).all(|byte| byte.is_ascii_alphanumeric() || *byte == b'.')
        }
    };
    !letters.is_empty() && flags.iter().all(|letter| LETTERS.contains(letter)) && understood
}

/// True for `B4096`, `@-1` and the like: one-letter options with a number.
fn is_short_number(letters: &[u8]) -> bool {
    matches!(letters.split_first(), Some((b'B' | b'@', number)) if is_number(number))
}

fn long_option<'a>(long: &[u8], rest: &'a [Word]) -> Result<(Argument, &'a [Word]), Refusal> {
    let (name, value) = match long.iter().position(|byte| *byte == b'=') {
        Some(at) => (long.get(..at).unwrap_or_default(), long.get(at + 1..)),
        None => (long, None),
    };
    let refused = || not_served(&[b"--", name].concat());
    let &(name, takes) = OPTIONS.iter().find(|(known, _)| known.as_bytes() == name).ok_or_else(refused)?;
    if takes == Takes::Nothing {
        return match value {
            None => Ok((Argument::Plain(format!("--{name}").into_bytes()), rest)),
            Some(_) => Err(refused()),
        };
    }
    // rsync writes paths as words of their own, so that a shell replaces a leading ~.
    let (value, rest) = match value {
        Some(value) => (literal(value), rest),
        None => rest.split_first().map(|(word, rest)| (word.clone(), rest)).ok_or_else(refused)?,
    };
    if takes == Takes::Path {
        return Ok((Argument::Option(name, value), rest));
    }
    let value = value.plain().filter(|value| allows(takes, value)).ok_or_else(|| {
        Refusal::new(
            format_args!("The value of rsync's option --{name} is not served here."),
            "Leave the option out, or use sftp.",
        )
    })?;
    Ok((Argument::Plain([b"--", name.as_bytes(), b"=", &value].concat()), rest))
}

fn literal(bytes: &[u8]) -> Word {
    Word { home: false, text: bytes.iter().map(|byte| (*byte, true)).collect() }
}

fn allows(takes: Takes, value: &[u8]) -> bool {
    match takes {
        Takes::Nothing => false,
        Takes::Number => is_number(value),
        Takes::Words => value.iter().all(|byte| byte.is_ascii_alphanumeric() || b",.:_+-".contains(byte)),
        Takes::Text | Takes::Path => true,
    }
}

/// True for `100`, `-1`, `1.5M`, `2GiB-1` and the like.
///
/// rsync reads the number itself; this only rejects what cannot be one.
fn is_number(value: &[u8]) -> bool {
    let digits = value.strip_prefix(b"-").unwrap_or(value);
    digits.first().is_some_and(u8::is_ascii_digit)
        && digits.iter().all(|byte| byte.is_ascii_alphanumeric() || b".+-".contains(byte))
}

fn not_served(option: &[u8]) -> Refusal {
    Refusal::new(
        format_args!("rsync's option {} is not served here.", shown(option)),
        "Leave it out; an option for the other side only (-M, --rsync-path) has to be left out, too.",
    )
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use super::super::words;
    use super::*;
    use proptest::prelude::*;

    fn read(command: &str) -> Result<Vec<Argument>, Refusal> {
        arguments(&words::split(command.as_bytes(), 100).unwrap())
    }

    /// The arguments, paths in brackets.
    fn shown_arguments(command: &str) -> Vec<String> {
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        let word = |word: &Word| format!("[{}{}]", if word.home { "~" } else { "" }, text(&word.bytes()));
        let one = |argument: &Argument| match argument {
            Argument::Plain(bytes) => text(bytes),
            Argument::Option(name, path) => format!("--{name}={}", word(path)),
            Argument::Path(path) => word(path),
        };
        read(command).unwrap().iter().map(one).collect()
    }

    #[test]
    fn what_clients_send() {
        for (command, expected) in [
            // rsync -a dir host:, host:dir . and the like, as rsync 3.2.7 sends them.
            ("--server -vlogDtpre.iLsfxCIvu . dir/", "--server -vlogDtpre.iLsfxCIvu -- . [dir/]"),
            (
                "--server --sender -vvnlogDtprzHHAXUe30.0iLsfxCIvu --numeric-ids . a 'b c' ~/d *.csv",
                "--server --sender -vvnlogDtprzHHAXUe30.0iLsfxCIvu --numeric-ids -- . [a] [b c] [~/d] [*.csv]",
            ),
            (
                "--server -e.LsfxCIvu --log-format=%i --partial-dir .part --delete-during -B131072 -@-1 . .",
                "--server -e.LsfxCIvu --log-format=%i --partial-dir=[.part] --delete-during -B131072 -@-1 -- . [.]",
            ),
            (
                "--server -b --backup-dir ~/old --suffix=\\~ --max-size=1.5M --files-from=- --from0 --bwlimit=10 .",
                "--server -b --backup-dir=[~/old] --suffix=~ --max-size=1.5M --files-from=[-] --from0 --bwlimit=10 -- .",
            ),
            (
                "--server --link-dest -x --link-dest=../y --info=PROGRESS2,FLIST0 --compress-choice zstd . --daemon",
                "--server --link-dest=[-x] --link-dest=[../y] --info=PROGRESS2,FLIST0 --compress-choice=zstd -- . [--daemon]",
            ),
            // Apple's.
            ("--server --sender -vlogDtpr . x", "--server --sender -vlogDtpr -- . [x]"),
        ] {
            assert_eq!(shown_arguments(command).join(" "), expected, "{command}");
        }
    }

    #[test]
    fn everything_else_is_refused() {
        for (command, what) in [
            ("", "does nothing else"),
            ("-a x y", "does nothing else"),
            ("--daemon", "does nothing else"),
            ("--sender --server . x", "does nothing else"),
            ("--server", "names no files"),
            ("--server -a", "option -a is"),
            ("--server -vlogDtpr x", "option x is"),
            ("--server --daemon .", "option --daemon is"),
            ("--server --config=x .", "option --config is"),
            ("--server --server .", "option --server is"),
            ("--server -v --sender .", "option --sender is"),
            ("--server --rsh=sh .", "option --rsh is"),
            ("--server --rsh sh .", "option --rsh is"),
            ("--server -e sh . x", "option -e is"),
            ("--server -esh . x", "option -esh is"),
            ("--server -ve.i/x . x", "option -ve.i/x is"),
            ("--server '-e.i x' . x", "option -e.i x is"),
            ("--server -M--daemon .", "option -M--daemon is"),
            ("--server --copy-devices .", "option --copy-devices is"),
            ("--server --write-devices .", "option --write-devices is"),
            ("--server --no-munge-links .", "option --no-munge-links is"),
            ("--server --log-file=x .", "option --log-file is"),
            ("--server --log-file x .", "option --log-file is"),
            ("--server --exclude-from=x .", "option --exclude-from is"),
            ("--server --write-batch=x .", "option --write-batch is"),
            ("--server --delet .", "option --delet is"),
            ("--server --delete=1 .", "option --delete is"),
            ("--server --=x .", "option -- is"),
            ("--server -- .", "option -- is"),
            ("--server - .", "option - is"),
            ("--server -f .", "option -f is"),
            ("--server -B .", "option -B is"),
            ("--server -Bx .", "option -Bx is"),
            ("--server '' .", "option  is"),
            ("--server ~/x .", "option  is"),
            ("--server -s", "--secluded-args"),
            ("--server -vsle.iLsfxCIvu", "--secluded-args"),
            ("--server --timeout=x .", "value of rsync's option --timeout"),
            ("--server --timeout= .", "value of rsync's option --timeout"),
            ("--server --iconv=../x' ' .", "value of rsync's option --iconv"),
            ("--server --info ~ .", "value of rsync's option --info"),
            ("--server --temp-dir", "option --temp-dir is"),
        ] {
            let refusal = read(command).unwrap_err().to_string();
            assert!(refusal.contains(what), "{command}: {refusal}");
        }
    }

    #[test]
    fn the_tables_hold_nothing_dangerous() {
        for name in
            ["daemon", "config", "rsh", "server", "sender", "copy-devices", "write-devices", "log-file"]
        {
            assert!(OPTIONS.iter().all(|(known, _)| *known != name), "{name}");
        }
        assert!(!LETTERS.iter().any(|letter| b"esMTfFBP@0".contains(letter)));
    }

    proptest! {
        /// For any input, only options in the tables come out.
        #[test]
        fn no_option_outside_of_the_list(
            words in prop::collection::vec("(-|--)?[a-zA-Z@.=]{0,3}|--[a-z-]{2,14}(=.{0,3})?|\\.|--sender", 0..8),
        ) {
            let words: Vec<Word> =
                std::iter::once("--server").chain(words.iter().map(String::as_str)).map(|w| literal(w.as_bytes())).collect();
            let Ok(arguments) = arguments(&words) else { return Ok(()) };
            let dots = arguments.iter().position(|a| *a == Argument::plain("--")).unwrap();
            for (at, argument) in arguments.iter().enumerate() {
                match argument {
                    Argument::Plain(bytes) if at < dots => {
                        let text = std::str::from_utf8(bytes).unwrap();
                        let long = text.strip_prefix("--").map(|long| long.split('=').next().unwrap());
                        match long {
                            Some("server") => prop_assert_eq!(at, 0),
                            Some("sender") => prop_assert_eq!(at, 1),
                            Some(name) => {
                                prop_assert!(OPTIONS.iter().any(|(known, _)| *known == name), "{}", text);
                            }
                            None => {
                                let letters = bytes.strip_prefix(b"-").unwrap();
                                prop_assert!(are_letters(letters) || is_short_number(letters), "{}", text);
                            }
                        }
                    }
                    Argument::Option(name, _) => {
                        prop_assert!(at < dots && OPTIONS.contains(&(name, Takes::Path)));
                    }
                    Argument::Plain(_) => prop_assert!(at <= dots + 1),
                    Argument::Path(_) => prop_assert!(at > dots + 1),
                }
            }
        }
    }
}
