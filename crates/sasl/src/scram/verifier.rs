//! What a server keeps of a password: enough to check it, not to use it (RFC 5802 section 3), and its text form.

use std::fmt;

use base64ct::{Base64, Encoding};

use super::hash::{Hash, xor};
use super::messages::positive_number;
use super::{CLIENT_KEY, MAX_ITERATIONS, MIN_ITERATIONS, SERVER_KEY};
use crate::Secret;

/// Octets of salt for a new verifier: RFC 5803 wants at least 64 bits.
pub const SALT_OCTETS: usize = 16;

/// Octets of a salt; other programs use 8 to 64.
pub const MAX_SALT_OCTETS: usize = 128;

/// One verifier serves SCRAM and, through [`Verifier::verify_password`], every mechanism in which the server sees the password.
///
/// Who steals it can guess passwords at the cost of the iterations, and can play the *server* towards that user, but cannot log in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verifier {
    hash: Hash,
    iterations: u32,
    salt: Vec<u8>,
    stored_key: Secret,
    server_key: Secret,
}

/// Why a text or its parts make no verifier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VerifierError {
    /// Neither `SCRAM-…$iterations:salt$StoredKey:ServerKey` nor `{SCRAM-…}iterations,salt,StoredKey,ServerKey`, of a hash known
    /// here.
    Form,
    /// Outside [`MIN_ITERATIONS`] to [`MAX_ITERATIONS`].
    Iterations,
    /// Not base64, empty, or longer than [`MAX_SALT_OCTETS`].
    Salt,
    /// Not base64, or not as long as the hash.
    Key,
    /// An empty password is none; and to HMAC, NULs at the end of a key are as good as none.
    Password,
}

impl fmt::Display for VerifierError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            VerifierError::Form => f.write_str("is no SCRAM verifier of RFC 5803's form"),
            VerifierError::Iterations => write!(
                f,
                "has an iteration count outside {MIN_ITERATIONS} to {MAX_ITERATIONS}"
            ),
            VerifierError::Salt => f.write_str("has a salt that is not 1 to 128 octets in base64"),
            VerifierError::Key => f.write_str("has a key that is not as long as its hash"),
            VerifierError::Password => f.write_str("would be of a password empty or with NUL"),
        }
    }
}

impl std::error::Error for VerifierError {}

impl Verifier {
    /// Makes a verifier from a password; slow on purpose. The salt comes from the system's random source, [`SALT_OCTETS`] of it.
    ///
    /// # Errors
    /// [`VerifierError`] for a password empty or with NUL, and for what is out of bounds.
    pub fn derive(
        hash: Hash,
        password: &[u8],
        salt: &[u8],
        iterations: u32,
    ) -> Result<Self, VerifierError> {
        if !is_password(password) {
            return Err(VerifierError::Password);
        }
        check_bounds(salt, iterations)?;
        let (stored_key, server_key) = keys(hash, password, salt, iterations);
        Ok(Self {
            hash,
            iterations,
            salt: salt.to_vec(),
            stored_key,
            server_key,
        })
    }

    /// From its parts, which are within bounds: what a decoy is made of.
    pub(super) fn from_parts(
        hash: Hash,
        iterations: u32,
        salt: Vec<u8>,
        stored_key: Secret,
        server_key: Secret,
    ) -> Self {
        Self {
            hash,
            iterations,
            salt,
            stored_key,
            server_key,
        }
    }

    /// Reads the form of RFC 5803, or the one that Dovecot and GNU SASL write.
    ///
    /// # Errors
    /// [`VerifierError`].
    pub fn parse(text: &str) -> Result<Self, VerifierError> {
        let (hash, parts) = [Hash::Sha1, Hash::Sha256]
            .into_iter()
            .find_map(|hash| Some((hash, split(hash, text)?)))
            .ok_or(VerifierError::Form)?;
        let [iterations, salt, stored_key, server_key] = parts;
        let iterations = positive_number(iterations).map_err(|_| VerifierError::Iterations)?;
        let salt = Base64::decode_vec(salt).map_err(|_| VerifierError::Salt)?;
        check_bounds(&salt, iterations)?;
        Ok(Self {
            hash,
            iterations,
            salt,
            stored_key: parse_key(hash, stored_key)?,
            server_key: parse_key(hash, server_key)?,
        })
    }

    /// Writes the form of RFC 5803, which [`Verifier::parse`] reads: `SCRAM-SHA-256$iterations:salt$StoredKey:ServerKey`.
    pub fn to_text(&self) -> String {
        format!(
            "{}${}:{}${}:{}",
            self.hash.scheme(),
            self.iterations,
            Base64::encode_string(&self.salt),
            Base64::encode_string(self.stored_key.as_bytes()),
            Base64::encode_string(self.server_key.as_bytes()),
        )
    }

    /// Whether this is the password; takes as long as the iterations do, right or wrong.
    pub fn verify_password(&self, password: &[u8]) -> bool {
        let (stored_key, _) = keys(self.hash, password, &self.salt, self.iterations);
        (stored_key == self.stored_key) & is_password(password)
    }

    /// The server's signature of `auth_message`, if `proof` was made with the password. Fast: the client did the slow part.
    pub(crate) fn verify_proof(&self, auth_message: &[&[u8]], proof: &[u8]) -> Option<Secret> {
        let signature = self.hash.hmac(self.stored_key.as_bytes(), auth_message);
        let client_key = xor(proof, signature.as_bytes());
        let proven = self.hash.digest(client_key.as_bytes()) == self.stored_key;
        // The shorter of two octet strings decides what XOR yields: a proof has the hash's length.
        let proven = proven & (proof.len() == self.hash.octets());
        proven.then(|| self.hash.hmac(self.server_key.as_bytes(), auth_message))
    }

    /// The hash it is made with.
    pub fn hash(&self) -> Hash {
        self.hash
    }

    /// What a check costs.
    pub fn iterations(&self) -> u32 {
        self.iterations
    }

    /// The salt, which every client that asks is told.
    pub fn salt(&self) -> &[u8] {
        &self.salt
    }
}

fn is_password(octets: &[u8]) -> bool {
    !octets.is_empty() && !octets.contains(&0)
}

/// StoredKey and ServerKey.
fn keys(hash: Hash, password: &[u8], salt: &[u8], iterations: u32) -> (Secret, Secret) {
    let salted = hash.salted_password(password, salt, iterations);
    let client_key = hash.hmac(salted.as_bytes(), &[CLIENT_KEY]);
    let server_key = hash.hmac(salted.as_bytes(), &[SERVER_KEY]);
    (hash.digest(client_key.as_bytes()), server_key)
}

fn check_bounds(salt: &[u8], iterations: u32) -> Result<(), VerifierError> {
    if !(MIN_ITERATIONS..=MAX_ITERATIONS).contains(&iterations) {
        return Err(VerifierError::Iterations);
    }
    if salt.is_empty() || salt.len() > MAX_SALT_OCTETS {
        return Err(VerifierError::Salt);
    }
    Ok(())
}

/// Iterations, salt, StoredKey and ServerKey in text, if this is a verifier of `hash`.
fn split(hash: Hash, text: &str) -> Option<[&str; 4]> {
    if let Some(text) = text.strip_prefix('{') {
        let text = text.strip_prefix(hash.scheme())?.strip_prefix('}')?;
        let mut parts = text.split(',');
        let four = [parts.next()?, parts.next()?, parts.next()?, parts.next()?];
        return parts.next().is_none().then_some(four);
    }
    let text = text.strip_prefix(hash.scheme())?.strip_prefix('$')?;
    let (info, value) = text.split_once('$')?;
    let (iterations, salt) = info.split_once(':')?;
    let (stored_key, server_key) = value.split_once(':')?;
    Some([iterations, salt, stored_key, server_key])
}

fn parse_key(hash: Hash, base64: &str) -> Result<Secret, VerifierError> {
    Base64::decode_vec(base64)
        .ok()
        .filter(|key| key.len() == hash.octets())
        .map(Secret::new)
        .ok_or(VerifierError::Key)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 7677 section 3: password `pencil`; the keys computed from it with Python's hashlib.
    const SHA_256: &str = "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=";

    /// RFC 5802 section 5, computed likewise.
    const SHA_1: &str = "SCRAM-SHA-1$4096:QSXCR+Q6sek8bf92$6dlGYMOdZcOPutkcNY8U2g7vK9Y=:D+CSWLOshSulAsxiupA+qs2/fTE=";

    #[test]
    fn the_passwords_of_the_rfcs_match_their_verifiers() {
        for text in [SHA_256, SHA_1] {
            let verifier = Verifier::parse(text).unwrap();
            assert!(verifier.verify_password(b"pencil"));
            for wrong in [&b""[..], b"pencils", b"penci", b"Pencil", b"pencil\0"] {
                assert!(!verifier.verify_password(wrong));
            }
            let derived =
                Verifier::derive(verifier.hash(), b"pencil", verifier.salt(), 4096).unwrap();
            assert_eq!(derived, verifier);
            assert_eq!(derived.to_text(), text);
        }
    }

    #[test]
    fn dovecots_form_is_read_too() {
        for text in [SHA_256, SHA_1] {
            let (scheme, rest) = text.split_once('$').unwrap();
            let dovecot = format!("{{{scheme}}}{}", rest.replace([':', '$'], ","));
            assert_eq!(Verifier::parse(&dovecot), Verifier::parse(text));
        }
    }

    #[test]
    fn what_is_no_verifier_is_refused() {
        let dovecot = "{SCRAM-SHA-256}4096,W22ZaJ0SNY7soEsUEjb6gQ==,WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=,wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=";
        assert!(Verifier::parse(dovecot).is_ok());
        let swap = |from: &str, to: &str| SHA_256.replacen(from, to, 1);
        let long_salt = Base64::encode_string(&[0; MAX_SALT_OCTETS + 1]);
        for (text, error) in [
            (String::new(), VerifierError::Form),
            (swap("SCRAM-SHA-256", "scram-sha-256"), VerifierError::Form),
            (swap("SCRAM-SHA-256", "SCRAM-SHA-512"), VerifierError::Form),
            (swap("SCRAM-SHA-256", "SCRAM-SHA-1"), VerifierError::Key),
            (swap(":", ","), VerifierError::Form),
            (format!("{dovecot},x"), VerifierError::Form),
            (swap("4096", "4095"), VerifierError::Iterations),
            (swap("4096", "2000001"), VerifierError::Iterations),
            (swap("4096", "04096"), VerifierError::Iterations),
            (swap("4096", "99999999999"), VerifierError::Iterations),
            (swap("W22Z", "!"), VerifierError::Salt),
            (swap("W22ZaJ0SNY7soEsUEjb6gQ==", ""), VerifierError::Salt),
            (
                swap("W22ZaJ0SNY7soEsUEjb6gQ==", &long_salt),
                VerifierError::Salt,
            ),
            (swap("T4qY=", "T4qY"), VerifierError::Key),
            (format!("{SHA_256} "), VerifierError::Key),
        ] {
            assert_eq!(Verifier::parse(&text), Err(error), "{text}");
        }
    }

    #[test]
    fn a_password_empty_or_with_nul_has_no_verifier() {
        for password in [&b""[..], b"pencil\0", b"\0"] {
            assert_eq!(
                Verifier::derive(Hash::Sha256, password, b"salt", 4096),
                Err(VerifierError::Password)
            );
        }
    }

    #[test]
    fn a_proof_of_another_length_proves_nothing() {
        let verifier = Verifier::parse(SHA_256).unwrap();
        for length in [0, 31, 33, 64] {
            assert_eq!(verifier.verify_proof(&[b"a"], &vec![0; length]), None);
        }
    }

    #[test]
    fn debug_shows_no_key() {
        let shown = format!("{:?}", Verifier::parse(SHA_256).unwrap());
        assert!(shown.contains("stored_key: Secret(…)"), "{shown}");
        assert!(shown.contains("server_key: Secret(…)"), "{shown}");
    }
}
