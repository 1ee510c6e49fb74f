//! How a unique-id is spelled that is made of a digest.

pub use pop3_proto::UniqueId;

/// A stem of hexadecimal digits behind `prefix`, and `-N` for the N-th message that would have the same.
///
/// `prefix` is at most one printing octet, so the longest is 1 + 32 + 11 octets.
pub(crate) fn from_digest(prefix: &str, digest: &[u8], copy: u32) -> Option<UniqueId> {
    use std::fmt::Write as _;
    let mut text = String::with_capacity(UniqueId::MAX_OCTETS);
    text.push_str(prefix);
    for octet in digest {
        write!(text, "{octet:02x}").ok()?;
    }
    if copy > 1 {
        write!(text, "-{copy}").ok()?;
    }
    UniqueId::new(text.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_later_copy_is_marked_with_its_ordinal() {
        let id = |copy| from_digest("", &[0x01, 0xab], copy).unwrap().to_string();
        assert_eq!(id(1), "01ab");
        assert_eq!(id(2), "01ab-2");
        assert_eq!(id(u32::MAX), "01ab-4294967295");
    }
}
