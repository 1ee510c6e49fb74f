//! The server half: a chain of [`Step`]s, each consumed by what comes next, so that nothing can be done twice or out of turn.
//!
//! Runs in the auth role, the only one that sees credentials. It owns no store: a step that needs a password, verifier, token or
//! certificate checked says so, and the caller's finding leads on. To cancel (`*`), drop the step: nothing is left behind.
//!
//! ```text
//! start ─▶ Challenge ─▶ answer ─▶ … CheckPassword | FindVerifier | CheckToken | CheckCertificate ─▶ … Authenticated | Failed
//! ```

mod checks;
mod scram;

use std::fmt;

use crate::oauth::Bearer;
use crate::plain;
use crate::saslprep::prepare_name;
use crate::{ChannelBinding, MAX_PASSWORD_OCTETS, Mechanism, Secret};

pub use checks::{CheckCertificate, CheckPassword, CheckToken};
pub use scram::FindVerifier;

/// What LOGIN's clients are asked, in the words that all of them know.
const LOGIN_USER: &[u8] = b"Username:";
const LOGIN_PASSWORD: &[u8] = b"Password:";

/// What the server half needs done next.
#[derive(Debug)]
pub enum Step {
    /// Send the challenge; the client's answer goes into [`Challenge::answer`].
    Challenge(Challenge),
    /// Check a password.
    CheckPassword(CheckPassword),
    /// Look up what is kept of a user's password.
    FindVerifier(FindVerifier),
    /// Check an access token.
    CheckToken(CheckToken),
    /// Find out whom the client's certificate names.
    CheckCertificate(CheckCertificate),
    /// The client is this user: `+OK`. The name is prepared by SASLprep, or is the one the caller gave.
    Authenticated(String),
    /// It is nobody: `-ERR`.
    Failed(Failure),
}

/// Why an exchange failed: for the log. The client is told whether it may try other credentials, nothing else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The mechanism has no server half here.
    NoServerHalf,
    /// A message longer than [`Mechanism::max_response_octets`].
    TooLong,
    /// A message not of the mechanism's grammar.
    Malformed,
    /// A user name that SASLprep refuses.
    UserName,
    /// An authorization identity that is not the user's own.
    AuthzidDiffers,
    /// The client asks for an extension of SCRAM that is not known.
    MandatoryExtension,
    /// The client believes that no `-PLUS` mechanism was offered, but one was: somebody changed the list on its way.
    Downgrade,
    /// `-PLUS` without binding, or binding without `-PLUS`.
    BindingFlag,
    /// A type of channel binding that the caller gave no data of.
    BindingType,
    /// The client's channel is not the server's: somebody is in the middle.
    BindingData,
    /// Not the nonce of this exchange: a replay.
    Nonce,
    /// The verifier given is of another hash than was asked for.
    VerifierHash,
    /// Wrong password, or unknown user.
    WrongPassword,
    /// The token was refused.
    TokenRefused,
    /// The certificate names nobody.
    CertificateRefused,
}

impl Failure {
    /// Whether other credentials might do: the response code `[AUTH]` (RFC 3206 section 4) belongs to the reply.
    pub fn concerns_credentials(self) -> bool {
        matches!(
            self,
            Failure::UserName
                | Failure::AuthzidDiffers
                | Failure::WrongPassword
                | Failure::TokenRefused
                | Failure::CertificateRefused
        )
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Failure::NoServerHalf => "mechanism not served",
            Failure::TooLong => "message too long",
            Failure::Malformed => "malformed message",
            Failure::UserName => "unusable user name",
            Failure::AuthzidDiffers => "authorization identity of another user",
            Failure::MandatoryExtension => "unknown mandatory extension",
            Failure::Downgrade => "channel binding withheld from the client",
            Failure::BindingFlag => "channel binding and mechanism disagree",
            Failure::BindingType => "unsupported type of channel binding",
            Failure::BindingData => "bound to another channel",
            Failure::Nonce => "nonce of another exchange",
            Failure::VerifierHash => "verifier of another hash",
            Failure::WrongPassword => "wrong password or unknown user",
            Failure::TokenRefused => "token refused",
            Failure::CertificateRefused => "certificate names no user",
        })
    }
}

/// Begins an exchange. `initial_response` is the decoded argument of AUTH, if there was one.
///
/// `bindings` is what the channel can be bound by; empty means that no `-PLUS` mechanism was offered to the client. Whether the
/// mechanism itself was offered (cleartext, certificate there at all) is the caller's to decide before.
pub fn start(
    mechanism: Mechanism,
    initial_response: Option<&[u8]>,
    bindings: &[ChannelBinding],
) -> Step {
    if mechanism == Mechanism::CramMd5 {
        return Step::Failed(Failure::NoServerHalf);
    }
    let initial = Next::Initial {
        mechanism,
        bindings: bindings.to_vec(),
    };
    let challenge = match mechanism {
        Mechanism::Login => LOGIN_USER,
        _ => b"",
    };
    let challenge = Challenge::new(challenge, initial);
    match initial_response {
        // LOGIN's clients may send the name at once (RFC 5034 would have it refused; several do it, Outlook among them).
        Some(response) => challenge.answer(response),
        None => Step::Challenge(challenge),
    }
}

/// A challenge on its way.
#[derive(Debug)]
pub struct Challenge {
    octets: Vec<u8>,
    next: Next,
}

/// What the client's answer is.
#[derive(Debug)]
enum Next {
    /// The first message.
    Initial {
        mechanism: Mechanism,
        bindings: Vec<ChannelBinding>,
    },
    /// LOGIN's second.
    LoginPassword { user: String },
    /// `client-final-message`
    ScramFinal(Box<scram::Final>),
    /// Nothing: POP3 has no room for the server's signature in `+OK` (RFC 5034 section 4), so it went as a challenge.
    ScramEnd { user: String },
    /// Whatever it is, the exchange has failed (RFC 7628 section 3.2.3).
    Refused(Failure),
}

impl Challenge {
    fn new(octets: &[u8], next: Next) -> Self {
        Self {
            octets: octets.to_vec(),
            next,
        }
    }

    /// The challenge, to be sent behind `+ ` in base64; may be empty.
    pub fn octets(&self) -> &[u8] {
        &self.octets
    }

    /// Takes the client's decoded answer.
    pub fn answer(self, response: &[u8]) -> Step {
        let taken = match self.next {
            Next::Initial {
                mechanism,
                bindings,
            } => first(mechanism, response, bindings),
            Next::LoginPassword { user } => login_password(user, response),
            Next::ScramFinal(exchange) => exchange.finish(response),
            Next::ScramEnd { user } if response.is_empty() => Ok(Step::Authenticated(user)),
            Next::ScramEnd { .. } => Err(Failure::Malformed),
            Next::Refused(failure) => Err(failure),
        };
        taken.unwrap_or_else(Step::Failed)
    }
}

/// The client's first message.
fn first(
    mechanism: Mechanism,
    message: &[u8],
    bindings: Vec<ChannelBinding>,
) -> Result<Step, Failure> {
    if message.len() > mechanism.max_response_octets() {
        return Err(Failure::TooLong);
    }
    match mechanism {
        Mechanism::Plain => plain(message),
        Mechanism::Login => login_user(message),
        Mechanism::OAuthBearer => bearer(Bearer::parse_oauthbearer(message)),
        Mechanism::XOAuth2 => bearer(Bearer::parse_xoauth2(message)),
        Mechanism::External => external(message),
        Mechanism::ScramSha1
        | Mechanism::ScramSha256
        | Mechanism::ScramSha1Plus
        | Mechanism::ScramSha256Plus => scram::first(mechanism, message, bindings),
        Mechanism::CramMd5 => Err(Failure::NoServerHalf),
    }
}

fn plain(message: &[u8]) -> Result<Step, Failure> {
    let message = plain::Message::parse(message).ok_or(Failure::Malformed)?;
    let user = prepare_name(message.authcid).ok_or(Failure::UserName)?;
    check_authzid(message.authzid, &user)?;
    check_password(user, message.password)
}

fn login_user(message: &[u8]) -> Result<Step, Failure> {
    let user = prepare_name(message).ok_or(Failure::UserName)?;
    let next = Next::LoginPassword { user };
    Ok(Step::Challenge(Challenge::new(LOGIN_PASSWORD, next)))
}

fn login_password(user: String, message: &[u8]) -> Result<Step, Failure> {
    if message.is_empty() || message.contains(&0) {
        return Err(Failure::Malformed);
    }
    check_password(user, message)
}

fn check_password(user: String, password: &[u8]) -> Result<Step, Failure> {
    if password.len() > MAX_PASSWORD_OCTETS {
        return Err(Failure::TooLong);
    }
    let password = Secret::copied(password);
    Ok(Step::CheckPassword(CheckPassword::new(user, password)))
}

fn bearer(parsed: Option<Bearer>) -> Result<Step, Failure> {
    let mut bearer = parsed.ok_or(Failure::Malformed)?;
    if let Some(user) = &mut bearer.user {
        *user = prepare_name(user.as_bytes()).ok_or(Failure::UserName)?;
    }
    Ok(Step::CheckToken(CheckToken::new(bearer)))
}

fn external(message: &[u8]) -> Result<Step, Failure> {
    let authzid = match message {
        b"" => None,
        _ => Some(prepare_name(message).ok_or(Failure::UserName)?),
    };
    Ok(Step::CheckCertificate(CheckCertificate::new(authzid)))
}

/// An authorization identity is the user's own or empty: nobody acts as somebody else here.
fn check_authzid(authzid: &[u8], user: &str) -> Result<(), Failure> {
    if authzid.is_empty() || prepare_name(authzid).as_deref() == Some(user) {
        return Ok(());
    }
    Err(Failure::AuthzidDiffers)
}

#[cfg(test)]
mod tests;
