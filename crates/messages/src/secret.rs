//! Octets that must not outlive their use: passwords, APOP digests.

use std::fmt;

use serde::{Deserialize, Serialize};
use zeroize::{Zeroize, ZeroizeOnDrop};

/// A password or another secret: wiped when dropped, never shown by `Debug`.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, Zeroize, ZeroizeOnDrop)]
pub struct Secret(Vec<u8>);

impl Secret {
    /// Takes a copy of `octets`; wiping the original is the caller's part.
    pub fn copied_from(octets: &[u8]) -> Self {
        // Exactly sized: a vector that grew would leave copies of its beginning in freed memory.
        Self(octets.to_vec())
    }

    /// The octets themselves, for the one who verifies them.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_shows_nothing_of_it() {
        assert_eq!(
            format!("{:?}", Secret::copied_from(b"hunter2")),
            "Secret(…)"
        );
    }
}
