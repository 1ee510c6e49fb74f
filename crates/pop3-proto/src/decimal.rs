//! Numbers as POP3 writes them: base 10, nothing but digits (RFC 1939 section 4).
//!
//! Used by both halves on foreign octets. The standard library's parser takes `+1`, and formatting through
//! `core::fmt` costs more than the rest of a scan listing's line, hence these two functions.

/// Digits in the longest number, 2^64 - 1.
const MAX_DIGITS: usize = 20;

/// Reads `digits` as a whole, or gives `None`.
///
/// A number has exactly one spelling: no sign, no space, no leading zero (popa3d 1.0.3, by way of `strtol`, takes
/// `LIST 01`, `LIST +1` and a leading TAB). A number above 2^64 - 1 is refused, never wrapped.
pub fn parse(digits: &[u8]) -> Option<u64> {
    let (first, rest) = digits.split_first()?;
    if *first == b'0' && !rest.is_empty() {
        return None;
    }
    parse_padded(digits)
}

/// Like [`parse`], but takes leading zeros: for what servers send, where harmless oddities are let pass.
pub fn parse_padded(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0u64, |value, octet| {
        if !octet.is_ascii_digit() {
            return None;
        }
        value.checked_mul(10)?.checked_add(u64::from(*octet & 0x0f))
    })
}

/// Appends `value` in its only spelling.
pub fn write(value: u64, out: &mut Vec<u8>) {
    let mut digits = [0u8; MAX_DIGITS];
    let mut left = value;
    let mut start = MAX_DIGITS;
    for (place, digit) in digits.iter_mut().enumerate().rev() {
        // The low four bits of an ASCII digit are its value.
        *digit = b'0' | (left % 10) as u8;
        left /= 10;
        start = place;
        if left == 0 {
            break;
        }
    }
    out.extend_from_slice(digits.get(start..).unwrap_or_default());
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn only_the_plain_spelling_of_a_number_is_read() {
        assert_eq!(parse(b"0"), Some(0));
        assert_eq!(parse(b"7"), Some(7));
        assert_eq!(parse(b"18446744073709551615"), Some(u64::MAX));
        for refused in [
            &b""[..],
            b"-1",
            b"+1",
            b"01",
            b"00",
            b"1x",
            b"x1",
            b"1 ",
            b" 1",
            b"\t1",
            b"1\0",
            b"1e9",
            b"0x10",
            b"1.0",
            b"\xb2",
            b"18446744073709551616",
            b"36893488147419103233",
        ] {
            assert_eq!(parse(refused), None, "{}", refused.escape_ascii());
        }
        assert_eq!(parse(&[b'9'; 400]), None);
    }

    #[test]
    fn padded_numbers_are_read_only_where_asked_for() {
        assert_eq!(parse_padded(b"007"), Some(7));
        assert_eq!(parse_padded(b""), None);
        assert_eq!(parse_padded(b"+7"), None);
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(value: u64) {
            let mut out = Vec::new();
            write(value, &mut out);
            prop_assert_eq!(&out, &value.to_string().into_bytes());
            prop_assert_eq!(parse(&out), Some(value));
        }
    }
}
