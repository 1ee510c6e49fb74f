//! Sessions between a client, auth, a keyholder and a maildrop process that are all played by the test, some of them
//! against the rules. The session is a thread here, and not confined.

use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use confine::channel::{Channel, Received};
use confine::handover;
use confine::sandbox::Confined;
use messages::SaslMechanism;
use messages::auth::{Attempt, Denial, Verdict};
use messages::keyholder::{Certificate, CertificateNumber, KeyKind, Signature, SignatureRequest};
use messages::log::{Logger, Record};
use messages::session::{
    Advertised, Cleartext, CleartextPolicy, Connection, HandedOver, SessionConfig, SessionId,
};
use rcgen::SigningKey;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use std::os::fd::AsFd;

use super::{Client, Job, Tls, serve};

mod relay;

const PATIENCE: Duration = Duration::from_secs(20);

/// A certificate for `mail.example.org` that vouches for itself.
struct Identity {
    key: rcgen::KeyPair,
    der: Vec<u8>,
}

impl Identity {
    fn new() -> Self {
        let key = rcgen::KeyPair::generate().unwrap();
        let parameters = rcgen::CertificateParams::new(["mail.example.org".to_owned()]).unwrap();
        let der = parameters.self_signed(&key).unwrap().der().to_vec();
        Self { key, der }
    }

    fn tls(&self) -> Tls {
        let certificate = Certificate {
            number: CertificateNumber(3),
            chain: vec![self.der.clone()],
            key: KeyKind::EcdsaP256,
            names: vec!["mail.example.org".into()],
            not_after: u64::MAX,
            end_point: Some(vec![7; 32]),
        };
        Tls::new(vec![certificate], None).unwrap()
    }

    fn client(&self, alpn: &[u8]) -> ClientConnection {
        let mut roots = RootCertStore::empty();
        roots.add(self.der.clone().into()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut configuration = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        configuration.alpn_protocols = vec![alpn.to_vec()];
        let name = ServerName::try_from("mail.example.org").unwrap();
        ClientConnection::new(Arc::new(configuration), name).unwrap()
    }
}

/// What the keyholder does when it is asked.
#[derive(Clone, Copy)]
enum Keyholder {
    Signs,
    SignsSomethingElse,
    SaysNonsense,
    Leaves,
}

/// The ends that the test holds.
struct Rig {
    identity: Arc<Identity>,
    client: UnixStream,
    auth: Channel,
    log: Channel,
    session: JoinHandle<()>,
    requests: JoinHandle<usize>,
}

fn start(implicit_tls: bool, rule: Cleartext, keyholder: Keyholder) -> Rig {
    let identity = Arc::new(Identity::new());
    let (client, theirs) = UnixStream::pair().unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    let (auth, auth_end) = Channel::pair().unwrap();
    let (log, log_end) = Channel::pair().unwrap();
    let (keys, keys_end) = Channel::pair().unwrap();
    let tls = identity.tls();
    let session = thread::spawn(move || {
        let connection = connection(implicit_tls);
        let configuration = configuration(rule);
        let logger = Logger::new(log_end);
        // A test's panics are for its runner.
        drop(std::panic::take_hook());
        let job = Job {
            connection: &connection,
            configuration: &configuration,
            auth: auth_end,
            tls: Some((&tls, keys_end)),
            logger: &logger,
            relay: None,
        };
        let deadline = Instant::now() + PATIENCE;
        let client = Client::new(theirs.into(), None, deadline);
        serve(Confined::assumed_by_test(), client, job);
    });
    let signer = Arc::clone(&identity);
    let requests = thread::spawn(move || hold_keys(&keys, &signer, keyholder));
    Rig {
        identity,
        client,
        auth,
        log,
        session,
        requests,
    }
}

fn connection(implicit_tls: bool) -> Connection {
    Connection {
        id: SessionId(7),
        peer: Some("192.0.2.1:1234".parse().unwrap()),
        local: None,
        implicit_tls,
        apop_timestamp: None,
        greeted: false,
        time_left: PATIENCE,
        separate_output: false,
        yields: false,
    }
}

fn configuration(rule: Cleartext) -> SessionConfig {
    SessionConfig {
        login_timeout: PATIENCE,
        login_attempts: 3,
        commands: 100,
        errors: 25,
        user_octets: 255,
        apop: false,
        failed_message: "no".into(),
        advertised: Advertised {
            cleartext: CleartextPolicy {
                rule,
                networks: Vec::new(),
            },
            mechanisms: vec![
                SaslMechanism::ScramSha256Plus,
                SaslMechanism::ScramSha256,
                SaslMechanism::Plain,
            ],
            login_delay: None,
            expire: None,
            implementation: None,
        },
    }
}

/// How often it was asked, until the session had let go of the channel.
fn hold_keys(channel: &Channel, identity: &Identity, behaviour: Keyholder) -> usize {
    let mut requests = 0;
    while let Ok(Received::Message(request, _)) = channel.receive::<SignatureRequest>() {
        requests += 1;
        assert_eq!(request.number, CertificateNumber(3));
        assert_eq!(request.scheme, 0x0403);
        let signature = match behaviour {
            Keyholder::Signs => identity.key.sign(&request.octets).unwrap(),
            Keyholder::SignsSomethingElse => identity.key.sign(b"something else").unwrap(),
            Keyholder::SaysNonsense => {
                // Longer than any message from a keyholder.
                rustix::net::send(channel, &[0; 4096], rustix::net::SendFlags::empty()).unwrap();
                continue;
            }
            Keyholder::Leaves => return requests,
        };
        channel.send(&Signature(signature), &[]).unwrap();
    }
    requests
}

type TlsStream = StreamOwned<ClientConnection, UnixStream>;

impl Rig {
    fn shake_hands(&mut self) -> TlsStream {
        let client = self.client.try_clone().unwrap();
        StreamOwned::new(self.identity.client(b"pop3"), client)
    }

    /// The records that the session has left.
    fn end(self) -> (Vec<Record>, usize) {
        // Other clones of it are still held.
        let _ = self.client.shutdown(std::net::Shutdown::Both);
        drop(self.auth);
        self.session.join().unwrap();
        let records = std::iter::from_fn(|| match self.log.try_receive::<Record>() {
            Ok(Some(Received::Message(record, _))) => Some(record),
            _ => None,
        });
        (records.collect(), self.requests.join().unwrap())
    }

    /// Accepts the attempt; what is returned is the maildrop process's end, and what was pipelined.
    fn accept(&self) -> (UnixStream, Vec<u8>) {
        let Ok(Received::Message(attempt, _)) = self.auth.receive::<Attempt>() else {
            panic!("no attempt");
        };
        assert!(matches!(attempt, Attempt::Password { user, password }
            if user == b"joe" && password.expose() == b"secret"));
        let (ours, theirs) = UnixStream::pair().unwrap();
        let theirs = OwnedFd::from(theirs);
        self.auth
            .send(&Verdict::Accepted, &[theirs.as_fd()])
            .unwrap();
        ours.set_read_timeout(Some(PATIENCE)).unwrap();
        let deadline = Instant::now() + PATIENCE;
        let (handed_over, descriptors) = handover::receive(ours.as_fd(), deadline).unwrap();
        assert_eq!(descriptors.len(), 0, "the stream is the client");
        let handed_over = HandedOver::decode(&handed_over).unwrap();
        assert!(!handed_over.utf8);
        (ours, handed_over.pipelined.to_vec())
    }
}

fn line(stream: &mut impl Read) -> String {
    let mut line = Vec::new();
    while !line.ends_with(b"\r\n") {
        let mut octet = [0];
        stream.read_exact(&mut octet).unwrap();
        line.push(octet[0]);
    }
    String::from_utf8(line).unwrap()
}

fn capabilities(stream: &mut (impl Read + Write)) -> Vec<String> {
    stream.write_all(b"CAPA\r\n").unwrap();
    assert!(line(stream).starts_with("+OK"));
    std::iter::from_fn(|| Some(line(stream)).filter(|line| line != ".\r\n"))
        .map(|line| line.trim_end().to_owned())
        .collect()
}

fn reasons(records: &[Record]) -> Vec<(&str, &str)> {
    records
        .iter()
        .map(|record| {
            let reason = record.fields.iter().find(|(key, _)| key == "reason");
            (
                record.event.as_str(),
                reason.map_or("", |(_, value)| value.as_str()),
            )
        })
        .collect()
}

#[test]
fn tls_begins_at_once_on_the_tls_port_and_the_session_stays_as_a_relay() {
    let mut rig = start(true, Cleartext::Never, Keyholder::Signs);
    let mut tls = rig.shake_hands();
    assert!(line(&mut tls).starts_with("+OK"));
    assert_eq!(tls.conn.alpn_protocol(), Some(b"pop3".as_slice()));
    let offered = capabilities(&mut tls);
    assert!(offered.contains(&"USER".to_owned()));
    assert!(!offered.contains(&"STLS".to_owned()));
    tls.write_all(b"STLS\r\n").unwrap();
    assert!(line(&mut tls).starts_with("-ERR"));
    tls.write_all(b"USER joe\r\nPASS secret\r\nSTAT\r\n")
        .unwrap();
    let (mut maildrop, pipelined) = rig.accept();
    assert_eq!(pipelined, b"STAT\r\n");
    maildrop.write_all(b"+OK 1 2\r\n").unwrap();
    assert_eq!(line(&mut tls), "+OK\r\n");
    assert_eq!(line(&mut tls), "+OK 1 2\r\n");
    tls.write_all(b"QUIT\r\n").unwrap();
    assert_eq!(line(&mut maildrop), "QUIT\r\n");
    maildrop.write_all(b"+OK\r\n").unwrap();
    drop(maildrop);
    assert_eq!(line(&mut tls), "+OK\r\n");
    // Without close_notify this would be an error.
    assert_eq!(tls.read(&mut [0]).unwrap(), 0);
    let (records, requests) = rig.end();
    assert_eq!(reasons(&records), [("tls", "")]);
    assert_eq!(requests, 1);
}

#[test]
fn stls_forgets_what_was_said_in_the_clear() {
    let mut rig = start(false, Cleartext::Always, Keyholder::Signs);
    let mut client = rig.client.try_clone().unwrap();
    assert!(line(&mut client).starts_with("+OK"));
    assert!(capabilities(&mut client).contains(&"STLS".to_owned()));
    client.write_all(b"USER joe\r\nSTLS\r\n").unwrap();
    assert!(line(&mut client).starts_with("+OK"));
    assert!(line(&mut client).starts_with("+OK"));
    let mut tls = rig.shake_hands();
    tls.write_all(b"PASS secret\r\n").unwrap();
    assert!(line(&mut tls).starts_with("-ERR"));
    assert!(!capabilities(&mut tls).contains(&"STLS".to_owned()));
    tls.conn.send_close_notify();
    tls.flush().unwrap();
    assert_eq!(tls.read(&mut [0]).unwrap(), 0);
    let (records, _) = rig.end();
    assert_eq!(reasons(&records), [("tls", "")]);
}

#[test]
fn what_was_pipelined_behind_pass_is_answered_if_nobody_takes_the_client() {
    let rig = start(false, Cleartext::Always, Keyholder::Signs);
    let mut client = rig.client.try_clone().unwrap();
    assert!(line(&mut client).starts_with("+OK"));
    client
        .write_all(b"USER joe\r\nPASS secret\r\nSTAT\r\nQUIT\r\n")
        .unwrap();
    assert!(line(&mut client).starts_with("+OK"));
    assert!(matches!(
        rig.auth.receive::<Attempt>(),
        Ok(Received::Message(Attempt::Password { .. }, _))
    ));
    let (gone, maildrop) = UnixStream::pair().unwrap();
    drop(gone);
    rig.auth
        .send(&Verdict::Accepted, &[maildrop.as_fd()])
        .unwrap();
    assert!(line(&mut client).starts_with("-ERR [SYS/TEMP]"));
    assert!(line(&mut client).starts_with("-ERR"), "STAT");
    assert!(line(&mut client).starts_with("+OK"), "QUIT");
    assert_eq!(client.read(&mut [0]).unwrap(), 0);
    rig.end();
}

#[test]
fn a_password_is_refused_in_the_clear_before_it_is_asked_for() {
    let rig = start(false, Cleartext::Loopback, Keyholder::Signs);
    let mut client = rig.client.try_clone().unwrap();
    assert!(line(&mut client).starts_with("+OK"));
    assert!(!capabilities(&mut client).contains(&"USER".to_owned()));
    let mut answers = Vec::new();
    for command in ["USER joe", "USER nobody", "PASS secret"] {
        client
            .write_all(format!("{command}\r\n").as_bytes())
            .unwrap();
        answers.push(line(&mut client));
    }
    assert!(answers[0].starts_with("-ERR ") && !answers[0].contains('['));
    assert!(answers.iter().all(|answer| *answer == answers[0]));
    let auth = rig.auth.try_receive::<Attempt>().unwrap();
    assert!(auth.is_none(), "auth was asked");
    rig.end();
}

#[test]
fn a_denied_login_by_tls_may_be_tried_again() {
    let mut rig = start(true, Cleartext::Never, Keyholder::Signs);
    let mut tls = rig.shake_hands();
    line(&mut tls);
    tls.write_all(b"USER joe\r\nPASS wrong\r\n").unwrap();
    assert!(matches!(
        rig.auth.receive::<Attempt>(),
        Ok(Received::Message(..))
    ));
    let denied = Verdict::Denied(Denial::Credentials);
    rig.auth.send(&denied, &[]).unwrap();
    assert_eq!(line(&mut tls), "+OK\r\n");
    assert_eq!(line(&mut tls), "-ERR [AUTH] no\r\n");
    tls.write_all(b"USER joe\r\nPASS secret\r\n").unwrap();
    rig.accept();
    assert_eq!(line(&mut tls), "+OK\r\n");
    assert_eq!(tls.read(&mut [0]).unwrap(), 0);
    rig.end();
}

#[test]
fn octets_behind_stls_are_never_taken_for_commands() {
    let input = b"STLS\r\nCAPA\r\nUSER joe\r\n";
    for cut in 1..=input.len() {
        let rig = start(false, Cleartext::Always, Keyholder::Signs);
        let mut client = rig.client.try_clone().unwrap();
        line(&mut client);
        let (first, rest) = input.split_at(cut);
        client.write_all(first).unwrap();
        // The session may have closed by now.
        let _ = client.write_all(rest);
        let mut answer = Vec::new();
        let _ = client.read_to_end(&mut answer);
        let text = String::from_utf8_lossy(&answer);
        let commands = text.matches("+OK").count();
        assert!(commands <= 1 && !text.contains("UIDL"), "{cut}: {text}");
        let (records, requests) = rig.end();
        assert_eq!(requests, 0);
        let found = reasons(&records);
        assert_eq!(found.len(), 1, "{cut}: {found:?}");
        assert_eq!(found[0].0, "connection lost", "{cut}: {found:?}");
    }
}

#[test]
fn octets_sent_with_stls_end_the_connection() {
    let rig = start(false, Cleartext::Always, Keyholder::Signs);
    let mut client = rig.client.try_clone().unwrap();
    line(&mut client);
    client.write_all(b"STLS\r\nNOOP\r\n").unwrap();
    assert!(line(&mut client).starts_with("-ERR"));
    assert_eq!(client.read(&mut [0]).unwrap(), 0);
    let (records, _) = rig.end();
    assert_eq!(
        reasons(&records),
        [("connection lost", "octets behind STLS")]
    );
}

#[test]
fn a_keyholder_against_the_rules_costs_a_handshake_and_nothing_more() {
    for behaviour in [
        Keyholder::SignsSomethingElse,
        Keyholder::SaysNonsense,
        Keyholder::Leaves,
    ] {
        let mut rig = start(true, Cleartext::Never, behaviour);
        let mut tls = rig.shake_hands();
        tls.read(&mut [0]).unwrap_err();
        // What a client does that finds the signature wrong.
        let _ = tls.flush();
        drop(tls);
        let (records, requests) = rig.end();
        assert_eq!(requests, 1);
        let found = reasons(&records);
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!(found[0].0, "connection lost");
    }
}

#[test]
fn junk_instead_of_a_handshake_ends_the_connection_with_an_alert_and_one_line() {
    for junk in [
        b"CAPA\r\n".to_vec(),
        b"GET / HTTP/1.1\r\n\r\n".repeat(10),
        vec![0; 100_000],
        vec![0x16; 100_000],
        [b"\x16\x03\x01\x40\x00".to_vec(), vec![0xFF; 100_000]].concat(),
    ] {
        let rig = start(true, Cleartext::Never, Keyholder::Signs);
        let mut client = rig.client.try_clone().unwrap();
        let _ = client.write_all(&junk);
        let mut answer = Vec::new();
        client.read_to_end(&mut answer).unwrap();
        assert!(answer.len() <= 7, "{answer:?}");
        assert!(matches!(answer.first(), None | Some(0x15)), "{answer:?}");
        let (records, requests) = rig.end();
        assert_eq!(requests, 0);
        assert_eq!(reasons(&records).len(), 1);
    }
}

#[test]
fn tls_on_a_plaintext_port_is_told_apart_from_bad_commands() {
    let mut rig = start(false, Cleartext::Always, Keyholder::Signs);
    let mut tls = rig.shake_hands();
    tls.read(&mut [0]).unwrap_err();
    let (records, _) = rig.end();
    let found = reasons(&records);
    assert!(
        found[0].1.starts_with("TLS on a plaintext port"),
        "{found:?}"
    );
}

#[test]
fn another_protocol_by_alpn_is_refused() {
    let rig = start(true, Cleartext::Never, Keyholder::Signs);
    let client = rig.client.try_clone().unwrap();
    let mut tls = StreamOwned::new(rig.identity.client(b"http/1.1"), client);
    tls.read(&mut [0]).unwrap_err();
    let (_, requests) = rig.end();
    assert_eq!(requests, 0);
}

/// Gives what it is asked to write on in single octets.
struct Drip(UnixStream);

impl Read for Drip {
    fn read(&mut self, space: &mut [u8]) -> io::Result<usize> {
        self.0.read(space)
    }
}

impl Write for Drip {
    fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        self.0.write(&octets[..octets.len().min(1)])
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_handshake_in_single_octets_is_one() {
    let rig = start(true, Cleartext::Never, Keyholder::Signs);
    let drip = Drip(rig.client.try_clone().unwrap());
    let mut tls = StreamOwned::new(rig.identity.client(b"pop3"), drip);
    assert!(line(&mut tls).starts_with("+OK"));
    assert!(!capabilities(&mut tls).is_empty());
    drop(tls);
    rig.end();
}

#[test]
fn a_line_without_an_end_is_listened_to_slowly() {
    let mut rig = start(false, Cleartext::Always, Keyholder::Signs);
    assert!(line(&mut rig.client).starts_with("+OK"));
    // No more between the two ends than is dropped in seconds; twice as much is sent.
    rustix::net::sockopt::set_socket_send_buffer_size(&rig.client, 80 * 1024).unwrap();
    rig.client.set_nonblocking(true).unwrap();
    let began = Instant::now();
    let mut sent = 0;
    while let Ok(octets) = rig.client.write(&[b'x'; 4096]) {
        sent += octets;
    }
    rig.client.set_nonblocking(false).unwrap();
    rig.client.write_all(&vec![b'x'; sent]).unwrap();
    let pauses = (sent / super::DROPPED_AT_ONCE) as u32;
    assert!(pauses > 2, "{sent}");
    assert!(
        began.elapsed() >= super::PAUSE * (pauses - 2),
        "{sent} in {:?}",
        began.elapsed()
    );
    rig.client.write_all(b"\r\nCAPA\r\n").unwrap();
    assert!(line(&mut rig.client).starts_with("-ERR"));
    assert!(line(&mut rig.client).starts_with("+OK"));
    rig.end();
}
