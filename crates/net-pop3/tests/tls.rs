//! TLS: who is trusted, when it begins, and what never goes out without it.

use std::io::{Read, Write};
use std::net::TcpStream;

use net_pop3::blocking::{Builder, Pop3};
use net_pop3::{
    Credentials, ErrorKind, Fingerprint, Mechanism, ProtocolError, Security, TlsOptions,
};
use scripted_server::certificate::{CERTIFICATES, Certificates};
use scripted_server::{Mailbox, Server, serve};

fn to(server: &Server, security: Security) -> Builder {
    Pop3::builder()
        .host("localhost")
        .port(server.port())
        .security(security)
        .tls(trusting())
}

fn trusting() -> TlsOptions {
    TlsOptions::nobody()
        .add_ca_pem(CERTIFICATES.ca.as_bytes())
        .unwrap()
}

fn right() -> Credentials {
    Credentials::password("mrose", "tanstaaf")
}

fn implicit() -> Mailbox {
    let mut mailbox = Mailbox::sample();
    mailbox.implicit_tls = true;
    mailbox
}

fn with_stls() -> Mailbox {
    let mut mailbox = Mailbox::sample();
    mailbox.stls = true;
    mailbox
}

#[test]
fn implicit_and_after_stls() {
    for (mailbox, security) in [
        (implicit(), Security::Tls),
        (with_stls(), Security::Starttls),
        (with_stls(), Security::StarttlsIfOffered),
    ] {
        let session = to(&mailbox.start(), security).connect().unwrap();
        assert!(session.is_tls());
        let mut session = session.login(&right()).unwrap();
        assert_eq!(
            session.retr(1).unwrap().to_vec().unwrap(),
            mailbox.messages()[0].octets
        );
        session.quit().unwrap();
    }
}

#[test]
fn large_messages_come_through_tls_whole() {
    let mut mailbox = Mailbox::many(3, 3_000_000);
    mailbox.implicit_tls = true;
    let mut session = to(&mailbox.start(), Security::Tls)
        .connect()
        .unwrap()
        .login(&right())
        .unwrap();
    let listing = session.listing().unwrap();
    let mut messages = session.retr_all(&listing);
    for expected in mailbox.messages() {
        assert!(messages.next_message().unwrap().unwrap().to_vec().unwrap() == expected.octets);
    }
}

#[test]
fn octets_injected_behind_stls_are_an_error_before_any_credential() {
    for injected in [
        &b"+OK logged in\r\n"[..],
        b"\0",
        b"+OK\r\n+OK\r\n",
        b"-ERR x\r\n",
    ] {
        let mut mailbox = with_stls();
        mailbox.injected = injected;
        let server = mailbox.start();
        for security in [Security::Starttls, Security::StarttlsIfOffered] {
            let error = to(&server, security).connect().unwrap_err();
            assert!(
                matches!(
                    error.kind(),
                    ErrorKind::Protocol(ProtocolError::PlaintextBehindStls)
                ),
                "{error:?}"
            );
        }
        assert_eq!(mailbox.heard(), ["STLS", "STLS"]);
    }
}

#[test]
fn octets_injected_a_moment_later_break_the_handshake() {
    let server = serve(|mut stream: TcpStream| {
        let _ = stream.write_all(b"+OK\r\n");
        let _ = stream.read(&mut [0; 100]);
        let _ = stream.write_all(b"+OK\r\n");
        // The client's hello shows that it has taken the reply for all there is.
        let _ = stream.read(&mut [0; 4096]);
        let _ = stream.write_all(b"+OK logged in\r\n");
        let _ = stream.read_to_end(&mut Vec::new());
    });
    let error = to(&server, Security::Starttls).connect().unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Tls(_)), "{error:?}");
}

#[test]
fn without_stls_nothing_secret_is_said() {
    let mailbox = Mailbox::sample();
    let server = mailbox.start();
    let error = to(&server, Security::Starttls).connect().unwrap_err();
    assert!(
        matches!(error.kind(), ErrorKind::TlsNotOffered),
        "{error:?}"
    );
    assert_eq!(mailbox.heard(), ["STLS"]);
    // On loopback nobody can listen.
    let session = to(&server, Security::StarttlsIfOffered).connect().unwrap();
    assert!(!session.is_tls() && session.peer_addr().ip().is_loopback());
    session.login(&right()).unwrap();
}

#[test]
fn a_stranger_is_told_by_its_fingerprint_and_can_be_pinned() {
    let server = implicit().start();
    let fingerprint = Fingerprint::of(&CERTIFICATES.der());
    let strangers = [
        TlsOptions::platform(),
        TlsOptions::nobody().pin_sha256(Fingerprint::of(b"another")),
    ];
    for tls in strangers {
        let error = to(&server, Security::Tls).tls(tls).connect().unwrap_err();
        match error.kind() {
            ErrorKind::Certificate {
                fingerprint: told, ..
            } => assert_eq!(*told, fingerprint),
            other => panic!("{other:?}"),
        }
        assert!(error.to_string().contains(&fingerprint.to_string()));
    }
    let pinned = TlsOptions::nobody().pin_sha256(fingerprint);
    assert!(
        to(&server, Security::Tls)
            .tls(pinned)
            .connect()
            .unwrap()
            .is_tls()
    );
}

#[test]
fn a_certificate_for_another_name_is_refused() {
    let other = Certificates::for_names(&["pop.example.org"]);
    let ca = TlsOptions::nobody()
        .add_ca_pem(other.ca.as_bytes())
        .unwrap();
    let server = serve(move |mut stream| {
        let mut tls = rustls::ServerConnection::new(other.server_config(false)).unwrap();
        // The client breaks it off.
        let _ = tls.complete_io(&mut stream);
    });
    let error = to(&server, Security::Tls).tls(ca).connect().unwrap_err();
    assert!(
        matches!(error.kind(), ErrorKind::Certificate { .. }),
        "{error:?}"
    );
}

#[test]
fn a_client_certificate_is_shown_and_logs_in() {
    let mut mailbox = implicit();
    mailbox.asks_certificate = true;
    mailbox.capabilities = vec!["SASL EXTERNAL PLAIN"];
    let server = mailbox.start();
    let identity = trusting()
        .client_certificate(
            CERTIFICATES.certificate.as_bytes(),
            CERTIFICATES.key.as_bytes(),
        )
        .unwrap();
    let connect = || {
        to(&server, Security::Tls)
            .tls(identity.clone())
            .connect()
            .unwrap()
    };
    connect()
        .login(&Credentials::external())
        .unwrap()
        .quit()
        .unwrap();
    connect()
        .auth(Mechanism::External, &Credentials::external())
        .unwrap()
        .quit()
        .unwrap();
    assert!(mailbox.heard().contains(&"AUTH EXTERNAL =".to_owned()));
    // Without one the server hangs up.
    assert!(to(&server, Security::Tls).connect().is_err());
}

#[test]
fn stls_may_come_later() {
    let server = with_stls().start();
    let mut session = to(&server, Security::Plain).connect().unwrap();
    assert!(!session.is_tls());
    session.stls().unwrap();
    assert!(session.is_tls());
    session.login(&right()).unwrap();
}

#[test]
fn capabilities_are_asked_for_again_after_stls() {
    let mailbox = with_stls();
    let server = mailbox.start();
    let mut session = to(&server, Security::Plain).connect().unwrap();
    session.capa().unwrap();
    session.stls().unwrap();
    session.capa().unwrap();
    assert_eq!(mailbox.heard(), ["CAPA", "STLS", "CAPA"]);
}
