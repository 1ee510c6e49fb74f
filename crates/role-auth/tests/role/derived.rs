//! Verifiers derived for the system's users (`auth.derive_verifiers`).

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::PathBuf;
use std::time::Duration;

use messages::SaslMechanism::{Login, Plain, ScramSha256};
use messages::auth::{AuthConfig, Backend, Denial, TlsFacts};
use sasl::{Mechanism, Secret};

use crate::rig::{Rig, field};
use crate::sasl::{client, converse, facts};
use crate::system;

/// The hash of `pässword:1`, as users of [`system`] have it.
const OTHER_HASH: &str =
    "$y$j9T$uucIQOyT.tBwlbA9E9Bq2/$Nm4KFSw0q4aPRZq90sJwyEqaAYhaV.0H2EPcaFD2Wp2";

/// Of `pencil`.
const FEW_ITERATIONS: &str = "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=";

const SHADOW: &str = "/etc/shadow";

fn rig(change: impl FnOnce(&mut AuthConfig)) -> Rig {
    system::rig(|configuration| {
        let directory = configuration.users_file.with_file_name("verifiers");
        fs::create_dir(&directory).unwrap();
        fs::set_permissions(&directory, fs::Permissions::from_mode(0o700)).unwrap();
        chown(&directory, Some(65_534), Some(65_534)).unwrap();
        configuration.derived_verifiers = Some(directory);
        // Of few iterations, as derived ones are to be then: the client of these tests is a debug build.
        let users = &configuration.users_file;
        fs::write(users, format!("filed:{FEW_ITERATIONS}\n")).unwrap();
        fs::set_permissions(users, fs::Permissions::from_mode(0o640)).unwrap();
        chown(users, Some(0), Some(65_534)).unwrap();
        configuration.backends = vec![Backend::Shadow, Backend::UsersFile];
        change(configuration);
    })
}

fn file(rig: &Rig) -> PathBuf {
    rig.directory.path().join("verifiers/derived")
}

/// What is kept, by name.
fn names(rig: &Rig) -> Vec<String> {
    let text = fs::read_to_string(file(rig)).unwrap_or_default();
    let name = |line: &str| line.split(':').next().map(str::to_owned);
    text.lines().filter_map(name).collect()
}

/// PLAIN or LOGIN.
fn log_in(rig: &mut Rig, user: &str, password: &str, tls: Option<TlsFacts>) {
    let session = rig.session();
    let client = client(Mechanism::Plain, user, password, None);
    converse(&session, Plain, client, tls);
    session.verdict().unwrap();
    drop(rig.started());
}

fn scram(rig: &mut Rig, user: &str, password: &str) {
    let session = rig.session();
    let client = client(Mechanism::ScramSha256, user, password, None);
    converse(&session, ScramSha256, client, Some(facts()));
    session.verdict().unwrap();
    assert_eq!(rig.started().0.account.name, user);
}

/// SCRAM that fails at the proof; the challenge that it began with, behind the nonce.
fn scram_fails(rig: &mut Rig, user: &str, password: &str) -> String {
    let session = rig.session();
    let mut client = client(Mechanism::ScramSha256, user, password, None);
    let initial = client.initial_response();
    session.start(ScramSha256, initial.as_ref().map(Secret::as_bytes));
    let challenge = session.challenge();
    session.respond(client.respond(&challenge).unwrap().as_bytes());
    assert_eq!(
        session.verdict().unwrap_err(),
        Denial::Credentials,
        "{user}"
    );
    let challenge = String::from_utf8(challenge).unwrap();
    challenge.split_once(",s=").unwrap().1.to_owned()
}

/// Has another field of the hash in the line of `user`, until the body ends.
fn with_hash(user: &str, change: impl Fn(&str) -> String, body: impl FnOnce()) {
    let before = fs::read_to_string(SHADOW).unwrap();
    let line = |line: &str| {
        let mut fields: Vec<String> = line.split(':').map(str::to_owned).collect();
        if fields[0] == user {
            fields[1] = change(&fields[1]);
        }
        fields.join(":") + "\n"
    };
    fs::write(SHADOW, before.lines().map(line).collect::<String>()).unwrap();
    body();
    fs::write(SHADOW, before).unwrap();
}

pub fn after_plain_over_tls_the_next_login_may_be_scram() {
    let mut rig = rig(|_| {});
    scram_fails(&mut rig, "joe", "secret");
    let record = rig.log("login failed");
    assert_eq!(field(&record, "user"), Some("joe"));
    let reason = "no SCRAM verifier of that hash";
    assert_eq!(field(&record, "reason"), Some(reason));
    log_in(&mut rig, "joe", "secret", Some(facts()));
    assert_eq!(names(&rig), ["joe"]);
    let first = fs::read(file(&rig)).unwrap();
    scram(&mut rig, "joe", "secret");
    let record = loop {
        let record = rig.log("login");
        if field(&record, "method") == Some("SCRAM-SHA-256") {
            break record;
        }
    };
    assert_eq!(field(&record, "backend"), Some("shadow"));
    scram_fails(&mut rig, "joe", "wrong");

    // Another by LOGIN, which takes more steps; who has one already keeps it.
    let session = rig.session();
    let client = client(Mechanism::Login, "ann", "secret", None);
    converse(&session, Login, client, Some(facts()));
    session.verdict().unwrap();
    drop(rig.started());
    log_in(&mut rig, "joe", "secret", Some(facts()));
    assert_eq!(names(&rig), ["joe", "ann"]);
    assert!(fs::read(file(&rig)).unwrap().starts_with(&first));
    scram(&mut rig, "ann", "secret");
    let found = fs::metadata(file(&rig)).unwrap().permissions().mode();
    assert_eq!(found & 0o777, 0o600);
}

pub fn a_change_of_password_or_a_lock_ends_it_at_once() {
    let mut rig = rig(|_| {});
    log_in(&mut rig, "joe", "secret", Some(facts()));
    with_hash(
        "joe",
        |_| OTHER_HASH.to_owned(),
        || {
            scram_fails(&mut rig, "joe", "secret");
            assert!(names(&rig).is_empty(), "it is forgotten");
            scram_fails(&mut rig, "joe", "pässword:1");
            log_in(&mut rig, "joe", "pässword:1", Some(facts()));
            scram(&mut rig, "joe", "pässword:1");
            scram_fails(&mut rig, "joe", "secret");
        },
    );
    log_in(&mut rig, "joe", "secret", Some(facts()));
    with_hash(
        "joe",
        |hash| format!("!{hash}"),
        || {
            scram_fails(&mut rig, "joe", "secret");
        },
    );
    scram_fails(&mut rig, "joe", "secret");
    log_in(&mut rig, "joe", "secret", Some(facts()));
    scram(&mut rig, "joe", "secret");
}

pub fn nothing_is_derived_without_the_key_or_tls_or_the_right_password() {
    let mut off = rig(|configuration| configuration.derived_verifiers = None);
    log_in(&mut off, "joe", "secret", Some(facts()));
    let directory = off.directory.path().join("verifiers");
    assert_eq!(fs::read_dir(directory).unwrap().count(), 0);

    let mut on = rig(|_| {});
    log_in(&mut on, "joe", "secret", None);
    // USER and PASS do not say whether there is TLS.
    on.log_in("ann", "secret").unwrap();
    for user in ["joe", "locked", "expired", "aged", "empty", "toor"] {
        let password = if user == "joe" { "wrong" } else { "secret" };
        let session = on.session();
        let client = client(Mechanism::Plain, user, password, None);
        converse(&session, Plain, client, Some(facts()));
        assert_eq!(session.verdict().unwrap_err(), Denial::Credentials);
        scram_fails(&mut on, user, "secret");
    }
    assert!(names(&on).is_empty());
}

pub fn pam_is_asked_again_and_only_the_systems_own_hash_counts() {
    let with_pam = |service: &str| {
        rig(|configuration| {
            configuration.backends = vec![Backend::Pam, Backend::UsersFile];
            configuration.pam_service = service.to_owned();
        })
    };
    let mut unix = with_pam("test-unix");
    log_in(&mut unix, "joe", "secret", Some(facts()));
    scram(&mut unix, "joe", "secret");
    let kept = fs::read(file(&unix)).unwrap();

    // A service that takes anything has its passwords from elsewhere.
    let mut permit = with_pam("test-permit");
    log_in(&mut permit, "joe", "anything", Some(facts()));
    assert!(names(&permit).is_empty());

    // The verifier is good, and the service lets nobody in.
    let mut closed = with_pam("test-closed");
    fs::write(file(&closed), kept).unwrap();
    fs::set_permissions(file(&closed), fs::Permissions::from_mode(0o600)).unwrap();
    chown(file(&closed), Some(65_534), Some(65_534)).unwrap();
    let session = closed.session();
    let client = client(Mechanism::ScramSha256, "joe", "secret", None);
    converse(&session, ScramSha256, client, Some(facts()));
    assert_eq!(session.verdict().unwrap_err(), Denial::Credentials);
    let record = closed.log("login failed");
    let reason = "account or password expired, or not allowed";
    assert_eq!(field(&record, "reason"), Some(reason));
}

pub fn a_verifier_cannot_be_seen_and_looking_up_costs_the_same() {
    const ROUNDS: usize = 31;
    let mut rig = rig(|configuration| configuration.workers = 1);
    let names = ["joe", "ann", "nobody-here"];
    let before = names.map(|name| scram_fails(&mut rig, name, "wrong"));
    log_in(&mut rig, "joe", "secret", Some(facts()));
    assert_eq!(
        names.map(|name| scram_fails(&mut rig, name, "wrong")),
        before
    );
    let mut costs = names.map(|_| Vec::with_capacity(ROUNDS));
    for _ in 0..ROUNDS {
        for (name, costs) in names.iter().zip(&mut costs) {
            let begun = rig.processor_time();
            scram_fails(&mut rig, name, "wrong");
            rig.log("login failed");
            costs.push(rig.processor_time() - begun);
        }
    }
    let medians = costs.map(|mut costs| *costs.select_nth_unstable(ROUNDS / 2).1);
    println!("    {names:?}: {medians:?}");
    let (least, most) = (medians.iter().min(), medians.iter().max());
    // What a name service takes to find nobody differs by some microseconds, with or without verifiers.
    let allowed = *least.unwrap() * 5 / 4 + Duration::from_micros(50);
    assert!(*most.unwrap() < allowed);
}
