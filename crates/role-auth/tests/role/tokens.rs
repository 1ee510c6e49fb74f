//! Access tokens, with a token role that is played: what it finds, what it does not, and what the stores have on the user.

use std::time::Duration;

use confine::channel::Channel;
use messages::SaslMechanism::{OAuthBearer, XOAuth2};
use messages::auth::{Backend, Denial, ToAuth, Tokens};
use messages::token::{Answer, Finding, Question};

use crate::rig::{CHEAP_HASH, Rig, Session, field, ids, receive};

const TOKEN: &str = "eyJhbGciOiJFUzI1NiJ9.e30.c2ln";

/// What a client is told of a token that is refused (RFC 7628 section 3.2.2).
const INVALID: &str = r#"{"status":"invalid_token","schemes":"bearer","scope":"pop3","openid-configuration":"https://id.example.org/"}"#;

/// Auth, and the played token role's end of the channel.
fn rig() -> (Rig, Channel) {
    let rig = Rig::new(with_tokens);
    let token_role = connect(&rig);
    (rig, token_role)
}

fn with_tokens(configuration: &mut messages::auth::AuthConfig) {
    configuration.tokens = Some(Tokens {
        scope: Some("pop3".into()),
        openid_configuration: Some("https://id.example.org/".into()),
        patience: Duration::from_secs(600),
    });
}

fn connect(rig: &Rig) -> Channel {
    use std::os::fd::AsFd;
    let (ours, theirs) = Channel::pair().unwrap();
    rig.control.send(&ToAuth::Token, &[theirs.as_fd()]).unwrap();
    ours
}

fn bearer(authzid: &str, token: &str) -> Vec<u8> {
    format!("n,{authzid},\x01auth=Bearer {token}\x01\x01").into_bytes()
}

/// Takes the question, which is to be about this token, and answers it.
fn answer(token_role: &Channel, token: &str, finding: Finding) {
    let question = receive::<Question>(token_role);
    assert_eq!(question.token.expose(), token.as_bytes());
    let number = question.number;
    token_role.send(&Answer { number, finding }, &[]).unwrap();
}

fn valid(user: &str) -> Finding {
    Finding::Valid {
        user: user.to_owned(),
        expires: Some(4_000_000_000),
    }
}

fn assert_challenged_and_refused(session: &Session, challenge: &str) {
    assert_eq!(session.challenge(), challenge.as_bytes());
    session.assert_waits();
    session.respond(b"\x01");
    assert_eq!(session.verdict().map(drop), Err(Denial::Credentials));
}

pub fn a_valid_token_opens_its_users_maildrop_in_both_mechanisms_and_forms() {
    let (mut rig, token_role) = rig();
    let xoauth2 = format!("user=joe\x01auth=Bearer {TOKEN}\x01\x01").into_bytes();
    for (mechanism, message) in [
        (OAuthBearer, bearer("", TOKEN)),
        (OAuthBearer, bearer("a=joe", TOKEN)),
        (XOAuth2, xoauth2),
    ] {
        for with_auth in [true, false] {
            let session = rig.session();
            session.start(mechanism, with_auth.then_some(&message));
            if !with_auth {
                assert_eq!(session.challenge(), b"");
                session.respond(&message);
            }
            answer(&token_role, TOKEN, valid("joe"));
            assert!(session.verdict().is_ok());
            let started = rig.started().0;
            assert_eq!(
                (started.account.name.as_str(), started.id),
                ("joe", session.id)
            );
            let record = rig.log("login");
            assert_eq!(field(&record, "method"), Some(mechanism.name()));
            assert_eq!(field(&record, "backend"), Some("users-file"));
        }
    }
}

pub fn a_refused_token_is_told_why_in_a_challenge_and_counts_as_an_attempt() {
    let (mut rig, token_role) = rig();
    let session = rig.session();
    for (finding, challenge, reason) in [
        (
            Finding::Refused("has expired".into()),
            INVALID,
            "token has expired",
        ),
        (
            Finding::LacksScope,
            &INVALID.replace("invalid_token", "insufficient_scope"),
            "token lacks a scope",
        ),
        (
            Finding::Valid {
                user: "joe".into(),
                expires: Some(1000),
            },
            INVALID,
            "token has expired while it was checked",
        ),
    ] {
        session.start(OAuthBearer, Some(&bearer("", TOKEN)));
        answer(&token_role, TOKEN, finding);
        assert_challenged_and_refused(&session, challenge);
        assert_eq!(field(&rig.log("login failed"), "reason"), Some(reason));
    }
    session.assert_ended();
    // Who only asks what is needed is told, and nobody else is asked.
    let session = rig.session();
    session.start(OAuthBearer, Some(b"n,,\x01auth=\x01\x01"));
    assert_challenged_and_refused(&session, INVALID);
    session.start(OAuthBearer, Some(b"n,,\x01auth=Basic x\x01\x01"));
    assert_eq!(session.verdict().map(drop), Err(Denial::Malformed));
}

pub fn whoever_the_token_names_is_refused_as_by_password_if_the_account_is_none() {
    let (mut rig, token_role) = rig();
    let with_root = format!(
        "joe:{CHEAP_HASH}:{}\nout:!:{}\nroot:{CHEAP_HASH}\n",
        ids(),
        ids()
    );
    crate::rig::write_private(&rig.directory.path().join("users"), &with_root);
    for (authzid, user, reason, logged) in [
        ("", "out", "account locked", Some("out")),
        ("", "nobody-here", "unknown user", None),
        ("", "a:b", "malformed or empty", None),
        ("", &"x".repeat(320), "unknown user", None),
        (
            "a=ann",
            "joe",
            "authorization identity of another user",
            Some("joe"),
        ),
        ("a=joe", "out", "account locked", Some("out")),
    ] {
        let session = rig.session();
        session.start(OAuthBearer, Some(&bearer(authzid, TOKEN)));
        answer(&token_role, TOKEN, valid(user));
        let status = session.challenge();
        assert!(status.starts_with(br#"{"status":"invalid_token""#));
        session.respond(b"");
        assert_eq!(session.verdict().map(drop), Err(Denial::Credentials));
        let record = rig.log("login failed");
        assert_eq!(field(&record, "reason"), Some(reason), "{user}");
        assert_eq!(field(&record, "user"), logged);
    }
    if crate::rig::own().is_none() {
        let session = rig.session();
        session.start(OAuthBearer, Some(&bearer("", TOKEN)));
        answer(&token_role, TOKEN, valid("root"));
        assert_challenged_and_refused(&session, INVALID);
        let reason = "root or without a user and group of its own";
        assert_eq!(field(&rig.log("login failed"), "reason"), Some(reason));
    }
    assert_eq!(rig.log_in("joe", "secret").unwrap().name, "joe");
}

pub fn what_cannot_be_checked_is_no_refusal() {
    let (mut rig, token_role) = rig();
    let session = rig.session();
    session.start(OAuthBearer, Some(&bearer("", TOKEN)));
    answer(
        &token_role,
        TOKEN,
        Finding::Unavailable("answer 503".into()),
    );
    assert_eq!(session.verdict().map(drop), Err(Denial::Temporary));
    let record = rig.log("login not possible");
    assert_eq!(field(&record, "reason"), Some("token: answer 503"));

    // It ends while it is asked.
    session.start(OAuthBearer, Some(&bearer("", TOKEN)));
    drop(receive::<Question>(&token_role));
    drop(token_role);
    assert_eq!(session.verdict().map(drop), Err(Denial::Temporary));
    // It is not there, and then it is again.
    session.start(OAuthBearer, Some(&bearer("", TOKEN)));
    assert_eq!(session.verdict().map(drop), Err(Denial::Temporary));
    session.assert_ended();
    rig.assert_serves();
    let token_role = connect(&rig);
    let session = rig.session();
    session.start(OAuthBearer, Some(&bearer("", TOKEN)));
    answer(&token_role, TOKEN, valid("joe"));
    assert!(session.verdict().is_ok());
}

pub fn a_token_that_is_not_checked_holds_nobody_up_and_is_given_up_in_time() {
    let mut rig = Rig::new(|configuration| {
        with_tokens(configuration);
        configuration.tokens.as_mut().unwrap().patience = Duration::from_secs(1);
    });
    let token_role = connect(&rig);
    let waiting = rig.session();
    waiting.start(OAuthBearer, Some(&bearer("", TOKEN)));
    let question = receive::<Question>(&token_role);
    rig.assert_serves();
    assert_eq!(waiting.verdict().map(drop), Err(Denial::Temporary));
    // The answer comes after all, to a session that has another question by now.
    waiting.start(OAuthBearer, Some(&bearer("", "other")));
    let number = question.number;
    let finding = Finding::Refused("is late".into());
    answer(&token_role, "other", valid("joe"));
    token_role.send(&Answer { number, finding }, &[]).unwrap();
    assert!(waiting.verdict().is_ok());
    // A session that leaves is forgotten, and its lease let go.
    let leaving = rig.session();
    leaving.start(OAuthBearer, Some(&bearer("", TOKEN)));
    drop(receive::<Question>(&token_role));
    drop(leaving.channel);
    crate::rig::assert_released(&leaving.lease);
}

pub fn a_token_role_that_talks_nonsense_is_left() {
    let (mut rig, token_role) = rig();
    let session = rig.session();
    session.start(OAuthBearer, Some(&bearer("", TOKEN)));
    drop(receive::<Question>(&token_role));
    let flags = rustix::net::SendFlags::empty();
    rustix::net::send(&token_role, &[0xFF; 9], flags).unwrap();
    assert_eq!(session.verdict().map(drop), Err(Denial::Temporary));
    assert_eq!(field(&rig.log("bad message"), "from"), Some("token"));
    rig.assert_serves();
}

pub fn without_oauth_no_token_is_taken() {
    let mut rig = Rig::new(|configuration| {
        let mechanisms = &mut configuration.mechanisms;
        mechanisms.retain(|mechanism| !mechanism.takes_token());
    });
    let session = rig.session();
    session.start(OAuthBearer, Some(&bearer("", TOKEN)));
    assert_eq!(session.verdict().map(drop), Err(Denial::Temporary));
    let reason = "mechanism not offered any more";
    assert_eq!(
        field(&rig.log("login not possible"), "reason"),
        Some(reason)
    );
}

pub fn a_token_of_a_system_user_opens_the_account_unless_it_is_locked() {
    let mut closed = Rig::new(|configuration| {
        with_tokens(configuration);
        configuration.backends = vec![Backend::Pam];
        configuration.pam_service = "test-closed".into();
    });
    let token_role = connect(&closed);
    let session = closed.session();
    session.start(OAuthBearer, Some(&bearer("", TOKEN)));
    answer(&token_role, TOKEN, valid("joe"));
    assert_challenged_and_refused(&session, INVALID);
    let reason = "account or password expired, or not allowed";
    assert_eq!(field(&closed.log("login failed"), "reason"), Some(reason));
    for backend in [Backend::Shadow, Backend::Pam] {
        let mut rig = Rig::new(|configuration| {
            with_tokens(configuration);
            configuration.backends = vec![backend];
            configuration.pam_service = "test-unix".into();
        });
        let token_role = connect(&rig);
        for (user, expected) in crate::system::PROVEN {
            let session = rig.session();
            session.start(OAuthBearer, Some(&bearer("", TOKEN)));
            answer(&token_role, TOKEN, valid(user));
            match expected {
                None => {
                    assert!(session.verdict().is_ok(), "{user}");
                    assert_eq!(rig.started().0.account.name, user);
                }
                Some(reason) => {
                    assert_challenged_and_refused(&session, INVALID);
                    let record = rig.log("login failed");
                    assert_eq!(field(&record, "reason"), Some(reason), "{user}");
                }
            }
        }
    }
}
