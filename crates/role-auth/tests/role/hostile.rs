//! Sessions, and a session spawner, that do what they must not; the end of the others.

use std::os::fd::AsFd;

use confine::channel::{Channel, Message, Received};
use confine::process;
use messages::auth::{Attempt, Denial, NewSession, ToAuth, Verdict};
use messages::{SaslMechanism, SessionId};
use rustix::net::{SendFlags, send};
use serde::{Deserialize, Serialize};

use crate::rig::{Rig, Session, configuration, field, wait_for, write_private};

/// Anything at all, with a descriptor.
#[derive(Serialize, Deserialize)]
struct WithDescriptor(Vec<u8>);

impl Message for WithDescriptor {
    const MAX_OCTETS: usize = 64;

    fn descriptors(&self) -> usize {
        1
    }
}

const PLAIN: SaslMechanism = SaslMechanism::Plain;

/// Its name, and how it is done.
type Violation = (&'static str, fn(&Session));

fn send_octets(session: &Session, octets: &[u8]) {
    send(&session.channel, octets, SendFlags::empty()).unwrap();
}

pub fn every_violation_ends_its_session_and_no_other() {
    let violations: [Violation; 17] = [
        ("undecodable", |session| send_octets(session, &[0xFF; 16])),
        ("no such mechanism", |session| {
            send_octets(session, &[7, 0, 0])
        }),
        ("octets left over", |session| {
            send_octets(session, &[0, 1, b'a', 1, b'b', 0])
        }),
        ("cut short", |session| send_octets(session, &[0, 200, b'a'])),
        ("oversized", |session| {
            send_octets(session, &[0; Attempt::MAX_OCTETS + 1]);
        }),
        ("huge", |session| send_octets(session, &[0; 100_000])),
        ("with a descriptor", |session| {
            let message = WithDescriptor(vec![0; 4]);
            session
                .channel
                .send(&message, &[session.lease.as_fd()])
                .unwrap();
        }),
        ("two at once", |session| {
            session.send("slow", "a");
            session.send("slow", "b");
        }),
        ("a SASL response without a start", |session| {
            session.respond(b"")
        }),
        ("a SASL cancel without a start", |session| session.cancel()),
        ("a response behind the end", |session| {
            session.start(PLAIN, Some(b"no PLAIN"));
            assert_eq!(session.verdict().unwrap_err(), Denial::Malformed);
            session.respond(b"");
        }),
        ("a response that nobody waits for", |session| {
            session.start(PLAIN, Some(b"\0slow\0a"));
            session.respond(b"");
        }),
        ("a cancel while a worker looks", |session| {
            session.start(PLAIN, Some(b"\0slow\0a"));
            session.cancel();
        }),
        ("a second start", |session| {
            session.start(PLAIN, None);
            assert_eq!(session.challenge(), b"");
            session.start(PLAIN, None);
        }),
        ("a password within an exchange", |session| {
            session.start(PLAIN, None);
            assert_eq!(session.challenge(), b"");
            session.send("joe", "secret");
        }),
        ("a response longer than any", |session| {
            session.start(PLAIN, None);
            assert_eq!(session.challenge(), b"");
            // The variant's number, a length of 65 KiB and as many octets.
            let mut octets = vec![3, 0x80, 0x88, 4];
            octets.resize(65 * 1024 + 4, b'x');
            assert!(octets.len() > Attempt::MAX_OCTETS);
            send_octets(session, &octets);
        }),
        ("APOP without a timestamp", |session| {
            session.send_apop("joe", "c4c9334bac560ecc979e58001b3e22fb");
        }),
    ];
    let ids = crate::rig::ids();
    let hash = crate::rig::CHEAP_HASH;
    let users = format!("joe:{hash}:{ids}\nslow:$6$rounds=2000000$salt$/:{ids}\n");
    let mut rig = Rig::with_users(&users, |_| {});
    // It was there before, and must not notice anything.
    let bystander = rig.session();
    for (name, violate) in violations {
        println!("    {name}");
        let session = rig.session();
        violate(&session);
        session.assert_ended();
        let record = rig.log("session ended by auth");
        assert_eq!(
            field(&record, "session"),
            Some(session.id.to_string().as_str())
        );
        assert_eq!(field(&record, "peer"), Some("192.0.2.1"));
        rig.assert_serves();
    }
    bystander.send("joe", "secret");
    assert!(bystander.verdict().is_ok());
}

pub fn a_session_that_leaves_in_the_middle_harms_nobody() {
    let mut rig = Rig::new(|_| {});
    drop(rig.session());
    let session = rig.session();
    session.send("joe", "wrong");
    drop(session.channel);
    // The guess counts for the log all the same.
    assert_eq!(field(&rig.log("login failed"), "user"), Some("joe"));
    crate::rig::assert_released(&session.lease);
    rig.assert_serves();
}

pub fn a_bad_announcement_ends_the_session_spawners_channel() {
    let mut rig = Rig::new(|_| {});
    let bystander = rig.session();
    send(&rig.session_spawner, &[0xFF; 64], SendFlags::empty()).unwrap();
    wait_for(&rig.session_spawner);
    let closed = rig.session_spawner.try_receive::<Verdict>();
    assert!(matches!(closed, Ok(Some(Received::Closed))));
    assert_eq!(
        field(&rig.log("bad message"), "from"),
        Some("session spawner")
    );
    bystander.send("joe", "secret");
    assert!(bystander.verdict().is_ok());
    rig.started();

    let (ours, theirs) = Channel::pair().unwrap();
    rig.control
        .send(&ToAuth::SessionSpawner, &[theirs.as_fd()])
        .unwrap();
    rig.session_spawner = ours;
    // What is announced with something else than a channel is not taken, and that is all.
    let (end, _other) = rustix::pipe::pipe().unwrap();
    let announced = NewSession {
        id: SessionId(99),
        peer: None,
        local: None,
        apop_timestamp: None,
    };
    rig.session_spawner
        .send(&announced, &[end.as_fd(), end.as_fd()])
        .unwrap();
    assert_eq!(field(&rig.log("session not taken"), "session"), Some("63"));
    rig.assert_serves();
}

pub fn a_dead_spawner_is_temporary_and_a_new_one_serves() {
    let mut rig = Rig::new(|_| {});
    let (ours, theirs) = Channel::pair().unwrap();
    rig.spawner = ours;
    let session = rig.session();
    for _ in 0..2 {
        session.send("joe", "secret");
        assert_eq!(session.verdict().unwrap_err(), Denial::Temporary);
        rig.log("login not possible");
        let noted = rustix::io::ioctl_fionread(&session.lease);
        assert_eq!(noted, Ok(0), "nobody has logged in");
    }
    rig.control
        .send(&ToAuth::Spawner, &[theirs.as_fd()])
        .unwrap();
    session.send("joe", "secret");
    assert!(session.verdict().is_ok());
    session.assert_login_noted();
}

pub fn a_lease_that_takes_no_note_holds_nobody_up() {
    let mut rig = Rig::new(|_| {});
    let (lease, holder) = rustix::pipe::pipe().unwrap();
    rustix::pipe::fcntl_setpipe_size(&holder, 4096).unwrap();
    rustix::io::write(&holder, &[0; 4096]).unwrap();
    let session = rig.session_with_lease(lease, holder);
    session.send("joe", "secret");
    assert!(session.verdict().is_ok());
    rig.assert_serves();
}

pub fn sessions_outlive_the_master() {
    let mut rig = Rig::new(|_| {});
    let early = rig.session();
    let late = rig.session();
    let (gone, _other) = Channel::pair().unwrap();
    rig.control = gone;
    early.send("joe", "secret");
    assert!(early.verdict().is_ok());
    assert_eq!(rig.started().0.account.name, "joe");
    late.send("joe", "wrong");
    assert_eq!(late.verdict().unwrap_err(), Denial::Credentials);
    late.send("joe", "secret");
    assert!(late.verdict().is_ok());
    // The last has logged in: there is nothing left to be done.
    assert_eq!(process::wait(rig.pid).unwrap().code(), Some(0));
}

pub fn a_reload_counts_for_sessions_that_are_there() {
    let mut rig = Rig::new(|_| {});
    let session = rig.session();
    session.send("new", "secret");
    assert_eq!(session.verdict().unwrap_err(), Denial::Credentials);
    let mut changed = configuration(rig.directory.path());
    changed.users_file = rig.directory.path().join("others");
    changed.workers = 1;
    let line = format!("new:{}:{}\n", crate::rig::CHEAP_HASH, crate::rig::ids());
    write_private(&changed.users_file, &line);
    rig.control
        .send(&ToAuth::Reload(Box::new(changed)), &[])
        .unwrap();
    // Announced behind the reload on another channel: what the next login says is not known, but the one after it is.
    while rig.log_in("joe", "secret").is_ok() {}
    session.send("new", "secret");
    assert!(session.verdict().is_ok());
}
