//! Opening a mailbox: what an index knows of it is taken over, and what it does not know is scanned.

use std::fs::File;
use std::ops::ControlFlow;

use super::saved::{self, Fit, Indexed, Saved};
use super::scan::{BLOCK, ScanError, scan};
use super::table::{Message, Table};
use crate::index::Index;
use crate::lock::Held;
use crate::stamp::Stamp;
use crate::{Limits, Problem};

/// A mailbox that has been read through, as far as it had to be.
pub(super) struct Read {
    pub(super) table: Table,
    /// So many of the first messages are only what the index says.
    pub(super) unproven: u32,
    /// What is to become of the index.
    pub(super) change: Change,
}

/// What is to become of an index after a scan.
pub(super) enum Change {
    /// It says all that there is.
    None,
    /// Messages came behind those of the table that was read from it.
    Grown(Saved, Indexed),
    /// It is to be written anew.
    Written(Indexed),
}

/// A locked mailbox to be read.
pub(super) struct Reading<'a> {
    pub(super) file: &'a File,
    pub(super) held: &'a Held<'a>,
    pub(super) stamp: Stamp,
    pub(super) limits: &'a Limits,
}

impl Reading<'_> {
    /// Reads the mailbox through, or what is new in it.
    pub(super) fn read(&self, index: Option<&Index>) -> Result<Read, Problem> {
        let saved = index.and_then(|index| saved::load(index, self.limits.messages));
        let known = match saved {
            Some(saved) => self.take_over(saved)?,
            None => None,
        };
        match known {
            Some(read) => Ok(read),
            None => {
                let messages = self.scan(0, Vec::new())?;
                let table = Table::new(messages);
                let indexed = self.indexed(table.messages())?;
                Ok(Read {
                    table,
                    unproven: 0,
                    change: Change::Written(indexed),
                })
            }
        }
    }

    /// The table of the index, and what has come since; `None` if the mailbox is not the one that was indexed.
    fn take_over(&self, mut saved: Saved) -> Result<Option<Read>, Problem> {
        let fit = saved.fit(self.file, &self.stamp).map_err(unreadable)?;
        let messages = std::mem::take(&mut saved.messages);
        let known = messages.len();
        let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        match (fit, messages.last().copied()) {
            (Fit::Unchanged, _) => Ok(Some(Read {
                table: Table::grown(messages, known),
                unproven: count(known),
                change: Change::None,
            })),
            // The last message is scanned again: it might have grown, and if it has not, it proves the others.
            (Fit::Longer, Some(last)) => {
                let mut messages = messages;
                messages.pop();
                let first_scanned = messages.len();
                let mut messages = match self.scan(last.from, messages) {
                    Ok(messages) => messages,
                    Err(Problem::NotMbox) => return Ok(None),
                    Err(problem) => return Err(problem),
                };
                match messages.get_mut(first_scanned) {
                    Some(again) if again.is_same(&last) => *again = last,
                    _ => return Ok(None),
                }
                let indexed = self.indexed(&messages)?;
                Ok(Some(Read {
                    table: Table::grown(messages, known),
                    unproven: count(first_scanned),
                    change: Change::Grown(saved, indexed),
                }))
            }
            _ => Ok(None),
        }
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
    /// Brings the index up to date, or throws it away if that is not possible.
    pub(super) fn write(&self, index: &Index) {
        let messages = self.table.messages().iter().copied();
        let written = match &self.change {
            Change::None => Ok(()),
            Change::Grown(known, indexed) => {
                let new = messages.skip(known.rows());
                indexed.add(index, known, new)
            }
            Change::Written(indexed) => indexed.write(index, messages),
        };
        if written.is_err() {
            index.clear();
        }
    }
}

fn unreadable(error: std::io::Error) -> Problem {
    Problem::Io("read it", error)
}
