//! The unique-id as a type: 1 to 70 octets of 0x21 to 0x7E (RFC 1939 section 7).

use std::fmt;

/// Longest unique-id (RFC 1939 section 7).
pub(crate) const MAX_UNIQUE_ID: usize = 70;

/// A unique-id that may go on the wire: 1 to 70 octets of 0x21 to 0x7E.
#[derive(Clone, Copy)]
pub struct UniqueId {
    octets: [u8; MAX_UNIQUE_ID],
    length: u8,
}

impl UniqueId {
    /// Takes `octets` if they are a valid unique-id.
    pub fn new(octets: &[u8]) -> Option<Self> {
        if octets.is_empty() || !octets.iter().all(|octet| (0x21..=0x7e).contains(octet)) {
            return None;
        }
        let mut id = UniqueId {
            octets: [0; MAX_UNIQUE_ID],
            length: u8::try_from(octets.len()).ok()?,
        };
        id.octets.get_mut(..octets.len())?.copy_from_slice(octets);
        Some(id)
    }

    /// The octets as sent.
    pub fn as_bytes(&self) -> &[u8] {
        self.octets
            .get(..usize::from(self.length))
            .unwrap_or_default()
    }

    /// A stem of hexadecimal digits behind `prefix`, and `-N` for the N-th message that would have the same.
    ///
    /// `prefix` is at most one printing octet, so the longest is 1 + 32 + 11 octets.
    pub(crate) fn from_digest(prefix: &str, digest: &[u8], copy: u32) -> Option<Self> {
        use fmt::Write as _;
        let mut text = String::with_capacity(MAX_UNIQUE_ID);
        text.push_str(prefix);
        for octet in digest {
            write!(text, "{octet:02x}").ok()?;
        }
        if copy > 1 {
            write!(text, "-{copy}").ok()?;
        }
        Self::new(text.as_bytes())
    }
}

impl fmt::Display for UniqueId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(str::from_utf8(self.as_bytes()).unwrap_or_default())
    }
}

impl fmt::Debug for UniqueId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "UniqueId({self})")
    }
}

impl PartialEq for UniqueId {
    fn eq(&self, other: &Self) -> bool {
        self.as_bytes() == other.as_bytes()
    }
}

impl Eq for UniqueId {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_1_to_70_printing_octets_make_a_unique_id() {
        assert!(UniqueId::new(b"").is_none());
        assert!(UniqueId::new(b"a b").is_none());
        assert!(UniqueId::new(b"a\x7f").is_none());
        assert!(UniqueId::new("ä".as_bytes()).is_none());
        assert!(UniqueId::new(&[b'x'; 71]).is_none());
        assert!(UniqueId::new(&[b'x'; 300]).is_none());
        assert_eq!(UniqueId::new(&[b'~'; 70]).unwrap().as_bytes(), [b'~'; 70]);
        assert_eq!(UniqueId::new(b"!").unwrap().to_string(), "!");
    }

    #[test]
    fn a_later_copy_is_marked_with_its_ordinal() {
        let id = |copy| {
            UniqueId::from_digest("", &[0x01, 0xab], copy)
                .unwrap()
                .to_string()
        };
        assert_eq!(id(1), "01ab");
        assert_eq!(id(2), "01ab-2");
        assert_eq!(id(u32::MAX), "01ab-4294967295");
    }
}
