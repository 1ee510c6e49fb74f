//! Who outlives this process and looks after what it leaves.

use std::fs::File;
use std::io;
use std::os::fd::BorrowedFd;

/// The process that keeps a mailbox locked when the one that was changing it dies, and has the change finished before
/// anybody else sees the mailbox.
pub trait Keeper {
    /// Is called under the lock and before anything is changed. From now until [`settled`](Keeper::settled) a duplicate
    /// of `mailbox`, and so its lock, outlives this process.
    ///
    /// # Errors
    /// Nobody can take it; nothing is changed then.
    fn updating(&self, mailbox: BorrowedFd<'_>) -> io::Result<()>;

    /// Nothing is left to be finished.
    fn settled(&self);

    /// An update that was interrupted has been finished; for the log.
    fn finished(&self);

    /// Gives the journal's file another name, under which it is kept for somebody to look at, tells the log so, and
    /// returns the file that takes its place.
    ///
    /// # Errors
    /// The journal stays what it is.
    fn set_aside(&self, reason: &str) -> io::Result<File>;
}
