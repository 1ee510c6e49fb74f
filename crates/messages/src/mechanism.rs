//! The SASL mechanisms that the server can offer, by name only: what they do is the crate `sasl`'s, for auth.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A mechanism with its name in IANA's registry, which is also its name in the configuration. The strongest first, as CAPA
/// lists them: some clients take the first that they know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum SaslMechanism {
    /// RFC 4422 appendix A: the certificate that the client showed in its TLS handshake.
    #[serde(rename = "EXTERNAL")]
    External,
    /// RFC 7677, bound to the TLS channel.
    #[serde(rename = "SCRAM-SHA-256-PLUS")]
    ScramSha256Plus,
    /// RFC 5802, bound to the TLS channel.
    #[serde(rename = "SCRAM-SHA-1-PLUS")]
    ScramSha1Plus,
    /// RFC 7677.
    #[serde(rename = "SCRAM-SHA-256")]
    ScramSha256,
    /// RFC 5802.
    #[serde(rename = "SCRAM-SHA-1")]
    ScramSha1,
    /// RFC 7628: an OAuth access token.
    #[serde(rename = "OAUTHBEARER")]
    OAuthBearer,
    /// What OAUTHBEARER grew from; Google's and Microsoft's clients know it.
    #[serde(rename = "XOAUTH2")]
    XOAuth2,
    /// RFC 4616.
    #[serde(rename = "PLAIN")]
    Plain,
    /// draft-murchison-sasl-login.
    #[serde(rename = "LOGIN")]
    Login,
}

impl SaslMechanism {
    /// Every mechanism, the strongest first.
    pub const ALL: [SaslMechanism; 9] = [
        SaslMechanism::External,
        SaslMechanism::ScramSha256Plus,
        SaslMechanism::ScramSha1Plus,
        SaslMechanism::ScramSha256,
        SaslMechanism::ScramSha1,
        SaslMechanism::OAuthBearer,
        SaslMechanism::XOAuth2,
        SaslMechanism::Plain,
        SaslMechanism::Login,
    ];

    /// The name.
    pub const fn name(self) -> &'static str {
        match self {
            SaslMechanism::External => "EXTERNAL",
            SaslMechanism::ScramSha256Plus => "SCRAM-SHA-256-PLUS",
            SaslMechanism::ScramSha1Plus => "SCRAM-SHA-1-PLUS",
            SaslMechanism::ScramSha256 => "SCRAM-SHA-256",
            SaslMechanism::ScramSha1 => "SCRAM-SHA-1",
            SaslMechanism::OAuthBearer => "OAUTHBEARER",
            SaslMechanism::XOAuth2 => "XOAUTH2",
            SaslMechanism::Plain => "PLAIN",
            SaslMechanism::Login => "LOGIN",
        }
    }

    /// The mechanism of this name, in upper case.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|mechanism| mechanism.name() == name)
    }

    /// Whether it needs a SCRAM verifier, which only the users file can hold.
    pub const fn is_scram(self) -> bool {
        matches!(
            self,
            SaslMechanism::ScramSha256Plus
                | SaslMechanism::ScramSha1Plus
                | SaslMechanism::ScramSha256
                | SaslMechanism::ScramSha1
        )
    }

    /// Whether it proves the name by an access token, so that somebody has to be there who checks those.
    pub const fn takes_token(self) -> bool {
        matches!(self, SaslMechanism::OAuthBearer | SaslMechanism::XOAuth2)
    }

    /// Whether it needs a certificate that the client has shown.
    pub const fn needs_certificate(self) -> bool {
        matches!(self, SaslMechanism::External)
    }

    /// Whether the exchange is bound to the TLS channel (`-PLUS`), so that there has to be one.
    pub const fn is_bound(self) -> bool {
        matches!(
            self,
            SaslMechanism::ScramSha256Plus | SaslMechanism::ScramSha1Plus
        )
    }
}

impl fmt::Display for SaslMechanism {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_mechanism_is_found_by_its_name() {
        for mechanism in SaslMechanism::ALL {
            assert_eq!(SaslMechanism::from_name(mechanism.name()), Some(mechanism));
        }
        assert_eq!(SaslMechanism::from_name("CRAM-MD5"), None);
        assert!(SaslMechanism::ALL.is_sorted());
    }
}
