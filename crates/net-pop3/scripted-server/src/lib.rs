//! POP3 servers on loopback for tests and examples: [`Mailbox`], a small one that behaves, and [`serve`], for those that do not.
//!
//! They run in threads of the test. Nothing of them is for production: they trust their client.
#![forbid(unsafe_code)]

pub mod certificate;
pub mod doc;
mod mailbox;
mod serve;

pub use mailbox::{Mailbox, Message};
pub use serve::{Server, serve};
