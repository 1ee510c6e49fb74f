//! UPDATE of an mbox: what is kept is moved down within the same file, which is then cut.
//!
//! The file is never replaced: a delivery agent that waits for the lock has it open already and would append to the old
//! one. Each step here may be interrupted only at the price of a mailbox that shows some text twice; the journal that
//! rules this out takes its place between [`Plan::new`] and [`Plan::carry_out`], whose arguments are what it records.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;

use super::scan::{BLOCK, FROM, read_at};
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
) -> Result<UpdateSummary, UpdateError> {
    let mut summary = UpdateSummary::default();
    for (_, message) in table.iter().filter(|&(index, _)| deleted(index)) {
        check_place(file, message)?;
        summary.removed = summary.removed.saturating_add(1);
        summary.octets = summary.octets.saturating_add(message.octets);
    }
    Plan::new(table, later, deleted).carry_out(held, file)?;
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

    fn carry_out(&self, held: &Held<'_>, file: &File) -> Result<(), UpdateError> {
        let mut target = self.target;
        let mut buffer = vec![0; BLOCK];
        let mut written = false;
        for extent in &self.kept {
            let mut source = extent.start;
            while source < extent.end {
                held.refresh();
                let block = read_block(file, &mut buffer, source..extent.end)
                    .map_err(|error| failed(written, "read it", error))?;
                written = true;
                file.write_all_at(block, target)
                    .map_err(|error| failed(written, "move mail", error))?;
                source = source.saturating_add(block.len() as u64);
                target = target.saturating_add(block.len() as u64);
            }
        }
        file.set_len(target)
            .map_err(|error| failed(written, "cut it", error))?;
        file.sync_all()
            .map_err(|error| failed(true, "sync it", error))
    }
}

fn keep(kept: &mut Vec<Range<u64>>, extent: Range<u64>) {
    match kept.last_mut() {
        Some(last) if last.end == extent.start => last.end = extent.end,
        _ => kept.push(extent),
    }
}

/// Reads as much of `extent` as the buffer holds, at least one octet.
fn read_block<'a>(file: &File, buffer: &'a mut [u8], extent: Range<u64>) -> io::Result<&'a [u8]> {
    let left = extent.end.saturating_sub(extent.start);
    let length = buffer
        .len()
        .min(usize::try_from(left).unwrap_or(usize::MAX));
    let room = buffer.get_mut(..length).unwrap_or_default();
    match read_at(file, room, extent.start)? {
        0 => Err(io::ErrorKind::UnexpectedEof.into()),
        length => Ok(room.get(..length).unwrap_or_default()),
    }
}

fn failed(written: bool, doing: &'static str, error: io::Error) -> UpdateError {
    match written {
        true => UpdateError::Interrupted(doing, error),
        false => UpdateError::Io(doing, error),
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
