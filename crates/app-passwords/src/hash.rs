//! What is kept of an app password, and how app passwords are made.
//!
//! One round of HMAC-SHA-256 with a salt, and not a hash made to be slow. Slow hashes make up for what people choose; app
//! passwords are drawn, 120 bits each, and nobody guesses one whatever a guess costs. In return a user may have many, and a
//! wrong password is compared with all of them for some microseconds. That holds for drawn passwords alone, which is why no
//! other can be put in ([`is_generated`]).

use std::fmt;

use base64ct::{Base64, Encoding};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

/// Octets of a salt. It keeps equal passwords from being seen to be equal; they are none.
pub const SALT_OCTETS: usize = 16;

/// Random octets that a password is made from.
pub const PASSWORD_RANDOM_OCTETS: usize = 15;

/// Octets of SHA-256.
const DIGEST_OCTETS: usize = 32;

/// Characters between two hyphens.
const GROUP: usize = 4;

/// RFC 4648 section 6, in lower case: nothing that is mistaken for something else on paper.
const ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";

/// What an entry's hash begins with.
const SCHEME: &str = "sha256";

/// What is kept of a password: `sha256$salt$digest`, both in base64.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hash {
    salt: [u8; SALT_OCTETS],
    digest: [u8; DIGEST_OCTETS],
}

impl Hash {
    /// Of a password, with a salt that was drawn for it.
    pub fn of(password: &[u8], salt: &[u8; SALT_OCTETS]) -> Self {
        Self {
            salt: *salt,
            digest: digest(password, salt),
        }
    }

    /// What is compared with where there is nothing to compare with: no password has it.
    pub fn of_nobody() -> Self {
        Self {
            salt: [0; SALT_OCTETS],
            digest: [0; DIGEST_OCTETS],
        }
    }

    /// Whether it is kept of this password; in constant time.
    pub fn is_of(&self, password: &[u8]) -> bool {
        digest(password, &self.salt).ct_eq(&self.digest).into()
    }

    /// Parses `sha256$salt$digest`.
    pub fn parse(text: &str) -> Option<Self> {
        let (salt, digest) = text
            .strip_prefix(SCHEME)?
            .strip_prefix('$')?
            .split_once('$')?;
        let mut hash = Self::of_nobody();
        let read = |text: &str, octets: &mut [u8]| {
            let length = octets.len();
            Base64::decode(text, octets).is_ok_and(|decoded| decoded.len() == length)
        };
        (read(salt, &mut hash.salt) && read(digest, &mut hash.digest)).then_some(hash)
    }
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (salt, digest) = (&self.salt, &self.digest);
        let (salt, digest) = (Base64::encode_string(salt), Base64::encode_string(digest));
        write!(f, "{SCHEME}${salt}${digest}")
    }
}

fn digest(password: &[u8], salt: &[u8]) -> [u8; DIGEST_OCTETS] {
    match Hmac::<Sha256>::new_from_slice(salt) {
        Ok(mut mac) => {
            mac.update(password);
            mac.finalize().into_bytes().into()
        }
        // HMAC takes keys of any length.
        Err(_) => [0; DIGEST_OCTETS],
    }
}

/// A password of random octets: `abcd-efgh-ijkl-mnop-qrst-uvwx`.
pub fn generate(random: &[u8; PASSWORD_RANDOM_OCTETS]) -> Zeroizing<String> {
    let characters = PASSWORD_RANDOM_OCTETS * 8 / 5;
    let mut text = Zeroizing::new(String::with_capacity(characters * 2));
    // Five octets are eight characters.
    for (number, chunk) in random.as_chunks::<5>().0.iter().enumerate() {
        let bits = chunk
            .iter()
            .fold(0_u64, |bits, &octet| bits << 8 | u64::from(octet));
        for place in 0..8_usize {
            if place % GROUP == 0 && (number, place) != (0, 0) {
                text.push('-');
            }
            let shift = 35_usize.saturating_sub(place.saturating_mul(5));
            let index = usize::try_from(bits >> shift & 0x1F).unwrap_or_default();
            let character = ALPHABET.get(index).copied().unwrap_or_default();
            text.push(char::from(character));
        }
    }
    text
}

/// Whether a password has the form of those of [`generate`]: 24 characters in groups of four. A person's own does not.
pub fn is_generated(password: &str) -> bool {
    let groups: Vec<&str> = password.split('-').collect();
    groups.len() == PASSWORD_RANDOM_OCTETS * 8 / 5 / GROUP
        && groups.iter().all(|group| {
            group.len() == GROUP && group.bytes().all(|octet| ALPHABET.contains(&octet))
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_hash_is_of_one_password() {
        // Made with `printf %s secret | openssl dgst -sha256 -mac HMAC -macopt hexkey:000102030405060708090a0b0c0d0e0f`.
        let text = "sha256$AAECAwQFBgcICQoLDA0ODw==$nMgQ9jNzbHO+a+edTJtThysbAf0Uuf3xf3lv+tu7YT4=";
        let salt: [u8; SALT_OCTETS] = std::array::from_fn(|at| u8::try_from(at).unwrap());
        let hash = Hash::of(b"secret", &salt);
        assert_eq!(hash.to_string(), text);
        assert_eq!(Hash::parse(text), Some(hash.clone()));
        assert!(hash.is_of(b"secret"));
        assert!(!hash.is_of(b"secret\0") && !hash.is_of(b"Secret") && !hash.is_of(b""));
        assert!(!Hash::of_nobody().is_of(b""));
    }

    #[test]
    fn known_octets_make_a_known_password() {
        // RFC 4648 section 10: "fooba" is MZXW6YTB.
        let password = generate(b"foobafoobafooba");
        assert_eq!(*password, "mzxw-6ytb-mzxw-6ytb-mzxw-6ytb");
    }

    #[test]
    fn what_a_person_chooses_has_not_the_form() {
        for password in [
            "",
            "secret",
            "correct-horse-battery-staple",
            "mzxw-6ytb-mzxw-6ytb-mzxw",
            "mzxw-6ytb-mzxw-6ytb-mzxw-6yt1",
            "MZXW-6YTB-MZXW-6YTB-MZXW-6YTB",
            "mzxw6-ytb-mzxw-6ytb-mzxw-6ytb",
            "mzxw-6ytb-mzxw-6ytb-mzxw-6ytb-",
        ] {
            assert!(!is_generated(password), "{password}");
        }
    }

    proptest! {
        #[test]
        fn what_is_generated_has_the_form(random in any::<[u8; PASSWORD_RANDOM_OCTETS]>()) {
            prop_assert!(is_generated(&generate(&random)));
        }

        #[test]
        fn no_other_text_is_a_hash(text in "\\PC*") {
            if let Some(hash) = Hash::parse(&text) {
                prop_assert_eq!(hash.to_string(), text);
            }
        }
    }
}
