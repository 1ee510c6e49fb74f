//! Whether a client holds the key of the certificate that it showed, for somebody who was not there (SASL EXTERNAL).
//!
//! A session shakes hands with the client, but is believed nothing: what auth's workers are given is the handshake itself
//! (RFC 8446 section 4.4.1) and the client's signature over it. Nobody can make that but who has the client's key, and the
//! client makes it only once it has verified the server's own signature in the same handshake. So that it is this handshake
//! and not one of another day or another server's, the server's random number in it has to be one that auth has just made up,
//! and the server's certificate one of ours.
//!
//! Without I/O; time and all trust are passed in. Trusts no octet of the handshake.
//!
//! | module | what for |
//! |---|---|
//! | [`handshake`] | the handshake's messages, taken apart |
//! | [`verify()`] | what is demanded of them |
//! | [`fuzz`] | the same as plain functions for a fuzzer |
#![forbid(unsafe_code)]
#![cfg_attr(
    not(any(test, feature = "test-support")),
    warn(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects
    )
)]

pub mod fuzz;
pub mod handshake;
#[cfg(any(test, feature = "test-support"))]
pub mod made_up;
mod verify;

pub use verify::{Names, Refused, Shown, authority, verify};

/// Octets of the server's random number (RFC 8446 section 4.1.3).
pub const RANDOM_OCTETS: usize = 32;
