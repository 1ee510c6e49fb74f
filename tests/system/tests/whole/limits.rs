//! Limits on connections and logins: refused with a short `-ERR` and a close, never with a hang.

use std::net::IpAddr;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use system_tests::corpus;
use system_tests::poll;
use system_tests::pop::Pop;
use system_tests::site::{Setup, Site};
use system_tests::users::{ALICE, BOB};

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

#[test]
fn sessions_in_all_are_limited() {
    let setup = Setup::new()
        .set("limits", "sessions", "3")
        .set("limits", "source_hold", r#""0s""#);
    setup.as_ordinary_user(|site| {
        let _server = site.serve();
        let mut held: Vec<Pop> = (1..=3)
            .map(|n| expect_greeted(Pop::dial_from(source(n), site.address)))
            .collect();
        expect_refused(Pop::dial_from(source(4), site.address));
        // One that has logged in counts as one that has not.
        held[0].login(ALICE.name, ALICE.password);
        expect_refused(Pop::dial_from(source(4), site.address));
        held[0].ok("QUIT");
        held.remove(0).expect_closed();
        greeted_in_the_end(site, source(4));
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
        assert!(
            took[0] >= Duration::from_millis(150) && took[1] >= took[0],
            "{took:?}"
        );
        assert!(took[1] >= Duration::from_millis(300), "{took:?}");
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
        let before = server.processes().len();
        let _silent: Vec<Pop> = (0..300).map(|_| site.connect()).collect();
        assert_eq!(server.processes().len(), before, "processes");
        site.login(ALICE).ok("STAT");
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
