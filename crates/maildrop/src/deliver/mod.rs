//! Delivery: one message more in a maildrop, safely.
//!
//! Runs as the mailbox owner, in `popa3ctl deliver` and in no process of the server. It trusts the location's base, as
//! [`open`](crate::open()) does, and nothing below it. When it says that a message is delivered, the message is on disk; when it
//! fails, nothing of it is left, unless the system refuses that too. A process that is killed may leave a message cut short at the
//! end of an mbox, for whoever sent it to send again; never does it harm one that is there.

mod maildir;
mod mbox;

use std::io;
use std::path::Path;
use std::time::Duration;

use rustix::fs::{CWD, Mode, OFlags, openat};

use crate::location::{Expanded, Kind};
use crate::lock::FileLock;
use crate::{OpenError, OpenOptions, Problem};

/// A message in the form that it is to have in the maildrop: for an mbox with its `From ` line, quoted, and with an empty line
/// behind it; for a Maildir as it is.
pub trait Letter {
    /// How many octets it is.
    fn octets(&self) -> u64;

    /// Hands all of them to `take`, in pieces.
    ///
    /// # Errors
    /// What `take` says, or that they cannot be had.
    fn replay(&mut self, take: &mut dyn FnMut(&[u8]) -> io::Result<()>) -> io::Result<()>;
}

/// Puts a message into the maildrop at `location`, making the mailbox if there is none: an mbox of mode 0600, a Maildir with its
/// directories of mode 0700.
///
/// # Errors
/// Nothing was delivered. [`OpenError::class`] says whether it is worth trying again.
pub fn deliver(
    location: &Expanded,
    options: &OpenOptions,
    lock_wait: Duration,
    file_lock: Box<dyn FileLock>,
    letter: &mut dyn Letter,
) -> Result<(), OpenError> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let fail = |path: &Path, problem| OpenError {
        path: path.to_owned(),
        problem,
    };
    let base = openat(CWD, &location.base, flags, Mode::empty())
        .map_err(|error| fail(&location.base, Problem::BaseMissing(error.into())))?;
    match location.kind {
        Kind::Mbox => mbox::deliver(&base, location, options, lock_wait, file_lock, letter),
        Kind::Maildir => maildir::deliver(&base, location, options, letter),
    }
    .map_err(|problem| fail(&location.path(), problem))
}

#[cfg(test)]
mod tests;
