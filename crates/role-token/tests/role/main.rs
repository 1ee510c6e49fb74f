//! The whole role in a process of its own, with a test that plays the master, auth, and the server that issued the tokens.
//!
//! Without the usual harness, because fork(2) wants a process without threads.

mod rig;
mod server;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use confine::channel::Channel;
use messages::token::{Finding, ToToken};
use rig::{PATIENCE, Rig, claims, configuration, issuer};
use server::{Answer, Server};

/// Runs those whose name contains the first argument.
macro_rules! run {
    ($($name:ident),+ $(,)?) => {{
        let wanted = std::env::args().skip(1).find(|argument| !argument.starts_with('-'));
        let mut ran = 0;
        $(if wanted.as_ref().is_none_or(|wanted| stringify!($name).contains(wanted.as_str())) {
            println!("test {} ...", stringify!($name));
            // A failing test panics, and that ends this process with a status that says so.
            $name();
            ran += 1;
        })+
        println!("test result: ok. {ran} passed");
    }};
}

fn main() -> ExitCode {
    run!(
        a_token_signed_by_a_key_of_the_file_is_valid_and_no_other,
        a_newer_key_file_counts_from_its_reload_and_a_bad_one_changes_nothing,
        published_keys_are_fetched_once_and_again_for_a_new_key,
        keys_that_cannot_be_fetched_leave_the_old_ones_in_place,
        without_any_keys_nothing_can_be_told,
        an_introspected_token_is_what_the_server_says,
        answers_that_are_none_are_no_refusals,
        a_redirect_is_not_followed,
        a_server_that_hangs_is_given_up_in_time_and_holds_nobody_else_up,
        an_endless_answer_is_cut_off,
        large_answers_to_any_number_of_workers_are_read,
        a_server_by_tls_must_be_the_one_that_is_named,
        a_lost_dialer_ends_the_role,
        an_auth_that_talks_nonsense_is_left,
        the_role_stays_until_auth_has_gone,
    );
    ExitCode::SUCCESS
}

fn refused(reason: &str) -> Finding {
    Finding::Refused(reason.to_owned())
}

fn assert_valid(finding: &Finding) {
    assert!(
        matches!(finding, Finding::Valid { user, .. } if user == "joe@example.org"),
        "{finding:?}"
    );
}

fn assert_unavailable(finding: &Finding) {
    assert!(matches!(finding, Finding::Unavailable(_)), "{finding:?}");
}

fn a_token_signed_by_a_key_of_the_file_is_valid_and_no_other() {
    let issuer = issuer("k1");
    let mut rig = Rig::with_keys(&issuer.jwks());
    assert_valid(&rig.ask(&issuer.sign(&claims())));
    let expired = claims().replace("\"exp\":4", "\"exp\":1");
    assert_eq!(rig.ask(&issuer.sign(&expired)), refused("has expired"));
    let other = claims().replace("popa3d", "other");
    assert_eq!(
        rig.ask(&issuer.sign(&other)),
        refused("is for another audience")
    );
    let stranger = rig::issuer("k1");
    assert_eq!(
        rig.ask(&stranger.sign(&claims())),
        refused("has a wrong signature")
    );
    let unknown = rig::issuer("k2");
    assert_eq!(
        rig.ask(&unknown.sign(&claims())),
        refused("is signed by an unknown key")
    );
    assert_eq!(
        rig.ask(&"x".repeat(60_000)),
        refused("is no signed JSON web token")
    );
    // As long as a client can send one.
    let long = format!(
        "{},\"groups\":\"{}\"}}",
        claims().trim_end_matches('}'),
        "g".repeat(30_000)
    );
    assert_valid(&rig.ask(&issuer.sign(&long)));
    // Many at a time, each to its own question.
    let tokens = [issuer.sign(&claims()), issuer.sign(&expired)];
    let numbers: Vec<_> = (0..40).map(|at| rig.send(&tokens[at % 2])).collect();
    let mut answers = rig.answers(numbers.len());
    for (at, number) in numbers.iter().enumerate() {
        let finding = answers.remove(number).unwrap();
        assert_eq!(
            finding == refused("has expired"),
            at % 2 == 1,
            "{finding:?}"
        );
    }
}

fn a_newer_key_file_counts_from_its_reload_and_a_bad_one_changes_nothing() {
    let (old, new) = (issuer("k1"), issuer("k2"));
    let mut rig = Rig::with_keys(&old.jwks());
    rig.load(rig.configuration.clone(), &[b"{\"keys\":[]}"]);
    rig.log("configuration kept");
    assert_valid(&rig.ask(&old.sign(&claims())));
    rig.load(rig.configuration.clone(), &[new.jwks().as_bytes()]);
    // The channels are not one: the reload may be seen later.
    rig.ask_until(&new.sign(&claims()), |finding| {
        matches!(finding, Finding::Valid { .. })
    });
    assert_eq!(
        rig.ask(&old.sign(&claims())),
        refused("is signed by an unknown key")
    );
    // Another server needs a restart.
    let server = Server::start(Answer::Json("{}".into()));
    let mut configuration = rig.configuration.clone();
    configuration.method = server.keys();
    rig.load(configuration, &[]);
    rig.log("configuration kept");
    assert_valid(&rig.ask(&new.sign(&claims())));
}

fn published_keys_are_fetched_once_and_again_for_a_new_key() {
    let (old, new) = (issuer("k1"), issuer("k2"));
    let server = Server::start(Answer::Json(old.jwks()));
    let mut rig = Rig::new(configuration(server.keys()), &[]);
    for _ in 0..3 {
        assert_valid(&rig.ask(&old.sign(&claims())));
    }
    assert_eq!(server.requests(), 1);
    assert!(server.last().starts_with("GET /endpoint HTTP/1.1\r\n"));
    server.answers(Answer::Json(new.jwks()));
    assert_valid(&rig.ask(&new.sign(&claims())));
    assert_eq!(server.requests(), 2);
    // A name that nobody has does not make it ask again and again.
    let mut configuration = rig.configuration.clone();
    configuration.refresh_interval = Duration::from_secs(3600);
    rig.load(configuration, &[]);
    let unknown = issuer("k3").sign(&claims());
    for _ in 0..5 {
        rig.ask_until(&unknown, |it| *it == refused("is signed by an unknown key"));
    }
    assert!(server.requests() < 5);
    assert_valid(&rig.ask(&new.sign(&claims())));
}

fn keys_that_cannot_be_fetched_leave_the_old_ones_in_place() {
    let issuer = issuer("k1");
    let server = Server::start(Answer::Json(issuer.jwks()));
    let mut configuration = configuration(server.keys());
    // Old at once: they are fetched anew behind every token.
    configuration.keys_kept = Duration::ZERO;
    let mut rig = Rig::new(configuration, &[]);
    assert_valid(&rig.ask(&issuer.sign(&claims())));
    for bad in [
        Answer::Status(500),
        Answer::Json("{\"keys\":[]}".into()),
        Answer::Json("no JSON".into()),
        Answer::Close,
    ] {
        server.answers(bad);
        // Perhaps its key is one of those that cannot be fetched. It waits for a fetch of its own, begun after the last answer: one
        // behind a token may have had the answer before.
        assert_unavailable(&rig.ask(&rig::issuer("k2").sign(&claims())));
        rig.log("token keys not fetched");
        assert_valid(&rig.ask(&issuer.sign(&claims())));
    }
}

fn without_any_keys_nothing_can_be_told() {
    let server = Server::start(Answer::Status(503));
    let mut rig = Rig::new(configuration(server.keys()), &[]);
    let issuer = issuer("k1");
    let Finding::Unavailable(reason) = rig.ask(&issuer.sign(&claims())) else {
        panic!("decided without keys");
    };
    assert_eq!(reason, "answer 503");
    server.answers(Answer::Json(issuer.jwks()));
    assert_valid(&rig.ask(&issuer.sign(&claims())));
}

fn an_introspected_token_is_what_the_server_says() {
    let server = Server::start(Answer::Json(
        r#"{"active":true,"username":"joe@example.org","scope":"pop3"}"#.into(),
    ));
    let mut rig = Rig::new(configuration(server.introspection()), &[b"s3cret+\n"]);
    assert_valid(&rig.ask("opaque/token"));
    let request = server.last();
    assert!(
        request.starts_with("POST /endpoint HTTP/1.1\r\n"),
        "{request}"
    );
    // popa3d:s3cret%2B
    assert!(
        request.contains("authorization: Basic cG9wYTNkOnMzY3JldCUyQg==\r\n"),
        "{request}"
    );
    assert!(
        request.ends_with("\r\n\r\ntoken=opaque%2Ftoken&token_type_hint=access_token"),
        "{request}"
    );
    for (json, finding) in [
        (r#"{"active":false}"#, refused("is not active")),
        (
            r#"{"active":true,"username":"joe","scope":"imap"}"#,
            Finding::LacksScope,
        ),
        (
            r#"{"active":true,"scope":"pop3"}"#,
            refused("username is missing"),
        ),
        (
            r#"{"active":true,"username":"joe","scope":"pop3","exp":1000}"#,
            refused("has expired"),
        ),
    ] {
        server.answers(Answer::Json(json.into()));
        assert_eq!(rig.ask("opaque"), finding);
    }
}

fn answers_that_are_none_are_no_refusals() {
    let server = Server::start(Answer::Close);
    let mut rig = Rig::new(configuration(server.introspection()), &[b"s"]);
    for answer in [
        Answer::Close,
        Answer::Status(500),
        Answer::Status(401),
        Answer::Json("<html>".into()),
        Answer::Json("[true]".into()),
        Answer::Json("{\"a\":".repeat(10_000)),
        Answer::Raw("HTTP/1.1 2000 OK\r\n\r\n{}".into()),
        Answer::Raw("SSH-2.0-x\r\n".into()),
        Answer::Raw(format!(
            "HTTP/1.1 200 OK\r\nx: {}\r\n\r\n",
            "y".repeat(40_000)
        )),
        Answer::Raw("HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\n{\"active\":true".into()),
    ] {
        let shown = format!("{answer:.60?}");
        server.answers(answer);
        let finding = rig.ask("opaque");
        assert!(
            matches!(finding, Finding::Unavailable(_)),
            "{shown}: {finding:?}"
        );
    }
}

fn a_redirect_is_not_followed() {
    let other = Server::start(Answer::Json(r#"{"active":true}"#.into()));
    let there = format!(
        "HTTP/1.1 307 x\r\nLocation: {}\r\nContent-Length: 0\r\n\r\n",
        other.url()
    );
    let server = Server::start(Answer::Raw(there));
    let mut rig = Rig::new(configuration(server.introspection()), &[b"s"]);
    assert_eq!(rig.ask("opaque"), Finding::Unavailable("answer 307".into()));
    assert_eq!(other.requests(), 0);
}

fn a_server_that_hangs_is_given_up_in_time_and_holds_nobody_else_up() {
    let good =
        Answer::Json(r#"{"active":true,"username":"joe@example.org","scope":"pop3"}"#.into());
    let server = Server::start(Answer::Hang);
    let mut configuration = configuration(server.introspection());
    configuration.timeout = Duration::from_secs(2);
    configuration.workers = 2;
    let mut rig = Rig::new(configuration, &[b"s"]);
    let hanging = rig.send("slow");
    server.await_requests(1);
    server.answers(good.clone());
    // Its neighbour answers while that one waits.
    let quick = rig.send("quick");
    let (first, finding) = rig.answer();
    assert_eq!(first, quick);
    assert_valid(&finding);
    let (second, finding) = rig.answer();
    assert_eq!(second, hanging);
    assert_unavailable(&finding);
    // An answer an octet at a time is no sign of life.
    server.answers(Answer::Drip);
    let began = Instant::now();
    assert_unavailable(&rig.ask("dripping"));
    assert!(began.elapsed() < PATIENCE);
    server.answers(good);
    assert_valid(&rig.ask("quick"));
}

fn an_endless_answer_is_cut_off() {
    let server = Server::start(Answer::Endless);
    let mut rig = Rig::new(configuration(server.introspection()), &[b"s"]);
    assert_unavailable(&rig.ask("opaque"));
    server.answers(Answer::Long(400 * 1024));
    assert_unavailable(&rig.ask("opaque"));
}

/// glibc would give memory of a thread's heap back then, for which it looks into a file; with more than eight threads it would look
/// how many processors there are. Either would be the role's end.
fn large_answers_to_any_number_of_workers_are_read() {
    for workers in [1, 16] {
        let server = Server::start(Answer::Close);
        let mut configuration = configuration(server.introspection());
        configuration.workers = workers;
        let mut rig = Rig::new(configuration, &[b"s"]);
        for octets in [100_000, 30_000, 120_000, 60_000, 100_000] {
            let filler = "x".repeat(octets);
            let good = format!(
                r#"{{"active":true,"username":"joe@example.org","scope":"pop3","filler":"{filler}"}}"#
            );
            for (answer, is_good) in [
                (Answer::Json(good), true),
                (Answer::Long(2 * octets), false),
            ] {
                server.answers(answer);
                let numbers: Vec<_> = (0..2 * workers).map(|_| rig.send("opaque")).collect();
                let mut answers = rig.answers(numbers.len());
                for number in numbers {
                    let finding = answers.remove(&number).unwrap();
                    if is_good {
                        assert_valid(&finding);
                    } else {
                        assert_unavailable(&finding);
                    }
                }
            }
        }
    }
}

fn a_server_by_tls_must_be_the_one_that_is_named() {
    let good = r#"{"active":true,"username":"joe@example.org","scope":"pop3"}"#;
    let (server, authority) = Server::start_tls(Answer::Json(good.into()));
    let configuration = configuration(server.introspection());
    let mut rig = Rig::new(configuration.clone(), &[b"s", authority.as_bytes()]);
    assert_valid(&rig.ask("opaque"));
    assert_valid(&rig.ask("opaque"));
    // Somebody else's authority.
    let (_, other) = Server::start_tls(Answer::Close);
    let mut rig = Rig::new(configuration, &[b"s", other.as_bytes()]);
    let requests = server.requests();
    assert_unavailable(&rig.ask("opaque"));
    assert_eq!(server.requests(), requests, "the token was sent");
}

fn a_lost_dialer_ends_the_role() {
    let server = Server::start(Answer::Status(500));
    let mut rig = Rig::new(configuration(server.introspection()), &[b"s"]);
    // What it has not read when it ends would be reported in place of its last word (ECONNRESET).
    assert_unavailable(&rig.ask("opaque"));
    rig.kill_dialer();
    assert_eq!(rig.failure(), "dialer ended");
}

fn an_auth_that_talks_nonsense_is_left() {
    let issuer = issuer("k1");
    let mut rig = Rig::with_keys(&issuer.jwks());
    rig.say_nonsense();
    rig.log("bad message");
    rig.connect_auth();
    assert_valid(&rig.ask(&issuer.sign(&claims())));
}

fn the_role_stays_until_auth_has_gone() {
    let issuer = issuer("k1");
    let mut rig = Rig::with_keys(&issuer.jwks());
    rig.close_control();
    assert_valid(&rig.ask(&issuer.sign(&claims())));
    assert!(rig.end().success());
}

/// For the message's sake: a channel to hand over.
fn to_auth(channel: &Channel, control: &Channel) {
    use std::os::fd::AsFd;
    control.send(&ToToken::Auth, &[channel.as_fd()]).unwrap();
}
