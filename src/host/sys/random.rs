//! The kernel's random numbers, and their hexadecimal form.

use std::fmt::Write;
use std::fs::File;
use std::io::{self, Read};

/// Returns `N` random bytes.
///
/// # Errors
/// /dev/urandom cannot be read.
pub fn bytes<const N: usize>() -> io::Result<[u8; N]> {
    let mut random = [0; N];
    File::open("/dev/urandom")?.read_exact(&mut random)?;
    Ok(random)
}

/// Formats bytes as lower-case hexadecimal digits, two per byte.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    // Reserved in advance: a string that grows would leave copies of a secret behind.
    let mut text = String::with_capacity(2 * bytes.len());
    for byte in bytes {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn bytes_differ_and_are_written_in_two_digits() {
        assert_ne!(bytes::<16>().unwrap(), bytes::<16>().unwrap());
        assert_eq!(hex(&[0, 10, 255]), "000aff");
    }
}
