//! What the greeting tells.

/// APOP's timestamp in the text of a greeting, `<` and `>` included (RFC 1939 section 7).
///
/// It is taken only if it is a msg-id of RFC 822, in ASCII: with any string between angle brackets for a timestamp, a server
/// in the middle can choose one that makes digests collide and learns the password by degrees (CVE-2007-1558).
pub fn apop_timestamp(text: &[u8]) -> Option<&[u8]> {
    let start = memchr::memchr(b'<', text)?;
    let from_start = text.get(start..)?;
    let length = memchr::memchr(b'>', from_start)?.checked_add(1)?;
    let timestamp = from_start.get(..length)?;
    let id = timestamp.strip_prefix(b"<")?.strip_suffix(b">")?;
    let mut parts = id.split(|octet| *octet == b'@');
    let (local, domain) = (parts.next()?, parts.next()?);
    let valid = parts.next().is_none()
        && is_dot_atom(local)
        && (is_dot_atom(domain) || is_domain_literal(domain));
    valid.then_some(timestamp)
}

/// RFC 5322 section 3.2.3, but dots may stand anywhere, as servers have it.
fn is_dot_atom(part: &[u8]) -> bool {
    let allowed =
        |octet: &u8| octet.is_ascii_alphanumeric() || b".!#$%&'*+-/=?^_`{|}~".contains(octet);
    !part.is_empty() && part.iter().all(allowed)
}

/// An address in brackets.
fn is_domain_literal(part: &[u8]) -> bool {
    let address = part
        .strip_prefix(b"[")
        .and_then(|rest| rest.strip_suffix(b"]"));
    address.is_some_and(|address| {
        !address.is_empty()
            && address
                .iter()
                .all(|octet| octet.is_ascii_alphanumeric() || b".:-".contains(octet))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_timestamp_may_stand_anywhere_in_the_greeting() {
        let timestamp = Some(&b"<1896.697170952@dbc.mtview.ca.us>"[..]);
        assert_eq!(
            apop_timestamp(b"POP3 server ready <1896.697170952@dbc.mtview.ca.us>"),
            timestamp
        );
        assert_eq!(
            apop_timestamp(b"<1896.697170952@dbc.mtview.ca.us> hello"),
            timestamp
        );
        assert_eq!(
            apop_timestamp(b"<1.2@[192.0.2.1]>"),
            Some(&b"<1.2@[192.0.2.1]>"[..])
        );
    }

    #[test]
    fn what_is_no_msg_id_is_no_timestamp() {
        for text in [
            &b"ready"[..],
            b"<>",
            b"<a>",
            b"<@>",
            b"<a@>",
            b"<@b>",
            b"<a@b",
            b"<a@b@c>",
            b"<a b@c>",
            b"<a\0@b>",
            b"<a\xff@b>",
            b"<a\x01b@c>",
            b"<<a@b>",
            b"<\"a\"@b>",
            b"<a@[]>",
        ] {
            assert_eq!(apop_timestamp(text), None, "{}", text.escape_ascii());
        }
    }
}
