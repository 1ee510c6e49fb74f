//! The two directories of a Maildir, by descriptor: listed, their files opened and removed.

use std::fs::File;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, RawDir, SeekFrom, Stat};
use rustix::fs::{fstat, fsync, openat, seek, statat, unlinkat};
use rustix::io::Errno;

use super::name::{Arena, Folder, Inode, Name};

/// Octets of directory entries taken from the kernel at once.
const LISTING_BLOCK: usize = 32 * 1024;

/// The directories `new` and `cur`.
#[derive(Debug)]
pub(crate) struct Folders {
    new: OwnedFd,
    cur: OwnedFd,
}

/// What tells that a file is still the message that was counted, whatever it is called now.
///
/// Not the inode: some file systems number their files afresh at will.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Facts {
    /// Octets stored.
    pub(super) size: u64,
    /// Time of the last change in nanoseconds since 1970.
    modified: i64,
}

/// What lies at a name.
#[derive(Debug)]
pub(super) enum Found<T> {
    Message(T, Facts),
    /// A directory, a link, a fifo, or what the user may not read.
    NoMail,
}

/// A file open for reading, and what is known of it.
pub(super) type OpenFile = (File, Stat);

impl<T> Found<T> {
    pub(super) fn without_content<U>(self) -> Found<Option<U>> {
        match self {
            Found::Message(_, facts) => Found::Message(None, facts),
            Found::NoMail => Found::NoMail,
        }
    }

    fn new(content: T, stat: &Stat) -> Self {
        match Facts::of(stat) {
            Some(facts) => Found::Message(content, facts),
            None => Found::NoMail,
        }
    }
}

impl Folders {
    pub(crate) fn new(new: OwnedFd, cur: OwnedFd) -> Self {
        Folders { new, cur }
    }

    pub(crate) fn descriptors(&self) -> [BorrowedFd<'_>; 2] {
        [self.new.as_fd(), self.cur.as_fd()]
    }

    /// Lists both directories, at most `limit` names; one more tells that there are more.
    ///
    /// `new` first: a message on its way to `cur` meanwhile is listed twice, not never.
    pub(super) fn list(&self, limit: u32) -> io::Result<(Arena, Vec<Name>)> {
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let mut arena = Arena::default();
        let mut names = Vec::new();
        let mut buffer = vec![MaybeUninit::uninit(); LISTING_BLOCK];
        for folder in [Folder::New, Folder::Cur] {
            seek(self.fd(folder), SeekFrom::Start(0))?;
            let mut directory = RawDir::new(self.fd(folder), &mut buffer);
            while let Some(entry) = directory.next() {
                let entry = entry?;
                let name = entry.file_name().to_bytes();
                // Hidden files are no mail, nor is what a file system has no right to call a name.
                if name.starts_with(b".") || name.contains(&b'/') {
                    continue;
                }
                let inode = Inode::new(entry.ino());
                let name = arena.store(folder, name);
                names.extend(name.map(|name| name.of(inode)));
                if names.len() > limit {
                    return Ok((arena, names));
                }
            }
        }
        Ok((arena, names))
    }

    /// Opens a message for reading; `None` if nothing lies there.
    pub(super) fn open_message(
        &self,
        folder: Folder,
        name: &[u8],
    ) -> io::Result<Option<Found<OpenFile>>> {
        let flags =
            OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        match openat(self.fd(folder), name, flags, Mode::empty()) {
            Ok(file) => {
                let stat = fstat(&file)?;
                Ok(Some(Found::new((File::from(file), stat), &stat)))
            }
            Err(Errno::NOENT) => Ok(None),
            Err(Errno::LOOP | Errno::ACCESS | Errno::PERM | Errno::NXIO | Errno::NODEV) => {
                Ok(Some(Found::NoMail))
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Looks at a message without opening it; `None` if nothing lies there.
    pub(super) fn look(&self, folder: Folder, name: &[u8]) -> io::Result<Option<Found<Stat>>> {
        match statat(self.fd(folder), name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(Found::new(stat, &stat))),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// As [`Folders::look`], and keeps the file open, though not for reading, unless there is no descriptor left.
    pub(super) fn hold(
        &self,
        folder: Folder,
        name: &[u8],
    ) -> io::Result<Option<Found<Option<OwnedFd>>>> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        match openat(self.fd(folder), name, flags, Mode::empty()) {
            Ok(file) => {
                let stat = fstat(&file)?;
                Ok(Some(Found::new(Some(file), &stat)))
            }
            Err(Errno::NOENT) => Ok(None),
            Err(Errno::MFILE | Errno::NFILE) => {
                let found = self.look(folder, name)?;
                Ok(found.map(|found| found.without_content()))
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Removes a message; `false` if it is not there.
    pub(super) fn unlink(&self, folder: Folder, name: &[u8]) -> io::Result<bool> {
        match unlinkat(self.fd(folder), name, AtFlags::empty()) {
            Ok(()) => Ok(true),
            Err(Errno::NOENT) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Makes removals durable.
    pub(super) fn sync(&self) -> io::Result<()> {
        fsync(&self.cur)?;
        fsync(&self.new)?;
        Ok(())
    }

    fn fd(&self, folder: Folder) -> BorrowedFd<'_> {
        match folder {
            Folder::New => self.new.as_fd(),
            Folder::Cur => self.cur.as_fd(),
        }
    }
}

impl Facts {
    pub(super) fn new(size: u64, modified: i64) -> Self {
        Facts { size, modified }
    }

    pub(super) fn modified(&self) -> i64 {
        self.modified
    }

    /// `None` for what is no regular file.
    #[allow(clippy::unnecessary_cast)] // The fields' types differ between architectures.
    pub(super) fn of(stat: &Stat) -> Option<Self> {
        let regular = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
        regular.then(|| Facts {
            size: u64::try_from(stat.st_size).unwrap_or(0),
            modified: nanoseconds(stat.st_mtime as i64, stat.st_mtime_nsec as u64),
        })
    }
}

/// Time of the last change of anything, name and access included, in nanoseconds since 1970.
#[allow(clippy::unnecessary_cast)] // As above.
pub(super) fn changed(stat: &Stat) -> i64 {
    nanoseconds(stat.st_ctime as i64, stat.st_ctime_nsec as u64)
}

fn nanoseconds(seconds: i64, nanoseconds: u64) -> i64 {
    seconds
        .saturating_mul(1_000_000_000)
        .saturating_add_unsigned(nanoseconds)
}
