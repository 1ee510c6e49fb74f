//! UPDATE of an mbox: what is kept is moved down within the same file, which is then cut.
//!
//! The file is never replaced: a delivery agent that waits for the lock has it open already and would append to the old
//! one. Here it is decided what is kept; the [`journal`](super::journal) moves it.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;

use super::journal::{Failure, Journal};
use super::scan::FROM;
use super::table::{Message, Table};
use crate::lock::Held;
use crate::{UpdateError, UpdateSummary};

/// Removes messages of a locked file. `later` is where mail lies that came after the scan, up to the end of the file.
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
        check_place(file, message)?;
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

    /// Carries it out. The locks are abandoned if there is something left to be done under them.
    fn carry_out(
        self,
        held: &Held<'_>,
        file: &File,
        size: u64,
        journal: Option<&mut Journal>,
    ) -> Result<(), UpdateError> {
        if self.kept.is_empty() {
            return cut(file, self.target);
        }
        let Some(journal) = journal else {
            let error = io::Error::new(io::ErrorKind::Unsupported, "there is no journal");
            return Err(UpdateError::Io("move mail", error));
        };
        match journal.carry_out(held, file, self.target, self.kept, size) {
            Ok(()) => Ok(()),
            Err(Failure::NotBegun(trouble)) => Err(UpdateError::Io(trouble.doing, trouble.error)),
            Err(Failure::Halfway(trouble)) => {
                held.abandon();
                Err(UpdateError::Interrupted(trouble.doing, trouble.error))
            }
        }
    }
}

/// Removes all from `target` on: one step for the file system, which takes no journal.
fn cut(file: &File, target: u64) -> Result<(), UpdateError> {
    file.set_len(target)
        .map_err(|error| UpdateError::Io("cut it", error))?;
    file.sync_all()
        .map_err(|error| UpdateError::Interrupted("sync it", error))
}

fn keep(kept: &mut Vec<Range<u64>>, extent: Range<u64>) {
    match kept.last_mut() {
        Some(last) if last.end == extent.start => last.end = extent.end,
        _ => kept.push(extent),
    }
}

/// Whether the message still begins where it did: the last look before it is gone.
fn check_place(file: &File, message: &Message) -> Result<(), UpdateError> {
    let mut from = [0; FROM.len()];
    match file.read_exact_at(&mut from, message.from) {
        Ok(()) if from == FROM => Ok(()),
        Ok(()) => Err(UpdateError::Changed),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Err(UpdateError::Changed),
        Err(error) => Err(UpdateError::Io("read it", error)),
    }
}
