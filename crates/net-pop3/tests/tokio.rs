//! What is particular to the tokio driver: cancellation, and that sessions can move between threads.
#![cfg(feature = "tokio")]

use std::time::Duration;

use net_pop3::tokio::{Pop3, Session};
use net_pop3::{Credentials, ErrorKind, Phase, Security, Timeouts, TlsOptions, Transaction};
use scripted_server::certificate::CERTIFICATES;
use scripted_server::{Mailbox, Server, serve};
use tokio::io::AsyncReadExt;
use tokio::time::timeout;

async fn enter(server: &Server) -> Session<Transaction> {
    Pop3::builder()
        .host("127.0.0.1")
        .port(server.port())
        .security(Security::Plain)
        .connect()
        .await
        .unwrap()
        .login(&Credentials::password("mrose", "tanstaaf"))
        .await
        .unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sessions_move_between_threads() {
    let mut mailbox = Mailbox::many(50, 10_000);
    mailbox.implicit_tls = true;
    let server = mailbox.start();
    let tls = TlsOptions::nobody()
        .add_ca_pem(CERTIFICATES.ca.as_bytes())
        .unwrap();
    let fetched = tokio::spawn(async move {
        let builder = Pop3::builder()
            .host("localhost")
            .port(server.port())
            .tls(tls);
        let session = builder.connect().await.unwrap();
        let mut session = session
            .login(&Credentials::password("mrose", "tanstaaf"))
            .await
            .unwrap();
        let listing = session.listing().await.unwrap();
        let mut messages = session.retr_all(&listing);
        let mut all = Vec::new();
        while let Some(message) = messages.next_message().await {
            let mut octets = Vec::new();
            message.unwrap().read_to_end(&mut octets).await.unwrap();
            all.push(octets);
        }
        session.dele_all(&listing).await.unwrap();
        session.quit().await.unwrap();
        all
    });
    let expected: Vec<Vec<u8>> = Mailbox::many(50, 10_000)
        .messages()
        .into_iter()
        .map(|m| m.octets)
        .collect();
    assert!(fetched.await.unwrap() == expected);
    assert!(mailbox.messages().is_empty());
}

#[tokio::test]
async fn a_future_dropped_at_any_moment_leaves_the_session_usable() {
    let mailbox = Mailbox::many(40, 3000);
    let server = mailbox.start();
    let expected = mailbox.messages();
    let mut session = enter(&server).await;
    let listing = session.listing().await.unwrap();
    for micros in (0..2000).step_by(20) {
        let fetch = async {
            let mut messages = session.retr_all(&listing);
            while let Some(message) = messages.next_message().await {
                message.unwrap().to_vec().await.unwrap();
            }
            session.list_all().await.unwrap();
        };
        let _ = timeout(Duration::from_micros(micros), fetch).await;
        let message = session.retr(7).await.unwrap().to_vec().await.unwrap();
        assert!(message == expected[6].octets, "after {micros} microseconds");
    }
    assert!(!mailbox.heard().iter().any(|line| line == "QUIT"));
    session.quit().await.unwrap();
}

#[tokio::test]
async fn a_cancelled_turn_of_a_batch_is_taken_up_again() {
    let mailbox = Mailbox::many(60, 3000);
    let server = mailbox.start();
    let mut session = enter(&server).await;
    let listing = session.listing().await.unwrap();
    let mut messages = session.retr_all(&listing);
    let mut numbers = Vec::new();
    loop {
        // Too short for most turns; the next one goes on where it was.
        match timeout(Duration::from_micros(30), messages.next_message()).await {
            Ok(None) => break,
            Ok(Some(message)) => numbers.push(message.unwrap().number().value()),
            Err(_) => (),
        }
    }
    assert_eq!(numbers, (1..=60).collect::<Vec<_>>());
}

#[tokio::test]
async fn waiting_has_an_end() {
    let server = serve(|mut stream| {
        let _ = std::io::Read::read_to_end(&mut stream, &mut Vec::new());
    });
    let short = Duration::from_millis(50);
    let timeouts = Timeouts {
        greeting: short,
        handshake: short,
        ..Timeouts::default()
    };
    let builder = Pop3::builder()
        .host("127.0.0.1")
        .port(server.port())
        .timeouts(timeouts);
    let error = builder
        .clone()
        .security(Security::Plain)
        .connect()
        .await
        .unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::TimedOut) && error.phase() == Phase::Greeting);
    let tls = TlsOptions::nobody()
        .add_ca_pem(CERTIFICATES.ca.as_bytes())
        .unwrap();
    let error = builder.tls(tls).connect().await.unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::TimedOut) && error.phase() == Phase::Tls);
}

#[tokio::test]
async fn hosts_are_tried_in_turn() {
    let server = Mailbox::sample().start();
    let here = format!("127.0.0.1:{}", server.port());
    let builder = Pop3::builder()
        .hosts(["127.0.0.1:1", "no-such-host.invalid", &here])
        .security(Security::Plain);
    assert_eq!(
        builder.connect().await.unwrap().peer_addr(),
        server.address()
    );
}
