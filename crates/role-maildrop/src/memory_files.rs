//! The files that a maildrop is remembered by from one session to the next: its index, which may be removed at any time,
//! and its unique-ids, which may not.
//!
//! Their directories are the spawner's. The maildrop process opens them before it becomes the user, and uses them under
//! the session lock.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use maildrop::{CopyNumbers, DatedIds, Grace, Horizon, IdMap, IdMapError, Index, Memory};
use messages::Rights;
use messages::spawner::SpawnerConfig;
use rustix::fs::{CWD, Mode, OFlags, fstat, fsync, openat};

use crate::state_file;

/// The directories of these files.
#[derive(Debug)]
pub struct MemoryDirectories {
    indexes: OwnedFd,
    ids: OwnedFd,
}

/// The files of one maildrop.
#[derive(Debug)]
pub struct MemoryFiles {
    index: io::Result<Option<File>>,
    copies: io::Result<Option<File>>,
    map: io::Result<Option<File>>,
    deletions: io::Result<Option<File>>,
    grace: Duration,
    acknowledged: io::Result<Option<File>>,
    hide_older: Duration,
    hide_acknowledged: bool,
}

impl MemoryDirectories {
    /// Opens the configured directories.
    ///
    /// # Errors
    /// Names the directory and says what is wrong with it.
    pub fn open(configuration: &SpawnerConfig) -> Result<Self, String> {
        let open = |path: &Path| {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            openat(CWD, path, flags, Mode::empty())
                .map_err(|error| format!("{}: {error}", path.display()))
        };
        Ok(Self {
            indexes: open(&configuration.indexes)?,
            ids: open(&configuration.unique_ids)?,
        })
    }

    /// The directories' descriptors, which a maildrop process has to be left.
    pub fn descriptors(&self) -> [BorrowedFd<'_>; 2] {
        [self.indexes.as_fd(), self.ids.as_fd()]
    }

    /// Opens the files of the maildrop at `path`; for a session that may change nothing only those that are there, and so that
    /// whatever the maildrop writes into them is refused by the kernel, which it can bear.
    pub fn files(
        &self,
        path: &Path,
        is_mbox: bool,
        rights: Rights,
        configuration: &SpawnerConfig,
    ) -> MemoryFiles {
        let open = |directory: &OwnedFd, suffix| match rights.allow_change() {
            true => state_file::open(directory.as_fd(), path, suffix).map(|fd| Some(fd.into())),
            false => state_file::open_to_read(directory.as_fd(), path, suffix),
        };
        MemoryFiles {
            index: open(&self.indexes, ""),
            copies: match is_mbox {
                true => open(&self.ids, ".copies"),
                false => Ok(None),
            },
            map: state_file::open_to_read(self.ids.as_fd(), path, ".map"),
            // What was deleted before the policy was switched off is due.
            deletions: self.open_list(
                path,
                state_file::DELETIONS,
                rights,
                !configuration.delete_grace.is_zero(),
            ),
            grace: configuration.delete_grace,
            // What was retrieved before it was switched off is hidden again when it is switched on.
            acknowledged: self.open_list(
                path,
                state_file::ACKNOWLEDGED,
                rights,
                configuration.hide_acknowledged,
            ),
            hide_older: configuration.hide_older,
            hide_acknowledged: configuration.hide_acknowledged,
        }
    }

    /// Opens a list of messages of the maildrop at `path`; if there is none and it is `wanted`, a new one, whose name is to be as
    /// durable as what will stand in it.
    fn open_list(
        &self,
        path: &Path,
        suffix: &str,
        rights: Rights,
        wanted: bool,
    ) -> io::Result<Option<File>> {
        let directory = self.ids.as_fd();
        match (wanted, rights.allow_change()) {
            (true, true) => {
                let file = state_file::open(directory, path, suffix)?;
                if fstat(&file)?.st_size == 0 {
                    fsync(&self.ids)?;
                }
                Ok(Some(file.into()))
            }
            (false, true) => state_file::open_existing(directory, path, suffix),
            (_, false) => state_file::open_to_read(directory, path, suffix),
        }
    }
}

impl MemoryFiles {
    /// Makes of them what a maildrop needs. What cannot be opened and is missed only by being slower is handed to
    /// `complain`.
    ///
    /// # Errors
    /// There is a list of unique-ids, and it cannot be read: with other ids clients would fetch everything again. Or one of
    /// deleted messages: without it they would be shown, or removed at once. Or one of those that were retrieved.
    pub fn memory(self, mut complain: impl FnMut(io::Error)) -> Result<Memory, IdMapError> {
        let ids = match self.map.map_err(IdMapError::Io)? {
            Some(mut file) => IdMap::read(&mut file)?,
            None => IdMap::default(),
        };
        let time = self.grace;
        let grace = self.deletions.map_err(IdMapError::Io)?.map(|file| Grace {
            deletions: DatedIds::read(file),
            time,
        });
        let acknowledged = self.acknowledged.map_err(IdMapError::Io)?;
        let horizon = Horizon {
            older: (!self.hide_older.is_zero()).then_some(self.hide_older),
            acknowledged: acknowledged.map(DatedIds::read),
            hide_acknowledged: self.hide_acknowledged,
        };
        let mut opened =
            |file: io::Result<Option<File>>| file.map_err(&mut complain).ok().flatten();
        Ok(Memory {
            index: opened(self.index).map(Index::new),
            copies: opened(self.copies).map(CopyNumbers::new),
            ids,
            grace,
            horizon,
        })
    }
}
