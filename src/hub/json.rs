//! Parses the hub's JSON strictly.

use serde::de::{DeserializeOwned, Error as _};

/// Parses a JSON object.
///
/// serde alone would accept an array for a struct (its values in the order of the fields), and
/// would not check the encoding of what it skips.
///
/// # Errors
/// The bytes are not UTF-8, not an object, or not the expected object.
pub fn object<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, serde_json::Error> {
    let text = std::str::from_utf8(bytes).map_err(serde_json::Error::custom)?;
    if !text.trim_start().starts_with('{') {
        return Err(serde_json::Error::custom("not a JSON object"));
    }
    serde_json::from_str(text)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[derive(serde::Deserialize, Debug, PartialEq)]
    struct Pair {
        a: u8,
        b: u8,
    }

    #[test]
    fn only_objects() {
        assert_eq!(object::<Pair>(b" {\"b\":2,\"a\":1,\"c\":\"\"}\n").unwrap(), Pair { a: 1, b: 2 });
        for bad in
            [b"[1,2]".as_slice(), b"", b"null", b"{\"a\":1,\"b\":2,\"c\":\"\xff\"}", b"{\"a\":1,\"b\":2}}"]
        {
            assert!(object::<Pair>(bad).is_err());
        }
    }
}
