//! The hash functions of the family, and what RFC 5802 section 2.2 builds from them.

use hmac::{Hmac, KeyInit, Mac};
use sha1::Sha1;
use sha2::{Digest, Sha256};
use zeroize::Zeroize;

use crate::Secret;
use crate::saslprep::prepare_password;

/// The hash function of a mechanism.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Hash {
    /// SHA-1: for clients that know nothing better; HMAC with it is still sound (RFC 6194 section 3.3).
    Sha1,
    /// SHA-256.
    Sha256,
}

impl Hash {
    /// The name of the mechanism without `-PLUS`, which is also the scheme of a stored verifier (RFC 5803).
    pub fn scheme(self) -> &'static str {
        match self {
            Hash::Sha1 => "SCRAM-SHA-1",
            Hash::Sha256 => "SCRAM-SHA-256",
        }
    }

    /// Octets of a hash and of every key.
    pub fn octets(self) -> usize {
        match self {
            Hash::Sha1 => 20,
            Hash::Sha256 => 32,
        }
    }

    /// `H(data)`
    pub(crate) fn digest(self, data: &[u8]) -> Secret {
        match self {
            Hash::Sha1 => taken(Sha1::digest(data).as_mut_slice()),
            Hash::Sha256 => taken(Sha256::digest(data).as_mut_slice()),
        }
    }

    /// `HMAC(key, parts joined)`
    pub(crate) fn hmac(self, key: &[u8], parts: &[&[u8]]) -> Secret {
        match self {
            Hash::Sha1 => mac::<Hmac<Sha1>>(key, parts),
            Hash::Sha256 => mac::<Hmac<Sha256>>(key, parts),
        }
    }

    /// `SaltedPassword := Hi(Normalize(password), salt, i)`: the slow part.
    pub(crate) fn salted_password(self, password: &[u8], salt: &[u8], iterations: u32) -> Secret {
        let password = prepare_password(password);
        let mut key = vec![0; self.octets()];
        match self {
            Hash::Sha1 => pbkdf2::pbkdf2_hmac::<Sha1>(&password, salt, iterations, &mut key),
            Hash::Sha256 => pbkdf2::pbkdf2_hmac::<Sha256>(&password, salt, iterations, &mut key),
        }
        Secret::new(key)
    }
}

/// HMAC (RFC 2104) over the parts.
#[expect(
    clippy::expect_used,
    reason = "HMAC takes a key of any length, so this cannot fail"
)]
pub(crate) fn mac<M: Mac + KeyInit>(key: &[u8], parts: &[&[u8]]) -> Secret {
    let mut mac = M::new_from_slice(key).expect("a key of any length");
    for part in parts {
        mac.update(part);
    }
    taken(mac.finalize().into_bytes().as_mut_slice())
}

/// Moves octets from where they would stay behind.
fn taken(octets: &mut [u8]) -> Secret {
    let secret = Secret::copied(octets);
    octets.zeroize();
    secret
}

/// `a XOR b`, as long as the shorter.
pub(crate) fn xor(a: &[u8], b: &[u8]) -> Secret {
    Secret::new(a.iter().zip(b).map(|(a, b)| a ^ b).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(secret: &Secret) -> String {
        secret
            .as_bytes()
            .iter()
            .map(|o| format!("{o:02x}"))
            .collect()
    }

    /// RFC 4231 section 4.3 and RFC 2202 section 3, test case 2 of each.
    #[test]
    fn hmac_is_that_of_the_rfcs() {
        let parts: &[&[u8]] = &[b"what do ya want ", b"for nothing?"];
        assert_eq!(
            hex(&Hash::Sha256.hmac(b"Jefe", parts)),
            "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
        );
        assert_eq!(
            hex(&Hash::Sha1.hmac(b"Jefe", parts)),
            "effcdf6ae5eb2fa2d27416d5f184df9c259a7c79"
        );
    }

    /// RFC 6070 section 2, the test with 4096 iterations.
    #[test]
    fn hi_is_pbkdf2() {
        assert_eq!(
            hex(&Hash::Sha1.salted_password(b"password", b"salt", 4096)),
            "4b007901b765489abead49d926f721d065a429c1"
        );
    }

    #[test]
    fn the_password_is_prepared_before_it_is_hashed() {
        let salted = |password: &str| Hash::Sha256.salted_password(password.as_bytes(), b"s", 1);
        assert_eq!(salted("I\u{ad}X"), salted("\u{2168}"));
        assert_ne!(salted("IX"), salted("ix"));
    }
}
