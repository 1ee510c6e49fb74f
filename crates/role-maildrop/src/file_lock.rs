//! The configured kind of mailbox lock.

use std::io;
use std::os::fd::BorrowedFd;

use confine::lock;
use maildrop::FileLock;
use messages::spawner::MailboxLock;
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

/// The lock that the configuration names.
pub fn file_lock(kind: MailboxLock) -> Box<dyn FileLock> {
    match kind {
        MailboxLock::Fcntl => Box::new(Fcntl),
        MailboxLock::Flock => Box::new(Flock),
    }
}

struct Fcntl;

impl FileLock for Fcntl {
    fn try_lock_exclusive(&self, file: BorrowedFd<'_>) -> io::Result<bool> {
        lock::try_lock_exclusive(file)
    }

    fn unlock(&self, file: BorrowedFd<'_>) -> io::Result<()> {
        lock::unlock(file)
    }
}

struct Flock;

impl FileLock for Flock {
    fn try_lock_exclusive(&self, file: BorrowedFd<'_>) -> io::Result<bool> {
        match flock(file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(true),
            Err(Errno::WOULDBLOCK) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    fn unlock(&self, file: BorrowedFd<'_>) -> io::Result<()> {
        Ok(flock(file, FlockOperation::Unlock)?)
    }
}
