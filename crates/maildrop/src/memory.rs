//! What is kept of a maildrop from one session to the next, beside the mail: files in directories of the spawner's.

use crate::{CopyNumbers, Grace, Horizon, IdMap, Index};

/// What is kept of one maildrop; each part may be absent.
#[derive(Debug, Default)]
pub struct Memory {
    /// What need not be read again.
    pub index: Option<Index>,
    /// Which of equal messages has which unique-id; for an mbox.
    pub copies: Option<CopyNumbers>,
    /// Unique-ids that come from another server.
    pub ids: IdMap,
    /// Deleted messages that are kept for a while; none, where those are removed at once.
    pub grace: Option<Grace>,
    /// What is hidden from sessions for its age, or since it was retrieved.
    pub horizon: Horizon,
}

/// How a maildrop differs from what the last session left.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Drift {
    /// Unique-ids that are no longer there. Other programs have removed the messages.
    pub gone: u32,
    /// Messages that are shown by another unique-id, so that clients take them for new.
    pub changed: u32,
}
