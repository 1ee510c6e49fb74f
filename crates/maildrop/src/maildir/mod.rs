//! Maildir: a file for each message, in `new` where delivery agents put it and `cur` where mail readers move it.
//!
//! A message is known by the base of its file name, up to the first `:`; what follows are flags, which an IMAP server
//! changes at any time by renaming. Nothing is written before UPDATE: no message moves from `new` to `cur`, no list is
//! kept. There is nothing to lock.

mod finder;
mod folders;
mod ids;
mod name;
mod saved;
mod scan;
mod update;

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use crate::index::Index;
use crate::{CheckError, Drift, IdMap, Limits, Maildrop, Memory, Problem};
use crate::{UniqueId, UpdateError, UpdateSummary};
use finder::Finder;
pub(crate) use folders::Folders;
use folders::{Facts, Found};
pub(crate) use ids::own_id;
pub(crate) use name::base;
use name::{Arena, Folder, Name};
use saved::Stamps;

/// A Maildir as it was when the session began.
pub(crate) struct Maildir {
    folders: Folders,
    listing: Listing,
    skipped: u32,
    finder: Finder,
    memory: Memory,
    drift: Option<Drift>,
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
    /// When anything about the file was changed, in nanoseconds since 1970.
    changed: i64,
    name: Name,
    /// How its unique-id is made; see [`ids::number`].
    id: u32,
}

/// Memory for one message beside its name.
const MAX_ENTRY_SIZE: usize = 48;
const _: () = assert!(size_of::<Entry>() <= MAX_ENTRY_SIZE);

impl Maildir {
    /// Lists `folders` and counts the octets of every message that the index does not know.
    pub(crate) fn scan(folders: Folders, limits: &Limits, memory: Memory) -> Result<Self, Problem> {
        let opened = match &memory.index {
            Some(index) => open_with(index, &memory.ids, &folders, limits)?,
            None => {
                let scanned = scan::scan(&folders, limits, None)?;
                (scanned.listing, scanned.skipped, None)
            }
        };
        let (listing, skipped, drift) = opened;
        Ok(Maildir {
            folders,
            listing,
            skipped,
            finder: Finder::new(),
            memory,
            drift,
            open: None,
        })
    }
}

/// Takes over from an index what has not changed since, and brings it up to date.
fn open_with(
    index: &Index,
    ids: &IdMap,
    folders: &Folders,
    limits: &Limits,
) -> Result<(Listing, u32, Option<Drift>), Problem> {
    let look = || Stamps::of(folders).map_err(|error| Problem::Io("examine it", error));
    let before = look()?;
    // Before it is listed: a change from now on shows.
    let settled = before.are_settled();
    let saved = match saved::load(index, limits) {
        Some(saved) if settled && saved.is_of(&before) && saved.has_ids(ids) => {
            return Ok((saved.listing, saved.skipped, Some(Drift::default())));
        }
        saved => saved,
    };
    let known = saved.as_ref().map(|saved| &saved.listing);
    let scan::Scanned {
        listing,
        skipped,
        as_known,
    } = scan::scan(folders, limits, known)?;
    let drift = saved.as_ref().map(|saved| saved.drift(&listing, ids));
    let stamps = (settled && look()? == before).then_some(&before);
    match saved {
        Some(saved) if as_known && skipped == saved.skipped && saved.has_ids(ids) => {
            saved.restamp(index, stamps);
        }
        _ => saved::write(index, ids, &listing, skipped, stamps, &|_| true),
    }
    Ok((listing, skipped, drift))
}

/// Opens a message, wherever it has been renamed to.
fn open(
    folders: &Folders,
    listing: &Listing,
    finder: &mut Finder,
    entry: &Entry,
) -> io::Result<File> {
    let attempt = |folder: Folder, name: &[u8]| match folders.open_message(folder, name)? {
        Some(Found::Message((file, _), facts)) if facts == entry.facts => Ok(Some(file)),
        None => Ok(None),
        // Its octets are no longer those that were counted.
        Some(_) => Err(io::ErrorKind::InvalidData.into()),
    };
    let name = entry.name;
    if let Some(file) = attempt(name.folder, listing.arena.name(name))? {
        return Ok(file);
    }
    finder.renew();
    finder
        .find(folders, listing.arena.base(name), attempt)?
        .ok_or(io::ErrorKind::NotFound.into())
}

impl Listing {
    /// Our own unique-id of a message.
    fn own_id(&self, entry: &Entry) -> Option<UniqueId> {
        ids::unique_id(self.arena.base(entry.name), entry.id)
    }

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
        let own = self.listing.own_id(self.listing.get(index)?)?;
        Some(self.memory.ids.shown_for(own))
    }

    /// When the file was written, which no rename changes.
    fn delivered(&self, index: u32) -> Option<u64> {
        let modified = self.listing.get(index)?.facts.modified();
        u64::try_from(modified / 1_000_000_000).ok()
    }

    fn drift(&self) -> Option<Drift> {
        self.drift
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
                let file = open(&self.folders, &self.listing, &mut self.finder, entry)
                    .inspect_err(|error| doubt(self.memory.index.as_ref(), error))?;
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
        let result = update::remove(&self.folders, &self.listing, deleted);
        if let Some(index) = &self.memory.index
            && (0..self.count()).any(deleted)
        {
            // Others may have changed the directories meanwhile, so that they are to be listed next time.
            let (ids, listing) = (&self.memory.ids, &self.listing);
            let kept = |index| !deleted(index);
            saved::write(index, ids, listing, self.skipped, None, &kept);
        }
        result
    }
}

/// Throws away an index that knew a file otherwise than it is.
fn doubt(index: Option<&Index>, error: &io::Error) {
    if let Some(index) = index
        && error.kind() == io::ErrorKind::InvalidData
    {
        index.clear();
    }
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

#[cfg(test)]
mod index_tests;
#[cfg(test)]
mod tests;
