//! What a power cut does to a file system, short of the power cut.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

/// `EXT4_IOC_SHUTDOWN` and `XFS_IOC_GOINGDOWN`: `_IOR('X', 125, __u32)`.
const SHUTDOWN: libc::c_ulong = 0x8004_587d;

/// Nothing more is written, not even the journal.
const WITHOUT_LOG_FLUSH: u32 = 2;

/// Ends a mounted ext4 or xfs as a power cut does: what has not reached the disk never will.
///
/// # Errors
/// Neither of the two, or not permitted.
pub fn shut_down(mounted: &File) -> io::Result<()> {
    let how = WITHOUT_LOG_FLUSH;
    // SAFETY: the request reads a number from the address, which is valid.
    check(unsafe { libc::ioctl(mounted.as_raw_fd(), SHUTDOWN, &raw const how) })
}

/// Writes these octets of a file to the disk, as the kernel may at any time, and nothing that would find them there.
///
/// # Errors
/// What sync_file_range(2) says.
pub fn write_back(file: &File, offset: u64, octets: u64) -> io::Result<()> {
    let number = |value: u64| libc::off64_t::try_from(value).map_err(io::Error::other);
    let flags = libc::SYNC_FILE_RANGE_WAIT_BEFORE
        | libc::SYNC_FILE_RANGE_WRITE
        | libc::SYNC_FILE_RANGE_WAIT_AFTER;
    let (offset, octets) = (number(offset)?, number(octets)?);
    // SAFETY: only numbers are passed.
    check(unsafe { libc::sync_file_range(file.as_raw_fd(), offset, octets, flags) })
}

fn check(result: libc::c_int) -> io::Result<()> {
    match result {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}
