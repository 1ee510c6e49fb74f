//! The lines of the answer to CAPA (RFC 2449 section 6).

use std::time::Duration;

use crate::server::Expire;
use crate::{MechanismName, decimal};

/// What a server says it can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Capability<'a> {
    /// TOP.
    Top,
    /// UIDL.
    Uidl,
    /// USER and PASS.
    User,
    /// A `[` in a reply begins a response code.
    RespCodes,
    /// A login that failed without `[AUTH]` was not the credentials' fault (RFC 3206 section 6).
    AuthRespCode,
    /// Commands may be sent ahead of the replies.
    Pipelining,
    /// AUTH with these mechanisms; see [`Capability::mechanisms`].
    Sasl(&'a [u8]),
    /// STLS (RFC 2595).
    Stls,
    /// The shortest time between two logins; `per_user` if CAPA tells more after login.
    LoginDelay {
        /// The largest for any user.
        delay: Duration,
        /// `USER` was sent.
        per_user: bool,
    },
    /// How long mail is kept; `per_user` if CAPA tells more after login.
    Expire {
        /// The smallest for any user.
        expire: Expire,
        /// `USER` was sent.
        per_user: bool,
    },
    /// Which server it is; never a reason to behave otherwise.
    Implementation(&'a [u8]),
    /// UTF8; `user` if names and passwords may be UTF-8 (RFC 6856 section 2).
    Utf8 {
        /// `USER` was sent.
        user: bool,
    },
    /// LANG (RFC 6856 section 3).
    Lang,
    /// Anything else, or one of the above with parameters that make no sense: the whole line.
    Other(&'a [u8]),
}

impl<'a> Capability<'a> {
    /// Parses a line without its end; tags are read in any case.
    pub fn parse(line: &'a [u8]) -> Capability<'a> {
        let (tag, parameters) = match memchr::memchr(b' ', line).map(|at| line.split_at(at)) {
            Some((tag, parameters)) => (tag, parameters.trim_ascii()),
            None => (line, &b""[..]),
        };
        let mut words = parameters
            .split(|octet| *octet == b' ')
            .filter(|word| !word.is_empty());
        let other = Capability::Other(line);
        match tag.to_ascii_uppercase().as_slice() {
            b"TOP" => Capability::Top,
            b"UIDL" => Capability::Uidl,
            b"USER" => Capability::User,
            b"RESP-CODES" => Capability::RespCodes,
            b"AUTH-RESP-CODE" => Capability::AuthRespCode,
            b"PIPELINING" => Capability::Pipelining,
            b"SASL" => Capability::Sasl(parameters),
            b"STLS" => Capability::Stls,
            b"LOGIN-DELAY" => match words.next().and_then(decimal::parse_padded) {
                Some(seconds) => Capability::LoginDelay {
                    delay: Duration::from_secs(seconds),
                    per_user: is_user(words.next()),
                },
                None => other,
            },
            b"EXPIRE" => match words.next().and_then(parse_expire) {
                Some(expire) => Capability::Expire {
                    expire,
                    per_user: is_user(words.next()),
                },
                None => other,
            },
            b"IMPLEMENTATION" => Capability::Implementation(parameters),
            b"UTF8" => Capability::Utf8 {
                user: is_user(words.next()),
            },
            b"LANG" => Capability::Lang,
            _ => other,
        }
    }

    /// The mechanisms of `SASL`; none for any other capability.
    pub fn mechanisms(&self) -> impl Iterator<Item = MechanismName> + 'a {
        let parameters = match self {
            Capability::Sasl(parameters) => parameters,
            _ => &b""[..],
        };
        parameters
            .split(|octet| *octet == b' ')
            .filter_map(MechanismName::new)
    }
}

fn is_user(word: Option<&[u8]>) -> bool {
    word.is_some_and(|word| word.eq_ignore_ascii_case(b"USER"))
}

fn parse_expire(word: &[u8]) -> Option<Expire> {
    if word.eq_ignore_ascii_case(b"NEVER") {
        return Some(Expire::Never);
    }
    u32::try_from(decimal::parse_padded(word)?)
        .ok()
        .map(Expire::Days)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_of_rfc_2449_is_read() {
        let parsed: Vec<Capability<'_>> = [
            &b"TOP"[..],
            b"USER",
            b"SASL CRAM-MD5 KERBEROS_V4",
            b"RESP-CODES",
            b"LOGIN-DELAY 900",
            b"PIPELINING",
            b"EXPIRE 60",
            b"UIDL",
            b"IMPLEMENTATION Shlemazle-Plotz-v302",
        ]
        .map(Capability::parse)
        .to_vec();
        assert_eq!(
            parsed,
            [
                Capability::Top,
                Capability::User,
                Capability::Sasl(b"CRAM-MD5 KERBEROS_V4"),
                Capability::RespCodes,
                Capability::LoginDelay {
                    delay: Duration::from_secs(900),
                    per_user: false
                },
                Capability::Pipelining,
                Capability::Expire {
                    expire: Expire::Days(60),
                    per_user: false
                },
                Capability::Uidl,
                Capability::Implementation(b"Shlemazle-Plotz-v302"),
            ]
        );
        let names: Vec<String> = parsed[2]
            .mechanisms()
            .map(|name| name.to_string())
            .collect();
        assert_eq!(names, ["CRAM-MD5", "KERBEROS_V4"]);
        assert_eq!(parsed[0].mechanisms().count(), 0);
    }

    #[test]
    fn parameters_may_differ_by_user() {
        assert_eq!(
            Capability::parse(b"EXPIRE NEVER USER"),
            Capability::Expire {
                expire: Expire::Never,
                per_user: true
            }
        );
        assert_eq!(
            Capability::parse(b"login-delay 10 user"),
            Capability::LoginDelay {
                delay: Duration::from_secs(10),
                per_user: true
            }
        );
        assert_eq!(
            Capability::parse(b"UTF8 USER"),
            Capability::Utf8 { user: true }
        );
        assert_eq!(Capability::parse(b"UTF8"), Capability::Utf8 { user: false });
    }

    #[test]
    fn what_is_unknown_or_makes_no_sense_is_kept_as_sent() {
        for line in [
            &b""[..],
            b"XTND",
            b"EXPIRE",
            b"EXPIRE soon",
            b"LOGIN-DELAY -1",
            b"TOPS",
            b"\xff",
        ] {
            assert_eq!(Capability::parse(line), Capability::Other(line));
        }
    }
}
