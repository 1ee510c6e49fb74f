//! The AUTHORIZATION state (RFC 1939 section 4).
//!
//! Run by the session process, which knows no secret and no user: it finds out what the client wants and says so. Whether a
//! password is right, somebody else decides and tells it.

use std::fmt;

use super::allowance::Allowance;
use super::language;
use super::offer::Offer;
use crate::command::{Command, MAX_USER_OCTETS, ParseError};
use crate::line::{LineError, MAX_COMMAND, MAX_SASL_LINE};
use crate::{MechanismName, ResponseCode, reply};

/// What a line begins with that may carry an initial response.
const AUTH: &[u8] = b"AUTH ";

/// What a client may do before login, on one connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Attempts to log in; after the last refusal the connection is closed. 1 is what popa3d 1.0.3 allowed.
    pub login_attempts: u32,
    /// Commands of any kind.
    pub commands: u32,
    /// Commands answered `-ERR`, refused logins not counted.
    pub errors: u32,
    /// Octets in a user name, at most [`MAX_USER_OCTETS`].
    pub user_octets: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            login_attempts: 3,
            commands: 100,
            errors: 10,
            user_octets: crate::command::DEFAULT_USER_OCTETS,
        }
    }
}

/// What the caller has to do, after sending the replies that were appended.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Action<'a> {
    /// Go on with the next line.
    Continue,
    /// Close the connection. There is no UPDATE.
    Close,
    /// Verify a password; nothing has been answered yet. Then either whoever serves the maildrop answers, or
    /// [`Authorization::denied`] does.
    AttemptLogin {
        /// The user's name as sent.
        user: &'a [u8],
        /// The password as sent; the machine keeps no copy.
        password: &'a [u8],
    },
    /// Verify an APOP digest, in the same way.
    AttemptApop {
        /// The user's name as sent.
        user: &'a [u8],
        /// 32 hexadecimal digits.
        digest: &'a [u8],
    },
    /// Begin a SASL exchange; nothing has been answered yet. The next step is [`Authorization::challenge`], the answer
    /// of whoever serves the maildrop, or [`Authorization::denied`].
    AuthenticateSasl {
        /// One of those offered.
        mechanism: MechanismName,
        /// Base64; `Some` and empty if the client sent an empty initial response.
        initial_response: Option<&'a [u8]>,
    },
    /// The client's response to a challenge, in base64; the next step is as above.
    SaslResponse(&'a [u8]),
    /// The exchange is over without a result, and that has been answered.
    SaslCancelled,
    /// Send the replies, drop all input received so far
    /// ([`LineBuffer::discard_rest`](crate::line::LineBuffer::discard_rest)), shake hands, then call
    /// [`Authorization::tls_started`].
    StartTls,
}

/// Without passwords, digests and SASL responses.
impl fmt::Debug for Action<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Action::Continue => "Continue",
            Action::Close => "Close",
            Action::AttemptLogin { .. } => "AttemptLogin",
            Action::AttemptApop { .. } => "AttemptApop",
            Action::AuthenticateSasl { .. } => "AuthenticateSasl",
            Action::SaslResponse(_) => "SaslResponse",
            Action::SaslCancelled => "SaslCancelled",
            Action::StartTls => "StartTls",
        })
    }
}

/// Why a login was refused, as far as the client may know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Denial {
    /// Unknown user, wrong password, locked account: all the same to the client.
    Credentials,
    /// The credentials were right; another session has the maildrop.
    InUse,
    /// The credentials were right; the last login was too short a time ago.
    LoginDelay,
    /// It could not be decided now.
    Temporary,
    /// Somebody has to repair something.
    Permanent,
    /// The client's side of a SASL exchange was malformed.
    Malformed,
}

impl Denial {
    /// Appends the reply. The maildrop process uses it as well, when it cannot open what it is to serve.
    pub fn write(self, out: &mut Vec<u8>) {
        let (code, text) = match self {
            Denial::Credentials => (Some(ResponseCode::Auth), "authentication failed"),
            Denial::InUse => (
                Some(ResponseCode::InUse),
                "maildrop is in use by another session",
            ),
            Denial::LoginDelay => (
                Some(ResponseCode::LoginDelay),
                "too soon after the last login",
            ),
            Denial::Temporary => (
                Some(ResponseCode::SysTemp),
                "temporary failure, try again later",
            ),
            Denial::Permanent => (
                Some(ResponseCode::SysPerm),
                "server failure, tell the administrator",
            ),
            Denial::Malformed => (None, "malformed response"),
        };
        reply::err(out, code, text);
    }
}

/// The state machine of the AUTHORIZATION state, from the greeting to the login.
#[derive(Debug)]
pub struct Authorization {
    offer: Offer,
    limits: Limits,
    allowance: Allowance,
    attempts_left: u32,
    progress: Progress,
    /// Of the last USER; counts only in [`Progress::UserGiven`] and while its login is attempted.
    user: Vec<u8>,
    tls: bool,
    utf8: bool,
}

/// How far the client has got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Progress {
    Start,
    /// USER has just been accepted.
    UserGiven,
    /// The caller is about to answer a login.
    Attempted,
    /// A challenge has been sent.
    Challenged,
    /// STLS has been accepted.
    Handshake,
    /// Nothing more is expected.
    Over,
}

impl Authorization {
    /// The state of a connection that has been greeted. `tls` says that it began with TLS.
    pub fn new(offer: Offer, limits: Limits, tls: bool) -> Authorization {
        Authorization {
            offer,
            limits,
            allowance: Allowance::new(limits.commands, limits.errors),
            attempts_left: limits.login_attempts.max(1),
            progress: Progress::Start,
            user: Vec::new(),
            tls,
            utf8: false,
        }
    }

    /// The longest line that may come next, for [`LineBuffer::set_limit`](crate::line::LineBuffer::set_limit), as far as can be
    /// told from its [`beginning`](crate::line::LineBuffer::unparsed).
    ///
    /// RFC 5034 section 4 has clients send a long initial response behind an empty challenge instead; several send an access
    /// token with AUTH all the same. Nobody gets more room by that than a challenge would give.
    pub fn line_limit(&self, beginning: &[u8]) -> usize {
        let is_auth = || {
            let keyword = beginning.get(..AUTH.len());
            keyword.is_some_and(|keyword| keyword.eq_ignore_ascii_case(AUTH))
        };
        match self.progress {
            Progress::Challenged => MAX_SASL_LINE,
            _ if !self.offer.mechanisms.is_empty() && is_auth() => MAX_SASL_LINE,
            _ => MAX_COMMAND,
        }
    }

    /// UTF8 was given: the TRANSACTION state begins in UTF-8 mode.
    pub fn utf8(&self) -> bool {
        self.utf8
    }

    /// Takes the client's next line and appends the reply, if there is one yet.
    ///
    /// While a login is attempted and during a handshake no line may be taken: the connection is closed.
    pub fn line<'a>(
        &'a mut self,
        line: Result<&'a [u8], LineError>,
        out: &mut Vec<u8>,
    ) -> Action<'a> {
        match self.progress {
            Progress::Challenged => self.sasl_response(line, out),
            Progress::Attempted | Progress::Handshake | Progress::Over => {
                self.progress = Progress::Over;
                Action::Close
            }
            Progress::Start | Progress::UserGiven => {
                if !self.allowance.spend_command() {
                    return self.close("too many commands", out);
                }
                // PASS is for the command right after USER alone.
                let user_given =
                    std::mem::replace(&mut self.progress, Progress::Start) == Progress::UserGiven;
                match line {
                    Err(LineError::TooLong) => self.error("line too long", out),
                    Err(LineError::Nul) => self.error("NUL in command", out),
                    Ok(line) => {
                        match Command::parse(line, self.limits.user_octets.min(MAX_USER_OCTETS)) {
                            Ok(command) => self.command(command, user_given, out),
                            Err(ParseError::UnknownCommand) => self.error("unknown command", out),
                            Err(ParseError::WrongArguments(_)) => {
                                self.error("wrong arguments", out)
                            }
                        }
                    }
                }
            }
        }
    }

    fn command<'a>(
        &'a mut self,
        command: Command<'a>,
        user_given: bool,
        out: &mut Vec<u8>,
    ) -> Action<'a> {
        match command {
            Command::User { .. } | Command::Pass { .. } if !self.offer.user => {
                let text = if self.offer.stls {
                    "not without TLS, use STLS"
                } else {
                    "not available"
                };
                self.error(text, out)
            }
            // RFC 1939 section 7: not after a successful USER.
            Command::User { .. } if user_given => self.error("PASS expected", out),
            Command::User { name } => {
                self.user.clear();
                self.user.extend_from_slice(name);
                self.progress = Progress::UserGiven;
                // The same for everybody: this must not tell who exists.
                reply::ok(out, "");
                Action::Continue
            }
            Command::Pass { .. } if !user_given => self.error("USER first", out),
            Command::Pass { password } => {
                self.begin_attempt();
                Action::AttemptLogin {
                    user: &self.user,
                    password,
                }
            }
            Command::Apop { name, digest } if self.offer.apop => {
                self.begin_attempt();
                Action::AttemptApop { user: name, digest }
            }
            Command::Auth {
                mechanism: None, ..
            } if !self.offer.mechanisms.is_empty() => {
                reply::mechanisms(out, &self.offer.mechanisms);
                Action::Continue
            }
            Command::Auth {
                mechanism: Some(mechanism),
                initial_response,
            } => {
                if !self.offer.mechanisms.contains(&mechanism) {
                    return self.error("mechanism not available", out);
                }
                self.begin_attempt();
                Action::AuthenticateSasl {
                    mechanism,
                    initial_response,
                }
            }
            Command::Capa => {
                self.offer.write_in_authorization(out);
                Action::Continue
            }
            Command::Stls => self.stls(out),
            Command::Utf8 if self.offer.utf8 => {
                self.utf8 = true;
                reply::ok(out, "UTF-8 mode");
                Action::Continue
            }
            Command::Lang(range) if language::answer(range, out) => Action::Continue,
            Command::Lang(_) => self.error("no such language", out),
            Command::Quit => {
                self.progress = Progress::Over;
                reply::ok(out, "");
                Action::Close
            }
            Command::Apop { .. } | Command::Auth { .. } | Command::Utf8 => {
                self.error("not available", out)
            }
            Command::Stat
            | Command::List(_)
            | Command::Retr(_)
            | Command::Dele(_)
            | Command::Noop
            | Command::Rset
            | Command::Top { .. }
            | Command::Uidl(_)
            | Command::Last => self.error("log in first", out),
        }
    }

    fn stls(&mut self, out: &mut Vec<u8>) -> Action<'static> {
        if self.tls {
            return self.error("TLS is active already", out);
        }
        if !self.offer.stls {
            return self.error("not available", out);
        }
        // RFC 6856 section 2.1.
        if self.utf8 {
            return self.error("not after UTF8", out);
        }
        self.progress = Progress::Handshake;
        reply::ok(out, "begin TLS negotiation");
        Action::StartTls
    }

    /// The handshake that [`Action::StartTls`] asked for is done; from here on `offer` holds. All that the client said in the
    /// clear is forgotten (RFC 2595 section 4), but what it has used up of its limits.
    pub fn tls_started(&mut self, offer: Offer) {
        self.offer = offer;
        self.tls = true;
        self.user.clear();
        if self.progress == Progress::Handshake {
            self.progress = Progress::Start;
        }
    }

    /// Sends a challenge within a SASL exchange.
    pub fn challenge(&mut self, base64: &[u8], out: &mut Vec<u8>) {
        reply::challenge(out, base64);
        self.progress = Progress::Challenged;
    }

    fn sasl_response<'a>(
        &'a mut self,
        line: Result<&'a [u8], LineError>,
        out: &mut Vec<u8>,
    ) -> Action<'a> {
        let text = match line {
            Ok(b"*") => "cancelled",
            Ok(base64) => {
                self.progress = Progress::Attempted;
                return Action::SaslResponse(base64);
            }
            Err(LineError::TooLong) => "response too long",
            Err(LineError::Nul) => "NUL in response",
        };
        reply::err(out, None, text);
        match self.end_attempt() {
            Action::Close => Action::Close,
            _ => Action::SaslCancelled,
        }
    }

    /// The login that was attempted is refused: appends the reply. The client may try again ([`Action::Continue`]) until
    /// its attempts are used up ([`Action::Close`]).
    pub fn denied(&mut self, denial: Denial, out: &mut Vec<u8>) -> Action<'static> {
        denial.write(out);
        self.end_attempt()
    }

    fn begin_attempt(&mut self) {
        self.attempts_left = self.attempts_left.saturating_sub(1);
        self.progress = Progress::Attempted;
    }

    fn end_attempt(&mut self) -> Action<'static> {
        self.user.clear();
        if self.attempts_left == 0 {
            self.progress = Progress::Over;
            return Action::Close;
        }
        self.progress = Progress::Start;
        Action::Continue
    }

    fn error(&mut self, text: &str, out: &mut Vec<u8>) -> Action<'static> {
        if !self.allowance.spend_error() {
            return self.close("too many errors", out);
        }
        reply::err(out, None, text);
        Action::Continue
    }

    fn close(&mut self, text: &str, out: &mut Vec<u8>) -> Action<'static> {
        self.progress = Progress::Over;
        reply::err(out, None, text);
        Action::Close
    }
}

#[cfg(test)]
mod tests;
