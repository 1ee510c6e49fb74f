//! A record of the journal: what one of its two slots holds. A plain function between octets and a value, because the
//! octets may be anything: torn by a power cut, another mailbox's, or made up by whoever took a maildrop process over.

use sha2::{Digest, Sha256};

use super::plan::EXTENT_OCTETS;
use crate::MAX_MESSAGES;

/// Octets of a slot: a block, so that a torn write spoils no other record.
pub(super) const SLOT: usize = 4096;

/// Octets of a place at most; the mailbox of a longer one is recovered when it is opened next, and not at start-up.
pub(super) const MAX_PLACE: usize = 3 * 1024;

/// Octets of a batch, and so of a data area, at most: this much memory, twice as much disk space. Of 4, 8 and 16 MiB this
/// is the fastest: less means more syncs, more keeps the disk waiting for the first octet.
pub(super) const MAX_AREA: u64 = 8 * 1024 * 1024;

/// Octets of a plan at most: each message kept, and the mail that came later.
pub(super) const MAX_PLAN: u64 = (MAX_MESSAGES as u64 + 1) * EXTENT_OCTETS;

/// Tells a record from anything else, an empty slot before all, and this version from others.
const MAGIC: &[u8; 8] = b"p3dJrnl1";

/// Octets of the checksum that a slot begins with.
const SUM: usize = 32;

const IDLE: u8 = 1;
const MOVE: u8 = 2;
const FINAL: u8 = 3;

/// What a slot holds. Of two, that with the higher sequence number counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Record {
    /// Counts records; its lowest bit says in which slot and data area they are.
    pub(super) sequence: u64,
    pub(super) state: State,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// Nothing.
    Idle,
    /// The batch belongs at its place in the mailbox, and what is behind it after it.
    Move(Job, Batch),
    /// All is in its place; the mailbox is to be cut.
    Final(Job),
}

/// An update of a mailbox. What it keeps from the first deleted octet on is a stream: stream octet p belongs at
/// `target` + p.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Job {
    /// Key of the sums over mail. Chosen anew each time, so that nobody can send mail made for it.
    pub(super) key: u64,
    /// Offset of the first deleted octet.
    pub(super) target: u64,
    /// Octets of the mailbox when the update began.
    pub(super) size: u64,
    /// Octets of the stream.
    pub(super) total: u64,
    /// Sum over the stream.
    pub(super) sum: u128,
    /// Octets of the plan.
    pub(super) plan_octets: u64,
    /// SHA-256 of the plan.
    pub(super) plan_sum: [u8; SUM],
    /// Octets of each data area; 0 if no batch needs one.
    pub(super) area: u64,
    /// Which mailbox it is, for whoever finds the journal; see `Expanded`.
    pub(super) place: Vec<u8>,
}

/// A part of the stream that is moved at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Batch {
    /// Where it begins in the stream.
    pub(super) position: u64,
    pub(super) length: u64,
    /// Its octets are in the data area, because in the mailbox they overlap the place where they belong.
    pub(super) copied: bool,
    /// Sum over its octets.
    pub(super) sum: u128,
}

impl Job {
    /// Octets of the mailbox when the update is done. Checked when the record was parsed or made.
    pub(super) fn new_size(&self) -> u64 {
        self.target.saturating_add(self.total)
    }

    fn is_sound(&self) -> bool {
        let new_size = self.target.checked_add(self.total);
        new_size.is_some_and(|new_size| new_size < self.size)
            && self.plan_octets <= MAX_PLAN
            && self.plan_octets.is_multiple_of(EXTENT_OCTETS)
            && self.area <= MAX_AREA
            && self.place.len() <= MAX_PLACE
    }
}

impl Batch {
    fn is_sound(&self, job: &Job) -> bool {
        let end = self.position.checked_add(self.length);
        self.length > 0
            && end.is_some_and(|end| end <= job.total)
            && !(self.copied && self.length > job.area)
    }
}

impl Record {
    /// The slot's octets.
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut slot = Vec::with_capacity(SLOT);
        slot.extend_from_slice(&[0; SUM]);
        slot.extend_from_slice(MAGIC);
        slot.extend_from_slice(&self.sequence.to_le_bytes());
        match &self.state {
            State::Idle => slot.push(IDLE),
            State::Move(job, batch) => {
                slot.push(MOVE);
                for number in [batch.position, batch.length] {
                    slot.extend_from_slice(&number.to_le_bytes());
                }
                slot.push(u8::from(batch.copied));
                slot.extend_from_slice(&batch.sum.to_le_bytes());
                job.encode(&mut slot);
            }
            State::Final(job) => {
                slot.push(FINAL);
                job.encode(&mut slot);
            }
        }
        slot.resize(SLOT, 0);
        let sum = Sha256::digest(slot.get(SUM..).unwrap_or_default());
        if let Some(place) = slot.first_chunk_mut() {
            *place = <[u8; SUM]>::from(sum);
        }
        slot
    }

    /// The record of a slot; `None` if there is none, or not all of it.
    pub(super) fn parse(slot: &[u8]) -> Option<Self> {
        let (sum, rest) = slot.split_first_chunk::<SUM>()?;
        let mut octets = Octets(rest);
        if slot.len() != SLOT || octets.take()? != *MAGIC {
            return None;
        }
        if <[u8; SUM]>::from(Sha256::digest(rest)) != *sum {
            return None;
        }
        // There is always a next one.
        let sequence = octets.number().filter(|&number| number < u64::MAX)?;
        let state = match octets.octet()? {
            IDLE => State::Idle,
            MOVE => {
                let batch = Batch {
                    position: octets.number()?,
                    length: octets.number()?,
                    copied: octets.octet()? == 1,
                    sum: u128::from_le_bytes(octets.take()?),
                };
                let job = Job::parse(&mut octets)?;
                batch.is_sound(&job).then_some(State::Move(job, batch))?
            }
            FINAL => State::Final(Job::parse(&mut octets)?),
            _ => return None,
        };
        Some(Record { sequence, state })
    }
}

impl Job {
    fn encode(&self, slot: &mut Vec<u8>) {
        for number in [self.key, self.target, self.size, self.total] {
            slot.extend_from_slice(&number.to_le_bytes());
        }
        slot.extend_from_slice(&self.sum.to_le_bytes());
        slot.extend_from_slice(&self.plan_octets.to_le_bytes());
        slot.extend_from_slice(&self.plan_sum);
        slot.extend_from_slice(&self.area.to_le_bytes());
        slot.extend_from_slice(&(self.place.len() as u64).to_le_bytes());
        slot.extend_from_slice(&self.place);
    }

    fn parse(octets: &mut Octets<'_>) -> Option<Self> {
        let job = Job {
            key: octets.number()?,
            target: octets.number()?,
            size: octets.number()?,
            total: octets.number()?,
            sum: u128::from_le_bytes(octets.take()?),
            plan_octets: octets.number()?,
            plan_sum: octets.take()?,
            area: octets.number()?,
            place: {
                let length = usize::try_from(octets.number()?).ok()?;
                octets.0.get(..length)?.to_vec()
            },
        };
        job.is_sound().then_some(job)
    }
}

/// Octets not parsed yet.
struct Octets<'a>(&'a [u8]);

impl Octets<'_> {
    fn take<const LENGTH: usize>(&mut self) -> Option<[u8; LENGTH]> {
        let (taken, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*taken)
    }

    fn octet(&mut self) -> Option<u8> {
        self.take().map(|[octet]| octet)
    }

    fn number(&mut self) -> Option<u64> {
        self.take().map(u64::from_le_bytes)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::*;

    pub(crate) fn job() -> Job {
        Job {
            key: 7,
            target: 100,
            size: 1000,
            total: 600,
            sum: 1 << 100,
            plan_octets: 2 * EXTENT_OCTETS,
            plan_sum: [3; SUM],
            area: 4096,
            place: b"/var/mail\0alice".to_vec(),
        }
    }

    fn batch() -> Batch {
        Batch {
            position: 0,
            length: 600,
            copied: true,
            sum: 5,
        }
    }

    fn records() -> [Record; 3] {
        [
            State::Idle,
            State::Move(job(), batch()),
            State::Final(job()),
        ]
        .map(|state| Record {
            sequence: 41,
            state,
        })
    }

    #[test]
    fn a_record_is_what_was_written() {
        for record in records() {
            let slot = record.encode();
            assert_eq!(slot.len(), SLOT);
            assert_eq!(Record::parse(&slot), Some(record));
        }
    }

    #[test]
    fn an_empty_slot_holds_no_record() {
        assert_eq!(Record::parse(&[0; SLOT]), None);
        assert_eq!(Record::parse(&[]), None);
        assert_eq!(Record::parse(&[0xFF; SLOT]), None);
    }

    #[test]
    fn a_slot_written_in_part_holds_no_record() {
        for old in [vec![0; SLOT], records()[0].encode()] {
            let new = records()[1].encode();
            for at in (1..SLOT).step_by(61).filter(|&at| new[at..] != old[at..]) {
                let torn = [&new[..at], &old[at..]].concat();
                assert_eq!(Record::parse(&torn), None, "torn at {at}");
            }
            assert_eq!(Record::parse(&new[..SLOT - 1]), None);
        }
    }

    #[test]
    fn numbers_that_do_not_fit_together_are_no_record() {
        let jobs: [fn(&mut Job); 7] = [
            |job| job.size = 700,
            |job| job.target = u64::MAX,
            |job| job.total = u64::MAX - 1,
            |job| job.plan_octets = 17,
            |job| job.plan_octets = MAX_PLAN + EXTENT_OCTETS,
            |job| job.area = MAX_AREA + 1,
            |job| job.place = vec![b'x'; MAX_PLACE + 1],
        ];
        for change in jobs {
            let mut job = job();
            change(&mut job);
            let state = State::Final(job);
            let record = Record { sequence: 1, state };
            let mut slot = record.encode();
            slot.truncate(SLOT);
            assert_eq!(Record::parse(&slot), None, "{record:?}");
        }
        let batches: [fn(&mut Batch); 4] = [
            |batch| batch.length = 0,
            |batch| batch.position = 1,
            |batch| (batch.position, batch.length) = (u64::MAX, 2),
            |batch| batch.length = 601,
        ];
        for change in batches {
            let mut batch = batch();
            change(&mut batch);
            let state = State::Move(job(), batch);
            let record = Record { sequence: 1, state };
            assert_eq!(Record::parse(&record.encode()), None, "{record:?}");
        }
    }

    proptest! {
        #[test]
        fn whatever_follows_the_sum_is_parsed_without_harm(octets in proptest::collection::vec(any::<u8>(), SLOT - SUM - 8)) {
            let rest = [&MAGIC[..], &octets].concat();
            let slot = [&Sha256::digest(&rest)[..], &rest].concat();
            if let Some(record) = Record::parse(&slot) {
                prop_assert_eq!(Record::parse(&record.encode()), Some(record));
            }
        }
    }
}
