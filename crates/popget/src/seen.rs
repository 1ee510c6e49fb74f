//! The record of what has been delivered: what makes an interrupted run neither lose nor double mail.
//!
//! One file per host and user, lines that are only added to. A message is entered when its delivery is on disk, and the entry is on
//! disk before the message is deleted at the server. Entries are keyed by unique-id, never by number.
//!
//! ```text
//! popget-record 1
//! run                          a run has begun
//! append 1024 800 6b1c… /mbox  what is about to be appended to an mbox: offset, octets, SHA-256
//! intend whqtswO00WBw418f9t5J  one of the messages in it, or one that is being handed to a command
//! seen 1767225600 whqtswO00W…  delivered at that time
//! gone 1767312000 whqtswO00W…  no longer at the server since
//! end                          the run has come to its end
//! ```

use std::collections::{HashMap, HashSet};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::fs::{FlockOperation, flock};

/// The first line.
const HEAD: &str = "popget-record 1";

/// How long an entry outlives its message: a server that loses its maildrop for a day and finds it again must not send it all
/// anew.
const GONE_SECONDS: u64 = 30 * 24 * 60 * 60;

/// The record of one account, locked for this run.
#[derive(Debug)]
pub struct Record {
    path: PathBuf,
    file: File,
    /// Held as long as the record is.
    _lock: File,
    entries: HashMap<String, Entry>,
    /// Lines in the file, to know when it is worth writing anew.
    lines: usize,
    interrupted: Option<Interrupted>,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    delivered: u64,
    gone: Option<u64>,
}

/// What the run before was about when it was killed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Interrupted {
    /// Messages whose delivery had begun.
    pub intended: Vec<String>,
    /// Where they were being appended.
    pub append: Option<Append>,
}

/// An append to an mbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Append {
    /// The size before.
    pub offset: u64,
    /// How much is added.
    pub octets: u64,
    /// Of what is added.
    pub sha256: String,
    /// The mbox.
    pub path: PathBuf,
}

/// Why there is no record.
#[derive(Debug)]
pub enum RecordError {
    /// Another popget has it.
    InUse(PathBuf),
    /// The file is not one of popget's, or of a later one.
    Foreign(PathBuf),
    /// Reading or writing failed.
    Io(PathBuf, io::Error),
}

impl std::fmt::Display for RecordError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            RecordError::InUse(path) => {
                write!(f, "another popget is at work: {} is locked", path.display())
            }
            RecordError::Foreign(path) => write!(f, "{} is not popget's", path.display()),
            RecordError::Io(path, error) => write!(f, "{}: {error}", path.display()),
        }
    }
}

impl std::error::Error for RecordError {}

impl Record {
    /// Opens and locks the record of an account in `directory`, which is made if it is not there.
    ///
    /// # Errors
    /// [`RecordError`].
    pub fn open(directory: &Path, host: &str, user: &str) -> Result<Record, RecordError> {
        let path = directory.join(file_name(host, user));
        let failed = |error| RecordError::Io(path.clone(), error);
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(directory)
            .map_err(failed)?;
        let mut open = OpenOptions::new();
        open.read(true).append(true).create(true).mode(0o600);
        // The lock has a file of its own, as the record itself is replaced now and then.
        let lock_path = beside(&path, ".lock");
        let lock = open.open(&lock_path).map_err(failed)?;
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => (),
            Err(rustix::io::Errno::WOULDBLOCK) => return Err(RecordError::InUse(path)),
            Err(error) => return Err(failed(error.into())),
        }
        let mut file = open.open(&path).map_err(failed)?;
        let mut text = String::new();
        file.read_to_string(&mut text).map_err(failed)?;
        // A line without its end was being written when the machine stopped.
        let whole = text.rfind('\n').map_or("", |at| &text[..=at]);
        let is_ours = match whole.lines().next() {
            Some(head) => head == HEAD,
            None => HEAD.starts_with(&text),
        };
        if !is_ours {
            return Err(RecordError::Foreign(path));
        }
        let (entries, lines, interrupted) = parse(whole);
        let torn = whole.len() < text.len() || whole.is_empty();
        let mut record = Record {
            path: path.clone(),
            file,
            _lock: lock,
            entries,
            lines,
            interrupted,
        };
        if torn {
            record
                .rewrite(record.interrupted.is_some())
                .map_err(failed)?;
        }
        Ok(record)
    }

    /// What the last run left undone. Says so until [`begin`](Record::begin).
    pub fn interrupted(&self) -> Option<&Interrupted> {
        self.interrupted.as_ref()
    }

    /// A run begins.
    ///
    /// # Errors
    /// Of writing; so for all below.
    pub fn begin(&mut self) -> io::Result<()> {
        self.interrupted = None;
        self.write("run\n")
    }

    /// The run has come to its end: nothing is half done.
    pub fn end(&mut self) -> io::Result<()> {
        self.write("end\n")?;
        if self.lines > 1000 + 2 * self.entries.len() {
            self.rewrite(false)?;
        }
        Ok(())
    }

    /// Whether a message has been delivered.
    pub fn has(&self, key: &str) -> bool {
        self.entries.contains_key(key)
    }

    /// When it was, in seconds since 1970.
    pub fn delivered(&self, key: &str) -> Option<u64> {
        self.entries.get(key).map(|entry| entry.delivered)
    }

    /// Enters messages whose delivery is on disk; when this returns the entries are, too.
    pub fn seen<'a>(&mut self, keys: impl IntoIterator<Item = &'a str>) -> io::Result<()> {
        let now = now();
        let mut text = String::new();
        for key in keys {
            text.push_str(&format!("seen {now} {key}\n"));
            let entry = Entry {
                delivered: now,
                gone: None,
            };
            self.entries.insert(key.to_owned(), entry);
        }
        if text.is_empty() {
            return Ok(());
        }
        self.write(&text)?;
        self.file.sync_data()
    }

    /// Says what is about to be delivered in a way that cannot be found again by looking. On disk when it returns.
    pub fn intend<'a>(
        &mut self,
        keys: impl IntoIterator<Item = &'a str>,
        append: Option<&Append>,
    ) -> io::Result<()> {
        let mut text = String::new();
        if let Some(append) = append {
            let path = append.path.to_string_lossy();
            let Append {
                offset,
                octets,
                sha256,
                ..
            } = append;
            text.push_str(&format!("append {offset} {octets} {sha256} {path}\n"));
        }
        for key in keys {
            text.push_str(&format!("intend {key}\n"));
        }
        self.write(&text)?;
        self.file.sync_data()
    }

    /// What has been intended did not come to pass.
    pub fn refrain(&mut self) -> io::Result<()> {
        self.write("refrain\n")
    }

    /// Compares with what the server has: entries of messages that are gone are dropped after a while. Returns how many messages
    /// were known to be there, and how many of these still are.
    pub fn compare<'a>(
        &mut self,
        keys: impl IntoIterator<Item = &'a str>,
    ) -> io::Result<(usize, usize)> {
        let now = now();
        let there: HashSet<&str> = keys.into_iter().collect();
        let mut text = String::new();
        let (mut known, mut still) = (0, 0);
        self.entries.retain(|key, entry| {
            known += usize::from(entry.gone.is_none());
            if there.contains(key.as_str()) {
                still += usize::from(entry.gone.is_none());
                if entry.gone.take().is_some() {
                    text.push_str(&format!("seen {} {key}\n", entry.delivered));
                }
                return true;
            }
            match entry.gone {
                None => {
                    entry.gone = Some(now);
                    text.push_str(&format!("gone {now} {key}\n"));
                    true
                }
                Some(gone) => now.saturating_sub(gone) < GONE_SECONDS,
            }
        });
        self.write(&text)?;
        Ok((known, still))
    }

    /// Notes that messages are deleted, and are not to be missed at the next [`compare`](Record::compare).
    pub fn deleted<'a>(&mut self, keys: impl IntoIterator<Item = &'a str>) -> io::Result<()> {
        let now = now();
        let mut text = String::new();
        for key in keys {
            if let Some(entry) = self.entries.get_mut(key) {
                entry.gone = Some(now);
                text.push_str(&format!("gone {now} {key}\n"));
            }
        }
        self.write(&text)
    }

    fn write(&mut self, text: &str) -> io::Result<()> {
        self.lines += text.lines().count();
        self.file.write_all(text.as_bytes())
    }

    /// Replaces the file by one that says the same in fewer lines.
    fn rewrite(&mut self, is_running: bool) -> io::Result<()> {
        let mut text = format!("{HEAD}\n");
        for (key, entry) in &self.entries {
            text.push_str(&format!("seen {} {key}\n", entry.delivered));
            if let Some(gone) = entry.gone {
                text.push_str(&format!("gone {gone} {key}\n"));
            }
        }
        if is_running {
            text.push_str("run\n");
        }
        if let Some(interrupted) = &self.interrupted {
            if let Some(Append {
                offset,
                octets,
                sha256,
                path,
            }) = &interrupted.append
            {
                let path = path.to_string_lossy();
                text.push_str(&format!("append {offset} {octets} {sha256} {path}\n"));
            }
            for key in &interrupted.intended {
                text.push_str(&format!("intend {key}\n"));
            }
        }
        let new = beside(&self.path, ".new");
        let mut open = OpenOptions::new();
        open.read(true).append(true).create(true).mode(0o600);
        // One left from before says nothing that is not said here.
        let _ = fs::remove_file(&new);
        let mut file = open.open(&new)?;
        file.write_all(text.as_bytes())?;
        file.sync_data()?;
        fs::rename(&new, &self.path)?;
        sync_directory(self.path.parent().unwrap_or(Path::new(".")))?;
        self.lines = text.lines().count();
        self.file = file;
        Ok(())
    }
}

fn parse(text: &str) -> (HashMap<String, Entry>, usize, Option<Interrupted>) {
    let mut entries: HashMap<String, Entry> = HashMap::new();
    let mut interrupted: Option<Interrupted> = None;
    for line in text.lines() {
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        let timed = || {
            let (time, key) = rest.split_once(' ')?;
            Some((time.parse::<u64>().ok()?, key))
        };
        match word {
            "run" => interrupted = Some(Interrupted::default()),
            "end" => interrupted = None,
            "refrain" => interrupted = interrupted.map(|_| Interrupted::default()),
            "seen" => {
                if let Some((delivered, key)) = timed() {
                    let entry = Entry {
                        delivered,
                        gone: None,
                    };
                    entries.insert(key.to_owned(), entry);
                    if let Some(interrupted) = &mut interrupted {
                        interrupted.intended.retain(|intended| intended != key);
                        interrupted.append = None;
                    }
                }
            }
            "gone" => {
                if let Some((time, key)) = timed()
                    && let Some(entry) = entries.get_mut(key)
                {
                    entry.gone = Some(time);
                }
            }
            "intend" => {
                if let Some(interrupted) = &mut interrupted {
                    interrupted.intended.push(rest.to_owned());
                }
            }
            "append" => {
                if let Some(interrupted) = &mut interrupted {
                    interrupted.append = parse_append(rest);
                }
            }
            _ => (),
        }
    }
    (entries, text.lines().count(), interrupted)
}

fn parse_append(rest: &str) -> Option<Append> {
    let mut words = rest.splitn(4, ' ');
    Some(Append {
        offset: words.next()?.parse().ok()?,
        octets: words.next()?.parse().ok()?,
        sha256: words.next()?.to_owned(),
        path: words.next()?.into(),
    })
}

/// `user@host`, with everything escaped that is no part of a plain file name.
fn file_name(host: &str, user: &str) -> String {
    let mut name = String::new();
    for octet in format!("{user}@{host}").bytes() {
        match octet {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'@' => {
                name.push(char::from(octet));
            }
            b'.' if !name.is_empty() => name.push('.'),
            _ => name.push_str(&format!("%{octet:02X}")),
        }
    }
    name
}

/// The same path with something behind it.
pub fn beside(path: &Path, end: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(end);
    name.into()
}

/// Puts on disk what has been made or renamed in a directory.
pub fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// Seconds since 1970.
pub fn now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_seen_is_known_to_the_next_run() {
        let directory = tempfile::tempdir().unwrap();
        let open = || Record::open(directory.path(), "host", "user").unwrap();
        let mut record = open();
        record.begin().unwrap();
        record.seen(["a", "b"]).unwrap();
        record.end().unwrap();
        drop(record);
        let record = open();
        assert!(record.has("a") && record.has("b") && !record.has("c"));
        assert_eq!(record.interrupted(), None);
    }

    #[test]
    fn two_runs_at_a_time_are_one_too_many() {
        let directory = tempfile::tempdir().unwrap();
        let first = Record::open(directory.path(), "host", "user").unwrap();
        assert!(matches!(
            Record::open(directory.path(), "host", "user"),
            Err(RecordError::InUse(_))
        ));
        assert!(Record::open(directory.path(), "host", "other").is_ok());
        drop(first);
        assert!(Record::open(directory.path(), "host", "user").is_ok());
    }

    #[test]
    fn an_interrupted_run_says_what_it_was_about() {
        let directory = tempfile::tempdir().unwrap();
        let open = || Record::open(directory.path(), "host", "user").unwrap();
        let append = Append {
            offset: 7,
            octets: 9,
            sha256: "ab".to_owned(),
            path: "/var/mail/a b".into(),
        };
        let mut record = open();
        record.begin().unwrap();
        record.seen(["a"]).unwrap();
        record.intend(["b", "c 2"], Some(&append)).unwrap();
        drop(record);
        let interrupted = Interrupted {
            intended: vec!["b".to_owned(), "c 2".to_owned()],
            append: Some(append),
        };
        assert_eq!(open().interrupted(), Some(&interrupted));
        open().refrain().unwrap();
        assert_eq!(open().interrupted(), Some(&Interrupted::default()));
    }

    #[test]
    fn a_record_cut_anywhere_says_no_more_than_was_written() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(file_name("host", "user"));
        let mut record = Record::open(directory.path(), "host", "user").unwrap();
        record.begin().unwrap();
        record.seen(["first"]).unwrap();
        record.seen(["first 2", "second"]).unwrap();
        drop(record);
        let text = fs::read(&path).unwrap();
        for cut in 0..=text.len() {
            fs::write(&path, &text[..cut]).unwrap();
            let mut record = Record::open(directory.path(), "host", "user").unwrap();
            for key in ["first", "first 2", "second"] {
                let line = format!(" {key}\n");
                let written = String::from_utf8_lossy(&text[..cut]).contains(&line);
                assert_eq!(record.has(key), written, "{key} in {cut} octets");
            }
            // What is added does not stick to a torn line.
            record.seen(["new"]).unwrap();
            drop(record);
            let record = Record::open(directory.path(), "host", "user").unwrap();
            assert!(record.has("new"));
        }
    }

    #[test]
    fn what_is_gone_is_kept_for_a_while() {
        let directory = tempfile::tempdir().unwrap();
        let open = || Record::open(directory.path(), "host", "user").unwrap();
        let mut record = open();
        record.seen(["a", "b"]).unwrap();
        assert_eq!(record.compare(["b"]).unwrap(), (2, 1));
        drop(record);
        let mut record = open();
        assert!(record.has("a"));
        assert_eq!(record.compare(["a", "b"]).unwrap(), (1, 1));
        record.entries.get_mut("a").unwrap().gone = Some(now() - GONE_SECONDS - 1);
        record.compare(["b"]).unwrap();
        assert!(!record.has("a") && record.has("b"));
    }

    #[test]
    fn the_file_does_not_grow_for_ever() {
        let directory = tempfile::tempdir().unwrap();
        for _ in 0..600 {
            let mut record = Record::open(directory.path(), "host", "user").unwrap();
            record.begin().unwrap();
            record.compare(["a"]).unwrap();
            record.end().unwrap();
        }
        let mut record = Record::open(directory.path(), "host", "user").unwrap();
        assert!(record.lines < 1010, "{}", record.lines);
        record.seen(["a"]).unwrap();
        drop(record);
        assert!(
            Record::open(directory.path(), "host", "user")
                .unwrap()
                .has("a")
        );
    }

    #[test]
    fn a_file_of_somebody_else_is_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(file_name("host", "user"));
        for text in ["dear diary\n", "dear diary"] {
            fs::write(&path, text).unwrap();
            assert!(matches!(
                Record::open(directory.path(), "host", "user"),
                Err(RecordError::Foreign(_))
            ));
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
        }
    }

    #[test]
    fn every_account_has_a_file_of_its_own() {
        assert_eq!(file_name("pop.example.org", "a.b"), "a.b@pop.example.org");
        assert_eq!(file_name("h", "../x"), "%2E.%2Fx@h");
        assert_ne!(file_name("h", "a/b"), file_name("h", "a%2Fb"));
    }
}
