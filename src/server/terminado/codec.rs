//! Messages of a terminal's WebSocket: JSON arrays whose first element names the message.
//!
//! See terminado's `websocket.py`, `on_message` and `send_json_message`. No I/O.

use serde::de::{Deserializer, Error, IgnoredAny, SeqAccess, Visitor};
use std::borrow::Cow;
use std::fmt;

/// A message from the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Incoming<'a> {
    /// The terminal is attached. Comes first, before any output.
    Setup,
    /// Output of the program, borrowed from the message if it holds no JSON escape.
    Stdout(Cow<'a, str>),
    /// The program has ended, and the server closes the WebSocket next. Never carries an exit
    /// status.
    Disconnect,
    /// A message that this version doesn't know. Ignore it.
    Other,
}

/// A message that isn't JSON, or not an array that begins with a string, or output that isn't text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BadMessage;

impl fmt::Display for BadMessage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the terminal sent a message that cannot be understood")
    }
}

impl std::error::Error for BadMessage {}

/// The length, in bytes, from which a message can only be output: the replay of an attached
/// terminal.
///
/// It isn't read as general JSON, which would copy it twice.
const LONG: usize = 1 << 20;

/// Reads one text message. The caller bounds its length (the WebSocket's limit).
///
/// # Errors
/// Fails for malformed JSON (a lone surrogate included), for anything but an array that begins with
/// a string, and for a `stdout` message whose second element is not a string.
pub fn decode(text: &str) -> Result<Incoming<'_>, BadMessage> {
    if text.len() >= LONG {
        return long_output(text).map(Incoming::Stdout).ok_or(BadMessage);
    }
    let mut json = serde_json::Deserializer::from_str(text);
    let message = json.deserialize_seq(MessageVisitor).map_err(|_| BadMessage)?;
    json.end().map_err(|_| BadMessage)?;
    Ok(message)
}

struct MessageVisitor;

impl<'de> Visitor<'de> for MessageVisitor {
    type Value = Incoming<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array that begins with a string")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let kind: Text<'de> = seq.next_element()?.ok_or_else(|| A::Error::custom("empty"))?;
        let message = match &*kind.0 {
            "stdout" => {
                let text: Text<'de> = seq.next_element()?.ok_or_else(|| A::Error::custom("no text"))?;
                Incoming::Stdout(text.0)
            }
            "setup" => Incoming::Setup,
            "disconnect" => Incoming::Disconnect,
            _ => Incoming::Other,
        };
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(message)
    }
}

/// A string that is borrowed where possible: serde's own `Cow` always copies.
struct Text<'a>(Cow<'a, str>);

impl<'de> serde::Deserialize<'de> for Text<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TextVisitor;
        impl<'de> Visitor<'de> for TextVisitor {
            type Value = Text<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }
            fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(Text(Cow::Borrowed(text)))
            }
            fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
                Ok(Text(Cow::Owned(text.to_owned())))
            }
        }
        deserializer.deserialize_str(TextVisitor)
    }
}

/// Returns the text of `["stdout", "…"]`: copied once if something in it is escaped, else not at
/// all.
fn long_output(message: &str) -> Option<Cow<'_, str>> {
    let rest = space(space(message).strip_prefix('[')?);
    let rest = space(space(rest.strip_prefix("\"stdout\"")?).strip_prefix(',')?);
    let (text, rest) = string(rest)?;
    space(space(rest).strip_prefix(']')?).is_empty().then_some(text)
}

/// Skips JSON's white space at the beginning.
fn space(text: &str) -> &str {
    text.trim_start_matches([' ', '\t', '\n', '\r'])
}

/// Reads a JSON string (RFC 8259, section 7), and returns it and the rest.
fn string(text: &str) -> Option<(Cow<'_, str>, &str)> {
    let text = text.strip_prefix('"')?;
    let mut unescaped: Option<String> = None;
    let (mut at, mut copied) = (0, 0);
    loop {
        // Cuts are at ASCII bytes, so at character boundaries.
        match *text.as_bytes().get(at)? {
            b'"' => {
                let last = text.get(copied..at)?;
                let whole = match unescaped {
                    Some(before) => Cow::Owned(before + last),
                    None => Cow::Borrowed(last),
                };
                return Some((whole, text.get(at + 1..)?));
            }
            b'\\' => {
                let unescaped = unescaped.get_or_insert_default();
                unescaped.push_str(text.get(copied..at)?);
                let (character, length) = escape(text.as_bytes().get(at + 1..)?)?;
                unescaped.push(character);
                at += 1 + length;
                copied = at;
            }
            0..0x20 => return None,
            _ => at += 1,
        }
    }
}

/// Reads what follows a backslash: the character, and how many bytes it takes.
fn escape(after: &[u8]) -> Option<(char, usize)> {
    let simple = |character| Some((character, 1));
    match after.first()? {
        b'"' => simple('"'),
        b'\\' => simple('\\'),
        b'/' => simple('/'),
        b'b' => simple('\u{8}'),
        b'f' => simple('\u{c}'),
        b'n' => simple('\n'),
        b'r' => simple('\r'),
        b't' => simple('\t'),
        b'u' => {
            let first = hex(after.get(1..5)?)?;
            if !(0xd800..0xdc00).contains(&first) {
                // None for the second half of a pair.
                return char::from_u32(first).map(|character| (character, 5));
            }
            let second = hex(after.get(5..11)?.strip_prefix(b"\\u")?)?;
            let low = second.checked_sub(0xdc00).filter(|low| *low < 0x400)?;
            char::from_u32(0x10000 + ((first - 0xd800) << 10) + low).map(|character| (character, 11))
        }
        _ => None,
    }
}

fn hex(digits: &[u8]) -> Option<u32> {
    digits.iter().try_fold(0, |number, digit| Some(number << 4 | char::from(*digit).to_digit(16)?))
}

/// Returns the message that types `text`.
///
/// The caller keeps it to `pacing::MESSAGE` bytes.
#[must_use]
pub fn stdin(text: &str) -> String {
    let mut message = String::with_capacity(text.len() + text.len() / 8 + 16);
    message.push_str("[\"stdin\",");
    push_json_string(&mut message, text);
    message.push(']');
    message
}

/// Like [`stdin`] for the agent's lines: base64 and line feeds need little inspection.
#[must_use]
pub fn stdin_lines(text: &str) -> String {
    debug_assert!(text.bytes().all(|b| b == b'\n' || b.is_ascii_graphic() && b != b'"' && b != b'\\'));
    let mut message = String::with_capacity(text.len() + text.len() / 64 + 32);
    message.push_str("[\"stdin\",\"");
    for line in text.split_inclusive('\n') {
        match line.strip_suffix('\n') {
            Some(line) => {
                message.push_str(line);
                message.push_str("\\n");
            }
            None => message.push_str(line),
        }
    }
    message.push_str("\"]");
    message
}

/// Returns the message that sets the window's size: **rows first**.
///
/// Zero (a client without a window) becomes the usual 24 × 80, because programs divide by it.
#[must_use]
pub fn set_size(rows: u16, columns: u16) -> String {
    let rows = if rows == 0 { 24 } else { rows };
    let columns = if columns == 0 { 80 } else { columns };
    format!("[\"set_size\",{rows},{columns}]")
}

/// Appends `text` as a JSON string (RFC 8259, section 7), with only the escapes that it needs.
fn push_json_string(out: &mut String, text: &str) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    out.push('"');
    let mut copied = 0;
    for (at, byte) in text.bytes().enumerate() {
        if byte >= 0x20 && byte != b'"' && byte != b'\\' {
            continue;
        }
        // Every byte that matches is ASCII, so both cuts are at character boundaries.
        out.push_str(text.get(copied..at).unwrap_or_default());
        copied = at + 1;
        match byte {
            b'"' => out.push_str("\\\""),
            b'\\' => out.push_str("\\\\"),
            b'\n' => out.push_str("\\n"),
            b'\r' => out.push_str("\\r"),
            b'\t' => out.push_str("\\t"),
            _ => {
                out.push_str("\\u00");
                out.push(char::from(HEX[usize::from(byte >> 4)]));
                out.push(char::from(HEX[usize::from(byte & 15)]));
            }
        }
    }
    out.push_str(text.get(copied..).unwrap_or_default());
    out.push('"');
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_terminado_sends() {
        assert_eq!(decode("[\"setup\", {}]"), Ok(Incoming::Setup));
        assert_eq!(decode("[\"disconnect\", 1]"), Ok(Incoming::Disconnect));
        assert_eq!(decode("[\"stdout\", \"a\"]"), Ok(Incoming::Stdout("a".into())));
        assert!(matches!(decode("[\"stdout\", \"plain\"]"), Ok(Incoming::Stdout(Cow::Borrowed(_)))));
        let escaped = decode(r#"["stdout", "\u001b[0m\r\n\u0000\ud83d\ude00\u00e9"]"#);
        assert_eq!(escaped, Ok(Incoming::Stdout("\u{1b}[0m\r\n\0😀é".into())));
        assert_eq!(decode("[\"switched\", \"x\", [1, {}]]"), Ok(Incoming::Other));
        assert_eq!(decode("[\"stdout\", \"a\", 5, null]"), Ok(Incoming::Stdout("a".into())));
    }

    #[test]
    fn long_messages_are_output_alone() {
        let text = "x\u{1b}[0m ß😀".repeat(LONG / 8);
        for message in [
            serde_json::to_string(&("stdout", &text)).unwrap(),
            format!(" [ \"stdout\" ,\n {:?} ] ", "y".repeat(LONG)),
        ] {
            let (kind, expected): (String, String) = serde_json::from_str(&message).unwrap();
            assert_eq!((kind.as_str(), decode(&message)), ("stdout", Ok(Incoming::Stdout(expected.into()))));
        }
        let plain = format!("[\"stdout\",\"{}\"]", "y".repeat(LONG));
        assert!(matches!(decode(&plain), Ok(Incoming::Stdout(Cow::Borrowed(_)))));
        for bad in [
            plain.replace("\"]", "\",5]"),
            plain.replace("stdout", "other"),
            plain.replace("\"]", "\"]]"),
            plain.replace("\"]", ""),
        ] {
            assert_eq!(decode(&bad), Err(BadMessage));
        }
    }

    #[test]
    fn an_agents_lines_are_typed_as_any_text() {
        for text in ["", "~AbC+/=\n", "~x\n~y\n", "~x\n~y"] {
            assert_eq!(stdin_lines(text), stdin(text));
        }
    }

    #[test]
    fn hostile_messages_are_refused() {
        let deep = "[".repeat(100_000);
        for bad in [
            "",
            "[]",
            "{}",
            "1",
            "null",
            "[\"stdout\"]",
            "[\"stdout\",1]",
            "[\"stdout\",null]",
            "[1,\"a\"]",
            &deep,
        ] {
            assert_eq!(decode(bad), Err(BadMessage), "{:.20}", bad);
        }
        for bad in
            [r#"["stdout","\ud800"]"#, r#"["stdout","a"] x"#, r#"["stdout","a""#, "[\"stdout\",\"a\nb\"]"]
        {
            assert_eq!(decode(bad), Err(BadMessage), "{bad}");
        }
    }

    #[test]
    fn rows_come_first_and_are_never_zero() {
        assert_eq!(set_size(30, 100), "[\"set_size\",30,100]");
        assert_eq!(set_size(0, 0), "[\"set_size\",24,80]");
    }

    proptest! {
        #[test]
        fn typed_text_survives(text in "\\PC*|[\\x00-\\x7f]*|.*") {
            let (kind, back): (String, String) = serde_json::from_str(&stdin(&text)).unwrap();
            prop_assert_eq!(kind, "stdin");
            prop_assert_eq!(back, text);
        }

        #[test]
        fn output_survives(text in ".*|[\\x00-\\x7f]*") {
            let message = serde_json::to_string(&("stdout", &text)).unwrap();
            prop_assert_eq!(decode(&message), Ok(Incoming::Stdout(text.into())));
        }

        /// Agrees with serde_json.
        #[test]
        fn strings_are_read_as_any_json(
            text in ".*",
            odd in "\"([a\"\\\\/bfnrtu0-9dDcCeEß\t]|\\\\u[dD][89abcdef][0-9a-f]{2}|\\\\n){0,12}\"?",
        ) {
            let written = serde_json::to_string(&text).unwrap();
            prop_assert_eq!(string(&written), Some((text.into(), "")));
            let ours = string(&odd).filter(|(_, rest)| rest.is_empty()).map(|(text, _)| text.into_owned());
            prop_assert_eq!(ours, serde_json::from_str::<String>(&odd).ok());
        }

        #[test]
        fn nothing_panics(text in ".*", shape in "\\[\"(stdout|setup|x)\",?[\\[\\]{}\",:\\\\u0-9a-f]{0,40}") {
            let _ = decode(&text);
            let _ = decode(&shape);
        }
    }
}
