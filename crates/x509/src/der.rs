//! The few of ASN.1's distinguished encoding rules (X.690) that a certificate needs to be walked through, and to be written.

// Tags, with their class and whether they hold others.

/// `INTEGER`.
pub const INTEGER: u8 = 0x02;
/// `BIT STRING`.
pub const BIT_STRING: u8 = 0x03;
/// `OCTET STRING`.
pub const OCTET_STRING: u8 = 0x04;
/// `OBJECT IDENTIFIER`.
pub const OBJECT_IDENTIFIER: u8 = 0x06;
/// `UTF8String`.
pub const UTF8_STRING: u8 = 0x0C;
/// `PrintableString`.
pub const PRINTABLE_STRING: u8 = 0x13;
/// `IA5String`.
pub const IA5_STRING: u8 = 0x16;
/// `UTCTime`.
pub const UTC_TIME: u8 = 0x17;
/// `GeneralizedTime`.
pub const GENERALIZED_TIME: u8 = 0x18;
/// `SEQUENCE`.
pub const SEQUENCE: u8 = 0x30;
/// `SET`.
pub const SET: u8 = 0x31;

/// `[number]`, holding other values.
pub const fn context(number: u8) -> u8 {
    0xA0 | number
}

/// Reads one value after the other.
#[derive(Clone, Copy, Debug)]
pub struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    /// Of values that stand one behind the other.
    pub fn new(octets: &'a [u8]) -> Self {
        Self(octets)
    }

    /// The content of the next value, which must have this tag.
    pub fn expect(&mut self, tag: u8) -> Option<&'a [u8]> {
        self.next()
            .filter(|&(found, _)| found == tag)
            .map(|(_, content)| content)
    }

    /// The content of the next value if it has this tag; else it stays the next.
    pub fn optional(&mut self, tag: u8) -> Option<&'a [u8]> {
        let mut ahead = *self;
        let content = ahead.expect(tag)?;
        *self = ahead;
        Some(content)
    }
}

impl<'a> Iterator for Reader<'a> {
    /// A value: its tag and its content.
    type Item = (u8, &'a [u8]);

    /// `None`: there is none, or it is cut off.
    fn next(&mut self) -> Option<Self::Item> {
        let (&[tag, length], rest) = self.0.split_first_chunk()?;
        // Tags of more than one octet are not in certificates.
        if tag & 0x1F == 0x1F {
            return None;
        }
        let (length, rest) = match length {
            0..=0x7F => (usize::from(length), rest),
            0x81 => {
                let (&[length], rest) = rest.split_first_chunk()?;
                (usize::from(length), rest)
            }
            0x82 => {
                let (&length, rest) = rest.split_first_chunk()?;
                (usize::from(u16::from_be_bytes(length)), rest)
            }
            // 64 KiB are more than a certificate has.
            _ => return None,
        };
        let (content, rest) = rest.split_at_checked(length)?;
        self.0 = rest;
        Some((tag, content))
    }
}

/// Appends a value.
pub fn write(tag: u8, content: &[u8], out: &mut Vec<u8>) {
    out.push(tag);
    match u8::try_from(content.len()) {
        Ok(length @ 0..=0x7F) => out.push(length),
        Ok(length) => out.extend_from_slice(&[0x81, length]),
        Err(_) => {
            out.push(0x82);
            let length = u16::try_from(content.len()).unwrap_or(u16::MAX);
            out.extend_from_slice(&length.to_be_bytes());
        }
    }
    out.extend_from_slice(content);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        for length in [0, 1, 0x7F, 0x80, 0xFF, 0x100, 0xFFFF] {
            let content = vec![7; length];
            let mut octets = Vec::new();
            write(OCTET_STRING, &content, &mut octets);
            write(SEQUENCE, b"", &mut octets);
            let mut reader = Reader::new(&octets);
            assert_eq!(reader.optional(SEQUENCE), None);
            assert_eq!(reader.expect(OCTET_STRING), Some(content.as_slice()));
            assert_eq!(reader.next(), Some((SEQUENCE, b"".as_slice())));
            assert_eq!(reader.next(), None);
        }
    }

    #[test]
    fn a_value_that_is_cut_off_is_none() {
        let mut octets = Vec::new();
        write(OCTET_STRING, &[7; 300], &mut octets);
        for length in 0..octets.len() {
            assert_eq!(Reader::new(&octets[..length]).next(), None);
        }
    }
}
