//! SASL exchanges with the client half of `sasl` as the honest client, and what a stranger can learn by one.

use std::time::{Duration, Instant};

use messages::SaslMechanism;
use messages::auth::{Backend, Denial, TlsFacts};
use sasl::client::{Client, Credentials};
use sasl::scram::{Hash, Nonce, Verifier};
use sasl::{BindingType, ChannelBinding, Mechanism, Secret};

use crate::rig::{CHEAP_HASH, Rig, Session, field, ids, own, write_private};

const SALT: &[u8] = b"0123456789ab";
const ITERATIONS: u32 = 5000;

fn verifier(hash: Hash) -> String {
    let verifier = Verifier::derive(hash, b"secret", SALT, ITERATIONS).unwrap();
    verifier.to_text()
}

/// `joe` and `one` with verifiers (one of SHA-1), `old` with a hash of crypt(3), `out` locked.
pub fn users() -> String {
    let (ids, sha256) = (ids(), verifier(Hash::Sha256));
    let sha1 = verifier(Hash::Sha1);
    format!(
        "joe:{sha256}:{ids}\nbob@example.org:{sha256}:{ids}\nout:!{sha256}:{ids}\none:{sha1}:{ids}\nold:{CHEAP_HASH}:{ids}\n"
    )
}

pub fn facts() -> TlsFacts {
    TlsFacts {
        exporter: Some([3; 32]),
        server_end_point: Some(vec![4; 48]),
    }
}

pub fn client(mechanism: Mechanism, user: &str, password: &str, bound: Option<&[u8]>) -> Client {
    let kind = BindingType::TlsExporter;
    let binding = bound.map(|octets| ChannelBinding::new(kind, octets).unwrap());
    let credentials = Credentials::Password {
        user: user.to_owned(),
        password: Secret::copied(password.as_bytes()),
        authzid: None,
    };
    let nonce = Nonce::from_text("a-nonce-of-the-test").unwrap();
    Client::new(mechanism, &credentials, binding.as_ref(), &nonce).unwrap()
}

/// The exchange as far as challenges go; the verdict is still to come.
pub fn converse(
    session: &Session,
    offered: SaslMechanism,
    mut client: Client,
    tls: Option<TlsFacts>,
) {
    let initial = client.initial_response();
    session.start_over(offered, initial.as_ref().map(Secret::as_bytes), tls);
    let steps = match offered {
        SaslMechanism::Plain => 0,
        _ => 2,
    };
    for _ in 0..steps {
        let answer = client.respond(&session.challenge()).unwrap();
        session.respond(answer.as_bytes());
    }
}

/// The exchange as far as challenges go, without TLS.
pub fn converse_as(session: &Session, offered: SaslMechanism, user: &str, password: &str) {
    let mechanism = OFFERED
        .iter()
        .find(|(name, ..)| *name == offered)
        .unwrap()
        .1;
    converse(
        session,
        offered,
        client(mechanism, user, password, None),
        None,
    );
}

const OFFERED: [(SaslMechanism, Mechanism, &str); 6] = [
    (SaslMechanism::Plain, Mechanism::Plain, "joe"),
    (SaslMechanism::Login, Mechanism::Login, "joe"),
    (SaslMechanism::ScramSha1, Mechanism::ScramSha1, "one"),
    (SaslMechanism::ScramSha256, Mechanism::ScramSha256, "joe"),
    (
        SaslMechanism::ScramSha1Plus,
        Mechanism::ScramSha1Plus,
        "one",
    ),
    (
        SaslMechanism::ScramSha256Plus,
        Mechanism::ScramSha256Plus,
        "joe",
    ),
];

pub fn every_mechanism_logs_in_and_is_logged() {
    let mut rig = Rig::with_users(&users(), |_| {});
    for (offered, mechanism, user) in OFFERED {
        let session = rig.session();
        let bound = offered.is_bound().then_some(&[3; 32][..]);
        let client = client(mechanism, user, "secret", bound);
        converse(&session, offered, client, Some(facts()));
        assert!(session.verdict().is_ok(), "{offered}");
        let (start, _stream, _lease) = rig.started();
        assert_eq!((start.account.name.as_str(), start.id), (user, session.id));
        let record = rig.log("login");
        assert_eq!(field(&record, "method"), Some(offered.name()));
        assert_eq!(field(&record, "user"), Some(user));
        assert_eq!(field(&record, "backend"), Some("users-file"));
    }
}

pub fn plus_is_bound_to_the_channel_that_the_session_tells_of() {
    let mut rig = Rig::with_users(&users(), |_| {});
    let plus = SaslMechanism::ScramSha256Plus;
    // Somebody in the middle has another channel to each side.
    let session = rig.session();
    let mut another = client(Mechanism::ScramSha256Plus, "joe", "secret", Some(&[9; 32]));
    session.start_over(plus, Some(first(&mut another).as_slice()), Some(facts()));
    let answer = another.respond(&session.challenge()).unwrap();
    session.respond(answer.as_bytes());
    assert_eq!(session.verdict().unwrap_err(), Denial::Malformed);
    let record = rig.log("login failed");
    assert_eq!(field(&record, "reason"), Some("bound to another channel"));
    // And has told the client that there is no `-PLUS`.
    let session = rig.session();
    let mut downgraded = client(Mechanism::ScramSha256, "joe", "secret", Some(&[3; 32]));
    let message = first(&mut downgraded);
    assert!(message.starts_with(b"y,,"));
    session.start_over(SaslMechanism::ScramSha256, Some(&message), Some(facts()));
    assert_eq!(session.verdict().unwrap_err(), Denial::Malformed);
    let record = rig.log("login failed");
    let reason = "channel binding withheld from the client";
    assert_eq!(field(&record, "reason"), Some(reason));
    // Without TLS there is nothing to bind to.
    let session = rig.session();
    let mut unbound = client(Mechanism::ScramSha256Plus, "joe", "secret", Some(&[3; 32]));
    session.start(plus, Some(&first(&mut unbound)));
    assert_eq!(session.verdict().unwrap_err(), Denial::Malformed);
}

/// What a client says first.
fn first(client: &mut Client) -> Vec<u8> {
    client.initial_response().unwrap().as_bytes().to_vec()
}

pub fn a_wrong_password_is_refused_as_everywhere() {
    let mut rig = Rig::with_users(&users(), |_| {});
    for (user, logged, reason) in [
        ("joe", Some("joe"), "wrong password"),
        ("nobody-here", None, "unknown user"),
        ("out", Some("out"), "account locked"),
    ] {
        for mechanism in [SaslMechanism::Plain, SaslMechanism::Login] {
            let session = rig.session();
            let chosen = Mechanism::from_name(mechanism.name()).unwrap();
            converse(
                &session,
                mechanism,
                client(chosen, user, "guess", None),
                None,
            );
            assert_eq!(session.verdict().unwrap_err(), Denial::Credentials);
            let record = rig.log("login failed");
            assert_eq!(field(&record, "user"), logged);
            assert_eq!(field(&record, "reason"), Some(reason));
            assert_eq!(field(&record, "method"), Some(mechanism.name()));
        }
    }
}

/// SCRAM up to the proof; the server's first message.
pub fn prove(session: &Session, user: &str, password: &str) -> String {
    let mut client = client(Mechanism::ScramSha256, user, password, None);
    session.start(SaslMechanism::ScramSha256, Some(&first(&mut client)));
    let challenge = session.challenge();
    let answer = client.respond(&challenge).unwrap();
    session.respond(answer.as_bytes());
    String::from_utf8(challenge).unwrap()
}

pub fn a_proof_is_refused_late_and_a_cancel_counts() {
    let mut rig = Rig::with_users(&users(), |configuration| {
        configuration.failure_delay = Duration::from_millis(200);
        configuration.login_attempts = 3;
    });
    let session = rig.session();
    session.start(SaslMechanism::Login, None);
    session.challenge();
    session.cancel();
    let begun = Instant::now();
    prove(&session, "joe", "guess");
    assert_eq!(session.verdict().unwrap_err(), Denial::Credentials);
    // The second attempt: twice the delay.
    assert!(begun.elapsed() >= Duration::from_millis(400));
    session.start(SaslMechanism::Login, None);
    session.challenge();
    session.cancel();
    session.assert_ended();
}

/// Salt and iterations of what a user is told.
fn shape(rig: &mut Rig, user: &str) -> (String, String) {
    let session = rig.session();
    let first = prove(&session, user, "guess");
    assert_eq!(session.verdict().unwrap_err(), Denial::Credentials);
    let (salt, iterations) = first
        .split_once(",s=")
        .unwrap()
        .1
        .split_once(",i=")
        .unwrap();
    (salt.to_owned(), iterations.to_owned())
}

pub fn decoys_are_stable_and_look_like_the_others() {
    let mut salts = Vec::new();
    // The key outlives the process.
    for _ in 0..2 {
        let mut rig = Rig::with_users(&users(), |_| {});
        let (real, iterations) = shape(&mut rig, "joe");
        for user in ["nobody", "no-one", "nobody@example.org", "old", "one"] {
            let (salt, decoys) = shape(&mut rig, user);
            assert_eq!(shape(&mut rig, user).0, salt, "{user}");
            assert_eq!((salt.len(), &decoys), (real.len(), &iterations), "{user}");
            salts.push(salt);
        }
        // The case of a domain does not matter to a decoy, as it does not to a user.
        for user in ["nobody", "bob"] {
            let of = |rig: &mut Rig, domain: &str| shape(rig, &format!("{user}@{domain}")).0;
            assert_eq!(of(&mut rig, "Example.ORG"), of(&mut rig, "example.org"));
        }
    }
    let (first, second) = salts.split_at(5);
    assert_eq!(first, second);
    let different: std::collections::HashSet<_> = first.iter().collect();
    assert_eq!(different.len(), first.len());
}

pub fn who_cannot_log_in_cannot_prove_anything() {
    let mut rig = Rig::with_users(&users(), |_| {});
    let real = shape(&mut rig, "joe").0;
    assert_eq!(shape(&mut rig, "out").0, real, "locking changes the salt");
    rig.log("login failed");
    for (user, reason) in [
        ("out", "account locked"),
        ("old", "no SCRAM verifier of that hash"),
        ("one", "no SCRAM verifier of that hash"),
    ] {
        let session = rig.session();
        prove(&session, user, "secret");
        // Not even the server's signature, which would tell that it is the right password.
        assert_eq!(session.verdict().unwrap_err(), Denial::Credentials);
        let record = loop {
            let record = rig.log("login failed");
            if field(&record, "session") == Some(&session.id.to_string()) {
                break record;
            }
        };
        assert_eq!(field(&record, "user"), Some(user));
        assert_eq!(field(&record, "reason"), Some(reason));
    }
}

pub fn a_broken_store_is_the_same_for_everybody() {
    let mut rig = Rig::with_users(&users(), |_| {});
    let path = rig.directory.path().join("users");
    std::fs::remove_file(&path).unwrap();
    for user in ["joe", "nobody-here"] {
        let session = rig.session();
        let mut client = client(Mechanism::ScramSha256, user, "secret", None);
        session.start(SaslMechanism::ScramSha256, Some(&first(&mut client)));
        assert_eq!(session.verdict().unwrap_err(), Denial::Permanent);
        assert_eq!(field(&rig.log("login not possible"), "user"), None);
    }
    write_private(&path, &users());
    assert_eq!(rig.log_in("joe", "secret").unwrap().name, "joe");
}

pub fn a_user_of_an_earlier_store_is_not_looked_for_in_the_file() {
    if own().is_some() {
        println!("    skipped: everybody is one account");
        return;
    }
    let verifier = verifier(Hash::Sha256);
    let users = format!("root:{verifier}:1000:1000\ncarol:{verifier}:1000:1000\n");
    let mut rig = Rig::with_users(&users, |configuration| {
        configuration.backends = vec![Backend::Shadow, Backend::UsersFile];
    });
    let session = rig.session();
    prove(&session, "root", "secret");
    assert_eq!(session.verdict().unwrap_err(), Denial::Credentials);
    let session = rig.session();
    prove(&session, "carol", "secret");
    assert!(session.challenge().starts_with(b"v="));
    session.respond(b"");
    assert!(session.verdict().is_ok());
}

pub fn a_session_may_leave_at_any_step() {
    let mut rig = Rig::with_users(&users(), |_| {});
    for steps in 0..2 {
        let session = rig.session();
        let mut client = client(Mechanism::ScramSha256, "joe", "secret", None);
        session.start(SaslMechanism::ScramSha256, Some(&first(&mut client)));
        for _ in 0..steps {
            let answer = client.respond(&session.challenge()).unwrap();
            session.respond(answer.as_bytes());
        }
        drop(session.channel);
        crate::rig::assert_released(&session.lease);
    }
    assert_eq!(rig.log_in("joe", "secret").unwrap().name, "joe");
}

/// Processor time, auth's and its worker's, of one whole failed exchange.
pub fn looking_up_costs_the_same_for_everybody() {
    const ROUNDS: u32 = 200;
    let mut rig = Rig::with_users(&users(), |configuration| configuration.workers = 1);
    let names = ["joe", "out", "old", "nobody-here"];
    let mut costs = [Duration::ZERO; 4];
    let exchange = |rig: &mut Rig, name: &str| {
        let session = rig.session();
        prove(&session, name, "guess");
        assert_eq!(session.verdict().unwrap_err(), Denial::Credentials);
        rig.log("login failed");
    };
    names.iter().for_each(|name| exchange(&mut rig, name));
    for _ in 0..ROUNDS {
        // In turn, so that what slows the machine down slows all of them down.
        for (name, cost) in names.iter().zip(&mut costs) {
            let before = rig.processor_time();
            exchange(&mut rig, name);
            *cost += rig.processor_time() - before;
        }
    }
    println!("    {names:?}: {:?}", costs.map(|cost| cost / ROUNDS));
    let (least, most) = (costs.iter().min().unwrap(), costs.iter().max().unwrap());
    // A fifth of a millisecond or two, and less without the debug build: the failure is answered at its time anyway.
    assert!(*most < *least * 12 / 10, "{costs:?}");
}
