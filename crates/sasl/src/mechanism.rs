//! The mechanisms: names, strength, and what each may send.

use std::fmt;

use crate::scram::{Hash, MAX_SCRAM_OCTETS};
use crate::{MAX_NAME_OCTETS, MAX_PASSWORD_OCTETS};

/// Octets of any message of any mechanism: access tokens are the longest, some tens of kilobytes where they carry a user's groups.
pub const MAX_MESSAGE_OCTETS: usize = 64 * 1024;

/// A mechanism of SASL, in order of strength, the weakest first: `max` chooses the strongest.
///
/// Above all stands what is bound to the TLS channel (nobody in the middle gains by it), then what shows the other side no secret,
/// then a token (short-lived, one service), then the password itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Mechanism {
    /// `LOGIN` (draft-murchison-sasl-login): the password as it is.
    Login,
    /// `PLAIN` (RFC 4616): the password as it is.
    Plain,
    /// `XOAUTH2` (Google's predecessor of `OAUTHBEARER`): an OAuth access token.
    XOAuth2,
    /// `OAUTHBEARER` (RFC 7628): an OAuth access token.
    OAuthBearer,
    /// `CRAM-MD5` (RFC 2195): client half only, as the server would have to store the password.
    CramMd5,
    /// `SCRAM-SHA-1` (RFC 5802).
    ScramSha1,
    /// `SCRAM-SHA-256` (RFC 7677).
    ScramSha256,
    /// `SCRAM-SHA-1-PLUS` (RFC 5802).
    ScramSha1Plus,
    /// `SCRAM-SHA-256-PLUS` (RFC 7677).
    ScramSha256Plus,
    /// `EXTERNAL` (RFC 4422 appendix A): the client's TLS certificate.
    External,
}

impl Mechanism {
    /// Every mechanism, the weakest first.
    pub const ALL: [Mechanism; 10] = [
        Mechanism::Login,
        Mechanism::Plain,
        Mechanism::XOAuth2,
        Mechanism::OAuthBearer,
        Mechanism::CramMd5,
        Mechanism::ScramSha1,
        Mechanism::ScramSha256,
        Mechanism::ScramSha1Plus,
        Mechanism::ScramSha256Plus,
        Mechanism::External,
    ];

    /// The name in IANA's registry.
    pub fn name(self) -> &'static str {
        match self {
            Mechanism::Login => "LOGIN",
            Mechanism::Plain => "PLAIN",
            Mechanism::XOAuth2 => "XOAUTH2",
            Mechanism::OAuthBearer => "OAUTHBEARER",
            Mechanism::CramMd5 => "CRAM-MD5",
            Mechanism::ScramSha1 => "SCRAM-SHA-1",
            Mechanism::ScramSha256 => "SCRAM-SHA-256",
            Mechanism::ScramSha1Plus => "SCRAM-SHA-1-PLUS",
            Mechanism::ScramSha256Plus => "SCRAM-SHA-256-PLUS",
            Mechanism::External => "EXTERNAL",
        }
    }

    /// The mechanism of that name, written in any case (RFC 5034 section 5).
    pub fn from_name(name: &str) -> Option<Mechanism> {
        Self::ALL
            .into_iter()
            .find(|mechanism| mechanism.name().eq_ignore_ascii_case(name))
    }

    /// Whether the client speaks first, so that an initial response (RFC 4422 section 3.3) is its own.
    pub fn is_client_first(self) -> bool {
        !matches!(self, Mechanism::Login | Mechanism::CramMd5)
    }

    /// Whether whoever reads the exchange can log in with what he has read: to be used over TLS only (RFC 4616 section 5, RFC 7628
    /// section 3).
    pub fn reveals_credentials(self) -> bool {
        matches!(
            self,
            Mechanism::Login | Mechanism::Plain | Mechanism::XOAuth2 | Mechanism::OAuthBearer
        )
    }

    /// The hash, if this is one of the SCRAM family.
    pub fn scram_hash(self) -> Option<Hash> {
        match self {
            Mechanism::ScramSha1 | Mechanism::ScramSha1Plus => Some(Hash::Sha1),
            Mechanism::ScramSha256 | Mechanism::ScramSha256Plus => Some(Hash::Sha256),
            _ => None,
        }
    }

    /// Whether the name ends in `-PLUS`: the exchange is bound to the TLS channel (RFC 5801 section 5).
    pub fn is_bound(self) -> bool {
        matches!(self, Mechanism::ScramSha1Plus | Mechanism::ScramSha256Plus)
    }

    /// Octets of the longest message that the server half takes, before base64 (see [`crate::base64::encoded_octets`]).
    pub fn max_response_octets(self) -> usize {
        match self {
            // Two names and a password, with a NUL between them.
            Mechanism::Plain => 2 * MAX_NAME_OCTETS + MAX_PASSWORD_OCTETS + 2,
            Mechanism::Login => MAX_PASSWORD_OCTETS,
            Mechanism::OAuthBearer | Mechanism::XOAuth2 => MAX_MESSAGE_OCTETS,
            Mechanism::External => MAX_NAME_OCTETS,
            Mechanism::ScramSha1
            | Mechanism::ScramSha256
            | Mechanism::ScramSha1Plus
            | Mechanism::ScramSha256Plus => MAX_SCRAM_OCTETS,
            Mechanism::CramMd5 => 0,
        }
    }
}

impl fmt::Display for Mechanism {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_mechanism_is_found_by_its_name_in_any_case() {
        for mechanism in Mechanism::ALL {
            let lower = mechanism.name().to_ascii_lowercase();
            assert_eq!(Mechanism::from_name(&lower), Some(mechanism));
        }
        assert_eq!(Mechanism::from_name("DIGEST-MD5"), None);
        assert_eq!(Mechanism::from_name(""), None);
    }

    #[test]
    fn the_list_of_all_is_in_order_of_strength() {
        assert!(Mechanism::ALL.is_sorted());
        assert!(Mechanism::ScramSha1Plus > Mechanism::ScramSha256);
        assert!(Mechanism::ScramSha1 > Mechanism::CramMd5);
        assert!(Mechanism::CramMd5 > Mechanism::Plain);
    }
}
