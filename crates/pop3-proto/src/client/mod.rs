//! The client half: commands out, events in.
//!
//! Run by whoever fetches mail. The server is not trusted: every line, listing and message has a bound, a reply that nobody
//! asked for is an error, and so is whatever comes in the clear behind the reply to STLS.

mod capability;
mod connection;
mod dialogue;
mod greeting;
mod lines;
mod listing;
mod request;
mod response;

pub use capability::Capability;
pub use connection::{CommandError, Connection, Event, Limits, ProtocolError, State};
pub use greeting::apop_timestamp;
pub use listing::{parse_drop_listing, parse_scan_listing, parse_unique_id_listing};
pub use request::{InvalidInput, MAX_COMMAND_WITH_INITIAL_RESPONSE};
pub use response::{Response, Status};
