//! Which messages need UTF-8 (RFC 6532): the maildrop process looks at what it is about to send.

/// The header, as far as `beginning` goes, holds octets that are not ASCII and all of it is UTF-8. Octets of another
/// encoding are no internationalized mail but a mistake, which no surrogate makes better.
pub fn is_internationalized(beginning: &[u8]) -> bool {
    let header = header(beginning);
    if header.is_ascii() {
        return false;
    }
    match std::str::from_utf8(header) {
        Ok(_) => true,
        // Cut off within a character.
        Err(error) => error.error_len().is_none() && header.len() == beginning.len(),
    }
}

/// Up to the empty line.
fn header(beginning: &[u8]) -> &[u8] {
    let octets = beginning
        .split_inclusive(|&octet| octet == b'\n')
        .take_while(|line| !matches!(*line, b"\n" | b"\r\n"))
        .map(<[u8]>::len)
        .sum();
    beginning.get(..octets).unwrap_or(beginning)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_in_utf8_is_internationalized_and_a_body_or_another_encoding_is_not() {
        for (message, expected) in [
            ("Subject: \u{e9}\n\nbody\n".as_bytes(), true),
            ("Subject: \u{4e2d}".as_bytes(), true),
            (b"", false),
            (b"Subject: e\n\nbody\n", false),
            ("Subject: e\n\n\u{e9}\n".as_bytes(), false),
            ("Subject: e\r\n\r\n\u{e9}\n".as_bytes(), false),
            (b"Subject: \xe9\n\nbody\n", false),
            // One octet of Latin-1 among UTF-8.
            (b"Subject: \xc3\xa9 \xe9\n\nbody\n", false),
            (b"Subject: \xe9", true),
            (b"Subject: \xe9\n", false),
        ] {
            assert_eq!(
                is_internationalized(message),
                expected,
                "{}",
                message.escape_ascii()
            );
        }
    }

    #[test]
    fn a_header_longer_than_what_has_been_read_may_be_cut_anywhere() {
        let message = "Subject: \u{e9}\u{4e2d}\u{1f600}".as_bytes();
        for end in "Subject: \u{e9}".len()..=message.len() {
            assert!(is_internationalized(&message[..end]), "{end}");
        }
    }
}
