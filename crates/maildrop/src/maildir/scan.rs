//! Listing a Maildir and counting its messages' octets, while other programs go on renaming and removing them.

use std::fs::File;
use std::io::{self, Read};

use pop3_proto::multiline::Counter;

use super::finder::Finder;
use super::folders::{Facts, Folders, Found, OpenFile};
use super::name::{Arena, Folder, Name};
use super::{Entry, Listing, ids, retry};
use crate::{Limits, Problem};

/// Octets read at once, as in an mbox.
const BLOCK: usize = 128 * 1024;

/// Lists all messages, and tells how many files were passed over because they are no readable mail.
pub(super) fn scan(folders: &Folders, limits: &Limits) -> Result<(Listing, u32), Problem> {
    let listed = folders.list(limits.messages);
    let (mut arena, mut names) = listed.map_err(|error| Problem::Io("list it", error))?;
    if names.len() > usize::try_from(limits.messages).unwrap_or(usize::MAX) {
        return Err(Problem::TooManyMessages(limits.messages));
    }
    arena.sort_by_delivery(&mut names);

    let unreadable = |error| Problem::Io("read a message of it", error);
    let mut finder = Finder::new();
    let mut buffer = vec![0; BLOCK];
    let mut entries: Vec<Entry> = Vec::new();
    let mut skipped = 0_u32;
    let mut last_inode = None;
    let mut total = 0_u64;
    for name in names {
        let located = locate(folders, &mut finder, &mut arena, name).map_err(unreadable)?;
        let Some((name, found)) = located else {
            continue;
        };
        let Found::Message((file, stat), facts) = found else {
            skipped = skipped.saturating_add(1);
            continue;
        };
        // On its way from `new` to `cur` a message may have been listed in both.
        let same_base = entries
            .last()
            .is_some_and(|last| arena.base(last.name) == arena.base(name));
        let inode = Some(stat.st_ino);
        if same_base && last_inode == inode {
            continue;
        }
        last_inode = inode;
        // Before it is read: a file of holes can be larger than could ever be read.
        total = total.saturating_add(facts.size);
        if total > limits.octets {
            return Err(Problem::TooManyOctets {
                found: total,
                limit: limits.octets,
            });
        }
        entries.push(Entry {
            octets: count_octets(&file, facts, &mut buffer).map_err(unreadable)?,
            facts,
            name,
            id: 0,
        });
    }
    let numbers = ids::number(&arena, entries.iter().map(|entry| entry.name));
    for (entry, number) in entries.iter_mut().zip(numbers) {
        entry.id = number;
    }
    entries.shrink_to_fit();
    Ok((Listing { arena, entries }, skipped))
}

/// What lies at a name, or at the one that it has been renamed to since it was listed; `None` if it is gone.
pub(super) fn locate(
    folders: &Folders,
    finder: &mut Finder,
    arena: &mut Arena,
    name: Name,
) -> io::Result<Option<(Name, Found<OpenFile>)>> {
    if let Some(found) = folders.open_message(name.folder, arena.name(name))? {
        return Ok(Some((name, found)));
    }
    let renamed = finder.find(folders, arena.base(name), |folder: Folder, name| {
        let found = folders.open_message(folder, name)?;
        Ok(found.map(|found| (folder, name.to_vec(), found)))
    })?;
    Ok(renamed.and_then(|(folder, name, found)| Some((arena.store(folder, &name)?, found))))
}

/// Octets on the wire of a file of the given size.
fn count_octets(mut file: &File, facts: Facts, buffer: &mut [u8]) -> io::Result<u64> {
    let mut counter = Counter::new();
    let mut left = facts.size;
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
