//! The steps of an update, in their order.

use std::fs::File;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io;
use std::num::NonZero;
use std::ops::Range;
use std::os::fd::AsFd;
use std::os::unix::fs::{FileExt, MetadataExt};

use page_buffer::PageBuffer;
use rustix::fs::{Advice, FallocateFlags, fadvise, fallocate};
use rustix::io::Errno;
use sha2::{Digest, Sha256};

use super::sum::Sum;
use super::{
    BLOCK, BLOCK_OF_DISK, Batch, Doing, Failure, Held, Job, Journal, KEPT_OCTETS, PLAN, Plan,
    State, Stream, Trouble, area_at, data_at, read_stream,
};

/// The share of a data area from which on a gap between source and target is used as it is, without a copy in the
/// journal: two syncs of the disk then take no longer than writing everything twice.
const WORTHWHILE_SHARE: u64 = 16;

/// Octets that are written before the disk is told to begin with them. In larger pieces it waits for this process, which then waits
/// for the disk; in smaller ones it takes longer for the same.
const PIECE: usize = 2 * 1024 * 1024;

/// What stat(2) counts allocated space in.
const OCTETS_OF_STAT: u64 = 512;

/// NULs that say that the mailbox has not been cut yet: more than one, in case that somebody's mail begins with one.
const MARK: u64 = 16;

/// A gap from which on the source of the last batch can be kept clear of that mark by making the batch shorter.
const CLEAR_OF_MARK: u64 = 2 * MARK;

/// How the cut ended.
enum Cut {
    /// The mailbox ends where it should, or others have put mail there since.
    Done,
    /// Mail has come behind the old end meanwhile, and has to be moved first.
    Later(Range<u64>),
}

impl Journal {
    /// Removes from `mailbox`, of `size` octets, all from `target` on but the extents `kept`, durably.
    pub(crate) fn carry_out(
        &mut self,
        held: &Held<'_>,
        mailbox: &File,
        target: u64,
        kept: Vec<Range<u64>>,
        size: u64,
    ) -> Result<(), Failure> {
        self.recorded = false;
        self.keeper
            .updating(mailbox.as_fd())
            .doing("have it looked after")
            .map_err(Failure::NotBegun)?;
        let done = self
            .begin(held, mailbox, target, kept, size)
            .and_then(|(job, plan)| self.go_on(held, mailbox, job, &plan, 0));
        match done {
            Ok(()) => {
                self.keeper.settled();
                Ok(())
            }
            Err(trouble) if self.recorded => Err(Failure::Halfway(trouble)),
            Err(trouble) => {
                // Of no account, and wiped again when the mailbox is opened.
                let _ = self.wipe();
                self.keeper.settled();
                Err(Failure::NotBegun(trouble))
            }
        }
    }

    /// Sums up the stream, takes the space on the disk that all later steps need, and writes the plan.
    pub(super) fn begin(
        &mut self,
        held: &Held<'_>,
        mailbox: &File,
        target: u64,
        kept: Vec<Range<u64>>,
        size: u64,
    ) -> Result<(Job, Plan), Trouble> {
        let plan = Plan::new(kept, target, size)
            .ok_or(io::Error::from(io::ErrorKind::InvalidData))
            .doing("make a plan")?;
        let octets = plan.encode();
        let key = RandomState::new().build_hasher().finish();
        let mut job = Job {
            key,
            target,
            size,
            total: plan.total(),
            sum: 0,
            plan_octets: octets.len() as u64,
            plan_sum: Sha256::digest(&octets).into(),
            area: 0,
            place: self.place.clone(),
        };
        job.area = self
            .reserve(&job, &plan)
            .doing("take space for the journal")?;
        let (mut sum, mut buffer) = (Sum::new(key), PageBuffer::new(BLOCK));
        read_stream(
            held,
            mailbox,
            &mut plan.stream(),
            job.total,
            &mut buffer,
            |block| {
                sum.feed(block);
                Ok(())
            },
        )?;
        job.sum = sum.finish();
        self.file
            .write_all_at(&octets, PLAN)
            .doing("write the journal")?;
        Ok((job, plan))
    }

    /// Takes space for the plan and, where batches will have to be copied, for data areas as large as can be had.
    /// Returns the octets of one.
    ///
    /// Without any, batches are no longer than the gap between their source and their target.
    fn reserve(&self, job: &Job, plan: &Plan) -> io::Result<u64> {
        let base = data_at(job.plan_octets);
        let wanted = self.batch.min(job.total).next_multiple_of(BLOCK_OF_DISK);
        let with_area = Job {
            area: wanted,
            ..job.clone()
        };
        let gap = plan.gap(job.target);
        // One of the batches will have to be copied: the gap grows, but need not.
        let is_needed = 0 < gap && gap < CLEAR_OF_MARK;
        let mut area = match self.next_batch(&with_area, &plan.stream()) {
            Some(batch) if batch.copied || is_needed => wanted,
            _ => 0,
        };
        loop {
            let whole = base.saturating_add(area.saturating_mul(2));
            let taken = take_space(&self.file, whole.max(KEPT_OCTETS));
            match taken {
                Ok(()) => return Ok(area),
                Err(error) if area == 0 && is_needed => return Err(error),
                // The least there is. What has to be written later must not fail then.
                Err(_) if area == 0 => return take_space(&self.file, base).map(|()| 0),
                Err(_) => area = (area / 4).saturating_sub(area / 4 % BLOCK_OF_DISK),
            }
        }
    }

    /// From stream octet `position` on: moves the rest, and cuts.
    pub(super) fn go_on(
        &mut self,
        held: &Held<'_>,
        mailbox: &File,
        job: Job,
        plan: &Plan,
        position: u64,
    ) -> Result<(), Trouble> {
        self.move_from(held, mailbox, &job, plan.stream_from(position))?;
        self.close(mailbox, &job)?;
        self.finish(held, mailbox, job)
    }

    /// From the record Final on.
    pub(super) fn finish(
        &mut self,
        held: &Held<'_>,
        mailbox: &File,
        mut job: Job,
    ) -> Result<(), Trouble> {
        while let Cut::Later(extent) = self.cut(mailbox, &job)? {
            let (target, size) = (job.new_size(), extent.end);
            let (next, plan) = self.begin(held, mailbox, target, vec![extent], size)?;
            self.move_from(held, mailbox, &next, plan.stream())?;
            self.close(mailbox, &next)?;
            job = next;
        }
        self.wipe().doing("wipe the journal")?;
        self.record(State::Idle)
    }

    /// While the disk is still busy with one batch, the next is read and copied; only its record has to wait.
    pub(super) fn move_from(
        &mut self,
        held: &Held<'_>,
        mailbox: &File,
        job: &Job,
        mut stream: Stream<'_>,
    ) -> Result<(), Trouble> {
        let mut octets = PageBuffer::new(0);
        let mut moved = false;
        while let Some(mut batch) = self.next_batch(job, &stream) {
            let at = job.target.saturating_add(batch.position);
            let stays = stream.source() == Some(at);
            batch.sum = self.prepare(held, mailbox, job, &batch, &mut stream, &mut octets)?;
            if moved {
                mailbox.sync_data().doing("sync the mailbox")?;
            }
            self.record(State::Move(job.clone(), batch))?;
            if !stays {
                write_soon(mailbox, &octets, at).doing("move mail")?;
            }
            moved = true;
        }
        // The last one is synced with the mark behind it.
        Ok(())
    }

    /// The batch at the head of the stream, its sum still to be made; `None` at the end.
    pub(super) fn next_batch(&self, job: &Job, stream: &Stream<'_>) -> Option<Batch> {
        let position = stream.position();
        let target = job.target.saturating_add(position);
        let gap = stream.source()?.saturating_sub(target);
        let left = job.total.saturating_sub(position);
        let worthwhile = (job.area / WORTHWHILE_SHARE).max(BLOCK_OF_DISK).min(left);
        let overlaps = job.area > 0 && 0 < gap && gap < worthwhile;
        let copied = (true, job.area.min(self.batch));
        let length = gap.min(self.batch).min(left);
        // The mark behind the last batch must not be where that comes from: until the record Final, a replay needs it.
        let is_marked = length == left && gap.saturating_sub(length) < MARK;
        let (copied, length) = match gap {
            // It stays where it is.
            0 => (false, self.batch),
            _ if overlaps => copied,
            _ if !is_marked => (false, length),
            // The rest is another one.
            CLEAR_OF_MARK.. => (false, length.min(gap.saturating_sub(MARK))),
            _ if job.area > 0 => copied,
            _ => (false, length),
        };
        Some(Batch {
            position,
            length: length.min(left),
            copied,
            sum: 0,
        })
    }

    /// Reads the batch, sums it up, and copies it if need be to the data area of the record to come.
    pub(super) fn prepare(
        &self,
        held: &Held<'_>,
        mailbox: &File,
        job: &Job,
        batch: &Batch,
        stream: &mut Stream<'_>,
        octets: &mut PageBuffer,
    ) -> Result<u128, Trouble> {
        octets.resize(usize::try_from(batch.length).unwrap_or(0));
        let mut at = area_at(job, self.next_sequence());
        let mut sum = Sum::new(job.key);
        for piece in octets.chunks_mut(PIECE) {
            let end = stream.position().saturating_add(piece.len() as u64);
            read_stream(held, mailbox, stream, end, piece, |octets| {
                sum.feed(octets);
                Ok(())
            })?;
            if batch.copied {
                write_soon(&self.file, piece, at).doing("write the journal")?;
            }
            at = at.saturating_add(piece.len() as u64);
        }
        Ok(sum.finish())
    }

    /// All is in its place: says so, in the mailbox and then in the journal.
    pub(super) fn close(&mut self, mailbox: &File, job: &Job) -> Result<(), Trouble> {
        self.mark(mailbox, job)?;
        mailbox.sync_data().doing("sync the mailbox")?;
        self.record(State::Final(job.clone()))
    }

    /// Says in the mailbox that it has not been cut yet.
    pub(super) fn mark(&self, mailbox: &File, job: &Job) -> Result<(), Trouble> {
        mailbox
            .write_all_at(&vec![0; mark_octets(job)], job.new_size())
            .doing("mark its new end")
    }

    /// Cuts the mailbox, unless that has been done before.
    fn cut(&self, mailbox: &File, job: &Job) -> Result<Cut, Trouble> {
        if is_uncut(mailbox, job)? {
            let size = mailbox.metadata().doing("examine it")?.len();
            if size > job.size {
                return Ok(Cut::Later(job.size..size));
            }
            mailbox.set_len(job.new_size()).doing("cut it")?;
        }
        // Also where the cut was made before: by a process that may not have lived to see it durable.
        mailbox.sync_all().doing("sync the mailbox")?;
        Ok(Cut::Done)
    }
}

/// Whether a mailbox that a record Final is about still has its old end. The NULs cannot be mail, which begins with
/// `From `; they can be what a file system shows of mail whose octets a power cut took, and of that nothing is left anyway.
///
/// A random mark in their place would not do: a truncation clears the rest of the last page, and that page may reach the
/// disk before the new size does.
pub(super) fn is_uncut(mailbox: &File, job: &Job) -> Result<bool, Trouble> {
    let size = mailbox.metadata().doing("examine it")?.len();
    if size < job.size {
        return Ok(false);
    }
    let mut mark = vec![0xFF; mark_octets(job)];
    match mailbox.read_exact_at(&mut mark, job.new_size()) {
        Ok(()) => Ok(mark.iter().all(|&octet| octet == 0)),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error).doing("read it"),
    }
}

/// Only over octets of the old mailbox, never over mail that came later.
fn mark_octets(job: &Job) -> usize {
    let room = job.size.saturating_sub(job.new_size());
    usize::try_from(room.min(MARK)).unwrap_or(0)
}

/// Writes, and has the disk begin with each piece at once, long before the sync that makes sure of it.
fn write_soon(file: &File, octets: &[u8], mut at: u64) -> io::Result<()> {
    for piece in octets.chunks(PIECE) {
        file.write_all_at(piece, at)?;
        let length = piece.len() as u64;
        // What is dirty is written, and what is clean may leave the cache. Where this does not work, the sync takes longer.
        let _ = fadvise(file, at, NonZero::new(length), Advice::DontNeed);
        at = at.saturating_add(length);
    }
    Ok(())
}

/// Makes the file at least `octets` long, all of them allocated.
pub(super) fn take_space(file: &File, octets: u64) -> io::Result<()> {
    let now = file.metadata()?;
    // XFS asks for room even where nothing is left to be allocated.
    if now.len() >= octets && now.blocks().saturating_mul(OCTETS_OF_STAT) >= octets {
        return Ok(());
    }
    loop {
        match fallocate(file, FallocateFlags::empty(), 0, octets) {
            Err(Errno::INTR) => {}
            // Not all file systems can; this one learns it by being written to.
            Err(Errno::OPNOTSUPP) => return write_nuls(file, octets),
            result => return Ok(result?),
        }
    }
}

fn write_nuls(file: &File, octets: u64) -> io::Result<()> {
    let nuls = PageBuffer::new(BLOCK);
    let mut at = file.metadata()?.len();
    while at < octets {
        let length = nuls
            .len()
            .min(usize::try_from(octets.saturating_sub(at)).unwrap_or(usize::MAX));
        file.write_all_at(nuls.get(..length).unwrap_or_default(), at)?;
        at = at.saturating_add(length as u64);
    }
    Ok(())
}
