//! What auth asks a worker process, and what the worker answers.
//!
//! Both ends run the same code; the worker end has had a foreign password and foreign PAM modules in its memory, so its
//! answers are bounded and decoded like any other message.

use std::fmt;
use std::net::IpAddr;

use confine::channel::Message;
use messages::auth::{
    Denial, Handshake, MAX_SIGNATURE_OCTETS, MAX_TRANSCRIPT_OCTETS, ServerRandom,
};
use messages::{Account, Secret};
use sasl::server::Failure;
use serde::{Deserialize, Serialize};

/// Octets of a reason that goes to the log.
const MAX_REASON_OCTETS: usize = 1024;

/// One attempt to be decided.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Request {
    /// The name as sent; empty where a certificate is to say it.
    pub user: Vec<u8>,
    /// What is to prove it.
    pub credential: Credential,
    /// Whether the session says that it came in a SASL exchange over TLS.
    pub tls: bool,
    /// The address the client connected to.
    pub local: Option<IpAddr>,
    /// The client's address.
    pub peer: Option<IpAddr>,
}

/// What a client proves, or is to prove, its name with.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Credential {
    /// The password.
    Password(Secret),
    /// APOP's digest, and the timestamp that it has to be of.
    Apop {
        /// 32 hexadecimal digits as sent.
        digest: Secret,
        /// The greeting's, from the session spawner.
        timestamp: String,
    },
    /// Nothing yet: SCRAM is to be begun, by what the stores have on the user.
    Verifier,
    /// Nothing any more: an access token, or a verifier derived for a user of the system, has proven the name.
    Proven,
    /// The certificate that the client has shown, by the handshake that it did so in.
    Certificate {
        /// The handshake.
        handshake: Handshake,
        /// The server's random number that has to be in it.
        server_random: ServerRandom,
        /// Which of the certificate's users it is to be, prepared by the mechanism; `None`: the only one.
        authzid: Option<String>,
    },
}

impl Message for Request {
    /// A name and a password (2 KiB) and a timestamp; or a handshake.
    const MAX_OCTETS: usize = MAX_TRANSCRIPT_OCTETS + MAX_SIGNATURE_OCTETS + 4 * 1024;
}

/// A worker's decision.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// The credentials are right.
    Accepted {
        /// Whose maildrop may be opened.
        account: Account,
        /// Who says so.
        source: Source,
    },
    /// An app password is right.
    AcceptedApp {
        /// Whose maildrop may be opened, with the rights of that app password.
        account: Account,
        /// Where the account is from.
        source: Source,
        /// Which app password; for the log.
        label: String,
    },
    /// They are not, or it cannot be told.
    Refused {
        /// The name, only if there is such a user: people type passwords in place of names.
        user: Option<String>,
        /// Why.
        refusal: Refusal,
    },
    /// [`Credential::Verifier`] was asked. Nothing is decided.
    Found(Found),
}

/// What there is on a user, for SCRAM: in the users file, or derived.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Found {
    /// The name, only if there is such a user.
    pub user: Option<String>,
    /// The verifier in RFC 5803's form. Without it, a decoy takes its place.
    pub verifier: Option<Secret>,
    /// Whose maildrop a right password opens, or why none is right.
    pub account: Result<Account, Refusal>,
    /// It is a user of the system, which is asked once more when the password has been proven.
    pub is_derived: bool,
}

impl Found {
    /// Nobody may be told why the account cannot log in, the right password or not.
    pub fn is_credentials_refusal(&self) -> bool {
        matches!(&self.account, Err(refusal) if refusal.denial() == Denial::Credentials)
    }
}

impl Outcome {
    /// A refusal of somebody no store knows.
    pub fn unknown(refusal: Refusal) -> Self {
        Self::Refused {
            user: None,
            refusal,
        }
    }

    /// A refusal of a known user.
    pub fn refused(user: &str, refusal: Refusal) -> Self {
        Self::Refused {
            user: Some(user.to_owned()),
            refusal,
        }
    }
}

impl Message for Outcome {
    /// As `messages::spawner::StartMaildrop`, which carries the account on.
    const MAX_OCTETS: usize = 16 * 1024;
}

/// Which store decided; for the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Source {
    /// PAM.
    Pam,
    /// passwd and shadow.
    Shadow,
    /// The users file.
    UsersFile,
    /// The file of APOP secrets.
    Apop,
    /// popa3d's virtual domains.
    AddressDomain,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Source::Pam => "pam",
            Source::Shadow => "shadow",
            Source::UsersFile => "users-file",
            Source::Apop => "apop",
            Source::AddressDomain => "address-domain",
        })
    }
}

/// Why an attempt failed; for the log. The client is told [`Refusal::denial`] and no more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Refusal {
    /// No store has this user.
    UnknownUser,
    /// Wrong password or digest.
    WrongPassword,
    /// A name, password or digest that nobody can have; the empty password too.
    Malformed,
    /// The account has no password that would be right.
    Locked,
    /// The account or its password has expired, or PAM does not allow it here.
    Expired,
    /// Uid or gid 0, or none at all.
    Root,
    /// Not the one account that this server can serve.
    NotServed,
    /// A user with an APOP secret sent a password (RFC 1939 section 13).
    ApopOnly,
    /// An app password that is not taken: which, and why.
    AppPassword(String),
    /// SCRAM, and what is stored of the password is no verifier of that hash.
    NoVerifier,
    /// An access token that is not accepted, for this reason.
    Token(String),
    /// EXTERNAL, and the client has shown no certificate, or not by TLS 1.3.
    NoCertificate,
    /// EXTERNAL: what is said to be shown proves nothing, or names nobody; for this reason.
    Certificate(String),
    /// SASL: the client wants to act as somebody else.
    Authzid,
    /// SASL: the client's side was none, for this reason.
    Exchange(String),
    /// SASL: the mechanism is not configured; it was, when the session began.
    NotOffered,
    /// What the store has on this user makes no sense. Told to nobody who has not given the right password.
    BadRecord(String),
    /// A right password for a record that makes no sense.
    Unusable(String),
    /// A store cannot be asked now.
    Unavailable(String),
    /// A store cannot be asked until somebody has repaired it.
    Broken(String),
}

impl Refusal {
    /// What the client may know. Everything that depends on the user is one and the same, until the password was right.
    pub fn denial(&self) -> Denial {
        match self {
            Refusal::UnknownUser
            | Refusal::WrongPassword
            | Refusal::Malformed
            | Refusal::Locked
            | Refusal::Expired
            | Refusal::Root
            | Refusal::NotServed
            | Refusal::ApopOnly
            | Refusal::AppPassword(_)
            | Refusal::NoVerifier
            | Refusal::Token(_)
            | Refusal::NoCertificate
            | Refusal::Certificate(_)
            | Refusal::Authzid
            | Refusal::BadRecord(_) => Denial::Credentials,
            Refusal::Exchange(_) => Denial::Malformed,
            Refusal::Unavailable(_) | Refusal::NotOffered => Denial::Temporary,
            Refusal::Unusable(_) | Refusal::Broken(_) => Denial::Permanent,
        }
    }

    /// Whether somebody has to look, rather than only a client be told.
    pub fn is_fault(&self) -> bool {
        matches!(
            self,
            Refusal::BadRecord(_)
                | Refusal::Unusable(_)
                | Refusal::Unavailable(_)
                | Refusal::Broken(_)
        )
    }

    /// Why a SASL exchange has failed.
    pub fn of_exchange(failure: Failure) -> Self {
        match failure {
            Failure::WrongPassword => Self::WrongPassword,
            Failure::UserName => Self::Malformed,
            Failure::AuthzidDiffers => Self::Authzid,
            Failure::TokenRefused => Self::Token("token refused".to_owned()),
            other => Self::Exchange(bounded(other)),
        }
    }

    /// [`Refusal::Token`], with the text bounded.
    pub fn token(reason: impl fmt::Display) -> Self {
        Self::Token(bounded(format_args!("token {reason}")))
    }

    /// [`Refusal::Certificate`], with the text bounded.
    pub fn certificate(reason: impl fmt::Display) -> Self {
        Self::Certificate(bounded(reason))
    }

    /// [`Refusal::Broken`], with the text bounded.
    pub fn broken(reason: impl fmt::Display) -> Self {
        Self::Broken(bounded(reason))
    }

    /// [`Refusal::Unavailable`], with the text bounded.
    pub fn unavailable(reason: impl fmt::Display) -> Self {
        Self::Unavailable(bounded(reason))
    }

    /// [`Refusal::BadRecord`], with the text bounded.
    pub fn bad_record(reason: impl fmt::Display) -> Self {
        Self::BadRecord(bounded(reason))
    }

    /// [`Refusal::Unusable`], with the text bounded.
    pub fn unusable(reason: impl fmt::Display) -> Self {
        Self::Unusable(bounded(reason))
    }
}

fn bounded(reason: impl fmt::Display) -> String {
    let mut reason = reason.to_string();
    while reason.len() > MAX_REASON_OCTETS {
        reason.pop();
    }
    reason
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Refusal::UnknownUser => "unknown user",
            Refusal::WrongPassword => "wrong password",
            Refusal::Malformed => "malformed or empty",
            Refusal::Locked => "account locked",
            Refusal::Expired => "account or password expired, or not allowed",
            Refusal::Root => "root or without a user and group of its own",
            Refusal::NotServed => "not the account that this server runs as",
            Refusal::ApopOnly => "password sent by a user of APOP",
            Refusal::NoCertificate => "no client certificate by TLS 1.3",
            Refusal::NoVerifier => "no SCRAM verifier of that hash",
            Refusal::Authzid => "authorization identity of another user",
            Refusal::NotOffered => "mechanism not offered any more",
            Refusal::Token(reason)
            | Refusal::Certificate(reason)
            | Refusal::AppPassword(reason)
            | Refusal::Exchange(reason)
            | Refusal::BadRecord(reason)
            | Refusal::Unusable(reason)
            | Refusal::Unavailable(reason)
            | Refusal::Broken(reason) => reason,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_depends_on_the_user_looks_the_same_to_the_client() {
        for refusal in [
            Refusal::UnknownUser,
            Refusal::WrongPassword,
            Refusal::Malformed,
            Refusal::Locked,
            Refusal::Expired,
            Refusal::Root,
            Refusal::NotServed,
            Refusal::ApopOnly,
            Refusal::AppPassword("app password phone has expired".to_owned()),
            Refusal::NoVerifier,
            Refusal::NoCertificate,
            Refusal::certificate("names nobody"),
            Refusal::Authzid,
            Refusal::token("has expired"),
            Refusal::bad_record("line 3"),
        ] {
            assert_eq!(refusal.denial(), Denial::Credentials, "{refusal}");
        }
    }

    #[test]
    fn a_reason_is_bounded() {
        let Refusal::Broken(reason) = Refusal::broken("é".repeat(5000)) else {
            unreachable!()
        };
        assert_eq!(reason.len(), MAX_REASON_OCTETS);
    }
}
