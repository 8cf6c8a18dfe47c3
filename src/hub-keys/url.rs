//! Asks the source `url`: a web page with a user's keys, as git forges publish them.
//!
//! The request carries no credentials: the page is public.

use super::lines::{self, Found, MAX_TEXT};
use hub::http::CONNECT_TIMEOUT;
use hub::text::printable;
use reqwest::blocking::{Client, Response};
use reqwest::header::{ACCEPT, CONTENT_TYPE, HeaderValue, LOCATION};
use reqwest::redirect::Policy;
use std::error::Error;
use std::io::Read;
use std::time::{Duration, Instant};

/// Longest part of a foreign text in an error, in characters.
const MAX_DETAIL: usize = 200;

/// Requests the page at `url` within `timeout`. A page that doesn't exist has no keys.
///
/// # Errors
/// The page doesn't say which keys the user has: why, for the log.
pub fn fetch_keys(url: &str, timeout: Duration) -> Result<Found, String> {
    let client = Client::builder()
        .user_agent(concat!("jupyterhub-openssh/", env!("CARGO_PKG_VERSION")))
        .redirect(Policy::none())
        .referer(false)
        .no_proxy()
        .connect_timeout(CONNECT_TIMEOUT)
        .build()
        .map_err(|why| cause(&why))?;
    let text = get(&client, url, timeout).map_err(|why| format!("GET {}: {why}", printable(url, MAX_DETAIL)));
    // Dropping it would join its thread, in which a name lookup may hang; the process ends soon
    // anyway.
    std::mem::forget(client);
    Ok(lines::read(&text?))
}

/// Returns the page's text; empty if the page doesn't exist.
fn get(client: &Client, url: &str, timeout: Duration) -> Result<Vec<u8>, String> {
    let deadline = Instant::now() + timeout;
    let late = || format!("no complete answer within {:.1} s", timeout.as_secs_f32());
    let failed = |why: &reqwest::Error| if why.is_timeout() { late() } else { cause(why) };
    // This timeout includes the body: a server that sends one byte per second gets no more time.
    let request = client.get(url).header(ACCEPT, HeaderValue::from_static("text/plain, */*;q=0.1"));
    let mut response = request.timeout(timeout).send().map_err(|why| failed(&why))?;
    match response.status().as_u16() {
        200 => {}
        404 => return Ok(Vec::new()),
        status @ 300..=399 => {
            let target = header(&response, LOCATION.as_str());
            return Err(format!(
                "redirected ({status}) to {target}, which was not followed; correct keys.url"
            ));
        }
        status => return Err(format!("status {status}")),
    }
    // A page for people, such as a sign-in form, says nothing about keys.
    let kind = header(&response, CONTENT_TYPE.as_str());
    if kind.to_ascii_lowercase().starts_with("text/html") {
        return Err("the answer is a page for people (text/html); correct keys.url".to_owned());
    }
    let mut text = Vec::new();
    let mut chunk = vec![0; 16 << 10];
    loop {
        if Instant::now() >= deadline {
            return Err(late());
        }
        let length = response.read(&mut chunk).map_err(|why| {
            let inner = why.get_ref().and_then(|inner| inner.downcast_ref::<reqwest::Error>());
            inner.map_or_else(|| printable(&why.to_string(), MAX_DETAIL), failed)
        })?;
        match chunk.get(..length) {
            None | Some([]) => return Ok(text),
            Some(bytes) => text.extend_from_slice(bytes),
        }
        if text.len() > MAX_TEXT {
            return Err(format!("the answer is longer than {MAX_TEXT} bytes"));
        }
    }
}

/// Returns a header's value, cleaned for the log.
fn header(response: &Response, name: &str) -> String {
    let value = response.headers().get(name).and_then(|value| value.to_str().ok());
    value.map_or_else(|| "nowhere".to_owned(), |value| printable(value, MAX_DETAIL))
}

/// Describes the innermost cause of an error: reqwest itself says "error sending request". For TLS
/// the outer of two messages says more.
fn cause(error: &reqwest::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        text = inner.to_string();
        if inner.is::<native_tls::Error>() {
            text = format!("TLS failed: {text}");
            break;
        }
        source = inner.source();
    }
    printable(&text, MAX_DETAIL)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::lines::tests::keys;
    use super::*;
    use std::io::Write;
    use std::net::{TcpListener, TcpStream};
    use std::thread;

    const SECOND: Duration = Duration::from_secs(1);

    /// Serves one connection; the second value is the request's head.
    fn serve(script: impl FnOnce(&mut TcpStream) + Send + 'static) -> (String, thread::JoinHandle<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/alice.keys", listener.local_addr().unwrap());
        let served = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut head = Vec::new();
            let mut byte = [0];
            while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).unwrap_or(0) == 1 {
                head.push(byte[0]);
            }
            script(&mut stream);
            String::from_utf8(head).unwrap()
        });
        (url, served)
    }

    fn answer(status: u16, headers: &str, body: &str) -> String {
        let length = body.len();
        format!("HTTP/1.1 {status} X\r\nConnection: close\r\nContent-Length: {length}\r\n{headers}\r\n{body}")
    }

    fn ask_for(answer: String) -> Result<Found, String> {
        let (url, served) = serve(move |stream| {
            let _ = stream.write_all(answer.as_bytes());
        });
        let found = fetch_keys(&url, 5 * SECOND);
        let _ = served.join().unwrap();
        found
    }

    #[test]
    fn keys_are_read_and_nothing_secret_is_sent() {
        let body = format!("{}\n{}\n", keys()[0], keys()[1]);
        let text = answer(200, "Content-Type: text/plain\r\n", &body);
        let (url, served) = serve(move |stream| stream.write_all(text.as_bytes()).unwrap());
        assert_eq!(fetch_keys(&url, 5 * SECOND), Ok(Found { keys: keys().to_vec(), left_out: None }));
        let head = served.join().unwrap().to_ascii_lowercase();
        assert!(head.starts_with("get /alice.keys http/1.1\r\n"), "{head}");
        assert!(!head.contains("authorization") && !head.contains("cookie"), "{head}");
    }

    #[test]
    fn no_page_is_an_answer_and_anything_else_is_none() {
        assert_eq!(ask_for(answer(404, "", "<html>nothing here")), Ok(Found::default()));
        assert_eq!(ask_for(answer(200, "", "")), Ok(Found::default()));
        let key = &keys()[0];
        for (text, expected) in [
            (
                answer(302, "Location: https://git/users/sign_in\r\n", key),
                "redirected (302) to https://git/users/sign_in",
            ),
            (answer(301, "", key), "redirected (301) to nowhere"),
            (answer(200, "Content-Type: Text/HTML; charset=utf-8\r\n", key), "a page for people"),
            (answer(403, "", key), "status 403"),
            (answer(503, "", key), "status 503"),
            (answer(204, "", ""), "status 204"),
            (answer(200, "", &"x".repeat(MAX_TEXT + 1)), "longer than 262144 bytes"),
            (answer(200, "", key).replace("Content-Length: ", "Content-Length: 9"), "GET http://127.0.0.1:"),
            ("SSH-2.0-OpenSSH\r\n".to_owned(), "GET http://127.0.0.1:"),
            (String::new(), "GET http://127.0.0.1:"),
        ] {
            let error = ask_for(text).unwrap_err();
            assert!(error.contains(expected) && !error.contains("ssh-ed25519"), "{error}");
        }
    }

    #[test]
    fn a_slow_page_has_no_more_time() {
        let limit = Duration::from_millis(500);
        let began = Instant::now();
        let (url, _served) = serve(|stream| {
            let _ = stream.write_all(b"HTTP/1.1 200 X\r\nContent-Length: 9999\r\n\r\n");
            for _ in 0..40 {
                let _ = stream.write_all(b"#");
                thread::sleep(Duration::from_millis(50));
            }
        });
        let error = fetch_keys(&url, limit).unwrap_err();
        assert!(error.ends_with("no complete answer within 0.5 s"), "{error}");
        assert!(began.elapsed() >= limit && began.elapsed() < limit + SECOND, "{:?}", began.elapsed());
    }

    #[test]
    fn nobody_there_is_said_shortly() {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let error = fetch_keys(&format!("http://127.0.0.1:{port}/"), SECOND).unwrap_err();
        assert!(error.contains("refused"), "{error}");
    }
}
