//! Maildir: a file per message, written in `tmp`, put on disk, moved to `new`.
//!
//! While one batch is put on disk, the next is received. Waiting for one file after the other would take most of the time of a run; a
//! batch waits for a few files side by side, or for the file system as a whole, which costs the disk as much as one file.

use std::collections::HashSet;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rustix::fs::{fstatfs, syncfs};

use super::{Delivery, Failure, Incoming, MAX_BATCH_OCTETS};
use crate::seen::{Record, sync_directory};

/// Octets gathered before a write.
const BUFFER_OCTETS: usize = 256 * 1024;

/// Files put on disk one by one, even where the whole file system could be: that would wait for other programs' files, too.
const FEW: usize = 16;

/// Threads that put a few files on disk. File systems do several in one go, if they are asked to at the same time.
const SIDE_BY_SIDE: usize = 8;

/// Messages of a batch that is put on disk file by file. The files are open until then, in two batches of each of eight accounts.
const MAX_FILES: usize = 32;

/// Messages of a batch that is put on disk as a whole.
const MAX_MESSAGES: usize = 1024;

/// How long a message waits for others to be put on disk with: on a slow line, what a kill makes popget fetch again is little.
const MAX_WAIT: Duration = Duration::from_secs(2);

/// Delivery to a Maildir. Names hold the message's tag, by which a run after an interrupted one finds what was delivered.
pub struct Maildir {
    place: Arc<Place>,
    host: String,
    delivered: u64,
    buffer: Vec<u8>,
    current: Option<(Written, File)>,
    /// Complete, in `tmp`.
    finished: Batch,
    /// The batch before, on its way to `new`.
    under_way: Option<JoinHandle<io::Result<Vec<String>>>>,
}

/// A message in `tmp`.
struct Written {
    key: String,
    name: String,
}

/// Messages that are put on disk together.
#[derive(Default)]
struct Batch {
    messages: Vec<Written>,
    /// The messages' files, if they are few.
    files: Vec<File>,
    octets: u64,
    /// When the first was complete.
    since: Option<Instant>,
}

/// The directory.
struct Place {
    path: PathBuf,
    /// Open since before the first message: by it the file system tells whether anything has failed since.
    new: File,
    syncs_whole: bool,
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
        let new = File::open(path.join("new"))?;
        let host = rustix::system::uname()
            .nodename()
            .to_string_lossy()
            .into_owned();
        Ok(Maildir {
            place: Arc::new(Place {
                path: path.to_owned(),
                syncs_whole: syncs_whole(&new)?,
                new,
            }),
            // As Maildir's rules have it.
            host: host.replace('/', "\\057").replace(':', "\\072"),
            delivered: 0,
            buffer: Vec::with_capacity(BUFFER_OCTETS),
            current: None,
            finished: Batch::default(),
            under_way: None,
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
            self.finished.octets += self.buffer.len() as u64;
        }
        self.buffer.clear();
        Ok(())
    }

    /// Waits for the batch that is under way, and enters it in the record.
    fn arrived(&mut self, record: &mut Record) -> io::Result<Vec<String>> {
        let Some(thread) = self.under_way.take() else {
            return Ok(Vec::new());
        };
        let panicked = |_| {
            Err(io::Error::other(
                "the thread that waits for the disk has failed",
            ))
        };
        let keys = thread.join().unwrap_or_else(panicked)?;
        record.seen(keys.iter().map(String::as_str))?;
        Ok(keys)
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
        for (name, tag) in tagged(&self.place.path.join("tmp"))? {
            if unseen_tags.contains(tag.as_str()) {
                fs::remove_file(self.place.path.join("tmp").join(name))?;
            }
        }
        let mut there: HashSet<String> = HashSet::new();
        for directory in ["new", "cur"] {
            there.extend(
                tagged(&self.place.path.join(directory))?
                    .into_iter()
                    .map(|(_, tag)| tag),
            );
            // It may have been moved and not be on disk yet.
            sync_directory(&self.place.path.join(directory))?;
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
            .open(self.place.path.join("tmp").join(&name))?;
        let key = message.key.clone();
        self.current = Some((Written { key, name }, file));
        Ok(())
    }

    fn abandon(&mut self) {
        self.buffer.clear();
        if let Some((written, _)) = self.current.take() {
            // What cannot be removed is removed by whoever tidies `tmp`, after 36 hours.
            let _ = fs::remove_file(self.place.path.join("tmp").join(written.name));
        }
    }

    fn finish(&mut self, _: &mut Record) -> Result<(), Failure> {
        self.flush_buffer()?;
        if let Some((written, file)) = self.current.take() {
            let Batch {
                messages,
                files,
                since,
                ..
            } = &mut self.finished;
            since.get_or_insert_with(Instant::now);
            messages.push(written);
            files.push(file);
            if self.place.syncs_whole && messages.len() > FEW {
                files.clear();
            }
        }
        Ok(())
    }

    fn pass_on(&mut self, record: &mut Record) -> Result<Vec<String>, Failure> {
        let keys = self.arrived(record)?;
        let batch = std::mem::take(&mut self.finished);
        let place = Arc::clone(&self.place);
        let publish = move || place.publish(batch);
        self.under_way = Some(thread::Builder::new().spawn(publish)?);
        Ok(keys)
    }

    fn commit(&mut self, record: &mut Record) -> Result<Vec<String>, Failure> {
        let mut keys = self.arrived(record)?;
        if !self.finished.messages.is_empty() {
            self.pass_on(record)?;
            keys.extend(self.arrived(record)?);
        }
        Ok(keys)
    }

    fn is_full(&self) -> bool {
        let most = match self.place.syncs_whole {
            true => MAX_MESSAGES,
            false => MAX_FILES,
        };
        let Batch {
            messages,
            octets,
            since,
            ..
        } = &self.finished;
        messages.len() >= most
            || *octets >= MAX_BATCH_OCTETS
            || since.is_some_and(|since| since.elapsed() >= MAX_WAIT)
    }
}

impl Place {
    /// Puts a batch on disk, and then where it is seen. Returns the keys.
    fn publish(&self, batch: Batch) -> io::Result<Vec<String>> {
        match batch.messages.len() == batch.files.len() {
            true => sync_side_by_side(&batch.files)?,
            false => syncfs(&self.new)?,
        }
        let mut keys = Vec::with_capacity(batch.messages.len());
        for Written { key, name } in batch.messages {
            fs::rename(
                self.path.join("tmp").join(&name),
                self.path.join("new").join(&name),
            )?;
            keys.push(key);
        }
        self.new.sync_all()?;
        Ok(keys)
    }
}

fn sync_side_by_side(files: &[File]) -> io::Result<()> {
    let each = files.len().div_ceil(SIDE_BY_SIDE).max(1);
    thread::scope(|scope| {
        let threads: Vec<_> = files
            .chunks(each)
            .map(|chunk| scope.spawn(move || chunk.iter().try_for_each(File::sync_data)))
            .collect();
        let panicked = |_| {
            Err(io::Error::other(
                "a thread that waits for the disk has failed",
            ))
        };
        threads
            .into_iter()
            .try_for_each(|thread| thread.join().unwrap_or_else(panicked))
    })
}

/// Whether `syncfs` puts all on disk and says so if that fails: Linux since 5.8, and not every file system.
fn syncs_whole(directory: &File) -> io::Result<bool> {
    const EXT4: u32 = 0xef53;
    const XFS: u32 = 0x5846_5342;
    const BTRFS: u32 = 0x9123_683e;
    const F2FS: u32 = 0xf2f5_2010;
    let kind = fstatfs(directory)?.f_type as u32;
    let release = rustix::system::uname()
        .release()
        .to_string_lossy()
        .into_owned();
    let mut numbers = release
        .split(['.', '-'])
        .map(|number| number.parse().unwrap_or(0));
    let linux: (u32, u32) = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    Ok(linux >= (5, 8) && [EXT4, XFS, BTRFS, F2FS].contains(&kind))
}

impl Drop for Maildir {
    fn drop(&mut self) {
        self.abandon();
        if let Some(thread) = self.under_way.take() {
            // What it delivers the next run finds.
            let _ = thread.join();
        }
        for written in self.finished.messages.drain(..) {
            let _ = fs::remove_file(self.place.path.join("tmp").join(written.name));
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
