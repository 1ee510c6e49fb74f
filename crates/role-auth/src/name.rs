//! User names and passwords as they may be looked up: foreign octets become these types once, and nothing else is.
//!
//! Runs in auth's worker processes. Trusts nothing.

use std::ffi::CStr;

use zeroize::Zeroizing;

/// Octets of a user name: a local part and a domain at their longest (RFC 5321 section 4.5.3.1).
pub const MAX_USER_OCTETS: usize = 64 + 1 + 255;

/// Octets of a password: libxcrypt's CRYPT_MAX_PASSPHRASE_SIZE, which is also what a command line could carry.
pub const MAX_PASSWORD_OCTETS: usize = 512;

/// A name that may be looked up: 1 to [`MAX_USER_OCTETS`] octets of UTF-8, no control characters, and no `:`, which
/// separates fields in every store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserName(String);

impl UserName {
    /// `None` for what no user can be called.
    pub fn parse(octets: &[u8]) -> Option<Self> {
        if octets.is_empty() || octets.len() > MAX_USER_OCTETS {
            return None;
        }
        let name = std::str::from_utf8(octets).ok()?;
        if name.chars().any(|c| c.is_control() || c == ':') {
            return None;
        }
        Some(Self(name.to_owned()))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether a store's spelling of a name is this one: exactly, but for the case of a domain's ASCII letters.
    pub fn is(&self, stored: &[u8]) -> bool {
        let name = self.0.as_bytes();
        if name == stored {
            return true;
        }
        let Some(at) = self.0.rfind('@') else {
            return false;
        };
        match (name.split_at_checked(at), stored.split_at_checked(at)) {
            (Some((local, domain)), Some((stored_local, stored_domain))) => {
                local == stored_local && domain.eq_ignore_ascii_case(stored_domain)
            }
            _ => false,
        }
    }
}

/// A password that may be verified: not empty, at most [`MAX_PASSWORD_OCTETS`], no NUL. Wiped when dropped.
pub struct Password {
    /// With a NUL behind it.
    octets: Zeroizing<Vec<u8>>,
}

impl Password {
    /// `None` for what no account can have, the empty password first of all.
    pub fn parse(octets: &[u8]) -> Option<Self> {
        if octets.is_empty() || octets.len() > MAX_PASSWORD_OCTETS || octets.contains(&0) {
            return None;
        }
        let mut copy = Vec::with_capacity(octets.len().saturating_add(1));
        copy.extend_from_slice(octets);
        copy.push(0);
        Some(Self {
            octets: Zeroizing::new(copy),
        })
    }

    /// What is hashed in place of a password that is none, so that it costs the same.
    pub fn placeholder() -> Self {
        Self {
            octets: Zeroizing::new(b"placeholder\0".to_vec()),
        }
    }

    /// The password, for a C library.
    pub fn as_c_str(&self) -> &CStr {
        CStr::from_bytes_with_nul(&self.octets).unwrap_or_default()
    }

    /// The password's octets.
    pub fn as_bytes(&self) -> &[u8] {
        self.as_c_str().to_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_no_store_can_hold_are_refused() {
        for name in [
            &b""[..],
            b"a:b",
            b"a\0b",
            b"a\nb",
            b"a\x7f",
            b"\xff",
            &[b'a'; MAX_USER_OCTETS + 1],
        ] {
            assert_eq!(UserName::parse(name), None, "{name:?}");
        }
        for name in ["joe", "joe@example.org", "jos\u{e9}", "a b"] {
            assert_eq!(UserName::parse(name.as_bytes()).unwrap().as_str(), name);
        }
    }

    #[test]
    fn only_the_case_of_the_domain_does_not_matter() {
        let name = UserName::parse(b"Joe@Example.ORG").unwrap();
        assert!(name.is(b"Joe@Example.ORG"));
        assert!(name.is(b"Joe@example.org"));
        assert!(!name.is(b"joe@example.org"));
        assert!(!name.is(b"Joe@example.orgs"));
        assert!(!name.is(b"J"));
        assert!(!UserName::parse(b"Joe").unwrap().is(b"joe"));
    }

    #[test]
    fn an_empty_password_is_none() {
        assert!(Password::parse(b"").is_none());
        assert!(Password::parse(b"a\0").is_none());
        assert!(Password::parse(&[b'a'; MAX_PASSWORD_OCTETS + 1]).is_none());
        assert_eq!(Password::parse(b"p w").unwrap().as_bytes(), b"p w");
    }
}
