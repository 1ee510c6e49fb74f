//! The files of journals: one for each mbox ever served, in a directory of the spawner's, whose they are too: a journal is
//! not on its user's quota, and a user who is over that can delete mail.
//!
//! Whose a journal is stands in its name, which only the spawner can give, and never in the file, which the user's
//! processes write.

use std::fmt;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use confine::identity::{NonRootGid, NonRootUid};
use maildrop::KEPT_OCTETS;
use rustix::fs::{
    FallocateFlags, Mode, OFlags, RenameFlags, fallocate, fstat, fsync, openat, renameat,
    renameat_with,
};
use rustix::io::Errno;

use crate::state_file::PathHash;

/// Journals set aside that are kept for one mailbox. The last is replaced by the next.
const MAX_SET_ASIDE: u32 = 4;

/// Which journal: of whose maildrop processes, and of which mbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JournalName {
    /// The user who may write it.
    pub uid: NonRootUid,
    /// That user's group.
    pub gid: NonRootGid,
    /// The mbox.
    pub path: PathHash,
}

impl fmt::Display for JournalName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.uid, self.gid, self.path)
    }
}

impl JournalName {
    /// The journal of a file name as [`Display`](fmt::Display) makes it; `None` for any other.
    pub fn parse(name: &str) -> Option<Self> {
        let (uid, rest) = name.split_once('.')?;
        let (gid, path) = rest.split_once('.')?;
        let parsed = Self {
            uid: uid.parse::<u32>().ok()?.try_into().ok()?,
            gid: gid.parse::<u32>().ok()?.try_into().ok()?,
            path: PathHash::parse(path)?,
        };
        (parsed.to_string() == name).then_some(parsed)
    }

    /// Opens the journal for its user, making it if need be.
    ///
    /// # Errors
    /// What the system says.
    pub fn open(&self, directory: BorrowedFd<'_>) -> io::Result<File> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = openat(directory, self.to_string(), flags, Mode::RUSR | Mode::WUSR)?;
        if fstat(&file)?.st_size == 0 {
            // Its name must be durable before anything is done on its word, and its space taken while there is some. On a
            // full disk, both is tried again next time.
            fsync(directory)?;
            let _ = fallocate(&file, FallocateFlags::empty(), 0, KEPT_OCTETS);
        }
        Ok(file.into())
    }

    /// Opens the journal as [`open`](Self::open) does, if there is one: an interrupted update is finished by whoever comes
    /// next, also by one who may change nothing else.
    ///
    /// # Errors
    /// What the system says.
    pub fn open_existing(&self, directory: BorrowedFd<'_>) -> io::Result<Option<File>> {
        let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        match openat(directory, self.to_string(), flags, Mode::empty()) {
            Ok(file) => Ok(Some(file.into())),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Opens the journal for reading.
    ///
    /// # Errors
    /// What the system says.
    pub fn open_to_read(&self, directory: BorrowedFd<'_>) -> io::Result<File> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Ok(openat(directory, self.to_string(), flags, Mode::empty())?.into())
    }

    /// Gives the journal's file a name that is not a journal's, and returns that name and the file that takes its place.
    ///
    /// # Errors
    /// What the system says.
    pub fn set_aside(&self, directory: BorrowedFd<'_>) -> io::Result<(String, File)> {
        let from = self.to_string();
        let mut number = 1;
        let to = loop {
            let to = format!("{from}.aside-{number}");
            let renamed = match number {
                MAX_SET_ASIDE => renameat(directory, &from, directory, &to),
                _ => renameat_with(directory, &from, directory, &to, RenameFlags::NOREPLACE),
            };
            match renamed {
                Ok(()) => break to,
                Err(Errno::EXIST) if number < MAX_SET_ASIDE => number = number.saturating_add(1),
                Err(error) => return Err(error.into()),
            }
        };
        // The new file is empty, so that opening it makes both names durable.
        Ok((to, self.open(directory)?))
    }
}

/// Opens the directory of journals.
///
/// # Errors
/// What the system says.
pub fn open_directory(path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(openat(rustix::fs::CWD, path, flags, Mode::empty())?)
}

/// All journals in the directory.
///
/// # Errors
/// The directory cannot be read.
pub fn list(directory: BorrowedFd<'_>) -> io::Result<Vec<JournalName>> {
    let mut names = Vec::new();
    for entry in rustix::fs::Dir::read_from(directory.as_fd())? {
        let entry = entry?;
        names.extend(entry.file_name().to_str().ok().and_then(JournalName::parse));
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name() -> JournalName {
        JournalName {
            uid: 1000.try_into().unwrap(),
            gid: 1001.try_into().unwrap(),
            path: PathHash::of(Path::new("/var/mail/alice")),
        }
    }

    #[test]
    fn a_journals_name_is_parsed_and_nothing_else_is_one() {
        let text = name().to_string();
        assert_eq!(JournalName::parse(&text), Some(name()));
        let hash = "0".repeat(32);
        for other in [
            format!("{text}.aside-1"),
            format!("0.1000.{hash}"),
            format!("1000.0.{hash}"),
            format!("01000.1000.{hash}"),
            format!("+1000.1000.{hash}"),
            format!("1000.1000.{}", "0".repeat(31)),
            format!("1000.1000.{}", "F".repeat(32)),
            "..".to_owned(),
            String::new(),
        ] {
            assert_eq!(JournalName::parse(&other), None, "{other}");
        }
    }

    #[test]
    fn a_new_journal_has_its_space_and_one_set_aside_keeps_its_octets() {
        let directory = tempfile::tempdir().unwrap();
        let opened = open_directory(directory.path()).unwrap();
        let fd = opened.as_fd();
        let octets = |name: &str| std::fs::read(directory.path().join(name)).unwrap();
        let file = name().open(fd).unwrap();
        assert_eq!(file.metadata().unwrap().len(), KEPT_OCTETS);
        assert_eq!(list(fd).unwrap(), [name()]);
        for number in 1..=6_u8 {
            std::fs::write(directory.path().join(name().to_string()), [number]).unwrap();
            let (aside, new) = name().set_aside(fd).unwrap();
            assert_eq!(octets(&aside), [number]);
            assert_eq!(new.metadata().unwrap().len(), KEPT_OCTETS);
        }
        assert_eq!(list(fd).unwrap(), [name()]);
        let aside = |number| octets(&format!("{}.aside-{number}", name()));
        assert_eq!((1..=4).map(aside).collect::<Vec<_>>(), [[1], [2], [3], [6]]);
    }
}
