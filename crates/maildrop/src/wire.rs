//! Counting a stored message's octets as RETR sends them. The same rule as the encoder's in pop3-proto:
//! every line ends CRLF whether LF or CRLF is stored, a CR elsewhere is data, a missing last line end and a missing
//! empty line behind the header are supplied, dot-stuffing is not counted (RFC 1939 sections 3, 5 and 11).

use memchr::{memchr, memchr_iter};

/// Counts one message fed in pieces of any length.
#[derive(Clone, Debug, Default)]
pub(crate) struct WireCount {
    stored: u64,
    line_feeds: u64,
    crlfs: u64,
    /// The last two octets, the newest last; 0 where there are none.
    tail: [u8; 2],
    /// Octets up to and with the first empty line, once it has been seen.
    header: Option<u64>,
    /// Octets of the line under way, while in the header.
    line: u64,
}

impl WireCount {
    /// Takes the next octets of the message.
    pub(crate) fn feed(&mut self, octets: &[u8]) {
        let Some(&last) = octets.last() else { return };
        if self.header.is_none() {
            self.look_for_empty_line(octets);
        }
        if self.tail[1] == b'\r' && octets.first() == Some(&b'\n') {
            self.crlfs = self.crlfs.saturating_add(1);
        }
        self.crlfs = self.crlfs.saturating_add(count_crlf(octets));
        self.line_feeds = self
            .line_feeds
            .saturating_add(memchr_iter(b'\n', octets).count() as u64);
        self.stored = self.stored.saturating_add(octets.len() as u64);
        self.tail = [nth_last(octets, 2).unwrap_or(self.tail[1]), last];
    }

    /// Octets fed so far.
    pub(crate) fn stored(&self) -> u64 {
        self.stored
    }

    /// Octets on the wire.
    pub(crate) fn on_wire(&self) -> u64 {
        let line_end = if self.stored > 0 && self.tail[1] != b'\n' {
            2
        } else {
            0
        };
        let empty_line = if self.header.is_none() { 2 } else { 0 };
        self.stored
            .saturating_add(self.line_feeds)
            .saturating_sub(self.crlfs)
            .saturating_add(line_end)
            .saturating_add(empty_line)
    }

    /// Takes back a last line that is empty (LF alone) and belongs to the body: in an mbox it is no part of the message.
    pub(crate) fn drop_separating_line(&mut self) {
        let before = self.stored.saturating_sub(1);
        if self.tail == *b"\n\n" && self.header.is_some_and(|header| header <= before) {
            self.stored = before;
            self.line_feeds = self.line_feeds.saturating_sub(1);
        }
    }

    fn look_for_empty_line(&mut self, octets: &[u8]) {
        let mut at = 0_usize;
        while let Some(rest) = octets.get(at..).filter(|rest| !rest.is_empty()) {
            let Some(length) = memchr(b'\n', rest) else {
                self.line = self.line.saturating_add(rest.len() as u64);
                return;
            };
            let line = self.line.saturating_add(length as u64);
            let before = match length {
                0 => self.tail[1],
                _ => rest.first().copied().unwrap_or(0),
            };
            at = at.saturating_add(length).saturating_add(1);
            self.line = 0;
            if line == 0 || (line == 1 && before == b'\r') {
                self.header = Some(self.stored.saturating_add(at as u64));
                return;
            }
        }
    }
}

fn nth_last(octets: &[u8], n: usize) -> Option<u8> {
    octets.get(octets.len().checked_sub(n)?).copied()
}

/// CRs right before an LF within `octets`. Most mailboxes have none, and a look for the first CR is all they cost.
fn count_crlf(octets: &[u8]) -> u64 {
    let Some(octets) = memchr(b'\r', octets).and_then(|first| octets.get(first..)) else {
        return 0;
    };
    // Blocks of 255 let the compiler count in 8-bit lanes.
    let next = octets.get(1..).unwrap_or_default();
    octets
        .chunks(255)
        .zip(next.chunks(255))
        .map(|(these, next)| {
            let crlfs = these.iter().zip(next).fold(0_u8, |count, (&this, &next)| {
                count.wrapping_add(u8::from((this == b'\r') & (next == b'\n')))
            });
            u64::from(crlfs)
        })
        .fold(0, u64::saturating_add)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{strings, wire};

    fn count(message: &[u8], piece: usize) -> WireCount {
        let mut count = WireCount::default();
        message.chunks(piece).for_each(|piece| count.feed(piece));
        count
    }

    #[test]
    fn the_count_is_the_length_of_what_is_sent_however_the_message_is_cut() {
        for message in strings(b"\r\nF.", 7) {
            let expected = wire(&message).len() as u64;
            for piece in 1..=message.len().max(1) {
                let count = count(&message, piece);
                assert_eq!(
                    count.on_wire(),
                    expected,
                    "{message:?} in pieces of {piece}"
                );
                assert_eq!(count.stored(), message.len() as u64);
            }
        }
    }

    #[test]
    fn an_empty_message_is_its_empty_line() {
        assert_eq!(WireCount::default().on_wire(), 2);
    }

    #[test]
    fn long_runs_of_crlf_are_counted_beyond_eight_bits() {
        let message = b"\r\n".repeat(100_000);
        assert_eq!(count(&message, message.len()).on_wire(), 200_000);
        assert_eq!(count(&message, 511).on_wire(), 200_000);
    }
}
