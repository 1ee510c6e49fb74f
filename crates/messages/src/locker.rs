//! What the locker is told, by the master and the spawner, and what maildrop processes ask of it.

use std::path::PathBuf;

use confine::channel::Message;
use serde::{Deserialize, Serialize};

use crate::role::MAX_CONFIGURATION_OCTETS;

/// Octets of a mailbox's name: NAME_MAX without those of `.lock`.
pub const MAX_MAILBOX_NAME_OCTETS: usize = 250;

/// The file name of a mailbox: one component, not hidden, so that it leads nowhere else.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct MailboxName(String);

/// The name cannot be a mailbox's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotAMailboxName;

impl std::fmt::Display for NotAMailboxName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("not the name of a mailbox")
    }
}

impl std::error::Error for NotAMailboxName {}

impl MailboxName {
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for MailboxName {
    type Error = NotAMailboxName;

    fn try_from(name: String) -> Result<Self, NotAMailboxName> {
        let fits = (1..=MAX_MAILBOX_NAME_OCTETS).contains(&name.len())
            && !name.starts_with('.')
            && !name.contains(['/', '\0']);
        if fits {
            Ok(Self(name))
        } else {
            Err(NotAMailboxName)
        }
    }
}

impl From<MailboxName> for String {
    fn from(name: MailboxName) -> String {
        name.0
    }
}

/// The locker's configuration, which is the same until it ends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LockerConfig {
    /// The spool: the one directory that it makes locks in.
    pub directory: PathBuf,
}

/// From the master to the locker, after [`crate::role::Start`].
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub enum ToLocker {
    /// The channel from a (re)started spawner comes along.
    Spawner,
}

impl Message for ToLocker {
    const MAX_OCTETS: usize = MAX_CONFIGURATION_OCTETS;

    fn descriptors(&self) -> usize {
        1
    }
}

/// From the spawner to the locker: who holds the other end of the channel that comes along may lock this mailbox.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewMailbox {
    /// Its name in the spool.
    pub name: MailboxName,
}

impl Message for NewMailbox {
    /// A name and its length.
    const MAX_OCTETS: usize = MAX_MAILBOX_NAME_OCTETS + 8;

    fn descriptors(&self) -> usize {
        1
    }
}

/// What a maildrop process wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Wanted {
    /// The dotlock, without waiting for it.
    Lock,
    /// To give it up.
    Unlock,
}

/// From a maildrop process to the locker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LockRequest {
    /// Comes back with the answer: a process that recovers shares the channel of one that has died, whose answer may still
    /// be under way.
    pub number: u64,
    /// What is wanted.
    pub wanted: Wanted,
}

impl Message for LockRequest {
    const MAX_OCTETS: usize = 16;
}

/// What became of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum LockOutcome {
    /// The lock is held, or none can be made in this spool.
    Locked,
    /// Another program has it.
    Busy,
    /// It is not held any more.
    Unlocked,
    /// The system refused something; its error number.
    Failed(i32),
}

/// From the locker to a maildrop process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LockAnswer {
    /// Of which request.
    pub number: u64,
    /// What became of it.
    pub outcome: LockOutcome,
}

impl Message for LockAnswer {
    const MAX_OCTETS: usize = 24;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mailbox_name_leads_nowhere_else() {
        let longest = "a".repeat(MAX_MAILBOX_NAME_OCTETS);
        for name in ["joe", "joe@example.org", "-joe", "a b", &longest] {
            assert!(MailboxName::try_from(name.to_owned()).is_ok(), "{name}");
        }
        let too_long = format!("{longest}a");
        for name in [
            "", ".", "..", "../x", "x/../y", "/x", ".x", "x\0y", "x/", &too_long,
        ] {
            assert!(MailboxName::try_from(name.to_owned()).is_err(), "{name}");
        }
    }
}
