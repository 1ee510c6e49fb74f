//! Commands as a client sends them.

use std::fmt;

use crate::command::Command;
use crate::decimal;

/// The longest AUTH command with an initial response, CRLF included (RFC 5034 section 4). A longer response is sent after
/// the server's empty challenge.
pub const MAX_COMMAND_WITH_INITIAL_RESPONSE: usize = 255;

/// Why a command cannot be sent. Nothing has been.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum InvalidInput {
    /// An argument holds a CR, LF or NUL: it would become another command.
    LineBreak,
    /// An argument that must not be empty is.
    Empty,
    /// An argument that must not hold a space does.
    Space,
    /// The initial response does not fit into the command; send AUTH without it.
    InitialResponseTooLong,
    /// A SASL response that is not base64.
    NotBase64,
}

impl fmt::Display for InvalidInput {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            InvalidInput::LineBreak => "an argument holds CR, LF or NUL",
            InvalidInput::Empty => "an argument is empty",
            InvalidInput::Space => "an argument holds a space",
            InvalidInput::InitialResponseTooLong => "the initial response does not fit into AUTH",
            InvalidInput::NotBase64 => "a SASL response is not base64",
        })
    }
}

impl std::error::Error for InvalidInput {}

impl Command<'_> {
    /// Appends the command with its CRLF, or nothing.
    ///
    /// The name of USER may hold spaces, since some servers' users do.
    ///
    /// # Errors
    /// [`InvalidInput`] if an argument cannot be sent as it is.
    pub fn write(&self, out: &mut Vec<u8>) -> Result<(), InvalidInput> {
        let start = out.len();
        let result = self.write_line(out);
        match result {
            Ok(()) => out.extend_from_slice(b"\r\n"),
            Err(_) => out.truncate(start),
        }
        result
    }

    fn write_line(&self, out: &mut Vec<u8>) -> Result<(), InvalidInput> {
        let start = out.len();
        out.extend_from_slice(self.keyword().as_str().as_bytes());
        match self {
            Command::User { name } => argument(name, out)?,
            Command::Pass { password } => argument(password, out)?,
            Command::Apop { name, digest } => {
                word(name, out)?;
                word(digest, out)?;
            }
            Command::Auth {
                mechanism,
                initial_response,
            } => {
                if let Some(mechanism) = mechanism {
                    word(mechanism.as_bytes(), out)?;
                }
                match initial_response {
                    None => (),
                    Some([]) => word(b"=", out)?,
                    Some(response) => {
                        check_base64(response)?;
                        word(response, out)?;
                    }
                }
                let octets = out
                    .len()
                    .saturating_sub(start)
                    .saturating_add(b"\r\n".len());
                if initial_response.is_some() && octets > MAX_COMMAND_WITH_INITIAL_RESPONSE {
                    return Err(InvalidInput::InitialResponseTooLong);
                }
            }
            Command::List(Some(message))
            | Command::Uidl(Some(message))
            | Command::Retr(message)
            | Command::Dele(message) => number(u64::from(message.value()), out),
            Command::Top { message, lines } => {
                number(u64::from(message.value()), out);
                number(lines.0, out);
            }
            Command::Lang(Some(range)) => word(range, out)?,
            Command::Quit
            | Command::Stat
            | Command::List(None)
            | Command::Noop
            | Command::Rset
            | Command::Uidl(None)
            | Command::Last
            | Command::Capa
            | Command::Stls
            | Command::Utf8
            | Command::Lang(None) => (),
        }
        Ok(())
    }
}

/// Only the alphabet and the padding: what the octets mean is the mechanism's business.
pub(super) fn check_base64(response: &[u8]) -> Result<(), InvalidInput> {
    let allowed = |octet: &u8| octet.is_ascii_alphanumeric() || matches!(octet, b'+' | b'/' | b'=');
    if response.iter().all(allowed) {
        Ok(())
    } else {
        Err(InvalidInput::NotBase64)
    }
}

fn argument(argument: &[u8], out: &mut Vec<u8>) -> Result<(), InvalidInput> {
    if argument.is_empty() {
        return Err(InvalidInput::Empty);
    }
    if argument
        .iter()
        .any(|octet| matches!(octet, b'\r' | b'\n' | 0))
    {
        return Err(InvalidInput::LineBreak);
    }
    out.push(b' ');
    out.extend_from_slice(argument);
    Ok(())
}

fn word(word: &[u8], out: &mut Vec<u8>) -> Result<(), InvalidInput> {
    if word.contains(&b' ') {
        return Err(InvalidInput::Space);
    }
    argument(word, out)
}

fn number(value: u64, out: &mut Vec<u8>) {
    out.push(b' ');
    decimal::write(value, out);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::MAX_USER_OCTETS;
    use crate::{LineCount, MechanismName, MessageNumber};
    use proptest::prelude::*;

    fn written(command: &Command<'_>) -> Result<Vec<u8>, InvalidInput> {
        let mut out = b"ahead".to_vec();
        let result = command.write(&mut out);
        let line = out.split_off(5);
        assert_eq!(out, b"ahead");
        if result.is_err() {
            assert!(line.is_empty());
        }
        result.map(|()| line)
    }

    #[test]
    fn cr_lf_and_nul_in_arguments_are_refused() {
        for octet in [b'\r', b'\n', 0] {
            let bad = [b'a', octet, b'b'];
            for command in [
                Command::User { name: &bad },
                Command::Pass { password: &bad },
                Command::Apop {
                    name: &bad,
                    digest: b"d",
                },
                Command::Apop {
                    name: b"a",
                    digest: &bad,
                },
                Command::Lang(Some(&bad)),
            ] {
                assert_eq!(
                    written(&command),
                    Err(InvalidInput::LineBreak),
                    "{command:?}"
                );
            }
        }
        let mechanism = MechanismName::new(b"PLAIN");
        let auth = Command::Auth {
            mechanism,
            initial_response: Some(b"AA\r\nDELE 1"),
        };
        assert_eq!(written(&auth), Err(InvalidInput::NotBase64));
    }

    #[test]
    fn empty_arguments_are_refused() {
        assert_eq!(
            written(&Command::User { name: b"" }),
            Err(InvalidInput::Empty)
        );
        assert_eq!(
            written(&Command::Pass { password: b"" }),
            Err(InvalidInput::Empty)
        );
    }

    #[test]
    fn an_initial_response_is_sent_only_where_it_fits() {
        let auth = |octets| {
            let response = vec![b'A'; octets];
            let mechanism = MechanismName::new(b"XOAUTH2");
            written(&Command::Auth {
                mechanism,
                initial_response: Some(&response),
            })
        };
        assert_eq!(auth(0), Ok(b"AUTH XOAUTH2 =\r\n".to_vec()));
        assert_eq!(auth(240).map(|line| line.len()), Ok(255));
        assert_eq!(auth(241), Err(InvalidInput::InitialResponseTooLong));
    }

    fn commands() -> impl Strategy<Value = (u32, u64, Vec<u8>, Vec<u8>)> {
        let word = prop::collection::vec(0x21u8..=0x7e, 1..20);
        let rest = prop::collection::vec(0x20u8..=0xff, 1..20);
        (1u32.., any::<u64>(), word, rest)
    }

    proptest! {
        #[test]
        fn what_a_client_writes_a_server_reads((number, lines, word, rest) in commands()) {
            let message = MessageNumber::new(number).unwrap();
            for command in [
                Command::User { name: &word },
                Command::Pass { password: &rest },
                Command::Apop { name: &word, digest: b"c4c9334bac560ecc979e58001b3e22fb" },
                Command::Auth { mechanism: None, initial_response: None },
                Command::Auth { mechanism: MechanismName::new(b"PLAIN"), initial_response: None },
                Command::Auth { mechanism: MechanismName::new(b"PLAIN"), initial_response: Some(b"") },
                Command::Auth { mechanism: MechanismName::new(b"PLAIN"), initial_response: Some(b"AGEAYg==") },
                Command::Quit, Command::Stat, Command::List(None), Command::List(Some(message)),
                Command::Retr(message), Command::Dele(message), Command::Noop, Command::Rset,
                Command::Top { message, lines: LineCount(lines) },
                Command::Uidl(None), Command::Uidl(Some(message)), Command::Last, Command::Capa, Command::Stls,
                Command::Utf8, Command::Lang(None), Command::Lang(Some(&word)),
            ] {
                let line = written(&command).unwrap();
                let line = line.strip_suffix(b"\r\n").unwrap();
                prop_assert_eq!(Command::parse(line, MAX_USER_OCTETS), Ok(command));
            }
        }
    }
}
