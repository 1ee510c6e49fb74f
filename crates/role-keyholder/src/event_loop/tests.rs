//! The keyholder between a master, a session spawner and sessions that are played by the test; the sessions do what they
//! like. The keyholder is a thread here, and not confined.

use std::fs::File;
use std::io::{Seek, Write};
use std::os::fd::AsFd;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use confine::channel::{Channel, Received};
use confine::socket;
use messages::SessionId;
use messages::keyholder::{
    CertificateNumber, FromKeyholder, KeyholderConfig, NewSigner, Signature, SignatureRequest,
    ToKeyholder,
};
use messages::log::{Logger, Record};
use ring::signature::{ECDSA_P256_SHA256_ASN1, UnparsedPublicKey};

use super::EventLoop;

const NUMBER: CertificateNumber = CertificateNumber(5);
const ECDSA_P256: u16 = 0x0403;

struct Rig {
    master: Channel,
    spawner: Channel,
    log: Channel,
    public_key: Vec<u8>,
    keyholder: JoinHandle<()>,
}

fn start(signatures_per_second: u32) -> Rig {
    let (master, control) = Channel::pair().unwrap();
    let (log, log_end) = Channel::pair().unwrap();
    for channel in [&master, &log] {
        // A test that waits in vain fails.
        socket::set_timeouts(channel.as_fd(), Some(Duration::from_secs(20))).unwrap();
    }
    let keyholder = thread::spawn(move || {
        let logger = Logger::new(log_end);
        // A test's panics are for its runner.
        drop(std::panic::take_hook());
        let configuration = KeyholderConfig {
            signatures_per_second,
        };
        EventLoop::new(&control, logger, configuration)
            .unwrap()
            .run()
            .unwrap();
    });
    let (spawner, theirs) = Channel::pair().unwrap();
    master
        .send(&ToKeyholder::SessionSpawner, &[theirs.as_fd()])
        .unwrap();
    let public_key = load(&master, NUMBER);
    Rig {
        master,
        spawner,
        log,
        public_key,
        keyholder,
    }
}

/// Has a new certificate loaded, and returns its public key.
fn load(master: &Channel, number: CertificateNumber) -> Vec<u8> {
    let key = rcgen::KeyPair::generate().unwrap();
    let parameters = rcgen::CertificateParams::new(["mail.example.org".to_owned()]).unwrap();
    let certificate = parameters.self_signed(&key).unwrap();
    let file = |text: &str| {
        let mut file: File = tempfile::tempfile().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        file.rewind().unwrap();
        file
    };
    let (chain, secret) = (file(&certificate.pem()), file(&key.serialize_pem()));
    master
        .send(&ToKeyholder::Load(number), &[chain.as_fd(), secret.as_fd()])
        .unwrap();
    match master.receive::<FromKeyholder>() {
        Ok(Received::Message(FromKeyholder::Loaded { outcome, .. }, _)) => {
            assert_eq!(outcome.unwrap().number, number);
        }
        other => panic!("{other:?}"),
    }
    key.public_key_raw().to_vec()
}

impl Rig {
    fn session(&self, id: u64) -> Channel {
        let (ours, theirs) = Channel::pair().unwrap();
        let announced = NewSigner {
            id: SessionId(id),
            peer: None,
        };
        self.spawner.send(&announced, &[theirs.as_fd()]).unwrap();
        socket::set_timeouts(ours.as_fd(), Some(Duration::from_secs(20))).unwrap();
        ours
    }

    /// Why the session `id` was ended.
    fn reason(&self, id: u64) -> String {
        let Ok(Received::Message(record, _)) = self.log.receive::<Record>() else {
            panic!("nothing was logged");
        };
        assert_eq!(record.event, "session ended by keyholder");
        assert_eq!(record.fields[0].1, SessionId(id).to_string());
        record.fields.last().unwrap().1.clone()
    }

    /// Ends the keyholder; nothing more may have been logged.
    fn end(self) {
        drop((self.master, self.spawner));
        self.keyholder.join().unwrap();
        let more = self.log.try_receive::<Record>();
        assert!(
            matches!(more, Ok(None | Some(Received::Closed))),
            "{more:?}"
        );
    }
}

fn digest() -> Vec<u8> {
    let mut octets = vec![b' '; 64];
    octets.extend_from_slice(b"TLS 1.3, server CertificateVerify\0");
    octets.extend_from_slice(&[0xAB; 32]);
    octets
}

fn request() -> SignatureRequest {
    SignatureRequest {
        number: NUMBER,
        scheme: ECDSA_P256,
        octets: digest(),
    }
}

fn answer(session: &Channel) -> Option<Vec<u8>> {
    match session.receive::<Signature>().unwrap() {
        Received::Message(Signature(signature), _) => Some(signature),
        Received::Closed => None,
    }
}

#[test]
fn a_session_gets_one_signature_and_no_second() {
    let rig = start(100);
    let session = rig.session(1);
    session.send(&request(), &[]).unwrap();
    let signature = answer(&session).unwrap();
    UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, &rig.public_key)
        .verify(&digest(), &signature)
        .unwrap();
    session.send(&request(), &[]).unwrap();
    assert_eq!(answer(&session), None);
    assert_eq!(rig.reason(1), "more than one signature");
    rig.end();
}

#[test]
fn what_breaks_the_rules_ends_that_session_with_one_line_and_no_other() {
    let rig = start(100);
    let honest = rig.session(99);
    let with = |change: fn(&mut SignatureRequest)| {
        let mut request = request();
        change(&mut request);
        request
    };
    for (id, request, reason) in [
        (
            1,
            with(|request| request.octets = b"anything".to_vec()),
            "asked to sign something else",
        ),
        (
            2,
            with(|request| request.octets.push(0)),
            "asked to sign something else",
        ),
        (
            3,
            with(|request| request.octets.clear()),
            "asked to sign something else",
        ),
        (
            4,
            with(|request| request.number = CertificateNumber(6)),
            "asked for a key that is not there",
        ),
        (
            5,
            with(|request| request.scheme = 0x0804),
            "asked for a scheme that the key has not",
        ),
    ] {
        let session = rig.session(id);
        session.send(&request, &[]).unwrap();
        assert_eq!(answer(&session), None);
        assert_eq!(rig.reason(id), reason);
    }
    honest.send(&request(), &[]).unwrap();
    assert!(answer(&honest).is_some());
    drop(honest);
    rig.end();
}

#[test]
fn what_is_no_message_ends_that_session() {
    let rig = start(100);
    for (id, octets) in [(1, vec![0xFF; 4]), (2, vec![0; 4096])] {
        let session = rig.session(id);
        rustix::net::send(&session, &octets, rustix::net::SendFlags::empty()).unwrap();
        assert_eq!(answer(&session), None);
        assert!(!rig.reason(id).is_empty());
    }
    rig.end();
}

#[test]
fn a_descriptor_with_a_request_ends_that_session() {
    let rig = start(100);
    let session = rig.session(1);
    // Any message type that encodes as the request does, and announces a descriptor.
    #[derive(serde::Serialize, serde::Deserialize)]
    struct WithDescriptor(SignatureRequest);
    impl confine::channel::Message for WithDescriptor {
        const MAX_OCTETS: usize = 1024;
        fn descriptors(&self) -> usize {
            1
        }
    }
    let file = tempfile::tempfile().unwrap();
    session
        .send(&WithDescriptor(request()), &[file.as_fd()])
        .unwrap();
    assert_eq!(answer(&session), None);
    assert!(rig.reason(1).contains("descriptors"));
    rig.end();
}

#[test]
fn more_than_the_rate_waits_and_is_answered() {
    let rig = start(2);
    let sessions: Vec<_> = (1..=4).map(|id| rig.session(id)).collect();
    let began = Instant::now();
    for session in &sessions {
        session.send(&request(), &[]).unwrap();
    }
    for session in &sessions {
        assert!(answer(session).is_some());
    }
    // Two at once, and one more each half second; the bucket was filled a little earlier.
    assert!(began.elapsed() >= Duration::from_millis(700));
    drop(sessions);
    rig.end();
}

#[test]
fn a_new_key_stands_beside_the_old_until_that_has_retired() {
    let rig = start(100);
    let newer = CertificateNumber(6);
    load(&rig.master, newer);
    let old = rig.session(1);
    let retire = |kept| {
        let message = ToKeyholder::Retire {
            number: NUMBER,
            kept,
        };
        rig.master.send(&message, &[]).unwrap();
        // An answered load shows that the order before it has been taken.
        load(&rig.master, CertificateNumber(7));
    };
    retire(Duration::from_secs(3600));
    old.send(&request(), &[]).unwrap();
    assert!(answer(&old).is_some());
    retire(Duration::ZERO);
    let late = rig.session(2);
    late.send(&request(), &[]).unwrap();
    assert_eq!(answer(&late), None);
    assert_eq!(rig.reason(2), "asked for a key that is not there");
    let with_newer = rig.session(3);
    let mut request = request();
    request.number = newer;
    with_newer.send(&request, &[]).unwrap();
    assert!(answer(&with_newer).is_some());
    drop((old, with_newer));
    rig.end();
}

#[test]
fn without_a_master_sessions_that_are_there_still_get_their_signature() {
    let rig = start(100);
    let session = rig.session(1);
    drop((rig.master, rig.spawner));
    session.send(&request(), &[]).unwrap();
    assert!(answer(&session).is_some());
    drop(session);
    rig.keyholder.join().unwrap();
}
