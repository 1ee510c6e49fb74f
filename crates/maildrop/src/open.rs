//! Opening a maildrop's files by path: all that has to happen before the process confines itself, and no more. No mail is
//! read here.
//!
//! Runs as the mailbox owner, so the kernel decides what may be opened at all. What is refused besides (links, fifos,
//! devices, other people's files) is refused by looking at the open descriptor, never at a name that may change.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use dotlock::Dotlock;
use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags, Stat, fstat, openat, openat2};
use rustix::io::Errno;

use crate::empty::Empty;
use crate::grace::Graced;
use crate::horizon::Within;
use crate::location::{Expanded, Kind};
use crate::lock::{Dotlocking, FileLock, LockBroker, Locks};
use crate::maildir::{self, Folders};
use crate::mbox::journal::{self, Journal};
use crate::{Limits, Maildrop, Memory, OpenError, Problem, mbox};

/// Attempts at a look-up that the kernel gave up because something was renamed meanwhile (openat2's `EAGAIN`).
const MAX_LOOKUPS: u32 = 16;

/// What a maildrop must be like to be opened.
#[derive(Clone, Copy, Debug)]
pub struct OpenOptions {
    /// The uid that must own it; never 0.
    pub owner: u32,
    /// Whether an mbox is locked by `NAME.lock` too, where its directory allows.
    pub dotlock: bool,
}

/// A maildrop whose files are open and have not been looked into.
#[derive(Debug)]
pub struct Opened {
    path: PathBuf,
    files: Files,
    journal: Option<Journal>,
    memory: Memory,
}

#[derive(Debug)]
pub(crate) enum Files {
    Missing,
    Mbox {
        file: File,
        dotlock: Option<Dotlocking>,
    },
    Maildir(Folders),
}

/// A descriptor that must stay usable in confinement, and how.
#[derive(Clone, Copy, Debug)]
pub struct Descriptor<'a> {
    /// The descriptor, still owned by [`Opened`].
    pub fd: BorrowedFd<'a>,
    /// What is done with it.
    pub access: Access,
}

/// What a maildrop does with a descriptor of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// An mbox: read, written, truncated, synced and locked by this descriptor alone; no path is used.
    Mailbox,
    /// A Maildir's `new` or `cur`: listed, its files opened for reading and removed, itself synced.
    Folder,
    /// The directory of the dotlock: files made, written, read and removed in it.
    LockDirectory,
}

/// Opens the files of the maildrop at `location`.
///
/// The base of the location is trusted and may hold symbolic links. Below it none is followed. Where nothing exists
/// below it the maildrop is an empty one, and nothing is made.
///
/// # Errors
/// The maildrop is not what it has to be, or not accessible; see [`Problem`].
pub fn open(location: &Expanded, options: &OpenOptions) -> Result<Opened, OpenError> {
    let path = location.path();
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let base = openat(CWD, &location.base, flags, Mode::empty()).map_err(|error| OpenError {
        path: location.base.clone(),
        problem: Problem::BaseMissing(error.into()),
    })?;
    match open_files(&base, location, options) {
        Ok(files) => Ok(Opened {
            path,
            files,
            journal: None,
            memory: Memory::default(),
        }),
        Err(problem) => Err(OpenError { path, problem }),
    }
}

impl Opened {
    /// Gives an mbox the journal that UPDATE needs where mail has to be moved. Other kinds of maildrop need none.
    #[must_use]
    pub fn with_journal(self, journal: Journal) -> Self {
        let journal = Some(journal);
        Opened { journal, ..self }
    }

    /// Has the dotlock of an mbox made by another process, whether or not this one would make one.
    #[must_use]
    pub fn with_broker(self, broker: Box<dyn LockBroker>) -> Self {
        let files = match self.files {
            Files::Mbox { file, .. } => Files::Mbox {
                file,
                dotlock: Some(Dotlocking::Brokered(broker)),
            },
            other => other,
        };
        Opened { files, ..self }
    }

    /// Puts in the place of the mbox's descriptor this one, which process `dead` has locked and left. What it has left of a
    /// dotlock goes at the next lock.
    ///
    /// # Errors
    /// The two are not the same file: another took the mailbox's place.
    pub fn with_locked(self, mailbox: File, dead: i32) -> Result<Self, OpenError> {
        let Files::Mbox { file, dotlock } = self.files else {
            return Ok(self);
        };
        let identity = |file: &File| fstat(file).map(|stat| (stat.st_dev, stat.st_ino));
        let problem = match (identity(&file), identity(&mailbox)) {
            (Ok(ours), Ok(theirs)) if ours == theirs => {
                let dotlock = dotlock.map(|dotlock| match dotlock {
                    Dotlocking::Own(own) => Dotlocking::Own(own.after(dead)),
                    brokered @ Dotlocking::Brokered(_) => brokered,
                });
                let file = mailbox;
                let files = Files::Mbox { file, dotlock };
                return Ok(Opened { files, ..self });
            }
            (Ok(_), Ok(_)) => Problem::Changed,
            (Err(error), _) | (_, Err(error)) => Problem::Io("examine it", error.into()),
        };
        let path = self.path;
        Err(OpenError { path, problem })
    }

    /// Finishes what an update has left unfinished in an mbox, and does nothing else.
    ///
    /// # Errors
    /// The mailbox is locked, or the system refused something. In the latter case the lock stays with the descriptor.
    pub fn recover(
        mut self,
        limits: &Limits,
        file_lock: Box<dyn FileLock>,
    ) -> Result<(), OpenError> {
        let Files::Mbox { file, dotlock } = self.files else {
            return Ok(());
        };
        let locks = Locks {
            file_lock,
            dotlock,
            wait: limits.lock_wait,
        };
        let recovered = journal::recover(&file, &locks, self.journal.as_mut(), true);
        recovered.map(drop).map_err(|problem| OpenError {
            path: self.path,
            problem,
        })
    }

    /// Adds what is kept of the maildrop, which is brought up to date.
    #[must_use]
    pub fn with_memory(self, memory: Memory) -> Self {
        Opened { memory, ..self }
    }

    /// The descriptors that [`lock_and_scan`](Opened::lock_and_scan) and the session need.
    pub fn descriptors(&self) -> Vec<Descriptor<'_>> {
        let descriptor = |fd, access| Descriptor { fd, access };
        match &self.files {
            Files::Missing => Vec::new(),
            Files::Mbox { file, dotlock } => {
                let directory = match dotlock {
                    Some(Dotlocking::Own(own)) => Some(own.directory()),
                    Some(Dotlocking::Brokered(_)) | None => None,
                };
                std::iter::once(descriptor(file.as_fd(), Access::Mailbox))
                    .chain(directory.map(|fd| descriptor(fd.as_fd(), Access::LockDirectory)))
                    .collect()
            }
            Files::Maildir(folders) => folders
                .descriptors()
                .map(|fd| descriptor(fd, Access::Folder))
                .to_vec(),
        }
    }

    /// Locks the maildrop if it is an mbox, reads through it, and gives the lock up again.
    ///
    /// `file_lock` is used again in UPDATE. A Maildir needs no lock; that sessions exclude each other is not done here.
    ///
    /// # Errors
    /// The maildrop is locked, larger than `limits`, no mbox, or could not be read.
    pub fn lock_and_scan(
        mut self,
        limits: &Limits,
        file_lock: Box<dyn FileLock>,
    ) -> Result<Box<dyn Maildrop>, OpenError> {
        let grace = self.memory.grace.take();
        let horizon = std::mem::take(&mut self.memory.horizon);
        let maildrop: Result<Box<dyn Maildrop>, Problem> = match self.files {
            Files::Missing => Ok(Box::new(Empty)),
            Files::Mbox { file, dotlock } => {
                let locks = Locks {
                    file_lock,
                    dotlock,
                    wait: limits.lock_wait,
                };
                mbox::Mbox::scan(file, locks, limits, self.journal, self.memory)
                    .map(|mbox| Box::new(mbox) as _)
            }
            Files::Maildir(folders) => maildir::Maildir::scan(folders, limits, self.memory)
                .map(|maildir| Box::new(maildir) as _),
        };
        let mut maildrop = maildrop.map_err(|problem| OpenError {
            path: self.path,
            problem,
        })?;
        if let Some(grace) = grace {
            maildrop = Box::new(Graced::new(maildrop, grace));
        }
        if !horizon.is_none() {
            maildrop = Box::new(Within::new(maildrop, horizon));
        }
        Ok(maildrop)
    }
}

/// Opens what is there below an open base.
pub(crate) fn open_files(
    base: &OwnedFd,
    location: &Expanded,
    options: &OpenOptions,
) -> Result<Files, Problem> {
    match location.kind {
        Kind::Mbox => open_mbox(base, &location.below, options),
        Kind::Maildir => open_maildir(base, &location.below, options),
    }
}

/// Makes a new file below `directory`, without following any link.
pub(crate) fn make_below(directory: &OwnedFd, path: &Path) -> Result<OwnedFd, Errno> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    openat2(directory, path, flags, Mode::RUSR | Mode::WUSR, resolve)
}

fn open_mbox(base: &OwnedFd, below: &Path, options: &OpenOptions) -> Result<Files, Problem> {
    // NONBLOCK: opening a fifo or a device must not wait.
    let flags = OFlags::RDWR | OFlags::NONBLOCK | OFlags::NOCTTY;
    let Some(file) = open_below(base, below, flags)? else {
        return Ok(Files::Missing);
    };
    let stat = look(&file)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(Problem::WrongKind(kind(&stat)));
    }
    check_owner(&stat, options)?;
    #[allow(clippy::useless_conversion)] // 32 bits on some architectures.
    match u64::from(stat.st_nlink) {
        1 => {}
        links => return Err(Problem::Links(links)),
    }
    let dotlock = match (options.dotlock, below.file_name()) {
        (true, Some(name)) => {
            let parent = below.parent().filter(|parent| *parent != Path::new(""));
            let flags = OFlags::PATH | OFlags::DIRECTORY;
            open_below(base, parent.unwrap_or(Path::new(".")), flags)?
                .map(|directory| Dotlocking::Own(Dotlock::for_mailbox(Rc::new(directory), name)))
        }
        _ => None,
    };
    let file = File::from(file);
    Ok(Files::Mbox { file, dotlock })
}

fn open_maildir(base: &OwnedFd, below: &Path, options: &OpenOptions) -> Result<Files, Problem> {
    let below = match below == Path::new("") {
        true => Path::new("."),
        false => below,
    };
    let Some(root) = open_below(base, below, OFlags::PATH)? else {
        return Ok(Files::Missing);
    };
    check_directory(&root, options)?;
    let folder = |name: &'static str| {
        let folder = open_below(&root, Path::new(name), OFlags::RDONLY | OFlags::DIRECTORY)?
            .ok_or(Problem::NotMaildir(name))?;
        check_directory(&folder, options)?;
        Ok(folder)
    };
    Ok(Files::Maildir(Folders::new(folder("new")?, folder("cur")?)))
}

/// Opens `path` below `directory` without following any link; `None` if it does not exist.
pub(crate) fn open_below(
    directory: &OwnedFd,
    path: &Path,
    flags: OFlags,
) -> Result<Option<OwnedFd>, Problem> {
    // Without NOFOLLOW, which would let O_PATH open a link itself and have O_DIRECTORY report one as something else.
    let flags = flags | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    let mut result = Err(Errno::AGAIN);
    for _ in 0..MAX_LOOKUPS {
        result = openat2(directory, path, flags, Mode::empty(), resolve);
        if !matches!(result, Err(Errno::AGAIN | Errno::INTR)) {
            break;
        }
    }
    match result {
        Ok(fd) => Ok(Some(fd)),
        Err(Errno::NOENT) => Ok(None),
        Err(Errno::LOOP) => Err(Problem::Symlink),
        Err(Errno::XDEV) => Err(Problem::Escapes),
        Err(Errno::ACCESS | Errno::PERM) => Err(Problem::Denied),
        Err(Errno::ISDIR) => Err(Problem::WrongKind("a directory")),
        Err(Errno::NOTDIR) => Err(Problem::WrongKind(
            "no directory, or lies behind one that is none",
        )),
        Err(Errno::NXIO | Errno::NODEV) => Err(Problem::WrongKind("a socket or device")),
        Err(error) => Err(Problem::Io("open it", error.into())),
    }
}

fn look(file: &OwnedFd) -> Result<Stat, Problem> {
    fstat(file).map_err(|error| Problem::Io("examine it", error.into()))
}

/// Group members may write (Debian's user private groups make umask 002 harmless); everyone may not, since they could
/// then plant and remove mail.
pub(crate) fn check_directory(directory: &OwnedFd, options: &OpenOptions) -> Result<(), Problem> {
    let stat = look(directory)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
        return Err(Problem::WrongKind(kind(&stat)));
    }
    check_owner(&stat, options)?;
    match Mode::from_raw_mode(stat.st_mode).contains(Mode::WOTH) {
        true => Err(Problem::WorldWritable),
        false => Ok(()),
    }
}

fn check_owner(stat: &Stat, options: &OpenOptions) -> Result<(), Problem> {
    match stat.st_uid {
        0 => Err(Problem::RootOwned),
        uid if uid == options.owner => Ok(()),
        found => Err(Problem::Owner {
            expected: options.owner,
            found,
        }),
    }
}

fn kind(stat: &Stat) -> &'static str {
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => "a regular file",
        FileType::Directory => "a directory",
        FileType::Fifo => "a fifo",
        FileType::Socket => "a socket",
        FileType::CharacterDevice | FileType::BlockDevice => "a device",
        _ => "a file of unknown kind",
    }
}

#[cfg(test)]
mod tests;
