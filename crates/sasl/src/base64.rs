//! Base64 as POP3's AUTH carries it (RFC 5034 section 4): padded, one way of writing each string, nothing skipped.
//!
//! Constant in time for a given length, as passwords pass through.

use std::fmt;

use base64ct::{Base64, Encoding};
use zeroize::Zeroizing;

/// Why a line is no message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DecodeError {
    /// An octet outside the alphabet, padding missing or misplaced, or bits that belong to no octet: reject with `-ERR`, or cancel
    /// with `*` on the client's side.
    NotBase64,
    /// More octets than the mechanism can have to say.
    TooLong,
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            DecodeError::NotBase64 => "not base64",
            DecodeError::TooLong => "message too long",
        })
    }
}

impl std::error::Error for DecodeError {}

/// Octets of base64 that `octets` octets become.
pub const fn encoded_octets(octets: usize) -> usize {
    octets.div_ceil(3).saturating_mul(4)
}

/// Decodes a line without its end, to at most `max_octets` octets. An empty line is an empty message.
///
/// # Errors
/// [`DecodeError`].
pub fn decode(line: &[u8], max_octets: usize) -> Result<Zeroizing<Vec<u8>>, DecodeError> {
    if line.len() > encoded_octets(max_octets) {
        return Err(DecodeError::TooLong);
    }
    let mut octets = Zeroizing::new(vec![0; line.len()]);
    let length = Base64::decode(line, &mut octets)
        .map_err(|_| DecodeError::NotBase64)?
        .len();
    if length > max_octets {
        return Err(DecodeError::TooLong);
    }
    octets.truncate(length);
    Ok(octets)
}

/// Decodes the argument behind the mechanism's name, where `=` stands for an empty message.
///
/// # Errors
/// [`DecodeError`].
pub fn decode_initial_response(
    argument: &[u8],
    max_octets: usize,
) -> Result<Zeroizing<Vec<u8>>, DecodeError> {
    match argument {
        b"=" => Ok(Zeroizing::default()),
        // Nothing behind a space is no argument; the grammar knows no empty one.
        b"" => Err(DecodeError::NotBase64),
        _ => decode(argument, max_octets),
    }
}

/// The line that carries a message, without its end.
pub fn encode(message: &[u8]) -> Zeroizing<String> {
    Zeroizing::new(Base64::encode_string(message))
}

/// The argument that carries a message behind the mechanism's name.
pub fn encode_initial_response(message: &[u8]) -> Zeroizing<String> {
    if message.is_empty() {
        return Zeroizing::new("=".to_owned());
    }
    encode(message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_come_back_as_they_went() {
        for length in 0..70 {
            let message: Vec<u8> = (0..length)
                .map(|octet: u8| octet.wrapping_mul(37))
                .collect();
            let line = encode(&message);
            assert_eq!(line.len(), encoded_octets(message.len()));
            assert_eq!(*decode(line.as_bytes(), message.len()).unwrap(), message);
            let argument = encode_initial_response(&message);
            assert_eq!(
                *decode_initial_response(argument.as_bytes(), message.len()).unwrap(),
                message
            );
        }
    }

    #[test]
    fn an_empty_initial_response_is_an_equals_sign() {
        assert_eq!(*encode_initial_response(b""), "=");
        assert!(decode_initial_response(b"=", 9).unwrap().is_empty());
        assert_eq!(decode_initial_response(b"", 9), Err(DecodeError::NotBase64));
        assert_eq!(decode(b"=", 9), Err(DecodeError::NotBase64));
    }

    /// RFC 5034 section 4 names the first two.
    #[test]
    fn what_is_not_strictly_base64_is_refused() {
        for line in [
            &b"=AAA"[..],
            b"AAA=BBB",
            b"AAA=BBB=",
            b"AA",
            b"AAA",
            b"AA=",
            b"A===",
            b"AB==",
            b"AAB=",
            b"AAAA====",
            b"AA AA===",
            b" AAAA",
            b"AAAA\r",
            b"AA-_",
            b"AAA\xff",
            b"AAA\0",
            b"*",
        ] {
            assert_eq!(
                decode(line, 99),
                Err(DecodeError::NotBase64),
                "{}",
                line.escape_ascii()
            );
        }
    }

    #[test]
    fn more_than_is_allowed_is_refused() {
        assert_eq!(decode(b"AAAA", 2), Err(DecodeError::TooLong));
        assert_eq!(decode(b"AAA=", 2).unwrap().len(), 2);
        assert_eq!(decode(b"AAAAAAAA", 3), Err(DecodeError::TooLong));
        // Not even looked at.
        assert_eq!(decode(b"!!!!!!!!", 3), Err(DecodeError::TooLong));
    }
}
