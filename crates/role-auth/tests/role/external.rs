//! EXTERNAL: sessions that hand over handshakes, true ones and all others. The handshakes are put together, so that anything can be
//! wrong with them; the server's true ones are tried with real clients by the whole-system tests.

use std::io::{Seek, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use client_proof::made_up::{Key, Parts};
use messages::SaslMechanism::External;
use messages::auth::{
    AuthConfig, Backend, Denial, ExternalUser, Handshake, MAX_TRANSCRIPT_OCTETS, ToAuth,
};
use rcgen::{CertificateParams, DnType, IsCa, Issuer, KeyPair, SanType};

use crate::rig::{CHEAP_HASH, PATIENCE, Rig, Session, field, ids};
use crate::system;

/// Authorities, and the server with its certificate.
pub struct World {
    authority: String,
    issuer: Issuer<'static, KeyPair>,
    server: (Vec<u8>, Key),
}

/// A certificate and its key.
#[derive(Clone)]
struct Client {
    certificate: Vec<u8>,
    key: Key,
}

impl World {
    pub fn new() -> World {
        let mut parameters = CertificateParams::default();
        parameters.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let authority = parameters.self_signed(&key).unwrap().pem();
        let server_key = KeyPair::generate().unwrap();
        let server = CertificateParams::new(vec!["mail.example.org".to_owned()]).unwrap();
        let server = server.self_signed(&server_key).unwrap();
        World {
            authority,
            issuer: Issuer::new(parameters, key),
            server: (server.der().to_vec(), server_key.serialize_der()),
        }
    }

    /// A client whose certificate has the common name `of` and these addresses.
    fn client(&self, of: &str, addresses: &[&str]) -> Client {
        self.client_until(of, addresses, 2100)
    }

    fn client_until(&self, of: &str, addresses: &[&str], year: i32) -> Client {
        let mut parameters = CertificateParams::default();
        parameters.not_after = rcgen::date_time_ymd(year, 1, 1);
        parameters.distinguished_name.push(DnType::CommonName, of);
        for &address in addresses {
            let address = SanType::Rfc822Name(address.try_into().unwrap());
            parameters.subject_alt_names.push(address);
        }
        let key = KeyPair::generate().unwrap();
        let certificate = parameters.signed_by(&key, &self.issuer).unwrap();
        Client {
            certificate: certificate.der().to_vec(),
            key: key.serialize_der(),
        }
    }

    /// What a handshake of that client with our server consists of, but for the random number.
    fn parts(&self, client: &Client) -> Parts {
        Parts {
            server_chain: vec![self.server.0.clone()],
            server_key: Some(self.server.1.clone()),
            client_chain: vec![client.certificate.clone()],
            ..Parts::unsigned()
        }
    }

    /// Tells auth of all that, and waits until it knows.
    fn tell(&self, rig: &mut Rig, kept: Duration) {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(self.authority.as_bytes()).unwrap();
        file.rewind().unwrap();
        let file = OwnedFd::from(file);
        let say = |message: &ToAuth, descriptors: &[_]| {
            rig.control.send(message, descriptors).unwrap();
        };
        say(&ToAuth::OwnCertificate(self.server.0.clone()), &[]);
        say(&ToAuth::ClientAuthorities, &[file.as_fd()]);
        say(&ToAuth::UseCertificates { kept }, &[]);
        let known = |rig: &mut Rig| {
            let client = self.client("no-such-person", &["no-such-person@example.org"]);
            let reason = refused(rig, &self.parts(&client), &client.key);
            reason == "unknown user"
        };
        let deadline = Instant::now() + PATIENCE;
        while !known(rig) {
            assert!(
                Instant::now() < deadline,
                "auth does not take the certificates"
            );
        }
    }
}

fn signed(parts: &Parts, key: &Key) -> Handshake {
    let transcript = parts.transcript();
    let verify = parts.client_verify_of(key, &transcript);
    Handshake {
        transcript,
        scheme: verify.scheme,
        signature: verify.signature,
    }
}

/// A session on which a handshake of these parts, with the right random number, has taken place.
fn shaken(rig: &mut Rig, parts: &Parts, key: &Key) -> Session {
    let session = rig.session();
    let random = session.server_random();
    let parts = Parts {
        random,
        ..parts.clone()
    };
    session.show(signed(&parts, key));
    session
}

/// Tries EXTERNAL, which is refused; for this reason, by the log.
fn refused(rig: &mut Rig, parts: &Parts, key: &Key) -> String {
    let session = shaken(rig, parts, key);
    session.start(External, Some(b""));
    let denial = session.verdict().unwrap_err();
    reason(rig, denial)
}

fn reason(rig: &Rig, denial: Denial) -> String {
    let event = match denial {
        Denial::Credentials | Denial::Malformed => "login failed",
        _ => "login not possible",
    };
    let record = rig.log(event);
    assert_eq!(field(&record, "method"), Some("EXTERNAL"));
    field(&record, "reason").unwrap().to_owned()
}

const HOUR: Duration = Duration::from_secs(60 * 60);

fn rig(world: &World, change: impl FnOnce(&mut AuthConfig)) -> Rig {
    let ids = ids();
    let users = format!(
        "joe:{CHEAP_HASH}:{ids}\njoe@example.org:{CHEAP_HASH}:{ids}\nann@example.org:{CHEAP_HASH}:{ids}\n\
         out@example.org:!{CHEAP_HASH}:{ids}\nroot@example.org:{CHEAP_HASH}:0:0\nbad@example.org:x:1\n"
    );
    let mut rig = Rig::with_users(&users, change);
    world.tell(&mut rig, HOUR);
    rig
}

pub fn a_certificate_logs_its_user_in_by_any_form_of_auth() {
    let world = World::new();
    let mut rig = rig(&world, |_| {});
    let joe = world.client("joe", &["joe@Example.ORG"]);
    let forms: [fn(&Session); 3] = [
        |session| session.start(External, Some(b"")),
        |session| session.start(External, Some(b"joe@example.org")),
        |session| {
            session.start(External, None);
            assert_eq!(session.challenge(), b"");
            session.respond(b"");
        },
    ];
    for start in forms {
        let session = shaken(&mut rig, &world.parts(&joe), &joe.key);
        start(&session);
        assert!(session.verdict().is_ok());
        let (started, _stream, _lease) = rig.started();
        assert_eq!(started.account.name, "joe@example.org");
        assert!(started.certificate_shown);
        let record = rig.log("login");
        assert_eq!(field(&record, "method"), Some("EXTERNAL"));
        assert_eq!(field(&record, "user"), Some("joe@example.org"));
        assert_eq!(field(&record, "backend"), Some("users-file"));
    }
    // A password is as good as ever.
    let session = shaken(&mut rig, &world.parts(&joe), &joe.key);
    session.send("joe", "secret");
    assert!(session.verdict().is_ok());
    assert!(rig.started().0.certificate_shown);
    rig.assert_serves();
}

pub fn the_name_may_be_the_subjects_and_a_choice_of_several_is_the_clients() {
    let world = World::new();
    let both = world.client("joe", &["joe@example.org", "ann@example.org"]);
    let asks = |rig: &mut Rig, authzid: &[u8]| {
        let session = shaken(rig, &world.parts(&both), &both.key);
        session.start(External, Some(authzid));
        match session.verdict() {
            Ok(_) => Ok(rig.started().0.account.name),
            Err(denial) => Err(reason(rig, denial)),
        }
    };
    let mut by_address = rig(&world, |_| {});
    for user in ["joe@example.org", "ann@example.org"] {
        let asked = asks(&mut by_address, user.as_bytes());
        assert_eq!(asked.as_deref(), Ok(user));
    }
    let several = "client certificate names several users, and the client none of them";
    assert_eq!(asks(&mut by_address, b"").unwrap_err(), several);
    let another = "authorization identity of another user";
    for user in ["joe", "out@example.org", "joe@example.com"] {
        let asked = asks(&mut by_address, user.as_bytes());
        assert_eq!(asked.unwrap_err(), another, "{user}");
    }
    let mut by_name = rig(&world, |configuration| {
        configuration.external_user = Some(ExternalUser::CommonName);
    });
    assert_eq!(asks(&mut by_name, b"").as_deref(), Ok("joe"));
    let asked = asks(&mut by_name, b"ann@example.org");
    assert_eq!(asked.unwrap_err(), another);
}

pub fn whatever_is_no_proof_is_refused() {
    let world = World::new();
    let mut rig = rig(&world, |_| {});
    let joe = world.client("joe", &["joe@example.org"]);
    let good = world.parts(&joe);
    let (stranger, others) = (World::new(), World::new().server);
    let ann = world.client("ann", &["ann@example.org"]);
    let foreign = stranger.client("joe", &["joe@example.org"]);
    let ended = world.client_until("joe", &["joe@example.org"], 2020);
    let nameless = world.client("joe", &[]);
    let cases = [
        ("the key of another", good.clone(), &ann.key, "signature"),
        (
            "another authority",
            world.parts(&foreign),
            &foreign.key,
            // Under the same name.
            "InvalidSignatureForPublicKey",
        ),
        ("expired", world.parts(&ended), &ended.key, "CertExpired"),
        (
            "no name",
            world.parts(&nameless),
            &nameless.key,
            "names nobody",
        ),
        (
            "another server",
            Parts {
                server_chain: vec![others.0.clone()],
                server_key: Some(others.1.clone()),
                ..good.clone()
            },
            &joe.key,
            "another server",
        ),
        (
            "another server that shows our certificate",
            Parts {
                server_key: Some(others.1),
                ..good.clone()
            },
            &joe.key,
            "the server's signature",
        ),
        (
            "nobody's signature",
            Parts {
                server_key: None,
                ..good.clone()
            },
            &joe.key,
            "the server's signature",
        ),
    ];
    for (name, parts, key, expected) in cases {
        println!("    {name}");
        let reason = refused(&mut rig, &parts, key);
        assert!(reason.contains(expected), "{reason}");
    }
    // Nothing shown at all, and nothing asked for.
    let session = rig.session();
    session.start(External, Some(b"joe@example.org"));
    assert_eq!(session.verdict().unwrap_err(), Denial::Credentials);
    session.server_random();
    session.start(External, Some(b"joe@example.org"));
    assert_eq!(session.verdict().unwrap_err(), Denial::Credentials);
    rig.assert_serves();
}

pub fn a_handshake_counts_on_the_session_that_it_took_place_on_and_on_no_other() {
    let world = World::new();
    let mut rig = rig(&world, |_| {});
    let joe = world.client("joe", &["joe@example.org"]);
    let victim = rig.session();
    let parts = Parts {
        random: victim.server_random(),
        ..world.parts(&joe)
    };
    let recorded = signed(&parts, &joe.key);
    // Before it has been used, and after.
    for used in [false, true] {
        let thief = rig.session();
        assert_ne!(thief.server_random(), parts.random);
        thief.show(recorded.clone());
        thief.start(External, Some(b""));
        let denial = thief.verdict().unwrap_err();
        assert_eq!(reason(&rig, denial), "a handshake of another session");
        if !used {
            victim.show(recorded.clone());
            victim.start(External, Some(b""));
            assert!(victim.verdict().is_ok());
            rig.started();
        }
    }
}

pub fn who_is_locked_out_stays_so() {
    let world = World::new();
    let mut rig = rig(&world, |_| {});
    for (address, expected) in [
        ("out@example.org", "account locked"),
        ("nobody@example.org", "unknown user"),
        ("joe@example.com", "unknown user"),
        ("root@example.org", "id of root"),
        ("bad@example.org", "has a uid without a gid"),
        ("a:b@example.org", "malformed or empty"),
    ] {
        let client = world.client("joe", &[address]);
        let reason = refused(&mut rig, &world.parts(&client), &client.key);
        assert!(reason.contains(expected), "{address}: {reason}");
    }
    rig.assert_serves();
}

pub fn a_handshake_cut_at_any_octet_harms_nobody() {
    let world = World::new();
    let mut rig = rig(&world, |_| {});
    let joe = world.client("joe", &["joe@example.org"]);
    let octets = signed(&world.parts(&joe), &joe.key).transcript.len();
    for length in 0..octets {
        let session = rig.session();
        let parts = Parts {
            random: session.server_random(),
            ..world.parts(&joe)
        };
        let mut handshake = signed(&parts, &joe.key);
        // It is two or three octets shorter or longer each time: ECDSA's signatures are.
        handshake
            .transcript
            .truncate(length.min(handshake.transcript.len() - 1));
        session.show(handshake);
        session.start(External, Some(b""));
        let denial = session.verdict().unwrap_err();
        assert_eq!(
            reason(&rig, denial),
            "no handshake with a client's certificate"
        );
    }
    rig.assert_serves();
}

pub fn what_no_honest_session_says_of_a_handshake_ends_it() {
    let world = World::new();
    let mut rig = rig(&world, |_| {});
    let joe = world.client("joe", &["joe@example.org"]);
    let handshake = signed(&world.parts(&joe), &joe.key);
    let long = |transcript: usize, signature: usize| Handshake {
        transcript: vec![1; transcript],
        signature: vec![1; signature],
        ..handshake.clone()
    };
    type Violation<'a> = (&'a str, Box<dyn Fn(&Session) + 'a>);
    let violations: [Violation<'_>; 6] = [
        (
            "a second random number",
            Box::new(|session| {
                session.server_random();
                let again = messages::auth::Attempt::ServerRandom;
                session.channel.send(&again, &[]).unwrap();
            }),
        ),
        (
            "a handshake before its random number",
            Box::new(|session| session.show(handshake.clone())),
        ),
        (
            "a second handshake",
            Box::new(|session| {
                session.server_random();
                session.show(handshake.clone());
                session.show(handshake.clone());
            }),
        ),
        (
            "one that is too long",
            Box::new(|session| {
                session.server_random();
                session.show(long(MAX_TRANSCRIPT_OCTETS + 1, 1));
            }),
        ),
        (
            "a signature that is too long",
            Box::new(|session| {
                session.server_random();
                session.show(long(1, 1025));
            }),
        ),
        (
            "a handshake within an exchange",
            Box::new(|session| {
                session.server_random();
                session.start(External, None);
                session.challenge();
                session.show(handshake.clone());
            }),
        ),
    ];
    for (name, violate) in violations {
        println!("    {name}");
        let session = rig.session();
        violate(&session);
        session.assert_ended();
        rig.log("session ended by auth");
    }
    // As long as it may be it is looked at.
    let session = rig.session();
    session.server_random();
    session.show(long(MAX_TRANSCRIPT_OCTETS, 1024));
    session.start(External, Some(b""));
    assert_eq!(session.verdict().unwrap_err(), Denial::Credentials);
    rig.assert_serves();
}

pub fn attempts_by_certificate_are_counted_and_delayed_as_others() {
    let world = World::new();
    let mut rig = rig(&world, |_| {});
    let joe = world.client("joe", &["out@example.org"]);
    let session = shaken(&mut rig, &world.parts(&joe), &joe.key);
    for _ in 0..3 {
        session.start(External, Some(b""));
        assert_eq!(session.verdict().unwrap_err(), Denial::Credentials);
    }
    session.assert_ended();
    let delay = Duration::from_millis(300);
    let mut slow = self::rig(&world, |configuration| configuration.failure_delay = delay);
    let session = shaken(&mut slow, &world.parts(&joe), &joe.key);
    let begun = Instant::now();
    session.start(External, Some(b""));
    assert_eq!(session.verdict().unwrap_err(), Denial::Credentials);
    assert!(begun.elapsed() >= delay);
}

pub fn new_certificates_take_the_place_of_the_old() {
    let world = World::new();
    let mut rig = rig(&world, |_| {});
    let joe = world.client("joe", &["joe@example.org"]);
    let begun = shaken(&mut rig, &world.parts(&joe), &joe.key);
    let newer = World {
        server: World::new().server,
        ..World::new()
    };
    newer.tell(&mut rig, HOUR);
    // The server's old certificate counts for a while, the old authority does not.
    begun.start(External, Some(b""));
    assert_eq!(begun.verdict().unwrap_err(), Denial::Credentials);
    let ann = newer.client("ann", &["ann@example.org"]);
    let by_old = Parts {
        client_chain: vec![ann.certificate.clone()],
        ..world.parts(&ann)
    };
    let session = shaken(&mut rig, &by_old, &ann.key);
    session.start(External, Some(b""));
    assert!(session.verdict().is_ok());
    rig.started();
    // And nobody's, once no file of authorities comes along.
    let own = ToAuth::OwnCertificate(newer.server.0.clone());
    rig.control.send(&own, &[]).unwrap();
    let kept = HOUR;
    let used = ToAuth::UseCertificates { kept };
    rig.control.send(&used, &[]).unwrap();
    let offered = |rig: &mut Rig| {
        let session = shaken(rig, &newer.parts(&ann), &ann.key);
        session.start(External, Some(b""));
        session.verdict().is_ok()
    };
    while offered(&mut rig) {}
    let reason = refused(&mut rig, &newer.parts(&ann), &ann.key);
    assert_eq!(reason, "mechanism not offered any more");
}

pub fn the_systems_users_are_let_in_as_shadow_and_pam_allow() {
    let world = World::new();
    let outcomes = |mut rig: Rig, users: &[&str]| {
        world.tell(&mut rig, HOUR);
        let outcome = |user: &&str| {
            let client = world.client(user, &[]);
            let session = shaken(&mut rig, &world.parts(&client), &client.key);
            session.start(External, Some(b""));
            match session.verdict() {
                Ok(_) => rig.started().0.account.name,
                Err(denial) => reason(&rig, denial),
            }
        };
        users.iter().map(outcome).collect::<Vec<_>>()
    };
    let with = |backend: Backend, service: &str| {
        system::rig(|configuration| {
            configuration.backends = vec![backend];
            configuration.pam_service = service.to_owned();
            configuration.external_user = Some(ExternalUser::CommonName);
        })
    };
    let root = "root or without a user and group of its own";
    let expired = "account or password expired, or not allowed";
    let users = [
        "joe", "locked", "empty", "expired", "aged", "toor", "stranger",
    ];
    let expected = [
        "joe",
        "account locked",
        "account locked",
        expired,
        expired,
        root,
        "unknown user",
    ];
    assert_eq!(outcomes(with(Backend::Shadow, ""), &users), expected);
    for service in ["test-unix", "test-permit", "test-deny"] {
        assert_eq!(outcomes(with(Backend::Pam, service), &users), expected);
    }
    // The account stage refuses everybody, whatever the first stage would say.
    let closed = with(Backend::Pam, "test-closed");
    assert_eq!(outcomes(closed, &["joe"]), [expired]);
}
