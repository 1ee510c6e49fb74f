//! The one message of PLAIN (RFC 4616 section 2).

use crate::Secret;

/// The message as parsed. Octets: old clients send passwords in Latin-1.
#[derive(Debug, PartialEq, Eq)]
pub struct Message<'a> {
    /// Empty for none.
    pub authzid: &'a [u8],
    pub authcid: &'a [u8],
    pub password: &'a [u8],
}

impl<'a> Message<'a> {
    /// `None` for anything but three strings, of which the last two say something.
    pub fn parse(message: &'a [u8]) -> Option<Self> {
        let mut strings = message.split(|&octet| octet == 0);
        let parsed = Self {
            authzid: strings.next()?,
            authcid: strings.next()?,
            password: strings.next()?,
        };
        let sound =
            strings.next().is_none() && !parsed.authcid.is_empty() && !parsed.password.is_empty();
        sound.then_some(parsed)
    }

    /// `None` if a string is empty that must not be, or contains NUL.
    pub fn write(&self) -> Option<Secret> {
        let strings = [self.authzid, self.authcid, self.password];
        let sound = !self.authcid.is_empty()
            && !self.password.is_empty()
            && strings.iter().all(|string| !string.contains(&0));
        sound.then(|| Secret::new(strings.join(&0)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_examples_of_rfc_4616_section_4() {
        let tim = Message::parse(b"\0tim\0tanstaaftanstaaf").unwrap();
        assert_eq!(tim.authzid, b"");
        assert_eq!(tim.authcid, b"tim");
        assert_eq!(tim.password, b"tanstaaftanstaaf");
        assert_eq!(tim.write().unwrap().as_bytes(), b"\0tim\0tanstaaftanstaaf");

        let kurt = Message::parse(b"Ursel\0Kurt\0xipj3plmq").unwrap();
        assert_eq!(kurt.authzid, b"Ursel");
        assert_eq!(kurt.authcid, b"Kurt");
    }

    #[test]
    fn what_is_no_such_message_is_refused() {
        for message in [
            &b""[..],
            b"tim",
            b"\0tim",
            b"\0tim\0",
            b"\0\0password",
            b"\0tim\0pass\0word",
            b"\0tim\0password\0",
            b"\0\0",
        ] {
            assert_eq!(Message::parse(message), None, "{}", message.escape_ascii());
        }
    }

    #[test]
    fn what_contains_nul_is_not_written() {
        let message = Message {
            authzid: b"",
            authcid: b"tim",
            password: b"a\0b",
        };
        assert_eq!(message.write(), None);
    }
}
