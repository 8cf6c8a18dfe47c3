//! Sends one HTTP request to the hub's address and tells which step failed: the lookup, the
//! connection, TLS, or the answer.
//!
//! No HTTP library does this, because `check` must see the whole answer to a WebSocket's request
//! even if its status is not 101.

use super::answer::Answer;
use common::HubUrl;
use host::secret::Token;
use server::terminado::socket::{ConnectError, Stream, Tls, connect_stream};
use std::io::{ErrorKind, Read, Write};
use std::time::{Duration, Instant};
use zeroize::Zeroizing;

/// Most bytes of an answer that are read.
const MAX_ANSWER: usize = 64 << 10;

/// Why there is no answer.
#[derive(Debug)]
pub enum NoAnswer {
    /// The name has no address, in the resolver's words.
    Resolve(String),
    /// There is no TCP connection, in the system's words.
    Connect(String),
    /// The TLS handshake failed, in OpenSSL's words.
    Tls(String),
    /// The answer did not come in time, or not all of it.
    Timeout,
    /// The connection was closed without an answer.
    Closed,
    /// The answer is not HTTP.
    NotHttp,
}

/// An HTTP client for the hub's address.
pub struct Probe<'a> {
    hub: &'a HubUrl,
    tls: Option<Tls>,
}

impl<'a> Probe<'a> {
    /// Makes a client. With `ca_file` it trusts only certificates of those authorities.
    ///
    /// # Errors
    /// The CA file cannot be used: why.
    pub fn new(hub: &'a HubUrl, ca_file: Option<&std::path::Path>) -> Result<Self, String> {
        let tls =
            if hub.is_https() { Some(Tls::new(ca_file).map_err(|error| error.to_string())?) } else { None };
        Ok(Self { hub, tls })
    }

    /// Sends a request and reads the answer. `path` follows the hub's base path; `more` has further
    /// header lines, each with its CR LF.
    pub fn request(
        &self,
        method: &str,
        path: &str,
        more: &str,
        token: Option<&Token>,
        within: Duration,
    ) -> Result<Answer, NoAnswer> {
        self.exchange(&self.request_text(method, self.split().1, path, more, token), within)
    }

    /// Gets `path` without the hub's base path.
    pub fn get_at_root(&self, path: &str, within: Duration) -> Result<Answer, NoAnswer> {
        self.exchange(&self.request_text("GET", "", path, "Connection: close\r\n", None), within)
    }

    /// Sends `bytes` and reads all that comes, until the other side closes or has sent 64 KiB.
    pub fn raw(&self, bytes: &[u8], within: Duration) -> Result<Vec<u8>, NoAnswer> {
        let mut stream = self.connect(within)?;
        let _ = stream.write_all(bytes).and_then(|()| stream.flush());
        let (mut said, mut buffer) = (Vec::new(), [0; 1024]);
        while said.len() < MAX_ANSWER {
            match stream.read(&mut buffer) {
                Ok(0) => break,
                Ok(length) => said.extend_from_slice(buffer.get(..length).unwrap_or_default()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if matches!(error.kind(), ErrorKind::TimedOut | ErrorKind::WouldBlock) => {
                    return Err(NoAnswer::Timeout);
                }
                Err(_) => break,
            }
        }
        Ok(said)
    }

    fn connect(&self, within: Duration) -> Result<Stream, NoAnswer> {
        connect_stream(self.hub.base(), self.tls.as_ref(), Instant::now() + within).map_err(|error| {
            match error {
                ConnectError::Unreachable(why) if why.kind() == ErrorKind::TimedOut => NoAnswer::Timeout,
                ConnectError::Unreachable(why) => NoAnswer::Connect(why.to_string()),
                ConnectError::Timeout => NoAnswer::Timeout,
                ConnectError::Tls(why) => NoAnswer::Tls(why),
                error => NoAnswer::Connect(error.to_string()),
            }
        })
    }

    fn exchange(&self, request: &str, within: Duration) -> Result<Answer, NoAnswer> {
        let mut stream = self.connect(within)?;
        // A server may answer and close before it has read the whole request.
        let sent = stream.write_all(request.as_bytes()).and_then(|()| stream.flush());
        match read(&mut stream) {
            Err(NoAnswer::Closed)
                if sent.as_ref().is_err_and(|error| error.kind() == ErrorKind::TimedOut) =>
            {
                Err(NoAnswer::Timeout)
            }
            answer => answer,
        }
    }

    /// The parts of the hub's address: host with port, and base path.
    fn split(&self) -> (&str, &str) {
        let rest = self.hub.base().split_once("://").map_or("", |(_, rest)| rest);
        rest.split_at(rest.find('/').unwrap_or(rest.len()))
    }

    fn request_text(
        &self,
        method: &str,
        base: &str,
        path: &str,
        more: &str,
        token: Option<&Token>,
    ) -> Zeroizing<String> {
        let (authority, _) = self.split();
        // Reserved in advance: a text that grows would leave copies of the token behind.
        let mut text = Zeroizing::new(String::with_capacity(4096 + base.len() + path.len() + more.len()));
        for part in [
            method,
            " ",
            base,
            path,
            " HTTP/1.1\r\nHost: ",
            authority,
            "\r\nUser-Agent: jupyterhub-openssh/",
            env!("CARGO_PKG_VERSION"),
            "\r\nAccept: application/json\r\n",
            more,
        ] {
            text.push_str(part);
        }
        if let Some(token) = token {
            text.push_str("Authorization: token ");
            text.push_str(token.expose());
            text.push_str("\r\n");
        }
        text.push_str("\r\n");
        text
    }
}

/// Reads until the answer is complete, the other side closes, or 64 KiB have come.
fn read(stream: &mut Stream) -> Result<Answer, NoAnswer> {
    let mut bytes = Vec::new();
    let mut buffer = [0; 8192];
    loop {
        let length = match stream.read(&mut buffer) {
            Ok(length) => length,
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) if matches!(error.kind(), ErrorKind::TimedOut | ErrorKind::WouldBlock) => {
                // The head is enough, without the whole body.
                return Answer::parse(&bytes).ok_or(NoAnswer::Timeout);
            }
            // Reset, or TLS ended without close_notify.
            Err(_) => 0,
        };
        bytes.extend_from_slice(buffer.get(..length).unwrap_or_default());
        let answer = Answer::parse(&bytes);
        match answer {
            Some(answer) if length == 0 || answer.is_whole() || bytes.len() > MAX_ANSWER => {
                return Ok(answer);
            }
            None if length == 0 && bytes.is_empty() => return Err(NoAnswer::Closed),
            None if length == 0 || bytes.len() > MAX_ANSWER => return Err(NoAnswer::NotHttp),
            _ => {}
        }
    }
}
