//! Maildir: a file per message, written in `tmp`, synced, moved to `new`.

use std::collections::HashSet;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use super::syncers::Syncers;
use super::{Delivery, Failure, Incoming, MAX_BATCH_MESSAGES, MAX_BATCH_OCTETS};
use crate::seen::{Record, sync_directory};

/// Octets gathered before a write.
const BUFFER_OCTETS: usize = 256 * 1024;

/// Delivery to a Maildir. Names hold the message's tag, by which a run after an interrupted one finds what was delivered.
pub struct Maildir {
    path: PathBuf,
    host: String,
    delivered: u64,
    buffer: Vec<u8>,
    current: Option<(Written, File)>,
    /// Complete, in `tmp`, on disk or on their way there.
    finished: Vec<Written>,
    syncers: Syncers,
    octets: u64,
}

struct Written {
    key: String,
    name: String,
}

impl Maildir {
    /// Makes the directories that are missing.
    pub fn open(path: &Path) -> io::Result<Maildir> {
        for name in ["cur", "new", "tmp"] {
            DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(path.join(name))?;
        }
        let host = rustix::system::uname()
            .nodename()
            .to_string_lossy()
            .into_owned();
        Ok(Maildir {
            path: path.to_owned(),
            // As Maildir's rules have it.
            host: host.replace('/', "\\057").replace(':', "\\072"),
            delivered: 0,
            buffer: Vec::with_capacity(BUFFER_OCTETS),
            current: None,
            finished: Vec::new(),
            syncers: Syncers::start(),
            octets: 0,
        })
    }

    fn name(&mut self, tag: &str) -> String {
        let since = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        self.delivered += 1;
        format!(
            "{}.M{}P{}Q{}-{tag}.{}",
            since.as_secs(),
            since.subsec_micros(),
            std::process::id(),
            self.delivered,
            self.host
        )
    }

    fn flush_buffer(&mut self) -> io::Result<()> {
        if let Some((_, file)) = &mut self.current {
            file.write_all(&self.buffer)?;
            self.octets += self.buffer.len() as u64;
        }
        self.buffer.clear();
        Ok(())
    }
}

impl Write for Maildir {
    fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        if self.buffer.len() + octets.len() > BUFFER_OCTETS {
            self.flush_buffer()?;
        }
        self.buffer.extend_from_slice(octets);
        Ok(octets.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.flush_buffer()
    }
}

impl Delivery for Maildir {
    fn recover(
        &mut self,
        _: &Record,
        unseen: &[Incoming],
        _: &mut Vec<String>,
    ) -> io::Result<Vec<String>> {
        let unseen_tags: HashSet<&str> =
            unseen.iter().map(|message| message.tag.as_str()).collect();
        for (name, tag) in tagged(&self.path.join("tmp"))? {
            if unseen_tags.contains(tag.as_str()) {
                fs::remove_file(self.path.join("tmp").join(name))?;
            }
        }
        let mut there: HashSet<String> = HashSet::new();
        for directory in ["new", "cur"] {
            there.extend(
                tagged(&self.path.join(directory))?
                    .into_iter()
                    .map(|(_, tag)| tag),
            );
            // It may have been moved and not be on disk yet.
            sync_directory(&self.path.join(directory))?;
        }
        Ok(unseen
            .iter()
            .filter(|message| there.contains(&message.tag))
            .map(|message| message.key.clone())
            .collect())
    }

    fn begin(&mut self, message: &Incoming, _: &mut Record) -> Result<(), Failure> {
        self.abandon();
        let name = self.name(&message.tag);
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(self.path.join("tmp").join(&name))?;
        let key = message.key.clone();
        self.current = Some((Written { key, name }, file));
        Ok(())
    }

    fn abandon(&mut self) {
        self.buffer.clear();
        if let Some((written, _)) = self.current.take() {
            // What cannot be removed is removed by whoever tidies `tmp`, after 36 hours.
            let _ = fs::remove_file(self.path.join("tmp").join(written.name));
        }
    }

    fn finish(&mut self, _: &mut Record) -> Result<(), Failure> {
        self.flush_buffer()?;
        if let Some((written, file)) = self.current.take() {
            self.finished.push(written);
            self.syncers.sync(file)?;
        }
        Ok(())
    }

    fn commit(&mut self, record: &mut Record) -> Result<Vec<String>, Failure> {
        let mut keys = Vec::with_capacity(self.finished.len());
        if self.finished.is_empty() {
            return Ok(keys);
        }
        self.syncers.wait()?;
        for written in self.finished.drain(..) {
            let from = self.path.join("tmp").join(&written.name);
            fs::rename(from, self.path.join("new").join(&written.name))?;
            keys.push(written.key);
        }
        self.octets = 0;
        sync_directory(&self.path.join("new"))?;
        record.seen(keys.iter().map(String::as_str))?;
        Ok(keys)
    }

    fn is_full(&self) -> bool {
        self.finished.len() >= MAX_BATCH_MESSAGES || self.octets >= MAX_BATCH_OCTETS
    }
}

impl Drop for Maildir {
    fn drop(&mut self) {
        self.abandon();
        for written in self.finished.drain(..) {
            let _ = fs::remove_file(self.path.join("tmp").join(written.name));
        }
    }
}

/// Names in a directory that hold a tag, and the tag.
fn tagged(directory: &Path) -> io::Result<Vec<(String, String)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory)? {
        let Ok(name) = entry?.file_name().into_string() else {
            continue;
        };
        let unique = name.split('.').nth(1).unwrap_or_default();
        if let Some((_, tag)) = unique.split_once('-') {
            let tag = tag.to_owned();
            found.push((name, tag));
        }
    }
    Ok(found)
}
