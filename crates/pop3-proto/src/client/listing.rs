//! The lines of listings, and the numbers in single-line replies.
//!
//! What stands behind the numbers is ignored (RFC 1939 section 5 leaves room for it), and so are leading zeros and additional
//! spaces.

use crate::decimal;
use crate::{MessageNumber, Octets};

/// The answer to STAT behind `+OK `: how many messages, and their octets.
pub fn parse_drop_listing(text: &[u8]) -> Option<(u32, Octets)> {
    let mut words = words(text);
    let messages = u32::try_from(decimal::parse_padded(words.next()?)?).ok()?;
    let octets = decimal::parse_padded(words.next()?)?;
    Some((messages, Octets(octets)))
}

/// A line of the answer to LIST, or the answer to LIST with a number behind `+OK `.
pub fn parse_scan_listing(line: &[u8]) -> Option<(MessageNumber, Octets)> {
    let mut words = words(line);
    let number = message_number(words.next()?)?;
    let octets = decimal::parse_padded(words.next()?)?;
    Some((number, Octets(octets)))
}

/// A line of the answer to UIDL, or the answer to UIDL with a number behind `+OK `.
///
/// The unique-id consists of octets of 0x21 to 0x7E; servers are met that send more than the 70 that RFC 1939 section 7
/// allows, so only [`UniqueId::new`](crate::UniqueId::new) tells whether it is a proper one.
pub fn parse_unique_id_listing(line: &[u8]) -> Option<(MessageNumber, &[u8])> {
    let mut words = words(line);
    let number = message_number(words.next()?)?;
    let unique_id = words.next()?;
    unique_id
        .iter()
        .all(u8::is_ascii_graphic)
        .then_some((number, unique_id))
}

fn message_number(digits: &[u8]) -> Option<MessageNumber> {
    MessageNumber::new(u32::try_from(decimal::parse_padded(digits)?).ok()?)
}

fn words(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    line.split(|octet| matches!(octet, b' ' | b'\t'))
        .filter(|word| !word.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{UniqueId, reply};
    use proptest::prelude::*;

    fn number(number: u32) -> MessageNumber {
        MessageNumber::new(number).unwrap()
    }

    #[test]
    fn listings_are_read_with_or_without_text_behind_them() {
        assert_eq!(parse_drop_listing(b"2 320"), Some((2, Octets(320))));
        assert_eq!(parse_drop_listing(b"2 320 octets"), Some((2, Octets(320))));
        assert_eq!(parse_scan_listing(b"1 120"), Some((number(1), Octets(120))));
        assert_eq!(
            parse_scan_listing(b"001  120 \r"),
            Some((number(1), Octets(120)))
        );
        assert_eq!(
            parse_unique_id_listing(b"2 QhdPYR:00WBw1Ph7x7"),
            Some((number(2), &b"QhdPYR:00WBw1Ph7x7"[..]))
        );
        assert_eq!(
            parse_unique_id_listing(&[b"2 ", &[b'x'; 100][..]].concat()),
            Some((number(2), &[b'x'; 100][..]))
        );
    }

    #[test]
    fn malformed_listings_are_refused() {
        for line in [
            &b""[..],
            b"1",
            b"0 1",
            b"-1 1",
            b"x 1",
            b"4294967296 1",
            b"1 x",
            b"1 -1",
            b"1 18446744073709551616",
        ] {
            assert_eq!(parse_scan_listing(line), None, "{}", line.escape_ascii());
        }
        for line in [&b""[..], b"1", b"0 x", b"1 \xff", b"1 a\0"] {
            assert_eq!(
                parse_unique_id_listing(line),
                None,
                "{}",
                line.escape_ascii()
            );
        }
        assert_eq!(parse_drop_listing(b"4294967296 1"), None);
        assert_eq!(parse_drop_listing(b"1"), None);
    }

    proptest! {
        #[test]
        fn what_a_server_lists_a_client_reads(message in 1u32.., octets: u64, id in "[!-~]{1,70}") {
            let mut out = Vec::new();
            reply::scan_listing(&mut out, number(message), Octets(octets));
            prop_assert_eq!(parse_scan_listing(out.strip_suffix(b"\r\n").unwrap()), Some((number(message), Octets(octets))));
            out.clear();
            reply::unique_id_listing(&mut out, number(message), &UniqueId::new(id.as_bytes()).unwrap());
            prop_assert_eq!(
                parse_unique_id_listing(out.strip_suffix(b"\r\n").unwrap()),
                Some((number(message), id.as_bytes()))
            );
        }
    }
}
