//! A maildrop, opened by its owner: what a helper process is told of it, and how it opens it.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use maildrop::{CopyNumbers, Expanded, FileLock, Limits, Location, Maildrop, Memory, OpenOptions};
use messages::spawner::{MailboxLock, SpawnerConfig};
use role_maildrop::file_lock::file_lock;
use rustix::fs::OFlags;
use serde::{Deserialize, Serialize};

use crate::accounts::Owner;

/// Between two attempts to lock.
const PAUSE: Duration = Duration::from_millis(100);

/// Where a maildrop is, and how it is opened.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Mailbox {
    template: String,
    name: String,
    home: String,
    owner: u32,
    dotlock: bool,
    lock: MailboxLock,
    lock_timeout: Duration,
    messages: u32,
    octets: u64,
}

impl Mailbox {
    /// Of a user.
    pub fn new(owner: &Owner, configuration: &SpawnerConfig) -> Self {
        Mailbox {
            template: owner.template.clone(),
            name: owner.account.name.clone(),
            home: owner.account.home.clone(),
            owner: owner.account.uid.as_raw(),
            dotlock: configuration.dotlock,
            lock: configuration.lock,
            lock_timeout: configuration.lock_timeout,
            messages: configuration.messages,
            octets: configuration.octets,
        }
    }

    /// Where it is.
    ///
    /// # Errors
    /// The template is wrong, or the account does not fit it.
    pub fn location(&self) -> Result<Expanded, String> {
        let account = maildrop::Account {
            name: &self.name,
            home: &self.home,
        };
        let location = Location::parse(&self.template);
        location
            .and_then(|location| location.expand(&account))
            .map_err(|error| error.to_string())
    }

    /// Opens it, with the numbers of equal messages that `copies` keeps.
    ///
    /// # Errors
    /// One sentence, as the server would log it.
    pub fn open(&self, copies: Option<File>) -> Result<Box<dyn Maildrop>, String> {
        self.open_at(&self.location()?, copies, file_lock(self.lock))
    }

    /// The same of a maildrop that is locked, or to which nobody delivers.
    ///
    /// # Errors
    /// As [`Mailbox::open`].
    pub fn open_locked(
        &self,
        location: &Expanded,
        copies: Option<File>,
    ) -> Result<Box<dyn Maildrop>, String> {
        self.open_at(location, copies, Box::new(IsLocked))
    }

    /// Locks the mbox at `path` against delivery, as long as the file is open.
    ///
    /// # Errors
    /// It cannot be opened, or another program has locked it for longer than the server would wait.
    pub fn lock(&self, path: &Path) -> Result<File, String> {
        let fail = |error: io::Error| format!("{}: {error}", path.display());
        let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed();
        let mut options = File::options();
        let file = options.read(true).write(true).custom_flags(flags);
        let file = file.open(path).map_err(fail)?;
        let (lock, began) = (file_lock(self.lock), Instant::now());
        while !lock.try_lock_exclusive(file.as_fd()).map_err(fail)? {
            if began.elapsed() >= self.lock_timeout {
                return Err(format!("{}: is locked by another program", path.display()));
            }
            std::thread::sleep(PAUSE);
        }
        Ok(file)
    }

    fn open_at(
        &self,
        location: &Expanded,
        copies: Option<File>,
        lock: Box<dyn FileLock>,
    ) -> Result<Box<dyn Maildrop>, String> {
        let options = OpenOptions {
            owner: self.owner,
            dotlock: self.dotlock,
        };
        let limits = Limits {
            messages: self.messages,
            octets: self.octets,
            lock_wait: self.lock_timeout,
            ..Limits::default()
        };
        let memory = Memory {
            copies: copies.map(CopyNumbers::new),
            ..Memory::default()
        };
        maildrop::open(location, &options)
            .and_then(|opened| opened.with_memory(memory).lock_and_scan(&limits, lock))
            .map_err(|error| error.to_string())
    }
}

/// The lock of a mailbox that another descriptor of ours has locked.
struct IsLocked;

impl FileLock for IsLocked {
    fn try_lock_exclusive(&self, _: BorrowedFd<'_>) -> io::Result<bool> {
        Ok(true)
    }

    fn unlock(&self, _: BorrowedFd<'_>) -> io::Result<()> {
        Ok(())
    }
}
