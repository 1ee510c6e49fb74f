//! What a process that works on a mailbox and the spawner, which outlives it, say to each other: on a channel of the two,
//! made before the fork.
//!
//! A message sent waits in the channel, and a descriptor in it stays open there, until the spawner has to do with it: when
//! the process has died, in most cases. Only while a mailbox is being opened does the spawner listen.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
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
    Updating {
        /// The lease of the connection for which this is done comes along too.
        leased: bool,
    },
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
        match self {
            ToSpawner::Updating { leased } => usize::from(*leased).saturating_add(1),
            _ => 0,
        }
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
pub struct Guard {
    channel: Rc<Channel>,
    lease: Option<Rc<OwnedFd>>,
}

impl Guard {
    /// Takes the channel over.
    pub fn new(channel: Channel) -> Self {
        Self {
            channel: Rc::new(channel),
            lease: None,
        }
    }

    /// And the lease of the connection that is served: the spawner gets a duplicate when the mailbox is to be changed, not
    /// before. Each descriptor of the spawner's costs every fork.
    #[must_use]
    pub fn with_lease(self, lease: Rc<OwnedFd>) -> Self {
        Self {
            lease: Some(lease),
            ..self
        }
    }

    /// Nothing more will be asked.
    pub fn opened(&self) {
        // A spawner that has gone misses nothing.
        drop(self.channel.send(&ToSpawner::Opened, &[]));
    }
}

impl AsFd for Guard {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.channel.as_fd()
    }
}

impl Keeper for Guard {
    fn updating(&self, mailbox: BorrowedFd<'_>) -> io::Result<()> {
        let leased = self.lease.is_some();
        let mut descriptors = vec![mailbox];
        descriptors.extend(self.lease.as_deref().map(AsFd::as_fd));
        match self
            .channel
            .send(&ToSpawner::Updating { leased }, &descriptors)
        {
            // Then nobody keeps the lock if this process dies, but the next who opens the mailbox finds the journal.
            Ok(()) | Err(ChannelError::Closed) => Ok(()),
            Err(error) => Err(io::Error::other(error)),
        }
    }

    fn settled(&self) {
        drop(self.channel.send(&ToSpawner::Settled, &[]));
    }

    fn finished(&self) {
        drop(self.channel.send(&ToSpawner::Finished, &[]));
    }

    fn set_aside(&self, reason: &str) -> io::Result<File> {
        let reason = reason.to_owned();
        self.channel
            .send(&ToSpawner::SetAside { reason }, &[])
            .map_err(io::Error::other)?;
        match self
            .channel
            .receive::<NewJournal>()
            .map_err(io::Error::other)?
        {
            Received::Message(_, descriptors) => {
                let [file] = descriptors.into_array().ok_or(io::ErrorKind::InvalidData)?;
                Ok(file.into())
            }
            Received::Closed => Err(io::ErrorKind::BrokenPipe.into()),
        }
    }
}
