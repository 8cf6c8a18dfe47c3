//! The program `hub-keys USER`: prints the keys that the hub, or a git forge, lists for a user, as
//! lines `SOURCE type base64`.
//!
//! It is started for each key that a client offers, before anybody has logged in, for any name that
//! a client makes up.
//! It ends by itself: the process that started it may not send it signals.
//!
//! | module | concern |
//! |---|---|
//! | [`identity`] | becoming the system user that this program runs as |
//! | [`caller`] | who may ask for whose keys |
//! | [`hub`], [`url`] | one request to a source |
//! | [`lines`] | finding keys in a text (pure) |
//! | [`answer`] | whether to ask a source or to use its cached answer |
//! | [`cache`] | cached answers |

mod answer;
mod cache;
mod caller;
mod hub;
mod identity;
pub mod lines;
pub mod url;

use answer::{Answer, Question};
use cache::Cache;
use common::text::one_line;
use common::{LoginName, UserName, paths};
use host::config::{Config, Keys, Source};
use host::log::{Event, Line, Log};
use host::sandbox::{self, Reach};
use host::sys::process;
use std::env;
use std::io::{self, Write};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

/// The program's name in the log.
const PROGRAM: &str = "jupyterhub-openssh";
/// Time limit for all sources together, from the start of the program; they are asked concurrently.
const SOURCES_TIME: Duration = Duration::from_millis(4400);
/// Time limit for one source.
const SOURCE_TIME: Duration = Duration::from_secs(4);
/// When the program ends, whatever it is waiting for. Its caller waits slightly longer.
const TIME: Duration = Duration::from_millis(4800);

/// Why nothing is printed, in two lines: what happened, what to do.
struct Refusal {
    problem: String,
    remedy: &'static str,
    /// Whether to log it too.
    logged: bool,
}

/// The main function of `hub-keys`. Ends the process, with status 0 if it could look for keys, even
/// if it found none.
pub fn run() -> ! {
    let status = match answer_caller() {
        Ok(()) => 0,
        Err(Refusal { problem, remedy, logged }) => {
            if logged {
                Log::open(PROGRAM, &[("program", "hub-keys")]).warning(Line::of(Event::Fault, &problem));
            }
            let _ = writeln!(io::stderr(), "{}\n{remedy}", one_line(&problem));
            1
        }
    };
    // Not exit(3): OpenSSL would clean up in it, and a thread may still hang in a name lookup.
    process::exit_now(status)
}

fn answer_caller() -> Result<(), Refusal> {
    let began = Instant::now();
    let broken = |problem: String| Refusal {
        problem,
        remedy: "The administrator of this host should look at it.",
        logged: true,
    };
    let starting = |why: io::Error| broken(format!("cannot start: {why}"));
    identity::forget_caller().map_err(starting)?;
    let caller = identity::become_keys_user().map_err(broken)?;
    let login = login_name()?;
    let user = login.user();
    let config = Config::load().map_err(|why| broken(why.one_line()))?;
    if !caller::may_ask(caller, user, &config.settings) {
        return Err(Refusal {
            problem: format!("uid {caller} asks for the keys of {user}: they are not its own"),
            remedy: "sshd runs this program; as root you can ask for anybody's keys.",
            logged: true,
        });
    }
    // Confined only now: the child processes above need a process with one thread and without this
    // sandbox.
    let reach = Reach::of(&config).with_service_token(&config).with_sources_of_keys(&config);
    sandbox::confine(&reach).map_err(starting)?;
    let watchdog = move || {
        thread::sleep(TIME.saturating_sub(began.elapsed()));
        process::exit_now(1)
    };
    thread::Builder::new().spawn(watchdog).map_err(starting)?;
    if config.keys.is_on() {
        let left = SOURCES_TIME.saturating_sub(began.elapsed());
        look_for_keys(&config, user, left.min(SOURCE_TIME));
    }
    Ok(())
}

/// Reads the only argument: a login name, as sshd passes it.
fn login_name() -> Result<LoginName, Refusal> {
    let usage = |problem: String| Refusal { problem, remedy: "Use it as: hub-keys USER", logged: false };
    let mut arguments = env::args_os().skip(1);
    match (arguments.next(), arguments.next()) {
        (Some(name), None) => {
            let name = name.to_str().ok_or_else(|| usage("the user name is not text".to_owned()))?;
            LoginName::parse(name).map_err(|why| usage(why.to_string()))
        }
        _ => Err(usage("one user name is expected".to_owned())),
    }
}

/// Asks the sources, prints the keys, and logs what an administrator should know.
fn look_for_keys(config: &Config, user: &UserName, timeout: Duration) {
    let sources: Vec<Source> = remote_sources(&config.keys).collect();
    if sources.is_empty() {
        return;
    }
    let mut log = Log::open(PROGRAM, &[("program", "hub-keys"), ("user", user.as_str())]);
    let cache = Cache::open(Path::new(paths::KEYS_CACHE));
    if let Err(why) = &cache {
        log.warning(Line::of(
            Event::Fault,
            format_args!("{}: {why}; answers are not kept", paths::KEYS_CACHE),
        ));
    }
    let cache = cache.ok();
    let find = |source| keys_at(source, config, user, cache.as_ref(), timeout);
    let answers: Vec<(Source, Answer)> = thread::scope(|scope| {
        let threads: Vec<_> = sources.iter().map(|source| (*source, scope.spawn(|| find(*source)))).collect();
        threads.into_iter().map(|(source, one)| (source, one.join().unwrap_or_default())).collect()
    });
    // The reader may have closed the pipe (EPIPE).
    let _ = print(&answers, &mut io::stdout().lock());
    answers
        .iter()
        .filter_map(|(_, answer)| answer.note.as_ref())
        .for_each(|note| log.warning(Line::of(Event::Key, note)));
    if let Some(why) = answers.iter().find_map(|(_, answer)| answer.unkept.as_ref()) {
        log.warning(Line::of(
            Event::Fault,
            format_args!("{}: an answer could not be kept: {why}", paths::KEYS_CACHE),
        ));
    }
    cache.inspect(Cache::tidy);
}

/// The sources on the network; the others are files.
fn remote_sources(keys: &Keys) -> impl Iterator<Item = Source> + '_ {
    keys.sources.iter().copied().filter(|source| matches!(source, Source::Hub | Source::Url))
}

/// Returns the keys of one source.
fn keys_at(
    source: Source,
    config: &Config,
    user: &UserName,
    cache: Option<&Cache>,
    timeout: Duration,
) -> Answer {
    let url = config.keys.url.as_ref().map(|url| url.for_user(user.as_str())).unwrap_or_default();
    let origin = match source {
        Source::Hub => hub::origin(config, user),
        _ => Ok(url.clone()),
    };
    let origin = match origin {
        Ok(origin) => origin,
        Err(why) => return Answer { note: Some(format!("{source}: {why}")), ..Answer::default() },
    };
    let question =
        Question { source: source.as_str(), user, origin: &origin, max_age: config.keys.cache_max_age };
    answer::find(&question, cache, &cache::now, || match source {
        Source::Hub => hub::fetch_keys(config, user, timeout),
        _ => url::fetch_keys(&url, timeout),
    })
}

fn print(answers: &[(Source, Answer)], out: &mut impl Write) -> io::Result<()> {
    let mut text = String::new();
    for (source, answer) in answers {
        answer.keys.iter().for_each(|key| text.push_str(&format!("{source} {key}\n")));
    }
    out.write_all(text.as_bytes())?;
    out.flush()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::lines::tests::keys;
    use super::*;

    fn config(text: &str) -> Config {
        Config::from_str(text, Path::new("config.toml")).unwrap()
    }

    #[test]
    fn each_key_is_a_line_with_its_source() {
        let [a, b] = keys();
        let answer = |keys: &[&String]| Answer {
            keys: keys.iter().map(|key| (*key).clone()).collect(),
            ..Answer::default()
        };
        let answers =
            [(Source::Url, answer(&[&a, &b])), (Source::Hub, answer(&[])), (Source::Hub, answer(&[&a]))];
        let mut out = Vec::new();
        print(&answers, &mut out).unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), format!("url {a}\nurl {b}\nhub {a}\n"));
    }

    #[test]
    fn a_source_that_cannot_be_asked_says_why() {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::open(&dir.path().join("keys")).unwrap();
        let user = UserName::parse("alice").unwrap();
        let second = Duration::from_secs(1);
        let note = |text: &str| {
            let answer = keys_at(Source::Hub, &config(text), &user, Some(&cache), second);
            assert_eq!(answer.keys, Vec::<String>::new());
            answer.note.unwrap_or_default()
        };
        let keys = "[keys]\nservice_token_file = '/nonexistent/token'\nsources = ['hub']\n";
        assert!(note(keys).starts_with("hub: hub.url is not set"));
        let text = format!("{keys}[hub]\nurl = 'http://127.0.0.1:1'");
        let first = note(&text);
        assert!(first.starts_with("hub: the service token file") && first.ends_with("left out"), "{first}");
        assert_eq!(note(&text), "", "once, not for each key");
    }

    #[test]
    fn files_are_not_asked_for_here() {
        let text = "[homes]\nroot = '/srv/homes'\n[keys]\nurl = 'https://git/{username}'\n\
                    sources = ['url', 'home', 'file', 'hub']";
        let sources: Vec<_> = remote_sources(&config(text).keys).collect();
        assert_eq!(sources, [Source::Url, Source::Hub]);
    }
}
