//! Listing a Maildir and counting its messages' octets, while other programs go on renaming and removing them.

use std::fs::File;
use std::io::{self, Read};

use pop3_proto::multiline::Counter;
use rustix::fs::Stat;

use super::finder::Finder;
use super::folders::{Facts, Folders, Found, OpenFile, changed};
use super::name::{Arena, Folder, Name, base, place};
use super::{Entry, Listing, ids, retry};
use crate::{Limits, Problem};

/// Octets read at once, as in an mbox.
const BLOCK: usize = 128 * 1024;

/// What a scan has found.
pub(super) struct Scanned {
    pub(super) listing: Listing,
    /// Files passed over because they are no readable mail.
    pub(super) skipped: u32,
    /// All is as it was known before, by the same names.
    pub(super) as_known: bool,
}

/// Lists all messages. Those in `known` are not counted again, if they are evidently the same.
pub(super) fn scan(
    folders: &Folders,
    limits: &Limits,
    known: Option<&Listing>,
) -> Result<Scanned, Problem> {
    let listed = folders.list(limits.messages);
    let (arena, mut names) = listed.map_err(|error| Problem::Io("list it", error))?;
    if names.len() > usize::try_from(limits.messages).unwrap_or(usize::MAX) {
        return Err(Problem::TooManyMessages(limits.messages));
    }
    arena.sort_by_delivery(&mut names);

    let unreadable = |error| Problem::Io("read a message of it", error);
    let mut examination = Examination {
        folders,
        known: known.map(|listing| Known { listing, at: 0 }),
        finder: Finder::new(),
        arena,
    };
    let mut buffer = vec![0; BLOCK];
    let mut entries: Vec<Entry> = Vec::new();
    let mut skipped = 0_u32;
    let mut unchanged = 0_usize;
    let mut last_inode = None;
    let mut total = 0_u64;
    let mut same_as_last = false;
    for (at, &name) in names.iter().enumerate() {
        let next = names.get(at.saturating_add(1));
        let same_as_next = next.is_some_and(|&next| examination.have_same_base(name, next));
        let is_alone = !std::mem::replace(&mut same_as_last, same_as_next) && !same_as_next;
        let examined = examination.examine(name, is_alone).map_err(unreadable)?;
        let Some(Examined { name, found }) = examined else {
            continue;
        };
        let Found::Message((seen, content), facts) = found else {
            skipped = skipped.saturating_add(1);
            continue;
        };
        // On its way from `new` to `cur` a message may have been listed in both.
        let same_inode = seen.inode.is_some() && last_inode == seen.inode;
        let last = entries.last().filter(|_| same_inode);
        if last.is_some_and(|last| examination.have_same_base(last.name, name)) {
            continue;
        }
        last_inode = seen.inode;
        // Before it is read: a file of holes can be larger than could ever be read.
        total = total.saturating_add(facts.size);
        if total > limits.octets {
            return Err(Problem::TooManyOctets {
                found: total,
                limit: limits.octets,
            });
        }
        let octets = match content {
            Content::Unchanged(octets) => {
                unchanged = unchanged.saturating_add(1);
                octets
            }
            Content::Moved(octets) => octets,
            Content::New(file) => count_octets(&file, facts, &mut buffer).map_err(unreadable)?,
        };
        entries.push(Entry {
            octets,
            facts,
            changed: seen.changed,
            name,
            id: 0,
        });
    }
    let arena = examination.arena;
    let numbers = ids::number(&arena, entries.iter().map(|entry| entry.name));
    for (entry, number) in entries.iter_mut().zip(numbers) {
        entry.id = number;
    }
    entries.shrink_to_fit();
    let count = entries.len();
    Ok(Scanned {
        listing: Listing { arena, entries },
        skipped,
        as_known: unchanged == count && known.is_some_and(|known| known.entries.len() == count),
    })
}

/// Looks at one message after another, in the order of their delivery.
struct Examination<'a> {
    folders: &'a Folders,
    known: Option<Known<'a>>,
    finder: Finder,
    arena: Arena,
}

/// A message that was listed.
struct Examined {
    /// The name by which it was found.
    name: Name,
    found: Found<(Seen, Content)>,
}

/// What was seen of a file.
struct Seen {
    /// Unless it was not looked at.
    inode: Option<u64>,
    /// When anything about it was changed, in nanoseconds since 1970.
    changed: i64,
}

impl From<Stat> for Seen {
    fn from(stat: Stat) -> Self {
        Seen {
            inode: Some(stat.st_ino),
            changed: changed(&stat),
        }
    }
}

/// What is in a message.
enum Content {
    /// What there was before, under the same name; holds its octets on the wire.
    Unchanged(u64),
    /// The same, under another name or another number.
    Moved(u64),
    /// What has yet to be counted.
    New(File),
}

impl Examination<'_> {
    fn have_same_base(&self, one: Name, other: Name) -> bool {
        self.arena.base(one) == self.arena.base(other)
    }

    /// Looks at a message that is not known by its name and its file's number, or not `is_alone` with the base of its name, and opens
    /// it unless it is unchanged; `None` if it is gone.
    fn examine(&mut self, name: Name, is_alone: bool) -> io::Result<Option<Examined>> {
        let octets = self.arena.name(name);
        let known = self.known.as_mut();
        let known = known.and_then(|known| known.find(name.folder, octets));
        if let Some((entry, true)) = known {
            let is_same = name.inode.is(entry.name.inode);
            if is_same && is_alone {
                let seen = Seen {
                    inode: None,
                    changed: entry.changed,
                };
                let content = Content::Unchanged(entry.octets);
                let found = Found::Message((seen, content), entry.facts);
                return Ok(Some(Examined { name, found }));
            }
            if let Some(Found::Message(stat, facts)) = self.folders.look(name.folder, octets)?
                && facts == entry.facts
                && changed(&stat) == entry.changed
            {
                let content = match is_same {
                    true => Content::Unchanged(entry.octets),
                    false => Content::Moved(entry.octets),
                };
                let found = Found::Message((stat.into(), content), facts);
                return Ok(Some(Examined { name, found }));
            }
        }
        let located = locate(self.folders, &mut self.finder, &mut self.arena, name)?;
        Ok(located.map(|(name, found)| {
            let found = match found {
                Found::NoMail => Found::NoMail,
                Found::Message((file, stat), facts) => {
                    let content = match known {
                        Some((entry, false)) if entry.facts == facts => {
                            Content::Moved(entry.octets)
                        }
                        _ => Content::New(file),
                    };
                    Found::Message((stat.into(), content), facts)
                }
            };
            Examined { name, found }
        }))
    }
}

/// The messages of an index, gone through in the order of their delivery.
struct Known<'a> {
    listing: &'a Listing,
    at: usize,
}

/// Messages of the same base that are looked at for one of the same name; there should be but one.
const MAX_SAME: usize = 8;

impl<'a> Known<'a> {
    /// The message of a name that comes behind those asked for before, and whether it had the same name.
    fn find(&mut self, folder: Folder, name: &[u8]) -> Option<(&'a Entry, bool)> {
        let Listing { arena, entries } = self.listing;
        let wanted = place(name);
        let mut rest = entries.get(self.at..).unwrap_or_default();
        while let Some((entry, others)) = rest.split_first()
            && place(arena.name(entry.name)) < wanted
        {
            rest = others;
            self.at = self.at.saturating_add(1);
        }
        let mut same = rest
            .iter()
            .take_while(|entry| arena.base(entry.name) == base(name))
            .take(MAX_SAME)
            .peekable();
        let first = same.peek().copied();
        same.find(|entry| entry.name.folder == folder && arena.name(entry.name) == name)
            .map(|entry| (entry, true))
            .or(first.map(|entry| (entry, false)))
    }
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
