//! Messages on the wire (RFC 1939 sections 3 and 11).
//!
//! Stored messages have lines that end with LF or CRLF. On the wire every line ends with CRLF, a leading dot is doubled
//! ("stuffed"), and a line of one dot ends the whole. A CR that no LF follows is data, as is any other octet. A message
//! that has no empty line between header and body gets one at its end: some clients never find the end of a header
//! without.
//!
//! [`Encoder`] does that for RETR and TOP, [`Counter`] tells beforehand how many octets RETR will send, and [`Decoder`]
//! is the way back. All three take the octets in any pieces and keep only a few octets of state.

mod counter;
mod decoder;
mod encoder;
mod line_state;

pub use counter::Counter;
pub use decoder::{Decoded, Decoder, LineEnds};
pub use encoder::{Encoder, Progress};
