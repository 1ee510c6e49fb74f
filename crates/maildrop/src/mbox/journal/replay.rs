//! What is done about a journal that is found not idle: the update is finished, if the mailbox still is what the journal is
//! about. Replaying a replay that was interrupted itself is no different.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;

use page_buffer::PageBuffer;

use super::carry::{is_uncut, take_space};
use super::sum::Sum;
use super::{
    BLOCK, Batch, Doing, Held, Job, Journal, KEPT_OCTETS, PLAN, Plan, Record, SLOT, State, Trouble,
    area_at, read_range, read_stream,
};

/// What a journal says.
enum Standing {
    /// Nothing is to be done; `partial` records, newer than the one that says so, are to be got rid of.
    Idle { partial: bool },
    /// This record is to be carried out; with the plan, if it takes one.
    Pending(Box<Record>, Option<Plan>),
    /// It cannot be made out.
    Damaged,
}

/// Whether the journal's update was finished.
enum Replayed {
    Finished,
    /// It is not about the mailbox as it is now; says why.
    Foreign(&'static str),
}

/// A record that may count.
enum Found {
    /// It does.
    Whole(Option<Plan>),
    /// Not all that belongs to it has reached the disk: nothing has been done on its word.
    Partial,
}

impl Journal {
    /// Finishes what an earlier process has left unfinished in `mailbox`, which is locked, or sets the journal aside.
    ///
    /// `after_failure`: the earlier process may have seen a sync fail. Then what the journal says need not be what is on
    /// the disk, and even "nothing to do" is written again.
    pub(crate) fn recover(
        &mut self,
        held: &Held<'_>,
        mailbox: &File,
        after_failure: bool,
    ) -> Result<(), Trouble> {
        // Every session does this much: with one small buffer, which costs next to no memory that was not in use before.
        let mut slots = [0; 2 * SLOT];
        let replayed = match self.standing(held, &mut slots)? {
            Standing::Idle { partial } => {
                return self.tidy(held, partial || after_failure, &mut slots);
            }
            Standing::Damaged => Replayed::Foreign("the journal is damaged"),
            Standing::Pending(record, plan) => {
                self.keeper
                    .updating(mailbox.as_fd())
                    .doing("have it looked after")?;
                self.replay(held, mailbox, &record, plan)?
            }
        };
        match replayed {
            Replayed::Finished => self.keeper.finished(),
            Replayed::Foreign(reason) => {
                self.file = self
                    .keeper
                    .set_aside(reason)
                    .doing("set the journal aside")?;
                self.sequence = 0;
            }
        }
        self.keeper.settled();
        Ok(())
    }

    /// Finds the newest record that counts. Reads the slots into `slots`.
    fn standing(
        &mut self,
        held: &Held<'_>,
        slots: &mut [u8; 2 * SLOT],
    ) -> Result<Standing, Trouble> {
        read_slots(&self.file, slots).doing("read the journal")?;
        // The very first record goes into the second slot. Until it is whole, the first is empty.
        let is_first = slots.iter().take(SLOT).all(|&octet| octet == 0);
        let mut before = is_first.then_some(0);
        let mut expected = None;
        let mut partial = false;
        for record in newest(slots) {
            if expected.is_some_and(|expected| expected != record.sequence) {
                break;
            }
            if let Found::Whole(plan) = self.find(held, &record)? {
                self.sequence = record.sequence;
                return Ok(match record.state {
                    State::Idle => Standing::Idle { partial },
                    _ => Standing::Pending(Box::new(record), plan),
                });
            }
            partial = true;
            before = before.filter(|_| record.sequence == 1);
            expected = record.sequence.checked_sub(1);
        }
        match before {
            Some(sequence) => {
                self.sequence = sequence;
                Ok(Standing::Idle { partial })
            }
            None => Ok(Standing::Damaged),
        }
    }

    /// Reads what belongs to a record.
    fn find(&self, held: &Held<'_>, record: &Record) -> Result<Found, Trouble> {
        let State::Move(job, batch) = &record.state else {
            return Ok(Found::Whole(None));
        };
        let mut octets = vec![0; usize::try_from(job.plan_octets).unwrap_or(0)];
        let read = read_at_most(&self.file, &mut octets, PLAN).doing("read the journal")?;
        let plan = Plan::parse(octets.get(..read).unwrap_or_default(), job);
        let whole = plan.is_some()
            && (!batch.copied || self.has_data(held, record.sequence, job, batch)?);
        Ok(match whole {
            true => Found::Whole(plan),
            false => Found::Partial,
        })
    }

    fn has_data(
        &self,
        held: &Held<'_>,
        sequence: u64,
        job: &Job,
        batch: &Batch,
    ) -> Result<bool, Trouble> {
        let start = area_at(job, sequence);
        let end = start.saturating_add(batch.length);
        if self.file.metadata().doing("examine the journal")?.len() < end {
            return Ok(false);
        }
        Ok(sum_of(held, &self.file, job.key, start..end)? == batch.sum)
    }

    fn replay(
        &mut self,
        held: &Held<'_>,
        mailbox: &File,
        record: &Record,
        plan: Option<Plan>,
    ) -> Result<Replayed, Trouble> {
        let sequence = record.sequence;
        match (&record.state, plan) {
            (State::Move(job, batch), Some(plan)) => {
                if mailbox.metadata().doing("examine it")?.len() < job.size {
                    return Ok(Replayed::Foreign("the mailbox is shorter than it was"));
                }
                if self.sum_up(held, mailbox, sequence, job, batch, &plan)? != job.sum {
                    return Ok(Replayed::Foreign("the mailbox has been changed"));
                }
                self.file
                    .write_all_at(&plan.encode(), PLAN)
                    .doing("write the journal")?;
                self.rewrite(held, record)?;
                self.apply(held, mailbox, sequence, job, batch, &plan)?;
                let end = batch.position.saturating_add(batch.length);
                self.go_on(held, mailbox, job.clone(), &plan, end)?;
            }
            (State::Final(job), _) => {
                let moved = job.target..job.new_size();
                if is_uncut(mailbox, job)? && sum_of(held, mailbox, job.key, moved)? != job.sum {
                    return Ok(Replayed::Foreign("the mailbox has been changed"));
                }
                self.rewrite(held, record)?;
                self.finish(held, mailbox, job.clone())?;
            }
            _ => {}
        }
        Ok(Replayed::Finished)
    }

    /// Sums up the stream from where its parts are now: moved, under way, not moved yet.
    fn sum_up(
        &self,
        held: &Held<'_>,
        mailbox: &File,
        sequence: u64,
        job: &Job,
        batch: &Batch,
        plan: &Plan,
    ) -> Result<u128, Trouble> {
        let (mut sum, mut buffer) = (Sum::new(job.key), PageBuffer::new(BLOCK));
        let mut feed = |block: &[u8]| {
            sum.feed(block);
            Ok(())
        };
        let moved = job.target..job.target.saturating_add(batch.position);
        read_range(held, mailbox, moved, &mut buffer, &mut feed)?;
        let mut stream = plan.stream_from(batch.position);
        if batch.copied {
            let start = area_at(job, sequence);
            let end = start.saturating_add(batch.length);
            read_range(held, &self.file, start..end, &mut buffer, &mut feed)?;
            stream = plan.stream_from(batch.position.saturating_add(batch.length));
        }
        read_stream(
            held,
            mailbox,
            &mut stream,
            job.total,
            &mut buffer,
            &mut feed,
        )?;
        Ok(sum.finish())
    }

    /// Writes the record and its data where they are already, and syncs. A sync that failed may have left octets in memory
    /// that are not on the disk and pass for written; nothing may be done on the word of those.
    fn rewrite(&mut self, held: &Held<'_>, record: &Record) -> Result<(), Trouble> {
        if let State::Move(job, batch) = &record.state
            && batch.copied
        {
            let mut at = area_at(job, record.sequence);
            let range = at..at.saturating_add(batch.length);
            read_range(
                held,
                &self.file,
                range,
                &mut PageBuffer::new(BLOCK),
                |block| {
                    self.file
                        .write_all_at(block, at)
                        .doing("write the journal")?;
                    at = at.saturating_add(block.len() as u64);
                    Ok(())
                },
            )?;
        }
        self.write(record).doing("write the journal")?;
        self.file.sync_data().doing("sync the journal")
    }

    /// Does the batch of the newest record, whatever of it has been done.
    fn apply(
        &self,
        held: &Held<'_>,
        mailbox: &File,
        sequence: u64,
        job: &Job,
        batch: &Batch,
        plan: &Plan,
    ) -> Result<(), Trouble> {
        let mut at = job.target.saturating_add(batch.position);
        let end = batch.position.saturating_add(batch.length);
        if plan.stream_from(batch.position).source() == Some(at) {
            return Ok(());
        }
        let mut buffer = PageBuffer::new(BLOCK);
        let put = |block: &[u8]| {
            mailbox.write_all_at(block, at).doing("move mail")?;
            at = at.saturating_add(block.len() as u64);
            Ok(())
        };
        match batch.copied {
            true => {
                let start = area_at(job, sequence);
                let range = start..start.saturating_add(batch.length);
                read_range(held, &self.file, range, &mut buffer, put)?;
            }
            false => {
                let mut stream = plan.stream_from(batch.position);
                read_stream(held, mailbox, &mut stream, end, &mut buffer, put)?;
            }
        }
        mailbox.sync_data().doing("sync the mailbox")
    }

    /// Nothing is to be done but to remove what an update has left that had not begun, and to say so again if need be.
    /// Reads into `buffer`.
    fn tidy(&mut self, held: &Held<'_>, say_again: bool, buffer: &mut [u8]) -> Result<(), Trouble> {
        let length = self.file.metadata().doing("examine the journal")?.len();
        let mut seen = 0;
        if length <= KEPT_OCTETS {
            read_range(held, &self.file, PLAN..length, buffer, |block| {
                // Not `all`, which stops at the first and so goes octet by octet.
                seen |= block.iter().fold(0, |seen, octet| seen | octet);
                Ok(())
            })?;
        }
        let is_clean = length <= KEPT_OCTETS && seen == 0;
        if !is_clean {
            self.wipe().doing("wipe the journal")?;
        }
        if !is_clean || say_again {
            self.record(State::Idle)?;
        }
        if length < KEPT_OCTETS {
            // For the day when the disk is full. If it is today, there is nothing to be done about it here.
            let _ = take_space(&self.file, KEPT_OCTETS);
        }
        Ok(())
    }
}

fn sum_of(
    held: &Held<'_>,
    file: &File,
    key: u64,
    range: std::ops::Range<u64>,
) -> Result<u128, Trouble> {
    let mut sum = Sum::new(key);
    read_range(held, file, range, &mut PageBuffer::new(BLOCK), |block| {
        sum.feed(block);
        Ok(())
    })?;
    Ok(sum.finish())
}

/// The slots of a journal; what lies behind its end is taken for NULs.
pub(super) fn read_slots(file: &File, slots: &mut [u8; 2 * SLOT]) -> io::Result<()> {
    let read = read_at_most(file, slots, 0)?;
    slots.iter_mut().skip(read).for_each(|octet| *octet = 0);
    Ok(())
}

/// The whole records of two slots, the newest first.
pub(super) fn newest(slots: &[u8; 2 * SLOT]) -> Vec<Record> {
    let (first, second) = slots.split_at(SLOT);
    let mut records: Vec<Record> = [(0, first), (1, second)]
        .into_iter()
        .filter_map(|(place, slot)| {
            Record::parse(slot).filter(|record| record.sequence & 1 == place)
        })
        .collect();
    records.sort_unstable_by_key(|record| std::cmp::Reverse(record.sequence));
    records
}

/// Reads until the buffer is full or the file ends, and returns how many octets that were.
fn read_at_most(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut filled = 0;
    while let Some(room) = buffer.get_mut(filled..).filter(|room| !room.is_empty()) {
        let at = offset.saturating_add(filled as u64);
        match file.read_at(room, at) {
            Ok(0) => break,
            Ok(read) => filled = filled.saturating_add(read),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}
