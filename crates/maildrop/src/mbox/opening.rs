//! Opening a mailbox: what an index knows of it is taken over, and what it does not know is scanned.

use std::fs::File;
use std::ops::ControlFlow;

use super::copies::{self, Given, Remembered};
use super::saved::{self, Fit, Indexed, Saved};
use super::scan::{BLOCK, ScanError, scan};
use super::table::{Message, Table};
use crate::lock::Held;
use crate::stamp::Stamp;
use crate::{Drift, Limits, Memory, Problem};

/// A mailbox that has been read through, as far as it had to be.
pub(super) struct Read {
    pub(super) table: Table,
    /// So many of the first messages are only what the index says.
    pub(super) unproven: u32,
    /// How it differs from what the last session left, if that is known.
    pub(super) drift: Option<Drift>,
    change: Change,
    /// What was known of equal messages and what is now, if some may be new.
    copies: Option<(Remembered, Given)>,
}

/// What is to become of an index after a scan.
enum Change {
    /// It says all that there is.
    None,
    /// Messages came behind those of the table that was read from it.
    Grown(Box<Saved>, Indexed),
    /// It is to be written anew.
    Written(Indexed),
}

/// A locked mailbox to be read.
pub(super) struct Reading<'a> {
    pub(super) file: &'a File,
    pub(super) held: &'a Held<'a>,
    pub(super) stamp: Stamp,
    pub(super) limits: &'a Limits,
    pub(super) memory: &'a Memory,
}

/// What a saved table comes to.
enum Taken {
    Over(Read),
    /// The mailbox is not the one that was indexed.
    Other(Saved),
}

impl Reading<'_> {
    /// Reads the mailbox through, or what is new in it.
    pub(super) fn read(&self) -> Result<Read, Problem> {
        let index = self.memory.index.as_ref();
        let saved = match index.and_then(|index| saved::load(index, self.limits.messages)) {
            Some(saved) => match self.take_over(saved)? {
                Taken::Over(read) => return Ok(read),
                Taken::Other(saved) => Some(saved),
            },
            None => None,
        };
        let mut messages = self.scan(0, Vec::new())?;
        let remembered = self.remembered();
        let given = copies::number(&mut messages, &remembered);
        let ids = &self.memory.ids;
        Ok(Read {
            drift: saved.map(|saved| saved.drift(&messages, ids)),
            change: Change::Written(self.indexed(&messages)?),
            table: Table::new(messages),
            unproven: 0,
            copies: Some((remembered, given)),
        })
    }

    /// The table of the index, and what has come since.
    fn take_over(&self, mut saved: Saved) -> Result<Taken, Problem> {
        let fit = saved.fit(self.file, &self.stamp).map_err(unreadable)?;
        let ids = &self.memory.ids;
        let known = saved.messages.len();
        let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        match (fit, saved.messages.last().copied()) {
            (Fit::Unchanged, _) => {
                let messages = std::mem::take(&mut saved.messages);
                let (drift, change) = match saved.has_ids(ids) {
                    true => (Drift::default(), Change::None),
                    false => {
                        let drift = saved.drift_of_same(&messages, ids);
                        (drift, Change::Written(self.indexed(&messages)?))
                    }
                };
                Ok(Taken::Over(Read {
                    table: Table::new(messages),
                    unproven: count(known),
                    drift: Some(drift),
                    change,
                    copies: None,
                }))
            }
            // The last message is scanned again: it might have grown, and if it has not, it proves the others.
            (Fit::Longer, Some(last)) => {
                let mut messages = std::mem::take(&mut saved.messages);
                messages.pop();
                let first_scanned = messages.len();
                let mut messages = self.scan(last.from, messages)?;
                match messages.get_mut(first_scanned) {
                    Some(again) if again.is_same(&last) => *again = last,
                    _ => {
                        messages.truncate(first_scanned);
                        messages.push(last);
                        saved.messages = messages;
                        return Ok(Taken::Other(saved));
                    }
                }
                let remembered = self.remembered();
                copies::number_new(&mut messages, known, &remembered);
                let given = Given::new(&remembered, &messages);
                let indexed = self.indexed(&messages)?;
                let (drift, change) = match saved.has_ids(ids) {
                    true => (Drift::default(), Change::Grown(Box::new(saved), indexed)),
                    false => {
                        let drift = saved.drift_of_same(&messages, ids);
                        (drift, Change::Written(indexed))
                    }
                };
                Ok(Taken::Over(Read {
                    table: Table::new(messages),
                    unproven: count(first_scanned),
                    drift: Some(drift),
                    change,
                    copies: Some((remembered, given)),
                }))
            }
            _ => Ok(Taken::Other(saved)),
        }
    }

    fn remembered(&self) -> Remembered {
        let copies = self.memory.copies.as_ref();
        let loaded = copies.map(|copies| copies.load(self.file, &self.stamp));
        loaded.unwrap_or_default()
    }

    /// Scans from `offset` on, where a message begins, and adds to `messages`.
    fn scan(&self, offset: u64, mut messages: Vec<Message>) -> Result<Vec<Message>, Problem> {
        let allowed = usize::try_from(self.limits.messages).unwrap_or(usize::MAX);
        let mut too_many = false;
        scan(self.file, offset..self.stamp.size(), BLOCK, |message| {
            self.held.refresh();
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
            ScanError::Io(error) => unreadable(error),
        })?;
        match too_many {
            true => Err(Problem::TooManyMessages(self.limits.messages)),
            false => Ok(messages),
        }
    }

    fn indexed(&self, messages: &[Message]) -> Result<Indexed, Problem> {
        let end = self.stamp.size();
        Indexed::new(self.file, &self.stamp, messages.last(), end).map_err(unreadable)
    }
}

impl Read {
    /// Brings up to date what is kept of the mailbox. An index for which that is not possible is thrown away, and so is
    /// one of a file that may change unseen (not `settled`).
    pub(super) fn write(&mut self, memory: &Memory, settled: bool) {
        let messages = || self.table.messages().iter().copied();
        if let (Some(copies), Some((remembered, given))) = (&memory.copies, self.copies.take()) {
            copies.store(remembered, &given, messages());
        }
        let Some(index) = &memory.index else {
            return;
        };
        let written = match &self.change {
            Change::None => Ok(()),
            _ if !settled => Err(std::io::ErrorKind::Other.into()),
            Change::Grown(known, indexed) => {
                indexed.add(index, &memory.ids, known, messages().skip(known.rows()))
            }
            Change::Written(indexed) => indexed.write(index, &memory.ids, messages()),
        };
        if written.is_err() {
            index.clear();
        }
    }
}

fn unreadable(error: std::io::Error) -> Problem {
    Problem::Io("read it", error)
}
