//! A terminal at the user's server, from the job that opens it to the one that deletes it.
//!
//! [`Life`] decides; this starts the jobs, takes their reports, and logs. Whoever uses the terminal
//! gets the WebSocket, moves the bytes, and says what happens to it: [`RemoteTerminal::dropped`],
//! [`RemoteTerminal::ended`], [`RemoteTerminal::let_go`].

pub mod calls;
pub mod life;
pub mod own_server;
pub mod report;
pub mod turn;

use crate::access::Access;
use crate::job::Cancel;
use calls::Lost;
use host::log::{Event as Logged, Line};
use hub::progress::Progress;
use life::{Event, Life, Regained, State, Step};
use own_server::NoTerminal;
use report::{Address, News};
use server::terminado::rest::TerminalName;
use server::terminado::socket::{Closed, TerminalSocket};
use std::time::Instant;
use turn::Turn;

/// What the user is told when no job can be started.
pub const NO_THREAD: &str = "This host is out of resources.\nTry again later, or tell its administrator.";
/// What the user is told when a job has panicked.
pub const FAULT: &str =
    "This host's connection to your server has a fault.\nTell the administrator of this host.";

/// What a terminal is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// A shell that somebody sits at.
    Shell,
    /// It watches a [`Role::Shell`].
    Control,
    /// The agent runs in it.
    Agent,
}

impl Role {
    fn regained(self) -> Regained {
        match self {
            Self::Shell | Self::Control => Regained::WhenConnected,
            Self::Agent => Regained::WhenAnswered,
        }
    }

    /// What the log calls it in front of what has become of it.
    fn prefix(self) -> &'static str {
        match self {
            Self::Shell => "",
            Self::Control => "control terminal ",
            Self::Agent => "agent's terminal ",
        }
    }
}

/// A terminal to be opened.
pub struct Order {
    /// Where the reports go.
    pub address: Address,
    /// What it is for.
    pub role: Role,
    /// The body of the request.
    pub body: String,
    /// The body for a server that fails at the other; the server is started if need be. `None`:
    /// neither is done.
    pub plain: Option<String>,
}

/// What has become of a terminal by a job's report.
pub enum Change {
    /// Nothing that its user need know.
    Nothing,
    /// The server is being started.
    Progress(Progress),
    /// It is there. If it was let go meanwhile it is being deleted.
    Opened(TerminalSocket),
    /// It was not opened.
    NotOpened(NoTerminal),
    /// Its WebSocket is there again.
    Reconnected(TerminalSocket),
    /// It will not be had back.
    NotReconnected(Lost),
    /// A job has failed by a fault of ours: it is as good as lost.
    Fault,
}

/// What follows from a drop of the WebSocket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dropped {
    /// It is being reconnected.
    Reconnecting,
    /// It has dropped too often, or for too long.
    GivenUp,
    /// No job could be started.
    NoThread,
}

/// A terminal at the user's server.
pub struct RemoteTerminal {
    address: Address,
    role: Role,
    access: Access,
    life: Life,
    /// Its name in the server, once it has one.
    name: Option<TerminalName>,
    /// Tells its jobs that nobody waits for them.
    cancel: Cancel,
    /// Jobs that still have to report.
    jobs: u32,
}

impl RemoteTerminal {
    /// Starts a job that opens one. Without a thread for that it [is over](Self::is_over) already.
    #[must_use]
    pub fn open(order: Order, access: &Access, turn: &mut Turn<'_>) -> Self {
        let Order { address, role, body, plain } = order;
        let (access, cancel) = (access.clone(), Cancel::default());
        let mut terminal =
            Self { address, role, access, life: Life::new(role.regained()), name: None, cancel, jobs: 0 };
        let cancel = terminal.cancel.clone();
        terminal.spawn(turn, "open", move |access, report| {
            let opened = match plain {
                Some(plain) => {
                    let bodies = calls::Bodies { body: &body, plain: &plain };
                    calls::open(&access, bodies, &cancel, &mut |progress| {
                        report(News::Progress(progress.clone()));
                    })
                }
                None => calls::open_only(&access, &body),
            };
            report(News::Opened(opened));
        });
        terminal
    }

    /// Its number among the terminals of its channel.
    #[must_use]
    pub fn number(&self) -> u64 {
        self.address.terminal
    }

    /// Is its WebSocket there, as far as we know?
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.life.state() == State::Connected
    }

    /// Is nothing left of it, or was it never there?
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.life.state() == State::Over
    }

    /// Does a job of it run?
    #[must_use]
    pub fn is_busy(&self) -> bool {
        self.jobs > 0
    }

    /// Since when it could not be used, while it cannot.
    #[must_use]
    pub fn lost_since(&self) -> Option<Instant> {
        self.life.lost_since()
    }

    /// When its WebSocket was last reconnected.
    #[must_use]
    pub fn resumed(&self) -> Option<Instant> {
        self.life.resumed()
    }

    /// When [`waited`](Self::waited) is due.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        self.life.deadline()
    }

    /// The program in it has answered since its WebSocket was reconnected.
    pub fn answered(&mut self, now: Instant) {
        self.life.on(Event::Answered, now);
    }

    /// True if the program in it has not answered for so long that it is given up.
    pub fn waited(&mut self, now: Instant) -> bool {
        self.life.on(Event::Waited, now) == Step::GiveUp
    }

    /// The server says that it has ended.
    pub fn ended(&mut self, now: Instant) {
        self.life.on(Event::Ended, now);
    }

    /// Its WebSocket has dropped.
    pub fn dropped(&mut self, why: &Closed, turn: &mut Turn<'_>) -> Dropped {
        turn.log.warning(self.line(Logged::Link).with("outcome", "lost").with("reason", why));
        let step = self.life.on(Event::Dropped, turn.now);
        let (Step::Reconnect, Some(name)) = (step, self.name.clone()) else { return Dropped::GivenUp };
        let cancel = self.cancel.clone();
        let started = self.spawn(turn, "reconnect", move |access, report| {
            report(News::Reconnected(calls::reconnect(&access, &name, &cancel)));
        });
        if started { Dropped::Reconnecting } else { Dropped::NoThread }
    }

    /// It is needed no more: it is deleted, now or when it comes, if it may be there at all.
    pub fn let_go(&mut self, turn: &mut Turn<'_>) {
        self.cancel.cancel();
        if self.life.on(Event::LetGo, turn.now) == Step::Delete {
            self.delete(turn);
        }
    }

    /// A job has reported.
    pub fn news(&mut self, news: News, turn: &mut Turn<'_>) -> Change {
        if !matches!(news, News::Progress(_)) {
            self.jobs = self.jobs.saturating_sub(1);
        }
        match news {
            News::Progress(progress) => Change::Progress(progress),
            News::Opened(Ok(remote)) => {
                if self.role != Role::Control {
                    let line = self.of_terminal("opened").with("terminal", &remote.name);
                    turn.log.info(line);
                }
                self.name = Some(remote.name);
                if self.life.on(Event::Opened, turn.now) == Step::Delete {
                    self.delete(turn);
                }
                Change::Opened(remote.socket)
            }
            News::Opened(Err(why)) => {
                let wanted = self.life.state() == State::Opening;
                self.life.on(Event::NotOpened, turn.now);
                if self.role == Role::Control {
                    let line = self.line(Logged::Terminal);
                    turn.log.warning(line.message(format_args!("no control terminal: {}", why.for_log)));
                } else if wanted {
                    turn.log.warning(self.line(Logged::Server).with("reason", &why.for_log));
                }
                Change::NotOpened(why)
            }
            News::Reconnected(Ok(socket)) => match self.life.on(Event::Reconnected, turn.now) {
                Step::Use => {
                    turn.log.info(self.line(Logged::Link).with("outcome", "reconnected"));
                    self.access.meter().reconnected();
                    Change::Reconnected(socket)
                }
                _ => Change::Nothing,
            },
            News::Reconnected(Err(lost)) => match self.life.on(Event::NotReconnected, turn.now) {
                Step::GiveUp => Change::NotReconnected(lost),
                _ => Change::Nothing,
            },
            News::Deleted(result) => {
                self.life.on(Event::Deleted, turn.now);
                match result {
                    Ok(()) if self.role == Role::Control => {}
                    Ok(()) => turn.log.info(self.of_terminal("closed")),
                    Err(why) => turn.log.warning(self.of_terminal(&format!("may be left open: {why}"))),
                }
                Change::Nothing
            }
            News::Failed => {
                turn.log.error(self.line(Logged::Fault).message("a job failed: please report this as a bug"));
                match self.life.on(Event::Failed, turn.now) {
                    Step::GiveUp => Change::Fault,
                    _ => Change::Nothing,
                }
            }
        }
    }

    fn delete(&mut self, turn: &mut Turn<'_>) {
        let Some(name) = self.name.clone() else { return };
        self.spawn(turn, "delete", move |access, report| {
            report(News::Deleted(calls::delete(&access, &name)));
        });
    }

    /// False, and [`Event::Failed`], if no thread can be had.
    fn spawn(
        &mut self,
        turn: &mut Turn<'_>,
        name: &str,
        job: impl FnOnce(Access, &dyn Fn(News)) + Send + 'static,
    ) -> bool {
        let started = report::spawn(turn.jobs, self.address, &self.access, name, job);
        if started {
            self.jobs += 1;
        } else {
            self.life.on(Event::Failed, turn.now);
        }
        started
    }

    fn line(&self, event: Logged) -> Line {
        let line = Line::new(event);
        // The agent is nobody's in particular.
        if self.role == Role::Agent { line } else { line.with("channel", self.address.channel) }
    }

    fn of_terminal(&self, what: &str) -> Line {
        self.line(Logged::Terminal).message(format_args!("{}{what}", self.role.prefix()))
    }
}

/// Terminals that nobody uses any more, until they are deleted.
#[derive(Default)]
pub struct Leaving(Vec<RemoteTerminal>);

impl Leaving {
    /// Lets a terminal go, and keeps it until that is done.
    pub fn take(&mut self, mut terminal: RemoteTerminal, turn: &mut Turn<'_>) {
        terminal.let_go(turn);
        if terminal.is_busy() {
            self.0.push(terminal);
        }
    }

    /// A job of the terminal with this number has reported.
    pub fn news(&mut self, terminal: u64, news: News, turn: &mut Turn<'_>) {
        if let Some(terminal) = self.0.iter_mut().find(|kept| kept.number() == terminal) {
            // What it brings is not wanted.
            terminal.news(news, turn);
        }
        self.0.retain(RemoteTerminal::is_busy);
    }

    /// Are all deleted?
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}
