//! Tests against a server on a thread: tungstenite's own, or scripted bytes.
#![allow(clippy::unwrap_used)]

use super::*;
use std::net::TcpListener;
use std::thread;

fn token() -> Token {
    Token::parse("secret").unwrap()
}

/// Connects to a server that runs `script`.
fn attempt<T: Send + 'static>(
    timeout: u64,
    script: impl FnOnce(TcpStream) -> T + Send + 'static,
) -> (Result<TerminalSocket, ConnectError>, thread::JoinHandle<T>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/user/alice/terminals/websocket/1", listener.local_addr().unwrap());
    let server = thread::spawn(move || script(listener.accept().unwrap().0));
    (TerminalSocket::connect(&url, &token(), None, Duration::from_millis(timeout)), server)
}

fn answer(head: &'static str) -> ConnectError {
    attempt(2000, move |mut tcp| {
        let mut request = [0; 4096];
        let n = tcp.read(&mut request).unwrap();
        tcp.write_all(head.as_bytes()).unwrap();
        String::from_utf8_lossy(&request[..n]).into_owned()
    })
    .0
    .unwrap_err()
}

/// Waits until the next event or the end.
fn next(socket: &mut TerminalSocket) -> Result<Event, Closed> {
    for _ in 0..5000 {
        if let Some(event) = socket.read()? {
            return Ok(event);
        }
        thread::sleep(Duration::from_millis(1));
    }
    unreachable!("nothing came")
}

#[test]
fn statuses_are_told() {
    assert!(matches!(answer("HTTP/1.1 404 Not Found\r\n\r\n"), ConnectError::Status(404)));
    assert!(matches!(
        answer("HTTP/1.1 302 Found\r\nLocation: http://evil/\r\n\r\n"),
        ConnectError::Status(302)
    ));
    assert!(matches!(answer("HTTP/1.1 503 x\r\nContent-Length: 3\r\n\r\nabc"), ConnectError::Status(503)));
    assert!(matches!(answer("SSH-2.0-OpenSSH\r\n"), ConnectError::Protocol(_)));
    assert!(matches!(answer("HTTP/1.1 101 Switching\r\n\r\n"), ConnectError::Protocol(_)));
}

#[test]
fn the_deadline_holds() {
    let start = Instant::now();
    let (silent, server) = attempt(200, |tcp| {
        thread::sleep(Duration::from_millis(400));
        drop(tcp);
    });
    assert!(matches!(silent, Err(ConnectError::Timeout)), "{silent:?}");
    server.join().unwrap();
    let (dripping, _server) = attempt(200, |mut tcp| {
        for byte in b"HTTP/1.1 101 Switching Protocols and much more".iter().cycle().take(100) {
            if tcp.write_all(&[*byte]).is_err() {
                break;
            }
            thread::sleep(Duration::from_millis(20));
        }
    });
    assert!(matches!(dripping, Err(ConnectError::Timeout)), "{dripping:?}");
    assert!(start.elapsed() < Duration::from_secs(2));
}

#[test]
fn bad_addresses() {
    for url in ["", "ftp://x/", "http://", "http:///x", "x", "http://a b/"] {
        let error = TerminalSocket::connect(url, &token(), None, Duration::from_secs(1)).unwrap_err();
        assert!(matches!(error, ConnectError::BadUrl | ConnectError::Unreachable(_)), "{url}: {error:?}");
    }
    let error =
        TerminalSocket::connect("http://127.0.0.1:1/", &token(), None, Duration::from_secs(1)).unwrap_err();
    assert!(matches!(error, ConnectError::Unreachable(_)));
}

#[test]
#[allow(clippy::result_large_err)]
fn messages_pings_and_pongs() {
    let (socket, server) = attempt(2000, |tcp| {
        let mut authorization = String::new();
        let check = |request: &tungstenite::handshake::server::Request, response| {
            authorization = request.headers()["authorization"].to_str().unwrap().to_owned();
            Ok(response)
        };
        let mut websocket = tungstenite::accept_hdr(tcp, check).unwrap();
        websocket.send(Message::Ping(b"theirs".to_vec().into())).unwrap();
        websocket.send(Message::Text("[\"setup\", {}]".into())).unwrap();
        websocket.send(Message::Text("x".repeat(5 << 20).into())).unwrap();
        let mut seen = Vec::new();
        while let Ok(message) = websocket.read() {
            let end = message.is_text();
            seen.push(message);
            if end {
                break;
            }
        }
        websocket.close(None).unwrap();
        let _ = websocket.flush();
        while websocket.read().is_ok() {}
        (authorization, seen)
    });
    let mut socket = socket.unwrap();
    assert!(matches!(next(&mut socket).unwrap(), Event::Text(text) if text.as_str() == "[\"setup\", {}]"));
    assert!(matches!(next(&mut socket).unwrap(), Event::Text(text) if text.len() == 5 << 20));
    socket.send_ping(77).unwrap().unwrap();
    socket.flush().unwrap();
    assert!(matches!(next(&mut socket).unwrap(), Event::Pong(77)));
    socket.send_text("end").unwrap().unwrap();
    socket.flush().unwrap();
    assert!(!socket.wants_write());
    assert!(matches!(next(&mut socket), Err(Closed::ByServer(_))));
    let (authorization, seen) = server.join().unwrap();
    assert_eq!(authorization, "token secret");
    assert!(seen.contains(&Message::Pong(b"theirs".to_vec().into())), "{seen:?}");
    assert!(seen.contains(&Message::Pong(Vec::new().into())), "{seen:?}");
}

#[test]
fn what_waits_is_bounded() {
    let (socket, server) = attempt(2000, |tcp| {
        let websocket = tungstenite::accept(tcp).unwrap();
        thread::sleep(Duration::from_millis(500));
        drop(websocket);
    });
    let mut socket = socket.unwrap();
    let mut sent = 0;
    while socket.send_text("x".repeat(10_000)).unwrap().is_ok() {
        sent += 10_000;
        assert!(sent < 50_000_000);
    }
    assert!(socket.wants_write());
    server.join().unwrap();
}

#[test]
fn a_dropped_connection_is_lost() {
    let (socket, server) = attempt(2000, |tcp| drop(tungstenite::accept(tcp).unwrap()));
    server.join().unwrap();
    assert!(matches!(next(&mut socket.unwrap()), Err(Closed::Lost(_))));
}
