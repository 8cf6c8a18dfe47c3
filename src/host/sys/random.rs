//! The kernel's random numbers.

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

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn bytes_differ() {
        assert_ne!(bytes::<16>().unwrap(), bytes::<16>().unwrap());
    }
}
