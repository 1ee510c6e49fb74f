//! How many octets RETR will send.

use memchr::{memchr, memchr_iter, memrchr};

use super::line_state::LineState;
use crate::Octets;

/// Counts the octets of a stored message as RETR sends it: what LIST has to say (RFC 1939 section 11).
///
/// Dot-stuffing and the final dot are not counted, all that the [`Encoder`](super::Encoder) adds besides is.
///
/// ```
/// use pop3_proto::{Octets, multiline::Counter};
///
/// let mut counter = Counter::new();
/// counter.count(b"Subject: dots\n\n");
/// counter.count(b".\nno line end");
/// assert_eq!(counter.finish(), Octets(15 + 2 + 3 + 13));
/// ```
#[derive(Clone, Debug)]
pub struct Counter {
    octets: u64,
    line: LineState,
    in_header: bool,
}

impl Counter {
    /// For one message.
    pub fn new() -> Counter {
        Counter {
            octets: 0,
            line: LineState::Start,
            in_header: true,
        }
    }

    /// Counts the next octets of the message, in pieces of any size.
    pub fn count(&mut self, stored: &[u8]) {
        let mut rest = stored;
        while self.in_header {
            let Some(end) = memchr(b'\n', rest) else {
                break;
            };
            let (line, from_end) = rest.split_at(end);
            self.add(line.len());
            self.line = self.line.then(line);
            self.in_header = !self.line.is_empty_line();
            self.add(if self.line.has_cr() { 1 } else { 2 });
            self.line = LineState::Start;
            rest = from_end.get(1..).unwrap_or_default();
        }
        if !rest.is_empty() {
            self.count_body(rest);
        }
    }

    /// Counts octets among which no line ends the header.
    fn count_body(&mut self, stored: &[u8]) {
        self.add(stored.len());
        self.add(memchr_iter(b'\n', stored).count());
        // Where a CR stands ahead of the LF none is added.
        let mut crlfs = usize::from(self.line.has_cr() && stored.first() == Some(&b'\n'));
        if memchr(b'\r', stored).is_some() {
            crlfs = crlfs.saturating_add(memchr::memmem::find_iter(stored, b"\r\n").count());
        }
        self.octets = self.octets.saturating_sub(crlfs as u64);
        self.line = match memrchr(b'\n', stored) {
            Some(end) => {
                LineState::Start.then(stored.get(end.saturating_add(1)..).unwrap_or_default())
            }
            None => self.line.then(stored),
        };
    }

    /// The message is at its end: its size.
    pub fn finish(mut self) -> Octets {
        if self.line != LineState::Start {
            self.add(b"\r\n".len());
        }
        if self.in_header {
            self.add(b"\r\n".len());
        }
        Octets(self.octets)
    }

    /// No message has 2^64 octets, so this never saturates.
    fn add(&mut self, octets: usize) {
        self.octets = self.octets.saturating_add(octets as u64);
    }
}

impl Default for Counter {
    fn default() -> Counter {
        Counter::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn size(stored: &[u8]) -> u64 {
        let mut counter = Counter::new();
        counter.count(stored);
        counter.finish().0
    }

    #[test]
    fn rule_07_line_ends_count_as_crlf() {
        assert_eq!(size(b"a: b\n\nc\n"), 6 + 2 + 3);
        assert_eq!(size(b"a: b\r\n\r\nc\r\n"), 6 + 2 + 3);
    }

    #[test]
    fn rule_07_a_missing_last_line_end_counts_as_the_crlf_sent() {
        assert_eq!(size(b"a: b\n\nc"), 6 + 2 + 3);
        assert_eq!(size(b"a: b\n\nc\r"), 6 + 2 + 4);
    }

    #[test]
    fn rule_07_the_empty_line_of_a_bodyless_message_counts() {
        assert_eq!(size(b"a: b\n"), 6 + 2);
        assert_eq!(size(b"a: b"), 6 + 2);
        assert_eq!(size(b"a: b\n\n"), 6 + 2);
        assert_eq!(size(b""), 2);
        assert_eq!(size(b"\n"), 2);
    }

    #[test]
    fn rule_07_stuffed_dots_do_not_count() {
        assert_eq!(size(b"\n.\n..\n"), 2 + 3 + 4);
    }

    #[test]
    fn a_cr_within_a_line_is_data() {
        assert_eq!(size(b"\na\rb\r\r\n"), 2 + 6);
    }
}
