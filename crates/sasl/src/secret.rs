//! Octets that nobody may read by accident: wiped when dropped, compared in constant time, not shown by `Debug`.

use std::fmt;

use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

/// A password, token or key.
#[derive(Clone)]
pub struct Secret(Zeroizing<Vec<u8>>);

impl Secret {
    /// Takes the octets over: no copy stays behind.
    pub fn new(octets: Vec<u8>) -> Self {
        Self(Zeroizing::new(octets))
    }

    /// A copy of what the caller keeps.
    pub fn copied(octets: &[u8]) -> Self {
        Self::new(octets.to_vec())
    }

    /// The octets.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Whether they are the same octets, in a time that depends on their number alone.
    pub fn is(&self, octets: &[u8]) -> bool {
        self.0.ct_eq(octets).into()
    }
}

impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        self.is(other.as_bytes())
    }
}

impl Eq for Secret {}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_not_shown_and_compares() {
        let secret = Secret::copied(b"pencil");
        assert_eq!(format!("{secret:?}"), "Secret(…)");
        assert!(secret.is(b"pencil"));
        assert!(!secret.is(b"pencils"));
        assert_ne!(secret, Secret::copied(b"pencim"));
    }
}
