//! What an LMTP client says, a line at a time (RFC 2033 section 4; RFC 5321 section 4.1.1).

/// Octets of a path, its brackets left out (RFC 5321 section 4.5.3.1.3).
pub const MAX_PATH_OCTETS: usize = 256;

/// A command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// LHLO.
    Lhlo,
    /// MAIL: the sender, empty for a bounce, and how many octets are announced.
    Mail { sender: String, size: u64 },
    /// RCPT.
    Rcpt(String),
    /// DATA.
    Data,
    /// RSET.
    Rset,
    /// NOOP.
    Noop,
    /// QUIT.
    Quit,
    /// VRFY.
    Vrfy,
}

/// A reply of one line, without its end.
pub type Reply = &'static str;

const SYNTAX: Reply = "501 5.5.4 Syntax error in parameters or arguments";

impl Command {
    /// Parses a line, without its end.
    ///
    /// # Errors
    /// The reply.
    pub fn parse(line: &[u8]) -> Result<Self, Reply> {
        let line = std::str::from_utf8(line).map_err(|_| SYNTAX)?;
        if line.contains(char::is_control) {
            return Err(SYNTAX);
        }
        let (verb, rest) = line.split_once(' ').unwrap_or((line, ""));
        match verb.to_ascii_uppercase().as_str() {
            "LHLO" => (!rest.trim().is_empty())
                .then_some(Command::Lhlo)
                .ok_or(SYNTAX),
            "MAIL" => mail(rest),
            "RCPT" => match path(rest, "TO:")? {
                ("", _) => Err(SYNTAX),
                (address, parameters) if parameters.trim().is_empty() => {
                    Ok(Command::Rcpt(address.to_owned()))
                }
                _ => Err("555 5.5.4 Parameter not recognized"),
            },
            "DATA" => Ok(Command::Data),
            "RSET" => Ok(Command::Rset),
            "NOOP" => Ok(Command::Noop),
            "QUIT" => Ok(Command::Quit),
            "VRFY" => Ok(Command::Vrfy),
            // RFC 2033 section 4.1: these must not be taken.
            "HELO" | "EHLO" => Err("500 5.5.1 This is LMTP: say LHLO"),
            _ => Err("500 5.5.1 Command not recognized"),
        }
    }
}

fn mail(rest: &str) -> Result<Command, Reply> {
    let (sender, parameters) = path(rest, "FROM:")?;
    let mut size = 0;
    for parameter in parameters.split_ascii_whitespace() {
        let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
        match (name.to_ascii_uppercase().as_str(), value) {
            // RFC 1870.
            ("SIZE", value) => size = value.parse().map_err(|_| SYNTAX)?,
            // RFC 6152: octets are passed on as they come.
            ("BODY", value)
                if value.eq_ignore_ascii_case("7BIT") || value.eq_ignore_ascii_case("8BITMIME") => {
            }
            // RFC 6531.
            ("SMTPUTF8", "") => {}
            _ => return Err("555 5.5.4 Parameter not recognized"),
        }
    }
    Ok(Command::Mail {
        sender: sender.to_owned(),
        size,
    })
}

/// What is in the brackets, a source route left out (RFC 5321 appendix C), and what follows them.
fn path<'a>(rest: &'a str, keyword: &str) -> Result<(&'a str, &'a str), Reply> {
    let (found, rest) = rest.split_at_checked(keyword.len()).ok_or(SYNTAX)?;
    if !found.eq_ignore_ascii_case(keyword) {
        return Err(SYNTAX);
    }
    // Some clients put a space there.
    let rest = rest
        .trim_start_matches(' ')
        .strip_prefix('<')
        .ok_or(SYNTAX)?;
    // A quoted local part may have a bracket in it.
    let mut quoted = false;
    let mut escaped = false;
    let end = rest.find(|character| {
        let is_plain = !std::mem::replace(&mut escaped, false);
        match character {
            '\\' if is_plain && quoted => escaped = true,
            '"' if is_plain => quoted = !quoted,
            '>' => return !quoted,
            _ => {}
        }
        false
    });
    let (address, rest) = rest.split_at(end.ok_or(SYNTAX)?);
    let address = match address.split_once(':') {
        Some((route, address)) if route.starts_with('@') => address,
        _ => address,
    };
    if address.len() > MAX_PATH_OCTETS {
        return Err("501 5.1.7 Address too long");
    }
    Ok((address, rest.get(1..).unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mail(sender: &str, size: u64) -> Result<Command, Reply> {
        Ok(Command::Mail {
            sender: sender.to_owned(),
            size,
        })
    }

    #[test]
    fn commands_are_parsed_whatever_their_case() {
        let parse = |line: &str| Command::parse(line.as_bytes());
        assert_eq!(parse("lhlo x"), Ok(Command::Lhlo));
        assert_eq!(parse("MAIL FROM:<>"), mail("", 0));
        assert_eq!(
            parse("mail from: <a@b> size=12 BODY=8bitmime smtputf8"),
            mail("a@b", 12)
        );
        assert_eq!(parse("RCPT TO:<é@b>"), Ok(Command::Rcpt("é@b".into())));
        assert_eq!(
            parse("RCPT TO:<@x,@y:a@b>"),
            Ok(Command::Rcpt("a@b".into()))
        );
        assert_eq!(
            parse("RCPT TO:<\"a>\\\" b\"@c>"),
            Ok(Command::Rcpt("\"a>\\\" b\"@c".into()))
        );
        assert_eq!(parse("QUIT"), Ok(Command::Quit));
    }

    #[test]
    fn what_is_none_is_refused_by_a_reply() {
        let long = format!("RCPT TO:<{}>", "a".repeat(257));
        for line in [
            "",
            "LHLO",
            "EHLO x",
            "MAIL",
            "MAIL FROM:a@b",
            "MAIL FROM:<a",
            "MAIL FROM:<a> X=1",
            "MAIL FROM:<a> SIZE=x",
            "MAIL FROM:<a> BODY=BINARYMIME",
            "RCPT TO:<>",
            "RCPT TO:<a> NOTIFY=NEVER",
            "RCPT TO:<\"a>",
            "NOOP\r",
            "FOO",
            &long,
        ] {
            let reply = Command::parse(line.as_bytes()).unwrap_err();
            assert!(reply.starts_with('5'), "{line:?}: {reply}");
        }
        assert!(Command::parse(b"RCPT TO:<\xFF>").is_err());
    }
}
