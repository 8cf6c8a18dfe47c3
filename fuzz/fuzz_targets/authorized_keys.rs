//! A user's authorized_keys file says anything at all. What is taken of it is understood the same when it is read again, as
//! sshd reads it then.
#![no_main]

use keys::line::parse;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    for line in data.split(|byte| *byte == b'\n') {
        if let Ok(Some(key)) = parse(line) {
            let written = key.to_string();
            // A tab is a blank to sshd as well, and may stand in an option's value.
            assert!(!written.bytes().any(|byte| byte.is_ascii_control() && byte != b'\t'));
            let again = parse(written.as_bytes()).expect("a line of ours").expect("a key");
            assert_eq!((again.options, again.kind, again.blob), (key.options, key.kind, key.blob));
        }
    }
});
