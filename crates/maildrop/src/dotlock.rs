//! The dotlock: a file `NAME.lock` beside the mailbox, which older programs look at and fcntl does not replace.
//!
//! Debian's spool (2775 root:mail) does not let a plain user make one; there the fcntl lock stands alone. Where it does
//! (a mailbox in the home directory), the file is made as liblockfile makes it: mode 0644, the pid in it.

use std::cell::Cell;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::fs::{AtFlags, Mode, OFlags, Stat, Timespec, Timestamps, UTIME_NOW, fstat, futimens};
use rustix::fs::{openat, statat, unlinkat};
use rustix::io::Errno;
use rustix::process::{Pid, getpid, test_kill_process};
use rustix::time::{ClockId, clock_gettime};

/// Age in seconds at which a lock may be a dead program's; liblockfile's figure, and others refresh theirs by it.
const STALE_AFTER: i64 = 5 * 60;

/// How often a lock that is held is shown to be alive.
const REFRESH_EVERY: Duration = Duration::from_secs(60);

/// Longest pid that is read from another's lock file.
const MAX_PID_DIGITS: u64 = 20;

/// The dotlock of one mailbox, not held.
#[derive(Debug)]
pub(crate) struct Dotlock {
    directory: OwnedFd,
    name: OsString,
    /// Whose lock is stale whatever its age.
    dead: Option<Pid>,
}

/// A dotlock held until dropped.
pub(crate) struct HeldDotlock<'a> {
    /// `None` where the directory does not let us make one.
    file: Option<(&'a Dotlock, File)>,
    refreshed: Cell<Instant>,
}

impl Dotlock {
    /// The dotlock of the mailbox `name` in `directory`.
    pub(crate) fn for_mailbox(directory: OwnedFd, name: &OsStr) -> Self {
        let mut name = name.to_owned();
        name.push(".lock");
        Dotlock {
            directory,
            name,
            dead: None,
        }
    }

    /// The same, where process `dead` is known to have ended and may have left its lock.
    pub(crate) fn after(self, dead: i32) -> Self {
        let dead = Pid::from_raw(dead.max(0));
        Dotlock { dead, ..self }
    }

    pub(crate) fn directory(&self) -> &OwnedFd {
        &self.directory
    }

    /// Takes the lock without waiting; `None` if another program has it.
    pub(crate) fn try_acquire(&self) -> io::Result<Option<HeldDotlock<'_>>> {
        let mut made = self.make();
        if matches!(made, Err(Errno::EXIST)) && self.remove_if_stale()? {
            made = self.make();
        }
        let file = match made {
            Ok(file) => Some((self, file)),
            Err(Errno::EXIST) => return Ok(None),
            Err(Errno::ACCESS | Errno::PERM | Errno::ROFS) => None,
            Err(error) => return Err(error.into()),
        };
        Ok(Some(HeldDotlock {
            file,
            refreshed: Cell::new(Instant::now()),
        }))
    }

    fn make(&self) -> Result<File, Errno> {
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mode = Mode::RUSR | Mode::WUSR | Mode::RGRP | Mode::ROTH;
        let mut file = File::from(openat(&self.directory, &self.name, flags, mode)?);
        // On a full disk the lock stays empty: it still excludes, and mail can be deleted.
        let _ = writeln!(file, "{}", getpid().as_raw_nonzero());
        Ok(file)
    }

    /// Removes a lock that is old and whose maker is not alive; `true` if there is none any more.
    ///
    /// A lock without a pid is its maker's for as long as one with the pid of a dead program.
    fn remove_if_stale(&self) -> io::Result<bool> {
        let Some(found) = self.stat()? else {
            return Ok(true);
        };
        let age = clock_gettime(ClockId::Realtime)
            .tv_sec
            .saturating_sub(found.st_mtime);
        let maker = self.maker();
        let is_left = maker.is_some() && maker == self.dead;
        if !is_left && (age < STALE_AFTER || maker.is_some_and(is_alive)) {
            return Ok(false);
        }
        // Looked at again: it must still be the one whose age and maker were read.
        self.remove(&found)?;
        Ok(true)
    }

    fn maker(&self) -> Option<Pid> {
        let flags =
            OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let file = File::from(openat(&self.directory, &self.name, flags, Mode::empty()).ok()?);
        let mut text = String::new();
        file.take(MAX_PID_DIGITS).read_to_string(&mut text).ok()?;
        let pid: i32 = text.split_whitespace().next()?.parse().ok()?;
        // Foreign text: a negative number is no pid, and must not reach a function that takes that for a bug.
        Pid::from_raw(pid.max(0))
    }

    fn stat(&self) -> io::Result<Option<Stat>> {
        match statat(&self.directory, &self.name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(stat)),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Unlinks the lock file if it is still the file that `wanted` describes.
    fn remove(&self, wanted: &Stat) -> io::Result<()> {
        match self.stat()? {
            Some(found) if same_file(&found, wanted) => {
                Ok(unlinkat(&self.directory, &self.name, AtFlags::empty())?)
            }
            _ => Ok(()),
        }
    }
}

impl HeldDotlock<'_> {
    /// Sets the file's time if that is due.
    pub(crate) fn refresh(&self) {
        if self.refreshed.get().elapsed() < REFRESH_EVERY {
            return;
        }
        if let Some((_, file)) = &self.file {
            let now = Timespec {
                tv_sec: 0,
                tv_nsec: UTIME_NOW,
            };
            let times = Timestamps {
                last_access: now,
                last_modification: now,
            };
            // A failure only lets the lock look older than it is.
            let _ = futimens(file, &times);
        }
        self.refreshed.set(Instant::now());
    }
}

impl Drop for HeldDotlock<'_> {
    fn drop(&mut self) {
        if let Some((dotlock, file)) = &self.file {
            // A lock that cannot be removed grows stale by itself.
            let _ = fstat(file).map(|ours| dotlock.remove(&ours));
        }
    }
}

fn same_file(one: &Stat, other: &Stat) -> bool {
    (one.st_dev, one.st_ino) == (other.st_dev, other.st_ino)
}

fn is_alive(pid: Pid) -> bool {
    test_kill_process(pid) != Err(Errno::SRCH)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn dotlock(directory: &Path) -> Dotlock {
        Dotlock::for_mailbox(File::open(directory).unwrap().into(), "box".as_ref())
    }

    fn aged(path: &Path, content: &str, seconds: u64) {
        let file = File::create(path).unwrap();
        (&file).write_all(content.as_bytes()).unwrap();
        let then = std::time::SystemTime::now() - Duration::from_secs(seconds);
        file.set_modified(then).unwrap();
    }

    /// The pid of a process that was, and has been waited for.
    fn dead_pid() -> u32 {
        let mut child = std::process::Command::new("true").spawn().unwrap();
        child.wait().unwrap();
        child.id()
    }

    #[test]
    fn the_lock_file_holds_the_pid_and_goes_with_the_lock() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("box.lock");
        let dotlock = dotlock(directory.path());
        let held = dotlock.try_acquire().unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(text, format!("{}\n", std::process::id()));
        assert!(held.is_some());
        assert!(dotlock.try_acquire().unwrap().is_none());
        drop(held);
        assert!(!path.exists());
    }

    #[test]
    fn only_an_old_lock_of_a_dead_program_is_broken() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("box.lock");
        let dotlock = dotlock(directory.path());
        let (dead, alive) = (dead_pid().to_string(), std::process::id().to_string());
        let cases = [
            (&*dead, 299 - 10, false),
            (&*dead, 301, true),
            (&*alive, 100_000, false),
            ("1\n", 100_000, false),
            ("", 200, false),
            ("", 301, true),
            ("0\n", 301, true),
            ("-1\n", 301, true),
        ];
        for (content, age, broken) in cases {
            aged(&path, content, age);
            let held = dotlock.try_acquire().unwrap();
            assert_eq!(held.is_some(), broken, "{content:?} of {age} s");
        }
    }

    #[test]
    fn the_lock_of_a_process_known_to_be_dead_is_broken_at_once() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("box.lock");
        let dead = i32::try_from(dead_pid()).unwrap();
        aged(&path, "1\n", 0);
        assert!(
            dotlock(directory.path())
                .after(dead)
                .try_acquire()
                .unwrap()
                .is_none()
        );
        aged(&path, &format!("{dead}\n"), 0);
        assert!(dotlock(directory.path()).try_acquire().unwrap().is_none());
        assert!(
            dotlock(directory.path())
                .after(dead)
                .try_acquire()
                .unwrap()
                .is_some()
        );
    }

    #[test]
    fn anothers_lock_at_our_name_is_not_removed() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("box.lock");
        let dotlock = dotlock(directory.path());
        let held = dotlock.try_acquire().unwrap();
        std::fs::rename(&path, directory.path().join("moved")).unwrap();
        std::fs::write(&path, "1\n").unwrap();
        drop(held);
        assert_eq!(std::fs::read(&path).unwrap(), b"1\n");
    }

    #[test]
    fn a_symbolic_link_at_the_name_is_a_lock_and_is_not_followed() {
        let directory = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink("target", directory.path().join("box.lock")).unwrap();
        assert!(dotlock(directory.path()).try_acquire().unwrap().is_none());
        assert!(!directory.path().join("target").exists());
    }
}
