//! The table of an mbox's messages: where each one is, its octets on the wire, and what makes its unique-id.

use crate::UniqueId;
use crate::unique_id::from_digest;

/// One message. Of this there may be millions, so it stays within [`MAX_MESSAGE_SIZE`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Message {
    /// Offset of its `From ` line.
    pub(crate) from: u64,
    /// Offset of the message as served, behind that line.
    pub(crate) start: u64,
    /// Octets stored from there on.
    pub(crate) stored: u64,
    /// Octets on the wire.
    pub(crate) octets: u64,
    /// What the unique-id is made of.
    pub(crate) digest: [u8; 8],
    /// 1, or how many messages with the same digest there are up to this one.
    pub(crate) copy: u32,
}

/// Memory for one message: constant whatever the mail looks like.
const MAX_MESSAGE_SIZE: usize = 48;
const _: () = assert!(size_of::<Message>() <= MAX_MESSAGE_SIZE);

impl Message {
    /// popa3d's unique-id; a later copy's is made distinct, which RFC 1939 section 7 asks for and popa3d does not do.
    pub(crate) fn unique_id(&self) -> Option<UniqueId> {
        from_digest("", &self.digest, self.copy)
    }

    /// Whether this is, at the same place, the same message: all that a scan finds out about it.
    pub(crate) fn is_same(&self, other: &Message) -> bool {
        let copy = self.copy;
        *self == Message { copy, ..*other }
    }
}

/// The messages of an mbox in file order.
#[derive(Debug, Default)]
pub(crate) struct Table {
    messages: Vec<Message>,
}

impl Table {
    /// Makes the table of messages whose copies are numbered.
    pub(crate) fn new(mut messages: Vec<Message>) -> Self {
        messages.shrink_to_fit();
        Table { messages }
    }

    pub(crate) fn messages(&self) -> &[Message] {
        &self.messages
    }

    pub(crate) fn get(&self, index: u32) -> Option<&Message> {
        self.messages.get(usize::try_from(index).ok()?)
    }

    pub(crate) fn count(&self) -> u32 {
        u32::try_from(self.messages.len()).unwrap_or(u32::MAX)
    }

    /// Octets of the file that go with the messages that `deleted` names, their `From ` lines and the empty lines behind
    /// them included. `end` is where the last message ends.
    pub(crate) fn removed(&self, end: u64, deleted: &dyn Fn(u32) -> bool) -> u64 {
        self.extents(end)
            .filter(|&(index, ..)| deleted(index))
            .fold(0, |sum, (_, _, length)| sum.saturating_add(length))
    }

    /// The other messages, where they are once those are gone.
    pub(crate) fn kept(
        &self,
        end: u64,
        deleted: &dyn Fn(u32) -> bool,
    ) -> impl Iterator<Item = Message> {
        let mut removed = 0_u64;
        self.extents(end)
            .filter_map(move |(index, message, length)| {
                if deleted(index) {
                    removed = removed.saturating_add(length);
                    return None;
                }
                Some(Message {
                    from: message.from.saturating_sub(removed),
                    start: message.start.saturating_sub(removed),
                    ..*message
                })
            })
    }

    /// The messages with their indexes and their octets in the file.
    fn extents(&self, end: u64) -> impl Iterator<Item = (u32, &Message, u64)> {
        let ends = self.messages.iter().skip(1).map(|message| message.from);
        let ends = ends.chain(std::iter::once(end));
        self.iter()
            .zip(ends)
            .map(|((index, message), end)| (index, message, end.saturating_sub(message.from)))
    }

    /// The messages with their indexes.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u32, &Message)> {
        (0..).zip(&self.messages)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(digest: u8) -> Message {
        Message {
            from: 0,
            start: 0,
            stored: 0,
            octets: 0,
            digest: [digest; 8],
            copy: 1,
        }
    }

    #[test]
    fn a_later_copy_is_marked_with_its_number() {
        let id = |copy| {
            let message = Message { copy, ..message(7) };
            message.unique_id().unwrap().to_string()
        };
        assert_eq!(id(1), "07".repeat(8));
        assert_eq!(id(2), "07".repeat(8) + "-2");
    }

    #[test]
    fn kept_messages_move_to_where_the_removed_ones_were() {
        let messages = [(0, 5), (10, 12), (30, 33)].map(|(from, start)| Message {
            from,
            start,
            ..message(1)
        });
        let table = Table::new(messages.to_vec());
        let kept = |deleted: u32| {
            let deleted = move |index: u32| deleted & (1 << index) != 0;
            let places = table
                .kept(50, &deleted)
                .map(|message| (message.from, message.start));
            (table.removed(50, &deleted), places.collect::<Vec<_>>())
        };
        assert_eq!(kept(0b000), (0, vec![(0, 5), (10, 12), (30, 33)]));
        assert_eq!(kept(0b001), (10, vec![(0, 2), (20, 23)]));
        assert_eq!(kept(0b010), (20, vec![(0, 5), (10, 13)]));
        assert_eq!(kept(0b101), (30, vec![(0, 2)]));
        assert_eq!(kept(0b111), (50, vec![]));
    }
}
