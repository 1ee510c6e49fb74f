//! Messages that are out of sight of POP and still there, by their unique-ids, each with a time: which were deleted and are kept
//! for a while, and when that was; or which were retrieved.
//!
//! This is no cache: it is written, durably, before QUIT is answered, in one of two places in turn, so that a write that is
//! cut short leaves what there was. A file that is lost or damaged names no message: those show again, and none is removed.
//! What writes it is the mailbox owner's process, so whoever forges one hides or removes mail that is his own.
//!
//! ```text
//! header  6 words    magic, sequence, entries, 0, 0, sum of everything
//! entry   12 words   seconds since 1970, octets of the id, the id filled up with NULs
//! ```

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use crate::index::checksum::{Checksum, ROW, Row, octets, words};
use crate::{MAX_MESSAGES, UniqueId};

/// Octets of each place; the file has holes.
const PLACE: u64 = 256 * 1024 * 1024;

/// Octets of an entry: two rows, since an id does not fit into one.
const ENTRY: usize = 2 * ROW;

/// Octets of an entry that are its id.
const ID: usize = ENTRY - 2 * size_of::<u64>();
const _: () = assert!(UniqueId::MAX_OCTETS <= ID);
const _: () = assert!(ROW as u64 + MAX_MESSAGES as u64 * ENTRY as u64 <= PLACE);

/// What a place begins with.
const MAGIC: u64 = u64::from_le_bytes(*b"popa3ddl");

/// Messages of one maildrop, and the file they are remembered in.
#[derive(Debug)]
pub struct DatedIds {
    file: File,
    /// Of the place written last.
    sequence: u64,
    ids: BTreeMap<UniqueId, u64>,
}

impl DatedIds {
    /// Reads a file, which is the caller's to keep others from: whoever has the session lock of the maildrop. One that holds
    /// something else is as an empty one.
    pub fn read(file: File) -> Self {
        let [one, other] = [0, 1].map(|place| read(&file, place));
        let (sequence, ids) = match (one, other) {
            (Some(one), Some(other)) if other.0 > one.0 => other,
            (Some(one), _) => one,
            (None, Some(other)) => other,
            (None, None) => Default::default(),
        };
        DatedIds {
            file,
            sequence,
            ids,
        }
    }

    /// Each message's unique-id and its time, in seconds since 1970.
    pub fn ids(&self) -> &BTreeMap<UniqueId, u64> {
        &self.ids
    }

    /// Remembers others in their stead: those or these are remembered at any time, and these for good on return.
    ///
    /// # Errors
    /// What the system says; those are remembered as before.
    pub fn replace(&mut self, ids: BTreeMap<UniqueId, u64>) -> io::Result<()> {
        if ids == self.ids {
            return Ok(());
        }
        if ids.len() > MAX_MESSAGES as usize {
            return Err(io::Error::other("too many messages"));
        }
        let sequence = self.sequence.saturating_add(1);
        let mut sum = Checksum::new();
        let mut header = [MAGIC, sequence, ids.len() as u64, 0, 0, 0];
        sum.add(&header);
        let mut rows = Vec::with_capacity(ids.len().saturating_mul(ENTRY));
        for (id, &time) in &ids {
            for row in to_rows(id, time) {
                sum.add(&row);
                rows.extend_from_slice(&octets(&row));
            }
        }
        header[5] = sum.fold();
        // Behind the old ones, so that what is there is never both.
        let start = (sequence % 2).saturating_mul(PLACE);
        self.file
            .write_all_at(&rows, start.saturating_add(ROW as u64))?;
        self.file.write_all_at(&octets(&header), start)?;
        self.file.sync_data()?;
        (self.sequence, self.ids) = (sequence, ids);
        Ok(())
    }
}

fn read(file: &File, place: u64) -> Option<(u64, BTreeMap<UniqueId, u64>)> {
    let start = place.checked_mul(PLACE)?;
    let mut header = [0; ROW];
    file.read_exact_at(&mut header, start).ok()?;
    let [magic, sequence, count, 0, 0, found] = words(&header) else {
        return None;
    };
    let count = u32::try_from(count).ok().filter(|&n| n <= MAX_MESSAGES)?;
    let length = (count as usize).checked_mul(ENTRY)?;
    let start = start.checked_add(ROW as u64)?;
    let end = start.checked_add(length as u64)?;
    // No memory for entries that are not there.
    if magic != MAGIC || sequence % 2 != place || file.metadata().ok()?.len() < end {
        return None;
    }
    let mut rows = vec![0; length];
    file.read_exact_at(&mut rows, start).ok()?;
    let mut sum = Checksum::new();
    sum.add(&[magic, sequence, u64::from(count), 0, 0, 0]);
    let mut ids = BTreeMap::new();
    for entry in rows.as_chunks::<ENTRY>().0 {
        for row in entry.as_chunks::<ROW>().0 {
            sum.add(&words(row));
        }
        let (id, time) = from_entry(entry)?;
        ids.insert(id, time);
    }
    (sum.fold() == found).then_some((sequence, ids))
}

fn to_rows(id: &UniqueId, time: u64) -> [Row; 2] {
    let mut entry = [0; ENTRY];
    let (numbers, rest) = entry.split_at_mut(ENTRY.saturating_sub(ID));
    let id = id.as_bytes();
    let from = time.to_le_bytes().into_iter();
    let from = from.chain((id.len() as u64).to_le_bytes());
    numbers
        .iter_mut()
        .zip(from)
        .for_each(|(to, octet)| *to = octet);
    rest.iter_mut().zip(id).for_each(|(to, octet)| *to = *octet);
    let mut rows = [[0; 6]; 2];
    for (row, from) in rows.iter_mut().zip(entry.as_chunks::<ROW>().0) {
        *row = words(from);
    }
    rows
}

fn from_entry(entry: &[u8; ENTRY]) -> Option<(UniqueId, u64)> {
    let (time, rest) = entry.split_first_chunk()?;
    let (length, rest) = rest.split_first_chunk()?;
    let length = usize::try_from(u64::from_le_bytes(*length)).ok()?;
    Some((
        UniqueId::new(rest.get(..length)?)?,
        u64::from_le_bytes(*time),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(text: &str) -> UniqueId {
        UniqueId::new(text.as_bytes()).unwrap()
    }

    fn some(number: u64) -> BTreeMap<UniqueId, u64> {
        let entry = |n: u64| (id(&format!("{n}{}", "x".repeat(n as usize % 65))), n << 30);
        (0..number).map(entry).collect()
    }

    fn again(file: &File) -> BTreeMap<UniqueId, u64> {
        DatedIds::read(file.try_clone().unwrap()).ids
    }

    #[test]
    fn what_is_written_is_read_whichever_came_before() {
        let file = tempfile::tempfile().unwrap();
        let mut list = DatedIds::read(file.try_clone().unwrap());
        for number in [1, 100, 2, 0, 70, 70, 3] {
            list.replace(some(number)).unwrap();
            assert_eq!(again(&file), some(number));
        }
    }

    #[test]
    fn a_write_that_is_cut_short_or_damaged_leaves_what_there_was() {
        let file = tempfile::tempfile().unwrap();
        let mut list = DatedIds::read(file.try_clone().unwrap());
        list.replace(some(2)).unwrap();
        list.replace(some(3)).unwrap();
        for at in 0..(ROW + 3 * ENTRY) as u64 {
            let mut octet = [0];
            file.read_exact_at(&mut octet, at).unwrap();
            file.write_all_at(&[octet[0] ^ 0x10], at).unwrap();
            assert_eq!(again(&file), some(2), "octet {at}");
            file.write_all_at(&octet, at).unwrap();
        }
        assert_eq!(again(&file), some(3));
    }

    #[test]
    fn a_damaged_file_of_any_length_names_nothing() {
        let file = tempfile::tempfile().unwrap();
        let mut list = DatedIds::read(file.try_clone().unwrap());
        list.replace(some(2)).unwrap();
        let length = file.metadata().unwrap().len();
        for length in [0, 1, PLACE, PLACE + 47, PLACE + 48, length - 1] {
            file.set_len(length).unwrap();
            assert_eq!(again(&file), BTreeMap::new(), "{length}");
        }
        let header = [MAGIC, 2, u64::from(MAX_MESSAGES), 0, 0, 0];
        file.write_all_at(&octets(&header), 0).unwrap();
        assert_eq!(again(&file), BTreeMap::new());
    }
}
