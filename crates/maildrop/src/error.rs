//! What can go wrong with a maildrop, told twice: a sentence for the log, and a general one for the client, who must not
//! learn from it how the machine is set up.

use std::fmt;
use std::io;
use std::path::PathBuf;

/// What a failure means for the client, and so its response code (RFC 2449 section 8.1, RFC 3206 section 4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// `[IN-USE]`: another program holds the lock; trying later helps.
    InUse,
    /// `[SYS/TEMP]`: trying later may help.
    Temporary,
    /// `[SYS/PERM]`: someone has to look at it.
    Permanent,
}

/// A maildrop that cannot be opened: which file, and why.
#[derive(Debug)]
pub struct OpenError {
    /// The file or directory at fault.
    pub path: PathBuf,
    /// What is wrong with it.
    pub problem: Problem,
}

/// Why a maildrop cannot be opened.
#[derive(Debug)]
#[non_exhaustive]
pub enum Problem {
    /// The directory that the configuration trusts to be there is not.
    BaseMissing(io::Error),
    /// A symbolic link is on the way, or at its end.
    Symlink,
    /// The path leaves its base.
    Escapes,
    /// Not the kind of file it has to be; holds what it is.
    WrongKind(&'static str),
    /// A Maildir without `new` or `cur`; holds which.
    NotMaildir(&'static str),
    /// Owned by somebody else.
    Owner {
        /// The uid that must own it.
        expected: u32,
        /// The uid that does.
        found: u32,
    },
    /// Owned by root.
    RootOwned,
    /// A mailbox with other names (hard links), or none any more; holds how many there are.
    Links(u64),
    /// A Maildir directory that anyone may write to.
    WorldWritable,
    /// Access is denied to the user.
    Denied,
    /// Does not begin with `From `, so it is no mbox.
    NotMbox,
    /// Holds more messages than the limit; holds the limit.
    TooManyMessages(u32),
    /// Holds more octets than the limit.
    TooManyOctets {
        /// Octets stored.
        found: u64,
        /// The limit.
        limit: u64,
    },
    /// Another program kept it locked for as long as we waited.
    Busy,
    /// It was replaced or cut short while it was opened.
    Changed,
    /// The system refused something; holds what was being done.
    Io(&'static str, io::Error),
}

impl OpenError {
    /// What this means for the client.
    pub fn class(&self) -> Class {
        match self.problem {
            Problem::Busy => Class::InUse,
            Problem::BaseMissing(_) | Problem::Changed | Problem::Io(..) => Class::Temporary,
            _ => Class::Permanent,
        }
    }

    /// What the client may be told.
    pub fn for_client(&self) -> &'static str {
        match self.class() {
            Class::InUse => "The maildrop is in use by another program",
            Class::Temporary => "The maildrop cannot be opened at present",
            Class::Permanent => "The maildrop cannot be opened, please ask your postmaster",
        }
    }
}

impl fmt::Display for OpenError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Debug form of the path: control octets in it are escaped, so that the log keeps its lines.
        write!(formatter, "{:?}: {}", self.path, self.problem)
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Problem::BaseMissing(error) => {
                write!(
                    formatter,
                    "cannot open the directory that holds maildrops: {error}"
                )
            }
            Problem::Symlink => {
                formatter.write_str("is, or lies behind, a symbolic link, which is not followed")
            }
            Problem::Escapes => formatter.write_str("leads out of the configured directory"),
            Problem::WrongKind(found) => write!(formatter, "is {found}"),
            Problem::NotMaildir(missing) => {
                write!(
                    formatter,
                    "is no Maildir: the directory {missing:?} is missing"
                )
            }
            Problem::Owner { expected, found } => {
                write!(
                    formatter,
                    "is owned by uid {found} and not by uid {expected}"
                )
            }
            Problem::RootOwned => formatter.write_str("is owned by root"),
            Problem::Links(count) => {
                write!(
                    formatter,
                    "has {count} names where a mailbox has exactly one"
                )
            }
            Problem::WorldWritable => {
                formatter.write_str("is a directory that anyone may write to")
            }
            Problem::Denied => formatter.write_str("is not accessible to its user"),
            Problem::NotMbox => {
                formatter.write_str("does not begin with \"From \", so it is no mailbox")
            }
            Problem::TooManyMessages(limit) => {
                write!(formatter, "holds more than the allowed {limit} messages")
            }
            Problem::TooManyOctets { found, limit } => {
                write!(formatter, "holds {found} octets where {limit} are allowed")
            }
            Problem::Busy => formatter.write_str("is locked by another program"),
            Problem::Changed => {
                formatter.write_str("was changed by another program while it was opened")
            }
            Problem::Io(doing, error) => write!(formatter, "cannot {doing}: {error}"),
        }
    }
}

impl std::error::Error for OpenError {}

/// Why the session cannot go on; it ends without UPDATE.
#[derive(Debug)]
#[non_exhaustive]
pub enum CheckError {
    /// Another program changed, moved or removed mail that the session has seen.
    Changed,
    /// It may have been changed, and stayed locked for as long as we waited to look.
    Busy,
    /// Mail was added to it beyond the limit.
    TooManyOctets {
        /// Octets stored.
        found: u64,
        /// The limit.
        limit: u64,
    },
    /// The system refused to look; holds what was being done.
    Io(&'static str, io::Error),
}

impl fmt::Display for CheckError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CheckError::Changed => formatter.write_str("maildrop changed by another program"),
            CheckError::Busy => formatter.write_str("maildrop locked by another program"),
            CheckError::TooManyOctets { found, limit } => {
                write!(
                    formatter,
                    "maildrop grown to {found} octets where {limit} are allowed"
                )
            }
            CheckError::Io(doing, error) => write!(formatter, "cannot {doing}: {error}"),
        }
    }
}

impl std::error::Error for CheckError {}

/// Why UPDATE did not remove all that it was to remove.
#[derive(Debug)]
#[non_exhaustive]
pub enum UpdateError {
    /// Another program changed the maildrop; nothing has been removed.
    Changed,
    /// Another program kept the maildrop locked for as long as we waited; nothing has been removed.
    Busy,
    /// Mail was added to it beyond the limit; nothing has been removed.
    TooManyOctets {
        /// Octets stored.
        found: u64,
        /// The limit.
        limit: u64,
    },
    /// The system refused something before anything was changed; nothing has been removed.
    Io(&'static str, io::Error),
    /// The system refused something halfway through an mbox. What was begun will be finished from the journal.
    Interrupted(&'static str, io::Error),
    /// An mbox was emptied, and the disk did not confirm it: after a power cut its messages may be there again.
    Unconfirmed(io::Error),
    /// Some files of a Maildir could not be removed.
    Partial {
        /// What was removed.
        removed: u32,
        /// What was to be, and was not.
        left: u32,
        /// The first reason.
        error: io::Error,
    },
}

impl UpdateError {
    /// What this means for the client.
    pub fn class(&self) -> Class {
        match self {
            UpdateError::Busy => Class::InUse,
            _ => Class::Temporary,
        }
    }

    /// What the client may be told.
    pub fn for_client(&self) -> &'static str {
        match self {
            UpdateError::Busy => "The maildrop is in use by another program, nothing was removed",
            UpdateError::Changed | UpdateError::TooManyOctets { .. } | UpdateError::Io(..) => {
                "The maildrop cannot be updated, nothing was removed"
            }
            UpdateError::Interrupted(..)
            | UpdateError::Unconfirmed(_)
            | UpdateError::Partial { .. } => "Some deleted messages were not removed",
        }
    }
}

impl fmt::Display for UpdateError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            UpdateError::Changed => formatter.write_str("changed by another program, not updated"),
            UpdateError::Busy => formatter.write_str("locked by another program, not updated"),
            UpdateError::TooManyOctets { found, limit } => {
                write!(
                    formatter,
                    "grown to {found} octets where {limit} are allowed, not updated"
                )
            }
            UpdateError::Io(doing, error) => {
                write!(formatter, "not updated: cannot {doing}: {error}")
            }
            UpdateError::Interrupted(doing, error) => {
                write!(
                    formatter,
                    "update interrupted and yet to be finished: cannot {doing}: {error}"
                )
            }
            UpdateError::Unconfirmed(error) => {
                write!(
                    formatter,
                    "emptied, but not durably: cannot sync it: {error}"
                )
            }
            UpdateError::Partial {
                removed,
                left,
                error,
            } => write!(formatter, "{removed} messages removed, {left} not: {error}"),
        }
    }
}

impl std::error::Error for UpdateError {}

impl From<CheckError> for UpdateError {
    fn from(error: CheckError) -> Self {
        match error {
            CheckError::Changed => UpdateError::Changed,
            CheckError::Busy => UpdateError::Busy,
            CheckError::TooManyOctets { found, limit } => {
                UpdateError::TooManyOctets { found, limit }
            }
            CheckError::Io(doing, error) => UpdateError::Io(doing, error),
        }
    }
}
