//! POP3 as values and state machines: both halves of the protocol, without I/O, clocks or logs.
//!
//! The server half is [`server::Authorization`] (run by the session process, which knows no secret) and
//! [`server::Transaction`] (run by the maildrop process, as the owner of the mail). Both are given command lines cut out
//! of the octets received by a [`line::LineBuffer`], append their replies to a buffer of the caller and return what only
//! the caller can do: verify a password, read a message, start TLS.
//!
//! Nothing received is trusted: every line, number and list has a bound, and what has been parsed has a type that proves
//! it. Messages stream through [`multiline`] without an allocation.
//!
//! Specification: RFC 1939, RFC 2449 (CAPA, response codes), RFC 3206 (more response codes), RFC 2595 (STLS), RFC 5034
//! (SASL), RFC 6856 (UTF8), RFC 1460 (LAST).
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

pub mod client;
pub mod command;
pub mod decimal;
pub mod line;
mod mechanism;
mod message;
pub mod multiline;
pub mod reply;
mod response_code;
pub mod server;
mod unique_id;

pub use command::Command;
pub use mechanism::MechanismName;
pub use message::{LineCount, MessageNumber, Octets};
pub use response_code::ResponseCode;
pub use unique_id::UniqueId;
