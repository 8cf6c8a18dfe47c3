//! One HTTP request to the hub: limited in time and size, never redirected.

use super::error::{Fault, HttpError};
use super::text::printable;
use common::HubUrl;
use common::names::quote;
use host::config::Config;
use host::secret::Token;
use reqwest::blocking::{Client, Response};
use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderValue, LOCATION, RETRY_AFTER};
use reqwest::{Certificate, Method, Url, redirect};
use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// Longest body of a successful answer, in bytes. A user model with hundreds of servers has about
/// 200 KB.
pub(crate) const MAX_BODY: usize = 1 << 20;
/// How many bytes of an error's body are kept.
pub(crate) const MAX_ERROR_BODY: usize = 64 << 10;
/// Time limit for one TCP connection and TLS handshake.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Longest time limit of a request: larger values could overflow the clock's arithmetic.
const MAX_TIMEOUT: Duration = Duration::from_secs(24 * 3600);
/// Longest CA file, in bytes (Debian's bundle of all public CAs has 220 KB).
const MAX_CA_FILE: u64 = 4 << 20;
/// `User-Agent`, by which the hub's administrator can tell our requests from others in the proxy's
/// log.
const USER_AGENT: &str = concat!("jupyterhub-openssh/", env!("CARGO_PKG_VERSION"));

/// An HTTP client for one hub. Clones share its connections.
///
/// Each client has a thread with an event loop, so make one after the last `fork`, and drop it when
/// no request is expected for long. Making one takes about 1 ms
/// if the system's trusted certificates are looked up by their hash in `/etc/ssl/certs`; some 50 ms
/// and 1.6 MB more if OpenSSL parses the file of all of them,
/// which native-tls makes it do unless the process was started with `SSL_CERT_FILE=/dev/null`.
#[derive(Clone, Debug)]
pub struct Http {
    inner: Arc<Inner>,
    base: Url,
    /// The base URL is not the hub's own; errors name it.
    elsewhere: bool,
}

#[derive(Debug)]
struct Inner {
    /// `None` only while being dropped.
    client: Option<Client>,
    /// A request timed out, so a name lookup may still hang in a thread of the event loop.
    stuck: AtomicBool,
}

impl Drop for Inner {
    /// Dropping the client joins its thread, which waits for a name lookup in progress. That can
    /// take the resolver's 30 s and more, so another thread does it.
    fn drop(&mut self) {
        if let (Some(client), true) = (self.client.take(), *self.stuck.get_mut()) {
            // If no thread can be started, the closure and the client in it are dropped here after
            // all.
            let _ = thread::Builder::new().spawn(move || drop(client));
        }
    }
}

/// A request, without the token.
#[derive(Debug)]
pub struct Call<'a> {
    /// The HTTP method.
    pub method: Method,
    /// The path below the base URL as segments; they are percent-encoded here, as JupyterHub does
    /// it.
    pub path: &'a [&'a str],
    /// A JSON body.
    pub body: Option<Vec<u8>>,
    /// Time limit for everything, from connecting to the last byte of the answer.
    pub timeout: Duration,
}

impl<'a> Call<'a> {
    /// Makes a GET request.
    #[must_use]
    pub fn get(path: &'a [&'a str], timeout: Duration) -> Self {
        Self { method: Method::GET, path, body: None, timeout }
    }

    /// Makes a POST request without a body.
    #[must_use]
    pub fn post(path: &'a [&'a str], timeout: Duration) -> Self {
        Self { method: Method::POST, path, body: None, timeout }
    }
}

/// An answer with any status except a redirect's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// The HTTP status.
    pub status: u16,
    /// `Retry-After` as written.
    pub retry_after: Option<String>,
    /// The body; of an error, its first 64 KiB.
    pub body: Vec<u8>,
}

impl Http {
    /// Makes a client for the hub at `base` (`https://hub.example.org/base/`, with the slash).
    ///
    /// If `ca_file` is given, only its PEM certificates are trusted. The client connects directly,
    /// whatever proxy the environment names.
    ///
    /// # Errors
    /// [`Fault::Setup`]: the URL or the CA file is not usable.
    pub fn new(base: &str, ca_file: Option<&Path>) -> Result<Self, HttpError> {
        let failed = |what: &str, why: String| HttpError { tried: what.to_owned(), fault: Fault::Setup(why) };
        let base = Url::parse(base).map_err(|why| failed("hub.url", why.to_string()))?;
        if !matches!(base.scheme(), "http" | "https") || !base.path().ends_with('/') {
            return Err(failed("hub.url", "neither http://…/ nor https://…/".to_owned()));
        }
        let mut builder = Client::builder()
            .user_agent(USER_AGENT)
            .redirect(redirect::Policy::none())
            .referer(false)
            .no_proxy()
            .connect_timeout(CONNECT_TIMEOUT)
            // The next request comes at once or much later.
            .pool_idle_timeout(Duration::from_secs(15))
            .pool_max_idle_per_host(2);
        if let Some(path) = ca_file {
            let certificates = read_ca(path).map_err(|why| {
                failed(&format!("the CA file {}", printable(&path.to_string_lossy(), 200)), why)
            })?;
            builder = builder.tls_certs_only(certificates);
        }
        let client = builder
            .build()
            .map_err(|why| HttpError::from_reqwest("the HTTP client", CONNECT_TIMEOUT, &why))?;
        let inner = Inner { client: Some(client), stuck: AtomicBool::new(false) };
        Ok(Self { inner: Arc::new(inner), base, elsewhere: false })
    }

    /// Returns the same client for another host of the hub: see [`HubUrl::at_host_of`].
    ///
    /// # Errors
    /// [`Fault::Setup`]: the address is not usable.
    pub fn at(&self, hub: &HubUrl) -> Result<Self, HttpError> {
        let base = Url::parse(&format!("{}/", hub.base())).map_err(|why| HttpError {
            tried: "the server's address".to_owned(),
            fault: Fault::Setup(why.to_string()),
        })?;
        let elsewhere = base != self.base;
        Ok(Self { inner: Arc::clone(&self.inner), base, elsewhere })
    }

    /// Returns the base URL.
    #[must_use]
    pub fn base(&self) -> &Url {
        &self.base
    }

    /// Returns the address where users make tokens: `https://hub.example.org/base/hub/token`.
    #[must_use]
    pub fn token_page(&self) -> String {
        format!("{}hub/token", self.base)
    }

    /// Sends a request and reads the whole answer.
    ///
    /// # Errors
    /// No usable answer: [`Fault`] says why. A status like 403 or 500 is an answer, not an error; a
    /// redirect (3xx) is an error.
    pub fn call(&self, token: &Token, call: Call<'_>) -> Result<Reply, HttpError> {
        let mut stream = self.open(token, call)?;
        let limit = if stream.is_success() { MAX_BODY } else { MAX_ERROR_BODY };
        let mut body = Vec::new();
        let mut chunk = vec![0; 16 << 10];
        loop {
            let length = stream.read(&mut chunk)?;
            let Some(bytes) = chunk.get(..length).filter(|bytes| !bytes.is_empty()) else { break };
            let room = limit - body.len();
            body.extend_from_slice(bytes.get(..room).unwrap_or(bytes));
            if length > room {
                if stream.is_success() {
                    return Err(stream.failed(Fault::TooLarge(limit)));
                }
                break;
            }
        }
        Ok(Reply { status: stream.status, retry_after: stream.retry_after, body })
    }

    /// Sends a request and returns as soon as the head of the answer has arrived.
    ///
    /// # Errors
    /// The same as for [`Self::call`].
    pub(crate) fn open(&self, token: &Token, call: Call<'_>) -> Result<Stream, HttpError> {
        let Call { method, path, body, timeout } = call;
        let timeout = timeout.min(MAX_TIMEOUT);
        let began = Instant::now();
        let deadline = began + timeout;
        let Some(url) = self.url(path) else {
            return Err(HttpError {
                tried: method.to_string(),
                fault: Fault::Setup("no such path".to_owned()),
            });
        };
        let host = if self.elsewhere { url.origin().ascii_serialization() } else { String::new() };
        let tried = format!("{method} {host}{}", printable(url.path(), 300));
        let Some(client) = &self.inner.client else {
            return Err(HttpError { tried, fault: Fault::Setup("the client is closed".to_owned()) });
        };
        // A "sensitive" header: hyper and reqwest leave it out of their debug output.
        let mut header = HeaderValue::try_from(format!("token {}", token.expose())).map_err(|_| {
            HttpError { tried: tried.clone(), fault: Fault::Setup("the token is no header text".to_owned()) }
        })?;
        header.set_sensitive(true);
        // The timeout of the request, unlike the client's, includes the body: a hub that sends one
        // byte per second gets no more time.
        let is_post = method == Method::POST;
        let mut request = client
            .request(method, url)
            .header(AUTHORIZATION, header)
            .header(ACCEPT, HeaderValue::from_static("application/json, text/event-stream"))
            .timeout(timeout);
        match body {
            Some(body) => {
                request =
                    request.header(CONTENT_TYPE, HeaderValue::from_static("application/json")).body(body);
            }
            // Sends "Content-Length: 0": some proxies refuse a POST without it (411).
            None if is_post => request = request.body(Vec::new()),
            None => {}
        }
        let response = request.send().map_err(|why| {
            let error = HttpError::from_reqwest(&tried, began.elapsed(), &why);
            self.note(&error);
            error
        })?;
        let status = response.status().as_u16();
        if matches!(status, 300..=303 | 305..=308) {
            let target = redirect_target(&response);
            return Err(HttpError { tried, fault: Fault::Redirect { status, target } });
        }
        let retry_after =
            response.headers().get(RETRY_AFTER).and_then(|v| v.to_str().ok()).map(|v| printable(v, 64));
        Ok(Stream { status, retry_after, response, tried, began, deadline, http: self.clone() })
    }

    /// Returns the URL of a path below the base; `None` if a segment cannot be represented in a
    /// URL.
    #[must_use]
    pub(crate) fn url(&self, path: &[&str]) -> Option<Url> {
        // The URL standard treats `.` and `..`, even written as %2e, as steps through the tree.
        let is_step = |segment: &str| {
            matches!(segment.to_ascii_lowercase().replace("%2e", ".").as_str(), "" | "." | "..")
        };
        if path.iter().any(|segment| is_step(segment)) {
            return None;
        }
        // `path_segments_mut` would leave `+` and others unencoded, but a user's server compares
        // the path with JupyterHub's spelling, byte for byte.
        let path: Vec<String> = path.iter().map(|segment| quote(segment)).collect();
        self.base.join(&path.join("/")).ok()
    }

    fn note(&self, error: &HttpError) {
        if matches!(error.fault, Fault::Timeout(_)) {
            self.inner.stuck.store(true, Ordering::Relaxed);
        }
    }
}

/// An answer whose body is still being received.
#[derive(Debug)]
pub(crate) struct Stream {
    /// The HTTP status.
    pub status: u16,
    /// `Retry-After` as written.
    pub retry_after: Option<String>,
    response: Response,
    tried: String,
    began: Instant,
    deadline: Instant,
    http: Http,
}

impl Stream {
    /// True if the status is 2xx.
    #[must_use]
    pub(crate) fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// Reads part of the body; 0 at its end.
    ///
    /// # Errors
    /// The request's time limit has passed, or the connection broke.
    pub(crate) fn read(&mut self, buffer: &mut [u8]) -> Result<usize, HttpError> {
        if Instant::now() >= self.deadline {
            return Err(self.failed(Fault::Timeout(self.began.elapsed())));
        }
        self.response.read(buffer).map_err(|why| {
            let error = HttpError::from_read(&self.tried, self.began.elapsed(), &why);
            self.http.note(&error);
            error
        })
    }

    fn failed(&self, fault: Fault) -> HttpError {
        HttpError { tried: self.tried.clone(), fault }
    }
}

/// Returns a redirect's target without its query, which could contain anything.
fn redirect_target(response: &Response) -> String {
    let Some(location) = response.headers().get(LOCATION).and_then(|value| value.to_str().ok()) else {
        return "nowhere".to_owned();
    };
    match response.url().join(location) {
        Ok(url) => printable(&format!("{}{}", url.origin().ascii_serialization(), url.path()), 200),
        Err(_) => "no valid address".to_owned(),
    }
}

fn read_ca(path: &Path) -> Result<Vec<Certificate>, String> {
    let mut pem = Vec::new();
    let file = File::open(path).map_err(|why| why.to_string())?;
    file.take(MAX_CA_FILE).read_to_end(&mut pem).map_err(|why| why.to_string())?;
    match Certificate::from_pem_bundle(&pem) {
        Ok(certificates) if certificates.is_empty() => Err("no PEM certificate in it".to_owned()),
        Ok(certificates) => Ok(certificates),
        Err(why) => Err(printable(&format!("not PEM: {why}"), 200)),
    }
}

/// Makes a client with the configured CA file.
///
/// # Errors
/// The CA file is not usable.
pub fn new_http(config: &Config, hub: &HubUrl) -> Result<Http, HttpError> {
    let settings = &config.settings.hub;
    Http::new(&format!("{}/", hub.base()), settings.ca_file.as_deref())
}

#[cfg(test)]
#[path = "http_tests.rs"]
mod tests;
