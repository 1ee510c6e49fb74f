//! What POP3 counts: messages, octets, lines.

use std::num::NonZeroU32;

use crate::decimal;

/// The number of a message within one session: 1 for the first (RFC 1939 section 4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MessageNumber(NonZeroU32);

impl MessageNumber {
    /// The first message of a maildrop.
    pub const FIRST: MessageNumber = MessageNumber(NonZeroU32::MIN);

    /// `None` for 0, which names no message.
    pub const fn new(number: u32) -> Option<MessageNumber> {
        match NonZeroU32::new(number) {
            Some(number) => Some(MessageNumber(number)),
            None => None,
        }
    }

    /// Reads a number as [`decimal::parse`] does; `None` as well for 0 and above 2^32 - 1.
    pub fn parse(digits: &[u8]) -> Option<MessageNumber> {
        MessageNumber::new(u32::try_from(decimal::parse(digits)?).ok()?)
    }

    /// The number as sent.
    pub const fn value(self) -> u32 {
        self.0.get()
    }

    /// The message's place in an array that begins at 0.
    pub const fn index(self) -> usize {
        // Never below 0: the number is at least 1. u32 fits usize on every Linux.
        self.0.get().saturating_sub(1) as usize
    }

    /// The number after this one; `None` after 2^32 - 1.
    pub fn next(self) -> Option<MessageNumber> {
        self.0.checked_add(1).map(MessageNumber)
    }
}

/// A size in octets as RETR sends it: line ends are CRLF, dot-stuffing is not counted (RFC 1939 section 11).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Octets(pub u64);

impl Octets {
    /// The sum; `None` above 2^64 - 1.
    pub fn checked_add(self, other: Octets) -> Option<Octets> {
        self.0.checked_add(other.0).map(Octets)
    }
}

/// How many lines of the body TOP sends; 0 sends the header alone (RFC 1939 section 7).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LineCount(pub u64);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rule_05_message_number_zero_is_refused() {
        assert_eq!(MessageNumber::new(0), None);
        assert_eq!(MessageNumber::parse(b"0"), None);
    }

    #[test]
    fn a_message_number_above_32_bits_is_not_a_smaller_one() {
        assert_eq!(MessageNumber::parse(b"4294967297"), None);
        assert_eq!(
            MessageNumber::parse(b"4294967295").map(MessageNumber::value),
            Some(u32::MAX)
        );
        assert_eq!(MessageNumber::new(u32::MAX).unwrap().next(), None);
    }

    #[test]
    fn the_first_message_has_index_zero() {
        assert_eq!(MessageNumber::FIRST.value(), 1);
        assert_eq!(MessageNumber::FIRST.index(), 0);
        assert_eq!(MessageNumber::FIRST.next(), MessageNumber::new(2));
    }
}
