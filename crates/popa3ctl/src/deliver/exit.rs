//! Exit statuses of sysexits.h, by which a mail transfer agent knows whether to try again.

use std::fmt::Display;
use std::process::ExitCode;

/// The user is not known: the message goes back.
pub const EX_NOUSER: u8 = 67;
/// The maildrop is not what it has to be; somebody has to look at it.
const EX_CANTCREAT: u8 = 73;
/// Trying later may help. Configuration that cannot be used is among it: mail is not to go back for a typing error.
pub const EX_TEMPFAIL: u8 = 75;
/// The caller may not do this.
const EX_NOPERM: u8 = 77;

/// Why a message was not delivered.
#[derive(Debug)]
pub struct Failure {
    status: u8,
    reason: String,
}

impl Failure {
    fn new(status: u8, reason: impl Display) -> Self {
        Failure {
            status,
            reason: reason.to_string(),
        }
    }

    /// No store knows the user.
    pub fn no_user(reason: impl Display) -> Self {
        Failure::new(EX_NOUSER, reason)
    }

    /// The maildrop is not what it has to be.
    pub fn cannot_create(reason: impl Display) -> Self {
        Failure::new(EX_CANTCREAT, reason)
    }

    /// Trying later may help.
    pub fn temporary(reason: impl Display) -> Self {
        Failure::new(EX_TEMPFAIL, reason)
    }

    /// The caller may not do this.
    pub fn no_permission(reason: impl Display) -> Self {
        Failure::new(EX_NOPERM, reason)
    }

    /// The exit status.
    pub fn status(&self) -> u8 {
        self.status
    }

    /// Says why, on standard error; what is returned says what to do.
    pub fn report(&self) -> ExitCode {
        eprintln!("popa3ctl: {}", self.reason);
        ExitCode::from(self.status)
    }
}
