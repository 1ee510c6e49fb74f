//! The name of a SASL mechanism.

use std::fmt;

/// The name of a SASL mechanism: 1 to 20 octets of `A`-`Z`, `0`-`9`, `-` and `_` (RFC 4422 section 3.1).
///
/// Read in any case, kept and written in upper case.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MechanismName {
    octets: [u8; MechanismName::MAX_OCTETS],
    length: u8,
}

impl MechanismName {
    /// The longest name that RFC 4422 section 3.1 allows.
    pub const MAX_OCTETS: usize = 20;

    /// `None` if `name` is not the name of a mechanism, known or not.
    pub fn new(name: &[u8]) -> Option<MechanismName> {
        let allowed = |octet: &u8| octet.is_ascii_alphanumeric() || matches!(octet, b'-' | b'_');
        if name.is_empty() || !name.iter().all(allowed) {
            return None;
        }
        let mut octets = [0; MechanismName::MAX_OCTETS];
        octets.get_mut(..name.len())?.copy_from_slice(name);
        octets.make_ascii_uppercase();
        Some(MechanismName {
            octets,
            length: u8::try_from(name.len()).ok()?,
        })
    }

    /// The name in upper case.
    pub fn as_bytes(&self) -> &[u8] {
        self.octets
            .get(..usize::from(self.length))
            .unwrap_or_default()
    }

    /// The name in upper case.
    pub fn as_str(&self) -> &str {
        // Only ASCII gets in.
        std::str::from_utf8(self.as_bytes()).unwrap_or_default()
    }
}

impl fmt::Debug for MechanismName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MechanismName({})", self.as_str())
    }
}

impl fmt::Display for MechanismName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mechanism_is_named_in_any_case() {
        assert_eq!(
            MechanismName::new(b"scram-sha-256-plus").unwrap().as_str(),
            "SCRAM-SHA-256-PLUS"
        );
        assert_eq!(MechanismName::new(b"Plain"), MechanismName::new(b"PLAIN"));
    }

    #[test]
    fn what_cannot_name_a_mechanism_is_refused() {
        for refused in [
            &b""[..],
            b"PLA IN",
            b"PLAIN\0",
            b"PL\xc3\x84IN",
            b"=",
            &[b'A'; 21],
        ] {
            assert_eq!(
                MechanismName::new(refused),
                None,
                "{}",
                refused.escape_ascii()
            );
        }
    }
}
