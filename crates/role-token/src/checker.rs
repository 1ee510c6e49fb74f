//! How a token is checked, by what is configured. One of these serves from a reload to the next.

use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::SystemTime;

use confine::Descriptors;
use messages::log::Logger;
use messages::token::{Finding, MAX_REASON_OCTETS, Method, Server, TokenConfig};
use serde_json::{Map, Value};
use zeroize::Zeroizing;

use crate::claims::Claims;
use crate::client::{self, Client, MAX_ANSWER_OCTETS};
use crate::cut;
use crate::dialer::Dialer;
use crate::jwt::{self, Invalid};
use crate::keys::KeySet;
use crate::published::{Failure, Published};

/// Octets of a file of certificate authorities; Debian's has 220 KB.
const MAX_AUTHORITIES_OCTETS: usize = 4 * 1024 * 1024;

/// Octets of a client's secret; they have some dozens.
const MAX_SECRET_OCTETS: usize = 1024;

/// Checks tokens.
pub struct Checker {
    configuration: TokenConfig,
    means: Means,
}

enum Means {
    Keys(KeySet),
    Published(Published),
    Introspection {
        client: Client,
        authorization: Zeroizing<String>,
    },
}

impl Checker {
    /// Reads the files that came with the configuration (see [`messages::token::ToToken::Load`]). Keys of the same server that
    /// `previous` has fetched are not fetched again.
    ///
    /// # Errors
    /// A file is not what it should be, or the dialer serves another server; for the log.
    pub fn load(
        configuration: TokenConfig,
        mut files: Descriptors,
        dialer: Option<&Arc<Dialer>>,
        logger: &Arc<Logger>,
        previous: Option<&Checker>,
    ) -> Result<Arc<Self>, String> {
        let mut next = |what: &str, limit| read(files.next(), what, limit);
        let means = match &configuration.method {
            Method::KeyFile => {
                let json = next("the key set", MAX_ANSWER_OCTETS)?;
                let keys = KeySet::parse(&json).map_err(|error| format!("the key set {error}"))?;
                Means::Keys(keys)
            }
            Method::KeyServer(server) => {
                let authorities = authorities(server, &mut next)?;
                let client = connect(server, authorities, dialer, &configuration)?;
                let previous = previous.and_then(|previous| match &previous.means {
                    Means::Published(known)
                        if previous.configuration.method == configuration.method =>
                    {
                        Some(known)
                    }
                    _ => None,
                });
                Means::Published(Published::new(client, &configuration, logger, previous))
            }
            Method::Introspection { server, client_id } => {
                let secret = next("the client's secret", MAX_SECRET_OCTETS)?;
                let secret = secret.trim_ascii_end();
                if secret.is_empty() {
                    return Err("the client's secret is empty".into());
                }
                let authorization = client::basic(client_id, secret);
                let authorities = authorities(server, &mut next)?;
                Means::Introspection {
                    client: connect(server, authorities, dialer, &configuration)?,
                    authorization,
                }
            }
        };
        Ok(Arc::new(Self {
            configuration,
            means,
        }))
    }

    /// Whether a token is valid, and whose it is. Waits for the server, as long as is configured.
    pub fn check(&self, token: &[u8]) -> Finding {
        let allowed = &self.configuration.algorithms;
        let claims = match &self.means {
            Means::Keys(keys) => {
                jwt::verify(token, keys, allowed).map_err(|invalid| match invalid {
                    Invalid::Because(reason) => Failure::Invalid(reason),
                    Invalid::UnknownKey => Failure::Invalid("is signed by an unknown key"),
                })
            }
            Means::Published(keys) => keys.verify(token, allowed),
            Means::Introspection {
                client,
                authorization,
            } => introspect(client, authorization, token),
        };
        match claims {
            Ok(members) => Claims {
                members: &members,
                are_carried: !matches!(self.means, Means::Introspection { .. }),
            }
            .judge(&self.configuration, SystemTime::now()),
            Err(Failure::Invalid(reason)) => Finding::Refused(reason.to_owned()),
            Err(Failure::Unavailable(reason)) => {
                Finding::Unavailable(cut(reason, MAX_REASON_OCTETS))
            }
        }
    }

    /// What is to be done when nobody waits.
    pub fn tend(&self) {
        if let Means::Published(keys) = &self.means {
            keys.tend();
        }
    }

    /// What is configured.
    pub fn configuration(&self) -> &TokenConfig {
        &self.configuration
    }
}

/// RFC 7662 section 2.
fn introspect(
    client: &Client,
    authorization: &str,
    token: &[u8],
) -> Result<Map<String, Value>, Failure> {
    let form = introspection_form(token);
    let answer = client
        .post(form.as_bytes(), authorization)
        .map_err(Failure::Unavailable)?;
    introspected(&answer)
}

fn introspection_form(token: &[u8]) -> Zeroizing<String> {
    let token = client::form_encoded(token);
    // Long enough not to grow, which would leave a copy behind.
    let mut form = Zeroizing::new(String::with_capacity(token.len().saturating_add(64)));
    form.extend(["token=", token.as_str(), "&token_type_hint=access_token"]);
    form
}

/// What the server says of a token, if it says that it is active (RFC 7662 section 2.2).
pub fn introspected(answer: &[u8]) -> Result<Map<String, Value>, Failure> {
    let members: Map<String, Value> = serde_json::from_slice(answer)
        .map_err(|_| Failure::Unavailable("answer is no JSON object".into()))?;
    match members.get("active") {
        Some(Value::Bool(true)) => Ok(members),
        Some(Value::Bool(false)) => Err(Failure::Invalid("is not active")),
        _ => Err(Failure::Unavailable(
            "answer does not say whether it is active".into(),
        )),
    }
}

fn authorities(
    server: &Server,
    next: &mut impl FnMut(&str, usize) -> Result<Zeroizing<Vec<u8>>, String>,
) -> Result<Option<Zeroizing<Vec<u8>>>, String> {
    let read = || next("the certificate authorities", MAX_AUTHORITIES_OCTETS);
    server.tls.then(read).transpose()
}

fn connect(
    server: &Server,
    authorities: Option<Zeroizing<Vec<u8>>>,
    dialer: Option<&Arc<Dialer>>,
    configuration: &TokenConfig,
) -> Result<Client, String> {
    let dialer = dialer.filter(|dialer| dialer.serves(server));
    let dialer = dialer.ok_or("another server needs a restart")?;
    let authorities = authorities.as_ref().map(|octets| octets.as_slice());
    Client::new(
        server,
        authorities,
        Arc::clone(dialer),
        configuration.timeout,
    )
}

fn read(file: Option<OwnedFd>, what: &str, limit: usize) -> Result<Zeroizing<Vec<u8>>, String> {
    let file = file.ok_or_else(|| format!("{what}: no descriptor"))?;
    let bound = u64::try_from(limit).unwrap_or(u64::MAX).saturating_add(1);
    let mut octets = Zeroizing::new(Vec::new());
    File::from(file)
        .take(bound)
        .read_to_end(&mut octets)
        .map_err(|error| format!("{what}: {error}"))?;
    if octets.len() > limit {
        return Err(format!("{what}: longer than {limit} octets"));
    }
    Ok(octets)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_said_to_be_active_is() {
        let unavailable = |answer: &str| {
            let failure = introspected(answer.as_bytes()).unwrap_err();
            assert!(matches!(failure, Failure::Unavailable(_)), "{answer}");
        };
        assert!(introspected(br#"{"active":true,"sub":"joe"}"#).is_ok());
        assert_eq!(
            introspected(br#"{"active":false}"#),
            Err(Failure::Invalid("is not active"))
        );
        for answer in [
            "",
            "<html>",
            "[]",
            "null",
            "{}",
            r#"{"active":"true"}"#,
            r#"{"active":1}"#,
            r#"{"active":true"#,
            r#"{"active":true} x"#,
            r#"{"a":"#.repeat(50_000).as_str(),
        ] {
            unavailable(answer);
        }
    }

    #[test]
    fn a_token_is_escaped_in_the_form() {
        assert_eq!(
            *introspection_form(b"a+b/c=&active=true"),
            "token=a%2Bb%2Fc%3D%26active%3Dtrue&token_type_hint=access_token"
        );
    }
}
