//! Limits on connections and logins: refused with a short `-ERR` and a close, never with a hang.

use std::fs::{self, File};
use std::io::Write;
use std::net::IpAddr;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use system_tests::corpus;
use system_tests::poll;
use system_tests::pop::Pop;
use system_tests::site::{Setup, Site};
use system_tests::users::{ALICE, BOB, CAROL};

/// The n-th loopback address of IPv4: any of 127/8 may be a source.
fn source(n: u8) -> IpAddr {
    [127, 0, 0, n].into()
}

fn expect_refused(mut pop: Pop) {
    let started = Instant::now();
    assert!(!pop.reply().ok);
    pop.half_close();
    pop.expect_closed();
    assert!(
        started.elapsed() < Duration::from_secs(5),
        "{:?}",
        started.elapsed()
    );
}

fn expect_greeted(mut pop: Pop) -> Pop {
    let greeting = pop.reply();
    assert!(greeting.ok, "{}", greeting.text);
    pop
}

/// Connections are counted out when the server has seen their end, so the next may come too early.
fn greeted_in_the_end(site: &Site, from: IpAddr) -> Pop {
    poll::until("a connection within the limits", || {
        let mut pop = Pop::dial_from(from, site.address);
        pop.reply().ok.then_some(pop)
    })
}

/// So many connections in all; those that have ended do not count against their sources.
fn with_sessions(sessions: u32) -> Setup {
    Setup::new()
        .set("limits", "sessions", &sessions.to_string())
        .set("limits", "source_hold", r#""0s""#)
}

#[test]
fn sessions_in_all_are_limited() {
    with_sessions(3).as_ordinary_user(|site| {
        let _server = site.serve();
        let mut held: Vec<Pop> = [ALICE, BOB, CAROL]
            .iter()
            .zip(1..)
            .map(|(user, n)| {
                let mut pop = expect_greeted(Pop::dial_from(source(n), site.address));
                pop.login(user.name, user.password);
                pop
            })
            .collect();
        // All have logged in, and are left in peace, whoever comes.
        for _ in 0..20 {
            expect_refused(Pop::dial_from(source(4), site.address));
        }
        for pop in &mut held {
            pop.ok("NOOP");
        }
        held[0].ok("QUIT");
        held.remove(0).expect_closed();
        greeted_in_the_end(site, source(4));
    });
}

#[test]
fn a_newcomer_takes_the_place_of_the_oldest_that_has_not_logged_in() {
    with_sessions(3).as_ordinary_user(|site| {
        let server = site.serve();
        let mut logged_in = expect_greeted(Pop::dial_from(source(1), site.address));
        logged_in.login(ALICE.name, ALICE.password);
        // A silent one and one that has a session; both are told or closed, never left hanging.
        let silent = expect_greeted(Pop::dial_from(source(2), site.address));
        let mut speaking = expect_greeted(Pop::dial_from(source(3), site.address));
        speaking.ok(&format!("USER {}", BOB.name));
        let mut third = expect_greeted(Pop::dial_from(source(4), site.address));
        expect_refused(silent);
        let mut fourth = expect_greeted(Pop::dial_from(source(5), site.address));
        speaking.expect_closed();
        // Those that came last can log in.
        fourth.login(BOB.name, BOB.password);
        third.login(CAROL.name, CAROL.password);
        expect_refused(Pop::dial_from(source(6), site.address));
        for mut pop in [logged_in, third, fourth] {
            pop.ok("QUIT");
            pop.expect_closed();
        }
        let ended = server.await_log("who has gone", |line| {
            line.contains("connection ended") && line.contains("oldest not logged in")
        });
        assert!(ended.contains("peer=127.0.0.2"), "{ended}");
        // To end a session is no defect.
        assert!(!server.log().contains("session died"), "{}", server.log());
    });
}

#[test]
fn the_source_with_most_connections_that_have_not_logged_in_gives_way() {
    with_sessions(6).as_ordinary_user(|site| {
        let _server = site.serve();
        let connect = |n| {
            let mut pop = expect_greeted(Pop::dial_from(source(n), site.address));
            pop.ok("CAPA");
            pop.lines();
            pop
        };
        // Two users of one address have logged in, and two of its connections have not.
        let users = [ALICE, BOB].map(|user| {
            let mut pop = connect(1);
            pop.login(user.name, user.password);
            pop
        });
        let mut patient = connect(1);
        let mut greedy: Vec<Pop> = (0..3).map(|_| connect(2)).collect();
        let _newcomer = connect(3);
        greedy.remove(0).expect_closed();
        // It has two, and whoever has one already can do without another.
        expect_refused(Pop::dial_from(source(3), site.address));
        expect_refused(Pop::dial_from(source(2), site.address));
        for pop in &mut greedy {
            pop.ok("USER nobody");
        }
        let _another = connect(4);
        greedy.remove(0).expect_closed();
        patient.login(CAROL.name, CAROL.password);
        for mut pop in users {
            pop.ok("NOOP");
        }
    });
}

#[test]
fn a_polite_client_is_served_while_others_hold_all_sessions() {
    with_sessions(20).as_root(|site| {
        let _server = site.serve();
        let mut held: Vec<Pop> = (0..60)
            .map(|n| Pop::dial_from(source(2 + n % 5), site.address))
            .collect();
        for (n, pop) in held.iter_mut().enumerate() {
            if n % 2 == 0 {
                pop.try_send(b"USER nobody\r\n");
            }
        }
        for n in 0..30 {
            let mut pop = expect_greeted(Pop::dial_from(source(100 + n), site.address));
            pop.login(ALICE.name, ALICE.password);
            pop.ok("QUIT");
            pop.expect_closed();
        }
    });
}

#[test]
fn sessions_per_source_are_limited() {
    let setup = Setup::new().set("limits", "sessions_per_source", "2").set(
        "limits",
        "source_hold",
        r#""0s""#,
    );
    setup.as_ordinary_user(|site| {
        let _server = site.serve();
        let first = expect_greeted(Pop::dial_from(source(2), site.address));
        let _second = expect_greeted(Pop::dial_from(source(2), site.address));
        expect_refused(Pop::dial_from(source(2), site.address));
        expect_greeted(Pop::dial_from(source(3), site.address));
        drop(first);
        greeted_in_the_end(site, source(2));
    });
}

#[test]
fn a_short_connection_counts_for_a_while() {
    let setup = Setup::new().set("limits", "sessions_per_source", "2").set(
        "limits",
        "source_hold",
        r#""2s""#,
    );
    setup.as_ordinary_user(|site| {
        let _server = site.serve();
        let began = Instant::now();
        for _ in 0..2 {
            let mut pop = expect_greeted(Pop::dial_from(source(2), site.address));
            pop.ok("QUIT");
            pop.expect_closed();
        }
        expect_refused(Pop::dial_from(source(2), site.address));
        greeted_in_the_end(site, source(2));
        assert!(
            began.elapsed() >= Duration::from_secs(2),
            "held for {:?}",
            began.elapsed()
        );
    });
}

#[test]
fn exempt_networks_have_no_limit_per_source() {
    let setup = Setup::new().set("limits", "sessions_per_source", "1").set(
        "limits",
        "exempt",
        r#"["127.0.0.8/30"]"#,
    );
    setup.as_ordinary_user(|site| {
        let _server = site.serve();
        let _held: Vec<Pop> = (0..5)
            .map(|_| expect_greeted(Pop::dial_from(source(9), site.address)))
            .collect();
        let _one = expect_greeted(Pop::dial_from(source(2), site.address));
        expect_refused(Pop::dial_from(source(2), site.address));
    });
}

#[test]
fn networks_are_allowed_and_denied() {
    let setup = Setup::new()
        .set("limits", "allow", r#"["127.0.0.0/28"]"#)
        .set("limits", "deny", r#"["127.0.0.4/32"]"#);
    setup.as_ordinary_user(|site| {
        let _server = site.serve();
        expect_greeted(Pop::dial_from(source(3), site.address));
        expect_refused(Pop::dial_from(source(4), site.address));
        expect_refused(Pop::dial_from(source(99), site.address));
    });
}

#[test]
fn login_attempts_are_limited_and_ever_slower() {
    let setup = Setup::new().set("auth", "failure_delay", r#""150ms""#);
    setup.as_ordinary_user(|site| {
        let _server = site.serve();
        let mut pop = site.connect();
        let mut took = Vec::new();
        for _ in 0..3 {
            pop.ok(&format!("USER {}", ALICE.name));
            let began = Instant::now();
            let refused = pop.ask("PASS wrong");
            assert_eq!((refused.ok, refused.code()), (false, Some("AUTH")));
            took.push(began.elapsed());
        }
        pop.expect_closed();
        // No comparison between them: a busy machine may add more to the first than the second takes.
        for (took, least) in took.iter().zip([150, 300, 600]) {
            assert!(
                *took >= Duration::from_millis(least),
                "{took:?}, not {least} ms"
            );
        }
    });
}

#[test]
fn one_attempt_is_the_originals_behaviour() {
    let setup =
        Setup::new()
            .set("limits", "login_attempts", "1")
            .set("auth", "failure_delay", r#""1ms""#);
    setup.as_ordinary_user(|site| {
        let _server = site.serve();
        let mut pop = site.connect();
        pop.ok(&format!("USER {}", ALICE.name));
        pop.err("PASS wrong");
        pop.expect_closed();
    });
}

#[test]
fn a_slow_failure_delays_nobody_else() {
    let setup = Setup::new().set("auth", "failure_delay", r#""20s""#);
    setup.as_ordinary_user(|site| {
        let _server = site.serve();
        let mut slow: Vec<Pop> = (0..8).map(|_| site.connect()).collect();
        for pop in &mut slow {
            pop.ok(&format!("USER {}", ALICE.name));
            pop.send_line("PASS wrong");
        }
        let began = Instant::now();
        site.login(BOB).ok("QUIT");
        assert!(
            began.elapsed() < Duration::from_secs(5),
            "{:?}",
            began.elapsed()
        );
    });
}

#[test]
fn maildrops_with_too_many_messages_or_octets_are_refused() {
    for (key, value) in [("messages", "5"), ("octets", "500")] {
        Setup::new()
            .set("limits", key, value)
            .as_ordinary_user(|site| {
                site.deliver(ALICE, &corpus::mbox(&corpus::many(5)));
                let server = site.serve();
                site.login(ALICE).ok("QUIT");
                site.deliver(ALICE, &corpus::mbox(&corpus::many(12)));
                let refused = poll::until("the refusal", || {
                    let mut pop = site.connect();
                    pop.ok(&format!("USER {}", ALICE.name));
                    let reply = pop.ask(&format!("PASS {}", ALICE.password));
                    (reply.code() != Some("IN-USE")).then_some(reply)
                });
                assert!(!refused.ok, "{key}");
                assert_ne!(refused.code(), Some("AUTH"), "the password was right");
                server.await_log("the refusal", |line| {
                    line.contains(ALICE.name) && line.contains("maildrop")
                });
            });
    }
}

#[test]
fn a_mailbox_that_grows_beyond_its_limit_during_a_session_is_not_updated() {
    let before = corpus::mbox(&corpus::many(5));
    let added = corpus::mbox(&corpus::many(1));
    let whole = [before.as_slice(), &added].concat();
    for allowed in [false, true] {
        let limit = if allowed { whole.len() } else { before.len() };
        Setup::new()
            .set("limits", "octets", &before.len().to_string())
            .set("limits", "work_octets", &limit.to_string())
            .as_ordinary_user(|site| {
                site.deliver(ALICE, &before);
                let server = site.serve();
                let mut pop = site.login(ALICE);
                pop.ok("DELE 1");
                let mut mailbox = File::options()
                    .append(true)
                    .open(site.mailbox(ALICE))
                    .expect("the mailbox");
                mailbox.write_all(&added).expect("new mail");
                let reply = pop.ask("QUIT");
                pop.expect_closed();
                let left = fs::read(site.mailbox(ALICE)).expect("the mailbox");
                if allowed {
                    assert!(reply.ok && left.len() < whole.len() && left.ends_with(&added));
                } else {
                    assert_eq!((reply.ok, reply.code()), (false, Some("SYS/TEMP")));
                    assert!(left == whole);
                    server.await_log("the reason", |line| line.contains("grown to"));
                }
            });
    }
}

#[test]
fn refusals_are_logged_at_a_bounded_rate() {
    let setup = Setup::new().set("limits", "sessions_per_source", "1");
    setup.as_ordinary_user(|site| {
        let server = site.serve();
        let _held = expect_greeted(Pop::dial_from(source(2), site.address));
        for _ in 0..200 {
            expect_refused(Pop::dial_from(source(2), site.address));
        }
        server.await_log("a refusal", |line| line.contains("connection refused"));
        let lines = server
            .log()
            .lines()
            .filter(|line| line.contains("connection refused"))
            .count();
        assert!(lines <= 3, "{lines} lines for 200 refusals");
    });
}

#[test]
fn many_silent_connections_cost_no_process() {
    let setup =
        Setup::new()
            .set("limits", "sessions", "2000")
            .set("limits", "sessions_per_source", "2000");
    setup.as_ordinary_user(|site| {
        let server = site.serve();
        site.login(ALICE).ok("QUIT");
        server.await_no_children();
        let before = server.processes().len();
        let _silent: Vec<Pop> = (0..300).map(|_| site.connect()).collect();
        assert_eq!(server.processes().len(), before, "processes");
        site.login(ALICE).ok("STAT");
    });
}

#[test]
fn sources_whose_connections_lead_to_nothing_are_served_at_a_pace() {
    let setup = Setup::new().set("limits", "sessions_per_source", "200");
    setup.as_ordinary_user(|site| {
        let _server = site.serve();
        let speak_and_go = || {
            let mut pop = expect_greeted(Pop::dial_from(source(2), site.address));
            assert!(!pop.ask("NOOP").ok);
        };
        let began = Instant::now();
        for _ in 0..100 {
            speak_and_go();
        }
        // All but a few, twenty milliseconds apart.
        assert!(
            began.elapsed() >= Duration::from_millis(1900),
            "{:?}",
            began.elapsed()
        );
        // They are served all the same, and so are users who share the address, and others.
        for from in [source(2), source(3)] {
            let mut pop = expect_greeted(Pop::dial_from(from, site.address));
            pop.login(ALICE.name, ALICE.password);
            pop.ok("QUIT");
            pop.expect_closed();
        }
    });
}

#[test]
fn sessions_of_sources_whose_connections_lead_to_nothing_let_others_go_first() {
    let setup = Setup::new().set("limits", "sessions_per_source", "200");
    setup.as_ordinary_user(|site| {
        let server = site.serve();
        let niceness = |title: &str| {
            let processes = server.processes();
            let found = processes.iter().find(|process| process.title() == title);
            found.and_then(|process| process.niceness())
        };
        let speak = |from| {
            let mut pop = expect_greeted(Pop::dial_from(from, site.address));
            assert!(!pop.ask("NOOP").ok);
            pop
        };
        for _ in 0..4 {
            drop(speak(source(2)));
        }
        for (from, expected) in [(source(2), 10), (source(3), 0)] {
            server.await_no_children();
            let mut pop = speak(from);
            assert_eq!(niceness("popa3d: session"), Some(expected), "{from}");
            // What follows a login is like any other.
            pop.login(ALICE.name, ALICE.password);
            pop.ok("STAT");
            assert_eq!(niceness("popa3d: maildro"), Some(0), "{from}");
        }
    });
}

#[test]
fn logins_succeed_while_a_flood_is_handed_on() {
    // Sockets in flight between two roles are counted by user in the kernel (ETOOMANYREFS), so that a flood could take
    // from all sessions the right to pass theirs on.
    let setup = Setup::new()
        .set("limits", "sessions", "1000")
        .set("limits", "sessions_per_source", "300")
        .set("limits", "source_hold", r#""0s""#);
    setup.as_root(|site| {
        let _server = site.serve();
        let over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    let flood = (0..300).map(|_| Pop::dial_from(source(2), site.address));
                    for mut pop in flood.collect::<Vec<_>>() {
                        pop.try_send(b"USER nobody\r\n");
                    }
                }
            });
            let logins = std::panic::catch_unwind(AssertUnwindSafe(|| {
                for _ in 0..60 {
                    let mut pop = site.login(ALICE);
                    pop.ok("QUIT");
                    pop.expect_closed();
                }
            }));
            over.store(true, Ordering::Relaxed);
            logins.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        });
    });
}
