//! UPDATE of an mbox: what is kept is moved down within the same file, which is then cut.
//!
//! The file is never replaced: a delivery agent that waits for the lock has it open already and would append to the old
//! one. Here it is decided what is kept; the [`journal`](super::journal) moves it.

use std::fs::File;
use std::io;
use std::ops::Range;

use super::journal::{Failure, Journal};
use super::table::Table;
use crate::lock::Held;
use crate::{UpdateError, UpdateSummary};

/// Octets before the end of what is kept that are looked at again before it is cut.
const WITNESS: u64 = 4096;

/// Removes messages of a locked file, which are [in their places](super::proof). `later` is where mail lies that came after
/// the scan, up to the end of the file.
pub(super) fn remove(
    held: &Held<'_>,
    file: &File,
    table: &Table,
    later: Range<u64>,
    deleted: &dyn Fn(u32) -> bool,
    journal: Option<&mut Journal>,
) -> Result<UpdateSummary, UpdateError> {
    let mut summary = UpdateSummary::default();
    for (_, message) in table.iter().filter(|&(index, _)| deleted(index)) {
        summary.removed = summary.removed.saturating_add(1);
        summary.octets = summary.octets.saturating_add(message.octets);
    }
    let size = later.end;
    Plan::new(table, later, deleted).carry_out(held, file, size, journal)?;
    Ok(summary)
}

/// What becomes of the file from the first deleted message on.
#[derive(Debug, PartialEq, Eq)]
struct Plan {
    /// Offset of the first deleted message.
    target: u64,
    /// What is kept behind it, in file order, neighbours joined; mail that came later is part of it.
    kept: Vec<Range<u64>>,
}

impl Plan {
    fn new(table: &Table, later: Range<u64>, deleted: &dyn Fn(u32) -> bool) -> Self {
        let ends = table
            .iter()
            .skip(1)
            .map(|(_, message)| message.from)
            .chain(std::iter::once(later.start));
        let mut target = None;
        let mut kept: Vec<Range<u64>> = Vec::new();
        for ((index, message), end) in table.iter().zip(ends) {
            if deleted(index) {
                target = target.or(Some(message.from));
            } else if target.is_some() {
                keep(&mut kept, message.from..end);
            }
        }
        if !later.is_empty() {
            keep(&mut kept, later.clone());
        }
        Plan {
            target: target.unwrap_or(later.end),
            kept,
        }
    }

    /// Where nothing has to be moved, the octets before the cut are made part of it all the same: by them a replay knows
    /// that it has the same mailbox before it.
    fn with_witness(mut self) -> Self {
        if self.kept.is_empty() {
            let end = self.target;
            self.target = end.saturating_sub(WITNESS);
            keep(&mut self.kept, self.target..end);
        }
        self
    }

    /// Carries it out. The locks are abandoned if there is something left to be done under them.
    fn carry_out(
        self,
        held: &Held<'_>,
        file: &File,
        size: u64,
        journal: Option<&mut Journal>,
    ) -> Result<(), UpdateError> {
        if self.target == 0 && self.kept.is_empty() {
            return empty(file);
        }
        let Some(journal) = journal else {
            let error = io::Error::new(io::ErrorKind::Unsupported, "there is no journal");
            return Err(UpdateError::Io("move mail", error));
        };
        let plan = self.with_witness();
        match journal.carry_out(held, file, plan.target, plan.kept, size) {
            Ok(()) => Ok(()),
            Err(Failure::NotBegun(trouble)) => Err(UpdateError::Io(trouble.doing, trouble.error)),
            Err(Failure::Halfway(trouble)) => {
                held.abandon();
                Err(UpdateError::Interrupted(trouble.doing, trouble.error))
            }
        }
    }
}

/// Removes everything: one step for the file system, which takes no journal.
///
/// Any other cut is more than one. It clears the rest of the last block, and that may reach the disk before the new size
/// does: after a power cut in between, the last message kept would go on with NULs and what is left of the next one.
fn empty(file: &File) -> Result<(), UpdateError> {
    file.set_len(0)
        .map_err(|error| UpdateError::Io("cut it", error))?;
    file.sync_all().map_err(UpdateError::Unconfirmed)
}

fn keep(kept: &mut Vec<Range<u64>>, extent: Range<u64>) {
    match kept.last_mut() {
        Some(last) if last.end == extent.start => last.end = extent.end,
        _ => kept.push(extent),
    }
}
