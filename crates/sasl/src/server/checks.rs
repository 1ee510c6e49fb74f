//! What the caller is asked to check, and how its finding leads on.

use super::{Challenge, Failure, Next, Step};
use crate::Secret;
use crate::oauth::{Bearer, TokenError};
use crate::saslprep::prepare_name;

/// A name and a password (PLAIN, LOGIN). For unknown users as well something is to be verified that takes the usual time, such as
/// a verifier of [`crate::scram::Decoys`].
#[derive(Debug)]
pub struct CheckPassword {
    user: String,
    password: Secret,
}

impl CheckPassword {
    pub(super) fn new(user: String, password: Secret) -> Self {
        Self { user, password }
    }

    /// The user, prepared by SASLprep.
    pub fn user(&self) -> &str {
        &self.user
    }

    /// The password as sent: 1 to [`crate::MAX_PASSWORD_OCTETS`] octets, no NUL.
    pub fn password(&self) -> &Secret {
        &self.password
    }

    /// It is that user's.
    pub fn accept(self) -> Step {
        Step::Authenticated(self.user)
    }

    /// It is not, or there is no such user.
    pub fn refuse(self) -> Step {
        Step::Failed(Failure::WrongPassword)
    }
}

/// An access token (OAUTHBEARER, XOAUTH2).
#[derive(Debug)]
pub struct CheckToken(Bearer);

impl CheckToken {
    pub(super) fn new(bearer: Bearer) -> Self {
        Self(bearer)
    }

    /// Whose maildrop the client wants, prepared by SASLprep; `None` if it leaves that to the token.
    pub fn user(&self) -> Option<&str> {
        self.0.user.as_deref()
    }

    /// The token: visible ASCII, or empty if the client only asks what is needed, which is to be refused.
    pub fn token(&self) -> &Secret {
        &self.0.token
    }

    /// The host that the client believes it is connected to (RFC 7628 section 3.2: to be compared where the own name is known).
    pub fn host(&self) -> Option<&str> {
        self.0.host.as_deref()
    }

    /// The port that the client believes it is connected to.
    pub fn port(&self) -> Option<u16> {
        self.0.port
    }

    /// The token is valid and `user`'s. Refused all the same if the client named another user, or sent no token.
    pub fn accept(self, user: &str) -> Step {
        let named = self.user().is_none_or(|named| is_name(named, user));
        if !named {
            return refused(&TokenError::invalid_token(), Failure::AuthzidDiffers);
        }
        if self.token().as_bytes().is_empty() {
            return self.refuse(&TokenError::invalid_token());
        }
        Step::Authenticated(user.to_owned())
    }

    /// The token is not accepted: the client is told why in a challenge, and what it answers ends the exchange.
    pub fn refuse(self, error: &TokenError) -> Step {
        refused(error, Failure::TokenRefused)
    }
}

fn refused(error: &TokenError, failure: Failure) -> Step {
    Step::Challenge(Challenge::new(
        error.to_json().as_bytes(),
        Next::Refused(failure),
    ))
}

/// The certificate that the client showed in the TLS handshake (EXTERNAL).
#[derive(Debug)]
pub struct CheckCertificate {
    authzid: Option<String>,
}

impl CheckCertificate {
    pub(super) fn new(authzid: Option<String>) -> Self {
        Self { authzid }
    }

    /// Whose maildrop the client wants, prepared by SASLprep: for certificates that name several users. `None` if it leaves that
    /// to the certificate.
    pub fn user(&self) -> Option<&str> {
        self.authzid.as_deref()
    }

    /// The certificate is `user`'s. Failed all the same if the client named another user.
    pub fn accept(self, user: &str) -> Step {
        if self.user().is_none_or(|named| is_name(named, user)) {
            return Step::Authenticated(user.to_owned());
        }
        Step::Failed(Failure::AuthzidDiffers)
    }

    /// The certificate names nobody who may log in, or there is none.
    pub fn refuse(self) -> Step {
        Step::Failed(Failure::CertificateRefused)
    }
}

/// Whether a prepared name is `user`.
fn is_name(named: &str, user: &str) -> bool {
    prepare_name(user.as_bytes()).as_deref() == Some(named)
}
