//! Tests of both directions of the link, against an agent that the tests play.
#![allow(clippy::unwrap_used)]

use super::protocol::LINK_WINDOW;
use super::*;
use proptest::prelude::*;

const SALT: u32 = 0x1234_5678;
const WINDOW: usize = 1000;

/// Says what an agent would say.
struct Agent {
    number: u64,
    scratch: Vec<u8>,
}

impl Agent {
    fn new() -> Self {
        Self { number: 0, scratch: Vec::new() }
    }

    fn line(&mut self, packet: &Packet<'_>) -> String {
        let mut text = String::new();
        frame::encode(packet, SALT, &mut self.scratch, &mut text);
        text
    }

    fn hello(&mut self) -> String {
        let payload = br#"{"version":1,"python":"3.11.2","sftp_server":null}"#;
        self.line(&Packet { payload, ..Packet::link(kind::HELLO, 0) })
    }

    fn say(&mut self, kind: u8, stream: u32, part: u8, payload: &[u8]) -> String {
        self.number += 1;
        self.line(&Packet { kind, number: self.number - 1, stream, part, payload })
    }
}

/// Decodes what an agent would hear.
fn hear(text: &str) -> Vec<(u8, u64, u32, u8, Vec<u8>)> {
    text.lines()
        .map(|line| {
            let mut scratch = Vec::new();
            let packet = frame::decode(&line.as_bytes()[1..], SALT, &mut scratch).unwrap();
            (packet.kind, packet.number, packet.stream, packet.part, packet.payload.to_vec())
        })
        .collect()
}

fn kinds(mux: &mut Mux, now: Instant) -> Vec<u8> {
    let mut all = Vec::new();
    while let Some(text) = mux.transmit(now) {
        all.extend(hear(&text).into_iter().map(|packet| packet.0));
    }
    all
}

fn events(mux: &mut Mux) -> Vec<Event> {
    std::iter::from_fn(|| mux.event()).collect()
}

/// A link with one open stream that has credit for 500 bytes.
fn open(now: Instant) -> (Mux, Agent, StreamId) {
    let (mut mux, mut agent) = (Mux::new(SALT, now), Agent::new());
    mux.receive(agent.hello().as_bytes(), now).unwrap();
    let environment = BTreeMap::new();
    let id = mux.open(&Description::process(Some(b"ls"), None, &environment), WINDOW, now).unwrap();
    assert_eq!(kinds(&mut mux, now), [kind::OPEN]);
    mux.receive(agent.say(kind::OPENED, 1, 0, br#"{"window":500}"#).as_bytes(), now).unwrap();
    assert_eq!(events(&mut mux)[1..], [Event::Opened(id)]);
    mux.receive(agent.line(&Packet::link(kind::ACK, 1)).as_bytes(), now).unwrap();
    (mux, agent, id)
}

#[test]
fn a_whole_stream() {
    let now = Instant::now();
    let (mut mux, mut agent, id) = open(now);
    assert_eq!(mux.send(id, &[7; 600], now), 500);
    assert_eq!(mux.send(id, b"more", now), 0);
    mux.eof(id, now);
    let heard = hear(&mux.transmit(now).unwrap());
    let shape: Vec<_> =
        heard.iter().map(|(kind, number, .., payload)| (*kind, *number, payload.len())).collect();
    assert_eq!(shape, [(kind::DATA, 1, 500), (kind::EOF, 2, 0)]);
    for (kind, part, payload) in [
        (kind::DATA, 1, &b"out"[..]),
        (kind::DATA, 2, b"err"),
        (kind::EOF, 1, b""),
        (kind::EXIT, 0, br#"{"status":3}"#),
        (kind::EOF, 2, b""),
        (kind::CLOSE, 0, b""),
    ] {
        mux.receive(agent.say(kind, 1, part, payload).as_bytes(), now).unwrap();
    }
    assert_eq!(
        events(&mut mux),
        [
            Event::Data(id, Part::Output, b"out".to_vec()),
            Event::Data(id, Part::Error, b"err".to_vec()),
            Event::Eof(id, Part::Output),
            Event::Exit(id, Exit::Status(3)),
            Event::Eof(id, Part::Error),
            Event::Closed(id),
        ]
    );
    assert!(!mux.has_streams());
    // Packets that come too late for the stream are ignored.
    mux.receive(agent.say(kind::DATA, 1, 1, b"late").as_bytes(), now).unwrap();
    assert_eq!(events(&mut mux), []);
}

#[test]
fn read_data_is_granted_again_and_no_more() {
    let now = Instant::now();
    let (mut mux, mut agent, id) = open(now);
    mux.receive(agent.say(kind::DATA, 1, 1, &[0; WINDOW]).as_bytes(), now).unwrap();
    mux.consumed(id, Part::Output, WINDOW / 4 - 1, now);
    assert_eq!(kinds(&mut mux, now), [0u8; 0]);
    mux.consumed(id, Part::Output, 1, now);
    let heard = hear(&mux.transmit(now).unwrap());
    assert_eq!(heard[0].4, 250u32.to_be_bytes());
    mux.receive(agent.say(kind::DATA, 1, 1, &[0; 250]).as_bytes(), now).unwrap();
    let outcome = mux.receive(agent.say(kind::DATA, 1, 1, &[0; 1]).as_bytes(), now);
    assert_eq!(outcome, Err(Violation("more data than it had credit for")));
}

#[test]
fn an_agent_that_breaks_the_protocol_ends_the_link() {
    let now = Instant::now();
    let said: &[(u8, u32, u8, &[u8])] = &[
        (99, 1, 0, b""),
        (kind::DATA, 3, 1, b"x"),
        (kind::DATA, 2, 1, b"x"),
        (kind::DATA, 1, 0, b"x"),
        (kind::DATA, 1, 3, b"x"),
        (kind::OPEN, 1, 0, b"{}"),
        (kind::OPENED, 1, 0, br#"{"window":1}"#),
        (kind::CREDIT, 1, 0, b"\xff\xff\xff\xff"),
        (kind::CREDIT, 1, 0, b"abc"),
        (kind::CREDIT, 1, 1, b"\0\0\0\x01"),
        (kind::EXIT, 1, 0, b"{}"),
        (kind::REFUSED, 1, 0, b""),
        (kind::SIGNAL, 1, 0, b"INT"),
        (kind::STOP, 1, 1, b""),
    ];
    for (kind, stream, part, payload) in said {
        let (mut mux, mut agent, _) = open(now);
        let outcome = mux.receive(agent.say(*kind, *stream, *part, payload).as_bytes(), now);
        assert!(outcome.is_err(), "{kind} {stream} {part} {payload:?}");
    }
    let (mut mux, mut agent, _) = open(now);
    let too_far = agent.line(&Packet::link(kind::ACK, 2));
    assert!(mux.receive(too_far.as_bytes(), now).is_err());
    let mut mux = Mux::new(SALT, now);
    assert!(mux.receive(agent.line(&Packet::link(kind::PING, 0)).as_bytes(), now).is_err());
    for twice in [kind::EOF, kind::EXIT] {
        let (mut mux, mut agent, _) = open(now);
        let payload: &[u8] = if twice == kind::EXIT { br#"{"status":0}"# } else { b"" };
        mux.receive(agent.say(twice, 1, 1, payload).as_bytes(), now).unwrap();
        assert!(mux.receive(agent.say(twice, 1, 1, payload).as_bytes(), now).is_err());
    }
}

#[test]
fn noise_is_bounded() {
    let now = Instant::now();
    let (mut mux, mut agent, _) = open(now);
    mux.receive(b"ls -l\r\n\r\n~garbage\n", now).unwrap();
    assert_eq!(events(&mut mux), [Event::Noise(b"ls -l\r".to_vec()), Event::Noise(b"garbage".to_vec())]);
    assert_eq!(kinds(&mut mux, now), [kind::RESUME], "something may be missing");
    mux.receive(b"~garbage\n", now).unwrap();
    assert_eq!(kinds(&mut mux, now), [0u8; 0], "asked once");
    let flood = vec![b'x'; 1 << 20];
    for _ in 0..63 {
        mux.receive(&flood, now).unwrap();
    }
    assert!(events(&mut mux).len() <= 16);
    mux.receive(format!("\n{}", agent.line(&Packet::link(kind::PONG, 0))).as_bytes(), now).unwrap();
    for _ in 0..63 {
        mux.receive(&flood, now).unwrap();
    }
    assert!((0..3).any(|_| mux.receive(&flood, now).is_err()));
}

#[test]
fn long_descriptions_come_in_pieces() {
    let now = Instant::now();
    let (mut mux, mut agent) = (Mux::new(SALT, now), Agent::new());
    mux.receive(agent.hello().as_bytes(), now).unwrap();
    let (command, environment) = (vec![b'x'; 128 * 1024], BTreeMap::new());
    mux.open(&Description::process(Some(&command), None, &environment), WINDOW, now).unwrap();
    let mut json = Vec::new();
    let mut kinds = Vec::new();
    while let Some(text) = mux.transmit(now) {
        for packet in hear(&text) {
            kinds.push(packet.0);
            json.extend(packet.4);
        }
    }
    assert_eq!(
        kinds,
        [kind::OPENING, kind::OPENING, kind::OPENING, kind::OPENING, kind::OPENING, kind::OPEN]
    );
    let description: serde_json::Value = serde_json::from_slice(&json).unwrap();
    assert_eq!(description["window"], WINDOW);
    let too_long = vec![b'x'; MAX_DESCRIPTION];
    assert_eq!(mux.open(&Description::process(Some(&too_long), None, &environment), WINDOW, now), None);
}

#[test]
fn acknowledgements_come_in_time() {
    let now = Instant::now();
    let (mut mux, mut agent, _) = open(now);
    let ack = |mux: &mut Mux, at: Instant| mux.transmit(at).map(|text| hear(&text)[0].clone());
    assert_eq!(ack(&mut mux, now), None);
    let due = mux.deadline(now).unwrap();
    assert_eq!(due - now, Duration::from_millis(40));
    let sent = ack(&mut mux, due).unwrap();
    assert_eq!((sent.0, sent.1), (kind::ACK, 1));
    assert_eq!(mux.deadline(due).unwrap() - now, Duration::from_secs(10));
    // The second half of a second window's worth of bytes doesn't wait.
    let (id, mut total) = (mux.next_stream - 2, 0);
    mux.streams.insert(StreamId(id), Stream::new(MAX_CREDIT));
    while total < 3 * protocol::ACK_BYTES / 2 {
        mux.receive(agent.say(kind::DATA, 1, 1, &[0; protocol::ACK_BYTES / 8]).as_bytes(), due).unwrap();
        total += protocol::ACK_BYTES / 8;
    }
    let sent = ack(&mut mux, due).unwrap();
    assert_eq!((sent.0, sent.1), (kind::ACK, 13));
}

#[test]
fn silence_is_broken_and_answered() {
    let now = Instant::now();
    let (mut mux, mut agent, _) = open(now);
    assert_eq!(kinds(&mut mux, now + Duration::from_secs(1)), [kind::ACK]);
    assert_eq!(kinds(&mut mux, now + Duration::from_secs(12)), [kind::PING]);
    mux.receive(agent.line(&Packet::link(kind::PING, 77)).as_bytes(), now).unwrap();
    let heard = hear(&mux.transmit(now).unwrap());
    assert_eq!((heard[0].0, heard[0].1), (kind::PONG, 77));
    mux.bye("enough");
    let heard = hear(&mux.transmit(now).unwrap());
    assert_eq!((heard[0].0, heard[0].4.as_slice()), (kind::BYE, &b"enough"[..]));
}

#[test]
fn what_was_lost_comes_again() {
    let now = Instant::now();
    let (mut mux, mut agent, id) = open(now);
    mux.send(id, b"one", now);
    drop(mux.transmit(now));
    mux.send(id, b"two", now);
    mux.reconnected(now);
    let heard = hear(&mux.transmit(now).unwrap());
    assert_eq!((heard[0].0, heard[0].1), (kind::RESUME, 1));
    assert!(!heard.iter().any(|packet| packet.0 == kind::DATA), "nothing before the answer");
    let answer = agent.line(&Packet::link(kind::ACK, 1));
    mux.receive(answer.as_bytes(), now).unwrap();
    let heard = hear(&mux.transmit(now).unwrap());
    let data: Vec<_> = heard.iter().map(|packet| (packet.1, packet.4.as_slice())).collect();
    assert_eq!(data, [(1, &b"one"[..]), (2, b"two")]);
    // Without an answer, and without a reconnect, it is sent again unasked.
    let later = now + Duration::from_secs(11);
    let again: Vec<_> =
        hear(&mux.transmit(later).unwrap()).iter().filter(|p| p.0 == kind::DATA).map(|p| p.1).collect();
    assert_eq!(again, [1, 2]);
}

#[test]
fn an_agent_that_never_acknowledges_is_found_out() {
    let now = Instant::now();
    let (mut mux, mut agent, id) = open(now);
    mux.receive(agent.say(kind::CREDIT, 1, 0, &1_000_000u32.to_be_bytes()).as_bytes(), now).unwrap();
    let mut sent = 0;
    loop {
        match mux.send(id, &[0; 4096], now) {
            0 => break,
            bytes => sent += bytes,
        }
    }
    assert!(sent <= LINK_WINDOW, "{sent}");
    for _ in 0..20_000 {
        mux.resize(id, 1, 1, now);
    }
    assert!(mux.check().is_err());
}

/// An agent may repeat itself as often as it likes: little is kept here.
#[test]
fn floods_of_small_packets_make_no_heap() {
    let now = Instant::now();
    let (mut mux, mut agent, _) = open(now);
    let mut text = String::new();
    for _ in 0..5000 {
        text += &agent.say(kind::STOP, 1, 0, b"");
        text += "x\n~bad\n";
        text += &agent.say(kind::DATA, 1, 1, b"");
    }
    text += &agent.line(&Packet { payload: b"enough", ..Packet::link(kind::BYE, 0) }).repeat(5000);
    for piece in text.as_bytes().chunks(PIECE) {
        mux.receive(piece, now).unwrap();
        assert!(mux.urgent.len() <= 3, "{:?}", mux.urgent);
    }
    let events = events(&mut mux);
    let count = |of: fn(&Event) -> bool| events.iter().filter(|event| of(event)).count();
    assert_eq!(count(|event| matches!(event, Event::Stop(_))), 1);
    assert_eq!(count(|event| matches!(event, Event::Bye(_))), 1);
    assert!(events.len() < 20, "{}", events.len());
}

/// After a reconnect the terminal repeats what the agent said before: only the answer to a new
/// question shows that it is alive.
#[test]
fn a_repetition_is_no_sign_of_life() {
    let now = Instant::now();
    let (mut mux, mut agent, _) = open(now);
    let before = mux.heard();
    let later = now + Duration::from_secs(5);
    mux.reconnected(later);
    let asked: Vec<_> =
        hear(&mux.transmit(later).unwrap()).iter().map(|packet| (packet.0, packet.1)).collect();
    assert_eq!(asked, [(kind::RESUME, 1), (kind::PING, 1), (kind::ACK, 1)]);
    agent.number = 0;
    let old = [agent.hello(), agent.say(kind::OPENED, 1, 0, br#"{"window":500}"#)].concat();
    let old = old + &agent.line(&Packet::link(kind::ACK, 1)) + &agent.line(&Packet::link(kind::PONG, 0));
    mux.receive(old.as_bytes(), later).unwrap();
    assert_eq!(mux.heard(), before);
    mux.receive(agent.line(&Packet::link(kind::PONG, 1)).as_bytes(), later).unwrap();
    assert_eq!(mux.heard(), later);
}

/// Runs two ends of the ordering over a line that loses and repeats packets.
fn lossy(losses: &[bool]) -> Vec<u8> {
    let mut now = Instant::now();
    let (mut sending, mut receiving) = (order::Sending::new(now), order::Receiving::new());
    let mut losses = losses.iter().copied().chain(std::iter::repeat(false));
    let mut got = Vec::new();
    for byte in 0..50u8 {
        sending.queue(kind::DATA, 1, 0, &[byte], now);
    }
    let mut turns = 0;
    while got.len() < 50 {
        turns += 1;
        assert!(turns < 1000);
        now += Duration::from_millis(1100);
        let mut ask = false;
        while let Some(packet) = sending.take() {
            if losses.next() == Some(true) {
                continue;
            }
            match receiving.look(&packet, now) {
                Turn::Take => got.push(packet.payload[0]),
                Turn::Repetition => {}
                Turn::Gap => ask |= receiving.may_ask(now),
            }
        }
        if ask && losses.next() != Some(true) {
            sending.acknowledge(receiving.expected(), now).unwrap();
            sending.repeat(now);
        }
        if sending.repeat_at().is_some_and(|at| at <= now) {
            sending.repeat(now);
        }
    }
    got
}

proptest! {
    #[test]
    fn everything_arrives_once_and_in_order(losses in proptest::collection::vec(any::<bool>(), 0..200)) {
        prop_assert_eq!(lossy(&losses), (0..50).collect::<Vec<u8>>());
    }

    #[test]
    fn no_packets_panic(packets in proptest::collection::vec(
        (prop_oneof![1u8..7, 16u8..28, any::<u8>()], 0u64..6, 0u32..4, 0u8..4,
         prop_oneof![Just(Vec::new()), Just(br#"{"status":1}"#.to_vec()), Just(br#"{"window":9}"#.to_vec()),
                     proptest::collection::vec(any::<u8>(), 0..40)]), 0..40)) {
        let now = Instant::now();
        let (mut mux, mut agent, id) = open(now);
        for (kind, number, stream, part, payload) in packets {
            let text = agent.line(&Packet { kind, number, stream, part, payload: &payload });
            if mux.receive(text.as_bytes(), now).is_err() {
                break;
            }
            mux.send(id, b"x", now);
            mux.consumed(id, Part::Output, 10, now);
            let _ = mux.transmit(now);
        }
    }
}
