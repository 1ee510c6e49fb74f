//! Which of equal messages has which unique-id.
//!
//! popa3d gives messages with equal headers equal ids. Here the second is given `-2` behind it, and it keeps that when the
//! first is removed: a client that has seen both would else take the second for the first, or fetch it again. What an
//! mbox looks like does not tell, so it is remembered: for each message of a digest that more than one has had, its
//! octets and its number. Only mailboxes that ever had equal messages have anything to remember. When all messages of a
//! digest are gone, or another file has taken the mailbox's place, the next one is the first again, as with popa3d.
//!
//! This is no cache. It is written before the session begins, so that it is known whatever happens then, in one of two
//! places in turn, so that a write that is cut short leaves what there was.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use super::table::Message;
use crate::index::checksum::{Checksum, ROW, Row, octets, words};
use crate::stamp::{Stamp, born};

/// Octets of each place; the file has holes.
const PLACE: u64 = 16 * 1024 * 1024;

/// Numbers that a place holds. If there are more, those of this session are not remembered, which costs a client that
/// has a hundred thousand equal messages some downloads.
const MAX_NUMBERS: usize = 100_000;
const _: () = assert!((MAX_NUMBERS as u64 + 1) * ROW as u64 <= PLACE);

/// What a place begins with.
const MAGIC: u64 = u64::from_le_bytes(*b"popa3dcp");

/// In place of its octets, for the highest number ever given where that message is gone.
const GONE: u64 = u64::MAX;

/// The file that the numbers of one mailbox are remembered in.
#[derive(Debug)]
pub struct CopyNumbers {
    file: File,
}

/// The number of one message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Number {
    digest: [u8; 8],
    /// Octets on the wire, and as stored.
    octets: [u64; 2],
    copy: u32,
}

/// What is remembered, and where the next is to be written.
#[derive(Debug, Default)]
pub(super) struct Remembered {
    numbers: Vec<Number>,
    /// Tells the mailbox's file from another in its place.
    mailbox: u64,
    sequence: u64,
}

impl CopyNumbers {
    /// Takes a file open for reading and writing, which is the caller's to keep others from: whoever has the session
    /// lock of the maildrop.
    pub fn new(file: File) -> Self {
        CopyNumbers { file }
    }

    /// What was written last about the mailbox that `file` is, and `stamp` of it.
    pub(super) fn load(&self, file: &File, stamp: &Stamp) -> Remembered {
        let ([device, inode], [seconds, nanoseconds]) = (stamp.file(), born(file));
        let mut sum = Checksum::new();
        sum.add(&[device, inode, seconds, nanoseconds, 0, 0]);
        self.load_of(sum.fold())
    }

    fn load_of(&self, mailbox: u64) -> Remembered {
        let [one, other] = [0, 1].map(|place| self.read(place));
        let last = match (one, other) {
            (Some(one), Some(other)) if other.sequence > one.sequence => other,
            (Some(one), _) => one,
            (None, Some(other)) => other,
            (None, None) => Remembered::default(),
        };
        Remembered {
            numbers: match last.mailbox == mailbox {
                true => last.numbers,
                false => Vec::new(),
            },
            mailbox,
            sequence: last.sequence,
        }
    }

    fn read(&self, place: u64) -> Option<Remembered> {
        let start = place.checked_mul(PLACE)?;
        let mut header = [0; ROW];
        self.file.read_exact_at(&mut header, start).ok()?;
        let header = words(&header);
        let [magic, sequence, count, mailbox, 0, found] = header else {
            return None;
        };
        let count = usize::try_from(count).ok().filter(|&n| n <= MAX_NUMBERS)?;
        if magic != MAGIC || sequence % 2 != place {
            return None;
        }
        let mut rows = vec![0; count.checked_mul(ROW)?];
        let start = start.checked_add(ROW as u64)?;
        self.file.read_exact_at(&mut rows, start).ok()?;
        let mut sum = Checksum::new();
        sum.add(&[magic, sequence, count as u64, mailbox, 0, 0]);
        let mut numbers = Vec::with_capacity(count);
        for row in rows.as_chunks::<ROW>().0 {
            let row = words(row);
            sum.add(&row);
            numbers.push(Number::from_row(row)?);
        }
        (sum.fold() == found).then_some(Remembered {
            numbers,
            mailbox,
            sequence,
        })
    }

    /// Writes what is known now, durably, if it is not what was known before. A failure costs what this is to save, and
    /// not the session.
    pub(super) fn store(
        &self,
        before: Remembered,
        given: &Given,
        messages: impl Iterator<Item = Message>,
    ) -> Remembered {
        let numbers = given.numbers(messages);
        if numbers == before.numbers || numbers.len() > MAX_NUMBERS {
            return before;
        }
        let now = Remembered {
            numbers,
            mailbox: before.mailbox,
            sequence: before.sequence.saturating_add(1),
        };
        match self.write(&now) {
            Ok(()) => now,
            Err(_) => before,
        }
    }

    fn write(&self, now: &Remembered) -> io::Result<()> {
        let Remembered {
            numbers,
            mailbox,
            sequence,
        } = now;
        let mut header = [MAGIC, *sequence, numbers.len() as u64, *mailbox, 0, 0];
        let mut sum = Checksum::new();
        sum.add(&header);
        let mut place = Vec::new();
        for number in numbers {
            let row = number.row();
            sum.add(&row);
            place.extend_from_slice(&octets(&row));
        }
        header[5] = sum.fold();
        place.splice(..0, octets(&header));
        let start = (sequence % 2).saturating_mul(PLACE);
        self.file.write_all_at(&place, start)?;
        self.file.sync_data()
    }
}

impl Number {
    fn of(message: &Message) -> Self {
        Number {
            digest: message.digest,
            octets: [message.octets, message.stored],
            copy: message.copy,
        }
    }

    fn row(&self) -> Row {
        let digest = u64::from_le_bytes(self.digest);
        let [wire, stored] = self.octets;
        [digest, wire, stored, u64::from(self.copy), 0, 0]
    }

    fn from_row(row: Row) -> Option<Self> {
        let [digest, wire, stored, copy, 0, 0] = row else {
            return None;
        };
        Some(Number {
            digest: digest.to_le_bytes(),
            octets: [wire, stored],
            copy: u32::try_from(copy).ok().filter(|&copy| copy > 0)?,
        })
    }
}

/// The highest number given for each digest that more than one message has, or has had.
#[derive(Debug, Default)]
pub(super) struct Given(BTreeMap<[u8; 8], u32>);

impl Given {
    /// From what is remembered and what the messages of a table have.
    pub(super) fn new(remembered: &Remembered, messages: &[Message]) -> Self {
        let mut given = Given::default();
        for number in &remembered.numbers {
            given.note(number.digest, number.copy);
        }
        for message in messages.iter().filter(|message| message.copy > 1) {
            given.note(message.digest, message.copy);
        }
        given
    }

    fn note(&mut self, digest: [u8; 8], copy: u32) {
        let highest = self.0.entry(digest).or_default();
        *highest = copy.max(*highest);
    }

    /// What is to be remembered of `messages`: nothing of digests that none of them has.
    fn numbers(&self, messages: impl Iterator<Item = Message>) -> Vec<Number> {
        if self.0.is_empty() {
            return Vec::new();
        }
        let mut numbers: Vec<Number> = messages
            .filter(|message| self.0.contains_key(&message.digest))
            .map(|message| Number::of(&message))
            .collect();
        let mut present: BTreeMap<[u8; 8], u32> = BTreeMap::new();
        for number in &numbers {
            let highest = present.entry(number.digest).or_default();
            *highest = number.copy.max(*highest);
        }
        for (digest, highest) in present {
            let copy = self.0.get(&digest).copied().unwrap_or(highest);
            if copy > highest {
                numbers.push(Number {
                    digest,
                    octets: [GONE; 2],
                    copy,
                });
            }
        }
        numbers
    }
}

/// Numbers all messages: those that are remembered as they were, the others of their digest behind the highest number.
/// Returns what is given now.
pub(super) fn number(messages: &mut [Message], remembered: &Remembered) -> Given {
    let mut given = Given::default();
    // By sorting: someone may have a million of them.
    let mut order: Vec<([u8; 8], u32)> = messages
        .iter()
        .map(|message| message.digest)
        .zip(0..)
        .collect();
    order.sort_unstable();
    let mut known = remembered.numbers.clone();
    known.sort_by_key(|number| (number.digest, number.octets));
    let mut known = known.as_slice();
    for group in order.chunk_by_mut(|(one, _), (other, _)| one == other) {
        let digest = group.first().map(|&(digest, _)| digest).unwrap_or_default();
        let start = known.partition_point(|number| number.digest < digest);
        known = known.get(start..).unwrap_or_default();
        let end = known.partition_point(|number| number.digest == digest);
        let (same, rest) = known.split_at_checked(end).unwrap_or((known, &[]));
        known = rest;
        let highest = number_group(messages, group, same);
        if highest > 1 {
            given.note(digest, highest);
        }
    }
    given
}

/// Numbers the messages of one digest, whose places in file order are in `group`. Returns the highest number.
fn number_group(messages: &mut [Message], group: &mut [([u8; 8], u32)], known: &[Number]) -> u32 {
    for &(_, at) in &*group {
        if let Some(message) = messages.get_mut(at as usize) {
            message.copy = 0;
        }
    }
    if !known.is_empty() {
        let octets = |messages: &[Message], at: u32| {
            let message = messages.get(at as usize);
            message.map(|message| [message.octets, message.stored])
        };
        // Equal ones are matched in file order, whatever lies between them now.
        group.sort_by_key(|&(_, at)| octets(messages, at));
        let mut known = known.iter().peekable();
        for &(_, at) in &*group {
            let wanted = octets(messages, at);
            while known
                .next_if(|number| Some(number.octets) < wanted)
                .is_some()
            {}
            let same = known.next_if(|number| Some(number.octets) == wanted);
            if let (Some(number), Some(message)) = (same, messages.get_mut(at as usize)) {
                message.copy = number.copy;
            }
        }
        group.sort_unstable();
    }
    let is_known = |&(_, at): &(_, u32)| {
        messages
            .get(at as usize)
            .is_some_and(|message| message.copy > 0)
    };
    let mut highest = match group.iter().any(is_known) {
        true => known.iter().map(|number| number.copy).max().unwrap_or(0),
        false => 0,
    };
    for &(_, at) in &*group {
        if let Some(message) = messages
            .get_mut(at as usize)
            .filter(|message| message.copy == 0)
        {
            highest = highest.saturating_add(1);
            message.copy = highest;
        }
    }
    highest
}

/// The same for messages from `first_new` on, behind others whose numbers are known, in one pass over those.
pub(super) fn number_new(messages: &mut [Message], first_new: usize, remembered: &Remembered) {
    let Some((known, new)) = messages.split_at_mut_checked(first_new) else {
        return;
    };
    if new.is_empty() {
        return;
    }
    let mut given: BTreeMap<[u8; 8], u32> = new.iter().map(|message| (message.digest, 0)).collect();
    let known = known.iter().map(|message| (message.digest, message.copy));
    let remembered = remembered.numbers.iter();
    for (digest, copy) in known.chain(remembered.map(|number| (number.digest, number.copy))) {
        if let Some(highest) = given.get_mut(&digest) {
            *highest = copy.max(*highest);
        }
    }
    for message in new {
        if let Some(highest) = given.get_mut(&message.digest) {
            *highest = highest.saturating_add(1);
            message.copy = *highest;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A message of a digest and so many octets.
    fn message(digest: u8, octets: u64) -> Message {
        Message {
            from: 0,
            start: 0,
            stored: octets,
            octets,
            digest: [digest; 8],
            copy: 1,
        }
    }

    struct Mailbox {
        copies: CopyNumbers,
        /// What it is told by from another.
        file: u64,
        messages: Vec<Message>,
    }

    impl Mailbox {
        fn new() -> Self {
            Mailbox {
                copies: CopyNumbers::new(tempfile::tempfile().unwrap()),
                file: 1,
                messages: Vec::new(),
            }
        }

        /// A session with these messages; their numbers.
        fn session(&mut self, messages: &[(u8, u64)]) -> Vec<u32> {
            let mut messages: Vec<Message> = messages
                .iter()
                .map(|&(digest, octets)| message(digest, octets))
                .collect();
            let remembered = self.copies.load_of(self.file);
            let given = number(&mut messages, &remembered);
            self.copies
                .store(remembered, &given, messages.iter().copied());
            self.messages = messages;
            self.messages.iter().map(|message| message.copy).collect()
        }
    }

    #[test]
    fn a_later_copy_keeps_its_number_when_an_earlier_one_is_removed() {
        let mut mailbox = Mailbox::new();
        assert_eq!(
            mailbox.session(&[(7, 1), (9, 1), (7, 2), (7, 3)]),
            [1, 1, 2, 3]
        );
        assert_eq!(mailbox.session(&[(9, 1), (7, 2), (7, 3)]), [1, 2, 3]);
        assert_eq!(mailbox.session(&[(7, 3)]), [3]);
        // Whatever they are sorted by now.
        let mut mailbox = Mailbox::new();
        assert_eq!(mailbox.session(&[(7, 1), (7, 2), (7, 3)]), [1, 2, 3]);
        assert_eq!(mailbox.session(&[(7, 3), (7, 1), (7, 2)]), [3, 1, 2]);
    }

    #[test]
    fn a_number_is_not_given_twice_while_there_are_copies() {
        let mut mailbox = Mailbox::new();
        assert_eq!(mailbox.session(&[(7, 1), (7, 2)]), [1, 2]);
        assert_eq!(mailbox.session(&[(7, 1)]), [1]);
        assert_eq!(mailbox.session(&[(7, 1), (7, 4)]), [1, 3]);
        assert_eq!(mailbox.session(&[(7, 4), (7, 1)]), [3, 1]);
    }

    #[test]
    fn when_all_copies_are_gone_the_next_is_the_first() {
        let mut mailbox = Mailbox::new();
        assert_eq!(mailbox.session(&[(7, 1), (7, 2)]), [1, 2]);
        assert_eq!(mailbox.session(&[(7, 3)]), [1]);
        assert_eq!(mailbox.session(&[(7, 3), (7, 4)]), [1, 2]);
        assert_eq!(mailbox.session(&[(9, 1)]), [1]);
        assert_eq!(mailbox.session(&[(7, 4)]), [1]);
    }

    #[test]
    fn what_is_known_of_one_file_is_not_applied_to_another() {
        let mut mailbox = Mailbox::new();
        assert_eq!(mailbox.session(&[(7, 1), (7, 2)]), [1, 2]);
        mailbox.file = 2;
        assert_eq!(mailbox.session(&[(7, 2)]), [1]);
        assert_eq!(mailbox.session(&[(7, 2), (7, 3)]), [1, 2]);
        assert_eq!(mailbox.session(&[(7, 3)]), [2]);
    }

    #[test]
    fn where_nothing_is_remembered_copies_are_numbered_in_file_order() {
        let mut mailbox = Mailbox::new();
        let messages = [7, 9, 7, 8, 9, 7].map(|digest| (digest, 5));
        assert_eq!(mailbox.session(&messages), [1, 1, 2, 1, 2, 3]);
        assert_eq!(mailbox.session(&messages), [1, 1, 2, 1, 2, 3]);
    }

    #[test]
    fn a_million_equal_messages_are_numbered_in_order() {
        let mut messages = vec![message(1, 1); 1_000_000];
        number(&mut messages, &Remembered::default());
        assert!(
            (1..)
                .zip(&messages)
                .all(|(copy, message)| message.copy == copy)
        );
    }

    #[test]
    fn new_messages_are_numbered_as_if_all_had_been() {
        let all: Vec<Message> = (0..60).map(|at| message(at % 5 * (at % 3), 1)).collect();
        let mut whole = all.clone();
        number(&mut whole, &Remembered::default());
        for known in 0..=all.len() {
            let mut grown = [&whole[..known], &all[known..]].concat();
            number_new(&mut grown, known, &Remembered::default());
            assert_eq!(grown, whole);
        }
    }

    #[test]
    fn a_write_that_is_cut_short_leaves_what_there_was() {
        let mut mailbox = Mailbox::new();
        mailbox.session(&[(7, 1), (7, 2)]);
        let before = mailbox.copies.load_of(1);
        let file = mailbox.copies.file.try_clone().unwrap();
        for cut in 0..3 * ROW {
            mailbox.session(&[(7, 1), (7, 2), (7, 3)]);
            assert_eq!(mailbox.copies.load_of(1).numbers.len(), 3);
            let place = mailbox.copies.load_of(1).sequence % 2 * PLACE;
            file.write_all_at(&vec![0; 4 * ROW - cut], place + cut as u64)
                .unwrap();
            assert_eq!(mailbox.copies.load_of(1).numbers, before.numbers, "{cut}");
        }
    }

    #[test]
    fn mailboxes_without_equal_messages_have_nothing_to_remember() {
        let mut mailbox = Mailbox::new();
        mailbox.session(&[(1, 1), (2, 1), (3, 1)]);
        assert_eq!(mailbox.copies.file.metadata().unwrap().len(), 0);
    }
}
