//! One HTTP call to the hub: bounded in time and size, never redirected.

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

/// Longest body of a successful answer, in bytes. A user model with hundreds of servers has some 200 KB.
pub(crate) const MAX_BODY: usize = 1 << 20;
/// How much of an error's body is kept, in bytes; the rest is cut off.
pub(crate) const MAX_ERROR_BODY: usize = 64 << 10;
/// Time for one TCP connection and TLS handshake.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Longest time for one call; more would overflow the clock's arithmetic some day.
const MAX_TIMEOUT: Duration = Duration::from_secs(24 * 3600);
/// Longest CA file, in bytes (Debian's bundle of all public ones has 220 KB).
const MAX_CA_FILE: u64 = 4 << 20;
/// `User-Agent`, so that the hub's administrator can tell our calls from others in the proxy's log.
const USER_AGENT: &str = concat!("jupyterhub-openssh/", env!("CARGO_PKG_VERSION"));

/// A client for one hub. Clones share its connections.
///
/// Each has a thread with an event loop in it, so make one after the last `fork`, and drop it when nothing
/// is to be asked for long. Making one takes about 1 ms when the system's trusted certificates are looked up
/// by their hash in `/etc/ssl/certs`, and some 50 ms and 1.6 MB of memory more when OpenSSL's file of all of them
/// is parsed, which native-tls does unless the process was started with `SSL_CERT_FILE=/dev/null`.
#[derive(Clone, Debug)]
pub struct Http {
    inner: Arc<Inner>,
    base: Url,
    /// The base is not the hub's own: errors name it.
    elsewhere: bool,
}

#[derive(Debug)]
struct Inner {
    /// Taken only by `drop`.
    client: Option<Client>,
    /// A call timed out, so a name lookup may still hang in a thread of the event loop.
    stuck: AtomicBool,
}

impl Drop for Inner {
    /// Dropping the client joins its thread, and that waits for a name lookup under way, which can take the
    /// resolver's 30 s and more: nobody should have to wait for it.
    fn drop(&mut self) {
        if let (Some(client), true) = (self.client.take(), *self.stuck.get_mut()) {
            // If no thread can be started the closure, and with it the client, is dropped here after all.
            let _ = thread::Builder::new().spawn(move || drop(client));
        }
    }
}

/// What was asked, apart from the token.
#[derive(Debug)]
pub struct Call<'a> {
    /// The HTTP method.
    pub method: Method,
    /// Path below the base URL, one segment each; they are percent-encoded here, as JupyterHub does it.
    pub path: &'a [&'a str],
    /// A JSON body.
    pub body: Option<Vec<u8>>,
    /// Time for everything, from the connection to the last byte of the answer.
    pub timeout: Duration,
}

impl<'a> Call<'a> {
    /// A GET.
    #[must_use]
    pub fn get(path: &'a [&'a str], timeout: Duration) -> Self {
        Self { method: Method::GET, path, body: None, timeout }
    }

    /// A POST without a body.
    #[must_use]
    pub fn post(path: &'a [&'a str], timeout: Duration) -> Self {
        Self { method: Method::POST, path, body: None, timeout }
    }
}

/// An answer, whatever its status, except redirects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// The HTTP status.
    pub status: u16,
    /// `Retry-After` as written.
    pub retry_after: Option<String>,
    /// The body; of an error at most [`MAX_ERROR_BODY`] bytes of it.
    pub body: Vec<u8>,
}

impl Http {
    /// A client for the hub at `base` (`https://hub.example.org/base/`, with the slash).
    ///
    /// `ca_file` holds PEM certificates, which are then the only ones trusted. The connection is
    /// direct, whatever the environment says.
    ///
    /// # Errors
    /// [`Fault::Setup`] says which of the two is not usable.
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
            // The next call comes at once or much later.
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

    /// The same client, for another host of the hub: see [`HubUrl::at_host_of`].
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

    /// The base URL.
    #[must_use]
    pub fn base(&self) -> &Url {
        &self.base
    }

    /// Where users make tokens: `https://hub.example.org/base/hub/token`.
    #[must_use]
    pub fn token_page(&self) -> String {
        format!("{}hub/token", self.base)
    }

    /// Makes a call and reads the whole answer.
    ///
    /// # Errors
    /// See [`Fault`]. A status like 403 or 500 is an answer, not an error; 3xx is one.
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

    /// Makes a call and returns as soon as the head of the answer is there.
    ///
    /// # Errors
    /// As [`Self::call`].
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
        // "Sensitive": hyper and reqwest leave it out of their debug output.
        let mut header = HeaderValue::try_from(format!("token {}", token.expose())).map_err(|_| {
            HttpError { tried: tried.clone(), fault: Fault::Setup("the token is no header text".to_owned()) }
        })?;
        header.set_sensitive(true);
        // The timeout of the request, unlike that of the client, covers the body as a whole: a hub that
        // sends one byte a second doesn't get more time by it.
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
            // Says "Content-Length: 0": some proxies refuse a POST without it (411).
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

    /// The URL of a path below the base; nothing for segments that a URL could not hold as they are.
    #[must_use]
    pub(crate) fn url(&self, path: &[&str]) -> Option<Url> {
        // The URL standard takes `.` and `..`, also when written %2e, for steps through the tree.
        let is_step = |segment: &str| {
            matches!(segment.to_ascii_lowercase().replace("%2e", ".").as_str(), "" | "." | "..")
        };
        if path.iter().any(|segment| is_step(segment)) {
            return None;
        }
        // Not by `path_segments_mut`, which leaves `+` and others as they are: a user's server compares the path
        // with what JupyterHub wrote, byte for byte.
        let path: Vec<String> = path.iter().map(|segment| quote(segment)).collect();
        self.base.join(&path.join("/")).ok()
    }

    fn note(&self, error: &HttpError) {
        if matches!(error.fault, Fault::Timeout(_)) {
            self.inner.stuck.store(true, Ordering::Relaxed);
        }
    }
}

/// An answer whose body is still coming in.
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
    /// Whether the status is 2xx.
    #[must_use]
    pub(crate) fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// Reads some of the body; 0 is its end.
    ///
    /// # Errors
    /// The call's time is over, or the connection broke.
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

/// Where a redirect points to, without its query, which could hold anything.
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

/// A client as the configuration wants it.
///
/// # Errors
/// Its CA file is not usable.
pub fn new_http(config: &Config, hub: &HubUrl) -> Result<Http, HttpError> {
    let settings = &config.settings.hub;
    Http::new(&format!("{}/", hub.base()), settings.ca_file.as_deref())
}

#[cfg(test)]
#[path = "http_tests.rs"]
mod tests;
