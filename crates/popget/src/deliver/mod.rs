//! Where mail goes.
//!
//! A message is streamed into a [`Delivery`] and then [finished](Delivery::finish) or [abandoned](Delivery::abandon). Nothing counts as
//! delivered before [`commit`](Delivery::commit) has put it on disk and into the record; several messages may be committed
//! together, as waiting for the disk takes longer than writing. Messages are never changed, but for `>` before `From ` in an mbox.

mod command;
mod lmtp;
mod maildir;
mod mbox;
mod output;

use std::io::{self, Write};
use std::path::PathBuf;

use sha2::{Digest, Sha256};

use crate::seen::Record;

pub use command::Command;
pub use lmtp::Lmtp;
pub use maildir::Maildir;
pub use mbox::Mbox;
pub use output::Output;

/// Messages committed together. A run that is killed fetches no more than these again, and finds them delivered.
const MAX_BATCH_MESSAGES: usize = 256;

/// Octets committed together: what a disk writes in a fraction of a second.
const MAX_BATCH_OCTETS: u64 = 16 * 1024 * 1024;

/// A message as the record knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Incoming {
    /// Unique-id, and which one if several messages share it.
    pub key: String,
    /// What stands for host, user and key in names and envelopes: 16 hexadecimal digits.
    pub tag: String,
}

impl Incoming {
    /// A message of an account.
    pub fn new(host: &str, user: &str, key: &str) -> Incoming {
        let digest = Sha256::new()
            .chain_update(host)
            .chain_update([0])
            .chain_update(user)
            .chain_update([0])
            .chain_update(key)
            .finalize();
        Incoming {
            key: key.to_owned(),
            tag: digest
                .iter()
                .take(8)
                .map(|octet| format!("{octet:02x}"))
                .collect(),
        }
    }
}

/// What became of a message.
#[derive(Debug)]
pub enum Failure {
    /// This message was refused; others may be delivered.
    Message(String),
    /// The place of delivery is at fault: disk full, no such directory. No other message would fare better.
    Place(io::Error),
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Failure {
        Failure::Place(error)
    }
}

/// A place where mail goes. Lines end with LF in what is written to it.
pub trait Delivery: Write {
    /// Looks what a run that was interrupted has delivered after all, and clears up behind it. Returns the keys of messages that
    /// are there; what may be there twice is named in `doubtful`.
    fn recover(
        &mut self,
        record: &Record,
        unseen: &[Incoming],
        doubtful: &mut Vec<String>,
    ) -> io::Result<Vec<String>>;

    /// A message begins.
    fn begin(&mut self, message: &Incoming, record: &mut Record) -> Result<(), Failure>;

    /// The message begun is not complete, and nothing of it is to be seen.
    fn abandon(&mut self);

    /// The message begun is complete.
    fn finish(&mut self, record: &mut Record) -> Result<(), Failure>;

    /// Puts all that is finished on disk, and then into the record. Returns the keys.
    fn commit(&mut self, record: &mut Record) -> Result<Vec<String>, Failure>;

    /// Enough is finished to be [passed on](Delivery::pass_on).
    fn is_full(&self) -> bool;

    /// Begins to put on disk what is finished, and does not wait for it. What has been put there since is entered in the record, and
    /// its keys returned.
    fn pass_on(&mut self, record: &mut Record) -> Result<Vec<String>, Failure> {
        self.commit(record)
    }
}

/// Where the user wants mail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// A Maildir.
    Maildir(PathBuf),
    /// An mbox file.
    Mbox(PathBuf),
    /// A command that is given each message on its standard input.
    Command(String),
    /// An LMTP server, and the recipient.
    Lmtp(String, String),
    /// Standard output, as an mbox.
    Output,
}

impl Place {
    /// Opens it for an account.
    ///
    /// # Errors
    /// If it cannot be.
    pub fn open(&self, host: &str, user: &str) -> io::Result<Box<dyn Delivery>> {
        Ok(match self {
            Place::Maildir(path) => Box::new(Maildir::open(path)?),
            Place::Mbox(path) => Box::new(Mbox::open(path)?),
            Place::Command(command) => Box::new(Command::new(command, host, user)),
            Place::Lmtp(address, recipient) => Box::new(Lmtp::new(address, recipient)),
            Place::Output => Box::new(Output::default()),
        })
    }
}
