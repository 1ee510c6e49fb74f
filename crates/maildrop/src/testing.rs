//! What several test modules share: generators, the slow and obvious references, a lock that works in one process, and
//! somebody who looks after journals.

use std::cell::RefCell;
use std::fs::File;
use std::io;
use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};

pub(crate) use crate::mbox::scan::reference::wire;
use crate::{Account, Expanded, FileLock, Journal, Keeper, Limits, Location};

/// All strings over `alphabet` of at most `longest` octets.
pub(crate) fn strings(alphabet: &[u8], longest: usize) -> Vec<Vec<u8>> {
    let mut all = vec![Vec::new()];
    let mut shortest = 0;
    for _ in 0..longest {
        let end = all.len();
        for at in shortest..end {
            for &octet in alphabet {
                let mut string = all[at].clone();
                string.push(octet);
                all.push(string);
            }
        }
        shortest = end;
    }
    all
}

/// Locks by flock(2), which excludes other descriptors of the same process too.
pub(crate) struct Flock;

impl FileLock for Flock {
    fn try_lock_exclusive(&self, file: BorrowedFd<'_>) -> io::Result<bool> {
        match flock(file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(true),
            Err(rustix::io::Errno::WOULDBLOCK) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    fn unlock(&self, file: BorrowedFd<'_>) -> io::Result<()> {
        Ok(flock(file, FlockOperation::Unlock)?)
    }
}

/// Limits under which a held lock is reported at once.
pub(crate) fn impatient() -> Limits {
    Limits {
        lock_wait: Duration::ZERO,
        ..Limits::default()
    }
}

/// The location of an mbox at an absolute path.
pub(crate) fn mbox_at(path: &Path) -> Expanded {
    let account = Account {
        name: "nobody",
        home: "/",
    };
    let template = format!("mbox:{}", path.display());
    let location = Location::parse(&template).unwrap();
    location.expand(&account).unwrap()
}

/// The journal `journal` in a directory, made if there is none, of the mailbox `box` there.
pub(crate) fn journal_in(directory: &Path) -> Journal {
    Steward::new(directory).journal()
}

/// Looks after one journal and keeps a record of what it is told.
#[derive(Clone)]
pub(crate) struct Steward {
    directory: PathBuf,
    pub(crate) told: Rc<RefCell<Vec<String>>>,
}

impl Steward {
    pub(crate) fn new(directory: &Path) -> Self {
        Steward {
            directory: directory.to_owned(),
            told: Rc::default(),
        }
    }

    pub(crate) fn journal(&self) -> Journal {
        let location = mbox_at(&self.directory.join("box"));
        Journal::new(self.file().unwrap(), &location, Box::new(self.clone()))
    }

    pub(crate) fn file(&self) -> io::Result<File> {
        let mut options = File::options();
        options.read(true).write(true).create(true).truncate(false);
        options.open(self.directory.join("journal"))
    }

    fn hear(&self, what: &str) {
        self.told.borrow_mut().push(what.to_owned());
    }
}

impl Keeper for Steward {
    fn updating(&self, _: BorrowedFd<'_>) -> io::Result<()> {
        self.hear("updating");
        Ok(())
    }

    fn settled(&self) {
        self.hear("settled");
    }

    fn finished(&self) {
        self.hear("finished");
    }

    fn set_aside(&self, reason: &str) -> io::Result<File> {
        self.hear(reason);
        let (journal, aside) = (self.directory.join("journal"), self.directory.join("aside"));
        std::fs::rename(journal, aside)?;
        self.file()
    }
}
