//! Files of the state directory that belong to one maildrop. They are opened as the spawner, whose directories they are
//! in, and used by descriptor after the process has become the user, whose quota they do not count for.

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::Path;

use md5::{Digest, Md5};
use rustix::fs::{Mode, OFlags, openat};

/// Opens the file of the maildrop at `path` in one of the directories, making it if needed.
///
/// # Errors
/// What openat(2) says.
pub fn open(directory: BorrowedFd<'_>, path: &Path, suffix: &str) -> io::Result<OwnedFd> {
    // Paths are longer than file names may be.
    let digest = Md5::digest(path.as_os_str().as_encoded_bytes());
    let name = format!("{:032x}{suffix}", u128::from_be_bytes(digest.into()));
    Ok(openat(
        directory,
        name,
        OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC,
        Mode::RUSR | Mode::WUSR,
    )?)
}
