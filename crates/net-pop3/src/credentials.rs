//! What the user can show.

use std::fmt;

use sasl::Secret;

/// A user's credentials.
///
/// ```
/// use net_pop3::Credentials;
///
/// let password = Credentials::password("mrose", "tanstaaf");
/// let token = Credentials::token("mrose@example.org", "ya29.a0...");
/// assert!(!format!("{password:?} {token:?}").contains("tanstaaf"));
/// ```
#[derive(Clone)]
pub struct Credentials(pub(crate) Kind);

#[derive(Clone)]
pub(crate) enum Kind {
    Password {
        user: String,
        password: Secret,
        maildrop_of: Option<String>,
    },
    Token {
        user: String,
        token: Secret,
    },
    External {
        maildrop_of: Option<String>,
    },
}

impl Credentials {
    /// A name and a password.
    ///
    /// ```
    /// let credentials = net_pop3::Credentials::password("mrose", "tanstaaf");
    /// ```
    pub fn password(user: impl Into<String>, password: impl Into<Vec<u8>>) -> Credentials {
        Credentials(Kind::Password {
            user: user.into(),
            password: Secret::new(password.into()),
            maildrop_of: None,
        })
    }

    /// A name and an OAuth 2 access token.
    ///
    /// ```
    /// let credentials = net_pop3::Credentials::token("mrose@example.org", "ya29.a0...");
    /// ```
    pub fn token(user: impl Into<String>, token: impl Into<Vec<u8>>) -> Credentials {
        Credentials(Kind::Token {
            user: user.into(),
            token: Secret::new(token.into()),
        })
    }

    /// The [client certificate](crate::TlsOptions::client_certificate) of the TLS connection.
    ///
    /// ```
    /// let credentials = net_pop3::Credentials::external();
    /// ```
    pub fn external() -> Credentials {
        Credentials(Kind::External { maildrop_of: None })
    }

    /// Asks for another user's maildrop, which few servers allow (RFC 4422 section 3.4.1: the authorization identity). Of no
    /// effect with a token.
    ///
    /// ```
    /// let credentials = net_pop3::Credentials::password("admin", "secret").maildrop_of("mrose");
    /// ```
    pub fn maildrop_of(mut self, other: impl Into<String>) -> Credentials {
        match &mut self.0 {
            Kind::Password { maildrop_of, .. } | Kind::External { maildrop_of } => {
                *maildrop_of = Some(other.into());
            }
            Kind::Token { .. } => (),
        }
        self
    }

    /// The user's name; `None` if the certificate says it.
    ///
    /// ```
    /// assert_eq!(net_pop3::Credentials::password("mrose", "x").user(), Some("mrose"));
    /// ```
    pub fn user(&self) -> Option<&str> {
        match &self.0 {
            Kind::Password { user, .. } | Kind::Token { user, .. } => Some(user),
            Kind::External { .. } => None,
        }
    }

    /// As the mechanisms take them; `host` and `port` are the server's.
    pub(crate) fn for_sasl(&self, host: &str, port: u16) -> sasl::client::Credentials {
        match self.0.clone() {
            Kind::Password {
                user,
                password,
                maildrop_of,
            } => sasl::client::Credentials::Password {
                user,
                password,
                authzid: maildrop_of,
            },
            Kind::Token { user, token } => sasl::client::Credentials::Token {
                user,
                token,
                host: host.to_owned(),
                port,
            },
            Kind::External { maildrop_of } => sasl::client::Credentials::Certificate {
                authzid: maildrop_of,
            },
        }
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match &self.0 {
            Kind::Password { .. } => "password",
            Kind::Token { .. } => "token",
            Kind::External { .. } => "external",
        };
        f.debug_struct("Credentials")
            .field("kind", &kind)
            .field("user", &self.user())
            .finish_non_exhaustive()
    }
}
