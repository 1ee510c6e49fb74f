//! The choice of a mechanism.

use super::Credentials;
use crate::{ChannelBinding, Mechanism};

/// The strongest mechanism that the server offers, that shows what the credentials are, and that does not give them away.
///
/// `offered` is the server's list (SASL in CAPA, RFC 5034 section 3), without names not known. `confidential` says that nobody else
/// can read the channel: TLS with the server's certificate verified, or a loopback address. Without it neither passwords nor tokens
/// are shown.
///
/// The result, `binding` and the credentials go to [`super::Client::new`].
pub fn choose(
    offered: &[Mechanism],
    credentials: &Credentials,
    binding: Option<&ChannelBinding>,
    confidential: bool,
) -> Option<Mechanism> {
    offered
        .iter()
        .copied()
        .filter(|mechanism| shows(*mechanism, credentials))
        .filter(|mechanism| binding.is_some() || !mechanism.is_bound())
        .filter(|mechanism| confidential || !mechanism.reveals_credentials())
        .max()
}

/// Whether the mechanism carries credentials of that kind.
fn shows(mechanism: Mechanism, credentials: &Credentials) -> bool {
    match (mechanism, credentials) {
        (Mechanism::External, Credentials::Certificate { .. }) => true,
        (Mechanism::OAuthBearer | Mechanism::XOAuth2, Credentials::Token { .. }) => true,
        // Without a place for the other name, that maildrop could not be asked for.
        (Mechanism::Login | Mechanism::CramMd5, Credentials::Password { authzid, .. }) => {
            authzid.is_none()
        }
        (Mechanism::Plain, Credentials::Password { .. }) => true,
        (_, Credentials::Password { .. }) => mechanism.scram_hash().is_some(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{BindingType, Secret};

    fn password() -> Credentials {
        Credentials::Password {
            user: "user".to_owned(),
            password: Secret::copied(b"pencil"),
            authzid: None,
        }
    }

    fn token() -> Credentials {
        Credentials::Token {
            user: "user".to_owned(),
            token: Secret::copied(b"t"),
            host: "localhost".to_owned(),
            port: 995,
        }
    }

    fn binding() -> ChannelBinding {
        ChannelBinding::new(BindingType::TlsExporter, &[7; 32]).unwrap()
    }

    #[test]
    fn the_strongest_is_chosen() {
        let binding = binding();
        let choose = |credentials, binding| choose(&Mechanism::ALL, &credentials, binding, true);
        assert_eq!(
            choose(password(), Some(&binding)),
            Some(Mechanism::ScramSha256Plus)
        );
        assert_eq!(choose(password(), None), Some(Mechanism::ScramSha256));
        assert_eq!(
            choose(token(), Some(&binding)),
            Some(Mechanism::OAuthBearer)
        );
        let certificate = Credentials::Certificate { authzid: None };
        assert_eq!(choose(certificate, None), Some(Mechanism::External));
    }

    #[test]
    fn nothing_is_given_away_on_an_open_channel() {
        let weak = [
            Mechanism::Plain,
            Mechanism::Login,
            Mechanism::OAuthBearer,
            Mechanism::XOAuth2,
        ];
        assert_eq!(choose(&weak, &password(), None, false), None);
        assert_eq!(choose(&weak, &token(), None, false), None);
        assert_eq!(
            choose(&weak, &password(), None, true),
            Some(Mechanism::Plain)
        );
        assert_eq!(
            choose(&Mechanism::ALL, &password(), None, false),
            Some(Mechanism::ScramSha256)
        );
    }

    #[test]
    fn what_does_not_fit_is_not_chosen() {
        assert_eq!(choose(&[], &password(), None, true), None);
        assert_eq!(
            choose(&[Mechanism::External], &password(), None, true),
            None
        );
        assert_eq!(choose(&[Mechanism::Plain], &token(), None, true), None);
        assert_eq!(
            choose(&[Mechanism::ScramSha256Plus], &password(), None, true),
            None
        );
        let other = Credentials::Password {
            user: "user".to_owned(),
            password: Secret::copied(b"pencil"),
            authzid: Some("other".to_owned()),
        };
        assert_eq!(
            choose(&[Mechanism::Login, Mechanism::CramMd5], &other, None, true),
            None
        );
    }
}
