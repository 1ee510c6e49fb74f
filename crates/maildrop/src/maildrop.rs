//! The trait that every kind of maildrop implements, as the POP3 commands need it.

use std::io;
use std::time::Duration;

use crate::remains::Remains;
use crate::{CheckError, Drift, UniqueId, UpdateError};

/// Most messages in a maildrop unless configured otherwise: popa3d's MAX_MAILBOX_MESSAGES, about 100 MB of table.
pub const MAX_MESSAGES: u32 = 2_097_152;

/// Most octets in a maildrop unless configured otherwise: 1 TiB, minutes of scanning and beyond any mailbox known.
/// (popa3d stopped at 2 GiB because its offsets were 32 bits wide.)
pub const MAX_OCTETS: u64 = 1 << 40;

/// Bounds of one maildrop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Most messages; a maildrop with more is refused.
    pub messages: u32,
    /// Most octets as stored; a maildrop with more is refused.
    pub octets: u64,
    /// Most octets of an mbox to which mail has been added during the session; with more, the session cannot go on.
    pub work_octets: u64,
    /// How long a lock held by another program is waited for.
    pub lock_wait: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            messages: MAX_MESSAGES,
            octets: MAX_OCTETS,
            work_octets: MAX_OCTETS,
            lock_wait: Duration::from_secs(30),
        }
    }
}

/// What UPDATE did.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct UpdateSummary {
    /// Messages that were marked and are gone now, whoever removed them.
    pub removed: u32,
    /// Their octets as on the wire.
    pub octets: u64,
    /// Messages that had been deleted before, were kept for a while, and are gone now.
    pub expired: u32,
    /// Messages that were retrieved, and are hidden from now on.
    pub acknowledged: u32,
    /// What was retrieved could not be remembered; it shows again.
    pub unremembered: bool,
    /// Files whose space is given back when this is dropped; to be kept until the client has its answer.
    pub remains: Remains,
}

/// A locked or listed maildrop with its messages fixed for the session (RFC 1939 section 4).
///
/// Messages are named by index: message number minus one. Nothing is written before [`update`](Maildrop::update), and
/// dropping a maildrop leaves no trace of the session.
pub trait Maildrop {
    /// Messages in the maildrop; valid indexes are below it.
    fn count(&self) -> u32;

    /// Octets of the message as RETR sends it, dot-stuffing and terminator apart; `None` if there is no such message.
    ///
    /// The rule, shared with the encoder: each line end counts as CRLF, be it stored LF or CRLF; a CR elsewhere is data;
    /// a last line without a line end is given one; a header that no empty line follows is given that (RFC 1939
    /// sections 3 and 11, RFC 5322 section 2.1).
    fn octets(&self, index: u32) -> Option<u64>;

    /// The unique-id of the message (RFC 1939 section 7); `None` if there is no such message.
    fn unique_id(&self, index: u32) -> Option<UniqueId>;

    /// When the message was delivered, in seconds since 1970, or rather later than earlier; `None` if that is not known.
    fn delivered(&self, _index: u32) -> Option<u64> {
        None
    }

    /// Directory entries or files passed over because they are no readable mail; for the log.
    fn skipped(&self) -> u32 {
        0
    }

    /// How the maildrop differs from what the last session left; `None` if that is not known.
    fn drift(&self) -> Option<Drift> {
        None
    }

    /// Says, before UPDATE, which messages the client has got whole.
    fn acknowledge(&mut self, _retrieved: &dyn Fn(u32) -> bool) {}

    /// Says that the client has marked a message as deleted: what has to be looked at before it is removed can be looked at now,
    /// while nothing is locked. That it was marked is not remembered, and it may be unmarked again.
    fn marked(&mut self, _index: u32) {}

    /// Whether [`update`](Maildrop::update) has something to do even if the session has deleted nothing.
    fn needs_update(&self) -> bool {
        false
    }

    /// The look at the maildrop before each access: has another program changed it?
    ///
    /// Mail appended since is no change: it is kept, and not shown.
    ///
    /// # Errors
    /// After any error the session ends without UPDATE and without a reply; of a message under way the final `.` is
    /// withheld.
    fn check(&mut self) -> Result<(), CheckError>;

    /// Reads stored octets of a message from `offset` on; returns how many, 0 only at its end.
    ///
    /// For mbox the message begins behind its `From ` line.
    ///
    /// # Errors
    /// The file could not be read, or holds less than when it was scanned (`UnexpectedEof`), or is gone (`NotFound`).
    fn read(&mut self, index: u32, offset: u64, buffer: &mut [u8]) -> io::Result<usize>;

    /// Enters UPDATE: removes the messages that `deleted` names, durably, and ends the maildrop.
    ///
    /// # Errors
    /// Some or all of the messages were not removed; the error says whether anything was changed.
    fn update(self: Box<Self>, deleted: &dyn Fn(u32) -> bool)
    -> Result<UpdateSummary, UpdateError>;
}
