//! Tests of how packets are framed, and found again in a terminal's output.
#![allow(clippy::unwrap_used)]

use super::*;
use crate::mux::protocol::kind;
use proptest::prelude::*;
use std::convert::Infallible;

fn line(packet: &Packet<'_>, salt: u32) -> String {
    let mut out = String::new();
    encode(packet, salt, &mut Vec::new(), &mut out);
    out
}

#[derive(Debug, PartialEq, Eq)]
enum Owned {
    Candidate(Vec<u8>),
    Noise(Vec<u8>),
}

fn split(portions: &[&[u8]]) -> Vec<Owned> {
    let (mut lines, mut out) = (Lines::default(), Vec::new());
    for portion in portions {
        let taken: Result<(), Infallible> = lines.push(portion, |piece| {
            out.push(match piece {
                Piece::Candidate(text) => Owned::Candidate(text.to_vec()),
                Piece::Noise(text) => Owned::Noise(text.to_vec()),
            });
            Ok(())
        });
        taken.unwrap();
        assert!(lines.rest().len() <= MAX_LINE + 1);
    }
    out
}

#[test]
fn a_packet_is_a_line() {
    let packet = Packet { kind: kind::DATA, number: 7, stream: 1, part: 0, payload: b"hello" };
    let text = line(&packet, 0);
    assert!(text.starts_with("~FAAAAAAAAAAHAAAAAQBoZWxsb") && text.ends_with('\n'), "{text}");
    let mut scratch = Vec::new();
    let body = &text.as_bytes()[1..text.len() - 1];
    assert_eq!(decode(body, 0, &mut scratch), Some(packet));
    assert_eq!(decode(body, 1, &mut scratch), None, "another link's");
}

#[test]
fn the_longest_packet_fits_and_no_longer_one() {
    let payload = vec![0xff; MAX_PAYLOAD + 1];
    let packet = |length| Packet {
        kind: 20,
        number: u64::MAX,
        stream: u32::MAX,
        part: 2,
        payload: &payload[..length],
    };
    let text = line(&packet(MAX_PAYLOAD), 9);
    assert_eq!(text.len(), MAX_LINE + 2);
    assert!(decode(&text.as_bytes()[1..=MAX_LINE], 9, &mut Vec::new()).is_some());
    let mut long = vec![0xffu8; MAX_PACKET + 1];
    let sum = checksum(9, &long[..MAX_PACKET - 3]);
    long.truncate(MAX_PACKET - 3);
    long.extend_from_slice(&sum.to_be_bytes());
    assert_eq!(decode(STANDARD.encode(&long).as_bytes(), 9, &mut Vec::new()), None);
}

#[test]
fn what_is_no_packet_is_refused() {
    let good = line(&Packet::link(kind::PING, 3), 5);
    let good = good.trim_matches(['~', '\n']);
    assert!(decode(good.as_bytes(), 5, &mut Vec::new()).is_some());
    for at in 0..good.len() {
        let mut bad = good.as_bytes().to_vec();
        bad[at] = if bad[at] == b'A' { b'B' } else { b'A' };
        assert_eq!(decode(&bad, 5, &mut Vec::new()), None, "byte {at}");
        assert_eq!(decode(&good.as_bytes()[..at], 5, &mut Vec::new()), None, "{at} bytes");
    }
    for bad in ["", "=", "====", "\0", "~", "AAAA"] {
        assert_eq!(decode(bad.as_bytes(), 0, &mut Vec::new()), None, "{bad:?}");
    }
}

#[test]
fn noise_is_told_from_packets() {
    use Owned::{Candidate, Noise};
    let candidate = |text: &str| Candidate(text.into());
    assert_eq!(split(&[b"~abc\n~", b"de", b"f\n"]), [candidate("abc"), candidate("def")]);
    assert_eq!(
        split(&[b"ls\r\n$ ~x~y\r\n\n"]),
        [Noise(b"ls\r".into()), Noise(b"$ ~x".into()), candidate("y")]
    );
    assert_eq!(split(&[b"no end"]), []);
    // A candidate that is too long counts as broken; the next line is read again.
    let long = [b"~".as_slice(), &vec![b'A'; 3 * MAX_LINE], b"\n~ok\n"].concat();
    let pieces = split(&[&long[..MAX_LINE], &long[MAX_LINE..]]);
    assert!(
        pieces.contains(&Candidate(Vec::new()))
            || pieces.iter().any(|piece| matches!(piece, Candidate(text) if text.len() > MAX_LINE))
    );
    assert_eq!(pieces.last(), Some(&candidate("ok")));
}

/// The same packets and noise as in the agent's tests.
#[test]
fn the_agents_packets_are_ours() {
    let text = include_str!("../../../tests/vectors/mux.json");
    let vectors: serde_json::Value = serde_json::from_str(text).unwrap();
    let list = |name: &str| vectors[name].as_array().filter(|list| !list.is_empty()).unwrap().clone();
    let packet_of = |vector: &serde_json::Value, payload: &mut Vec<u8>| {
        let hex = vector["payload_hex"].as_str().unwrap();
        *payload =
            (0..hex.len() / 2).map(|at| u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).unwrap()).collect();
        let number = |key: &str| vector[key].as_u64().unwrap();
        let small = |key: &str| u32::try_from(number(key)).unwrap();
        let (kind, part) = (number("kind").try_into().unwrap(), number("part").try_into().unwrap());
        (kind, number("number"), small("stream"), part, small("salt"))
    };
    for vector in list("packets") {
        let mut payload = Vec::new();
        let (kind, number, stream, part, salt) = packet_of(&vector, &mut payload);
        let packet = Packet { kind, number, stream, part, payload: &payload };
        assert_eq!(line(&packet, salt), vector["line"].as_str().unwrap());
    }
    let candidates = |vector: &serde_json::Value| {
        let pieces = split(&[vector["line"].as_str().unwrap().as_bytes()]);
        pieces
            .into_iter()
            .filter_map(|piece| if let Owned::Candidate(text) = piece { Some(text) } else { None })
    };
    for vector in list("after_noise") {
        let mut payload = Vec::new();
        let (kind, number, stream, part, salt) = packet_of(&vector, &mut payload);
        let mut scratch = Vec::new();
        let candidate = candidates(&vector).next().unwrap();
        let expected = Packet { kind, number, stream, part, payload: &payload };
        assert_eq!(decode(&candidate, salt, &mut scratch), Some(expected), "{vector}");
    }
    for vector in list("noise") {
        let salt = u32::try_from(vector["salt"].as_u64().unwrap()).unwrap();
        for candidate in candidates(&vector) {
            assert_eq!(decode(&candidate, salt, &mut Vec::new()), None, "{vector}");
        }
    }
}

proptest! {
    #[test]
    fn packets_survive(kind: u8, number: u64, stream: u32, part: u8, salt: u32,
                       payload in proptest::collection::vec(any::<u8>(), 0..300)) {
        let packet = Packet { kind, number, stream, part, payload: &payload };
        let text = line(&packet, salt);
        prop_assert!(text.is_ascii());
        let mut scratch = Vec::new();
        prop_assert_eq!(decode(&text.as_bytes()[1..text.len() - 1], salt, &mut scratch), Some(packet));
    }

    #[test]
    fn portions_do_not_matter(text in proptest::collection::vec(prop_oneof![Just(b'~'), Just(b'\n'), Just(b'\r'), any::<u8>()], 0..200),
                              cuts in proptest::collection::vec(0usize..200, 0..6)) {
        let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(text.len())).chain([0, text.len()]).collect();
        cuts.sort_unstable();
        let portions: Vec<&[u8]> = cuts.windows(2).map(|pair| &text[pair[0]..pair[1]]).collect();
        prop_assert_eq!(split(&portions), split(&[&text]));
    }

    #[test]
    fn nothing_panics(text in proptest::collection::vec(any::<u8>(), 0..400), salt: u32) {
        let _ = decode(&text, salt, &mut Vec::new());
        let _ = split(&[&text]);
    }
}
