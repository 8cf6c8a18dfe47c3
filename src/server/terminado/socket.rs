//! The WebSocket of a terminal.
//!
//! [`TerminalSocket::connect`] blocks, with a deadline, and belongs on a worker thread. Everything
//! after it is non-blocking and belongs in a poll loop.
//!
//! How to drive it: poll [`as_fd`](TerminalSocket::as_fd) for input, and for output while
//! [`wants_write`](TerminalSocket::wants_write). On input, and **once right after connecting**,
//! call [`read`](TerminalSocket::read) until it returns `None`: TLS and WebSocket decode ahead, and
//! poll doesn't announce what is left in their buffers. A caller that must stop earlier (its own
//! buffer is full) has to call `read` again before it waits. Call [`flush`](TerminalSocket::flush)
//! at the end of each turn of the loop, when the descriptor is writable, and at
//! [`due`](TerminalSocket::due).

use host::secret::Token;
use std::fmt;
use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::time::{Duration, Instant};
use tungstenite::client::{IntoClientRequest, client_with_config};
use tungstenite::http::{HeaderValue, Uri, header::AUTHORIZATION};
use tungstenite::protocol::frame::Frame;
use tungstenite::protocol::{Message, WebSocket, WebSocketConfig};
use tungstenite::{Error, HandshakeError, Utf8Bytes};

/// The largest message accepted, in bytes.
///
/// Attaching replays the last 1000 reads at once: 4.2 MB seen, and six times as much if everything
/// must be escaped.
pub(crate) const MAX_MESSAGE: usize = 26 << 20;
/// The most bytes that wait to be sent; more than a window of input and all pongs that can be owed.
pub(crate) const MAX_UNSENT: usize = 256 << 10;
/// How many bytes are read at once. Each connection allocates them; more isn't faster in bulk
/// output.
const READ_BUFFER: usize = 32 << 10;
/// How many bytes are collected before they are written even without [`TerminalSocket::flush`].
const WRITE_BUFFER: usize = 16 << 10;

/// The least time between two pongs that answer a flood of output.
///
/// Each pong costs the server some 40 µs of its only thread; one for every message would make a
/// flood 15 to 20 % slower.
const PONG_GAP: Duration = Duration::from_millis(2);
/// How far pongs may be ahead of [`PONG_GAP`]: the first 15 of a burst are sent at once.
const PONG_BURST: Duration = Duration::from_millis(30);

/// TLS settings, shared by all HTTPS connections of a gateway: the certificates are read once.
#[derive(Clone)]
pub struct Tls(native_tls::TlsConnector);

impl Tls {
    /// Trusts the system's certificates, or only those in `ca_file` (PEM, one or more) if given.
    ///
    /// # Errors
    /// Fails with [`ConnectError::Tls`] if the file cannot be read or holds no certificate.
    pub fn new(ca_file: Option<&Path>) -> Result<Self, ConnectError> {
        let tls = |error: native_tls::Error| ConnectError::Tls(error.to_string());
        let mut builder = native_tls::TlsConnector::builder();
        if let Some(path) = ca_file {
            let unreadable = |error: io::Error| ConnectError::Tls(format!("{}: {error}", path.display()));
            let pem = std::fs::read(path).map_err(unreadable)?;
            let certificates = native_tls::Certificate::stack_from_pem(&pem).map_err(tls)?;
            if certificates.is_empty() {
                return Err(ConnectError::Tls(format!("{}: no certificate in it", path.display())));
            }
            builder.disable_built_in_roots(true);
            for certificate in certificates {
                builder.add_root_certificate(certificate);
            }
        }
        builder.build().map(Self).map_err(tls)
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tls(…)")
    }
}

/// Why a connection could not be made.
#[derive(Debug)]
pub enum ConnectError {
    /// The URL isn't http, https, ws or wss, or names no host.
    BadUrl,
    /// The host's name has no address, or none accepts a connection.
    Unreachable(io::Error),
    /// The deadline passed.
    Timeout,
    /// TLS failed, usually for an untrusted certificate. The text comes from OpenSSL.
    Tls(String),
    /// The answer to the upgrade was this HTTP status instead of 101.
    ///
    /// 404: there is no such terminal (any more). `rest::means_not_running`
    /// tells what others mean.
    Status(u16),
    /// The answer was not HTTP, or no WebSocket's.
    Protocol(String),
}

impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BadUrl => f.write_str("the address of the terminal is no URL"),
            Self::Unreachable(error) => write!(f, "the server cannot be reached: {error}"),
            Self::Timeout => f.write_str("the server did not answer in time"),
            Self::Tls(reason) => write!(f, "TLS: {}", reason.escape_debug()),
            Self::Status(status) => write!(f, "the terminal could not be attached (HTTP {status})"),
            Self::Protocol(reason) => {
                write!(f, "the server does not speak WebSocket: {}", reason.escape_debug())
            }
        }
    }
}

impl std::error::Error for ConnectError {}

/// How a connection ended.
#[derive(Debug)]
pub enum Closed {
    /// The server closed it in good order, with this code if it gave one (RFC 6455, 7.4.1).
    ///
    /// After a `disconnect` message this is the normal end.
    ByServer(Option<u16>),
    /// The network, the proxy or the server went away: worth reconnecting.
    Lost(io::Error),
    /// The server broke the protocol, or sent a message over `MAX_MESSAGE`.
    Protocol(String),
}

impl fmt::Display for Closed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ByServer(Some(code)) => {
                write!(f, "the server closed the terminal's connection (code {code})")
            }
            Self::ByServer(None) => f.write_str("the server closed the terminal's connection"),
            Self::Lost(error) => write!(f, "the connection to the terminal was lost: {error}"),
            Self::Protocol(reason) => write!(f, "the terminal's connection broke: {}", reason.escape_debug()),
        }
    }
}

impl std::error::Error for Closed {}

/// Something received from the server.
#[derive(Debug)]
pub enum Event {
    /// A text message, for [`crate::terminado::codec::decode`].
    ///
    /// It shares its memory with the socket's buffer: drop it before reading on, and the buffer is
    /// used again.
    Text(Utf8Bytes),
    /// The answer to the [`TerminalSocket::send_ping`] with that number.
    Pong(u64),
}

/// The queue of what waits to be sent has no room for the message.
///
/// Nothing of it was taken, and the connection is fine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Full;

/// The WebSocket of one terminal.
#[derive(Debug)]
pub struct TerminalSocket {
    websocket: WebSocket<Stream>,
    /// True if a message came that isn't answered with a pong yet.
    owes_pong: bool,
    /// When the pongs sent so far would be used up at one each [`PONG_GAP`].
    pongs_until: Instant,
    unflushed: bool,
}

impl TerminalSocket {
    /// Connects to the WebSocket at `url` (http, https, ws or wss) within `timeout`.
    ///
    /// The time covers the TLS handshake and the upgrade; only the resolver keeps its own. `tls` is
    /// needed for https and wss. Redirects are not followed: the token goes to this host and no
    /// other.
    ///
    /// # Errors
    /// Fails if there is no connection in time, or if the server doesn't upgrade it to a WebSocket.
    pub fn connect(
        url: &str,
        token: &Token,
        tls: Option<&Tls>,
        timeout: Duration,
    ) -> Result<Self, ConnectError> {
        let deadline = Instant::now() + timeout;
        let (secure, uri) = websocket_uri(url)?;
        let stream = open(&uri, secure, tls, deadline)?;
        let mut request = uri.into_client_request().map_err(|_| ConnectError::BadUrl)?;
        let mut authorization =
            HeaderValue::try_from(format!("token {}", token.expose())).map_err(|_| ConnectError::BadUrl)?;
        authorization.set_sensitive(true);
        request.headers_mut().insert(AUTHORIZATION, authorization);
        let config = WebSocketConfig::default()
            .read_buffer_size(READ_BUFFER)
            .write_buffer_size(WRITE_BUFFER)
            .max_write_buffer_size(MAX_UNSENT)
            .max_message_size(Some(MAX_MESSAGE))
            .max_frame_size(Some(MAX_MESSAGE));
        let (mut websocket, _) =
            client_with_config(request, stream, Some(config)).map_err(|error| match error {
                HandshakeError::Interrupted(_) => ConnectError::Timeout,
                HandshakeError::Failure(Error::Http(response)) => {
                    ConnectError::Status(response.status().as_u16())
                }
                HandshakeError::Failure(Error::Io(error)) if error.kind() == io::ErrorKind::TimedOut => {
                    ConnectError::Timeout
                }
                HandshakeError::Failure(Error::Io(error)) => ConnectError::Unreachable(error),
                HandshakeError::Failure(error) => ConnectError::Protocol(error.to_string()),
            })?;
        let tcp = websocket.get_mut().deadline_stream();
        tcp.deadline = None;
        tcp.tcp.set_nonblocking(true).map_err(ConnectError::Unreachable)?;
        let mut socket = Self { websocket, owes_pong: true, pongs_until: Instant::now(), unflushed: false };
        // The answer to the upgrade waits for its acknowledgement like any message (see `read`),
        // and the server's first message waits behind it. If the connection is already gone, the
        // first read sees it.
        let _ = socket.flush();
        Ok(socket)
    }

    /// Accepts only messages of at most `bytes` from now on, for terminals that repeat less than
    /// others.
    pub fn set_longest_message(&mut self, bytes: usize) {
        self.websocket.set_config(|config| {
            config.max_message_size = Some(bytes);
            config.max_frame_size = Some(bytes);
        });
    }

    /// Returns the next event, or `None` if there is none now.
    ///
    /// Messages are answered with an unsolicited pong (RFC 6455, 5.5.3, allows it): one for all
    /// that were there, and in a flood at most one each 2 ms. It carries the acknowledgement that a
    /// server without `TCP_NODELAY` waits for before it sends its next small message, which would
    /// else come 40 ms later. The server's own pings are answered as well.
    ///
    /// # Errors
    /// Fails when the connection has ended. Don't call it again then.
    pub fn read(&mut self) -> Result<Option<Event>, Closed> {
        loop {
            match self.websocket.read() {
                Ok(Message::Text(text)) => {
                    self.owes_pong = true;
                    return Ok(Some(Event::Text(text)));
                }
                Ok(Message::Pong(payload)) => {
                    // Other payloads aren't ours.
                    if let Ok(number) = <[u8; 8]>::try_from(payload.as_ref()) {
                        return Ok(Some(Event::Pong(u64::from_be_bytes(number))));
                    }
                }
                Ok(Message::Ping(_)) => self.unflushed = true,
                Ok(Message::Close(frame)) => {
                    let _ = self.websocket.flush();
                    return Err(Closed::ByServer(frame.map(|frame| frame.code.into())));
                }
                Ok(Message::Binary(_) | Message::Frame(_)) => {}
                Err(Error::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.flush()?;
                    return Ok(None);
                }
                Err(error) => return Err(closed(error)),
            }
        }
    }

    /// Queues a text message; [`flush`](Self::flush) sends it.
    ///
    /// # Errors
    /// Returns `Ok(Err(Full))` if the queue would exceed `MAX_UNSENT`; fails with [`Closed`] when
    /// the connection has ended.
    pub fn send_text(&mut self, text: impl Into<Utf8Bytes>) -> Result<Result<(), Full>, Closed> {
        self.queue(Message::Text(text.into()))
    }

    /// Queues a ping; [`Event::Pong`] tells that the server has taken every message queued before
    /// it.
    ///
    /// # Errors
    /// Same as [`send_text`](Self::send_text).
    pub fn send_ping(&mut self, number: u64) -> Result<Result<(), Full>, Closed> {
        self.queue(Message::Ping(number.to_be_bytes().to_vec().into()))
    }

    /// True while something waits to be sent: poll for output, too.
    #[must_use]
    pub fn wants_write(&self) -> bool {
        self.unflushed
    }

    /// Returns when [`flush`](Self::flush) must be called because a pong is owed: within 2 ms.
    #[must_use]
    pub fn due(&self) -> Option<Instant> {
        self.owes_pong.then(|| self.pongs_until.checked_sub(PONG_BURST).unwrap_or(self.pongs_until))
    }

    /// Sends what is queued, as far as the network takes it.
    ///
    /// # Errors
    /// Fails when the connection has ended.
    pub fn flush(&mut self) -> Result<(), Closed> {
        let now = Instant::now();
        if self.due().is_some_and(|due| due <= now) {
            // As a frame of its own: `Message::Pong` would replace the answer to a ping of the
            // server's.
            if self.queue(Message::Frame(Frame::pong(Vec::new())))?.is_ok() {
                self.owes_pong = false;
                self.pongs_until = self.pongs_until.max(now) + PONG_GAP;
            }
        }
        if !self.unflushed {
            return Ok(());
        }
        match self.websocket.flush() {
            Ok(()) => self.unflushed = false,
            Err(Error::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(closed(error)),
        }
        Ok(())
    }

    /// Says goodbye, without waiting for an answer. The terminal goes on; a REST call deletes it.
    pub fn close(mut self) {
        let _ = self.websocket.close(None);
    }

    fn queue(&mut self, message: Message) -> Result<Result<(), Full>, Closed> {
        match self.websocket.write(message) {
            Ok(()) => {}
            // The frame is in the buffer; only the buffer couldn't be written yet.
            Err(Error::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(Error::WriteBufferFull(_)) => {
                self.unflushed = true;
                return Ok(Err(Full));
            }
            Err(error) => return Err(closed(error)),
        }
        self.unflushed = true;
        Ok(Ok(()))
    }
}

impl AsFd for TerminalSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self.websocket.get_ref() {
            Stream::Plain(stream) => stream.tcp.as_fd(),
            Stream::Tls(stream) => stream.get_ref().tcp.as_fd(),
        }
    }
}

fn closed(error: Error) -> Closed {
    match error {
        Error::Io(error) => Closed::Lost(error),
        Error::ConnectionClosed | Error::AlreadyClosed => Closed::ByServer(None),
        Error::Protocol(tungstenite::error::ProtocolError::ResetWithoutClosingHandshake) => {
            Closed::Lost(io::ErrorKind::ConnectionReset.into())
        }
        error => Closed::Protocol(error.to_string()),
    }
}

/// Returns whether `url` needs TLS, and the URL with a WebSocket's scheme.
fn websocket_uri(url: &str) -> Result<(bool, Uri), ConnectError> {
    let (scheme, rest) = url.split_once("://").ok_or(ConnectError::BadUrl)?;
    let secure = match scheme {
        "http" | "ws" => false,
        "https" | "wss" => true,
        _ => return Err(ConnectError::BadUrl),
    };
    let uri: Uri = format!("{}://{rest}", if secure { "wss" } else { "ws" })
        .parse()
        .map_err(|_| ConnectError::BadUrl)?;
    if uri.host().is_none_or(str::is_empty) { Err(ConnectError::BadUrl) } else { Ok((secure, uri)) }
}

/// Connects to the server at `url` for requests other than a WebSocket's, with TLS if it is https.
///
/// All calls of the stream end at `deadline`.
///
/// # Errors
/// Fails if the URL cannot be used, or there is no connection in time.
pub fn connect_stream(url: &str, tls: Option<&Tls>, deadline: Instant) -> Result<Stream, ConnectError> {
    let (secure, uri) = websocket_uri(url)?;
    open(&uri, secure, tls, deadline)
}

fn open(uri: &Uri, secure: bool, tls: Option<&Tls>, deadline: Instant) -> Result<Stream, ConnectError> {
    let host = uri.host().unwrap_or_default().trim_matches(['[', ']']).to_owned();
    let port = uri.port_u16().unwrap_or(if secure { 443 } else { 80 });
    let tcp = DeadlineStream { tcp: connect_tcp(&host, port, deadline)?, deadline: Some(deadline) };
    if !secure {
        return Ok(Stream::Plain(tcp));
    }
    let Some(tls) = tls else { return Err(ConnectError::Tls("not set up".to_owned())) };
    Ok(Stream::Tls(Box::new(handshake_tls(&tls.0, &host, tcp)?)))
}

fn connect_tcp(host: &str, port: u16, deadline: Instant) -> Result<TcpStream, ConnectError> {
    let mut failure = io::Error::from(io::ErrorKind::NotFound);
    for address in (host, port).to_socket_addrs().map_err(ConnectError::Unreachable)? {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(ConnectError::Timeout);
        }
        match TcpStream::connect_timeout(&address, left) {
            Ok(tcp) => {
                tcp.set_nodelay(true).map_err(ConnectError::Unreachable)?;
                return Ok(tcp);
            }
            Err(error) if error.kind() == io::ErrorKind::TimedOut => return Err(ConnectError::Timeout),
            Err(error) => failure = error,
        }
    }
    Err(ConnectError::Unreachable(failure))
}

fn handshake_tls(
    connector: &native_tls::TlsConnector,
    host: &str,
    tcp: DeadlineStream,
) -> Result<native_tls::TlsStream<DeadlineStream>, ConnectError> {
    let deadline = tcp.deadline;
    connector.connect(host, tcp).map_err(|error| match error {
        native_tls::HandshakeError::Failure(_) if deadline.is_some_and(|at| Instant::now() >= at) => {
            ConnectError::Timeout
        }
        native_tls::HandshakeError::Failure(error) => ConnectError::Tls(error.to_string()),
        native_tls::HandshakeError::WouldBlock(_) => ConnectError::Timeout,
    })
}

/// A TCP stream whose blocking calls end at a deadline, however slowly the other side drips.
#[derive(Debug)]
pub struct DeadlineStream {
    tcp: TcpStream,
    deadline: Option<Instant>,
}

impl DeadlineStream {
    fn left(&self) -> io::Result<Option<Duration>> {
        let Some(deadline) = self.deadline else { return Ok(None) };
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() { Err(io::ErrorKind::TimedOut.into()) } else { Ok(Some(left)) }
    }

    /// Turns "would block", which a socket's time limit shows as, into "timed out".
    ///
    /// The handshakes would take it for something else.
    fn timed_out(&self, error: io::Error) -> io::Error {
        if self.deadline.is_some() && error.kind() == io::ErrorKind::WouldBlock {
            io::ErrorKind::TimedOut.into()
        } else {
            error
        }
    }
}

impl Read for DeadlineStream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if let Some(left) = self.left()? {
            self.tcp.set_read_timeout(Some(left))?;
        }
        self.tcp.read(buffer).map_err(|error| self.timed_out(error))
    }
}

impl Write for DeadlineStream {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        if let Some(left) = self.left()? {
            self.tcp.set_write_timeout(Some(left))?;
        }
        self.tcp.write(buffer).map_err(|error| self.timed_out(error))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.tcp.flush()
    }
}

/// A connection to a server, with or without TLS.
#[derive(Debug)]
pub enum Stream {
    Plain(DeadlineStream),
    Tls(Box<native_tls::TlsStream<DeadlineStream>>),
}

impl Stream {
    fn deadline_stream(&mut self) -> &mut DeadlineStream {
        match self {
            Self::Plain(stream) => stream,
            Self::Tls(stream) => stream.get_mut(),
        }
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.read(buffer),
            Self::Tls(stream) => stream.read(buffer),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.write(buffer),
            Self::Tls(stream) => stream.write(buffer),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(stream) => stream.flush(),
            Self::Tls(stream) => stream.flush(),
        }
    }
}

#[cfg(test)]
#[path = "socket_tests.rs"]
mod tests;
