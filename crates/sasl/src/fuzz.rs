//! Plain functions for a fuzzer: each takes any octets, and panics only where the crate breaks a promise.
//!
//! Also run by the crate's own tests with random input.

use crate::client::{Client, Credentials};
use crate::scram::{Decoys, MIN_ITERATIONS, NONCE_OCTETS, Nonce, SALT_OCTETS, Verifier};
use crate::server::{self, Step};
use crate::{BindingType, ChannelBinding, Mechanism, Secret, TokenError, base64, saslprep};

/// Messages of an exchange are separated by this octet, which UTF-8 does not use.
pub const SEPARATOR: u8 = 0xff;

/// What decodes is written again as it was.
pub fn base64(data: &[u8]) {
    if let Ok(message) = base64::decode(data, data.len()) {
        assert_eq!(base64::encode(&message).as_bytes(), data);
    }
}

/// What is read as a verifier is written and read as the same.
pub fn verifier(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    if let Ok(verifier) = Verifier::parse(text) {
        assert_eq!(Verifier::parse(&verifier.to_text()), Ok(verifier));
    }
}

/// A prepared name can be prepared again and stays as it is.
pub fn name(data: &[u8]) {
    if let Some(name) = saslprep::prepare_name(data) {
        assert_eq!(saslprep::prepare_name(name.as_bytes()), Some(name));
    }
}

/// Any client against the server half: with every check refused, it is never authenticated.
///
/// The first octet chooses mechanism and channel binding; the rest is messages, separated by [`SEPARATOR`].
pub fn server(data: &[u8]) {
    let Some((&choice, messages)) = data.split_first() else {
        return;
    };
    let (mechanism, binding) = chosen(choice);
    let bindings: Vec<_> = binding.into_iter().collect();
    let decoys = Decoys::new([7; 32], MIN_ITERATIONS, SALT_OCTETS);
    let mut messages = messages.split(|&octet| octet == SEPARATOR);
    let mut step = server::start(mechanism, messages.next(), &bindings);
    loop {
        step = match step {
            Step::Challenge(challenge) => match messages.next() {
                Some(message) => challenge.answer(message),
                None => return,
            },
            Step::CheckPassword(check) => check.refuse(),
            Step::FindVerifier(find) => {
                let decoy = decoys.verifier(find.user(), find.hash());
                find.answer(decoy, &fixed_nonce())
            }
            Step::CheckToken(check) => check.refuse(&TokenError::invalid_token()),
            Step::CheckCertificate(check) => check.refuse(),
            Step::Failed(_) => return,
            Step::Authenticated(user) => unreachable!("nobody is {user}"),
        }
    }
}

/// Any server against the client half: SCRAM believes none that does not know the password.
///
/// The first octet chooses mechanism and channel binding; the rest is challenges, separated by [`SEPARATOR`].
pub fn client(data: &[u8]) {
    let Some((&choice, challenges)) = data.split_first() else {
        return;
    };
    let (mechanism, binding) = chosen(choice);
    let password = Credentials::Password {
        user: "user".to_owned(),
        password: Secret::copied(b"pencil"),
        authzid: None,
    };
    let token = Credentials::Token {
        user: "user".to_owned(),
        token: Secret::copied(b"token"),
        host: "localhost".to_owned(),
        port: 995,
    };
    let credentials = match mechanism {
        Mechanism::External => Credentials::Certificate { authzid: None },
        Mechanism::OAuthBearer | Mechanism::XOAuth2 => token,
        _ => password,
    };
    let Ok(mut client) = Client::new(mechanism, &credentials, binding.as_ref(), &fixed_nonce())
    else {
        return;
    };
    client.limit_iterations(MIN_ITERATIONS);
    let _ = client.initial_response();
    let answered = challenges
        .split(|&octet| octet == SEPARATOR)
        .all(|challenge| client.respond(challenge).is_ok());
    let believed = client.finish().is_ok();
    assert!(answered || !believed);
    assert!(!believed || mechanism.scram_hash().is_none());
}

fn chosen(choice: u8) -> (Mechanism, Option<ChannelBinding>) {
    let mechanism = Mechanism::ALL
        .into_iter()
        .cycle()
        .nth(usize::from(choice >> 1))
        .unwrap_or(Mechanism::Plain);
    let binding = match choice & 1 {
        0 => None,
        _ => ChannelBinding::new(BindingType::TlsExporter, &[7; 32]),
    };
    (mechanism, binding)
}

fn fixed_nonce() -> Nonce {
    Nonce::from_random(&[7; NONCE_OCTETS])
}
