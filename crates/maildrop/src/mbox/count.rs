//! Counting a message of an mbox, of which it is not known before its end whether its last line is its own.

use pop3_proto::multiline::Counter;

/// Counts one message fed in pieces of any length.
#[derive(Clone, Debug, Default)]
pub(super) struct Count {
    stored: u64,
    counter: Counter,
    /// The counter before the last octet.
    before_last: Counter,
    /// The last two octets, the newest last; 0 where there are none.
    tail: [u8; 2],
}

impl Count {
    /// Takes the next octets of the message.
    pub(super) fn feed(&mut self, octets: &[u8]) {
        let Some((&last, others)) = octets.split_last() else {
            return;
        };
        self.stored = self.stored.saturating_add(octets.len() as u64);
        self.counter.count(others);
        self.before_last = self.counter.clone();
        self.counter.count(&[last]);
        self.tail = [others.last().copied().unwrap_or(self.tail[1]), last];
    }

    /// Ends the message: its octets as stored, and as on the wire.
    ///
    /// A last line that is empty (LF alone) separates it from the next message and is not part of it, unless it is the
    /// one that ends the header. Which it is shows on the wire: the header's is sent whether it is stored or not.
    pub(super) fn finish(self) -> (u64, u64) {
        let (whole, without) = (self.counter.finish().0, self.before_last.finish().0);
        match self.tail == *b"\n\n" && whole != without {
            true => (self.stored.saturating_sub(1), without),
            false => (self.stored, whole),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{strings, wire};

    fn count(message: &[u8], piece: usize) -> (u64, u64) {
        let mut count = Count::default();
        message.chunks(piece).for_each(|piece| count.feed(piece));
        count.finish()
    }

    #[test]
    fn the_last_empty_line_is_the_headers_or_none_of_the_message_however_it_is_cut() {
        for message in strings(b"\r\nF", 8) {
            let header_ends = (0..message.len()).find(|&at| {
                message[at] == b'\n'
                    && matches!(
                        &message[..at],
                        b"" | b"\r" | [.., b'\n'] | [.., b'\n', b'\r']
                    )
            });
            let separated = message.ends_with(b"\n\n") && header_ends != Some(message.len() - 1);
            let own = message.len() - usize::from(separated);
            let expected = (own as u64, wire(&message[..own]).len() as u64);
            for piece in 1..=message.len().max(1) {
                let printable = message.escape_ascii();
                assert_eq!(
                    count(&message, piece),
                    expected,
                    "{printable} in pieces of {piece}"
                );
            }
        }
    }
}
