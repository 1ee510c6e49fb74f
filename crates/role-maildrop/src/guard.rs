//! What a process that works on a mailbox and the spawner, which outlives it, say to each other: on a channel of the two,
//! made before the fork.
//!
//! A message sent waits in the channel, and a descriptor in it stays open there, until the spawner has to do with it: when
//! the process has died, in most cases. Only while a mailbox is being opened does the spawner listen.

use std::fs::File;
use std::io;
use std::os::fd::BorrowedFd;
use std::rc::Rc;

use confine::channel::{Channel, ChannelError, Message, Received};
use maildrop::Keeper;
use serde::{Deserialize, Serialize};

/// Octets of a message: a sentence, or two files' names.
const MAX_MESSAGE_OCTETS: usize = 512;

/// To the spawner.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ToSpawner {
    /// From now on nothing is asked.
    Opened,
    /// The mailbox, which is locked and comes along, is about to be changed.
    Updating,
    /// That is done.
    Settled,
    /// An update that an earlier process has left unfinished is finished.
    Finished,
    /// The journal is not about this mailbox: another is wanted.
    SetAside {
        /// For the log.
        reason: String,
    },
}

impl Message for ToSpawner {
    const MAX_OCTETS: usize = MAX_MESSAGE_OCTETS;

    fn descriptors(&self) -> usize {
        usize::from(*self == ToSpawner::Updating)
    }
}

/// To the spawner, from the process that searches, on a channel that nothing else is said on: this journal is unfinished.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Found {
    /// Its file's name.
    pub name: String,
    /// The file name of the mailbox in the journal, which may be a lie.
    pub mailbox: Option<String>,
}

impl Message for Found {
    const MAX_OCTETS: usize = MAX_MESSAGE_OCTETS;
}

/// From the spawner: the file that takes the journal's place comes along.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct NewJournal {
    /// There has to be something to send.
    pub fresh: bool,
}

impl Message for NewJournal {
    const MAX_OCTETS: usize = 1;

    fn descriptors(&self) -> usize {
        1
    }
}

/// The process's end.
#[derive(Clone, Debug)]
pub struct Guard(Rc<Channel>);

impl Guard {
    /// Takes the channel over.
    pub fn new(channel: Channel) -> Self {
        Self(Rc::new(channel))
    }

    /// Nothing more will be asked.
    pub fn opened(&self) {
        // A spawner that has gone misses nothing.
        drop(self.0.send(&ToSpawner::Opened, &[]));
    }
}

impl Keeper for Guard {
    fn updating(&self, mailbox: BorrowedFd<'_>) -> io::Result<()> {
        match self.0.send(&ToSpawner::Updating, &[mailbox]) {
            // Then nobody keeps the lock if this process dies, but the next who opens the mailbox finds the journal.
            Ok(()) | Err(ChannelError::Closed) => Ok(()),
            Err(error) => Err(io::Error::other(error)),
        }
    }

    fn settled(&self) {
        drop(self.0.send(&ToSpawner::Settled, &[]));
    }

    fn finished(&self) {
        drop(self.0.send(&ToSpawner::Finished, &[]));
    }

    fn set_aside(&self, reason: &str) -> io::Result<File> {
        let reason = reason.to_owned();
        self.0
            .send(&ToSpawner::SetAside { reason }, &[])
            .map_err(io::Error::other)?;
        match self.0.receive::<NewJournal>().map_err(io::Error::other)? {
            Received::Message(_, descriptors) => {
                let [file] = descriptors.into_array().ok_or(io::ErrorKind::InvalidData)?;
                Ok(file.into())
            }
            Received::Closed => Err(io::ErrorKind::BrokenPipe.into()),
        }
    }
}
