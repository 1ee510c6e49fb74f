//! What broken and hostile clients send: a clear error or a clean close, and the server lives on.

use rustix::net::sockopt;
use std::net::TcpStream;
use std::time::{Duration, Instant};
use system_tests::corpus;
use system_tests::poll;
use system_tests::pop::Pop;
use system_tests::processes::Process;
use system_tests::server::Server;
use system_tests::site::{Setup, Site};
use system_tests::users::ALICE;

/// What all processes of the server together may hold in memory of their own while one client behaves badly: a debug
/// build's roles start at about a fifth of it.
const MAX_SERVER_KIB: u64 = 32 * 1024;

/// A server with some mail; afterwards a well-behaved session must still work.
fn survived(setup: Setup, attack: impl FnOnce(&Site, &Server) + Send) {
    setup.as_ordinary_user(|site| {
        site.deliver(ALICE, &corpus::mbox(&corpus::many(3)));
        let server = site.serve();
        attack(site, &server);
        let mut pop = poll::until("a login after the attack", || {
            let mut pop = site.connect();
            pop.ok(&format!("USER {}", ALICE.name));
            pop.ask(&format!("PASS {}", ALICE.password))
                .ok
                .then_some(pop)
        });
        assert!(pop.ok("STAT").starts_with("3 "));
        pop.ok("QUIT");
        let resident: u64 = server
            .processes()
            .into_iter()
            .map(Process::resident_kib)
            .sum();
        assert!(resident < MAX_SERVER_KIB, "{resident} KiB");
    });
}

#[test]
fn a_line_of_a_megabyte_is_one_error_in_either_state() {
    survived(Setup::new(), |site, server| {
        let mut pop = site.connect();
        let line = [vec![b'A'; 1 << 20], b"\r\n".to_vec()].concat();
        pop.send(&line);
        assert!(!pop.reply().ok);
        // A command at the end of a long line is not a command.
        pop.send(&[vec![b' '; 4096], b"QUIT\r\n".to_vec()].concat());
        assert!(!pop.reply().ok);
        pop.login(ALICE.name, ALICE.password);
        pop.send(&line);
        assert!(!pop.reply().ok);
        pop.ok("NOOP");
        let resident: u64 = server
            .processes()
            .into_iter()
            .map(Process::resident_kib)
            .sum();
        assert!(resident < MAX_SERVER_KIB, "{resident} KiB");
    });
}

#[test]
fn an_endless_line_costs_no_memory() {
    // It is read slowly; the time for a login is its end.
    let setup = Setup::new().set("limits", "login_timeout", r#""4s""#);
    survived(setup, |site, server| {
        let mut pop = site.connect();
        let block = vec![b'A'; 1 << 20];
        for _ in 0..64 {
            if !pop.try_send(&block) {
                break;
            }
        }
        let resident: u64 = server
            .processes()
            .into_iter()
            .map(Process::resident_kib)
            .sum();
        assert!(resident < MAX_SERVER_KIB, "{resident} KiB");
    });
}

#[test]
fn nul_and_bare_cr_make_a_command_an_error() {
    survived(Setup::new(), |site, _| {
        let mut pop = site.connect();
        for command in [
            b"USER al\0ice\r\n".as_slice(),
            b"\0\r\n",
            b"US\rER alice\r\n",
            b"\r\r\n",
            b"\xff\xfe\r\n",
        ] {
            pop.send(command);
            assert!(!pop.reply().ok, "{}", command.escape_ascii());
        }
        pop.login(ALICE.name, ALICE.password);
        for command in [b"DELE 1\0\r\n".as_slice(), b"DELE\r1\r\n", b"DELE 1\r\r\n"] {
            pop.send(command);
            assert!(!pop.reply().ok, "{}", command.escape_ascii());
        }
        assert!(pop.ok("STAT").starts_with("3 "));
    });
}

#[test]
fn ten_thousand_commands_at_once_are_answered_in_order() {
    survived(Setup::new(), |site, _| {
        let mut pop = site.login(ALICE);
        let commands: String = (0..10_000)
            .map(|n| format!("LIST {}\r\n", 1 + n % 3))
            .collect();
        pop.send(commands.as_bytes());
        for n in 0..10_000 {
            let reply = pop.reply();
            assert!(
                reply.ok && reply.text.starts_with(&format!("{} ", 1 + n % 3)),
                "{n}: {}",
                reply.text
            );
        }
    });
}

#[test]
fn ten_thousand_commands_before_login_end_the_connection() {
    survived(Setup::new(), |site, _| {
        let mut pop = site.connect();
        pop.try_send("NOOP\r\n".repeat(10_000).as_bytes());
        let mut replies = 0;
        while let Some(reply) = pop.try_reply() {
            assert!(!reply.ok);
            replies += 1;
        }
        assert!(replies < 1_000, "{replies} replies");
    });
}

#[test]
fn quit_in_pieces_is_quit() {
    survived(Setup::new(), |site, _| {
        let mut pop = site.login(ALICE);
        for octet in b"QUIT\r\n" {
            pop.send(&[*octet]);
            pop.arrived(Duration::from_millis(5));
        }
        assert!(pop.reply().ok);
        pop.expect_closed();
    });
}

#[test]
fn a_half_closed_connection_gets_its_replies() {
    survived(Setup::new(), |site, _| {
        let mut pop = site.connect();
        let commands = format!(
            "USER {}\r\nPASS {}\r\nSTAT\r\nRETR 1\r\n",
            ALICE.name, ALICE.password
        );
        pop.send(commands.as_bytes());
        pop.half_close();
        assert!(pop.reply().ok && pop.reply().ok && pop.reply().ok && pop.reply().ok);
        pop.lines();
        pop.expect_closed();
    });
}

#[test]
fn half_a_command_at_the_end_of_a_connection_is_none() {
    survived(Setup::new(), |site, _| {
        let mut pop = site.login(ALICE);
        pop.ok("DELE 1");
        pop.send(b"QUIT");
        pop.half_close();
        pop.expect_closed();
    });
}

#[test]
fn a_client_that_resets_the_connection_leaves_nothing_behind() {
    survived(Setup::new(), |site, server| {
        site.login(ALICE).ok("QUIT");
        server.await_no_children();
        let idle = server.processes().len();
        for _ in 0..20 {
            let stream = TcpStream::connect(site.address).expect("a connection");
            rustix::io::write(&stream, format!("USER {}\r\nPA", ALICE.name).as_bytes())
                .expect("written");
            sockopt::set_socket_linger(&stream, Some(Duration::ZERO)).expect("a reset at close");
        }
        poll::until("the sessions' end", || {
            (server.processes().len() == idle).then_some(())
        });
    });
}

#[test]
fn a_client_that_never_reads_costs_no_memory_and_no_time_of_others() {
    Setup::new().as_ordinary_user(|site| {
        site.deliver(ALICE, &corpus::mbox(&[corpus::big()]));
        let server = site.serve();
        let mut pop = site.login(ALICE);
        // Far more than socket buffers hold; half of it is never even read by the server.
        let stream = "RETR 1\r\n".repeat(64);
        pop.send(stream.as_bytes());
        let started = Instant::now();
        system_tests::site::age(&site.mailbox(ALICE));
        let mut other = site.connect();
        other.login(
            system_tests::users::BOB.name,
            system_tests::users::BOB.password,
        );
        other.ok("QUIT");
        assert!(
            started.elapsed() < Duration::from_secs(5),
            "another client waited {:?}",
            started.elapsed()
        );
        let resident: u64 = server
            .processes()
            .into_iter()
            .map(Process::resident_kib)
            .sum();
        assert!(resident < MAX_SERVER_KIB, "{resident} KiB");
    });
}

#[test]
fn too_many_errors_end_the_connection() {
    survived(Setup::new().set("limits", "errors", "5"), |site, _| {
        let mut pop = site.login(ALICE);
        pop.ok("DELE 1");
        pop.try_send("XYZZY\r\n".repeat(50).as_bytes());
        let replies = std::iter::from_fn(|| pop.try_reply()).count();
        assert!((5..=6).contains(&replies), "{replies} replies");
    });
}

#[test]
fn silence_before_login_is_cut_short() {
    survived(
        Setup::new().set("limits", "login_timeout", r#""300ms""#),
        |site, _| {
            for sent in ["", "US", "USER alice\r\n"] {
                let mut pop = site.connect();
                pop.send(sent.as_bytes());
                if sent.ends_with('\n') {
                    assert!(pop.reply().ok);
                }
                pop.expect_closed();
            }
        },
    );
}

#[test]
fn octets_one_by_one_do_not_outlast_the_login_time() {
    survived(
        Setup::new().set("limits", "login_timeout", r#""500ms""#),
        |site, _| {
            let mut pop: Pop = site.connect();
            let started = Instant::now();
            while pop.try_send(b"x") && started.elapsed() < Duration::from_secs(10) {
                pop.arrived(Duration::from_millis(20));
            }
            assert!(
                started.elapsed() < Duration::from_secs(5),
                "{:?}",
                started.elapsed()
            );
        },
    );
}

#[test]
fn a_connection_that_ends_at_any_octet_leaves_nothing_behind_and_deletes_nothing() {
    let setup = Setup::new().set("limits", "sessions_per_source", "1000");
    setup.as_ordinary_user(|site| {
        let mail = corpus::many(2);
        let session = format!(
            "USER {}\r\nPASS {}\r\nDELE 1\r\nQUIT",
            ALICE.name, ALICE.password
        );
        site.deliver(ALICE, &corpus::mbox(&mail));
        let server = site.serve();
        site.login(ALICE).ok("QUIT");
        server.await_no_children();
        let idle = server.processes().len();
        for sent in 0..=session.len() {
            for reset in [false, true] {
                let stream = TcpStream::connect(site.address).expect("a connection");
                rustix::io::write(&stream, &session.as_bytes()[..sent]).expect("written");
                if reset {
                    sockopt::set_socket_linger(&stream, Some(Duration::ZERO))
                        .expect("a reset at close");
                }
            }
        }
        poll::until("the end of every process", || {
            (server.processes().len() == idle).then_some(())
        });
        let left = std::fs::read(site.mailbox(ALICE)).expect("the mailbox");
        assert!(left == corpus::mbox(&mail), "deleted without QUIT");
        site.login(ALICE).ok("QUIT");
    });
}

#[test]
fn a_session_is_the_same_wherever_it_is_cut_into_packets() {
    let setup = Setup::new().set("limits", "sessions_per_source", "1000");
    setup.as_ordinary_user(|site| {
        let mail = corpus::many(2);
        site.deliver(ALICE, &corpus::mbox(&mail));
        let _server = site.serve();
        let session = format!(
            "USER {}\r\nPASS {}\r\nRETR 2\r\nQUIT\r\n",
            ALICE.name, ALICE.password
        );
        for cut in 1..session.len() {
            let mut pop = site.connect();
            pop.send(&session.as_bytes()[..cut]);
            pop.arrived(Duration::from_millis(3));
            pop.send(&session.as_bytes()[cut..]);
            assert!(
                pop.reply().ok && pop.reply().ok && pop.reply().ok,
                "cut at {cut}"
            );
            assert!(pop.lines() == mail[1].sent, "cut at {cut}");
            assert!(pop.reply().ok, "cut at {cut}");
            pop.expect_closed();
        }
    });
}
