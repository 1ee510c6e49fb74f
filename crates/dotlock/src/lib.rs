//! The dotlock: a file `NAME.lock` beside the mailbox, which older programs look at and fcntl does not replace.
//!
//! Made as liblockfile makes it: mode 0644, the pid in it. A maildrop process makes its own where it may (a mailbox in the
//! home directory); in Debian's spool (2775 root:mail) the locker does, which has group mail and reads no file there.
#![forbid(unsafe_code)]
#![cfg_attr(
    not(test),
    warn(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects
    )
)]

use std::cell::Cell;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::time::{Duration, Instant};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat, Timespec, Timestamps, UTIME_NOW};
use rustix::fs::{fchmod, fstat, futimens, openat, statat, unlinkat};
use rustix::io::Errno;
use rustix::process::{Pid, geteuid, getpid, test_kill_process};
use rustix::time::{ClockId, clock_gettime};

/// Age in seconds at which a lock may be a dead program's; liblockfile's figure, and others refresh theirs by it.
const STALE_AFTER: i64 = 5 * 60;

/// Age at which a lock of ours is a dead process's: two refreshes have been missed.
const OWN_STALE_AFTER: i64 = 150;

/// How often a lock that is held is shown to be alive.
pub const REFRESH_EVERY: Duration = Duration::from_secs(60);

/// Octets of a lock file; programs write a pid, a host name at the most. What is larger is somebody's mail.
const MAX_LOCK_OCTETS: i64 = 512;

/// Longest pid that is read from another's lock file.
const MAX_PID_DIGITS: u64 = 20;

/// The dotlock of one mailbox, not held.
#[derive(Clone, Debug)]
pub struct Dotlock {
    directory: Rc<OwnedFd>,
    mailbox: OsString,
    name: OsString,
    rule: Rule,
}

/// When another program's lock may be broken.
#[derive(Clone, Copy, Debug)]
enum Rule {
    /// It is old and the process named in it is not alive; or it is that of this process, whatever its age.
    Maker { dead: Option<Pid> },
    /// It is old, and the mailbox has not been changed for as long: liblockfile's rule, for who may not read the file.
    Age,
}

/// A dotlock held until dropped.
#[derive(Debug)]
pub struct HeldDotlock {
    /// `None` where the directory does not let us make one.
    file: Option<(Dotlock, File)>,
    refreshed: Cell<Instant>,
}

impl Dotlock {
    /// The dotlock of the mailbox `name` in `directory`.
    pub fn for_mailbox(directory: Rc<OwnedFd>, name: &OsStr) -> Self {
        let mailbox = name.to_owned();
        let mut name = mailbox.clone();
        name.push(".lock");
        Dotlock {
            directory,
            mailbox,
            name,
            rule: Rule::Maker { dead: None },
        }
    }

    /// The same, where process `dead` is known to have ended and may have left its lock.
    #[must_use]
    pub fn after(self, dead: i32) -> Self {
        let dead = Pid::from_raw(dead.max(0));
        let rule = Rule::Maker { dead };
        Dotlock { rule, ..self }
    }

    /// The same, without ever opening a file that is there. Who uses this is the only one to make locks under its uid, and
    /// refreshes them: one of that uid that is older than two refreshes is a dead process's.
    #[must_use]
    pub fn by_age(self) -> Self {
        let rule = Rule::Age;
        Dotlock { rule, ..self }
    }

    /// Where the lock is.
    pub fn directory(&self) -> &OwnedFd {
        &self.directory
    }

    /// Takes the lock without waiting; `None` if another program has it.
    ///
    /// # Errors
    /// What the system says, but that a lock must not be made here: then there is none to be held.
    pub fn try_acquire(&self) -> io::Result<Option<HeldDotlock>> {
        let mut made = self.make();
        if matches!(made, Err(Errno::EXIST)) && self.remove_if_stale()? {
            made = self.make();
        }
        let file = match made {
            Ok(file) => Some((self.clone(), file)),
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
        // Whatever the umask: others look for the pid in it. One that cannot be read is a lock all the same.
        let _ = fchmod(&file, mode);
        // On a full disk the lock stays empty: it still excludes, and mail can be deleted.
        let _ = writeln!(file, "{}", getpid().as_raw_nonzero());
        Ok(file)
    }

    /// Removes a lock that may be broken; `true` if there is none any more.
    fn remove_if_stale(&self) -> io::Result<bool> {
        let Some(found) = self.stat(&self.name)? else {
            return Ok(true);
        };
        let is_lock = FileType::from_raw_mode(found.st_mode) == FileType::RegularFile
            && found.st_size <= MAX_LOCK_OCTETS;
        let stale = match self.rule {
            Rule::Maker { dead } => self.is_dead_programs(&found, dead),
            Rule::Age => self.is_forgotten(&found)?,
        };
        if !is_lock || !stale {
            return Ok(false);
        }
        // Looked at again: it must still be the one whose age and maker were read.
        self.remove(&found)?;
        Ok(true)
    }

    /// A lock without a pid is its maker's for as long as one with the pid of a dead program.
    fn is_dead_programs(&self, found: &Stat, dead: Option<Pid>) -> bool {
        let maker = self.maker();
        let is_left = maker.is_some() && maker == dead;
        is_left || (age(found) >= STALE_AFTER && !maker.is_some_and(is_alive))
    }

    fn is_forgotten(&self, found: &Stat) -> io::Result<bool> {
        if found.st_uid == geteuid().as_raw() {
            return Ok(age(found) >= OWN_STALE_AFTER);
        }
        // Who writes slowly is alive.
        let mailbox = self.stat(&self.mailbox)?;
        let quiet = mailbox.is_none_or(|mailbox| age(&mailbox) >= STALE_AFTER);
        Ok(quiet && age(found) >= STALE_AFTER)
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

    fn stat(&self, name: &OsStr) -> io::Result<Option<Stat>> {
        match statat(&self.directory, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(stat)),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Unlinks the lock file if it is still the file that `wanted` describes.
    fn remove(&self, wanted: &Stat) -> io::Result<()> {
        match self.stat(&self.name)? {
            Some(found) if same_file(&found, wanted) => {
                Ok(unlinkat(&self.directory, &self.name, AtFlags::empty())?)
            }
            _ => Ok(()),
        }
    }
}

impl HeldDotlock {
    /// Sets the file's time if that is due.
    pub fn refresh(&self) {
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

impl Drop for HeldDotlock {
    fn drop(&mut self) {
        if let Some((dotlock, file)) = &self.file {
            // A lock that cannot be removed grows stale by itself.
            let _ = fstat(file).map(|ours| dotlock.remove(&ours));
        }
    }
}

/// Seconds since it was changed.
fn age(stat: &Stat) -> i64 {
    clock_gettime(ClockId::Realtime)
        .tv_sec
        .saturating_sub(stat.st_mtime)
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
        Dotlock::for_mailbox(
            Rc::new(File::open(directory).unwrap().into()),
            "box".as_ref(),
        )
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
    fn by_age_a_lock_of_ours_is_broken_after_two_refreshes_whoever_is_named_in_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("box.lock");
        let dotlock = dotlock(directory.path()).by_age();
        let alive = std::process::id().to_string();
        for (seconds, broken) in [(0, false), (140, false), (151, true)] {
            aged(&path, &alive, seconds);
            let held = dotlock.try_acquire().unwrap();
            assert_eq!(held.is_some(), broken, "{seconds} s");
        }
    }

    #[test]
    fn by_age_anothers_lock_is_kept_while_the_mailbox_changes() {
        if !geteuid().is_root() {
            // Only root can make a file another's.
            return;
        }
        let directory = tempfile::tempdir().unwrap();
        let (lock, mailbox) = (
            directory.path().join("box.lock"),
            directory.path().join("box"),
        );
        let dotlock = dotlock(directory.path()).by_age();
        for (lock_age, mailbox_age, broken) in
            [(290, 1000, false), (301, 10, false), (301, 301, true)]
        {
            aged(&lock, "1", lock_age);
            std::os::unix::fs::chown(&lock, Some(12_345), None).unwrap();
            aged(&mailbox, "", mailbox_age);
            let held = dotlock.try_acquire().unwrap();
            assert_eq!(held.is_some(), broken, "{lock_age} s, {mailbox_age} s");
            drop(held);
        }
    }

    #[test]
    fn what_is_too_large_for_a_lock_is_not_removed() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("box.lock");
        let mail = "From a\n\n".repeat(100);
        for dotlock in [
            dotlock(directory.path()),
            dotlock(directory.path()).by_age(),
        ] {
            aged(&path, &mail, 100_000);
            assert!(dotlock.try_acquire().unwrap().is_none());
            assert_eq!(std::fs::read_to_string(&path).unwrap(), mail);
        }
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
