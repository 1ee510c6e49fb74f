//! The file of verifiers that are derived for the system's users: a line for each, `name:binding:verifier`.
//!
//! One file, so that a look-up costs the same for everybody ([`crate::store_file`]). It is never changed in its place: the next
//! one is written beside it, under a lock, and takes its name. A crash leaves the old or the new, or what is not yet on the disk
//! missing, and then a verifier is derived once more.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{AtFlags, CWD, FlockOperation, Mode, OFlags, flock, openat, renameat, unlinkat};
use zeroize::Zeroizing;

use crate::name::UserName;
use crate::store_file::{Readers, Stage, StoreError, StoreFile};

/// Users who may have a derived verifier: 20 MiB of file, written anew with each. Those beyond have none.
const MAX_VERIFIERS: usize = 100_000;

/// The octets of a line at most, so that the next file is never moved in memory while it is put together.
const LINE_OCTETS: usize = 1024;

const NAME: &str = "derived";
const NEW: &str = "new";
const LOCK: &str = "lock";

/// What is kept for a user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Changes when the system's hash does, in base64.
    pub binding: Zeroizing<String>,
    /// The verifier in RFC 5803's form.
    pub verifier: Zeroizing<String>,
}

impl Record {
    /// `None` where the line has another form.
    fn parse(line: &str) -> Option<Self> {
        let mut parts = line.splitn(3, ':').skip(1);
        Some(Self {
            binding: parts.next()?.to_owned().into(),
            verifier: parts.next()?.to_owned().into(),
        })
    }

    fn line(&self, user: &UserName) -> Zeroizing<String> {
        let (user, binding) = (user.as_str(), self.binding.as_str());
        format!("{user}:{binding}:{}", self.verifier.as_str()).into()
    }
}

/// Whether the directory can be written to.
///
/// # Errors
/// It cannot.
pub fn try_out(directory: &Path) -> io::Result<()> {
    Locked::new(directory).map(drop)
}

/// What is kept for `user`.
///
/// # Errors
/// The file is there, and cannot be used.
pub fn find(directory: &Path, user: &UserName) -> Result<Option<Record>, StoreError> {
    let Some(file) = open(directory)? else {
        return Ok(None);
    };
    let text = file.find(user)?.and_then(|found| found.text.ok());
    Ok(text.and_then(|text| Record::parse(&text)))
}

/// Keeps `record` for `user`, in place of any other.
///
/// # Errors
/// It is not kept; what was there is there.
pub fn put(directory: &Path, user: &UserName, record: &Record) -> io::Result<()> {
    let is_others = |line: &[u8]| {
        let name = line.split(|&octet| octet == b':').next();
        name.is_some_and(|name| !user.is(name))
    };
    Locked::new(directory)?.rewrite(is_others, Some(&record.line(user)))
}

/// Forgets this record of `user`, and no other that has taken its place meanwhile.
///
/// # Errors
/// It is still there.
pub fn remove(directory: &Path, user: &UserName, record: &Record) -> io::Result<()> {
    let stale = record.line(user);
    Locked::new(directory)?.rewrite(|line| line != stale.as_bytes(), None)
}

fn open(directory: &Path) -> Result<Option<StoreFile>, StoreError> {
    match StoreFile::open(&directory.join(NAME), Readers::Group) {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.stage == Stage::Missing => Ok(None),
        Err(error) => Err(error),
    }
}

/// The directory, which nobody else is changing.
struct Locked<'a> {
    path: &'a Path,
    directory: OwnedFd,
    _lock: OwnedFd,
}

impl<'a> Locked<'a> {
    fn new(path: &'a Path) -> io::Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let directory = openat(CWD, path, flags, Mode::empty())?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let lock = openat(&directory, LOCK, flags, Mode::RUSR | Mode::WUSR)?;
        flock(&lock, FlockOperation::LockExclusive)?;
        Ok(Self {
            path,
            directory,
            _lock: lock,
        })
    }

    fn rewrite(&self, keep: impl Fn(&[u8]) -> bool, new: Option<&str>) -> io::Result<()> {
        let mut lines = 0_usize;
        let mut text = Zeroizing::new(Vec::with_capacity(LINE_OCTETS));
        if let Some(old) = open(self.path).map_err(io::Error::other)? {
            text.reserve(old.octets());
            old.for_each_line(|_, line| {
                if keep(line) {
                    text.extend_from_slice(line);
                    text.push(b'\n');
                    lines = lines.saturating_add(1);
                }
            })
            .map_err(io::Error::other)?;
        }
        if let Some(new) = new {
            if lines >= MAX_VERIFIERS {
                return Err(io::ErrorKind::StorageFull.into());
            }
            text.extend_from_slice(new.as_bytes());
            text.push(b'\n');
        }
        self.replace(&text)
    }

    fn replace(&self, text: &[u8]) -> io::Result<()> {
        // Of a worker that was killed.
        let _ = unlinkat(&self.directory, NEW, AtFlags::empty());
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let new = openat(&self.directory, NEW, flags, Mode::RUSR | Mode::WUSR)?;
        let mut new = File::from(new);
        new.write_all(text)?;
        new.sync_all()?;
        Ok(renameat(&self.directory, NEW, &self.directory, NAME)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn user(name: &str) -> UserName {
        UserName::parse(name.as_bytes()).unwrap()
    }

    fn record(binding: &str) -> Record {
        Record {
            binding: binding.to_owned().into(),
            verifier: "SCRAM-SHA-256$4096:c2FsdA==$a:b".to_owned().into(),
        }
    }

    #[test]
    fn a_record_is_found_replaced_and_removed_and_no_other_is_touched() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path();
        let (joe, ann) = (user("joe"), user("ann"));
        assert_eq!(find(path, &joe).unwrap(), None);
        put(path, &joe, &record("one")).unwrap();
        put(path, &ann, &record("hers")).unwrap();
        put(path, &joe, &record("two")).unwrap();
        assert_eq!(find(path, &joe).unwrap(), Some(record("two")));
        // It has been replaced meanwhile.
        remove(path, &joe, &record("one")).unwrap();
        assert_eq!(find(path, &joe).unwrap(), Some(record("two")));
        remove(path, &joe, &record("two")).unwrap();
        assert_eq!(find(path, &joe).unwrap(), None);
        assert_eq!(find(path, &ann).unwrap(), Some(record("hers")));
    }

    #[test]
    fn only_its_owner_may_read_the_file_and_what_a_killed_worker_left_is_overwritten() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path();
        std::fs::write(path.join(NEW), "half a li").unwrap();
        put(path, &user("joe"), &record("one")).unwrap();
        for name in [NAME, LOCK] {
            let mode = std::fs::metadata(path.join(name)).unwrap().permissions();
            assert_eq!(mode.mode() & 0o777, 0o600, "{name}");
        }
        assert!(!path.join(NEW).exists());
        assert_eq!(find(path, &user("joe")).unwrap(), Some(record("one")));
    }

    #[test]
    fn beyond_the_bound_nobody_is_added() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path();
        let full: String = (0..MAX_VERIFIERS).map(|n| format!("u{n}:a:b\n")).collect();
        std::fs::write(path.join(NAME), full).unwrap();
        std::fs::set_permissions(path.join(NAME), PermissionsExt::from_mode(0o600)).unwrap();
        assert!(put(path, &user("joe"), &record("one")).is_err());
        put(path, &user("u7"), &record("one")).unwrap();
        assert_eq!(find(path, &user("u7")).unwrap(), Some(record("one")));
    }
}
