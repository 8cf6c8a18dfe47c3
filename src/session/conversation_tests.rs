//! Conversations with a gateway that the test plays.
#![allow(clippy::unwrap_used, clippy::panic)]

use super::*;
use host::sys::process::in_child;
use host::sys::socket;
use nix::pty::{OpenptyResult, Winsize, openpty};
use nix::sys::signal::{Signal, raise};
use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::time::Duration;
use wire::MAX_MESSAGE;
use wire::session::WindowSize;

const SIZE: Winsize = Winsize { ws_row: 40, ws_col: 100, ws_xpixel: 0, ws_ypixel: 0 };

/// The gateway's end.
struct Fake(OwnedFd);

impl Fake {
    fn new() -> (Gateway, Self) {
        let (here, there) = socket::pair().unwrap();
        (Gateway::from(here), Self(there))
    }

    fn says(&self, reply: &SessionReply) {
        socket::send(self.0.as_fd(), &serde_json::to_vec(reply).unwrap(), &[]).unwrap();
    }

    fn progress(&self, percent: u8) {
        self.says(&SessionReply::Progress { percent: Some(percent), message: "x".into() });
    }

    fn hears(&self) -> (String, Vec<OwnedFd>) {
        let mut buffer = vec![0; MAX_MESSAGE];
        let (length, descriptors) = socket::recv(self.0.as_fd(), &mut buffer, 3).unwrap();
        (String::from_utf8(buffer[..length].to_vec()).unwrap(), descriptors)
    }
}

fn exit(status: u8) -> SessionReply {
    SessionReply::Exit { status, message: Some("what\nwhat to do".into()) }
}

fn over(status: u8) -> End {
    End::Exit { status, message: Some("what\nwhat to do".into()) }
}

/// Holds a conversation in which the gateway has said everything already; returns the end and what
/// was written to stderr.
fn hold(
    gateway: &Gateway,
    pty: Option<&OpenptyResult>,
    style: Style,
    began: Instant,
) -> (Result<End, Broken>, String) {
    let signals = Signals::new().unwrap();
    let (reader, writer) = nix::unistd::pipe().unwrap();
    let conversation = Conversation {
        gateway,
        signals: &signals,
        terminal: pty.map(|pty| pty.slave.as_fd()),
        stderr: writer.as_fd(),
        raw: None,
        running: false,
        waiting: Waiting::new(style, began),
    };
    let end = conversation.hold();
    drop(writer);
    let mut text = String::new();
    File::from(reader).read_to_string(&mut text).unwrap();
    (end, text)
}

fn long_ago() -> Instant {
    Instant::now().checked_sub(Duration::from_secs(2)).unwrap()
}

#[test]
fn requests_carry_descriptors_and_commands_follow() {
    let descriptors = [io::stdin(), io::stdin(), io::stdin()];
    let descriptors = [descriptors[0].as_fd(), descriptors[1].as_fd(), descriptors[2].as_fd()];
    let tty = || Some(Tty { size: WindowSize { rows: 1, cols: 2 }, modes: vec![(42, 1)] });
    let tty_json = r#"{"size":{"rows":1,"cols":2},"modes":[[42,1]]}"#;
    for (job, tty, expected) in [
        (Job::Shell, None, r#"{"shell":{"tty":null,"environment":{}}}"#.to_owned()),
        (Job::Shell, tty(), format!(r#"{{"shell":{{"tty":{tty_json},"environment":{{}}}}}}"#)),
        (Job::Sftp, None, r#"{"sftp":{"environment":{}}}"#.to_owned()),
        (Job::Command(b""), None, r#"{"exec":{"length":0,"tty":null,"environment":{}}}"#.to_owned()),
        (
            Job::Command(b"\xff\0\n"),
            tty(),
            format!(r#"{{"exec":{{"length":3,"tty":{tty_json},"environment":{{}}}}}}"#),
        ),
    ] {
        let (gateway, fake) = Fake::new();
        assert_eq!(request(&gateway, job, tty, BTreeMap::new(), &descriptors).unwrap(), None);
        let (text, received) = fake.hears();
        assert_eq!((text, received.len()), (expected, 3));
        drop(gateway);
        let mut buffer = [0; 16];
        let (length, _) = socket::recv(fake.0.as_fd(), &mut buffer, 0).unwrap();
        let Job::Command(command) = job else { continue };
        assert_eq!(&buffer[..length], command);
    }
}

#[test]
fn the_longest_command_passes_and_a_longer_one_is_refused() {
    let stdin = io::stdin();
    let descriptors = [stdin.as_fd(); 3];
    let command = vec![b'x'; MAX_COMMAND + 1];
    let (gateway, fake) = Fake::new();
    let ask =
        |length| request(&gateway, Job::Command(&command[..length]), None, BTreeMap::new(), &descriptors);
    let Some(End::Exit { status: 1, message: Some(text) }) = ask(MAX_COMMAND + 1).unwrap() else { panic!() };
    assert_eq!(text.lines().count(), 2);
    assert_eq!(ask(MAX_COMMAND).unwrap(), None);
    assert!(fake.hears().0.contains("131072"));
    let mut buffer = vec![0; MAX_COMMAND + 1];
    assert_eq!(socket::recv(fake.0.as_fd(), &mut buffer, 0).unwrap().0, MAX_COMMAND);
}

#[test]
fn a_terminal_is_raw_from_attach_to_the_end() {
    let pty = openpty(&SIZE, None).unwrap();
    let before = tty::modes(pty.slave.as_fd());
    let (gateway, fake) = Fake::new();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            fake.progress(10);
            fake.says(&SessionReply::Attach);
            assert_eq!(fake.hears().0, r#"{"ready":{"size":{"rows":40,"cols":100},"typed":""}}"#);
            assert_ne!(tty::modes(pty.slave.as_fd()), before);
            fake.progress(20);
            fake.says(&SessionReply::Attach);
            assert!(fake.hears().0.starts_with(r#"{"ready""#));
            fake.says(&exit(7));
        });
        let (end, text) = hold(&gateway, Some(&pty), Style::Rewritten, long_ago());
        assert_eq!(end.unwrap(), over(7));
        assert_eq!(text, "\rStarting your server: 10% x\x1b[K\r\x1b[K");
    });
    assert_eq!(tty::modes(pty.slave.as_fd()), before);
}

#[test]
fn a_lost_gateway_leaves_the_terminal_as_it_was() {
    let pty = openpty(&SIZE, None).unwrap();
    let before = tty::modes(pty.slave.as_fd());
    for reply in
        [None, Some(SessionReply::Elsewhere), Some(SessionReply::Serve { arguments: vec![], umask: 0 })]
    {
        let (gateway, fake) = Fake::new();
        fake.says(&SessionReply::Attach);
        reply.iter().for_each(|reply| fake.says(reply));
        drop(fake);
        let (end, _) = hold(&gateway, Some(&pty), Style::Rewritten, Instant::now());
        assert!(matches!(end, Err(Broken::GatewayLost)), "{reply:?}");
        assert_eq!(tty::modes(pty.slave.as_fd()), before);
    }
}

#[test]
fn without_a_terminal_there_are_lines_until_it_runs() {
    for (style, expected) in
        [(Style::Lines, "Starting your server: 10% x\nStarting your server: 20% x\n"), (Style::Silent, "")]
    {
        let (gateway, fake) = Fake::new();
        for percent in [10, 10, 20] {
            fake.progress(percent);
        }
        fake.says(&SessionReply::Attach);
        fake.progress(30);
        fake.says(&exit(0));
        let (end, text) = hold(&gateway, None, style, long_ago());
        assert_eq!((end.unwrap(), text.as_str()), (over(0), expected));
        // Nothing was answered.
        drop(gateway);
        assert_eq!(fake.hears().0, "");
    }
}

#[test]
fn a_death_is_reported_with_its_message() {
    let (gateway, fake) = Fake::new();
    fake.says(&SessionReply::Killed { signal: "SEGV".into(), message: None });
    let (end, _) = hold(&gateway, None, Style::Lines, Instant::now());
    assert_eq!(end.unwrap(), End::Killed { signal: "SEGV".into(), message: None });
}

#[test]
fn a_signal_while_the_server_starts_ends_the_session_at_a_terminal() {
    assert!(in_child(|| {
        let pty = openpty(&SIZE, None).unwrap();
        let (gateway, fake) = Fake::new();
        let _signals = Signals::new().unwrap();
        raise(Signal::SIGINT).unwrap();
        let (end, _) = hold(&gateway, Some(&pty), Style::Rewritten, Instant::now());
        assert_eq!(end.unwrap(), End::Killed { signal: "INT".into(), message: None });
        drop(gateway);
        assert_eq!(fake.hears().0, "");
    }));
}

#[test]
fn signals_and_sizes_go_to_the_process() {
    assert!(in_child(|| {
        let pty = openpty(&SIZE, None).unwrap();
        let _signals = Signals::new().unwrap();
        for pty in [Some(&pty), None] {
            let (gateway, fake) = Fake::new();
            // Threads would take the signals, too.
            let signals = Signals::new().unwrap();
            let mut conversation = Conversation {
                gateway: &gateway,
                signals: &signals,
                terminal: pty.map(|pty| pty.slave.as_fd()),
                stderr: pty.map_or(gateway.as_fd(), |pty| pty.slave.as_fd()),
                raw: None,
                running: false,
                waiting: Waiting::new(Style::Silent, Instant::now()),
            };
            if pty.is_some() {
                fake.says(&SessionReply::Attach);
                assert_eq!(conversation.step().unwrap(), None);
                assert!(fake.hears().0.starts_with(r#"{"ready""#));
            }
            for (signal, name) in [(Signal::SIGTERM, "TERM"), (Signal::SIGUSR2, "USR2")] {
                raise(signal).unwrap();
                assert_eq!(conversation.step().unwrap(), None);
                assert_eq!(fake.hears().0, format!(r#"{{"signal":{{"name":"{name}"}}}}"#));
            }
            raise(Signal::SIGWINCH).unwrap();
            assert_eq!(conversation.step().unwrap(), None);
            if pty.is_some() {
                assert_eq!(fake.hears().0, r#"{"resize":{"size":{"rows":40,"cols":100}}}"#);
            }
            drop(conversation);
            drop(gateway);
            assert_eq!(fake.hears().0, "");
        }
    }));
}
