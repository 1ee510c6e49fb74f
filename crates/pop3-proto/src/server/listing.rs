//! What a maildrop tells about its messages, and how a listing of them is sent piece by piece.

use crate::{MessageNumber, Octets, UniqueId};

/// The messages of a maildrop as they were when the TRANSACTION state began; nothing of it changes until it ends.
pub trait Listing {
    /// How many messages there are.
    fn messages(&self) -> u32;

    /// The exact size of a message as RETR sends it; see [`Counter`](crate::multiline::Counter).
    ///
    /// `number` is at most [`messages`](Listing::messages).
    fn octets(&self, number: MessageNumber) -> Octets;

    /// The unique-id of a message, different from every other's; `None` if there is no such message.
    fn unique_id(&self, number: MessageNumber) -> Option<UniqueId>;
}

impl<L: Listing + ?Sized> Listing for &L {
    fn messages(&self) -> u32 {
        (**self).messages()
    }

    fn octets(&self, number: MessageNumber) -> Octets {
        (**self).octets(number)
    }

    fn unique_id(&self, number: MessageNumber) -> Option<UniqueId> {
        (**self).unique_id(number)
    }
}

/// How far a listing of all messages has been sent.
///
/// A maildrop of a million messages has a listing of tens of megabytes; it is sent through a buffer of fixed size by
/// [`Transaction::write_listing`](super::Transaction::write_listing).
#[derive(Debug, PartialEq, Eq)]
pub struct ListingCursor {
    pub(super) kind: ListingKind,
    /// `None` behind the last message a `MessageNumber` can name.
    pub(super) next: Option<MessageNumber>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ListingKind {
    Scan,
    UniqueId,
}

impl ListingCursor {
    pub(super) fn new(kind: ListingKind) -> ListingCursor {
        ListingCursor {
            kind,
            next: Some(MessageNumber::FIRST),
        }
    }
}
