//! SASL as the session sees it (RFC 5034): base64 on the client's side, octets on auth's, and what there is to know of TLS.
//!
//! The mechanisms themselves are auth's. Nothing is believed of what the client says, and nothing of it is kept.

use messages::auth::{Attempt, EXPORTER_OCTETS, MAX_SASL_OCTETS, TlsFacts};
use messages::session::Logins;
use messages::{SaslMechanism, Secret};
use pop3_proto::MechanismName;
use rustls::{ProtocolVersion, ServerConnection};
use sasl::{EXPORTER_LABEL, base64};

/// The mechanisms' names, as POP3 has them.
pub fn names(logins: &Logins) -> Vec<MechanismName> {
    let name = |mechanism: &SaslMechanism| MechanismName::new(mechanism.name().as_bytes());
    logins.mechanisms.iter().filter_map(name).collect()
}

/// AUTH, for auth; `None`: its argument is no base64, or too long.
pub fn start(
    mechanism: MechanismName,
    initial_response: Option<&[u8]>,
    tls: Option<TlsFacts>,
) -> Option<Attempt> {
    Some(Attempt::SaslStart {
        // Only what is offered gets here.
        mechanism: SaslMechanism::from_name(mechanism.as_str())?,
        initial_response: match initial_response {
            Some(argument) => Some(decode(argument)?),
            None => None,
        },
        tls,
    })
}

/// The answer to a challenge, for auth; `None`: it is no base64, or too long.
pub fn response(line: &[u8]) -> Option<Attempt> {
    decode(line).map(Attempt::SaslResponse)
}

fn decode(line: &[u8]) -> Option<Secret> {
    let octets = base64::decode(line, MAX_SASL_OCTETS).ok()?;
    Some(Secret::copied_from(&octets))
}

/// What auth may bind an exchange to.
pub fn facts(connection: &ServerConnection, server_end_point: Option<Vec<u8>>) -> TlsFacts {
    // In TLS 1.2 it would need the extended master secret, of which rustls does not tell (RFC 9266 section 4.2).
    let is_exported = connection.protocol_version() == Some(ProtocolVersion::TLSv1_3);
    let export = || {
        let octets = [0; EXPORTER_OCTETS];
        connection
            .export_keying_material(octets, EXPORTER_LABEL, Some(b""))
            .ok()
    };
    TlsFacts {
        exporter: is_exported.then(export).flatten(),
        server_end_point,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain() -> MechanismName {
        MechanismName::new(b"plain").unwrap()
    }

    #[test]
    fn an_empty_initial_response_is_not_none() {
        for (sent, expected) in [
            (None, None),
            (Some(&b""[..]), Some(&b""[..])),
            (Some(b"AGpvZQBw"), Some(b"\0joe\0p")),
        ] {
            let Some(Attempt::SaslStart {
                mechanism: SaslMechanism::Plain,
                initial_response,
                tls: None,
            }) = start(plain(), sent, None)
            else {
                panic!("{sent:?}");
            };
            assert_eq!(initial_response.as_ref().map(Secret::expose), expected);
        }
    }

    #[test]
    fn what_is_no_base64_starts_and_answers_nothing() {
        for line in [&b"="[..], b"AAA", b"AAA=BBB", b"AAAA AAAA", b"*\0"] {
            assert_eq!(start(plain(), Some(line), None), None, "{line:?}");
            assert_eq!(response(line), None, "{line:?}");
        }
    }
}
