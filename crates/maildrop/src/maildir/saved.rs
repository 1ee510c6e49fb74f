//! What an index keeps of a Maildir: names and octets of its messages, and what the directories were like.
//!
//! Neither directory changed: the messages are those of the index, and no file is looked at. Else both are listed, and
//! a file that has its name and its number still is not looked at either; a directory entry has both. Of others a message is not
//! counted again if its file has name, size and times as before; or, after a rename, if what is found at the new name can be
//! read and has size and time of change of content as before.

use std::io;

use memchr::memchr2;

use super::folders::{Facts, Folders};
use super::name::{Arena, Folder, Inode, Name, base, place};
use super::{Entry, Listing};
use crate::index::{Header, Identity, Index, Kind};
use crate::stamp::Stamp;
use crate::{Drift, IdMap, Limits};

/// What both directories were like at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamps([Stamp; 2]);

/// A listing as an index has kept it.
pub(super) struct Saved {
    pub(super) listing: Listing,
    pub(super) skipped: u32,
    /// How each was shown, by [`IdMap::mark`].
    marks: Vec<u32>,
    header: Header,
}

impl Stamps {
    pub(super) fn of(folders: &Folders) -> io::Result<Self> {
        let [new, cur] = folders.descriptors();
        Ok(Stamps([Stamp::of(new)?, Stamp::of(cur)?]))
    }

    /// Whether a change from now on will show.
    pub(super) fn are_settled(&self) -> bool {
        !self.0.iter().any(Stamp::is_of_this_tick)
    }

    fn identity(&self) -> Identity {
        let [new, cur] = self.0.map(|stamp| {
            let ([device, inode], [a, b, c, d]) = (stamp.file(), stamp.times());
            [device, inode, a, b, c, d]
        });
        let [a, b, c, d, e, f] = new;
        let [g, h, i, j, k, l] = cur;
        [a, b, c, d, e, f, g, h, i, j, k, l]
    }
}

/// Reads the index of a Maildir, if it holds one that makes sense and keeps to the limits.
pub(super) fn load(index: &Index, limits: &Limits) -> Option<Saved> {
    let mut reader = index.reader(Kind::Maildir, limits.messages)?;
    let header = *reader.header();
    let mut entries = Vec::with_capacity(usize::try_from(header.rows).ok()?);
    let mut marks = Vec::with_capacity(entries.capacity());
    let (mut at, mut total) = (0_u32, 0_u64);
    for _ in 0..header.rows {
        let [octets, size, modified, changed, name, mark] = reader.next()?;
        let [length, folder, 0, 0, id @ ..] = name.to_le_bytes() else {
            return None;
        };
        let folder = match folder {
            0 => Folder::New,
            1 => Folder::Cur,
            _ => return None,
        };
        entries.push(Entry {
            octets,
            facts: Facts::new(size, modified.cast_signed()),
            changed: changed.cast_signed(),
            name: Name::new(at, Inode::from_bits(upper(mark)), length, folder),
            id: u32::from_le_bytes(id),
        });
        marks.push(lower(mark));
        at = at.checked_add(u32::from(length))?;
        total = total.saturating_add(size);
    }
    let names = reader.names()?;
    let fits = reader.is_whole() && names.len() as u64 == u64::from(at) && total <= limits.octets;
    // Nothing that could be a path, as in a listing.
    if !fits || memchr2(b'/', 0, &names).is_some() {
        return None;
    }
    let arena = Arena::from_octets(names);
    let hidden = |entry: &Entry| matches!(arena.name(entry.name), [] | [b'.', ..]);
    if entries.iter().any(hidden) {
        return None;
    }
    Some(Saved {
        listing: Listing { arena, entries },
        skipped: lower(header.extra),
        marks,
        header,
    })
}

impl Saved {
    /// Whether the directories are as they were when the messages were listed.
    pub(super) fn is_of(&self, stamps: &Stamps) -> bool {
        self.header.identity == stamps.identity()
    }

    /// Whether the messages were shown by the same ids, as far as those come from elsewhere.
    pub(super) fn has_ids(&self, ids: &IdMap) -> bool {
        self.header.extra == extra(self.skipped, ids)
    }

    /// How the ids of a listing differ from those of the index. Both are in the order of delivery.
    pub(super) fn drift(&self, now: &Listing, ids: &IdMap) -> Drift {
        let mut drift = Drift::default();
        let mut rest = now.entries.as_slice();
        for (before, &mark) in self.listing.entries.iter().zip(&self.marks) {
            let name = self.listing.arena.name(before.name);
            while let Some((entry, others)) = rest.split_first()
                && place(now.arena.name(entry.name)) < place(name)
            {
                rest = others;
            }
            // Of messages of the same base, by their numbers.
            let same = rest
                .iter()
                .take_while(|entry| now.arena.base(entry.name) == base(name))
                .find(|entry| entry.id == before.id);
            match same {
                None => drift.gone = drift.gone.saturating_add(1),
                Some(entry) if ids.mark(now.own_id(entry)) != mark => {
                    drift.changed = drift.changed.saturating_add(1);
                }
                Some(_) => {}
            }
        }
        drift
    }

    /// Writes down other stamps for the same messages.
    pub(super) fn restamp(self, index: &Index, stamps: Option<&Stamps>) {
        let header = Header {
            identity: stamps.map_or([0; 12], Stamps::identity),
            ..self.header
        };
        if header != self.header && index.replace_header(&header).is_err() {
            index.clear();
        }
    }
}

/// Writes an index of the messages that `kept` names, or throws it away if that is not possible. Without `stamps`, the
/// directories are to be listed next time.
pub(super) fn write(
    index: &Index,
    ids: &IdMap,
    listing: &Listing,
    skipped: u32,
    stamps: Option<&Stamps>,
    kept: &dyn Fn(u32) -> bool,
) {
    let entries = || {
        (0..)
            .zip(&listing.entries)
            .filter(|&(number, _)| kept(number))
            .map(|(_, entry)| entry)
    };
    let written = (|| {
        let mut writer = index.writer(None);
        let (mut rows, mut names) = (0, Vec::with_capacity(listing.arena.octets()));
        for entry in entries() {
            let name = listing.arena.name(entry.name);
            let [a, b, c, d] = entry.id.to_le_bytes();
            let length = u8::try_from(name.len()).unwrap_or(0);
            let folder = match entry.name.folder {
                Folder::New => 0,
                Folder::Cur => 1,
            };
            writer.row(&[
                entry.octets,
                entry.facts.size,
                entry.facts.modified().cast_unsigned(),
                entry.changed.cast_unsigned(),
                u64::from_le_bytes([length, folder, 0, 0, a, b, c, d]),
                both(
                    match ids.is_empty() {
                        true => 0,
                        false => ids.mark(listing.own_id(entry)),
                    },
                    entry.name.inode.to_bits(),
                ),
            ])?;
            names.extend_from_slice(name);
            rows = u64::saturating_add(rows, 1);
        }
        writer.names(&names)?;
        writer.finish(Header {
            kind: Kind::Maildir,
            rows,
            names: names.len() as u64,
            extra: extra(skipped, ids),
            identity: stamps.map_or([0; 12], Stamps::identity),
            ..Header::empty(Kind::Maildir)
        })
    })();
    if written.is_err() {
        index.clear();
    }
}

/// Files passed over, and which ids came from elsewhere.
fn extra(skipped: u32, ids: &IdMap) -> u64 {
    both(skipped, ids.fingerprint())
}

/// Two numbers in one.
fn both(lower: u32, upper: u32) -> u64 {
    u64::from(lower) | u64::from(upper) << 32
}

#[allow(clippy::cast_possible_truncation)] // The other half is something else.
fn lower(both: u64) -> u32 {
    both as u32
}

fn upper(both: u64) -> u32 {
    lower(both >> 32)
}
