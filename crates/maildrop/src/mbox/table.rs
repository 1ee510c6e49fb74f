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
    /// Makes the table of messages as scanned, their copies not yet numbered.
    pub(crate) fn new(mut messages: Vec<Message>) -> Self {
        number_copies(&mut messages);
        messages.shrink_to_fit();
        Table { messages }
    }

    /// Makes the table of messages whose copies are numbered, but for those from `first_new` on.
    pub(crate) fn grown(mut messages: Vec<Message>, first_new: usize) -> Self {
        number_new_copies(&mut messages, first_new);
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

/// Numbers messages of the same digest in file order. By sorting: someone may have a million of them.
fn number_copies(messages: &mut [Message]) {
    let digest =
        |messages: &[Message], at: u32| messages.get(at as usize).map(|message| message.digest);
    let mut order: Vec<u32> = (0..).take(messages.len()).collect();
    order.sort_unstable_by_key(|&at| (digest(messages, at), at));
    let mut before = None;
    let mut copy = 0_u32;
    for at in order {
        let digest = digest(messages, at);
        copy = match before == digest {
            true => copy.saturating_add(1),
            false => 1,
        };
        before = digest;
        if let Some(message) = messages.get_mut(at as usize) {
            message.copy = copy;
        }
    }
}

/// The same for a few messages behind many whose copies are numbered, in one pass over those.
fn number_new_copies(messages: &mut [Message], first_new: usize) {
    let Some((known, new)) = messages.split_at_mut_checked(first_new) else {
        return;
    };
    if new.is_empty() {
        return;
    }
    // The highest number given, by digest.
    let mut given: Vec<([u8; 8], u32)> = new.iter().map(|message| (message.digest, 0)).collect();
    given.sort_unstable();
    given.dedup();
    let find = |given: &[([u8; 8], u32)], digest: [u8; 8]| {
        given.binary_search_by_key(&digest, |&(digest, _)| digest)
    };
    for message in known {
        if let Ok(at) = find(&given, message.digest)
            && let Some((_, copy)) = given.get_mut(at)
        {
            *copy = message.copy.max(*copy);
        }
    }
    for message in new {
        if let Ok(at) = find(&given, message.digest)
            && let Some((_, copy)) = given.get_mut(at)
        {
            *copy = copy.saturating_add(1);
            message.copy = *copy;
        }
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
    fn the_first_of_equal_messages_keeps_the_plain_id() {
        let table = Table::new([7, 9, 7, 8, 9, 7].map(message).to_vec());
        let ids: Vec<String> = table
            .iter()
            .map(|(_, message)| message.unique_id().unwrap().to_string())
            .collect();
        let (seven, eight, nine) = ("07".repeat(8), "08".repeat(8), "09".repeat(8));
        let expected = [
            seven.clone(),
            nine.clone(),
            format!("{seven}-2"),
            eight,
            format!("{nine}-2"),
            format!("{seven}-3"),
        ];
        assert_eq!(ids, expected);
    }

    #[test]
    fn a_table_that_grew_is_the_same_as_one_made_at_once() {
        let messages: Vec<Message> = (0..60_u8).map(|at| message(at % 5 * (at % 3))).collect();
        let whole = Table::new(messages.clone());
        for known in 0..=messages.len() {
            let mut grown = whole.messages().to_vec();
            for message in &mut grown[known..] {
                message.copy = 1;
            }
            assert_eq!(Table::grown(grown, known).messages(), whole.messages());
        }
    }

    #[test]
    fn a_million_equal_messages_are_numbered_in_order() {
        let table = Table::new(vec![message(1); 1_000_000]);
        assert!(
            table
                .iter()
                .all(|(index, message)| message.copy == index + 1)
        );
        assert_eq!(table.count(), 1_000_000);
    }
}
