//! What the token role is told (by the master and by auth) and what it answers.

use std::time::Duration;

use confine::channel::Message;
use serde::{Deserialize, Serialize};

use crate::auth::MAX_SASL_OCTETS;
use crate::role::MAX_CONFIGURATION_OCTETS;
use crate::secret::Secret;

/// Octets of a user name in a [`Finding`]: as many as auth looks up.
pub const MAX_USER_OCTETS: usize = 320;

/// Octets of a reason in a [`Finding`].
pub const MAX_REASON_OCTETS: usize = 512;

/// The one server that the token role asks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Server {
    /// By TLS; otherwise it is on this host.
    pub tls: bool,
    /// A name, or an address without brackets.
    pub host: String,
    /// The TCP port, the only one the role may connect to.
    pub port: u16,
    /// The whole URL, which says the same.
    pub url: String,
}

/// How a token is checked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Method {
    /// As a JSON web token (RFC 9068, RFC 7519), by keys that are in a file.
    KeyFile,
    /// The same, by keys that a server publishes (RFC 7517).
    KeyServer(Server),
    /// By asking the server that issued it (RFC 7662).
    Introspection {
        /// Whom to ask.
        server: Server,
        /// As whom (RFC 6749 section 2.3.1).
        client_id: String,
    },
}

impl Method {
    /// The server, where one is asked.
    pub fn server(&self) -> Option<&Server> {
        match self {
            Method::KeyFile => None,
            Method::KeyServer(server) | Method::Introspection { server, .. } => Some(server),
        }
    }
}

/// The signatures that a JSON web token may have (RFC 7518 section 3.1, RFC 8037): all by a private key that is not here. Neither
/// `none` nor an HMAC can be configured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the names are IANA's")]
pub enum Algorithm {
    RS256,
    RS384,
    RS512,
    PS256,
    PS384,
    PS512,
    ES256,
    ES384,
    EdDSA,
}

impl Algorithm {
    /// Every one.
    pub const ALL: [Algorithm; 9] = [
        Algorithm::RS256,
        Algorithm::RS384,
        Algorithm::RS512,
        Algorithm::PS256,
        Algorithm::PS384,
        Algorithm::PS512,
        Algorithm::ES256,
        Algorithm::ES384,
        Algorithm::EdDSA,
    ];

    /// The name in IANA's registry.
    pub const fn name(self) -> &'static str {
        match self {
            Algorithm::RS256 => "RS256",
            Algorithm::RS384 => "RS384",
            Algorithm::RS512 => "RS512",
            Algorithm::PS256 => "PS256",
            Algorithm::PS384 => "PS384",
            Algorithm::PS512 => "PS512",
            Algorithm::ES256 => "ES256",
            Algorithm::ES384 => "ES384",
            Algorithm::EdDSA => "EdDSA",
        }
    }

    /// The one of this name, spelt so.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|algorithm| algorithm.name() == name)
    }
}

/// The token role's part of the configuration; all but the server and the number of workers may change at SIGHUP.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenConfig {
    /// How tokens are checked.
    pub method: Method,
    /// What `iss` has to be; `None` only where the issuer itself is asked.
    pub issuer: Option<String>,
    /// One of these has to be in `aud`; empty only where the issuer itself is asked.
    pub audience: Vec<String>,
    /// All of these have to be in `scope`.
    pub scope: Vec<String>,
    /// What a JSON web token may be signed by.
    pub algorithms: Vec<Algorithm>,
    /// The claim whose value is the user's name.
    pub user_claim: String,
    /// A server that has not answered by then is not asked further.
    pub timeout: Duration,
    /// Tokens that are checked at the same time.
    pub workers: u32,
    /// Keys of a server are fetched anew when they are this old.
    pub keys_kept: Duration,
    /// And no two fetches are closer together than this, whatever tokens name as their key.
    pub refresh_interval: Duration,
}

/// From the master to the token role, after [`crate::role::Start`].
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum ToToken {
    /// At start, and when the configuration was read anew. The files come along, open for reading: the key set, or the secret of
    /// [`Method::Introspection`]; and where there is a server with TLS, certificate authorities in PEM.
    Load(Box<TokenConfig>),
    /// The channel from a (re)started auth comes along.
    Auth,
}

impl Message for ToToken {
    const MAX_OCTETS: usize = MAX_CONFIGURATION_OCTETS;

    fn descriptors(&self) -> usize {
        match self {
            ToToken::Load(configuration) => {
                let authorities = configuration.method.server().is_some_and(|it| it.tls);
                let file = !matches!(configuration.method, Method::KeyServer(_));
                usize::from(file).saturating_add(usize::from(authorities))
            }
            ToToken::Auth => 1,
        }
    }
}

/// From auth: is this token valid, and whose is it? Answered by [`Answer`], not always in order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Question {
    /// Comes back with the answer.
    pub number: u64,
    /// An access token (RFC 6750), at most [`MAX_SASL_OCTETS`].
    pub token: Secret,
}

impl Message for Question {
    const MAX_OCTETS: usize = MAX_SASL_OCTETS + 64;
}

/// The answer to a [`Question`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// The question's.
    pub number: u64,
    /// What has come of it.
    pub finding: Finding,
}

/// What is known of a token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Finding {
    /// It is valid.
    Valid {
        /// Whose it is, at most [`MAX_USER_OCTETS`].
        user: String,
        /// Until when, in seconds since 1970; `None` where the server that was asked does not say.
        expires: Option<u64>,
    },
    /// It is not; why, for the log, at most [`MAX_REASON_OCTETS`].
    Refused(String),
    /// It is, but for something else: a scope is missing.
    LacksScope,
    /// That cannot be told now; why, for the log, at most [`MAX_REASON_OCTETS`].
    Unavailable(String),
}

impl Message for Answer {
    const MAX_OCTETS: usize = 1024;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_algorithm_is_found_by_its_name_and_none_without_a_private_key() {
        for algorithm in Algorithm::ALL {
            assert_eq!(Algorithm::from_name(algorithm.name()), Some(algorithm));
        }
        for name in ["none", "HS256", "HS512", "rs256", ""] {
            assert_eq!(Algorithm::from_name(name), None);
        }
    }
}
