//! What a message becomes before it is delivered: kept until it is known to be complete ([`Spool`]), and put into the form that it
//! has in an mbox ([`Quoting`], [`asctime`]).
//!
//! popget and `popa3ctl deliver` use it, as whoever runs them. It trusts nothing of a message.
#![forbid(unsafe_code)]

mod mbox_form;
mod spool;

pub use mbox_form::{Quoting, asctime};
pub use spool::Spool;
