//! The random part that each side adds to an exchange, so that none can be played twice.

use std::fmt;

use base64ct::{Base64, Encoding};

/// Random octets that a nonce is made of: 144 bits, and a multiple of three, so that base64 needs no padding.
pub const NONCE_OCTETS: usize = 18;

/// Octets of one side's nonce as written; other programs use 16 to 64.
pub const MAX_NONCE_OCTETS: usize = 256;

/// What one side adds. New for every exchange: a repeated one lets an old exchange be played again.
#[derive(Clone, PartialEq, Eq)]
pub struct Nonce(String);

impl Nonce {
    /// From octets that the system's random source has just given.
    pub fn from_random(octets: &[u8; NONCE_OCTETS]) -> Self {
        Self(Base64::encode_string(octets))
    }

    /// From its text (RFC 5802 section 7, `printable`), for test vectors and replay; `None` if it is none.
    pub fn from_text(text: &str) -> Option<Self> {
        (text.len() <= MAX_NONCE_OCTETS && is_printable(text)).then(|| Self(text.to_owned()))
    }

    /// As written in messages.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Nonce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Nonce({})", self.0)
    }
}

/// One or more printable ASCII characters, no comma.
pub fn is_printable(text: &str) -> bool {
    !text.is_empty()
        && text
            .bytes()
            .all(|octet| octet.is_ascii_graphic() && octet != b',')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_nonce_of_random_octets_can_be_written() {
        for octet in 0..=u8::MAX {
            let nonce = Nonce::from_random(&[octet; NONCE_OCTETS]);
            assert_eq!(nonce.as_str().len(), 24);
            assert_eq!(Nonce::from_text(nonce.as_str()), Some(nonce));
        }
    }

    #[test]
    fn what_cannot_be_written_is_no_nonce() {
        let too_long = "a".repeat(MAX_NONCE_OCTETS + 1);
        for text in ["", "a,b", "a b", "\u{e4}", "a\n", too_long.as_str()] {
            assert_eq!(Nonce::from_text(text), None, "{text:?}");
        }
    }
}
