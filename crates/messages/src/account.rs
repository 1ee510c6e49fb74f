//! The account that a login opened: what auth tells the spawner, and all that it tells.

use confine::identity::{NonRootGid, NonRootUid};
use serde::{Deserialize, Serialize};

/// A user whose credentials have been accepted.
///
/// Made by auth alone. That it names no root user is part of its type: a message that says otherwise does not decode.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    /// The name as the account's own source spells it (a PAM module may have changed what the client sent).
    pub name: String,
    /// The owner of the maildrop, whom the maildrop process becomes.
    pub uid: NonRootUid,
    /// The owner's group: the only one the maildrop process has (no group mail).
    pub gid: NonRootGid,
    /// Absolute path of the home directory, for `%h`.
    pub home: String,
    /// A location of this account's own (`mbox:…` or `maildir:…`, `%` doubled where it is meant literally), used in place
    /// of the configured one.
    pub maildrop: Option<String>,
    /// What the credential that was proven lets its client do with the mail.
    pub rights: Rights,
}

/// What a login may do with the mail, as the store says of the credential that was proven. The widest first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Rights {
    /// All that the owner may do.
    #[default]
    Full,
    /// Everything but DELE. What the server does of its own accord, it does.
    NoDelete,
    /// No DELE, and the session leaves no trace: no index, nothing remembered of unique-ids, nothing removed that was to be
    /// removed later.
    ReadOnly,
}

impl Rights {
    /// The name in stores and in the log; [`Rights::Full`] has none there.
    pub const fn name(self) -> &'static str {
        match self {
            Rights::Full => "full",
            Rights::NoDelete => "no-delete",
            Rights::ReadOnly => "read-only",
        }
    }

    /// Whether messages may be marked as deleted, and be removed at QUIT.
    pub const fn allow_deletion(self) -> bool {
        matches!(self, Rights::Full)
    }

    /// Whether the session may change anything at all, in the maildrop or in what is kept of it.
    pub const fn allow_change(self) -> bool {
        !matches!(self, Rights::ReadOnly)
    }
}
