//! SCRAM (RFC 5802, RFC 7677): what both halves share. The halves themselves are [`crate::server`] and [`crate::client`].

mod decoy;
mod hash;
pub(crate) mod messages;
mod nonce;
mod verifier;

pub use decoy::{DECOY_KEY_OCTETS, Decoys};
pub use hash::Hash;
pub(crate) use hash::{mac, xor};
pub use nonce::{MAX_NONCE_OCTETS, NONCE_OCTETS, Nonce};
pub use verifier::{MAX_SALT_OCTETS, SALT_OCTETS, Verifier, VerifierError};

/// Octets of one message: a name of 255 octets, twice and escaped, two nonces, salt and binding take less.
pub const MAX_SCRAM_OCTETS: usize = 2 * 1024;

/// The fewest iterations, in a stored verifier and in what a client lets a server ask: RFC 7677 section 4. A server that asks for
/// fewer may be after a proof that is cheap to guess passwords by.
pub const MIN_ITERATIONS: u32 = 4096;

/// The most iterations, in a stored verifier and in what a client lets a server ask: more than is advised of PBKDF2 with SHA-1 in
/// 2023 (1,300,000, OWASP), and about a second of work, which a hostile server can make a client do.
pub const MAX_ITERATIONS: u32 = 2_000_000;

/// The iterations of a new verifier, and of decoys where there is no verifier yet: some tens of milliseconds, as the password
/// hashes of today's systems take. Every PLAIN login costs the server as much, every SCRAM login the client.
pub const DEFAULT_ITERATIONS: u32 = 100_000;

/// The keys that a client's proof and a server's signature are made with (RFC 5802 section 3).
pub(crate) const CLIENT_KEY: &[u8] = b"Client Key";
pub(crate) const SERVER_KEY: &[u8] = b"Server Key";
