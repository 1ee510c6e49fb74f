//! mbox: messages one behind the other in one file, each behind a `From ` line.
//!
//! `>` is put before lines that begin with `From `, or with `>` and `From ` (the form called mboxrd, which can be taken back). What is
//! to be appended is gathered first, so that the file is locked for a short time only, and named in the record with its place and
//! SHA-256: a run after an interrupted one sees whether it got there, and takes away what got there in part.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use deliver::{Quoting, Spool, asctime};
use rustix::fs::{FlockOperation, fcntl_lock};
use rustix::io::Errno;
use sha2::{Digest, Sha256};

use super::{Delivery, Failure, Incoming, MAX_BATCH_MESSAGES, MAX_BATCH_OCTETS};
use crate::seen::{Append, Record, beside, sync_directory};

/// How long to wait for others to be done with the file.
const LOCK_PATIENCE: Duration = Duration::from_secs(60);

/// How long to wait before looking again.
const LOCK_INTERVAL: Duration = Duration::from_millis(50);

/// A dotlock whose process seems to be gone.
const STALE_DOTLOCK: Duration = Duration::from_secs(300);

/// One mbox at a time in this process: fcntl locks are the process's, and closing any descriptor of a file gives them up.
static THIS_PROCESS: Mutex<()> = Mutex::new(());

/// Delivery to an mbox.
pub struct Mbox {
    path: PathBuf,
    spool: Spool,
    /// Where in the spool the message begins that is being written.
    start: u64,
    keys: Vec<String>,
    current: Option<String>,
    quoting: Quoting,
}

impl Mbox {
    /// The file is made at the first delivery.
    pub fn open(path: &Path) -> io::Result<Mbox> {
        Ok(Mbox {
            path: std::path::absolute(path)?,
            spool: Spool::default(),
            start: 0,
            keys: Vec::new(),
            current: None,
            quoting: Quoting::default(),
        })
    }
}

impl Write for Mbox {
    fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        self.quoting.write(octets, &mut self.spool)?;
        Ok(octets.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Delivery for Mbox {
    fn recover(
        &mut self,
        record: &Record,
        unseen: &[Incoming],
        _: &mut Vec<String>,
    ) -> io::Result<Vec<String>> {
        let Some(interrupted) = record.interrupted() else {
            return Ok(Vec::new());
        };
        let Some(append) = interrupted
            .append
            .as_ref()
            .filter(|append| append.path == self.path)
        else {
            return Ok(Vec::new());
        };
        let mut file = match Locked::open(&self.path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let is_unseen = |key: &String| unseen.iter().any(|message| message.key == *key);
        let octets = file.file.metadata()?.len();
        if octets >= append.offset + append.octets {
            if digest(&mut file.file, append.offset, append.octets)? == append.sha256 {
                file.file.sync_all()?;
                return Ok(interrupted
                    .intended
                    .iter()
                    .filter(|key| is_unseen(key))
                    .cloned()
                    .collect());
            }
        } else if octets > append.offset && begins_with_our_line(&mut file.file, append.offset)? {
            file.file.set_len(append.offset)?;
            file.file.sync_all()?;
        }
        Ok(Vec::new())
    }

    fn begin(&mut self, message: &Incoming, _: &mut Record) -> Result<(), Failure> {
        self.abandon();
        self.start = self.spool.octets();
        self.current = Some(message.key.clone());
        self.spool.write_all(from_line(&message.tag).as_bytes())?;
        self.quoting = Quoting::default();
        Ok(())
    }

    fn abandon(&mut self) {
        if self.current.take().is_some() && self.spool.truncate(self.start).is_err() {
            // Nothing of the spool can be trusted then.
            self.keys.clear();
            self.spool = Spool::default();
        }
    }

    fn finish(&mut self, _: &mut Record) -> Result<(), Failure> {
        self.quoting.finish(&mut self.spool)?;
        self.keys.extend(self.current.take());
        Ok(())
    }

    fn commit(&mut self, record: &mut Record) -> Result<Vec<String>, Failure> {
        let keys = std::mem::take(&mut self.keys);
        let mut spool = std::mem::take(&mut self.spool);
        if keys.is_empty() {
            return Ok(keys);
        }
        let mut hash = Sha256::new();
        spool.replay(|piece| {
            hash.update(piece);
            Ok(())
        })?;
        let mut mbox = match Locked::open(&self.path) {
            Ok(mbox) => mbox,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Locked::create(&self.path)?,
            Err(error) => return Err(error.into()),
        };
        let append = Append {
            offset: mbox.file.seek(SeekFrom::End(0))?,
            octets: spool.octets(),
            sha256: hex(&hash.finalize()),
            path: self.path.clone(),
        };
        let names = || keys.iter().map(String::as_str);
        record.intend(names(), Some(&append))?;
        let written = spool.replay(|piece| mbox.file.write_all(piece));
        if let Err(error) = written.and_then(|()| mbox.file.sync_all()) {
            // Under the same lock: nobody can have added anything behind it.
            mbox.file.set_len(append.offset)?;
            record.refrain()?;
            return Err(error.into());
        }
        drop(mbox);
        record.seen(names())?;
        Ok(keys)
    }

    fn is_full(&self) -> bool {
        self.keys.len() >= MAX_BATCH_MESSAGES || self.spool.octets() >= MAX_BATCH_OCTETS
    }
}

/// The envelope: the tag in place of a sender, and the time.
pub fn from_line(tag: &str) -> String {
    format!("From popget-{tag} {}\n", asctime(crate::seen::now()))
}

fn begins_with_our_line(file: &mut File, offset: u64) -> io::Result<bool> {
    const OURS: &[u8] = b"From popget-";
    file.seek(SeekFrom::Start(offset))?;
    let mut start = Vec::new();
    file.take(OURS.len() as u64).read_to_end(&mut start)?;
    Ok(OURS.starts_with(&start))
}

fn digest(file: &mut File, offset: u64, octets: u64) -> io::Result<String> {
    file.seek(SeekFrom::Start(offset))?;
    let mut hash = Sha256::new();
    let mut piece = vec![0; 64 * 1024];
    let mut left = file.take(octets);
    loop {
        match left.read(&mut piece)? {
            0 => return Ok(hex(&hash.finalize())),
            read => hash.update(piece.get(..read).unwrap_or_default()),
        }
    }
}

fn hex(octets: &[u8]) -> String {
    octets.iter().map(|octet| format!("{octet:02x}")).collect()
}

/// An mbox that others keep off: a dotlock where the directory allows one, and an fcntl lock.
struct Locked {
    file: File,
    dotlock: Option<PathBuf>,
    _process: MutexGuard<'static, ()>,
}

impl Locked {
    fn open(path: &Path) -> io::Result<Locked> {
        Locked::with(path, OpenOptions::new().read(true).append(true))
    }

    fn create(path: &Path) -> io::Result<Locked> {
        let mut options = OpenOptions::new();
        options.read(true).append(true).create(true).mode(0o600);
        let locked = Locked::with(path, &options)?;
        sync_directory(path.parent().unwrap_or(Path::new("/")))?;
        Ok(locked)
    }

    fn with(path: &Path, options: &OpenOptions) -> io::Result<Locked> {
        let process = THIS_PROCESS.lock().unwrap_or_else(PoisonError::into_inner);
        let patience = Instant::now() + LOCK_PATIENCE;
        let file = options.open(path)?;
        let dotlock = dotlock(path, patience)?;
        let locked = Locked {
            file,
            dotlock,
            _process: process,
        };
        loop {
            match fcntl_lock(&locked.file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => return Ok(locked),
                Err(Errno::ACCESS | Errno::AGAIN) if Instant::now() < patience => {
                    thread::sleep(LOCK_INTERVAL);
                }
                Err(error) => return Err(error.into()),
            }
        }
    }
}

impl Drop for Locked {
    fn drop(&mut self) {
        if let Some(path) = &self.dotlock {
            // It goes stale if it stays.
            let _ = fs::remove_file(path);
        }
    }
}

/// `None` where no file may be made beside the mbox, as in a spool directory; fcntl alone must do there.
///
/// The file gets the lock's name when it says whose it is: a kill in between leaves no lock that nobody can tell to be stale.
fn dotlock(path: &Path, patience: Instant) -> io::Result<Option<PathBuf>> {
    let lock = beside(path, ".lock");
    let pid = std::process::id();
    let own = beside(path, &format!(".lock.{pid}"));
    let taken = fs::write(&own, owner(pid)).and_then(|()| link_when_free(&own, &lock, patience));
    let _ = fs::remove_file(&own);
    match taken {
        Ok(()) => Ok(Some(lock)),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(None),
        Err(error) => Err(error),
    }
}

fn link_when_free(own: &Path, lock: &Path, patience: Instant) -> io::Result<()> {
    loop {
        match fs::hard_link(own, lock) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                if is_stale(lock) {
                    // Another may have been faster.
                    let _ = fs::remove_file(lock);
                } else if Instant::now() >= patience {
                    return Err(io::Error::new(
                        io::ErrorKind::WouldBlock,
                        format!("{} has been there for a minute", lock.display()),
                    ));
                } else {
                    thread::sleep(LOCK_INTERVAL);
                }
            }
            linked => return linked,
        }
    }
}

/// What a lock says of its process: its id, which is what other programs read, and when it was started, since ids are used again.
fn owner(pid: u32) -> String {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // Field 22 of proc(5), counted from behind the name, which may hold anything.
    let started = stat
        .rsplit_once(')')
        .and_then(|(_, fields)| fields.split_whitespace().nth(19));
    format!("{pid} {}", started.unwrap_or_default())
}

/// Its process is gone, or it is older than any delivery takes.
fn is_stale(lock: &Path) -> bool {
    let age = fs::metadata(lock).and_then(|metadata| metadata.modified());
    let is_old = age.is_ok_and(|made| made.elapsed().is_ok_and(|age| age > STALE_DOTLOCK));
    let text = fs::read_to_string(lock).unwrap_or_default();
    let mut words = text.split_whitespace();
    let pid = words.next().and_then(|word| word.parse::<i32>().ok());
    let is_gone = pid
        .and_then(rustix::process::Pid::from_raw)
        .is_some_and(|pid| rustix::process::test_kill_process(pid) == Err(Errno::SRCH));
    let is_another = match (pid.and_then(|pid| u32::try_from(pid).ok()), words.next()) {
        // What cannot be read proves nothing.
        (Some(pid), Some(started)) => owner(pid)
            .split_whitespace()
            .nth(1)
            .is_some_and(|other| other != started),
        _ => false,
    };
    is_old || is_gone || is_another
}

#[cfg(test)]
mod tests {
    use super::*;

    fn append_to(mbox: &Path, record: &mut Record, key: &str, text: &[u8]) -> Vec<u8> {
        let mut delivery = Mbox::open(mbox).unwrap();
        let message = Incoming::new("host", "user", key);
        delivery.begin(&message, record).unwrap();
        delivery.write_all(text).unwrap();
        delivery.finish(record).unwrap();
        assert_eq!(delivery.commit(record).unwrap(), [key]);
        fs::read(mbox).unwrap()
    }

    #[test]
    fn after_an_interrupted_append_the_mbox_is_as_before_or_whole() {
        let directory = tempfile::tempdir().unwrap();
        let mbox = directory.path().join("mbox");
        let open = || Record::open(directory.path(), "host", "user").unwrap();
        let before = append_to(&mbox, &mut open(), "old", b"Subject: old\n\nold\n");
        let mut record = open();
        record.begin().unwrap();
        let after = append_to(&mbox, &mut record, "new", b"Subject: new\n\nnew\n");
        drop(record);
        // As the record was before the last line.
        let path = directory.path().join("user@host");
        let text = fs::read_to_string(&path).unwrap();
        let (killed, _) = text.trim_end().rsplit_once('\n').unwrap();
        let unseen = [Incoming::new("host", "user", "new")];
        for cut in before.len()..=after.len() {
            fs::write(&path, format!("{killed}\n")).unwrap();
            fs::write(&mbox, &after[..cut]).unwrap();
            let mut delivery = Mbox::open(&mbox).unwrap();
            let found = delivery.recover(&open(), &unseen, &mut Vec::new()).unwrap();
            let is_whole = cut == after.len();
            assert_eq!(found == ["new"], is_whole);
            assert_eq!(
                fs::read(&mbox).unwrap(),
                if is_whole { &after[..] } else { &before[..] }
            );
        }
        // Somebody else has added to it meanwhile: nothing is taken away.
        let foreign = [
            &before[..],
            b"From somebody else\n\nmine\n\n".repeat(20).as_slice(),
        ]
        .concat();
        fs::write(&path, format!("{killed}\n")).unwrap();
        fs::write(&mbox, &foreign).unwrap();
        let mut delivery = Mbox::open(&mbox).unwrap();
        assert!(
            delivery
                .recover(&open(), &unseen, &mut Vec::new())
                .unwrap()
                .is_empty()
        );
        assert_eq!(fs::read(&mbox).unwrap(), foreign);
    }

    #[test]
    fn a_lock_of_a_process_that_is_gone_holds_nobody_up() {
        let directory = tempfile::tempdir().unwrap();
        let lock = directory.path().join("mbox.lock");
        fs::write(&lock, "2147483647").unwrap();
        assert!(is_stale(&lock));
        let pid = std::process::id();
        for (text, stale) in [
            (pid.to_string(), false),
            (owner(pid), false),
            (format!("{pid} 1"), true),
            (String::new(), false),
        ] {
            fs::write(&lock, &text).unwrap();
            assert_eq!(is_stale(&lock), stale, "{text:?}");
        }
    }
}
