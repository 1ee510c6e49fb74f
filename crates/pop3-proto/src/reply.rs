//! Replies as octets, appended to a buffer of the caller.
//!
//! Used by the server half in the session process and the maildrop process. The first line of a reply has at most 512
//! octets and no control octet, whatever text it is given (RFC 2449 section 4); the lines of a listing are written without
//! any formatting machinery, as a maildrop may have a million of them.

use crate::decimal;
use crate::{MechanismName, MessageNumber, Octets, ResponseCode, UniqueId};

/// The longest first line of a reply, CRLF included (RFC 1939 section 3).
pub const MAX_FIRST_LINE: usize = 512;

/// The end of a multi-line reply.
pub const TERMINATOR: &[u8] = b".\r\n";

/// Appends `+OK text`, or `+OK` if there is no text.
pub fn ok(out: &mut Vec<u8>, text: &str) {
    first_line(out, b"+OK", None, text);
}

/// Appends `-ERR [CODE] text`.
pub fn err(out: &mut Vec<u8>, code: Option<ResponseCode<'_>>, text: &str) {
    first_line(out, b"-ERR", code, text);
}

/// Appends the greeting. `timestamp` is APOP's, `<` and `>` included; without one no angle bracket is sent, since clients
/// look for `<…>` anywhere in the line to learn whether there is APOP (RFC 1939 section 7).
pub fn greeting(out: &mut Vec<u8>, text: &str, timestamp: Option<&str>) {
    let mut line: String = text
        .chars()
        .filter(|character| !matches!(character, '<' | '>'))
        .collect();
    if let Some(timestamp) = timestamp {
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(timestamp);
    }
    ok(out, &line);
}

/// Appends a SASL challenge. An empty one is `+` and a space, which clients rely on (RFC 5034 section 4).
pub fn challenge(out: &mut Vec<u8>, base64: &[u8]) {
    out.extend_from_slice(b"+ ");
    out.extend_from_slice(base64);
    out.extend_from_slice(b"\r\n");
}

/// Appends the answer to a bare AUTH: the mechanisms, one a line.
pub fn mechanisms(out: &mut Vec<u8>, mechanisms: &[MechanismName]) {
    ok(out, "mechanisms follow");
    for mechanism in mechanisms {
        out.extend_from_slice(mechanism.as_bytes());
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(TERMINATOR);
}

/// Appends one line of the answer to LIST (RFC 1939 section 5).
pub fn scan_listing(out: &mut Vec<u8>, number: MessageNumber, octets: Octets) {
    decimal::write(u64::from(number.value()), out);
    out.push(b' ');
    decimal::write(octets.0, out);
    out.extend_from_slice(b"\r\n");
}

/// Appends one line of the answer to UIDL (RFC 1939 section 7).
pub fn unique_id_listing(out: &mut Vec<u8>, number: MessageNumber, unique_id: &UniqueId) {
    decimal::write(u64::from(number.value()), out);
    out.push(b' ');
    out.extend_from_slice(unique_id.as_bytes());
    out.extend_from_slice(b"\r\n");
}

fn first_line(out: &mut Vec<u8>, status: &[u8], code: Option<ResponseCode<'_>>, text: &str) {
    let start = out.len();
    out.extend_from_slice(status);
    if let Some(code) = code {
        out.extend_from_slice(b" [");
        out.extend(code.as_bytes().iter().copied().filter(u8::is_ascii_graphic));
        out.push(b']');
    }
    if !text.is_empty() {
        out.push(b' ');
    }
    let text_start = out.len();
    let end = start
        .saturating_add(MAX_FIRST_LINE)
        .saturating_sub(b"\r\n".len());
    for character in text.chars() {
        let character = match character {
            // What begins with a bracket is a code (RFC 2449 section 6.4).
            '[' if out.len() == text_start && code.is_none() => '(',
            character if character.is_ascii_control() => '?',
            character => character,
        };
        if out.len().saturating_add(character.len_utf8()) > end {
            break;
        }
        out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
    }
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn written(write: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        write(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn rule_01_the_status_is_ok_or_err_in_upper_case() {
        assert_eq!(written(|out| ok(out, "")), "+OK\r\n");
        assert_eq!(written(|out| ok(out, "2 320")), "+OK 2 320\r\n");
        assert_eq!(
            written(|out| err(out, None, "no such message")),
            "-ERR no such message\r\n"
        );
        assert_eq!(
            written(|out| err(out, Some(ResponseCode::InUse), "maildrop busy")),
            "-ERR [IN-USE] maildrop busy\r\n"
        );
    }

    #[test]
    fn rule_12_the_greeting_has_angle_brackets_only_with_apop() {
        assert_eq!(
            written(|out| greeting(out, "<popa3d> ready", None)),
            "+OK popa3d ready\r\n"
        );
        assert_eq!(
            written(|out| greeting(out, "ready", Some("<1896.697170952@dbc.mtview.ca.us>"))),
            "+OK ready <1896.697170952@dbc.mtview.ca.us>\r\n"
        );
        assert_eq!(
            written(|out| greeting(out, "", Some("<1@h>"))),
            "+OK <1@h>\r\n"
        );
        assert_eq!(written(|out| greeting(out, "", None)), "+OK\r\n");
    }

    #[test]
    fn rule_16_a_bracket_means_a_code() {
        assert_eq!(
            written(|out| err(out, None, "[AUTH] hm")),
            "-ERR (AUTH] hm\r\n"
        );
    }

    #[test]
    fn rule_19_an_empty_challenge_is_a_plus_and_a_space() {
        assert_eq!(written(|out| challenge(out, b"")), "+ \r\n");
        assert_eq!(written(|out| challenge(out, b"AAAA")), "+ AAAA\r\n");
    }

    #[test]
    fn listings_have_a_number_a_space_and_the_value() {
        let number = MessageNumber::new(4_294_967_295).unwrap();
        let id = UniqueId::new(b"QhdPYR:00WBw1Ph7x7").unwrap();
        assert_eq!(
            written(|out| scan_listing(out, number, Octets(u64::MAX))),
            "4294967295 18446744073709551615\r\n"
        );
        assert_eq!(
            written(|out| unique_id_listing(out, MessageNumber::FIRST, &id)),
            "1 QhdPYR:00WBw1Ph7x7\r\n"
        );
    }

    proptest! {
        #[test]
        fn rule_14_no_text_makes_a_line_too_long_or_two_lines(text in "\\PC{0,600}|[\\x00-\\x7f]{0,600}", coded: bool) {
            let code = coded.then_some(ResponseCode::SysTemp);
            // Another reply ahead of it takes none of the room.
            let mut out = vec![b'x'; 100];
            err(&mut out, code, &text);
            let line = &out[100..];
            prop_assert!(line.len() <= MAX_FIRST_LINE);
            prop_assert!(std::str::from_utf8(line).is_ok());
            let (end, text) = (&line[line.len() - 2..], &line[..line.len() - 2]);
            prop_assert_eq!(end, b"\r\n");
            prop_assert!(!text.iter().any(u8::is_ascii_control));
        }
    }
}
