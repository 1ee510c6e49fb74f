//! What UPDATE leaves when it is interrupted at any of its system calls, or by a power cut.
//!
//! A *point* is one mailbox, one set of messages to delete, one size of batches, one system call and one way in which that
//! goes wrong. At each, mail is delivered afterwards, the mailbox is opened with something going wrong at a random call of
//! that too, mail is delivered again, and the mailbox is opened for good. Then it must be, octet for octet, what it was
//! before, or what is left of it when the messages have been deleted, and in any case the latter if that was reported; all
//! that was delivered follows, once; and the journal is idle and holds no mail.
//!
//! Of a Maildir each message must be there, or be one of those that were to be deleted, while an IMAP server renames them.
//!
//! Where deleted messages are kept for a while, or retrieved ones are hidden, the lists of them are judged too (`lists.rs`).
//!
//! `cargo run --release -p crash-tests -- --help` runs campaigns; the tests take a sample of their points.

mod count;
pub mod lists;
pub mod maildir;
mod place;
pub mod point;
pub mod power;
pub mod server;
pub mod shapes;

pub use count::Count;
pub use place::Place;
