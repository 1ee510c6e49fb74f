//! What the hooks of a session are told.

use std::fmt;

use pop3_proto::{Command, MessageNumber};

/// A line for whoever wants to see what happens. Its [`Display`](fmt::Display) is one line, `C: `, `S: ` or `*: ` first, with
/// everything escaped that a terminal could take for a command.
///
/// Passwords, tokens and all else that is said in a SASL exchange are left out, and so is the content of messages.
///
/// ```
/// use net_pop3::Trace;
///
/// assert_eq!(Trace::Client("PASS ****").to_string(), "C: PASS ****");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Trace<'a> {
    /// What this side said.
    Client(&'a str),
    /// What the server said.
    Server(&'a str),
    /// What happened besides.
    Note(&'a str),
}

impl fmt::Display for Trace<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Trace::Client(line) => write!(f, "C: {line}"),
            Trace::Server(line) => write!(f, "S: {line}"),
            Trace::Note(line) => write!(f, "*: {line}"),
        }
    }
}

/// How far a message has been received.
///
/// ```no_run
/// # use net_pop3::blocking::Pop3;
/// let builder = Pop3::builder().progress(|progress| {
///     eprintln!("message {}: {} octets", progress.number.value(), progress.octets);
/// });
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Progress {
    /// The message.
    pub number: MessageNumber,
    /// Its octets so far.
    pub octets: u64,
    /// All its octets, if they are known from a listing.
    pub size: Option<u64>,
}

/// What stands for a secret.
pub(crate) const REDACTED: &str = "****";

/// A command as it is shown.
pub(crate) fn redacted(command: &Command<'_>) -> String {
    let shown = format!("{command:?}");
    match command {
        Command::Pass { .. }
        | Command::Apop { .. }
        | Command::Auth {
            initial_response: Some(_),
            ..
        } => format!("{shown} {REDACTED}"),
        _ => shown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pop3_proto::MechanismName;

    #[test]
    fn no_secret_is_shown() {
        let auth = Command::Auth {
            mechanism: MechanismName::new(b"PLAIN"),
            initial_response: Some(b"c2VjcmV0"),
        };
        assert_eq!(redacted(&auth), "AUTH PLAIN ****");
        let password = b"secret";
        assert_eq!(redacted(&Command::Pass { password }), "PASS ****");
        let apop = Command::Apop {
            name: b"mrose",
            digest: b"c4c9334bac560ecc979e58001b3e22fb",
        };
        assert_eq!(redacted(&apop), "APOP mrose ****");
        assert_eq!(
            redacted(&Command::User { name: b"a\x1b[1m" }),
            r"USER a\x1b[1m"
        );
    }
}
