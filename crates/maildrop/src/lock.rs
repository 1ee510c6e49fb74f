//! Locking a mailbox against delivery agents and mail readers: the fcntl lock that Debian policy 11.6 asks for, and where
//! it is configured the dotlock, neither ever held while the other is waited for.

use std::cell::Cell;
use std::io;
use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use rustix::event::{Timespec, poll};
use rustix::time::{ClockId, clock_gettime};

use crate::dotlock::{Dotlock, HeldDotlock};

/// Shortest pause between two attempts.
const MIN_PAUSE_MS: u64 = 20;

/// What chance adds to it at most, so that two programs do not keep meeting.
const MAX_JITTER_MS: u64 = 180;

/// The system call that locks a whole open file.
///
/// It is a parameter because the lock wanted, fcntl's `F_OFD_SETLK`, takes an unsafe call, and those live elsewhere. An
/// open-file-description lock conflicts with everyone's classic fcntl locks, but is not lost when some other descriptor
/// of the file is closed, and outlives this process in a duplicate that its parent keeps.
pub trait FileLock {
    /// Locks `file` for this open file description alone; `false` if another holds a lock.
    ///
    /// # Errors
    /// The system cannot lock the file at all.
    fn try_lock_exclusive(&self, file: BorrowedFd<'_>) -> io::Result<bool>;

    /// Gives the lock up.
    ///
    /// # Errors
    /// The system refused.
    fn unlock(&self, file: BorrowedFd<'_>) -> io::Result<()>;
}

/// The locks of one mailbox, not held.
pub(crate) struct Locks {
    pub(crate) file_lock: Box<dyn FileLock>,
    pub(crate) dotlock: Option<Dotlock>,
    pub(crate) wait: Duration,
}

/// Why they could not be taken.
#[derive(Debug)]
pub(crate) enum LockError {
    Busy,
    Io(io::Error),
}

/// All locks of a mailbox, held until dropped.
pub(crate) struct Held<'a> {
    file_lock: &'a dyn FileLock,
    file: BorrowedFd<'a>,
    dotlock: Option<HeldDotlock<'a>>,
    abandoned: Cell<bool>,
}

impl Locks {
    /// Takes all locks of `file`, trying for as long as configured.
    pub(crate) fn acquire<'a>(&'a self, file: BorrowedFd<'a>) -> Result<Held<'a>, LockError> {
        let started = Instant::now();
        loop {
            if let Some(held) = self.try_acquire(file).map_err(LockError::Io)? {
                return Ok(held);
            }
            let left = self.wait.saturating_sub(started.elapsed());
            if left.is_zero() {
                return Err(LockError::Busy);
            }
            pause(jittered().min(left));
        }
    }

    fn try_acquire<'a>(&'a self, file: BorrowedFd<'a>) -> io::Result<Option<Held<'a>>> {
        if !self.file_lock.try_lock_exclusive(file)? {
            return Ok(None);
        }
        let mut held = Held {
            file_lock: self.file_lock.as_ref(),
            file,
            dotlock: None,
            abandoned: Cell::new(false),
        };
        if let Some(dotlock) = &self.dotlock {
            held.dotlock = dotlock.try_acquire()?;
            if held.dotlock.is_none() {
                return Ok(None);
            }
        }
        Ok(Some(held))
    }
}

impl Held<'_> {
    /// To be called now and then during long work: keeps others from taking the dotlock for a dead program's.
    pub(crate) fn refresh(&self) {
        if let Some(dotlock) = &self.dotlock {
            dotlock.refresh();
        }
    }

    /// From now on, dropping this does not give the locks up: there is something left to be done under them. They end when the last duplicate of the
    /// descriptor is closed; a dotlock stays until somebody removes it.
    pub(crate) fn abandon(&self) {
        self.abandoned.set(true);
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        if self.abandoned.get() {
            std::mem::forget(self.dotlock.take());
            return;
        }
        // Nothing can be done about a failure; the lock goes with the descriptor in any case.
        let _ = self.file_lock.unlock(self.file);
    }
}

/// Waits without a signal or a timer: poll(2) on nothing, which every role may call.
pub(crate) fn pause(duration: Duration) {
    let timeout = Timespec {
        tv_sec: i64::try_from(duration.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: i64::from(duration.subsec_nanos()),
    };
    // Interrupted early is no harm: the caller looks at the clock.
    let _ = poll(&mut [], Some(&timeout));
}

fn jittered() -> Duration {
    let chance = u64::try_from(clock_gettime(ClockId::Monotonic).tv_nsec / 1000).unwrap_or(0);
    Duration::from_millis(MIN_PAUSE_MS.saturating_add(chance % MAX_JITTER_MS))
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::fd::AsFd;

    use super::*;
    use crate::testing::Flock;

    fn locks(dotlock: Option<Dotlock>, wait: Duration) -> Locks {
        Locks {
            file_lock: Box::new(Flock),
            dotlock,
            wait,
        }
    }

    #[test]
    fn a_lock_excludes_others_until_it_is_dropped() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("box");
        let (ours, theirs) = (File::create(&path).unwrap(), File::open(&path).unwrap());
        let locks = locks(None, Duration::ZERO);
        let held = locks.acquire(ours.as_fd()).ok().unwrap();
        assert!(matches!(
            locks.acquire(theirs.as_fd()),
            Err(LockError::Busy)
        ));
        drop(held);
        assert!(locks.acquire(theirs.as_fd()).is_ok());
    }

    #[test]
    fn a_lock_given_up_while_we_wait_is_taken() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("box");
        let (ours, theirs) = (File::create(&path).unwrap(), File::open(&path).unwrap());
        assert!(Flock.try_lock_exclusive(theirs.as_fd()).unwrap());
        let giver = std::thread::spawn(move || drop(theirs));
        let locks = locks(None, Duration::from_secs(30));
        assert!(locks.acquire(ours.as_fd()).is_ok());
        giver.join().unwrap();
    }

    #[test]
    fn the_file_lock_is_not_held_while_the_dotlock_is_anothers() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("box");
        let file = File::create(&path).unwrap();
        std::fs::write(directory.path().join("box.lock"), "1\n").unwrap();
        let dotlock = Dotlock::for_mailbox(File::open(&directory).unwrap().into(), "box".as_ref());
        let locks = locks(Some(dotlock), Duration::ZERO);
        assert!(matches!(locks.acquire(file.as_fd()), Err(LockError::Busy)));
        let theirs = File::open(&path).unwrap();
        assert!(Flock.try_lock_exclusive(theirs.as_fd()).unwrap());
    }
}
