//! Fuzzes the parser of authorized_keys: a user's file may contain anything.
//!
//! A line that is accepted and written anew must parse to the same key: sshd reads what we write.
#![no_main]

use keys::line::parse;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    for line in data.split(|byte| *byte == b'\n') {
        if let Ok(Some(key)) = parse(line) {
            let written = key.to_string();
            // To sshd a tab is a blank, too, and an option's value may contain it.
            assert!(!written.bytes().any(|byte| byte.is_ascii_control() && byte != b'\t'));
            let again = parse(written.as_bytes()).expect("a line of ours").expect("a key");
            assert_eq!((again.options, again.kind, again.blob), (key.options, key.kind, key.blob));
        }
    }
});
