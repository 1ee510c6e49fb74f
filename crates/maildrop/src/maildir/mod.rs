//! Maildir: a file for each message, in `new` where delivery agents put it and `cur` where mail readers move it.
//!
//! A message is known by the base of its file name, up to the first `:`; what follows are flags, which an IMAP server
//! changes at any time by renaming. Nothing is written before UPDATE: no message moves from `new` to `cur`, no list is
//! kept. There is nothing to lock.

mod folders;
mod ids;
mod name;
mod update;

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;

use pop3_proto::multiline::Counter;
use rustix::fs::Stat;

use crate::{CheckError, Limits, Maildrop, Problem, UniqueId, UpdateError, UpdateSummary};
pub(crate) use folders::Folders;
use folders::{Facts, Finder, Found};
use name::{Arena, Folder, Name};

/// Octets read at once when messages are counted.
const BLOCK: usize = 128 * 1024;

/// A Maildir as it was when the session began.
pub(crate) struct Maildir {
    folders: Folders,
    listing: Listing,
    skipped: u32,
    /// The message read last, so that a message costs one look-up however many reads it takes.
    open: Option<(u32, File)>,
}

/// The messages of a Maildir in the order of their delivery.
#[derive(Debug)]
struct Listing {
    arena: Arena,
    entries: Vec<Entry>,
}

/// One message. Its name apart, of this there may be millions.
#[derive(Debug)]
struct Entry {
    octets: u64,
    facts: Facts,
    name: Name,
    /// How its unique-id is made; see [`ids::number`].
    id: u32,
}

/// Memory for one message beside its name.
const MAX_ENTRY_SIZE: usize = 48;
const _: () = assert!(size_of::<Entry>() <= MAX_ENTRY_SIZE);

impl Maildir {
    /// Lists `folders` and counts the octets of every message.
    pub(crate) fn scan(folders: Folders, limits: &Limits) -> Result<Self, Problem> {
        let listed = folders.list(limits.messages);
        let (mut arena, mut names) = listed.map_err(|error| Problem::Io("list it", error))?;
        if names.len() > usize::try_from(limits.messages).unwrap_or(usize::MAX) {
            return Err(Problem::TooManyMessages(limits.messages));
        }
        arena.sort_by_delivery(&mut names);

        let mut reader = Reader::new(&folders);
        let mut entries: Vec<Entry> = Vec::new();
        let mut last_inode = None;
        let mut total = 0_u64;
        for name in names {
            let counted = reader
                .count(&mut arena, name)
                .map_err(|error| Problem::Io("read a message of it", error))?;
            let Some((entry, inode)) = counted else {
                continue;
            };
            // On its way from `new` to `cur` a message may have been listed in both.
            let same_base = entries
                .last()
                .is_some_and(|last| arena.base(last.name) == arena.base(entry.name));
            if same_base && last_inode == Some(inode) {
                continue;
            }
            last_inode = Some(inode);
            total = total.saturating_add(entry.facts.size);
            if total > limits.octets {
                return Err(Problem::TooManyOctets {
                    found: total,
                    limit: limits.octets,
                });
            }
            entries.push(entry);
        }
        let skipped = reader.skipped;
        let numbers = ids::number(&arena, entries.iter().map(|entry| entry.name));
        for (entry, number) in entries.iter_mut().zip(numbers) {
            entry.id = number;
        }
        entries.shrink_to_fit();
        Ok(Maildir {
            folders,
            listing: Listing { arena, entries },
            skipped,
            open: None,
        })
    }

    /// Opens a message, wherever it has been renamed to.
    fn open(&self, entry: &Entry) -> io::Result<File> {
        let attempt = |folder: Folder, name: &[u8]| match self.folders.open_message(folder, name)? {
            Some(Found::Message((file, _), facts)) if facts == entry.facts => Ok(Some(file)),
            None => Ok(None),
            // Its octets are no longer those that were counted.
            Some(_) => Err(io::ErrorKind::InvalidData.into()),
        };
        let name = entry.name;
        if let Some(file) = attempt(name.folder, self.listing.arena.name(name))? {
            return Ok(file);
        }
        Finder::new(&self.folders)
            .find(self.listing.arena.base(name), attempt)?
            .ok_or(io::ErrorKind::NotFound.into())
    }
}

impl Listing {
    fn get(&self, index: u32) -> Option<&Entry> {
        self.entries.get(usize::try_from(index).ok()?)
    }
}

impl Maildrop for Maildir {
    fn count(&self) -> u32 {
        u32::try_from(self.listing.entries.len()).unwrap_or(u32::MAX)
    }

    fn octets(&self, index: u32) -> Option<u64> {
        self.listing.get(index).map(|entry| entry.octets)
    }

    fn unique_id(&self, index: u32) -> Option<UniqueId> {
        let entry = self.listing.get(index)?;
        ids::unique_id(self.listing.arena.base(entry.name), entry.id)
    }

    fn skipped(&self) -> u32 {
        self.skipped
    }

    /// Other programs may add, rename and remove messages without harm to the rest; one that is gone or no longer what it
    /// was fails when it is read.
    fn check(&mut self) -> Result<(), CheckError> {
        Ok(())
    }

    fn read(&mut self, index: u32, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let entry = self.listing.get(index).ok_or(io::ErrorKind::NotFound)?;
        let left = entry.facts.size.saturating_sub(offset);
        let length = buffer
            .len()
            .min(usize::try_from(left).unwrap_or(usize::MAX));
        let buffer = buffer.get_mut(..length).unwrap_or_default();
        if buffer.is_empty() {
            return Ok(0);
        }
        let (_, file) = match self.open.take().filter(|open| open.0 == index) {
            Some(open) => self.open.insert(open),
            None => {
                let file = self.open(entry)?;
                self.open.insert((index, file))
            }
        };
        match retry(|| file.read_at(buffer, offset))? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            length => Ok(length),
        }
    }

    fn update(
        self: Box<Self>,
        deleted: &dyn Fn(u32) -> bool,
    ) -> Result<UpdateSummary, UpdateError> {
        update::remove(&self.folders, &self.listing, deleted)
    }
}

/// Counts the octets of one message after another.
struct Reader<'a> {
    folders: &'a Folders,
    finder: Finder<'a>,
    buffer: Vec<u8>,
    skipped: u32,
}

impl<'a> Reader<'a> {
    fn new(folders: &'a Folders) -> Self {
        Reader {
            folders,
            finder: Finder::new(folders),
            buffer: vec![0; BLOCK],
            skipped: 0,
        }
    }

    /// The message of that name, or of its base if it has been renamed since it was listed, and its inode; `None` if there
    /// is none.
    fn count(&mut self, arena: &mut Arena, name: Name) -> io::Result<Option<(Entry, u64)>> {
        let folders = self.folders;
        let mut name = name;
        let mut found = folders.open_message(name.folder, arena.name(name))?;
        if found.is_none() {
            let renamed = self.finder.find(arena.base(name), |folder, octets| {
                let found = folders.open_message(folder, octets)?;
                Ok(found.map(|found| (found, folder, octets.to_vec())))
            })?;
            let Some((again, folder, octets)) = renamed else {
                return Ok(None);
            };
            let Some(stored) = arena.store(folder, &octets) else {
                return Ok(None);
            };
            (name, found) = (stored, Some(again));
        }
        let Some(Found::Message((file, stat), facts)) = found else {
            self.skipped = self.skipped.saturating_add(1);
            return Ok(None);
        };
        let octets = count_octets(&file, facts.size, &mut self.buffer)?;
        let entry = Entry {
            octets,
            facts,
            name,
            id: 0,
        };
        Ok(Some((entry, inode(&stat))))
    }
}

/// Octets on the wire of the first `size` octets of `file`.
fn count_octets(mut file: &File, size: u64, buffer: &mut [u8]) -> io::Result<u64> {
    let mut counter = Counter::new();
    let mut left = size;
    while left > 0 {
        let length = buffer
            .len()
            .min(usize::try_from(left).unwrap_or(usize::MAX));
        let room = buffer.get_mut(..length).unwrap_or_default();
        let read = retry(|| file.read(room))?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        counter.count(room.get(..read).unwrap_or_default());
        left = left.saturating_sub(read as u64);
    }
    Ok(counter.finish().0)
}

/// Repeats a read that a signal interrupted.
fn retry(mut read: impl FnMut() -> io::Result<usize>) -> io::Result<usize> {
    loop {
        match read() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

#[allow(clippy::unnecessary_cast)] // The field's type differs between architectures.
fn inode(stat: &Stat) -> u64 {
    stat.st_ino as u64
}

#[cfg(test)]
mod tests;
