//! Locking a mailbox against delivery agents and mail readers: the fcntl lock that Debian policy 11.6 asks for, and where
//! it is configured the dotlock, neither ever held while the other is waited for.

use std::cell::Cell;
use std::fmt;
use std::io;
use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use dotlock::{Dotlock, HeldDotlock};
use rustix::event::{Timespec, poll};
use rustix::time::{ClockId, clock_gettime};

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

/// The process that makes the dotlock of one mailbox, where this one may not.
///
/// It keeps the lock fresh while it is held, and beyond the end of this process for as long as that process's keeper wants.
pub trait LockBroker: fmt::Debug {
    /// Takes the dotlock; `false` if another program has it.
    ///
    /// # Errors
    /// The broker is not there, or the system refused it something.
    fn try_lock(&self) -> io::Result<bool>;

    /// Gives it up.
    ///
    /// # Errors
    /// The broker is not there. The lock goes with it in the end.
    fn unlock(&self) -> io::Result<()>;
}

/// Who makes the dotlock.
#[derive(Debug)]
pub(crate) enum Dotlocking {
    Own(Dotlock),
    Brokered(Box<dyn LockBroker>),
}

/// A dotlock that is held.
enum HeldDot<'a> {
    Own(HeldDotlock),
    Brokered(&'a dyn LockBroker),
}

/// The locks of one mailbox, not held.
pub(crate) struct Locks {
    pub(crate) file_lock: Box<dyn FileLock>,
    pub(crate) dotlock: Option<Dotlocking>,
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
    dotlock: Option<HeldDot<'a>>,
    abandoned: Cell<bool>,
}

impl Dotlocking {
    fn try_acquire(&self) -> io::Result<Option<HeldDot<'_>>> {
        match self {
            Dotlocking::Own(dotlock) => Ok(dotlock.try_acquire()?.map(HeldDot::Own)),
            Dotlocking::Brokered(broker) => {
                let broker = broker.as_ref();
                Ok(broker.try_lock()?.then_some(HeldDot::Brokered(broker)))
            }
        }
    }
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
        // A broker does so by itself.
        if let Some(HeldDot::Own(dotlock)) = &self.dotlock {
            dotlock.refresh();
        }
    }

    /// From now on, dropping this does not give the locks up: there is something left to be done under them. They end when
    /// the last duplicate of the descriptor is closed; a dotlock stays until somebody removes it.
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
        if let Some(HeldDot::Brokered(broker)) = self.dotlock.take() {
            // A broker that has gone has no lock to give up.
            let _ = broker.unlock();
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
    use std::cell::RefCell;
    use std::fs::File;
    use std::os::fd::AsFd;
    use std::rc::Rc;

    use super::*;
    use crate::testing::Flock;

    fn locks(dotlock: Option<Dotlocking>, wait: Duration) -> Locks {
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
        let opened = Rc::new(File::open(&directory).unwrap().into());
        let dotlock = Dotlock::for_mailbox(opened, "box".as_ref());
        let locks = locks(Some(Dotlocking::Own(dotlock)), Duration::ZERO);
        assert!(matches!(locks.acquire(file.as_fd()), Err(LockError::Busy)));
        let theirs = File::open(&path).unwrap();
        assert!(Flock.try_lock_exclusive(theirs.as_fd()).unwrap());
    }

    /// Says `answers`, the last one for ever, and writes down what it is asked.
    #[derive(Clone, Debug)]
    struct Scripted {
        answers: &'static [Option<bool>],
        asked: Rc<RefCell<Vec<&'static str>>>,
    }

    impl LockBroker for Scripted {
        fn try_lock(&self) -> io::Result<bool> {
            let mut asked = self.asked.borrow_mut();
            let locks = asked.iter().filter(|&&asked| asked == "lock").count();
            asked.push("lock");
            let answer = self.answers.get(locks).or(self.answers.last());
            answer
                .copied()
                .flatten()
                .ok_or_else(|| io::ErrorKind::BrokenPipe.into())
        }

        fn unlock(&self) -> io::Result<()> {
            self.asked.borrow_mut().push("unlock");
            Ok(())
        }
    }

    fn brokered(answers: &'static [Option<bool>]) -> (Locks, Rc<RefCell<Vec<&'static str>>>) {
        let asked = Rc::default();
        let scripted = Scripted {
            answers,
            asked: Rc::clone(&asked),
        };
        let dotlock = Dotlocking::Brokered(Box::new(scripted));
        (locks(Some(dotlock), Duration::from_secs(30)), asked)
    }

    #[test]
    fn a_broker_is_asked_again_and_its_lock_given_up_with_the_others() {
        let file = tempfile::tempfile().unwrap();
        let (locks, asked) = brokered(&[Some(false), Some(true)]);
        let held = locks.acquire(file.as_fd()).ok().unwrap();
        assert_eq!(*asked.borrow(), ["lock", "lock"]);
        drop(held);
        assert_eq!(*asked.borrow(), ["lock", "lock", "unlock"]);
    }

    #[test]
    fn what_is_left_to_be_done_keeps_the_brokers_lock() {
        let file = tempfile::tempfile().unwrap();
        let (locks, asked) = brokered(&[Some(true)]);
        let held = locks.acquire(file.as_fd()).ok().unwrap();
        held.abandon();
        drop(held);
        assert_eq!(*asked.borrow(), ["lock"]);
    }

    #[test]
    fn without_its_broker_a_mailbox_is_not_locked_at_all() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("box");
        let (ours, theirs) = (File::create(&path).unwrap(), File::open(&path).unwrap());
        let (locks, _) = brokered(&[None]);
        assert!(matches!(locks.acquire(ours.as_fd()), Err(LockError::Io(_))));
        assert!(Flock.try_lock_exclusive(theirs.as_fd()).unwrap());
    }
}
