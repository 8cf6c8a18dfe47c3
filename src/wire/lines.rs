//! Reads messages that consist of lines `key value`: those from and to the PAM module, which links
//! no JSON.

use std::fmt;

/// Why a message is malformed. Names the part that is wrong but not its value, which may be a
/// secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Malformed(pub(crate) &'static str);

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

/// Reads the values of a message that has exactly these keys, one per line, in this order.
pub(crate) fn values<'a, const N: usize>(text: &'a [u8], keys: [&str; N]) -> Result<[&'a str; N], Malformed> {
    let text = std::str::from_utf8(text).map_err(|_| Malformed("not UTF-8"))?;
    let mut lines = text.strip_suffix('\n').ok_or(Malformed("no line feed at its end"))?.split('\n');
    let mut values = [""; N];
    for (value, key) in values.iter_mut().zip(keys) {
        let line = lines.next().and_then(|line| line.strip_prefix(key));
        *value =
            line.and_then(|rest| rest.strip_prefix(' ')).ok_or(Malformed("a line is missing or unknown"))?;
    }
    if lines.next().is_none() { Ok(values) } else { Err(Malformed("a line too many")) }
}

/// Splits an answer into its first word and the rest. The line feed at its end may be missing.
pub(crate) fn answer(line: &[u8]) -> Option<(&str, &str)> {
    let text = std::str::from_utf8(line).ok()?;
    text.trim_end_matches('\n').split_once(' ')
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn exactly_these_lines_in_this_order() {
        assert_eq!(values(b"a 1\nb 2 3\n", ["a", "b"]), Ok(["1", "2 3"]));
        for bad in [
            &b""[..],
            b"a 1\n",
            b"a 1\nb 2",
            b"b 2\na 1\n",
            b"a 1\nb 2\n\n",
            b"a 1\nb 2\nb 2\n",
            b"a 1\na 1\n",
            b"a 1\nb\n",
            b"a 1\nb2\n",
            b"a 1\nb \xff\n",
            b" a 1\nb 2\n",
        ] {
            assert!(values(bad, ["a", "b"]).is_err(), "{bad:?}");
        }
    }
}
