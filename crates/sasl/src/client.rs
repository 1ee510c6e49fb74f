//! The client half: answers challenges, and believes a success only if the server has proven what its mechanism asks of it.
//!
//! Used by the client library. The driver sends [`Client::initial_response`] with AUTH, or leaves it out and gets it from
//! [`Client::respond`] after the server's empty challenge (RFC 5034 section 4: where the line would exceed 255 octets). On any
//! error it sends `*`. At `+OK` it calls [`Client::finish`].

mod choose;
mod scram;

use std::fmt;

use crate::cram_md5::{self, MAX_CHALLENGE_OCTETS};
use crate::oauth::Bearer;
use crate::plain;
use crate::saslprep::prepare_name;
use crate::scram::{MAX_ITERATIONS, Nonce};
use crate::{ChannelBinding, MAX_MESSAGE_OCTETS, Mechanism, Secret};

pub use choose::choose;

/// What the client can show.
#[derive(Clone, Debug)]
pub enum Credentials {
    /// A name and its password.
    Password {
        /// Whose password it is.
        user: String,
        /// The password, as typed.
        password: Secret,
        /// Whose maildrop is wanted, if not the user's own; few servers allow it, and CRAM-MD5 and LOGIN cannot say it.
        authzid: Option<String>,
    },
    /// An OAuth access token.
    Token {
        /// Whose maildrop is wanted.
        user: String,
        /// The token.
        token: Secret,
        /// The host the client has connected to.
        host: String,
        /// The port the client has connected to.
        port: u16,
    },
    /// A certificate, shown in the TLS handshake.
    Certificate {
        /// Whose maildrop is wanted; `None` leaves it to the server.
        authzid: Option<String>,
    },
}

/// Why the exchange cannot go on, or did not prove anything.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClientError {
    /// The mechanism shows something else than these credentials, or needs a channel binding and there is none.
    Unsuitable,
    /// A name, password or token that the mechanism cannot carry: empty, with a NUL, or refused by SASLprep.
    Unsendable,
    /// The server says more than the mechanism has to hear.
    UnexpectedChallenge,
    /// A challenge not of the mechanism's grammar, or longer than its bound.
    Malformed,
    /// The server asks for an extension of SCRAM that is not known.
    MandatoryExtension,
    /// The server's nonce does not extend the client's: a replay.
    Nonce,
    /// The server asks for fewer iterations than is safe or more than is bearable: this many.
    Iterations(u32),
    /// The server's signature is wrong: it does not know the password, and is not the server.
    ServerSignature,
    /// The server claims success before it has proven that it knows the password, or before the exchange was over.
    Unproven,
    /// The server refused, and said why in the mechanism's own words: SCRAM's error value, or OAuth's JSON. Foreign text.
    Refused(String),
}

impl fmt::Display for ClientError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self {
            ClientError::Unsuitable => "the mechanism does not fit the credentials or the channel",
            ClientError::Unsendable => "the mechanism cannot carry these credentials",
            ClientError::UnexpectedChallenge => "unexpected challenge",
            ClientError::Malformed => "malformed challenge",
            ClientError::MandatoryExtension => "the server asks for an unknown extension",
            ClientError::Nonce => "the server answers another exchange",
            ClientError::Iterations(count) => {
                return write!(f, "the server asks for {count} iterations");
            }
            ClientError::ServerSignature => "the server does not know the password",
            ClientError::Unproven => "the server did not prove that it knows the password",
            ClientError::Refused(reason) => {
                return write!(f, "the server refused: {}", reason.escape_debug());
            }
        };
        f.write_str(text)
    }
}

impl std::error::Error for ClientError {}

/// One exchange.
#[derive(Debug)]
pub struct Client {
    mechanism: Mechanism,
    state: State,
    max_iterations: u32,
}

/// What comes next.
#[derive(Debug)]
enum State {
    /// The first message, ready to be sent.
    Initial(Secret, Box<State>),
    /// LOGIN: the first challenge asks for the name, the second for the password, whatever their words.
    LoginUser {
        user: String,
        password: Secret,
    },
    LoginPassword {
        password: Secret,
    },
    /// CRAM-MD5's challenge.
    CramMd5 {
        user: String,
        password: Secret,
    },
    /// `server-first-message`
    ScramFirst(scram::First),
    /// `server-final-message`
    ScramFinal(scram::Final),
    /// The server decides; a challenge can only be OAuth's error, to which the answer says nothing.
    TokenSent {
        dummy: &'static [u8],
    },
    /// The server has said why it refuses.
    Refused(String),
    /// All is said, and nothing more can be asked for.
    Done,
    /// An error ended it.
    Broken,
}

impl Client {
    /// Prepares an exchange.
    ///
    /// `binding` is what this channel can be bound by: used by `-PLUS`; in SCRAM without it, it makes the client say that it could
    /// have bound but was not offered to, which a server that did offer takes for an attack. Therefore `None` where the weaker
    /// mechanism was chosen by hand. `nonce` is new for every exchange; mechanisms but SCRAM leave it unused.
    ///
    /// # Errors
    /// [`ClientError::Unsuitable`] and [`ClientError::Unsendable`].
    pub fn new(
        mechanism: Mechanism,
        credentials: &Credentials,
        binding: Option<&ChannelBinding>,
        nonce: &Nonce,
    ) -> Result<Self, ClientError> {
        let state = match credentials {
            Credentials::Password {
                user,
                password,
                authzid,
            } => {
                let login = Login {
                    user,
                    password,
                    authzid: authzid.as_deref(),
                };
                login.state(mechanism, binding, nonce)?
            }
            Credentials::Token {
                user,
                token,
                host,
                port,
            } => {
                let bearer = Bearer {
                    user: Some(user.clone()),
                    token: token.clone(),
                    host: Some(host.clone()),
                    port: Some(*port),
                };
                // The dummies: RFC 7628 section 3.2.3, and Google's text on XOAUTH2.
                let (message, dummy): (_, &[u8]) = match mechanism {
                    Mechanism::OAuthBearer => (bearer.write_oauthbearer(), b"\x01"),
                    Mechanism::XOAuth2 => (bearer.write_xoauth2(), b""),
                    _ => return Err(ClientError::Unsuitable),
                };
                let message = message
                    .filter(|sent| sent.as_bytes().len() <= MAX_MESSAGE_OCTETS)
                    .ok_or(ClientError::Unsendable)?;
                initial(message, State::TokenSent { dummy })
            }
            Credentials::Certificate { authzid } => {
                if mechanism != Mechanism::External {
                    return Err(ClientError::Unsuitable);
                }
                let authzid = authzid.as_deref().unwrap_or_default();
                if authzid.contains('\0') {
                    return Err(ClientError::Unsendable);
                }
                initial(Secret::copied(authzid.as_bytes()), State::Done)
            }
        };
        Ok(Self {
            mechanism,
            state,
            max_iterations: MAX_ITERATIONS,
        })
    }

    /// Lets a server ask for no more than this, where [`MAX_ITERATIONS`] would take too long.
    pub fn limit_iterations(&mut self, max_iterations: u32) {
        self.max_iterations = max_iterations.min(MAX_ITERATIONS);
    }

    /// The mechanism.
    pub fn mechanism(&self) -> Mechanism {
        self.mechanism
    }

    /// The message to send along with the mechanism's name; it may be empty (`=`). `None` if the server speaks first, or the message
    /// has been taken before.
    pub fn initial_response(&mut self) -> Option<Secret> {
        match std::mem::replace(&mut self.state, State::Broken) {
            State::Initial(message, next) => {
                self.state = *next;
                Some(message)
            }
            other => {
                self.state = other;
                None
            }
        }
    }

    /// The answer to a decoded challenge.
    ///
    /// # Errors
    /// [`ClientError`]: cancel with `*`. Every later call fails too.
    pub fn respond(&mut self, challenge: &[u8]) -> Result<Secret, ClientError> {
        let state = std::mem::replace(&mut self.state, State::Broken);
        let (answer, next) = state.respond(challenge, self.max_iterations)?;
        self.state = next;
        Ok(answer)
    }

    /// To be called when the server says `+OK`: whether that may be believed.
    ///
    /// # Errors
    /// [`ClientError::Unproven`] if the mechanism had not come to its end, [`ClientError::Refused`] if the server had refused before:
    /// the connection is to be closed.
    pub fn finish(self) -> Result<(), ClientError> {
        match self.state {
            State::Done | State::TokenSent { .. } => Ok(()),
            State::Refused(reason) => Err(ClientError::Refused(reason)),
            _ => Err(ClientError::Unproven),
        }
    }

    /// What the server said of the token before it refused: OAuth's JSON (RFC 7628 section 3.2.2). Foreign text.
    pub fn refusal(&self) -> Option<&str> {
        match &self.state {
            State::Refused(reason) => Some(reason),
            _ => None,
        }
    }
}

impl State {
    fn respond(
        self,
        challenge: &[u8],
        max_iterations: u32,
    ) -> Result<(Secret, State), ClientError> {
        match self {
            // The server asks for the initial response that AUTH did not carry.
            State::Initial(message, next) if challenge.is_empty() => Ok((message, *next)),
            State::LoginUser { user, password } => Ok((
                Secret::new(user.into_bytes()),
                State::LoginPassword { password },
            )),
            State::LoginPassword { password } => Ok((password, State::Done)),
            State::CramMd5 { user, password } => {
                if challenge.is_empty() || challenge.len() > MAX_CHALLENGE_OCTETS {
                    return Err(ClientError::Malformed);
                }
                let answer = cram_md5::answer(&user, &password, challenge);
                Ok((Secret::new(answer), State::Done))
            }
            State::ScramFirst(first) => {
                let (answer, last) = first.respond(challenge, max_iterations)?;
                Ok((answer, State::ScramFinal(last)))
            }
            State::ScramFinal(last) => {
                last.check(challenge)?;
                Ok((Secret::copied(b""), State::Done))
            }
            State::TokenSent { dummy } => {
                if challenge.len() > MAX_MESSAGE_OCTETS {
                    return Err(ClientError::Malformed);
                }
                let reason = String::from_utf8_lossy(challenge).into_owned();
                Ok((Secret::copied(dummy), State::Refused(reason)))
            }
            State::Initial(..) | State::Refused(_) | State::Done | State::Broken => {
                Err(ClientError::UnexpectedChallenge)
            }
        }
    }
}

fn initial(message: Secret, next: State) -> State {
    State::Initial(message, Box::new(next))
}

/// Credentials of the kind that most mechanisms show.
struct Login<'a> {
    user: &'a str,
    password: &'a Secret,
    authzid: Option<&'a str>,
}

impl Login<'_> {
    fn state(
        &self,
        mechanism: Mechanism,
        binding: Option<&ChannelBinding>,
        nonce: &Nonce,
    ) -> Result<State, ClientError> {
        let sendable = !self.user.is_empty()
            && !self.user.contains('\0')
            && !self.password.as_bytes().is_empty()
            && !self.password.as_bytes().contains(&0)
            && self.authzid.is_none_or(|authzid| !authzid.contains('\0'));
        if !sendable {
            return Err(ClientError::Unsendable);
        }
        // What these two cannot say must not be left out: it would open another maildrop.
        if self.authzid.is_some() && matches!(mechanism, Mechanism::Login | Mechanism::CramMd5) {
            return Err(ClientError::Unsuitable);
        }
        let (user, password) = (self.user.to_owned(), self.password.clone());
        match mechanism {
            Mechanism::Plain => {
                let message = plain::Message {
                    authzid: self.authzid.unwrap_or_default().as_bytes(),
                    authcid: self.user.as_bytes(),
                    password: self.password.as_bytes(),
                };
                let message = message.write().ok_or(ClientError::Unsendable)?;
                Ok(initial(message, State::Done))
            }
            Mechanism::Login => Ok(State::LoginUser { user, password }),
            Mechanism::CramMd5 => Ok(State::CramMd5 { user, password }),
            _ => {
                let hash = mechanism.scram_hash().ok_or(ClientError::Unsuitable)?;
                let flag = scram::flag(mechanism.is_bound(), binding)?;
                let user = prepare_name(user.as_bytes()).ok_or(ClientError::Unsendable)?;
                let (message, first) =
                    scram::First::new(hash, &user, password, self.authzid, flag, nonce);
                Ok(initial(message, State::ScramFirst(first)))
            }
        }
    }
}

#[cfg(test)]
mod tests;
