//! The client half against the server half, undisturbed and with somebody in the middle.

mod common;

use common::{
    ITERATIONS, Outcome, Settled, USER, binding, client, credentials, decoys, exchange, nonce,
    settle, verifier,
};
use sasl::client::{Client, ClientError, Credentials};
use sasl::scram::{Hash, Verifier};
use sasl::server::{self, Failure};
use sasl::{BindingType, ChannelBinding, Mechanism, Secret};
use std::time::{Duration, Instant};

/// Mechanisms of both halves.
fn served() -> impl Iterator<Item = Mechanism> {
    Mechanism::ALL
        .into_iter()
        .filter(|mechanism| *mechanism != Mechanism::CramMd5)
}

const SCRAM: [Mechanism; 4] = [
    Mechanism::ScramSha1,
    Mechanism::ScramSha256,
    Mechanism::ScramSha1Plus,
    Mechanism::ScramSha256Plus,
];

fn bindings(mechanism: Mechanism) -> Vec<ChannelBinding> {
    mechanism.is_bound().then(binding).into_iter().collect()
}

fn undisturbed(mechanism: Mechanism) -> Outcome {
    let bindings = bindings(mechanism);
    exchange(client(mechanism, bindings.first()), &bindings, |_, m| m)
}

#[test]
fn every_mechanism_logs_in() {
    for mechanism in served() {
        let outcome = undisturbed(mechanism);
        assert!(outcome.is_success(), "{mechanism}: {outcome:?}");
        assert_eq!(outcome.server.as_deref(), Some(USER));
    }
}

#[test]
fn wrong_credentials_fail_in_every_mechanism() {
    for mechanism in served().filter(|mechanism| *mechanism != Mechanism::External) {
        let wrong = match credentials(mechanism) {
            Credentials::Token {
                user, host, port, ..
            } => Credentials::Token {
                user,
                token: Secret::copied(b"wrong"),
                host,
                port,
            },
            _ => Credentials::Password {
                user: USER.to_owned(),
                password: Secret::copied(b"wrong"),
                authzid: None,
            },
        };
        let bindings = bindings(mechanism);
        let client = Client::new(mechanism, &wrong, bindings.first(), &nonce(1)).unwrap();
        let outcome = exchange(client, &bindings, |_, message| message);
        assert_eq!(outcome.server, None, "{mechanism}");
        assert!(!outcome.is_success());
    }
}

/// Replaced, left out, added: one octet of each of the five messages in turn (the last is empty), and each message cut.
#[test]
fn no_octet_of_a_scram_exchange_can_be_changed() {
    for mechanism in [Mechanism::ScramSha1, Mechanism::ScramSha256Plus] {
        let bindings = bindings(mechanism);
        let honest = undisturbed(mechanism).messages;
        assert_eq!(honest.len(), 5);
        // These two the server half alone must notice: it is played what the client had said until then.
        assert!(!play(mechanism, &bindings, &[&honest[0], &honest[2]]));
        for changed in changes(&honest[2]) {
            let refused = play(mechanism, &bindings, &[&honest[0], &changed]);
            assert!(refused, "{mechanism}: {}", changed.escape_ascii());
        }
        for changed in changes(&honest[4]) {
            assert!(play(
                mechanism,
                &bindings,
                &[&honest[0], &honest[2], &changed]
            ));
        }
        for number in [0, 1, 3] {
            for changed in changes(&honest[number]) {
                let client = client(mechanism, bindings.first());
                let outcome = exchange(client, &bindings, |at, message| {
                    if at == number {
                        changed.clone()
                    } else {
                        message
                    }
                });
                assert_eq!(
                    outcome.server,
                    None,
                    "{mechanism}, message {number}: {}",
                    changed.escape_ascii()
                );
            }
        }
    }
}

/// Whether the server half fails at the last of the messages, not before.
fn play(mechanism: Mechanism, bindings: &[ChannelBinding], messages: &[&[u8]]) -> bool {
    let mut state = settle(
        server::start(mechanism, Some(messages[0]), bindings),
        &nonce(2),
    );
    for message in &messages[1..] {
        let Settled::Challenge(challenge) = state else {
            return false;
        };
        state = settle(challenge.answer(message), &nonce(2));
    }
    matches!(state, Settled::Failed(_))
}

fn changes(message: &[u8]) -> impl Iterator<Item = Vec<u8>> {
    let replaced = (0..message.len()).flat_map(|at| {
        [0x01, 0x20].map(|bit| {
            let mut changed = message.to_vec();
            changed[at] ^= bit;
            changed
        })
    });
    let shorter = (0..message.len()).map(|at| [&message[..at], &message[at + 1..]].concat());
    let longer = (0..=message.len()).map(|at| [&message[..at], b"A", &message[at..]].concat());
    let cut = (0..message.len()).map(|at| message[..at].to_vec());
    replaced.chain(shorter).chain(longer).chain(cut)
}

#[test]
fn a_recorded_exchange_cannot_be_played_again() {
    for mechanism in SCRAM {
        let bindings = bindings(mechanism);
        let recorded = undisturbed(mechanism).messages;
        for server_nonce in [nonce(3), nonce(4)] {
            let step = server::start(mechanism, Some(&recorded[0]), &bindings);
            let Settled::Challenge(challenge) = settle(step, &server_nonce) else {
                panic!("no challenge");
            };
            assert_ne!(challenge.octets(), recorded[1]);
            let answered = settle(challenge.answer(&recorded[2]), &server_nonce);
            assert!(
                matches!(answered, Settled::Failed(Failure::Nonce)),
                "{answered:?}"
            );
        }
        // Nor to a client.
        let mut client = Client::new(
            mechanism,
            &credentials(mechanism),
            bindings.first(),
            &nonce(5),
        )
        .unwrap();
        client.initial_response().unwrap();
        assert_eq!(client.respond(&recorded[1]), Err(ClientError::Nonce));
    }
}

#[test]
fn somebody_in_the_middle_has_another_channel() {
    let theirs = ChannelBinding::new(BindingType::TlsExporter, &[8; 32]).unwrap();
    let outcome = exchange(
        client(Mechanism::ScramSha256Plus, Some(&theirs)),
        &[binding()],
        |_, message| message,
    );
    assert_eq!(outcome.server, None);
}

#[test]
fn hiding_the_plus_mechanisms_is_noticed() {
    // The client was shown a list without -PLUS, though it has a channel to bind to.
    let outcome = exchange(
        client(Mechanism::ScramSha256, Some(&binding())),
        &[binding()],
        |_, message| message,
    );
    assert_eq!(outcome.server, None);
}

#[test]
fn either_type_of_binding_will_do() {
    let end_point = ChannelBinding::new(BindingType::TlsServerEndPoint, &[6; 48]).unwrap();
    let offered = [binding(), end_point.clone()];
    for used in [binding(), end_point] {
        let client = client(Mechanism::ScramSha256Plus, Some(&used));
        assert!(exchange(client, &offered, |_, message| message).is_success());
    }
}

/// What a stranger who knows no password sees of a name.
fn seen(user: &str, mechanism: Mechanism) -> (Vec<u8>, Failure) {
    let message = format!("n,,n={user},r=x");
    let step = server::start(mechanism, Some(message.as_bytes()), &[]);
    let Settled::Challenge(challenge) = settle(step, &nonce(2)) else {
        panic!("no challenge");
    };
    let first = challenge.octets().to_vec();
    let proof = vec![0; mechanism.scram_hash().unwrap().octets()];
    let answer = format!(
        "c=biws,r=x{},p={}",
        nonce(2).as_str(),
        *sasl::base64::encode(&proof)
    );
    match settle(challenge.answer(answer.as_bytes()), &nonce(2)) {
        Settled::Failed(failure) => (first, failure),
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_unknown_user_looks_like_a_known_one() {
    for mechanism in [Mechanism::ScramSha1, Mechanism::ScramSha256] {
        let (known, failure) = seen(USER, mechanism);
        let (unknown, unknown_failure) = seen("nobody", mechanism);
        assert_eq!(failure, unknown_failure);
        assert_eq!(failure, Failure::WrongPassword);
        assert_eq!(known.len(), unknown.len());
        // Only the salt differs.
        let parts = |message: &[u8]| {
            let text = String::from_utf8(message.to_vec()).unwrap();
            text.split(',').map(str::to_owned).collect::<Vec<_>>()
        };
        let (known, unknown) = (parts(&known), parts(&unknown));
        assert_eq!((&known[0], &known[2]), (&unknown[0], &unknown[2]));
        assert_ne!(known[1], unknown[1]);

        assert_eq!(seen("nobody", mechanism), seen("nobody", mechanism));
        assert_ne!(seen("nobody", mechanism), seen("nemo", mechanism));
        // Names that are one name when prepared have one salt, known or not.
        assert_eq!(
            seen("no\u{ad}body", mechanism).0,
            seen("nobody", mechanism).0
        );
        assert_eq!(seen("us\u{ad}er", mechanism).0, seen(USER, mechanism).0);
    }
}

/// Medians of many runs, taken in turn so that the machine's other work falls on both.
fn medians(mut a: impl FnMut(), mut b: impl FnMut()) -> [Duration; 2] {
    let timed = |run: &mut dyn FnMut()| {
        let start = Instant::now();
        run();
        start.elapsed()
    };
    let mut times: [Vec<Duration>; 2] = Default::default();
    for _ in 0..101 {
        times[0].push(timed(&mut a));
        times[1].push(timed(&mut b));
    }
    times.map(|mut times| {
        times.sort();
        times[times.len() / 2]
    })
}

fn assert_alike([a, b]: [Duration; 2]) {
    let (shorter, longer) = (a.min(b), a.max(b));
    assert!(longer < shorter.mul_f64(1.25), "{a:?}, {b:?}");
}

#[test]
fn an_unknown_user_costs_what_a_known_one_does() {
    let (known, unknown) = (
        verifier(Hash::Sha256),
        decoys().verifier("nobody", Hash::Sha256),
    );
    assert_eq!(known.iterations(), unknown.iterations());
    assert_alike(medians(
        || assert!(!known.verify_password(b"wrong")),
        || assert!(!unknown.verify_password(b"wrong")),
    ));
    assert_alike(medians(
        || {
            assert_eq!(
                seen("user", Mechanism::ScramSha256).1,
                Failure::WrongPassword
            )
        },
        || {
            assert_eq!(
                seen("nope", Mechanism::ScramSha256).1,
                Failure::WrongPassword
            )
        },
    ));
}

#[test]
fn a_password_that_saslprep_refuses_is_the_same_on_both_sides() {
    // An emoji (not in Unicode 3.2), a control character, and Latin-1.
    for password in ["\u{1f511}e\u{301}".as_bytes(), b"tab\there", b"n\xe9cil"] {
        let verifier = Verifier::derive(Hash::Sha256, password, &[3; 16], ITERATIONS).unwrap();
        assert!(verifier.verify_password(password));
        let credentials = Credentials::Password {
            user: USER.to_owned(),
            password: Secret::copied(password),
            authzid: None,
        };
        let mut client =
            Client::new(Mechanism::ScramSha256, &credentials, None, &nonce(1)).unwrap();
        let first = client.initial_response().unwrap();
        let server::Step::FindVerifier(find) =
            server::start(Mechanism::ScramSha256, Some(first.as_bytes()), &[])
        else {
            panic!("no verifier asked for");
        };
        let server::Step::Challenge(challenge) = find.answer(verifier, &nonce(2)) else {
            panic!("no challenge");
        };
        let last = client.respond(challenge.octets()).unwrap();
        let server::Step::Challenge(challenge) = challenge.answer(last.as_bytes()) else {
            panic!("not proven");
        };
        client.respond(challenge.octets()).unwrap();
        assert_eq!(client.finish(), Ok(()));
    }
}

#[test]
fn a_cancelled_exchange_leaves_nothing_behind() {
    let recorded = undisturbed(Mechanism::ScramSha256).messages;
    for _ in 0..3 {
        let step = server::start(Mechanism::ScramSha256, Some(&recorded[0]), &[]);
        drop(settle(step, &nonce(2)));
        assert!(undisturbed(Mechanism::ScramSha256).is_success());
    }
}
