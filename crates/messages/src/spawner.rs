//! What the spawner of maildrop processes is told, by the master and by auth.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use confine::channel::Message;
use serde::{Deserialize, Serialize};

use crate::account::Account;
use crate::role::MAX_CONFIGURATION_OCTETS;
use crate::session::{Advertised, SessionId};

/// The kernel's two kinds of lock; a machine's programs must agree on one (LOCK_FCNTL, LOCK_FLOCK).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum MailboxLock {
    /// fcntl(2), as Debian policy asks.
    Fcntl,
    /// flock(2).
    Flock,
}

/// What a client gets of a message with UTF-8 in its header that has not asked for UTF-8 (RFC 6856 section 2.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Utf8Headers {
    /// The message, as popa3d has always sent it. Most such mail was never meant for RFC 6532: its sender was careless, and
    /// clients show it all the same.
    #[default]
    AsIs,
    /// A surrogate of as many octets, with `?` for what is not ASCII in the header.
    Surrogate,
    /// `-ERR [UTF8]`.
    Refuse,
}

/// The maildrop processes' part of the configuration; it may change at SIGHUP for the sessions that follow.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SpawnerConfig {
    /// Connections at a time, as the listener counts them, and hardly more maildrop processes.
    pub sessions: u32,
    /// A connection that has been accepted logs in within this time or never.
    pub login_timeout: Duration,
    /// Where an account's mail is: `mbox:…` or `maildir:…` with `%u %n %d %h %%`.
    pub location: String,
    /// How an mbox is locked against delivery.
    pub lock: MailboxLock,
    /// Make `FILE.lock` besides that lock, where the directory allows it.
    pub dotlock: bool,
    /// The directory in which that is the locker's to do, where there is one.
    pub locker_directory: Option<PathBuf>,
    /// How long to wait for a mailbox that another program has locked.
    pub lock_timeout: Duration,
    /// How long deleted messages are kept, hidden; zero: they are removed at once.
    pub delete_grace: Duration,
    /// Messages delivered longer ago are hidden; zero: however old they are, they are not.
    pub hide_older: Duration,
    /// Messages that were retrieved are hidden after QUIT.
    pub hide_acknowledged: bool,
    /// Messages in one maildrop.
    pub messages: u32,
    /// MAX_MAILBOX_OPEN_BYTES: octets in one maildrop, as stored; a larger one is not opened.
    pub octets: u64,
    /// MAX_MAILBOX_WORK_BYTES: the same of an mbox to which mail has been added during the session, which ends then without
    /// UPDATE.
    pub work_octets: u64,
    /// A silent client is dropped after this time, without a reply and without UPDATE.
    pub idle_timeout: Duration,
    /// Commands answered `-ERR` in one TRANSACTION state.
    pub errors: u32,
    /// LAST (RFC 1460) is answered.
    pub last: bool,
    /// What a client gets that has not asked for UTF-8.
    pub utf8_headers: Utf8Headers,
    /// The directory of session locks, one file per maildrop; the spawner owns it.
    pub session_locks: PathBuf,
    /// The directory of indexes, the same way. They are a cache: what is missing there is made again.
    pub indexes: PathBuf,
    /// The directory of unique-ids that have to be remembered, the same way: lists carried over from other servers, and
    /// which of equal messages has which.
    pub unique_ids: PathBuf,
    /// The directory of journals, one file for each mbox and user; the spawner owns it.
    pub journals: PathBuf,
    /// What CAPA says.
    pub advertised: Advertised,
}

/// From the master to the spawner, after [`crate::role::Start`].
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum ToSpawner {
    /// The channel from a (re)started auth comes along.
    Auth,
    /// The channel to a (re)started locker comes along.
    Locker,
    /// The configuration was read anew.
    Reload(Box<SpawnerConfig>),
    /// The server has started: updates of mailboxes that were interrupted are to be found and finished.
    Recover,
}

impl Message for ToSpawner {
    const MAX_OCTETS: usize = MAX_CONFIGURATION_OCTETS;

    fn descriptors(&self) -> usize {
        match self {
            ToSpawner::Auth | ToSpawner::Locker => 1,
            ToSpawner::Reload(_) | ToSpawner::Recover => 0,
        }
    }
}

/// From auth to the spawner: this user has logged in.
///
/// The maildrop process's end of the stream to the session comes along, then the connection's lease.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StartMaildrop {
    /// Names the connection in logs.
    pub id: SessionId,
    /// The client's address, for the log.
    pub peer: Option<SocketAddr>,
    /// Whose maildrop.
    pub account: Account,
    /// The session says that its client has shown a certificate, so that EXTERNAL was offered.
    pub certificate_shown: bool,
}

impl Message for StartMaildrop {
    /// A name, a home and a location of at most 4096 octets each, and some numbers.
    const MAX_OCTETS: usize = 16 * 1024;

    fn descriptors(&self) -> usize {
        2
    }
}
