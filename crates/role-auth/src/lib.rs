//! The auth role: the only process that sees credentials.
#![deny(unsafe_code)]
#![cfg_attr(
    not(test),
    warn(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects
    )
)]
#![allow(dead_code)]

mod backends;
mod bindings;
mod hash;
mod name;
mod scram;
mod store_file;
mod work;
