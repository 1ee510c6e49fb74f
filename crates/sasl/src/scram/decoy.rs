//! Verifiers for users who do not exist, so that a stranger cannot tell (RFC 5802 section 9).
//!
//! An unknown user's salt is a keyed hash of the name: the same each time, another for each name, as a real user's is. The
//! exchange then runs to its end, at the usual cost, against keys that no password has.

use super::{Hash, MAX_ITERATIONS, MAX_SALT_OCTETS, MIN_ITERATIONS, Verifier};
use crate::Secret;

/// Octets of the key of the keyed hash.
pub const DECOY_KEY_OCTETS: usize = 32;

/// What a server makes decoys from.
///
/// Decoys hide unknown users among those whose verifiers have the same iteration count and length of salt; users whose verifiers
/// differ from the usual stand out.
#[derive(Clone, Debug)]
pub struct Decoys {
    key: Secret,
    iterations: u32,
    salt_octets: usize,
}

impl Decoys {
    /// The key is random, of this server, and kept across restarts: a salt that changes tells that the user is unknown.
    /// `iterations` and `salt_octets` are those of the real verifiers; what is out of bounds is moved to the nearest bound.
    pub fn new(key: [u8; DECOY_KEY_OCTETS], iterations: u32, salt_octets: usize) -> Self {
        Self {
            key: Secret::new(key.to_vec()),
            iterations: iterations.clamp(MIN_ITERATIONS, MAX_ITERATIONS),
            salt_octets: salt_octets.clamp(1, MAX_SALT_OCTETS),
        }
    }

    /// The verifier of a user who does not exist. `user` is the name as the store would spell it: where `Ann` and `ann` are one
    /// user, they must be one name here.
    ///
    /// No password matches it: its StoredKey is no hash of anything known.
    pub fn verifier(&self, user: &str, hash: Hash) -> Verifier {
        let mut salt = Vec::new();
        for block in 0..=u8::MAX {
            if salt.len() >= self.salt_octets {
                break;
            }
            salt.extend_from_slice(self.derived(hash, b"salt", block, user).as_bytes());
        }
        salt.truncate(self.salt_octets);
        let key = |purpose: &[u8]| {
            let derived = self.derived(hash, purpose, 0, user);
            // SHA-256's 32 octets, cut to SHA-1's 20 where those are asked for.
            Secret::new(
                derived
                    .as_bytes()
                    .iter()
                    .copied()
                    .take(hash.octets())
                    .collect(),
            )
        };
        Verifier::from_parts(
            hash,
            self.iterations,
            salt,
            key(b"StoredKey"),
            key(b"ServerKey"),
        )
    }

    /// The verifier that was found, or a decoy if none was, or none of that hash. The decoy is made in either case, so that its
    /// cost tells nothing.
    pub fn known_or_decoy(&self, user: &str, hash: Hash, found: Option<Verifier>) -> Verifier {
        let decoy = self.verifier(user, hash);
        found.filter(|found| found.hash() == hash).unwrap_or(decoy)
    }

    fn derived(&self, hash: Hash, purpose: &[u8], block: u8, user: &str) -> Secret {
        let scheme = hash.scheme().as_bytes();
        // Neither purpose nor scheme holds NUL, and a block is one octet: no two inputs join to the same octets.
        let parts = [purpose, b"\0", scheme, b"\0", &[block], user.as_bytes()];
        Hash::Sha256.hmac(self.key.as_bytes(), &parts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scram::SALT_OCTETS;

    fn decoys() -> Decoys {
        Decoys::new([7; DECOY_KEY_OCTETS], 10_000, SALT_OCTETS)
    }

    #[test]
    fn a_decoy_is_the_same_each_time_and_another_for_each_name_key_and_hash() {
        let ann = decoys().verifier("ann", Hash::Sha256);
        assert_eq!(ann, decoys().verifier("ann", Hash::Sha256));
        let others = [
            decoys().verifier("bob", Hash::Sha256),
            decoys().verifier("ann", Hash::Sha1),
            Decoys::new([8; DECOY_KEY_OCTETS], 10_000, SALT_OCTETS).verifier("ann", Hash::Sha256),
        ];
        for other in others {
            assert_ne!(other.salt(), ann.salt());
        }
    }

    #[test]
    fn a_decoy_has_the_shape_of_a_real_verifier() {
        for hash in [Hash::Sha1, Hash::Sha256] {
            for salt_octets in [1, 16, 32, 64, MAX_SALT_OCTETS] {
                let salt = vec![1; salt_octets];
                let real = Verifier::derive(hash, b"pencil", &salt, MIN_ITERATIONS).unwrap();
                let decoy = Decoys::new([7; DECOY_KEY_OCTETS], MIN_ITERATIONS, salt_octets)
                    .verifier("ann", hash);
                assert_eq!(decoy.to_text().len(), real.to_text().len());
                assert_eq!(decoy.iterations(), real.iterations());
                assert_eq!(Verifier::parse(&decoy.to_text()), Ok(decoy));
            }
        }
    }

    #[test]
    fn a_decoy_stands_in_for_a_verifier_of_another_hash() {
        let sha_1 = Verifier::derive(Hash::Sha1, b"pencil", b"salt", MIN_ITERATIONS).unwrap();
        let known = |hash| decoys().known_or_decoy("ann", hash, Some(sha_1.clone()));
        assert_eq!(known(Hash::Sha1), sha_1);
        assert_eq!(known(Hash::Sha256), decoys().verifier("ann", Hash::Sha256));
        assert_eq!(
            decoys().known_or_decoy("ann", Hash::Sha1, None),
            decoys().verifier("ann", Hash::Sha1)
        );
    }

    #[test]
    fn out_of_bounds_is_moved_to_the_bound() {
        let verifier = Decoys::new([7; DECOY_KEY_OCTETS], 1, 0).verifier("ann", Hash::Sha256);
        assert_eq!(verifier.iterations(), MIN_ITERATIONS);
        assert_eq!(verifier.salt().len(), 1);
    }
}
