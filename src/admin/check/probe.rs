//! One HTTP request to the hub's address, in which each step can fail with a name of its own: the
//! lookup, the connection, TLS, the answer. Written by hand, because a WebSocket's request that
//! gets another answer than 101 has to be seen whole.

use super::answer::Answer;
use common::HubUrl;
use host::secret::Token;
use server::terminado::socket::{ConnectError, Stream, Tls, connect_stream};
use std::io::{ErrorKind, Read, Write};
use std::time::{Duration, Instant};
use zeroize::Zeroizing;

/// Most that is read of an answer, in bytes.
const MAX_ANSWER: usize = 64 << 10;

/// Why there is no answer.
#[derive(Debug)]
pub enum Failure {
    /// The name has no address, in the resolver's words.
    Resolve(String),
    /// No TCP connection.
    Connect(String),
    /// No TLS, in OpenSSL's words.
    Tls(String),
    /// Nothing, or not all, came in time.
    Timeout,
    /// The connection was closed without an answer.
    Closed,
    /// What came is no HTTP.
    NotHttp,
}

/// The hub's address, and how to get there.
pub struct Probe<'a> {
    hub: &'a HubUrl,
    tls: Option<Tls>,
}

impl<'a> Probe<'a> {
    /// For a hub whose certificate is trusted as the configuration says.
    ///
    /// # Errors
    /// The CA file is not usable: why.
    pub fn new(hub: &'a HubUrl, ca_file: Option<&std::path::Path>) -> Result<Self, String> {
        let tls =
            if hub.is_https() { Some(Tls::new(ca_file).map_err(|error| error.to_string())?) } else { None };
        Ok(Self { hub, tls })
    }

    /// Sends a request for `path`, which follows the hub's base path, and reads the answer. `more`
    /// are further header lines, each with its end.
    pub fn ask(
        &self,
        method: &str,
        path: &str,
        more: &str,
        token: Option<&Token>,
        within: Duration,
    ) -> Result<Answer, Failure> {
        self.exchange(&self.request(method, self.split().1, path, more, token), within)
    }

    /// Gets `path` of the host itself, whatever the hub's base path is.
    pub fn get_at_root(&self, path: &str, within: Duration) -> Result<Answer, Failure> {
        self.exchange(&self.request("GET", "", path, "Connection: close\r\n", None), within)
    }

    /// Sends `bytes`, whatever they are, and gives all that comes until the other side closes, or
    /// has sent enough.
    pub fn raw(&self, bytes: &[u8], within: Duration) -> Result<Vec<u8>, Failure> {
        let mut stream = self.connect(within)?;
        let _ = stream.write_all(bytes).and_then(|()| stream.flush());
        let (mut said, mut buffer) = (Vec::new(), [0; 1024]);
        while said.len() < MAX_ANSWER {
            match stream.read(&mut buffer) {
                Ok(0) => break,
                Ok(length) => said.extend_from_slice(buffer.get(..length).unwrap_or_default()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if matches!(error.kind(), ErrorKind::TimedOut | ErrorKind::WouldBlock) => {
                    return Err(Failure::Timeout);
                }
                Err(_) => break,
            }
        }
        Ok(said)
    }

    fn connect(&self, within: Duration) -> Result<Stream, Failure> {
        connect_stream(self.hub.base(), self.tls.as_ref(), Instant::now() + within).map_err(|error| {
            match error {
                ConnectError::Unreachable(why) if why.kind() == ErrorKind::TimedOut => Failure::Timeout,
                ConnectError::Unreachable(why) => Failure::Connect(why.to_string()),
                ConnectError::Timeout => Failure::Timeout,
                ConnectError::Tls(why) => Failure::Tls(why),
                error => Failure::Connect(error.to_string()),
            }
        })
    }

    fn exchange(&self, request: &str, within: Duration) -> Result<Answer, Failure> {
        let mut stream = self.connect(within)?;
        // A server may have answered and closed before it has read all.
        let sent = stream.write_all(request.as_bytes()).and_then(|()| stream.flush());
        match read(&mut stream) {
            Err(Failure::Closed) if sent.as_ref().is_err_and(|error| error.kind() == ErrorKind::TimedOut) => {
                Err(Failure::Timeout)
            }
            answer => answer,
        }
    }

    /// Host with port, and base path.
    fn split(&self) -> (&str, &str) {
        let rest = self.hub.base().split_once("://").map_or("", |(_, rest)| rest);
        rest.split_at(rest.find('/').unwrap_or(rest.len()))
    }

    fn request(
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

/// Reads until the answer is whole, the other side closes, or enough is there.
fn read(stream: &mut Stream) -> Result<Answer, Failure> {
    let mut bytes = Vec::new();
    let mut buffer = [0; 8192];
    loop {
        let length = match stream.read(&mut buffer) {
            Ok(length) => length,
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) if matches!(error.kind(), ErrorKind::TimedOut | ErrorKind::WouldBlock) => {
                // A head without its whole body says enough.
                return Answer::parse(&bytes).ok_or(Failure::Timeout);
            }
            // Reset, or TLS closed without a goodbye.
            Err(_) => 0,
        };
        bytes.extend_from_slice(buffer.get(..length).unwrap_or_default());
        let answer = Answer::parse(&bytes);
        match answer {
            Some(answer) if length == 0 || answer.is_whole() || bytes.len() > MAX_ANSWER => {
                return Ok(answer);
            }
            None if length == 0 && bytes.is_empty() => return Err(Failure::Closed),
            None if length == 0 || bytes.len() > MAX_ANSWER => return Err(Failure::NotHttp),
            _ => {}
        }
    }
}
