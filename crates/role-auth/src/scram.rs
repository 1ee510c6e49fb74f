//! SCRAM-SHA-256 verifiers (RFC 5802, RFC 7677) as RFC 5803 spells them, and how a plain password is checked against one.
//!
//! Runs in auth's worker processes; the verifiers come from a file that only the administrator can write.

use base64ct::{Base64, Encoding};
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use crate::name::Password;

/// What an RFC 5803 verifier of this mechanism begins with.
pub const PREFIX: &str = "SCRAM-SHA-256$";

/// The most iterations of PBKDF2 a verifier may ask for: some seconds of work; a slip of the pen must not hold a worker.
const MAX_ITERATIONS: u32 = 10_000_000;

/// Octets of a salt; RFC 5803 sets no bound, implementations use 12 to 64.
const MAX_SALT_OCTETS: usize = 128;

type Key = [u8; 32];

/// `SCRAM-SHA-256$<iterations>:<salt>$<StoredKey>:<ServerKey>`, the last three in base64.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verifier {
    iterations: u32,
    salt: Vec<u8>,
    stored_key: Key,
}

impl Verifier {
    /// `None` for what is no such verifier.
    pub fn parse(text: &str) -> Option<Self> {
        let (parameters, keys) = text.strip_prefix(PREFIX)?.split_once('$')?;
        let (iterations, salt) = parameters.split_once(':')?;
        let (stored_key, server_key) = keys.split_once(':')?;
        let iterations: u32 = iterations.parse().ok()?;
        let salt = Base64::decode_vec(salt).ok()?;
        // Checked like the rest, though a plain password needs no ServerKey: SCRAM itself will.
        key(server_key)?;
        let sound = (1..=MAX_ITERATIONS).contains(&iterations)
            && (1..=MAX_SALT_OCTETS).contains(&salt.len());
        sound.then_some(Self {
            iterations,
            salt,
            stored_key: key(stored_key)?,
        })
    }

    /// A verifier that no password matches and that costs as much as one of `iterations`.
    pub fn unmatched(iterations: u32) -> Self {
        Self {
            iterations: iterations.clamp(1, MAX_ITERATIONS),
            salt: vec![0; 16],
            stored_key: [0; 32],
        }
    }

    /// What a check costs.
    pub fn iterations(&self) -> u32 {
        self.iterations
    }

    /// Whether the password is the one that the verifier was made from.
    pub fn matches(&self, password: &Password) -> bool {
        let prepared = prepare(password);
        let mut salted = Zeroizing::new(Key::default());
        pbkdf2::pbkdf2_hmac::<Sha256>(
            &prepared,
            &self.salt,
            self.iterations,
            salted.as_mut_slice(),
        );
        let client_key = Zeroizing::new(hmac(&salted, b"Client Key"));
        let stored_key: Key = Sha256::digest(client_key.as_slice()).into();
        stored_key.ct_eq(&self.stored_key).into()
    }
}

fn key(base64: &str) -> Option<Key> {
    Base64::decode_vec(base64).ok()?.try_into().ok()
}

fn hmac(key: &Key, data: &[u8]) -> Key {
    // A key of any length is taken: there is no error to come.
    Hmac::<Sha256>::new_from_slice(key)
        .map(|mac| mac.chain_update(data).finalize().into_bytes().into())
        .unwrap_or_default()
}

/// SASLprep (RFC 4013), as RFC 5802 section 2.2 wants; what it refuses is taken as it is, so that a password is never
/// rejected for its characters.
fn prepare(password: &Password) -> Zeroizing<Vec<u8>> {
    let prepared = password
        .as_str()
        .and_then(|text| stringprep::saslprep(text).ok())
        .map(|text| text.as_bytes().to_vec());
    Zeroizing::new(prepared.unwrap_or_else(|| password.as_bytes().to_vec()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 7677 section 3: user `user`, password `pencil`, salt `W22ZaJ0SNY7soEsUEjb6gQ==`, 4096 iterations; the keys
    /// computed from it with Python's hashlib.
    const PENCIL: &str = "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=";

    #[test]
    fn the_password_of_rfc_7677_matches_its_verifier() {
        let verifier = Verifier::parse(PENCIL).unwrap();
        assert!(verifier.matches(&Password::parse(b"pencil").unwrap()));
        assert!(!verifier.matches(&Password::parse(b"pencils").unwrap()));
    }

    #[test]
    fn a_password_is_prepared_before_it_is_hashed() {
        let composed = prepare(&Password::parse("\u{e9}".as_bytes()).unwrap());
        let decomposed = prepare(&Password::parse("e\u{301}".as_bytes()).unwrap());
        assert_eq!(composed, decomposed);
        assert_eq!(
            prepare(&Password::parse(b"\xff").unwrap()).as_slice(),
            b"\xff"
        );
    }

    #[test]
    fn an_unmatched_verifier_matches_nothing() {
        let verifier = Verifier::unmatched(1);
        assert!(!verifier.matches(&Password::placeholder()));
        assert_eq!(verifier.iterations(), 1);
    }

    #[test]
    fn what_is_no_verifier_is_refused() {
        for text in [
            "",
            "SCRAM-SHA-256$",
            "SCRAM-SHA-1$4096:QQ==$QQ==:QQ==",
            "SCRAM-SHA-256$0:QQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=",
            "SCRAM-SHA-256$99999999:QQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=",
            "SCRAM-SHA-256$4096:QQ==$QQ==:QQ==",
            "SCRAM-SHA-256$4096:!$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=",
        ] {
            assert_eq!(Verifier::parse(text), None, "{text}");
        }
    }
}
