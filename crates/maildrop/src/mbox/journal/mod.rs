//! The journal, by which an UPDATE of an mbox survives a kill, a full disk, an I/O error or a power cut at any instant:
//! afterwards each message is there once and whole, or was to be deleted and is not.
//!
//! Runs in the maildrop process, and in the recovery process that takes a dead one's place; both are the mailbox owner's.
//! It trusts neither the journal, which any process of that user may have written, nor the mailbox.
//!
//! The mailbox is changed in place: it keeps its inode, for programs that wait for its lock with the file open. What is
//! kept behind the first deleted message is a stream of octets that is moved down batch by batch:
//!
//! | step | does | so that afterwards |
//! |---|---|---|
//! | begin | sums up the stream, takes disk space, writes the plan | a full disk stops nothing halfway |
//! | Move | writes the batch, where source and target overlap, and the record; syncs the journal | the batch can be done again |
//! | apply | writes the batch at its place; syncs the mailbox | no later record is true too early |
//! | close | writes NULs behind the last octet moved, but not where a batch without a copy comes from; syncs the mailbox | mail begins with `From `: a NUL there says "not cut yet" |
//! | Final | writes the record; syncs | |
//! | cut | truncates the mailbox, which kept its size so far; syncs | mail that others append lies behind the old end until now |
//! | Idle | wipes the journal, writes the record; syncs | no stale plan meets a changed mailbox |
//!
//! Where nothing is kept behind the first deleted message, there is nothing to move; the other steps are the same, but where
//! nothing at all is kept: then the file is emptied, which takes no journal.
//!
//! Only then is the lock given up and QUIT answered. The file: two slots of 4 KiB, of which the one with the newer whole
//! record counts; the plan; two data areas, used in turn as the slots are. 64 KiB of it stay allocated, so that mail can be
//! deleted where the disk is full, and hold nothing but NULs behind the slots while there is nothing to do.
//!
//! - `slot.rs`: a record as octets. `plan.rs`: what is kept, as a stream. `sum.rs`: the sum over it.
//! - `carry.rs`: the steps of the table. `replay.rs`: what is done about a journal that is not idle.
//! - `keeper.rs`: who looks after the journal of a process that dies.

mod carry;
#[cfg(feature = "fuzz")]
pub(crate) mod fuzz;
mod keeper;
mod plan;
mod replay;
mod slot;
mod sum;

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;

use super::scan::{BLOCK, read_at};
use crate::lock::{Held, LockError, Locks};
use crate::{Expanded, Problem};
pub use keeper::Keeper;
use plan::{Plan, Stream};
use slot::{Batch, Job, MAX_AREA, MAX_PLACE, Record, SLOT, State};

/// Octets of a journal that are allocated when its mailbox is opened first, and stay so.
pub const KEPT_OCTETS: u64 = 64 * 1024;

/// Where the plan begins.
const PLAN: u64 = 2 * SLOT as u64;

/// Data areas begin at a multiple of this: a block.
const BLOCK_OF_DISK: u64 = 4096;

/// The journal of one mailbox, open.
pub struct Journal {
    file: File,
    keeper: Box<dyn Keeper>,
    /// Which mailbox it is, as octets for the record.
    place: Vec<u8>,
    /// Octets moved at once.
    batch: u64,
    /// The number of the newest record.
    sequence: u64,
    /// A record of this process's has been begun: what is in the file may count from now on.
    recorded: bool,
}

/// Locks `mailbox` and finishes an update that an earlier process has left unfinished in it.
///
/// Where that fails the locks stay, for the process that will try it next.
pub(crate) fn recover<'a>(
    mailbox: &'a File,
    locks: &'a Locks,
    journal: Option<&mut Journal>,
    after_failure: bool,
) -> Result<Held<'a>, Problem> {
    let held = locks
        .acquire(mailbox.as_fd())
        .map_err(|error| match error {
            LockError::Busy => Problem::Busy,
            LockError::Io(error) => Problem::Io("lock it", error),
        })?;
    let recovered = journal.map_or(Ok(()), |journal| {
        journal.recover(&held, mailbox, after_failure)
    });
    match recovered {
        Ok(()) => Ok(held),
        Err(trouble) => {
            held.abandon();
            Err(Problem::Io(trouble.doing, trouble.error))
        }
    }
}

/// What the system refused, and what was being done.
#[derive(Debug)]
pub(crate) struct Trouble {
    pub(crate) doing: &'static str,
    pub(crate) error: io::Error,
}

/// Why an update was not done.
#[derive(Debug)]
pub(crate) enum Failure {
    /// Nothing has been changed.
    NotBegun(Trouble),
    /// It will be finished from the journal. Until then the mailbox must stay locked.
    Halfway(Trouble),
}

impl Journal {
    /// The journal of the mbox at `location`, in `file`, which may be empty, is open for reading and writing, and is used
    /// by nobody else while the mailbox is locked.
    pub fn new(file: File, location: &Expanded, keeper: Box<dyn Keeper>) -> Self {
        let mut place = location.to_place();
        if place.len() > MAX_PLACE {
            place.clear();
        }
        Journal {
            file,
            keeper,
            place,
            batch: MAX_AREA,
            sequence: 0,
            recorded: false,
        }
    }

    /// The same, moving at most so many octets at once. For tests; nothing but speed depends on it.
    #[must_use]
    pub fn with_batch(self, octets: u64) -> Self {
        let batch = octets.clamp(1, MAX_AREA);
        Journal { batch, ..self }
    }

    /// The mailbox in which, as a journal says, an update was left unfinished; `None` where it says nothing of the kind.
    ///
    /// The journal is some user's, and the location to be looked at as that user.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn unfinished(file: &File) -> io::Result<Option<Expanded>> {
        let mut slots = [0; 2 * SLOT];
        replay::read_slots(file, &mut slots)?;
        let newest = replay::newest(&slots).into_iter().next();
        Ok(newest.and_then(|record| match record.state {
            State::Idle => None,
            State::Move(job, _) | State::Final(job) => Expanded::from_place(&job.place),
        }))
    }

    /// Writes a record where it does not count yet, unless all before it is durable.
    fn write(&self, record: &Record) -> io::Result<()> {
        let at = slot_at(record.sequence);
        self.file.write_all_at(&record.encode(), at)
    }

    /// Makes `state` the newest record, durably, and with it all that has been written to the journal before.
    fn record(&mut self, state: State) -> Result<(), Trouble> {
        let sequence = self.next_sequence();
        self.recorded = true;
        self.write(&Record { sequence, state })
            .doing("write the journal")?;
        self.file.sync_data().doing("sync the journal")?;
        self.sequence = sequence;
        Ok(())
    }

    fn next_sequence(&self) -> u64 {
        self.sequence.saturating_add(1)
    }

    /// Leaves nothing but NULs behind the slots.
    fn wipe(&self) -> io::Result<()> {
        let length = self.file.metadata()?.len();
        if length > KEPT_OCTETS {
            self.file.set_len(KEPT_OCTETS)?;
        }
        let used = length.min(KEPT_OCTETS).saturating_sub(PLAN);
        let nuls = vec![0; usize::try_from(used).unwrap_or(0)];
        self.file.write_all_at(&nuls, PLAN)
    }
}

impl std::fmt::Debug for Journal {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "Journal({:?}, {})", self.file, self.sequence)
    }
}

/// Adds to an error what was being done.
trait Doing<T> {
    fn doing(self, doing: &'static str) -> Result<T, Trouble>;
}

impl<T> Doing<T> for io::Result<T> {
    fn doing(self, doing: &'static str) -> Result<T, Trouble> {
        self.map_err(|error| Trouble { doing, error })
    }
}

fn slot_at(sequence: u64) -> u64 {
    (sequence & 1).saturating_mul(SLOT as u64)
}

/// Where the data areas begin.
fn data_at(plan_octets: u64) -> u64 {
    PLAN.saturating_add(plan_octets)
        .next_multiple_of(BLOCK_OF_DISK)
}

/// Where the data of a batch is, if it has any.
fn area_at(job: &Job, sequence: u64) -> u64 {
    let second = (sequence & 1).saturating_mul(job.area);
    data_at(job.plan_octets).saturating_add(second)
}

/// Hands the octets of `range`, block by block, to `sink`.
fn read_range(
    held: &Held<'_>,
    file: &File,
    range: Range<u64>,
    buffer: &mut [u8],
    mut sink: impl FnMut(&[u8]) -> Result<(), Trouble>,
) -> Result<(), Trouble> {
    let mut at = range.start;
    while at < range.end {
        held.refresh();
        let left = usize::try_from(range.end.saturating_sub(at)).unwrap_or(usize::MAX);
        let length = buffer.len().min(left);
        let room = buffer.get_mut(..length).unwrap_or_default();
        let read = read_at(file, room, at).doing("read mail")?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into()).doing("read mail");
        }
        sink(room.get(..read).unwrap_or_default())?;
        at = at.saturating_add(read as u64);
    }
    Ok(())
}

/// Hands the octets of the stream up to `limit` to `sink`, as they are in the mailbox, and leaves the stream there. As
/// many at once as the buffer holds: a mailbox may be full of short messages.
fn read_stream(
    held: &Held<'_>,
    mailbox: &File,
    stream: &mut Stream<'_>,
    limit: u64,
    buffer: &mut [u8],
    mut sink: impl FnMut(&[u8]) -> Result<(), Trouble>,
) -> Result<(), Trouble> {
    while stream.position() < limit {
        held.refresh();
        let mut filled = 0;
        while let Some(room) = buffer.get_mut(filled..).filter(|room| !room.is_empty()) {
            let end = stream.position().saturating_add(room.len() as u64);
            let Some(piece) = stream.take(end.min(limit)) else {
                break;
            };
            let length = usize::try_from(piece.end.saturating_sub(piece.start)).unwrap_or(0);
            let room = room.get_mut(..length).unwrap_or_default();
            mailbox
                .read_exact_at(room, piece.start)
                .doing("read mail")?;
            filled = filled.saturating_add(length);
        }
        if filled == 0 {
            break;
        }
        sink(buffer.get(..filled).unwrap_or_default())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
