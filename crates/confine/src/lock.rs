//! Open-file-description locks: fcntl(2) locks that belong to the open file, not to the process.
//!
//! The maildrop process and its spawner run this. They conflict with the classical fcntl locks of
//! other mail programs, as Debian policy section 11.6 wants, but are not lost when some library
//! closes another descriptor of the same file, and they last as long as any duplicate of the
//! descriptor: that is how a spawner keeps a lock whose owner was killed.

use std::io;
use std::os::fd::BorrowedFd;

use crate::sys;

/// Locks the whole file (open for writing) against everybody. `false`: somebody else has a lock.
/// Never waits.
///
/// # Errors
/// What fcntl(2) says, `ENOLCK` of file systems without locks among it.
pub fn try_lock_exclusive(file: BorrowedFd<'_>) -> io::Result<bool> {
    try_lock(file, libc::F_WRLCK)
}

/// Locks the whole file (open for reading) against writers. `false`: a writer has a lock. Never
/// waits.
///
/// # Errors
/// As [`try_lock_exclusive`].
pub fn try_lock_shared(file: BorrowedFd<'_>) -> io::Result<bool> {
    try_lock(file, libc::F_RDLCK)
}

/// Gives the lock back, for every duplicate of the descriptor.
///
/// # Errors
/// As [`try_lock_exclusive`].
pub fn unlock(file: BorrowedFd<'_>) -> io::Result<()> {
    sys::set_file_lock(file, libc::F_UNLCK)
}

fn try_lock(file: BorrowedFd<'_>, kind: libc::c_int) -> io::Result<bool> {
    match sys::set_file_lock(file, kind) {
        Ok(()) => Ok(true),
        // POSIX allows either for a lock that is held.
        Err(error) if matches!(error.raw_os_error(), Some(libc::EAGAIN | libc::EACCES)) => {
            Ok(false)
        }
        Err(error) => Err(error),
    }
}
