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
}
