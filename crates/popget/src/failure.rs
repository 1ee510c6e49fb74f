//! Why popget could not do what was asked, and with which code it exits.

use std::fmt;

use net_pop3::{Error, ErrorKind};

/// How it ended, in order of weight: of several accounts, the weightiest decides.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Exit {
    /// All is well.
    #[default]
    Fine,
    /// Some message could not be delivered; the rest was.
    Messages,
    /// A passing trouble: network, maildrop in use.
    TryAgain,
    /// Anything else.
    Error,
    /// The login was refused.
    Login,
    /// Wrong usage or configuration.
    Usage,
}

impl Exit {
    /// As documented.
    pub fn code(self) -> u8 {
        match self {
            Exit::Fine => 0,
            Exit::Messages => 1,
            Exit::Usage => 2,
            Exit::TryAgain => 3,
            Exit::Login => 4,
            Exit::Error => 5,
        }
    }
}

/// An error for the user.
#[derive(Clone, Debug)]
pub struct Failed {
    /// The exit code.
    pub exit: Exit,
    /// One line.
    pub reason: String,
}

impl Failed {
    /// The user's to put right.
    pub fn usage(reason: String) -> Failed {
        Failed {
            exit: Exit::Usage,
            reason,
        }
    }

    /// Of this machine: a disk, a file.
    pub fn local(reason: impl fmt::Display) -> Failed {
        Failed {
            exit: Exit::Error,
            reason: reason.to_string(),
        }
    }
}

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reason)
    }
}

impl From<Error> for Failed {
    fn from(error: Error) -> Failed {
        let is_login = matches!(error.command(), Some("USER" | "PASS" | "AUTH" | "APOP"));
        let exit = match error.kind() {
            _ if error.is_temporary() => Exit::TryAgain,
            ErrorKind::Refused(_) | ErrorKind::NoMechanism if is_login => Exit::Login,
            ErrorKind::Configuration(_) | ErrorKind::InvalidInput(_) => Exit::Usage,
            _ => Exit::Error,
        };
        let mut reason = error.to_string();
        match error.kind() {
            ErrorKind::Certificate { fingerprint, .. } => {
                reason.push_str(&format!(
                    "; if the server's operator says that it is this one, use --tls-fingerprint {fingerprint}"
                ));
            }
            ErrorKind::TlsNotOffered | ErrorKind::WouldRevealCredentials => {
                reason.push_str("; pop3s:// is the better choice, --plain goes without");
            }
            _ => (),
        }
        Failed { exit, reason }
    }
}
