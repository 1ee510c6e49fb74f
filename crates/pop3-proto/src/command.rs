//! Commands: from a line to a value, and back.
//!
//! Parsed by the session process and the maildrop process, from what the client sent; written by the client half. A
//! [`Command`] is proof that its arguments are well-formed, not that it is allowed in the session's state.

use std::fmt;

use crate::decimal;
use crate::{LineCount, MechanismName, MessageNumber};

/// Octets in a user name unless configured otherwise (RFC 1939 section 3, popa3d).
pub const DEFAULT_USER_OCTETS: usize = 40;

/// The longest user name that can be configured: `user@domain`, and what fits a command of RFC 2449's 255 octets.
pub const MAX_USER_OCTETS: usize = 255;

/// The names of the commands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "each variant is the command of its name")]
pub enum Keyword {
    Apop,
    Auth,
    Capa,
    Dele,
    Lang,
    Last,
    List,
    Noop,
    Pass,
    Quit,
    Retr,
    Rset,
    Stat,
    Stls,
    Top,
    Uidl,
    User,
    Utf8,
}

impl Keyword {
    const ALL: [(Keyword, &'static str); 18] = [
        (Keyword::Apop, "APOP"),
        (Keyword::Auth, "AUTH"),
        (Keyword::Capa, "CAPA"),
        (Keyword::Dele, "DELE"),
        (Keyword::Lang, "LANG"),
        (Keyword::Last, "LAST"),
        (Keyword::List, "LIST"),
        (Keyword::Noop, "NOOP"),
        (Keyword::Pass, "PASS"),
        (Keyword::Quit, "QUIT"),
        (Keyword::Retr, "RETR"),
        (Keyword::Rset, "RSET"),
        (Keyword::Stat, "STAT"),
        (Keyword::Stls, "STLS"),
        (Keyword::Top, "TOP"),
        (Keyword::Uidl, "UIDL"),
        (Keyword::User, "USER"),
        (Keyword::Utf8, "UTF8"),
    ];

    /// Reads a name in any case.
    pub fn parse(name: &[u8]) -> Option<Keyword> {
        Keyword::ALL
            .iter()
            .find(|(_, known)| known.as_bytes().eq_ignore_ascii_case(name))
            .map(|(keyword, _)| *keyword)
    }

    /// The name in upper case.
    pub fn as_str(self) -> &'static str {
        Keyword::ALL
            .iter()
            .find(|(keyword, _)| *keyword == self)
            .map_or("", |(_, name)| name)
    }
}

/// A command with its arguments, which borrow from the line.
#[derive(Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "each variant is the command of its name")]
pub enum Command<'a> {
    User {
        name: &'a [u8],
    },
    /// Everything behind the first space, spaces included.
    Pass {
        password: &'a [u8],
    },
    Apop {
        name: &'a [u8],
        /// 32 hexadecimal digits.
        digest: &'a [u8],
    },
    /// Without a mechanism: the list of mechanisms is asked for, as Outlook does.
    Auth {
        mechanism: Option<MechanismName>,
        /// Base64; `Some` and empty if the client sent `=` (RFC 5034 section 4).
        initial_response: Option<&'a [u8]>,
    },
    Quit,
    Stat,
    List(Option<MessageNumber>),
    Retr(MessageNumber),
    Dele(MessageNumber),
    Noop,
    Rset,
    Top {
        message: MessageNumber,
        lines: LineCount,
    },
    Uidl(Option<MessageNumber>),
    /// RFC 1460.
    Last,
    /// RFC 2449.
    Capa,
    /// RFC 2595.
    Stls,
    /// RFC 6856.
    Utf8,
    /// RFC 6856; without a language range: the list of languages is asked for.
    Lang(Option<&'a [u8]>),
}

/// Why a line is not a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ParseError {
    /// No command has this name.
    UnknownCommand,
    /// Too few, too many or malformed arguments.
    WrongArguments(Keyword),
}

impl<'a> Command<'a> {
    /// Parses a line without its end, as [`LineBuffer`](crate::line::LineBuffer) gives it.
    ///
    /// Arguments are separated by exactly one space; one space at the end counts as nothing (popa3d, and clients that send
    /// `LIST `). Names of users have at most `max_user_octets`.
    ///
    /// # Errors
    /// [`ParseError`]; any input is allowed.
    pub fn parse(line: &'a [u8], max_user_octets: usize) -> Result<Command<'a>, ParseError> {
        let (name, arguments) = match memchr::memchr(b' ', line).map(|at| line.split_at(at)) {
            Some((name, rest)) => (name, rest.get(1..).filter(|rest| !rest.is_empty())),
            None => (line, None),
        };
        let keyword = Keyword::parse(name).ok_or(ParseError::UnknownCommand)?;
        Command::with_arguments(keyword, arguments, max_user_octets)
            .ok_or(ParseError::WrongArguments(keyword))
    }

    fn with_arguments(
        keyword: Keyword,
        arguments: Option<&'a [u8]>,
        max_user_octets: usize,
    ) -> Option<Command<'a>> {
        if keyword == Keyword::Pass {
            return arguments.map(|password| Command::Pass { password });
        }
        let mut arguments = Arguments::split(arguments)?;
        let user_name = |name: &'a [u8]| is_user_name(name, max_user_octets).then_some(name);
        let command = match keyword {
            Keyword::User => Command::User {
                name: user_name(arguments.next()?)?,
            },
            Keyword::Pass => return None,
            Keyword::Apop => Command::Apop {
                name: user_name(arguments.next()?)?,
                digest: arguments.next().filter(|digest| is_digest(digest))?,
            },
            Keyword::Auth => Command::Auth {
                mechanism: match arguments.next() {
                    Some(name) => Some(MechanismName::new(name)?),
                    None => None,
                },
                initial_response: arguments.next().map(|response| match response {
                    b"=" => &[][..],
                    base64 => base64,
                }),
            },
            Keyword::Quit => Command::Quit,
            Keyword::Stat => Command::Stat,
            Keyword::List => Command::List(arguments.optional_message()?),
            Keyword::Retr => Command::Retr(arguments.message()?),
            Keyword::Dele => Command::Dele(arguments.message()?),
            Keyword::Noop => Command::Noop,
            Keyword::Rset => Command::Rset,
            Keyword::Top => Command::Top {
                message: arguments.message()?,
                lines: LineCount(decimal::parse(arguments.next()?)?),
            },
            Keyword::Uidl => Command::Uidl(arguments.optional_message()?),
            Keyword::Last => Command::Last,
            Keyword::Capa => Command::Capa,
            Keyword::Stls => Command::Stls,
            Keyword::Utf8 => Command::Utf8,
            Keyword::Lang => Command::Lang(arguments.next()),
        };
        arguments.is_end().then_some(command)
    }

    /// The command's name.
    pub fn keyword(&self) -> Keyword {
        match self {
            Command::User { .. } => Keyword::User,
            Command::Pass { .. } => Keyword::Pass,
            Command::Apop { .. } => Keyword::Apop,
            Command::Auth { .. } => Keyword::Auth,
            Command::Quit => Keyword::Quit,
            Command::Stat => Keyword::Stat,
            Command::List(_) => Keyword::List,
            Command::Retr(_) => Keyword::Retr,
            Command::Dele(_) => Keyword::Dele,
            Command::Noop => Keyword::Noop,
            Command::Rset => Keyword::Rset,
            Command::Top { .. } => Keyword::Top,
            Command::Uidl(_) => Keyword::Uidl,
            Command::Last => Keyword::Last,
            Command::Capa => Keyword::Capa,
            Command::Stls => Keyword::Stls,
            Command::Utf8 => Keyword::Utf8,
            Command::Lang(_) => Keyword::Lang,
        }
    }
}

/// The arguments of a command, none of them empty.
struct Arguments<'a> {
    rest: Option<&'a [u8]>,
}

impl<'a> Arguments<'a> {
    /// `None` if a space stands where an argument should.
    fn split(arguments: Option<&'a [u8]>) -> Option<Arguments<'a>> {
        let rest = arguments.map(|rest| rest.strip_suffix(b" ").unwrap_or(rest));
        let empty = |argument: &[u8]| argument.is_empty();
        if rest.is_some_and(|rest| rest.split(|octet| *octet == b' ').any(empty)) {
            return None;
        }
        Some(Arguments { rest })
    }

    fn next(&mut self) -> Option<&'a [u8]> {
        let rest = self.rest.take()?;
        match memchr::memchr(b' ', rest).map(|at| rest.split_at(at)) {
            Some((argument, rest)) => {
                self.rest = rest.get(1..);
                Some(argument)
            }
            None => Some(rest),
        }
    }

    fn message(&mut self) -> Option<MessageNumber> {
        MessageNumber::parse(self.next()?)
    }

    /// `Some(None)` if there is no argument, `None` if there is a wrong one.
    fn optional_message(&mut self) -> Option<Option<MessageNumber>> {
        match self.next() {
            Some(digits) => MessageNumber::parse(digits).map(Some),
            None => Some(None),
        }
    }

    fn is_end(&self) -> bool {
        self.rest.is_none()
    }
}

/// Control octets name nobody and would only travel on into logs and paths; 8-bit names are UTF-8 (RFC 6856 section 2.2).
fn is_user_name(name: &[u8], max_octets: usize) -> bool {
    name.len() <= max_octets && !name.iter().any(u8::is_ascii_control)
}

/// RFC 1939 section 7 wants lower case; which case it is makes no difference to the digest.
fn is_digest(digest: &[u8]) -> bool {
    digest.len() == 32 && digest.iter().all(u8::is_ascii_hexdigit)
}

/// Without what must not be seen: passwords, digests and SASL responses.
impl fmt::Debug for Command<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.keyword().as_str())?;
        match self {
            Command::User { name } | Command::Apop { name, .. } => {
                write!(f, " {}", name.escape_ascii())
            }
            Command::Auth {
                mechanism: Some(mechanism),
                ..
            } => write!(f, " {mechanism}"),
            Command::List(Some(message))
            | Command::Uidl(Some(message))
            | Command::Retr(message)
            | Command::Dele(message) => write!(f, " {}", message.value()),
            Command::Top { message, lines } => write!(f, " {} {}", message.value(), lines.0),
            Command::Lang(Some(range)) => write!(f, " {}", range.escape_ascii()),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse(line: &[u8]) -> Result<Command<'_>, ParseError> {
        Command::parse(line, DEFAULT_USER_OCTETS)
    }

    fn message(number: u32) -> MessageNumber {
        MessageNumber::new(number).unwrap()
    }

    #[test]
    fn every_command_is_parsed() {
        let one = message(1);
        let digest = &b"c4c9334bac560ecc979e58001b3e22fb"[..];
        let auth = |name: &[u8], initial_response| Command::Auth {
            mechanism: MechanismName::new(name),
            initial_response,
        };
        for (line, command) in [
            (&b"USER mrose"[..], Command::User { name: b"mrose" }),
            (
                b"PASS secret",
                Command::Pass {
                    password: b"secret",
                },
            ),
            (
                b"APOP mrose c4c9334bac560ecc979e58001b3e22fb",
                Command::Apop {
                    name: b"mrose",
                    digest,
                },
            ),
            (b"AUTH", auth(b"", None)),
            (b"AUTH PLAIN", auth(b"PLAIN", None)),
            (b"AUTH plain AGEAYg==", auth(b"PLAIN", Some(b"AGEAYg=="))),
            (b"QUIT", Command::Quit),
            (b"STAT", Command::Stat),
            (b"LIST", Command::List(None)),
            (b"LIST 1", Command::List(Some(one))),
            (b"RETR 1", Command::Retr(one)),
            (b"DELE 1", Command::Dele(one)),
            (b"NOOP", Command::Noop),
            (b"RSET", Command::Rset),
            (
                b"TOP 1 0",
                Command::Top {
                    message: one,
                    lines: LineCount(0),
                },
            ),
            (b"UIDL", Command::Uidl(None)),
            (b"UIDL 1", Command::Uidl(Some(one))),
            (b"LAST", Command::Last),
            (b"CAPA", Command::Capa),
            (b"STLS", Command::Stls),
            (b"UTF8", Command::Utf8),
            (b"LANG", Command::Lang(None)),
            (b"LANG en-boont", Command::Lang(Some(b"en-boont"))),
        ] {
            assert_eq!(parse(line), Ok(command), "{}", line.escape_ascii());
        }
    }

    #[test]
    fn names_of_commands_are_read_in_any_case() {
        assert_eq!(parse(b"qUiT"), Ok(Command::Quit));
        assert_eq!(parse(b"retr 2"), Ok(Command::Retr(message(2))));
    }

    #[test]
    fn what_names_no_command_is_unknown() {
        for line in [
            &b""[..],
            b" ",
            b" QUIT",
            b"QUI",
            b"QUITS",
            b"QUIT\r",
            b"QUIT\t",
            b"XTND XMIT",
            b"\xd1UIT",
            b"GET / HTTP/1.1",
        ] {
            assert_eq!(
                parse(line),
                Err(ParseError::UnknownCommand),
                "{}",
                line.escape_ascii()
            );
        }
    }

    #[test]
    fn a_lone_space_at_the_end_counts_as_nothing() {
        assert_eq!(parse(b"QUIT "), Ok(Command::Quit));
        assert_eq!(parse(b"LIST "), Ok(Command::List(None)));
        assert_eq!(parse(b"LIST 1 "), Ok(Command::List(Some(message(1)))));
        assert_eq!(
            parse(b"PASS "),
            Err(ParseError::WrongArguments(Keyword::Pass))
        );
    }

    #[test]
    fn missing_and_extra_arguments_are_errors() {
        for line in [
            &b"USER"[..],
            b"USER a b",
            b"PASS",
            b"APOP a",
            b"APOP",
            b"APOP a c4c9334bac560ecc979e58001b3e22fb x",
            b"APOP a c4c9334bac560ecc979e58001b3e22fg",
            b"APOP a c4c9334bac560ecc979e58001b3e22f",
            b"AUTH PLAIN AGEAYg== x",
            b"AUTH P*",
            b"AUTH =",
            b"QUIT now",
            b"STAT 1",
            b"LIST 1 2",
            b"RETR",
            b"RETR 1 2",
            b"DELE",
            b"DELE 1 2",
            b"NOOP x",
            b"RSET 1",
            b"TOP",
            b"TOP 1",
            b"TOP 1 2 3",
            b"UIDL 1 2",
            b"LAST 1",
            b"CAPA x",
            b"STLS x",
            b"UTF8 USER",
            b"LANG en de",
            b"QUIT  ",
            b"LIST  1",
            b"LIST  ",
            b"TOP 1  2",
            b"LIST 1  ",
        ] {
            let keyword =
                Keyword::parse(line.split(|octet| *octet == b' ').next().unwrap()).unwrap();
            assert_eq!(
                parse(line),
                Err(ParseError::WrongArguments(keyword)),
                "{}",
                line.escape_ascii()
            );
        }
    }

    #[test]
    fn rule_11_pass_takes_one_argument_and_spaces_belong_to_it() {
        for password in [&b"a b"[..], b" ", b"  a  ", b"a ", b"\x01\t\xff\r"] {
            let line = [b"PASS ", password].concat();
            assert_eq!(parse(&line), Ok(Command::Pass { password }));
        }
    }

    #[test]
    fn a_user_name_is_as_long_as_configured() {
        let line = |octets| [&b"USER "[..], &vec![b'u'; octets]].concat();
        assert!(parse(&line(40)).is_ok());
        assert_eq!(
            parse(&line(41)),
            Err(ParseError::WrongArguments(Keyword::User))
        );
        assert!(Command::parse(&line(255), MAX_USER_OCTETS).is_ok());
        assert!(parse(b"USER j\xc3\xb6rg@example.org").is_ok());
        assert_eq!(
            parse(b"USER a\tb"),
            Err(ParseError::WrongArguments(Keyword::User))
        );
        assert_eq!(
            parse(b"USER a\r"),
            Err(ParseError::WrongArguments(Keyword::User))
        );
    }

    #[test]
    fn rule_05_numbers_are_strict_in_every_command() {
        for number in [
            &b"-1"[..],
            b"0",
            b"+1",
            b"01",
            b"1e9",
            b"4294967296",
            b"4294967297",
            b"9223372036854775808",
            b"18446744073709551617",
            b"\t1",
            b"1\t",
            b"1x",
            b"1\r",
            b"0x1",
            b"1.0",
            b"\xd9\xa1",
            &[b'1'; 400],
        ] {
            for command in [&b"LIST "[..], b"RETR ", b"DELE ", b"UIDL ", b"TOP "] {
                let lines = if command == b"TOP " { &b" 0"[..] } else { b"" };
                let line = [command, number, lines].concat();
                assert!(
                    matches!(parse(&line), Err(ParseError::WrongArguments(_))),
                    "{}",
                    line.escape_ascii()
                );
            }
        }
        for lines in [&b"-1"[..], b"+1", b"00", b"1x", b"18446744073709551616"] {
            let line = [b"TOP 1 ", lines].concat();
            assert_eq!(parse(&line), Err(ParseError::WrongArguments(Keyword::Top)));
        }
        assert_eq!(
            parse(b"TOP 1 18446744073709551615"),
            Ok(Command::Top {
                message: message(1),
                lines: LineCount(u64::MAX)
            })
        );
    }

    #[test]
    fn rule_19_an_equals_sign_is_an_empty_initial_response() {
        let Ok(Command::Auth {
            initial_response, ..
        }) = parse(b"AUTH EXTERNAL =")
        else {
            panic!("AUTH was not parsed");
        };
        assert_eq!(initial_response, Some(&b""[..]));
    }

    #[test]
    fn secrets_are_not_in_the_debug_output() {
        for line in [
            &b"PASS secret"[..],
            b"AUTH PLAIN secret",
            b"APOP joe 5ec2e75ec2e75ec2e75ec2e75ec2e75e",
        ] {
            let shown = format!("{:?}", parse(line).unwrap());
            assert!(
                !shown.contains("secret") && !shown.contains("5ec2e7"),
                "{shown}"
            );
        }
    }

    proptest! {
        #[test]
        fn any_line_is_parsed_or_refused(line in prop::collection::vec(any::<u8>(), 0..600)) {
            let _ = parse(&line).map(|command| format!("{command:?}"));
        }

        #[test]
        fn commands_are_read_back_from_their_debug_form(number in 1u32.., lines: u64) {
            for command in [
                Command::List(Some(message(number))),
                Command::Top { message: message(number), lines: LineCount(lines) },
            ] {
                let line = format!("{command:?}");
                prop_assert_eq!(parse(line.as_bytes()), Ok(command));
            }
        }
    }
}
