//! The files of the state directory that belong to one maildrop, opened, locked and written as the server does it.
//!
//! They are the spawner's. What root makes there is given to it.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, fchown};
use std::path::{Path, PathBuf};

use confine::identity::Identity;
use maildrop::IdMap;
use messages::spawner::SpawnerConfig;
use role_maildrop::journal_file::JournalName;
use role_maildrop::session_lock::{LockFile, SessionLock};
use role_maildrop::state_file::{self, PathHash};
use role_master::installation::Installation;

use crate::accounts::Owner;

/// Why a message is out of sight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hidden {
    /// It was deleted, and is kept for a while.
    Deleted,
    /// It was retrieved.
    Retrieved,
}

/// Where the files are.
pub struct State {
    owner: Option<Identity>,
    locks: PathBuf,
    ids: PathBuf,
    journals: PathBuf,
}

impl State {
    /// Of a server.
    pub fn of(installation: &Installation) -> Self {
        let SpawnerConfig {
            session_locks,
            unique_ids,
            journals,
            ..
        } = installation.configuration.spawner();
        State {
            owner: installation.spawner().cloned(),
            locks: session_locks,
            ids: unique_ids,
            journals,
        }
    }

    /// Keeps sessions off the maildrop at `path`.
    ///
    /// # Errors
    /// One sentence; that a session has it, most of all.
    pub fn lock(&self, path: &Path) -> Result<SessionLock, String> {
        let directory = open(&self.locks)?;
        let lock = LockFile::open(directory.as_fd(), path).map_err(text)?;
        // Opened again to be given away: a lock file that the spawner cannot open would lock everybody out.
        self.give_away(directory.as_fd(), path, ".lock")?;
        match lock.lock() {
            Ok(Some(lock)) => Ok(lock),
            Ok(None) => Err("a session has the maildrop; try again later".to_owned()),
            Err(error) => Err(text(error)),
        }
    }

    /// The journal of an mbox, if there is one.
    ///
    /// # Errors
    /// What the system says.
    pub fn journal(&self, owner: &Owner) -> Result<Option<File>, String> {
        let directory = open(&self.journals)?;
        let name = JournalName {
            uid: owner.account.uid,
            gid: owner.account.gid,
            path: PathHash::of(&owner.path()),
        };
        match name.open_to_read(directory.as_fd()) {
            Ok(file) => Ok(Some(file)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(text(error)),
        }
    }

    /// Which of equal messages of the mbox at `path` has which id.
    ///
    /// # Errors
    /// What the system says.
    pub fn copies(&self, path: &Path) -> Result<File, String> {
        let directory = open(&self.ids)?;
        self.give_away(directory.as_fd(), path, ".copies")
    }

    /// The list of what is hidden of the maildrop at `path`; `None` if nothing ever was.
    ///
    /// # Errors
    /// What the system says.
    pub fn hidden(&self, which: Hidden, path: &Path) -> Result<Option<File>, String> {
        let directory = open(&self.ids)?;
        let suffix = match which {
            Hidden::Deleted => state_file::DELETIONS,
            Hidden::Retrieved => state_file::ACKNOWLEDGED,
        };
        state_file::open_existing(directory.as_fd(), path, suffix).map_err(text)
    }

    /// The ids that the maildrop at `path` has from elsewhere.
    ///
    /// # Errors
    /// The list cannot be read, or is damaged.
    pub fn map(&self, path: &Path) -> Result<IdMap, String> {
        let directory = open(&self.ids)?;
        match state_file::open_to_read(directory.as_fd(), path, ".map") {
            Ok(Some(mut file)) => {
                IdMap::read(&mut file).map_err(|error| format!("list of unique-ids: {error}"))
            }
            Ok(None) => Ok(IdMap::default()),
            Err(error) => Err(text(error)),
        }
    }

    /// Puts another list in its place: the one or the other is there at any time, and this one for good on return.
    ///
    /// # Errors
    /// What the system says; the list is as it was.
    pub fn set_map(&self, path: &Path, map: &IdMap) -> Result<(), String> {
        let hash = PathHash::of(path);
        let place = self.ids.join(format!("{hash}.map"));
        let new = self.ids.join(format!("{hash}.new"));
        let write = || {
            // Of somebody who was killed: the session lock keeps others out.
            match fs::remove_file(&new) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            let mut file = OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(&new)?;
            if let Some(owner) = &self.owner {
                fchown(&file, Some(owner.uid.into()), Some(owner.gid.into()))?;
            }
            file.write_all(&map.to_text())?;
            file.sync_all()?;
            fs::rename(&new, &place)?;
            File::open(&self.ids)?.sync_all()
        };
        write().map_err(|error| {
            drop(fs::remove_file(&new));
            format!("{}: {error}", place.display())
        })
    }

    /// Opens a file, and makes it the spawner's if this is what has made it.
    fn give_away(
        &self,
        directory: BorrowedFd<'_>,
        path: &Path,
        suffix: &str,
    ) -> Result<File, String> {
        let open = || {
            let file = File::from(state_file::open(directory, path, suffix)?);
            let metadata = file.metadata()?;
            let is_new = metadata.uid() == 0 && metadata.nlink() == 1 && metadata.len() == 0;
            if let (Some(owner), true) = (&self.owner, is_new) {
                fchown(&file, Some(owner.uid.into()), Some(owner.gid.into()))?;
            }
            Ok::<_, io::Error>(file)
        };
        open().map_err(text)
    }
}

fn text(error: impl std::fmt::Display) -> String {
    format!("state directory: {error}")
}

fn open(directory: &Path) -> Result<File, String> {
    File::open(directory).map_err(|error| format!("{}: {error}", directory.display()))
}
