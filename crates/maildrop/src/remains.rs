//! Files that have been removed and are still open.
//!
//! Removing the last name of a file that is not open gives its memory and its blocks back before unlink(2) returns, which takes
//! the longer the larger it is, and on a file system mounted with `discard` may wait for the disk each time. A client that has
//! given QUIT need not wait for that. What it is promised is that the names are gone, durably; so each file is opened before, and
//! closed when the client has its answer. If that never comes to pass, the kernel closes them: nothing is owed.

use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::fs::fstatfs;

/// Most files, each of them a descriptor. Where more are removed, these are waited for.
const MAX_FILES: usize = 1024;

/// File systems of this host that keep a file without a name (`f_type` of statfs(2)): ext2 to ext4, XFS, Btrfs, F2FS, tmpfs. A network's file
/// system would give it another name instead, and that would stay behind if this host lost power.
const LOCAL: [u64; 5] = [0xef53, 0x5846_5342, 0x9123_683e, 0xf2f5_2010, 0x0102_1994];

/// Those of one UPDATE. Their space is given back when this is dropped.
#[derive(Debug, Default)]
pub struct Remains(Vec<OwnedFd>);

/// As many are as good as any others.
impl PartialEq for Remains {
    fn eq(&self, other: &Remains) -> bool {
        self.0.len() == other.0.len()
    }
}

impl Eq for Remains {}

impl Remains {
    /// Descriptors that a process needs for them.
    pub const MAX_DESCRIPTORS: u64 = MAX_FILES as u64;

    /// Whether removed files of this directory can be kept open to good effect.
    pub(crate) fn can_be_of(directory: BorrowedFd<'_>) -> bool {
        #[allow(clippy::cast_sign_loss)] // It is a number of 32 bits, whatever type the field has.
        fstatfs(directory).is_ok_and(|found| LOCAL.contains(&(found.f_type as u64 & 0xffff_ffff)))
    }

    /// There is no room for another.
    pub(crate) fn is_full(&self) -> bool {
        self.0.len() >= MAX_FILES
    }

    /// Adds one, if there is one.
    pub(crate) fn extend(&mut self, file: Option<OwnedFd>) {
        self.0.extend(file);
    }

    /// Files.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }
}
