//! mbox: all messages in one file, which delivery agents append to and mail readers rewrite.
//!
//! The file is locked while it is scanned, while it is looked at again because something changed it, and in UPDATE; in
//! between a slow client holds up nobody.

mod count;
mod digest;
mod scan;
mod table;
mod update;

use std::fs::File;
use std::io;
use std::ops::ControlFlow;
use std::os::fd::AsFd;

use crate::lock::{Held, LockError, Locks};
use crate::stamp::Stamp;
use crate::{CheckError, Limits, Maildrop, Problem, UniqueId, UpdateError, UpdateSummary};
use scan::{BLOCK, ScanError, scan};
use table::Table;

/// An mbox as it was when the session began.
pub(crate) struct Mbox {
    file: File,
    locks: Locks,
    table: Table,
    /// The file when its messages were last known to be those of the table.
    stamp: Stamp,
    /// Where the last message of the table ends, and mail that came later begins.
    end: u64,
}

impl Mbox {
    /// Locks and scans `file`.
    pub(crate) fn scan(file: File, locks: Locks, limits: &Limits) -> Result<Self, Problem> {
        let held = locks.acquire(file.as_fd()).map_err(|error| match error {
            LockError::Busy => Problem::Busy,
            LockError::Io(error) => Problem::Io("lock it", error),
        })?;
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
        let allowed = usize::try_from(limits.messages).unwrap_or(usize::MAX);
        let mut messages = Vec::new();
        let mut too_many = false;
        scan(&file, stamp.size(), BLOCK, |message| {
            held.refresh();
            too_many = messages.len() >= allowed;
            match too_many {
                true => ControlFlow::Break(()),
                false => {
                    messages.push(message);
                    ControlFlow::Continue(())
                }
            }
        })
        .map_err(|error| match error {
            ScanError::NotMbox => Problem::NotMbox,
            ScanError::CutShort => Problem::Changed,
            ScanError::Io(error) => Problem::Io("read it", error),
        })?;
        if too_many {
            return Err(Problem::TooManyMessages(limits.messages));
        }
        stamp.settle();
        drop(held);
        Ok(Mbox {
            file,
            locks,
            table: Table::new(messages),
            stamp,
            end: stamp.size(),
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
        let mut index = 0_u32;
        let mut end = stamp.size();
        let mut same = true;
        scan(&self.file, stamp.size(), BLOCK, |message| {
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
        self.table.get(index)?.unique_id()
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
        let (stamp, end) = self.verify(&held)?;
        stamp.settle();
        drop(held);
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
        match scan::read_at(&self.file, buffer, message.start.saturating_add(offset))? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            length => Ok(length),
        }
    }

    fn update(
        self: Box<Self>,
        deleted: &dyn Fn(u32) -> bool,
    ) -> Result<UpdateSummary, UpdateError> {
        if !(0..self.count()).any(deleted) {
            return Ok(UpdateSummary::default());
        }
        let held = self.lock()?;
        let (stamp, end) = self.verify(&held)?;
        update::remove(&held, &self.file, &self.table, end..stamp.size(), deleted)
    }
}

#[cfg(test)]
mod tests;
