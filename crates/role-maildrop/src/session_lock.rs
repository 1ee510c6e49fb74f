//! One session per maildrop (RFC 1939 section 4): a lock file of our own in the state directory, which sessions of a
//! daemon and of inetd share, and which delivery never has to wait for.
//!
//! Opened as the spawner, whose directory it is; held by the maildrop process until UPDATE is done, and gone with it
//! whatever ends it. The file stays: there is one for each maildrop ever served.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use confine::lock;
use rustix::event::{Timespec, poll};

use crate::state_file;

/// A session that has just closed its connection may need this long to be gone.
const GRACE: Duration = Duration::from_millis(500);

/// The pause between two attempts.
const PAUSE: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 10_000_000,
};

/// A lock file, not locked yet.
#[derive(Debug)]
pub struct LockFile(OwnedFd);

/// The lock, given up when dropped.
#[derive(Debug)]
pub struct SessionLock {
    _file: OwnedFd,
}

impl LockFile {
    /// Opens the lock file of the maildrop at `path`, making it if needed.
    ///
    /// # Errors
    /// What openat(2) says.
    pub fn open(directory: BorrowedFd<'_>, path: &Path) -> io::Result<Self> {
        state_file::open(directory, path, ".lock").map(Self)
    }

    /// Locks it; `None` if another session has the maildrop.
    ///
    /// # Errors
    /// The file system has no locks.
    pub fn lock(self) -> io::Result<Option<SessionLock>> {
        let began = Instant::now();
        while !lock::try_lock_exclusive(self.0.as_fd())? {
            if began.elapsed() >= GRACE {
                return Ok(None);
            }
            match poll(&mut [], Some(&PAUSE)) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(Some(SessionLock { _file: self.0 }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;

    #[test]
    fn one_maildrop_has_one_session_and_others_are_not_concerned() {
        let directory = std::env::temp_dir().join(format!("session-lock-{}", std::process::id()));
        std::fs::create_dir(&directory).unwrap();
        let fd = File::open(&directory).unwrap();
        let lock = |path: &str| {
            LockFile::open(fd.as_fd(), Path::new(path))
                .and_then(LockFile::lock)
                .unwrap()
        };
        let first = lock("/var/mail/alice");
        assert!(first.is_some());
        assert!(lock("/var/mail/alice").is_none());
        assert!(lock("/var/mail/bob").is_some());
        drop(first);
        assert!(lock("/var/mail/alice").is_some());
        std::fs::remove_dir_all(&directory).unwrap();
    }
}
