//! Descriptors that whoever started the program left open for it: sockets of a service manager,
//! connections of inetd.

use std::io;
use std::os::fd::{OwnedFd, RawFd};
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::io::{Errno, FdFlags, fcntl_getfd, fcntl_setfd};

use crate::sys;

/// Descriptors that can be taken have numbers below this: a service manager counts from 3.
const MAX_NUMBER: RawFd = 64;

/// Which have been taken, so that none gets two owners.
static TAKEN: AtomicU64 = AtomicU64::new(0);

/// Becomes the owner of a descriptor that was open when the program started, and closes it on exec
/// from now on.
///
/// Standard input, output and error have their owners in the standard library and are not to be had
/// here.
///
/// # Errors
/// Not open, taken before, opened by this very program, or out of range.
pub fn take(number: RawFd) -> io::Result<OwnedFd> {
    if !(3..MAX_NUMBER).contains(&number) {
        return Err(Errno::BADF.into());
    }
    // Left open on exec means given to us on purpose; what this program opens is closed on exec.
    if fcntl_getfd(sys::borrow_descriptor(number))?.contains(FdFlags::CLOEXEC) {
        return Err(Errno::BADF.into());
    }
    let bit = 1_u64 << number;
    if TAKEN.fetch_or(bit, Ordering::Relaxed) & bit != 0 {
        return Err(Errno::BUSY.into());
    }
    let descriptor = sys::own_descriptor(number);
    fcntl_setfd(&descriptor, FdFlags::CLOEXEC)?;
    Ok(descriptor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_program_opened_itself_or_the_library_owns_is_not_given_away() {
        use std::os::fd::AsRawFd;
        let own = std::fs::File::open("/dev/null").unwrap();
        assert!(take(own.as_raw_fd()).is_err());
        assert!(take(0).is_err());
        assert!(take(-1).is_err());
        assert!(take(MAX_NUMBER).is_err());
    }
}
