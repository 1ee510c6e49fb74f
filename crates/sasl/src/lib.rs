//! SASL mechanisms (RFC 4422) without I/O, both halves: [`server`] for the auth role, [`client`] for the client library.
//!
//! Messages go in and out as the mechanism's own octets; [`base64`] is how POP3 carries them (RFC 5034). Time and randomness
//! are passed in, nothing blocks, nothing is logged. What a server must look up (a verifier, a token's validity) it asks of its
//! caller by the [`server::Step`] it returns.
//!
//! ```
//! use sasl::client::{Client, Credentials, choose};
//! use sasl::scram::{Decoys, Hash, Nonce, Verifier};
//! use sasl::server::{self, Step};
//! use sasl::{Mechanism, Secret};
//!
//! // Random octets, which the caller gets from the system; fixed here.
//! let (client_nonce, server_nonce) = (Nonce::from_random(&[1; 18]), Nonce::from_random(&[2; 18]));
//! let decoys = Decoys::new([3; 32], 10_000, 16);
//! let stored = Verifier::derive(Hash::Sha256, b"pencil", &[4; 16], 10_000)?.to_text();
//!
//! let credentials = Credentials::Password {
//!     user: "ann".to_owned(),
//!     password: Secret::copied(b"pencil"),
//!     authzid: None,
//! };
//! let offered = [Mechanism::Plain, Mechanism::ScramSha256];
//! let mechanism = choose(&offered, &credentials, None, true).ok_or("nothing in common")?;
//! let mut client = Client::new(mechanism, &credentials, None, &client_nonce)?;
//!
//! let initial = client.initial_response();
//! let mut step = server::start(mechanism, initial.as_ref().map(Secret::as_bytes), &[]);
//! let user = loop {
//!     step = match step {
//!         Step::FindVerifier(find) => {
//!             let found = (find.user() == "ann").then(|| Verifier::parse(&stored)).transpose()?;
//!             let verifier = decoys.known_or_decoy(find.user(), find.hash(), found);
//!             find.answer(verifier, &server_nonce)
//!         }
//!         Step::Challenge(challenge) => {
//!             let answer = client.respond(challenge.octets())?;
//!             challenge.answer(answer.as_bytes())
//!         }
//!         Step::Authenticated(user) => break user,
//!         other => return Err(format!("{other:?}").into()),
//!     }
//! };
//! assert_eq!(user, "ann");
//! client.finish()?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Trusts no octet of the other side. Every message is bounded before it is parsed, comparisons take constant time, passwords and
//! keys are wiped when dropped.

#![forbid(unsafe_code)]
#![cfg_attr(
    not(test),
    warn(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects
    )
)]

pub mod base64;
mod channel_binding;
pub mod client;
mod cram_md5;
pub mod fuzz;
mod gs2;
mod mechanism;
mod oauth;
mod plain;
pub mod saslprep;
pub mod scram;
mod secret;
pub mod server;

pub use channel_binding::{
    BindingType, ChannelBinding, EXPORTER_LABEL, EXPORTER_OCTETS, MAX_BINDING_OCTETS,
};
pub use mechanism::{MAX_MESSAGE_OCTETS, Mechanism};
pub use oauth::TokenError;
pub use secret::Secret;

/// Octets of a user name, as sent and as prepared: what RFC 4616 section 2 asks every server to accept, and more than the 254 of
/// the longest mail address (RFC 5321 section 4.5.3.1.3).
pub const MAX_NAME_OCTETS: usize = 255;

/// Octets of a password: four times what RFC 4616 section 2 asks every server to accept.
pub const MAX_PASSWORD_OCTETS: usize = 1024;
