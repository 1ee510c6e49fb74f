//! The server half: one state machine for each state of a session (RFC 1939 section 3).
//!
//! [`Authorization`] runs in the session process, [`Transaction`] in the maildrop process. Each is given the client's lines,
//! appends its replies to a buffer of the caller and returns what the caller has to do. UPDATE is no state of the
//! protocol: it begins with [`transaction::Action::Quit`] and ends with [`transaction::farewell`].

mod allowance;
pub mod authorization;
mod language;
mod listing;
mod marks;
mod offer;
pub mod transaction;

pub use authorization::{Authorization, Denial};
pub use listing::{Listing, ListingCursor};
pub use offer::{Expire, Offer};
pub use transaction::Transaction;
