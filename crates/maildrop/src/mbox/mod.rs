//! mbox: all messages in one file, which delivery agents append to and mail readers rewrite.
//!
//! The file is locked while it is scanned, while it is looked at again because something changed it, and in UPDATE; in
//! between a slow client holds up nobody.

pub(crate) mod copies;
mod count;
mod date;
mod digest;
pub(crate) mod journal;
mod opening;
mod proof;
mod saved;
pub(crate) mod scan;
mod table;
mod update;

use std::fs::File;
use std::io;
use std::ops::ControlFlow;
use std::os::fd::AsFd;

use crate::index::{Index, Kind};
use crate::lock::{Held, LockError, Locks};
use crate::stamp::Stamp;
use crate::{CheckError, Drift, Limits, Maildrop, Memory, Problem};
use crate::{UniqueId, UpdateError, UpdateSummary};
use copies::Given;
use journal::Journal;
use opening::Reading;
use saved::Indexed;
pub(crate) use scan::FROM;
use scan::{BLOCK, ScanError, scan};
use table::Table;

/// An mbox as it was when the session began.
pub(crate) struct Mbox {
    file: File,
    locks: Locks,
    journal: Option<Journal>,
    table: Table,
    /// The file when its messages were last known to be those of the table.
    stamp: Stamp,
    /// Where the last message of the table ends, and mail that came later begins.
    end: u64,
    /// Octets at which it is not scanned again when it has changed.
    work_octets: u64,
    /// So many of the first messages are what the index says and have not been scanned in this session.
    unproven: u32,
    /// Of those, the ones that are known to be in their places while the file is as `stamp` says; empty: none yet.
    proven: Vec<bool>,
    memory: Memory,
    drift: Option<Drift>,
}

impl Mbox {
    /// Locks `file` and reads it through, as far as the index does not know it.
    pub(crate) fn scan(
        file: File,
        locks: Locks,
        limits: &Limits,
        mut journal: Option<Journal>,
        memory: Memory,
    ) -> Result<Self, Problem> {
        let held = journal::recover(&file, &locks, journal.as_mut(), false)?;
        let stamp = Stamp::of(&file).map_err(|error| Problem::Io("examine it", error))?;
        if stamp.size() > limits.octets {
            return Err(Problem::TooManyOctets {
                found: stamp.size(),
                limit: limits.octets,
            });
        }
        if !stamp.is_linked() {
            return Err(Problem::Changed);
        }
        let reading = Reading {
            file: &file,
            held: &held,
            stamp,
            limits,
            memory: &memory,
        };
        let mut read = reading.read()?;
        let settled = stamp.settle();
        drop(held);
        read.write(&memory, settled);
        Ok(Mbox {
            file,
            locks,
            journal,
            table: read.table,
            stamp,
            end: stamp.size(),
            work_octets: limits.work_octets,
            unproven: read.unproven,
            proven: Vec::new(),
            drift: read.drift,
            memory,
        })
    }

    /// Looks at a file that has changed, or may have: whether its first messages are still those of the table. Returns
    /// its stamp, and where mail that came later begins.
    ///
    /// Everything is scanned again, because a program that rewrote the mailbox may have left it longer than it was.
    fn verify(&self, held: &Held<'_>) -> Result<(Stamp, u64), CheckError> {
        let stamp = self.look()?;
        if stamp == self.stamp {
            return Ok((stamp, self.end));
        }
        if !stamp.is_linked() || stamp.size() < self.end {
            return Err(CheckError::Changed);
        }
        if stamp.size() > self.work_octets {
            return Err(CheckError::TooManyOctets {
                found: stamp.size(),
                limit: self.work_octets,
            });
        }
        let mut index = 0;
        let mut end = stamp.size();
        let mut same = true;
        scan(&self.file, 0..stamp.size(), BLOCK, |message| {
            held.refresh();
            match self.table.get(index) {
                Some(known) if known.is_same(&message) => {
                    index = index.saturating_add(1);
                    return ControlFlow::Continue(());
                }
                Some(_) => same = false,
                None => end = message.from,
            }
            ControlFlow::Break(())
        })
        .map_err(|error| match error {
            ScanError::NotMbox | ScanError::CutShort => CheckError::Changed,
            ScanError::Io(error) => CheckError::Io("read it", error),
        })?;
        if !same || index != self.table.count() {
            return Err(CheckError::Changed);
        }
        Ok((stamp, end))
    }

    /// Looks at a file before the messages that `deleted` names are removed from it: whether it is as it was, as in
    /// [`verify`](Self::verify), and whether they are in their places.
    fn verify_deleted(
        &self,
        held: &Held<'_>,
        deleted: &dyn Fn(u32) -> bool,
    ) -> Result<(Stamp, u64), CheckError> {
        let (stamp, end) = self.verify(held)?;
        // Where another program has been there, all of it has been scanned again.
        let is_same = stamp == self.stamp;
        let is_unproven = |index| is_same && self.is_unproven(index);
        let refresh = || held.refresh();
        match proof::are_in_place(&self.file, &self.table, end, is_unproven, deleted, refresh) {
            Ok(true) => Ok((stamp, end)),
            Ok(false) => Err(CheckError::Changed),
            Err(error) => Err(CheckError::Io("read it", error)),
        }
    }

    /// Whether only the index knows a message.
    fn is_unproven(&self, index: u32) -> bool {
        index < self.unproven && self.proven.get(index as usize) != Some(&true)
    }

    /// Whether a message that only the index knows is between two borders, as far as that shows.
    fn is_between_borders(&self, index: u32) -> io::Result<bool> {
        let next = self.table.get(index.saturating_add(1));
        for message in self.table.get(index).into_iter().chain(next) {
            if !scan::is_border(&self.file, message.from)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Believes the index no more if it may be what has led astray.
    fn doubt<T>(&self, result: Result<T, CheckError>) -> Result<T, CheckError> {
        if let (Err(CheckError::Changed), Some(index)) = (&result, &self.memory.index) {
            index.distrust(Kind::Mbox);
        }
        result
    }

    /// Writes down what UPDATE has left, where `end` is where the messages of the table ended before.
    fn remember(&self, held: Held<'_>, end: u64, deleted: &dyn Fn(u32) -> bool) {
        let kept = || self.table.kept(end, deleted);
        if let Some(index) = &self.memory.index
            && self.index_kept(index, held, end, deleted).is_err()
        {
            index.clear();
        }
        if let Some(copies) = &self.memory.copies {
            let remembered = copies.load(&self.file, &self.stamp);
            let given = Given::new(&remembered, self.table.messages());
            copies.store(remembered, &given, kept());
        }
    }

    fn index_kept(
        &self,
        index: &Index,
        held: Held<'_>,
        end: u64,
        deleted: &dyn Fn(u32) -> bool,
    ) -> io::Result<()> {
        let kept = || self.table.kept(end, deleted);
        let stamp = Stamp::of(&self.file)?;
        let end = end.saturating_sub(self.table.removed(end, deleted));
        let indexed = Indexed::new(&self.file, &stamp, kept().last().as_ref(), end)?;
        let settled = stamp.settle();
        drop(held);
        match settled {
            true => indexed.write(index, &self.memory.ids, kept()),
            false => Err(io::ErrorKind::Other.into()),
        }
    }

    fn look(&self) -> Result<Stamp, CheckError> {
        Stamp::of(&self.file).map_err(|error| CheckError::Io("examine it", error))
    }

    fn lock(&self) -> Result<Held<'_>, CheckError> {
        self.locks
            .acquire(self.file.as_fd())
            .map_err(|error| match error {
                LockError::Busy => CheckError::Busy,
                LockError::Io(error) => CheckError::Io("lock it", error),
            })
    }
}

impl Maildrop for Mbox {
    fn count(&self) -> u32 {
        self.table.count()
    }

    fn octets(&self, index: u32) -> Option<u64> {
        self.table.get(index).map(|message| message.octets)
    }

    fn unique_id(&self, index: u32) -> Option<UniqueId> {
        let own = self.table.get(index)?.unique_id()?;
        Some(self.memory.ids.shown_for(own))
    }

    /// Read from the file each time: few maildrops are asked.
    fn delivered(&self, index: u32) -> Option<u64> {
        let message = self.table.get(index)?;
        let end = message.start.saturating_sub(date::MAX_DATE);
        let from = message.from.max(end);
        let mut line = [0; date::MAX_DATE as usize];
        let length = usize::try_from(message.start.saturating_sub(from)).ok()?;
        let line = line.get_mut(..length)?;
        let read = scan::read_at(&self.file, line, from).ok()?;
        date::latest(line.get(..read)?)
    }

    fn drift(&self) -> Option<Drift> {
        self.drift
    }

    /// What does not prove to be in its place now is looked at again in UPDATE, which does not remove it then.
    fn marked(&mut self, index: u32) {
        if self.is_unproven(index)
            && let Ok(true) = proof::is_in_place(&self.file, &self.table, self.end, index)
        {
            self.proven.resize(self.unproven as usize, false);
            if let Some(proven) = self.proven.get_mut(index as usize) {
                *proven = true;
            }
        }
    }

    fn check(&mut self) -> Result<(), CheckError> {
        let stamp = self.look()?;
        if stamp == self.stamp {
            return Ok(());
        }
        if !stamp.is_linked() || stamp.size() < self.end {
            return Err(CheckError::Changed);
        }
        let held = self.lock()?;
        let (stamp, end) = self.doubt(self.verify(&held))?;
        stamp.settle();
        drop(held);
        if stamp != self.stamp {
            self.unproven = 0;
        }
        (self.stamp, self.end) = (stamp, end);
        Ok(())
    }

    fn read(&mut self, index: u32, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let message = self.table.get(index).ok_or(io::ErrorKind::NotFound)?;
        let left = message.stored.saturating_sub(offset);
        let length = buffer
            .len()
            .min(usize::try_from(left).unwrap_or(usize::MAX));
        let buffer = buffer.get_mut(..length).unwrap_or_default();
        if buffer.is_empty() {
            return Ok(0);
        }
        let start = message.start;
        if offset == 0 && index < self.unproven && !self.is_between_borders(index)? {
            let _ = self.doubt(Err::<(), _>(CheckError::Changed));
            return Err(io::ErrorKind::InvalidData.into());
        }
        match scan::read_at(&self.file, buffer, start.saturating_add(offset))? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            length => Ok(length),
        }
    }

    fn update(
        mut self: Box<Self>,
        deleted: &dyn Fn(u32) -> bool,
    ) -> Result<UpdateSummary, UpdateError> {
        if !(0..self.count()).any(deleted) {
            return Ok(UpdateSummary::default());
        }
        let mut journal = self.journal.take();
        let held = self.lock()?;
        let (stamp, end) = self.doubt(self.verify_deleted(&held, deleted))?;
        let later = end..stamp.size();
        let removed = update::remove(
            &held,
            &self.file,
            &self.table,
            later,
            deleted,
            journal.as_mut(),
        );
        match (&removed, &self.memory.index) {
            (Ok(_), _) => self.remember(held, end, deleted),
            (Err(_), Some(index)) => index.clear(),
            (Err(_), None) => {}
        }
        removed
    }
}

#[cfg(test)]
mod index_tests;
#[cfg(test)]
mod tests;
