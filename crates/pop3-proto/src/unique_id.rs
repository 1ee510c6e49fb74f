//! The unique-id of a message.

use std::fmt;

/// A message's unique-id: 1 to 70 octets of 0x21 to 0x7E, the same in every session (RFC 1939 section 7, UIDL).
///
/// Held in place, so that a maildrop's ids need no allocation each.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UniqueId {
    /// Behind the id: zeros, so that comparing arrays compares ids.
    octets: [u8; UniqueId::MAX_OCTETS],
    length: u8,
}

impl UniqueId {
    /// The longest unique-id that RFC 1939 section 7 allows.
    pub const MAX_OCTETS: usize = 70;

    /// `None` if `id` is empty, too long or holds an octet outside 0x21 to 0x7E.
    pub fn new(id: &[u8]) -> Option<UniqueId> {
        if id.is_empty() || !id.iter().all(u8::is_ascii_graphic) {
            return None;
        }
        let mut octets = [0; UniqueId::MAX_OCTETS];
        octets.get_mut(..id.len())?.copy_from_slice(id);
        Some(UniqueId {
            octets,
            length: u8::try_from(id.len()).ok()?,
        })
    }

    /// The octets as sent.
    pub fn as_bytes(&self) -> &[u8] {
        self.octets
            .get(..usize::from(self.length))
            .unwrap_or_default()
    }
}

impl fmt::Debug for UniqueId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "UniqueId({})", self.as_bytes().escape_ascii())
    }
}

impl fmt::Display for UniqueId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.as_bytes().escape_ascii())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rule_09_a_unique_id_has_1_to_70_printable_octets() {
        assert_eq!(
            UniqueId::new(b"whqtswO00WBw418f9t5JxYwZ")
                .unwrap()
                .as_bytes(),
            b"whqtswO00WBw418f9t5JxYwZ"
        );
        assert_eq!(UniqueId::new(&[b'x'; 70]).unwrap().as_bytes(), [b'x'; 70]);
        assert_eq!(UniqueId::new(b""), None);
        assert_eq!(UniqueId::new(&[b'x'; 71]), None);
        for octet in 0..=255u8 {
            let allowed = (0x21..=0x7e).contains(&octet);
            assert_eq!(UniqueId::new(&[octet]).is_some(), allowed, "{octet:#04x}");
        }
    }

    #[test]
    fn ids_order_as_their_octets_do() {
        let id = |octets: &[u8]| UniqueId::new(octets).unwrap();
        assert!(id(b"a") < id(b"aa"));
        assert!(id(b"aa") < id(b"b"));
        assert_ne!(id(b"a"), id(b"aa"));
    }
}
