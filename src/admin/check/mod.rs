//! `jupyterhub-openssh check`: tells the administrator what is wrong with this host and with the
//! way to the hub, and how to mend it.
//!
//! | module | concern |
//! |---|---|
//! | [`finding`], [`report`] | what was found, and how it is shown |
//! | [`configuration`], [`login`], [`keys`] | config.toml, who may log in, and login by key |
//! | [`homes`], [`mounts`], [`shares`], [`uids`], [`files`] | homes, shares, and what serves them |
//! | [`installed`], [`nss`], [`pam`], [`logger`] | the package's files, and the system's parts that use them |
//! | [`sshd`], [`block`], [`freshness`], [`service_unit`] | sshd's configuration and service |
//! | [`mod@hub`], [`port`], [`websocket`], [`service`], [`probe`], [`answer`] | the way to the hub |
//! | [`user`], [`token`], [`prompt`] | one login, followed through all of it |
//! | [`mod@run`] | a program of the system |
//!
//! A few functions gather facts, each with a deadline, and pure ones judge them. Questions that may
//! never be answered are asked in a child process, which is killed when its time is over. The child
//! processes that read from the network have no privileges.

mod answer;
mod block;
mod configuration;
mod files;
mod finding;
mod freshness;
mod homes;
mod hub;
mod installed;
mod keys;
mod logger;
mod login;
mod mounts;
mod nss;
mod pam;
mod port;
mod probe;
mod prompt;
mod report;
mod run;
mod service;
mod service_unit;
mod shares;
mod sshd;
mod token;
mod uids;
mod user;
mod websocket;

use ::hub::http::Http;
use ::hub::http::new_http;
use ::hub::service_token;
use anstream::{AutoStream, ColorChoice};
use common::{LoginName, paths};
use finding::Finding;
use host::child::forked;
use host::config::Config;
use host::secret::Token;
use host::sys::process;
use nix::unistd::{Uid, User, geteuid};
use std::io::{self, Write};
use std::sync::mpsc::channel;
use std::thread;
use std::time::{Duration, Instant};

/// How long a file system may take to answer: `check` must not hang because a file server does.
const PATIENCE: Duration = Duration::from_secs(4);
/// How long all checks of this host may take. With the next two it is less than 20 s.
const HOST_TIME: Duration = Duration::from_secs(7);
/// How long all questions to the hub may take.
const HUB_TIME: Duration = Duration::from_secs(7);
/// How long the check of a token may take.
const TOKEN_TIME: Duration = Duration::from_secs(4);
/// How much longer to wait for the child process that does one of these.
const GRACE: Duration = Duration::from_millis(500);
/// Longest answer of a child process, in bytes.
const MAX_ANSWER: usize = 1 << 20;

/// Runs all checks, prints the findings, and returns the exit status: 0 if all is in order, 1 if
/// something may be wrong or could not be found out, 2 if something is wrong.
///
/// `user` is a login to follow through all parts. `json` prints an object instead of lines.
#[must_use]
pub fn run(user: Option<&str>, json: bool) -> u8 {
    let mut shown = Shown { json, ..Shown::default() };
    let (config, findings) = configuration::check();
    shown.add(findings);
    let login = match user.map(user::parse) {
        Some(Err(finding)) => {
            shown.add(vec![finding]);
            None
        }
        Some(Ok(login)) => Some(match &config {
            Some(config) => config.settings.canonical(login),
            None => login,
        }),
        None => None,
    };
    let reached = config.as_ref().is_some_and(|config| {
        let mut findings = hub(config, login.as_ref());
        // This only tells that the hub can be asked for more; it is not shown.
        let reached = findings.iter().any(|finding| finding.topic == REACHED);
        findings.retain(|finding| finding.topic != REACHED);
        shown.add(findings);
        reached
    });
    shown.add(host(config.as_ref(), login.as_ref()));
    if let (Some(config), Some(login), true) = (&config, &login, reached) {
        shown.add(with_token(config, login));
    }
    shown.finish(user)
}

/// The findings so far. Lines are printed at once, the JSON object at the end.
#[derive(Default)]
struct Shown {
    findings: Vec<Finding>,
    json: bool,
}

impl Shown {
    fn add(&mut self, findings: Vec<Finding>) {
        if !self.json {
            let out = io::stdout();
            // As clap decides for its own output: on a terminal that has them, unless NO_COLOR is
            // set.
            let colours = AutoStream::choice(&out) != ColorChoice::Never;
            let mut out = out.lock();
            for finding in &findings {
                // The reader may have stopped reading (EPIPE).
                let _ = out.write_all(report::lines(finding, colours).as_bytes());
            }
            let _ = out.flush();
        }
        self.findings.extend(findings);
    }

    fn finish(self, user: Option<&str>) -> u8 {
        let text =
            if self.json { report::json(&self.findings, user) } else { report::summary(&self.findings) };
        let _ = writeln!(io::stdout(), "{text}");
        report::exit_status(&self.findings)
    }
}

/// The topic by which the child process tells that the hub can be asked for more.
const REACHED: &str = "";

/// Checks the way to the hub, and asks it about the service and the user's keys.
fn hub(config: &Config, login: Option<&LoginName>) -> Vec<Finding> {
    let service = config.keys.service_token_file.as_deref().and_then(|file| service_token::read(file).ok());
    // The child has the service token in its memory, so it runs as the user who may read that.
    in_child("hub", HUB_TIME, Some(paths::KEYS_USER), || {
        let (mut findings, reached) = hub::check(config);
        if !reached {
            return findings;
        }
        findings.push(Finding::fine(REACHED, ""));
        if config.keys.is_on() {
            findings.extend(at_the_hub(config, |http| {
                let mut findings: Vec<Finding> =
                    service.iter().flat_map(|token| service::check(http, token, &config.keys)).collect();
                findings.extend(
                    login.iter().flat_map(|login| token::keys(config, http, service.as_ref(), login)),
                );
                findings
            }));
        }
        findings
    })
}

/// Asks the administrator for a token of the user's, and tries it.
fn with_token(config: &Config, login: &LoginName) -> Vec<Finding> {
    let skipped =
        |what: String| vec![Finding::info(user::TOPIC, what, "Give one at the prompt, or on standard input")];
    let token: Token = match prompt::read_token(&format!("Token of {} to try (empty: none): ", login.user()))
    {
        prompt::Typed::Token(token) => token,
        prompt::Typed::Nothing => return skipped("no token was tried".to_owned()),
        prompt::Typed::Wrong(why) => return skipped(format!("what was given is no token: {why}")),
    };
    in_child(user::TOPIC, TOKEN_TIME, Some(paths::GATEWAY_USER), || {
        at_the_hub(config, |http| token::check(config, http, login, &token))
    })
}

/// Does `work` with an HTTP client for the hub.
fn at_the_hub(config: &Config, work: impl FnOnce(&Http) -> Vec<Finding>) -> Vec<Finding> {
    let Ok(hub) = config.hub_url() else { return Vec::new() };
    match new_http(config, hub) {
        Ok(http) => work(&http),
        Err(error) => vec![hub::no_answer("hub", &error)],
    }
}

/// Checks this host. Each topic runs in a thread, which is abandoned when the time is over.
fn host(config: Option<&Config>, login: Option<&LoginName>) -> Vec<Finding> {
    let (config, login) = (config.cloned(), login.cloned());
    in_child("host", HOST_TIME, None, move || {
        type Topic = (&'static str, Box<dyn FnOnce() -> Vec<Finding> + Send>);
        let keys_on = config.as_ref().map(|config| config.keys.is_on());
        let remote = config.as_ref().is_some_and(|config| keys::are_remote(&config.keys));
        let name = login.as_ref().map(|login| login.as_str().to_owned());
        let mut topics: Vec<Topic> = vec![
            ("package", Box::new(move || installed::check(remote))),
            ("nss", Box::new(nss::check)),
            (
                "sshd",
                Box::new(move || {
                    let (mut findings, service) = sshd::check(name.as_deref(), keys_on);
                    findings.extend(pam::check(&service));
                    findings
                }),
            ),
            ("systemd", Box::new(service_unit::check)),
            ("log", Box::new(logger::check)),
        ];
        if let Some(config) = config {
            type Check = fn(&Config) -> Vec<Finding>;
            let checks: [(&'static str, Check); 6] = [
                ("accounts", uids::check),
                ("homes", homes::check),
                ("files", files::check),
                ("shares", shares::check),
                ("login", login::check),
                ("keys", keys::check),
            ];
            for (topic, check) in checks {
                let config = config.clone();
                topics.push((topic, Box::new(move || check(&config))));
            }
            if let Some(login) = login {
                topics.push((user::TOPIC, Box::new(move || user::check(&config, &login))));
            }
        }
        let end = Instant::now() + HOST_TIME;
        let asked: Vec<_> = topics
            .into_iter()
            .map(|(topic, check)| {
                let (answer, answers) = channel();
                thread::spawn(move || answer.send(check()));
                (topic, answers)
            })
            .collect();
        asked
            .into_iter()
            .flat_map(|(topic, answers)| {
                let left = end.saturating_duration_since(Instant::now());
                answers.recv_timeout(left).unwrap_or_else(|_| vec![late(topic, "no answer in time", HANGS)])
            })
            .collect()
    })
}

/// The remedy for a check that doesn't end in time.
const HANGS: &str = "See what hangs: ps -eo pid,stat,wchan:20,args";

/// A finding about something that did not answer in time.
fn late(topic: &str, why: &str, remedy: &str) -> Finding {
    Finding::unknown(topic, format_args!("could not be found out: {why}"), remedy)
}

/// Does `work` in a child process, which can be killed whatever it waits for. If this is root and
/// `user` is given, the child becomes that user, who has no privileges.
fn in_child(
    topic: &str,
    within: Duration,
    user: Option<&str>,
    work: impl FnOnce() -> Vec<Finding>,
) -> Vec<Finding> {
    let ids = match user.filter(|_| geteuid().is_root()).map(User::from_name) {
        None => None,
        Some(Ok(Some(user))) if user.uid != Uid::from_raw(0) => Some((user.uid.as_raw(), user.gid.as_raw())),
        Some(_) => {
            return vec![late(
                topic,
                "a system user of the package's is missing",
                "See the findings under package",
            )];
        }
    };
    let answer = forked::run(within + GRACE, MAX_ANSWER, || {
        if let Some((uid, gid)) = ids {
            process::drop_privileges(uid, gid).map_err(|error| format!("cannot drop privileges: {error}"))?;
        }
        serde_json::to_vec(&work()).map(Some).map_err(|error| error.to_string())
    });
    match answer {
        Ok(bytes) => serde_json::from_slice(&bytes.unwrap_or_default())
            .unwrap_or_else(|_| vec![late(topic, "no answer", HANGS)]),
        // The rest of the message is about a file system.
        Err(why) => vec![late(topic, why.split(": look after").next().unwrap_or(&why), HANGS)],
    }
}
