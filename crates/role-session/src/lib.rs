//! The session spawner, and the sessions it forks: one process for each connection that has spoken.
//!
//! Both run as the unprivileged user in an empty directory. The spawner holds no client's socket but the one it is passing on,
//! and parses nothing. A session speaks the AUTHORIZATION state with one client: it holds no secret, knows no user, and
//! can ask auth one question at a time on a channel of its own. Once auth has accepted, it gives the client away to the
//! maildrop process and ends; with TLS, whose private key it does not have, it stays as a relay.
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

mod children;
mod client;
mod relay;
mod sasl;
mod session;
mod spawner;
mod syscalls;
mod tls;

pub use spawner::run;
