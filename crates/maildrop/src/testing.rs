//! What several test modules share: generators, the slow and obvious references, and a lock that works in one process.

use std::io;
use std::os::fd::BorrowedFd;
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};

use crate::{FileLock, Limits};

/// All strings over `alphabet` of at most `longest` octets.
pub(crate) fn strings(alphabet: &[u8], longest: usize) -> Vec<Vec<u8>> {
    let mut all = vec![Vec::new()];
    let mut shortest = 0;
    for _ in 0..longest {
        let end = all.len();
        for at in shortest..end {
            for &octet in alphabet {
                let mut string = all[at].clone();
                string.push(octet);
                all.push(string);
            }
        }
        shortest = end;
    }
    all
}

/// What RETR sends for a stored message, dot-stuffing and terminator apart: lines taken one by one.
pub(crate) fn wire(message: &[u8]) -> Vec<u8> {
    let mut sent = Vec::new();
    let mut in_header = true;
    for line in message.split_inclusive(|&octet| octet == b'\n') {
        let text = line
            .strip_suffix(b"\n")
            .map_or(line, |text| text.strip_suffix(b"\r").unwrap_or(text));
        sent.extend_from_slice(text);
        sent.extend_from_slice(b"\r\n");
        in_header &= !text.is_empty();
    }
    if in_header {
        sent.extend_from_slice(b"\r\n");
    }
    sent
}

/// Locks by flock(2), which excludes other descriptors of the same process too.
pub(crate) struct Flock;

impl FileLock for Flock {
    fn try_lock_exclusive(&self, file: BorrowedFd<'_>) -> io::Result<bool> {
        match flock(file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(true),
            Err(rustix::io::Errno::WOULDBLOCK) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    fn unlock(&self, file: BorrowedFd<'_>) -> io::Result<()> {
        Ok(flock(file, FlockOperation::Unlock)?)
    }
}

/// Limits under which a held lock is reported at once.
pub(crate) fn impatient() -> Limits {
    Limits {
        lock_wait: Duration::ZERO,
        ..Limits::default()
    }
}
