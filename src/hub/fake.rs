//! The tests' HTTP server: a hub that misbehaves on demand, for faults that a real hub shows too
//! rarely.
#![allow(clippy::unwrap_used)]

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

/// Answers one request per connection as its script says, and records the requests.
pub struct Fake {
    pub base: String,
    requests: Arc<Mutex<Vec<String>>>,
}

/// Sends an answer, given the request's head and the number of earlier requests with the same first
/// line.
pub(crate) type Script = dyn Fn(&mut TcpStream, &str, usize) + Send + Sync;

impl Fake {
    pub fn new(script: impl Fn(&mut TcpStream, &str, usize) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let base = format!("http://{}/base/", listener.local_addr().unwrap());
        let requests = Arc::new(Mutex::new(Vec::<String>::new()));
        let (log, script): (_, Arc<Script>) = (Arc::clone(&requests), Arc::new(script));
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (mut stream, log, script) = (stream.unwrap(), Arc::clone(&log), Arc::clone(&script));
                thread::spawn(move || {
                    let head = read_head(&mut stream);
                    let line = head.lines().next().unwrap_or_default().to_owned();
                    let before = {
                        let mut log = log.lock().unwrap();
                        let before = log.iter().filter(|other| other.lines().next() == Some(&line)).count();
                        log.push(head.clone());
                        before
                    };
                    script(&mut stream, &head, before);
                });
            }
        });
        Self { base, requests }
    }

    /// Starts a server that always gives the same answer.
    pub fn saying(status: u16, headers: &str, body: &str) -> Self {
        let answer = answer(status, headers, body);
        Self::new(move |stream, _, _| send(stream, answer.as_bytes()))
    }

    /// Returns the heads of all requests so far.
    pub fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }

    /// Returns the first lines of all requests so far, without the protocol.
    pub fn lines(&self) -> Vec<String> {
        let first = |head: &String| head.lines().next().unwrap_or_default().replace(" HTTP/1.1", "");
        self.requests().iter().map(first).collect()
    }
}

/// Formats an answer; each line of `headers` ends with CR LF.
pub fn answer(status: u16, headers: &str, body: &str) -> String {
    format!(
        "HTTP/1.1 {status} X\r\nConnection: close\r\nContent-Length: {}\r\n{headers}\r\n{body}",
        body.len()
    )
}

/// Formats an error as the hub sends it.
pub fn hub_error(status: u16, headers: &str, message: &str) -> String {
    answer(status, headers, &serde_json::json!({"status": status, "message": message}).to_string())
}

/// Formats an event stream that ends after these events.
pub fn events(events: &[&str]) -> String {
    let body: String = events.iter().map(|event| format!("data: {event}\n\n")).collect();
    format!("HTTP/1.1 200 X\r\nConnection: close\r\nContent-Type: text/event-stream\r\n\r\n\n\n{body}")
}

pub fn send(stream: &mut TcpStream, bytes: &[u8]) {
    let _ = stream.write_all(bytes).and_then(|()| stream.flush());
}

/// Sends the bytes one at a time.
#[cfg(test)]
pub(crate) fn drip(stream: &mut TcpStream, bytes: &[u8], pause: std::time::Duration) {
    for byte in bytes {
        if stream.write_all(&[*byte]).is_err() {
            return;
        }
        thread::sleep(pause);
    }
}

fn read_head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).unwrap_or(0) == 1 {
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).unwrap();
    // Closing before the body has been read would reset the connection and lose the answer.
    let length =
        head.lines().find_map(|line| line.to_lowercase().strip_prefix("content-length: ")?.parse().ok());
    let _ = stream.read_exact(&mut vec![0; length.unwrap_or(0)]);
    head
}
