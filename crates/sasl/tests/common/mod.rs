//! One user, what a server keeps of him, and how the server half is led on.

// Each test program uses a part of it.
#![allow(dead_code)]

use std::sync::LazyLock;

use sasl::client::{Client, ClientError, Credentials};
use sasl::scram::{Decoys, Hash, NONCE_OCTETS, Nonce, SALT_OCTETS, Verifier};
use sasl::server::{Challenge, Failure, Step};
use sasl::{BindingType, ChannelBinding, Mechanism, Secret, TokenError};

pub const USER: &str = "user";
/// With what SASLprep maps (a soft hyphen, a ligature) and with a comma and an equals sign.
pub const PASSWORD: &str = "p\u{ad}e\u{fb01}, n\u{e9}cil=";
pub const TOKEN: &str = "ya29.vF9dft4qmTc2Nvb3RlckBhdHRhdmlzdGEuY29tCg==";
pub const ITERATIONS: u32 = 4096;

static VERIFIERS: LazyLock<[Verifier; 2]> = LazyLock::new(|| {
    [Hash::Sha1, Hash::Sha256].map(|hash| {
        Verifier::derive(hash, PASSWORD.as_bytes(), &[3; SALT_OCTETS], ITERATIONS).unwrap()
    })
});

pub fn verifier(hash: Hash) -> Verifier {
    let [sha_1, sha_256] = &*VERIFIERS;
    match hash {
        Hash::Sha1 => sha_1.clone(),
        Hash::Sha256 => sha_256.clone(),
    }
}

pub fn decoys() -> Decoys {
    Decoys::new([5; 32], ITERATIONS, SALT_OCTETS)
}

pub fn binding() -> ChannelBinding {
    ChannelBinding::new(BindingType::TlsExporter, &[9; 32]).unwrap()
}

pub fn nonce(octet: u8) -> Nonce {
    Nonce::from_random(&[octet; NONCE_OCTETS])
}

/// What the client half shows for a mechanism.
pub fn credentials(mechanism: Mechanism) -> Credentials {
    match mechanism {
        Mechanism::External => Credentials::Certificate { authzid: None },
        Mechanism::OAuthBearer | Mechanism::XOAuth2 => Credentials::Token {
            user: USER.to_owned(),
            token: Secret::copied(TOKEN.as_bytes()),
            host: "mail.example.com".to_owned(),
            port: 995,
        },
        _ => Credentials::Password {
            user: USER.to_owned(),
            password: Secret::copied(PASSWORD.as_bytes()),
            authzid: None,
        },
    }
}

pub fn client(mechanism: Mechanism, binding: Option<&ChannelBinding>) -> Client {
    Client::new(mechanism, &credentials(mechanism), binding, &nonce(1)).unwrap()
}

/// The server half once its caller has looked up what it asked for.
#[derive(Debug)]
pub enum Settled {
    Challenge(Challenge),
    Authenticated(String),
    Failed(Failure),
}

/// Answers the server half's questions from the one user's store, with that nonce.
pub fn settle(step: Step, server_nonce: &Nonce) -> Settled {
    let next = match step {
        Step::Challenge(challenge) => return Settled::Challenge(challenge),
        Step::Authenticated(user) => return Settled::Authenticated(user),
        Step::Failed(failure) => return Settled::Failed(failure),
        Step::CheckPassword(check) => {
            let found = (check.user() == USER).then(|| verifier(Hash::Sha256));
            let verifier = decoys().known_or_decoy(check.user(), Hash::Sha256, found);
            match verifier.verify_password(check.password().as_bytes()) {
                true => check.accept(),
                false => check.refuse(),
            }
        }
        Step::FindVerifier(find) => {
            let found = (find.user() == USER).then(|| verifier(find.hash()));
            let verifier = decoys().known_or_decoy(find.user(), find.hash(), found);
            find.answer(verifier, server_nonce)
        }
        Step::CheckToken(check) => match check.token().is(TOKEN.as_bytes()) {
            true => check.accept(USER),
            false => check.refuse(&TokenError::invalid_token()),
        },
        Step::CheckCertificate(check) => check.accept(USER),
    };
    settle(next, server_nonce)
}

/// How an exchange of the two halves ended.
#[derive(Debug)]
pub struct Outcome {
    /// Whom the server took the client for.
    pub server: Option<String>,
    /// Whether the client believes the server, which is asked only if the server says `+OK`.
    pub client: Option<Result<(), ClientError>>,
    /// The messages as they were received, the client's first.
    pub messages: Vec<Vec<u8>>,
}

impl Outcome {
    /// Both sides are satisfied.
    pub fn is_success(&self) -> bool {
        self.server.is_some() && self.client == Some(Ok(()))
    }
}

/// Lets the halves speak with each other; each message passes through `on_the_way`, which is told its number.
pub fn exchange(
    mut client: Client,
    bindings: &[ChannelBinding],
    mut on_the_way: impl FnMut(usize, Vec<u8>) -> Vec<u8>,
) -> Outcome {
    let mut messages = Vec::new();
    let mut pass = |message: &[u8]| {
        let message = on_the_way(messages.len(), message.to_vec());
        messages.push(message.clone());
        message
    };
    let initial = client
        .initial_response()
        .map(|message| pass(message.as_bytes()));
    let step = sasl::server::start(client.mechanism(), initial.as_deref(), bindings);
    let mut state = settle(step, &nonce(2));
    loop {
        let challenge = match state {
            Settled::Challenge(challenge) => challenge,
            Settled::Authenticated(user) => {
                return Outcome {
                    server: Some(user),
                    client: Some(client.finish()),
                    messages,
                };
            }
            Settled::Failed(_) => {
                return Outcome {
                    server: None,
                    client: None,
                    messages,
                };
            }
        };
        match client.respond(&pass(challenge.octets())) {
            Ok(answer) => {
                let answer = pass(answer.as_bytes());
                state = settle(challenge.answer(&answer), &nonce(2));
            }
            Err(error) => {
                return Outcome {
                    server: None,
                    client: Some(Err(error)),
                    messages,
                };
            }
        }
    }
}
