//! Runs requests in the background. An answer may take the hub 10 s and an event stream minutes,
//! and meanwhile the caller must notice a user who has gone away. Each request has a thread of its
//! own, which ends with it.

use super::error::{Fault, HttpError};
use super::http::{Call, Http, Reply, Stream};
use super::progress::{Event, Parser};
use host::secret::Token;
use reqwest::Method;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

/// A stream without any byte for this long is dead: the hub sends blank lines every 8 s.
const SILENCE: Duration = Duration::from_secs(25);
/// Most messages in the queue; further events wait in the socket.
const QUEUE: usize = 32;

/// What the background requests have brought.
#[derive(Debug)]
pub(super) enum Message {
    /// The answer to [`Background::request`].
    Answer(Result<Reply, HttpError>),
    /// An event of the stream.
    Event(Event),
    /// The stream has ended, or could not be opened.
    StreamEnd,
}

#[derive(Debug)]
enum Raw {
    Answer(Result<Reply, HttpError>),
    /// From the stream with this number; `None` is a sign of life.
    Event(u64, Option<Event>),
    StreamEnd(u64),
}

/// The background requests of one start: at most one request and one event stream at a time.
pub(super) struct Background<'a> {
    http: &'a Http,
    token: &'a Token,
    sender: SyncSender<Raw>,
    receiver: Receiver<Raw>,
    streams: u64,
    stream: Option<Open>,
}

struct Open {
    heard: Instant,
    /// Tells the thread to end at the next bytes; without it a dropped stream would be read to its
    /// end.
    stop: Arc<AtomicBool>,
}

impl Drop for Open {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

impl<'a> Background<'a> {
    pub(super) fn new(http: &'a Http, token: &'a Token) -> Self {
        let (sender, receiver) = sync_channel(QUEUE);
        Self { http, token, sender, receiver, streams: 0, stream: None }
    }

    /// True while an event stream is open.
    pub(super) fn is_streaming(&self) -> bool {
        self.stream.is_some()
    }

    /// Starts a request; its answer arrives as [`Message::Answer`].
    pub(super) fn request(&self, method: Method, path: &[&str], timeout: Duration) -> Result<(), HttpError> {
        let tried = method.to_string();
        let path: Vec<String> = path.iter().map(ToString::to_string).collect();
        let (http, token, sender) = (self.http.clone(), self.token.clone(), self.sender.clone());
        spawn(&tried, move || {
            let path: Vec<&str> = path.iter().map(String::as_str).collect();
            let answer = http.call(&token, Call { method, path: &path, body: None, timeout });
            // The receiver is gone: the start was cancelled.
            let _ = sender.send(Raw::Answer(answer));
        })
    }

    /// Opens an event stream, in place of the previous one.
    pub(super) fn open_stream(&mut self, path: &[&str], timeout: Duration) -> Result<(), HttpError> {
        self.streams += 1;
        let number = self.streams;
        let stop = Arc::new(AtomicBool::new(false));
        self.stream = Some(Open { heard: Instant::now(), stop: Arc::clone(&stop) });
        let path: Vec<String> = path.iter().map(ToString::to_string).collect();
        let (http, token, sender) = (self.http.clone(), self.token.clone(), self.sender.clone());
        spawn("GET progress", move || {
            let path: Vec<&str> = path.iter().map(String::as_str).collect();
            if let Ok(stream) = http.open(&token, Call::get(&path, timeout)) {
                pump(stream, number, &sender, &stop);
            }
            let _ = sender.send(Raw::StreamEnd(number));
        })
    }

    /// Closes the event stream.
    pub(super) fn close_stream(&mut self) {
        self.stream = None;
    }

    /// Returns the next message, if one arrives within `wait`.
    pub(super) fn next(&mut self, wait: Duration) -> Option<Message> {
        let until = Instant::now() + wait;
        loop {
            if self.stream.as_ref().is_some_and(|stream| stream.heard.elapsed() > SILENCE) {
                self.close_stream();
                return Some(Message::StreamEnd);
            }
            let left = until.saturating_duration_since(Instant::now());
            match self.receiver.recv_timeout(left).ok()? {
                Raw::Answer(answer) => return Some(Message::Answer(answer)),
                // From an earlier stream.
                Raw::Event(number, _) | Raw::StreamEnd(number) if number != self.streams => {}
                Raw::StreamEnd(_) => {
                    self.close_stream();
                    return Some(Message::StreamEnd);
                }
                Raw::Event(_, event) => {
                    // A closed stream may still have messages on the way; they are ignored.
                    let Some(stream) = &mut self.stream else { continue };
                    stream.heard = Instant::now();
                    if let Some(event) = event {
                        return Some(Message::Event(event));
                    }
                }
            }
        }
    }
}

/// Reads the stream until it ends or fails, or the receiver is gone.
fn pump(mut stream: Stream, number: u64, sender: &SyncSender<Raw>, stop: &AtomicBool) {
    if !stream.is_success() {
        return;
    }
    let mut parser = Parser::default();
    let mut buffer = [0; 4096];
    while let Ok(length @ 1..) = stream.read(&mut buffer) {
        let events = parser.feed(buffer.get(..length).unwrap_or_default());
        for event in events.into_iter().map(Some).chain([None]) {
            if stop.load(Ordering::Relaxed) || sender.send(Raw::Event(number, event)).is_err() {
                return;
            }
        }
    }
}

fn spawn(tried: &str, work: impl FnOnce() + Send + 'static) -> Result<(), HttpError> {
    match thread::Builder::new().name("hub".to_owned()).spawn(work) {
        Ok(_) => Ok(()),
        Err(why) => Err(HttpError {
            tried: tried.to_owned(),
            fault: Fault::Setup(format!("no thread could be started: {why}")),
        }),
    }
}
