//! What the server offers, and CAPA's list of it (RFC 2449 sections 5 and 6).

use std::time::Duration;

use crate::MechanismName;
use crate::decimal;
use crate::reply;

/// What is offered on a connection: which commands are answered and what CAPA says.
///
/// The same offer belongs to both states (RFC 2449 section 5), so the session and the maildrop process must be given equal
/// ones. What depends on TLS is for the caller to decide: one offer before STLS, another under TLS.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Offer {
    /// USER and PASS.
    pub user: bool,
    /// APOP; the greeting then has a timestamp.
    pub apop: bool,
    /// AUTH with these mechanisms (RFC 5034).
    pub mechanisms: Vec<MechanismName>,
    /// STLS, on a connection without TLS (RFC 2595).
    pub stls: bool,
    /// UTF8 (RFC 6856).
    pub utf8: bool,
    /// The longest LOGIN-DELAY of any user, to the second above (RFC 2449 section 6.5).
    pub login_delay: Option<Duration>,
    /// EXPIRE; `None` says nothing (RFC 2449 section 6.7).
    pub expire: Option<Expire>,
    /// IMPLEMENTATION; `None` says nothing.
    pub implementation: Option<String>,
}

/// How long mail is kept that a client leaves on the server (RFC 2449 section 6.7).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expire {
    /// The server deletes nothing on its own.
    Never,
    /// At least this many days, whoever the user is.
    Days(u32),
}

impl Offer {
    /// Appends the answer to CAPA in the AUTHORIZATION state.
    pub(super) fn write_in_authorization(&self, out: &mut Vec<u8>) {
        self.write(self.stls, out);
    }

    /// Appends the answer to CAPA in the TRANSACTION state: the same tags but STLS, which is only permitted before login
    /// (RFC 2595 section 4). USER and SASL stay, although they are of no use any more.
    pub(super) fn write_in_transaction(&self, out: &mut Vec<u8>) {
        self.write(false, out);
    }

    fn write(&self, stls: bool, out: &mut Vec<u8>) {
        let mut line = |tag: &str, write_parameters: &dyn Fn(&mut Vec<u8>)| {
            out.extend_from_slice(tag.as_bytes());
            write_parameters(out);
            out.extend_from_slice(b"\r\n");
        };
        let none = |_: &mut Vec<u8>| ();
        line("+OK capability list follows", &none);
        line("TOP", &none);
        line("UIDL", &none);
        line("RESP-CODES", &none);
        line("AUTH-RESP-CODE", &none);
        line("PIPELINING", &none);
        if self.user {
            line("USER", &none);
        }
        if !self.mechanisms.is_empty() {
            line("SASL", &|out| {
                for mechanism in &self.mechanisms {
                    out.push(b' ');
                    out.extend_from_slice(mechanism.as_bytes());
                }
            });
        }
        if stls {
            line("STLS", &none);
        }
        if self.utf8 {
            line("UTF8", &none);
        }
        line("LANG", &none);
        if let Some(delay) = self.login_delay {
            line("LOGIN-DELAY ", &|out| {
                decimal::write(seconds_above(delay), out)
            });
        }
        match self.expire {
            Some(Expire::Never) => line("EXPIRE NEVER", &none),
            Some(Expire::Days(days)) => {
                line("EXPIRE ", &|out| decimal::write(u64::from(days), out))
            }
            None => (),
        }
        if let Some(implementation) = &self.implementation {
            line("IMPLEMENTATION ", &|out| {
                write_parameter(implementation, out)
            });
        }
        out.extend_from_slice(reply::TERMINATOR);
    }
}

fn seconds_above(delay: Duration) -> u64 {
    let part = u64::from(delay.subsec_nanos() > 0);
    delay.as_secs().saturating_add(part)
}

/// A capability's line has at most 512 octets; of configured text, much less is enough.
fn write_parameter(text: &str, out: &mut Vec<u8>) {
    const MAX_PARAMETER: usize = 256;
    let printable = |octet: &u8| octet.is_ascii_graphic() || *octet == b' ';
    out.extend(text.bytes().filter(printable).take(MAX_PARAMETER));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn full() -> Offer {
        Offer {
            user: true,
            apop: true,
            mechanisms: [&b"SCRAM-SHA-256"[..], b"PLAIN"]
                .map(|name| MechanismName::new(name).unwrap())
                .to_vec(),
            stls: true,
            utf8: true,
            login_delay: Some(Duration::from_millis(59_001)),
            expire: Some(Expire::Days(60)),
            implementation: Some("popa3d-2\r\nX".to_owned()),
        }
    }

    fn tags(write: impl FnOnce(&mut Vec<u8>)) -> Vec<String> {
        let mut out = Vec::new();
        write(&mut out);
        String::from_utf8(out)
            .unwrap()
            .split_terminator("\r\n")
            .map(str::to_owned)
            .collect()
    }

    #[test]
    fn capa_lists_what_is_offered_one_a_line() {
        assert_eq!(
            tags(|out| full().write_in_authorization(out)),
            [
                "+OK capability list follows",
                "TOP",
                "UIDL",
                "RESP-CODES",
                "AUTH-RESP-CODE",
                "PIPELINING",
                "USER",
                "SASL SCRAM-SHA-256 PLAIN",
                "STLS",
                "UTF8",
                "LANG",
                "LOGIN-DELAY 60",
                "EXPIRE 60",
                "IMPLEMENTATION popa3d-2X",
                "."
            ]
        );
        assert_eq!(
            tags(|out| Offer::default().write_in_authorization(out)),
            [
                "+OK capability list follows",
                "TOP",
                "UIDL",
                "RESP-CODES",
                "AUTH-RESP-CODE",
                "PIPELINING",
                "LANG",
                "."
            ]
        );
    }

    #[test]
    fn rule_13_both_states_list_the_same_but_for_stls() {
        let mut before = tags(|out| full().write_in_authorization(out));
        let after = tags(|out| full().write_in_transaction(out));
        before.retain(|tag| tag != "STLS");
        assert_eq!(before, after);
    }

    #[test]
    fn rule_17_a_login_delay_is_never_announced_too_short() {
        assert_eq!(seconds_above(Duration::from_secs(10)), 10);
        assert_eq!(seconds_above(Duration::from_millis(10_001)), 11);
    }
}
