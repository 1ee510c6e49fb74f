//! Sessions that stay after the login to pass octets between a client by TLS and its maildrop process.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::{Duration, Instant};

use super::{Cleartext, Keyholder, Rig, TlsStream, line, reasons, start};

/// Logged in, and past the answer to USER.
fn logged_in() -> (Rig, TlsStream, UnixStream) {
    let mut rig = start(true, Cleartext::Never, Keyholder::Signs);
    let mut tls = rig.shake_hands();
    line(&mut tls);
    tls.write_all(b"USER joe\r\nPASS secret\r\n").unwrap();
    let (maildrop, pipelined) = rig.accept();
    assert_eq!(pipelined, b"");
    line(&mut tls);
    (rig, tls, maildrop)
}

#[test]
fn a_connection_that_is_cut_off_is_seen_as_that() {
    let (rig, tls, mut maildrop) = logged_in();
    drop(tls);
    rig.client.shutdown(std::net::Shutdown::Both).unwrap();
    assert_eq!(maildrop.read(&mut [0]).unwrap(), 0, "no UPDATE");
    drop(maildrop);
    let (records, _) = rig.end();
    assert_eq!(
        reasons(&records),
        [
            ("tls", ""),
            ("connection lost", "closed without TLS's close_notify")
        ]
    );
}

#[test]
fn a_connection_that_the_client_ends_as_tls_wants_it_is_nothing_to_log() {
    let (rig, mut tls, mut maildrop) = logged_in();
    tls.conn.send_close_notify();
    tls.flush().unwrap();
    assert_eq!(maildrop.read(&mut [0]).unwrap(), 0);
    drop(maildrop);
    assert_eq!(tls.read(&mut [0]).unwrap(), 0);
    let (records, _) = rig.end();
    assert_eq!(reasons(&records), [("tls", "")]);
}

#[test]
fn mail_of_any_size_passes_unchanged() {
    let (rig, mut tls, mut maildrop) = logged_in();
    let mail: Vec<u8> = (0..3_000_000_u32).map(|at| (at % 251) as u8).collect();
    let sent = mail.clone();
    let sender = thread::spawn(move || {
        maildrop.write_all(&sent).unwrap();
    });
    let mut received = Vec::new();
    tls.read_to_end(&mut received).unwrap();
    assert!(received == mail);
    sender.join().unwrap();
    rig.end();
}

#[test]
fn commands_of_any_number_pass_unchanged() {
    let (rig, mut tls, mut maildrop) = logged_in();
    let commands = b"NOOP\r\n".repeat(50_000);
    let sent = commands.clone();
    let sender = thread::spawn(move || {
        tls.write_all(&sent).unwrap();
        tls.conn.send_close_notify();
        tls.flush().unwrap();
        tls
    });
    let mut received = Vec::new();
    maildrop.read_to_end(&mut received).unwrap();
    assert!(received == commands);
    drop(maildrop);
    drop(sender.join().unwrap());
    rig.end();
}

/// Writes until nothing more is taken, and says how much was.
fn fill(stream: &UnixStream, mut write: impl FnMut() -> io::Result<usize>) -> usize {
    stream.set_nonblocking(true).unwrap();
    let (mut taken, mut idle) = (0, Instant::now());
    while idle.elapsed() < Duration::from_millis(300) {
        match write() {
            Ok(octets) => {
                taken += octets;
                idle = Instant::now();
            }
            Err(error) => {
                assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
                thread::yield_now();
            }
        }
    }
    stream.set_nonblocking(false).unwrap();
    taken
}

/// What two sockets hold, far below what is offered: the relay itself holds a tenth of it.
const MAX_HELD: usize = 1024 * 1024;

#[test]
fn a_client_that_takes_nothing_costs_bounded_memory() {
    let (rig, tls, maildrop) = logged_in();
    let block = [b'x'; 64 * 1024];
    let taken = fill(&maildrop, || (&maildrop).write(&block));
    assert!((1..MAX_HELD).contains(&taken), "{taken}");
    drop(tls);
    drop(maildrop);
    rig.end();
}

#[test]
fn a_maildrop_process_that_takes_nothing_costs_bounded_memory() {
    let (rig, mut tls, maildrop) = logged_in();
    tls.conn.set_buffer_limit(Some(16 * 1024));
    let socket = rig.client.try_clone().unwrap();
    let taken = fill(&socket, || tls.write(&[b'x'; 4096]));
    assert!((1..MAX_HELD).contains(&taken), "{taken}");
    drop(maildrop);
    drop(tls);
    rig.end();
}

#[test]
fn what_cannot_be_sent_any_more_does_not_keep_the_session() {
    let (rig, tls, maildrop) = logged_in();
    fill(&maildrop, || (&maildrop).write(&[b'x'; 64 * 1024]));
    // Both sides at once: nobody is left to relay for.
    drop(maildrop);
    drop(tls);
    let (records, _) = rig.end();
    assert_eq!(records.len(), 1, "{records:?}");
}
