//! What an index keeps of an mbox: its table, and what the file was like that the table is of.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use super::scan::is_border;
use super::table::Message;
use crate::index::checksum::Checksum;
use crate::index::{Header, Identity, Index, Kind};
use crate::stamp::{Stamp, born};
use crate::{Drift, IdMap};

/// Octets from the beginning of the last message on that are to be as they were: its `From ` line and enough of its
/// header to tell it from any other.
const HEAD: usize = 4096;

/// Octets before the last message that are to be as they were: those that part it from the one before.
const BEFORE_HEAD: u64 = 2;

/// So many borders are looked at in a file that has grown.
const SAMPLES: usize = 16;

/// A table as an index has kept it.
pub(super) struct Saved {
    pub(super) messages: Vec<Message>,
    /// How each was shown, by [`IdMap::mark`].
    marks: Vec<u32>,
    header: Header,
}

/// How a file compares with the one that was indexed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fit {
    /// It has not been touched since.
    Unchanged,
    /// It is the same file, longer, and the same where the indexed messages end.
    Longer,
    /// Nothing is known about it.
    Other,
}

/// What was the same if a file only grew, and what if it was not touched at all.
struct Compared {
    /// Device, inode and time of birth.
    file: [u64; 4],
    /// Where the indexed messages end.
    end: u64,
    /// When it was changed.
    times: [u64; 4],
    /// The sum of the last message's head.
    head: u64,
}

/// Reads the index of a mailbox, if it holds one that makes sense.
pub(super) fn load(index: &Index, limit: u32) -> Option<Saved> {
    let mut reader = index.reader(Kind::Mbox, limit)?;
    let header = *reader.header();
    let end = Compared::from_identity(header.identity).end;
    let mut messages = Vec::with_capacity(usize::try_from(header.rows).ok()?);
    let mut marks = Vec::with_capacity(messages.capacity());
    let mut last: Option<Message> = None;
    for _ in 0..header.rows {
        let [from, line, stored, octets, digest, shown] = reader.next()?;
        let start = from.checked_add(line)?;
        // The first begins where the file does, each other where the one before has ended, or later.
        let in_order = match last {
            None => from == 0,
            Some(last) => from >= last.start.saturating_add(last.stored),
        };
        if !in_order || line == 0 || start.checked_add(stored)? > end {
            return None;
        }
        let message = Message {
            from,
            start,
            stored,
            octets,
            digest: digest.to_le_bytes(),
            copy: low(shown),
        };
        if message.copy == 0 {
            return None;
        }
        last = Some(message);
        messages.push(message);
        marks.push(low(shown >> 32));
    }
    reader.is_whole().then_some(Saved {
        messages,
        marks,
        header,
    })
}

impl Saved {
    /// How many messages the index has.
    pub(super) fn rows(&self) -> usize {
        usize::try_from(self.header.rows).unwrap_or(usize::MAX)
    }

    /// Whether each message was shown by the same ids, as far as those come from elsewhere.
    pub(super) fn has_ids(&self, ids: &IdMap) -> bool {
        self.header.extra == u64::from(ids.fingerprint())
    }

    /// How the ids of messages have changed of which the first are those of the index.
    pub(super) fn drift_of_same(&self, messages: &[Message], ids: &IdMap) -> Drift {
        let pairs = messages.iter().zip(&self.marks);
        let changed = pairs.filter(|&(message, &mark)| ids.mark(message.unique_id()) != mark);
        Drift {
            gone: 0,
            changed: count(changed),
        }
    }

    /// How the ids of other messages differ from those of the index.
    pub(super) fn drift(&self, messages: &[Message], ids: &IdMap) -> Drift {
        let own = |message: &Message| (message.digest, message.copy);
        let mut before: Vec<_> = self.messages.iter().map(own).zip(&self.marks).collect();
        before.sort_unstable();
        let mut left = before.len();
        let same = messages.iter().filter_map(|message| {
            let found = before.binary_search_by_key(&own(message), |&(own, _)| own);
            left = left.saturating_sub(usize::from(found.is_ok()));
            Some((message, before.get(found.ok()?)?.1))
        });
        let changed = count(same.filter(|&(message, &mark)| ids.mark(message.unique_id()) != mark));
        Drift {
            gone: u32::try_from(left).unwrap_or(u32::MAX),
            changed,
        }
    }

    /// Compares the file that was indexed with what is there now.
    pub(super) fn fit(&self, file: &File, stamp: &Stamp) -> io::Result<Fit> {
        let then = Compared::from_identity(self.header.identity);
        // In this order: what is read of the file last.
        if stamp.file() != then.file[..2] || stamp.size() < then.end {
            return Ok(Fit::Other);
        }
        let unchanged = stamp.size() == then.end && stamp.times() == then.times;
        if !unchanged && stamp.size() == then.end {
            return Ok(Fit::Other);
        }
        let now = Compared::new(file, stamp, self.messages.last(), then.end)?;
        if now.file != then.file || now.head != then.head {
            return Ok(Fit::Other);
        }
        match unchanged {
            true => Ok(Fit::Unchanged),
            false if self.has_samples(file)? => Ok(Fit::Longer),
            false => Ok(Fit::Other),
        }
    }

    /// Whether messages begin where some of the index do, the first among them. A program that removed mail, or added to
    /// it, has moved what lies behind.
    fn has_samples(&self, file: &File) -> io::Result<bool> {
        let step = self.messages.len().div_ceil(SAMPLES).max(1);
        for message in self.messages.iter().step_by(step) {
            if !is_border(file, message.from)? {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// Where the messages of a file end, and what it was like when they did: what an index is written of.
pub(super) struct Indexed {
    identity: Identity,
}

impl Indexed {
    /// Of a file whose messages, of which `last` is the last, end at `end`. Mail may follow that is not indexed.
    pub(super) fn new(
        file: &File,
        stamp: &Stamp,
        last: Option<&Message>,
        end: u64,
    ) -> io::Result<Self> {
        let identity = Compared::new(file, stamp, last, end)?.identity();
        Ok(Indexed { identity })
    }

    /// Writes an index of all messages.
    pub(super) fn write(
        &self,
        index: &Index,
        ids: &IdMap,
        messages: impl Iterator<Item = Message>,
    ) -> io::Result<()> {
        self.write_behind(index, ids, None, messages)
    }

    /// Adds messages to the index that `known` was read from.
    pub(super) fn add(
        &self,
        index: &Index,
        ids: &IdMap,
        known: &Saved,
        messages: impl Iterator<Item = Message>,
    ) -> io::Result<()> {
        self.write_behind(index, ids, Some(&known.header), messages)
    }

    fn write_behind(
        &self,
        index: &Index,
        ids: &IdMap,
        known: Option<&Header>,
        messages: impl Iterator<Item = Message>,
    ) -> io::Result<()> {
        let mut writer = index.writer(known);
        let mut rows = known.map_or(0, |header| header.rows);
        for message in messages {
            let mark = match ids.is_empty() {
                true => 0,
                false => ids.mark(message.unique_id()),
            };
            writer.row(&[
                message.from,
                message.start.saturating_sub(message.from),
                message.stored,
                message.octets,
                u64::from_le_bytes(message.digest),
                u64::from(message.copy) | u64::from(mark) << 32,
            ])?;
            rows = rows.saturating_add(1);
        }
        writer.finish(Header {
            rows,
            extra: u64::from(ids.fingerprint()),
            identity: self.identity,
            ..Header::empty(Kind::Mbox)
        })?;
        Ok(())
    }
}

impl Compared {
    fn new(file: &File, stamp: &Stamp, last: Option<&Message>, end: u64) -> io::Result<Self> {
        let ([device, inode], [seconds, nanoseconds]) = (stamp.file(), born(file));
        Ok(Compared {
            file: [device, inode, seconds, nanoseconds],
            end,
            times: stamp.times(),
            head: head(file, last, end)?,
        })
    }

    fn identity(&self) -> Identity {
        let ([a, b, c, d], [e, f, g, h]) = (self.file, self.times);
        [a, b, c, d, self.end, e, f, g, h, self.head, 0, 0]
    }

    fn from_identity([a, b, c, d, end, e, f, g, h, head, _, _]: Identity) -> Self {
        Compared {
            file: [a, b, c, d],
            end,
            times: [e, f, g, h],
            head,
        }
    }
}

#[allow(clippy::cast_possible_truncation)] // The upper half is something else.
fn low(word: u64) -> u32 {
    word as u32
}

fn count<T>(items: impl Iterator<Item = T>) -> u32 {
    u32::try_from(items.count()).unwrap_or(u32::MAX)
}

/// The sum of the beginning of the last message.
fn head(file: &File, last: Option<&Message>, end: u64) -> io::Result<u64> {
    let start = last.map_or(end, |last| last.from.saturating_sub(BEFORE_HEAD));
    let length = usize::try_from(end.saturating_sub(start)).unwrap_or(usize::MAX);
    let mut head = [0; HEAD];
    let head = head.get_mut(..length.min(HEAD)).unwrap_or_default();
    match file.read_exact_at(head, start) {
        Ok(()) => Ok(Checksum::of(head)),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(0),
        Err(error) => Err(error),
    }
}
