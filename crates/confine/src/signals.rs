//! Signals as something to poll for: blocked, and read from a descriptor. No handler is ever
//! installed.
//!
//! The master and every role with an event loop run this.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::{read, retry_on_intr};

pub use rustix::process::Signal;

use crate::sys::{self, Disposition, SignalSet};

/// The size of the kernel's `signalfd_siginfo`, of which the first four octets are the signal's
/// number.
const RECORD_OCTETS: usize = 128;

/// The highest signal number of Linux.
const LAST_SIGNAL: i32 = 64;

/// Signals of this process, read instead of delivered.
#[derive(Debug)]
pub struct SignalFd {
    descriptor: OwnedFd,
}

impl SignalFd {
    /// Blocks these signals and collects them. Non-blocking, closed on exec. In children of a fork
    /// they stay blocked, which is nothing to those that have no children themselves; one that runs
    /// foreign code begins with [`default_all`] and [`unblock_all`].
    ///
    /// # Errors
    /// No descriptor left.
    pub fn new(signals: &[Signal]) -> io::Result<Self> {
        let set = SignalSet::of(signals);
        set.apply(libc::SIG_BLOCK)?;
        Ok(Self {
            descriptor: set.descriptor()?,
        })
    }

    /// The next signal that has come, if any. Several of one kind may be one.
    pub fn read(&self) -> Option<Signal> {
        let mut record = [0; RECORD_OCTETS];
        let octets = retry_on_intr(|| read(&self.descriptor, &mut record)).ok()?;
        let number = record.first_chunk().filter(|_| octets == RECORD_OCTETS)?;
        Signal::from_named_raw(i32::from_ne_bytes(*number))
    }
}

impl AsFd for SignalFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}

/// Delivers every signal again.
///
/// # Errors
/// None known.
pub fn unblock_all() -> io::Result<()> {
    SignalSet::of(&[]).apply(libc::SIG_SETMASK)
}

/// Gives every signal its default meaning.
pub fn default_all() {
    for signal in 1..=LAST_SIGNAL {
        // Refused for SIGKILL and SIGSTOP, which have no other meaning.
        let _ = sys::set_disposition(signal, Disposition::Default);
    }
}

/// Writing to a closed connection is an error, not death.
///
/// # Errors
/// None known.
pub fn ignore_sigpipe() -> io::Result<()> {
    sys::set_disposition(libc::SIGPIPE, Disposition::Ignore)
}
