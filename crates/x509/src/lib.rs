//! The little of X.509 (RFC 5280) that popa3d reads itself: what a certificate says, not whether it is true. One it writes,
//! the demo's.
//!
//! Used by the keyholder for the server's own certificates, and by auth's workers for those of clients, after their signatures
//! have been verified. Without I/O and without cryptography.
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

pub mod certificate;
pub mod der;
pub mod self_signed;
mod time;
