//! Files of the state directory that belong to one maildrop. They are opened as the spawner, whose directories they are
//! in, and used by descriptor after the process has become the user, whose quota they do not count for.

use std::fmt;
use std::fs::File;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::Path;

use md5::{Digest, Md5};
use rustix::fs::{Mode, OFlags, openat};
use rustix::io::Errno;

/// The suffix of the list of deleted messages that are kept for a while.
pub const DELETIONS: &str = ".deleted";

/// The suffix of the list of messages that were retrieved and are hidden.
pub const ACKNOWLEDGED: &str = ".acknowledged";

/// The path of a maildrop as a part of file names: paths are longer than those may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PathHash(u128);

impl PathHash {
    /// Of the whole path.
    pub fn of(path: &Path) -> Self {
        let digest = Md5::digest(path.as_os_str().as_encoded_bytes());
        Self(u128::from_be_bytes(digest.into()))
    }

    /// The hash that a file's name says it is about.
    pub fn parse(text: &str) -> Option<Self> {
        u128::from_str_radix(text, 16).ok().map(Self)
    }
}

impl fmt::Display for PathHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

/// Opens the file of the maildrop at `path` in one of the directories, making it if needed.
///
/// # Errors
/// What openat(2) says.
pub fn open(directory: BorrowedFd<'_>, path: &Path, suffix: &str) -> io::Result<OwnedFd> {
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mode = Mode::RUSR | Mode::WUSR;
    Ok(openat(directory, name(path, suffix), flags, mode)?)
}

/// Opens the file of the maildrop at `path` for reading; `None` if there is none.
///
/// # Errors
/// What openat(2) says.
pub fn open_to_read(
    directory: BorrowedFd<'_>,
    path: &Path,
    suffix: &str,
) -> io::Result<Option<File>> {
    open_if_there(directory, path, suffix, OFlags::RDONLY)
}

/// Opens the file of the maildrop at `path` for reading and writing; `None` if there is none.
///
/// # Errors
/// What openat(2) says.
pub fn open_existing(
    directory: BorrowedFd<'_>,
    path: &Path,
    suffix: &str,
) -> io::Result<Option<File>> {
    open_if_there(directory, path, suffix, OFlags::RDWR)
}

fn open_if_there(
    directory: BorrowedFd<'_>,
    path: &Path,
    suffix: &str,
    access: OFlags,
) -> io::Result<Option<File>> {
    let flags = access | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match openat(directory, name(path, suffix), flags, Mode::empty()) {
        Ok(file) => Ok(Some(file.into())),
        Err(Errno::NOENT) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn name(path: &Path, suffix: &str) -> String {
    format!("{}{suffix}", PathHash::of(path))
}
