//! Log records: what a role has to say, as values. The master alone makes lines of them.
//!
//! Each role has a log channel of its own, so that the master knows which role speaks, and the kernel tells it which
//! process and uid. Text in a record is untrusted there: it is escaped and cut when the line is made.

use std::fmt::Display;
use std::sync::Arc;

use confine::channel::{Channel, Message};
use serde::{Deserialize, Serialize};

/// Octets of one record: a sentence and the facts of a session.
pub const MAX_RECORD_OCTETS: usize = 4 * 1024;

/// Octets of one value; a longer one is cut. User names and paths fit.
pub const MAX_VALUE_OCTETS: usize = 512;

/// How loud a record is, with syslog's names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Level {
    /// Something is broken and somebody has to look.
    Error,
    /// Something was refused or is missing.
    Warning,
    /// The course of things.
    Info,
}

/// One thing to be logged.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// How loud.
    pub level: Level,
    /// A fixed short phrase that tools can match: `login`, `login failed`, `session ended`.
    pub event: String,
    /// Facts in the order in which they are to be read.
    pub fields: Vec<(String, String)>,
}

impl Record {
    /// A record with no fields yet.
    pub fn new(level: Level, event: &str) -> Self {
        Self {
            level,
            event: event.to_owned(),
            fields: Vec::new(),
        }
    }

    /// The same at [`Level::Info`].
    pub fn info(event: &str) -> Self {
        Self::new(Level::Info, event)
    }

    /// The same at [`Level::Warning`].
    pub fn warning(event: &str) -> Self {
        Self::new(Level::Warning, event)
    }

    /// The same at [`Level::Error`].
    pub fn error(event: &str) -> Self {
        Self::new(Level::Error, event)
    }

    /// Adds a fact; the value is cut at [`MAX_VALUE_OCTETS`].
    #[must_use]
    pub fn with(mut self, key: &str, value: impl Display) -> Self {
        let mut value = value.to_string();
        if value.len() > MAX_VALUE_OCTETS {
            let end = (0..=MAX_VALUE_OCTETS)
                .rev()
                .find(|&end| value.is_char_boundary(end))
                .unwrap_or(0);
            value.truncate(end);
            value.push('…');
        }
        self.fields.push((key.to_owned(), value));
        self
    }

    /// Adds a fact if there is one.
    #[must_use]
    pub fn with_some(self, key: &str, value: Option<impl Display>) -> Self {
        match value {
            Some(value) => self.with(key, value),
            None => self,
        }
    }
}

impl Message for Record {
    const MAX_OCTETS: usize = MAX_RECORD_OCTETS;
}

/// A role's end of its log channel.
///
/// Forked processes share it. The master puts a send time-out on it, so that a master that does not read delays a role
/// for a moment but never holds it up.
#[derive(Debug)]
pub struct Logger {
    channel: Arc<Channel>,
}

impl Logger {
    /// Takes over the log channel. A panic of this process, or of one forked from it, is logged from now on.
    pub fn new(channel: Channel) -> Self {
        let channel = Arc::new(channel);
        let of_panics = Arc::clone(&channel);
        std::panic::set_hook(Box::new(move |panic| {
            // Not the message, which may hold what a client sent: the place is enough to find it.
            let record = Record::error("panic").with_some("at", panic.location());
            drop(of_panics.send(&record, &[]));
        }));
        Self { channel }
    }

    /// Hands the record to the master. A record that cannot be delivered is lost: there is nobody to tell.
    pub fn log(&self, record: &Record) {
        drop(self.channel.send(record, &[]));
    }

    /// The channel, for a process that closes every other descriptor.
    pub fn channel(&self) -> &Channel {
        &self.channel
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_value_is_cut_between_characters() {
        let record = Record::info("x").with("k", "é".repeat(MAX_VALUE_OCTETS));
        let value = &record.fields[0].1;
        assert!(value.ends_with("é…"));
        assert!(value.len() <= MAX_VALUE_OCTETS + '…'.len_utf8());
    }

    #[test]
    fn a_missing_fact_adds_nothing() {
        assert!(
            Record::info("x")
                .with_some("k", None::<u8>)
                .fields
                .is_empty()
        );
    }
}
