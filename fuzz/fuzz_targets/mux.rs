//! Fuzzes the gateway's end of docs/mux.md: a hostile agent may send anything.
//!
//! The data are read twice: as a terminal's text, then as packets with a correct checksum.
#![no_main]

use libfuzzer_sys::fuzz_target;
use server::mux::frame::{self, Packet};
use server::mux::protocol::kind;
use server::mux::{Description, Event, Mux};
use std::collections::BTreeMap;
use std::time::Instant;

const SALT: u32 = 7;
const HELLO: &[u8] = br#"{"version":1,"python":"3"}"#;

fuzz_target!(|data: &[u8]| {
    let now = Instant::now();
    let _ = Mux::new(SALT, now).receive(data, now);

    let mut mux = Mux::new(SALT, now);
    let say = |mux: &mut Mux, packet: &Packet<'_>| {
        let mut line = String::new();
        frame::encode(packet, SALT, &mut Vec::new(), &mut line);
        mux.receive(line.as_bytes(), now)
    };
    let hello = Packet { payload: HELLO, ..Packet::link(kind::HELLO, 0) };
    let _ = say(&mut mux, &hello);
    let environment = BTreeMap::new();
    for _ in 0..2 {
        mux.open(&Description::process(None, None, &environment), 1000, now);
    }
    let mut rest = data;
    let mut number = 0;
    while let Some((head, after)) = rest.split_first_chunk::<4>() {
        let [kind, stream, part, length] = *head;
        let (payload, after) = after.split_at(usize::from(length).min(after.len()));
        rest = after;
        let packet = Packet { kind, number, stream: u32::from(stream), part, payload };
        number += u64::from(frame::is_numbered(kind));
        if say(&mut mux, &packet).is_err() {
            return;
        }
        while let Some(event) = mux.event() {
            if let Event::Data(id, part, bytes) = event {
                mux.consumed(id, part, bytes.len(), now);
                mux.send(id, &bytes, now);
            }
        }
        let _ = mux.transmit(now);
    }
});
