//! The rules that servers get wrong, over the wire, by their numbers in the list they come from; the strict client
//! checks rules 1, 2 and 14 in every other test too.

use std::fs;
use std::time::Duration;
use system_tests::corpus::{self, Message};
use system_tests::pop::Pop;
use system_tests::site::Setup;
use system_tests::users::{ALICE, BOB, DAVE};

/// Every command of the TRANSACTION state, right and wrong.
const EVERYTHING: [&str; 20] = [
    "STAT",
    "LIST",
    "LIST 1",
    "LIST 99",
    "UIDL",
    "UIDL 1",
    "UIDL 0",
    "TOP 1 1",
    "TOP 1",
    "NOOP",
    "LAST",
    "DELE 1",
    "DELE 1",
    "RSET",
    "CAPA",
    "USER alice",
    "PASS x",
    "RETR",
    "XYZZY",
    "",
];

/// A server with Alice's `mail`, and her session.
fn with_mail(mail: &[Message], body: impl FnOnce(Pop) + Send) {
    Setup::new()
        .set("limits", "errors", "1000")
        .as_ordinary_user(|site| {
            site.deliver(ALICE, &corpus::mbox(mail));
            let _server = site.serve();
            body(site.login(ALICE));
        });
}

/// Failed logins without the delay that is due in earnest.
fn quick_failures() -> Setup {
    Setup::new()
        .set("auth", "failure_delay", r#""1ms""#)
        .set("limits", "login_attempts", "100")
}

#[test]
fn rule_1_a_status_is_ok_or_err_and_nothing_else() {
    with_mail(&corpus::many(3), |mut pop| {
        for command in EVERYTHING {
            let lines =
                ["LIST", "UIDL", "CAPA"].contains(&command) || command.starts_with("TOP 1 ");
            if pop.ask(command).ok && lines {
                pop.lines();
            }
        }
        pop.ok("QUIT");
        pop.expect_closed();
    });
}

#[test]
fn rule_2_every_line_ends_crlf_and_dots_are_doubled() {
    // Every body of up to four octets that could confuse somebody, one message each.
    let letters = [b'\r', b'\n', b'.', 0, b'F'];
    let mut bodies: Vec<Vec<u8>> = vec![Vec::new()];
    for length in 1..=4 {
        for word in 0..letters.len().pow(length) {
            let octet = |place| letters[word / letters.len().pow(place) % letters.len()];
            bodies.push((0..length).map(octet).collect());
        }
    }
    let message = |(number, body): (usize, &Vec<u8>)| {
        let header = format!("Message-ID: <{number}@example.org>\n\n").into_bytes();
        Message::new("short", [header.as_slice(), body].concat())
    };
    let mail: Vec<Message> = bodies.iter().enumerate().map(message).collect();
    with_mail(&mail, |mut pop| {
        let commands: String = (1..=mail.len())
            .map(|n| format!("RETR {n}\r\nTOP {n} 9\r\n"))
            .collect();
        pop.send(commands.as_bytes());
        for (message, body) in mail.iter().zip(&bodies) {
            for _ in ["RETR", "TOP"] {
                assert!(pop.reply().ok);
                let sent = pop.lines();
                assert!(
                    sent == message.sent,
                    "{}: {}",
                    body.escape_ascii(),
                    sent.escape_ascii()
                );
            }
        }
    });
}

#[test]
fn rule_3_an_idle_client_is_dropped_without_a_word_and_without_update() {
    let setup = Setup::new().set("limits", "idle_timeout", r#""300ms""#);
    setup.as_ordinary_user(|site| {
        site.deliver(ALICE, &corpus::mbox(&corpus::many(2)));
        let _server = site.serve();
        let mut pop = site.login(ALICE);
        pop.ok("DELE 1");
        pop.expect_closed();
        let mut pop = site.login(ALICE);
        assert!(pop.ok("STAT").starts_with("2 "));
    });
}

#[test]
fn rule_4_a_maildrop_has_one_session_at_a_time() {
    Setup::new().as_ordinary_user(|site| {
        site.deliver(ALICE, &corpus::mbox(&corpus::many(2)));
        site.deliver(BOB, &corpus::mbox(&corpus::many(1)));
        let _server = site.serve();
        let mut first = site.login(ALICE);
        let mut second = site.connect();
        second.ok(&format!("USER {}", ALICE.name));
        let refused = second.ask(&format!("PASS {}", ALICE.password));
        assert_eq!((refused.ok, refused.code()), (false, Some("IN-USE")));
        site.login(BOB).ok("STAT");
        assert!(
            first.ok("STAT").starts_with("2 "),
            "the first session goes on"
        );
        first.ok("QUIT");
        first.expect_closed();
        site.login(ALICE).ok("STAT");
    });
}

#[test]
fn rule_5_numbers_are_strict() {
    with_mail(&corpus::many(3), |mut pop| {
        let wrong = [
            "0",
            "4",
            "-1",
            "+1",
            "01x",
            "1x",
            "x",
            "1.0",
            "0x1",
            "1e0",
            "2147483648",
            "4294967297",
            "9223372036854775808",
            "18446744073709551617",
            "1\t",
            "\t1",
            "1\0",
            "\0",
            "1 1",
            "１",
        ];
        let long = "1".repeat(200);
        for number in wrong.into_iter().chain([long.as_str()]) {
            for command in ["LIST", "UIDL", "RETR", "DELE"] {
                pop.err(&format!("{command} {number}"));
            }
            pop.err(&format!("TOP {number} 0"));
        }
        for lines in ["-1", "x", "1x", "", "+0"] {
            pop.err(&format!("TOP 1 {lines}"));
        }
        assert!(pop.ok("STAT").starts_with("3 "), "nothing was deleted");
        pop.ok("DELE 1");
        assert!(pop.ok("LIST 2").starts_with("2 "), "numbers stay");
    });
}

#[test]
fn rule_6_deleted_messages_are_gone_from_every_listing() {
    let mail = corpus::many(4);
    with_mail(&mail, |mut pop| {
        pop.ok("DELE 2");
        for command in ["LIST 2", "UIDL 2", "RETR 2", "TOP 2 0", "DELE 2"] {
            pop.err(command);
        }
        let left: usize = [0, 2, 3]
            .iter()
            .map(|index: &usize| mail[*index].sent.len())
            .sum();
        assert_eq!(pop.ok("STAT"), format!("3 {left}"));
        for command in ["LIST", "UIDL"] {
            let numbers: Vec<String> = pop
                .list(command)
                .iter()
                .filter_map(|line| Some(line.split_once(' ')?.0.to_owned()))
                .collect();
            assert_eq!(numbers, ["1", "3", "4"]);
        }
        pop.ok("RSET");
        pop.ok("RETR 2");
        pop.lines();
        assert!(pop.ok("STAT").starts_with("4 "));
    });
}

#[test]
fn rule_7_sizes_are_the_octets_sent() {
    let mail = corpus::nasty();
    with_mail(&mail, |mut pop| {
        let listed = pop.list("LIST");
        let mut total = 0;
        for (number, line) in (1..).zip(&listed) {
            let octets = pop.listing(&format!("RETR {number}")).len();
            assert_eq!(*line, format!("{number} {octets}"));
            total += octets;
        }
        assert_eq!(pop.ok("STAT"), format!("{} {total}", mail.len()));
    });
}

#[test]
fn rule_8_top_sends_the_header_the_empty_line_and_so_many_lines() {
    let header = "Message-ID: <1@example.org>\nSubject: folded\n over lines\n\n";
    let mail = [
        Message::new("body", format!("{header}one\n\n.three\nfour\n")),
        Message::new("bodyless", "Message-ID: <2@example.org>\n\n"),
    ];
    with_mail(&mail, |mut pop| {
        let header = header.replace('\n', "\r\n").into_bytes();
        for (lines, body) in [
            ("0", ""),
            ("1", "one\r\n"),
            ("2", "one\r\n\r\n"),
            ("3", "one\r\n\r\n.three\r\n"),
            ("4", "one\r\n\r\n.three\r\nfour\r\n"),
            ("5", "one\r\n\r\n.three\r\nfour\r\n"),
            ("2147483648", "one\r\n\r\n.three\r\nfour\r\n"),
        ] {
            let top = pop.listing(&format!("TOP 1 {lines}"));
            assert_eq!(top, [&header, body.as_bytes()].concat(), "TOP 1 {lines}");
        }
        assert_eq!(pop.listing("TOP 2 0"), mail[1].sent);
        assert_eq!(pop.ok("LAST"), "0", "TOP is no access");
    });
}

#[test]
fn rule_9_unique_ids_are_unique_and_stay() {
    let mut mail = corpus::many(20);
    mail.extend(corpus::many(20));
    mail.extend(corpus::nasty());
    Setup::new().as_ordinary_user(|site| {
        site.deliver(ALICE, &corpus::mbox(&mail));
        let server = site.serve();
        let first = site.login(ALICE).list("UIDL");
        let mut ids: Vec<&str> = first
            .iter()
            .filter_map(|line| Some(line.split_once(' ')?.1))
            .collect();
        assert_eq!(ids.len(), mail.len());
        for id in &ids {
            assert!(
                (1..=70).contains(&id.len()) && id.bytes().all(|octet| octet.is_ascii_graphic()),
                "{id}"
            );
        }
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), mail.len(), "unique");
        server.stop();
        let _server = site.serve();
        let mut pop = system_tests::poll::until("the first session's end", || {
            let mut pop = site.connect();
            pop.ok(&format!("USER {}", ALICE.name));
            pop.ask(&format!("PASS {}", ALICE.password))
                .ok
                .then_some(pop)
        });
        assert_eq!(
            pop.list("UIDL"),
            first,
            "after a session without QUIT and another server process"
        );
        for (number, line) in (1..).zip(&first) {
            assert_eq!(&pop.ok(&format!("UIDL {number}")), line);
        }
    });
}

#[test]
fn rule_10_only_quit_deletes_and_answers_when_it_is_done() {
    let mail = corpus::many(3);
    Setup::new().as_ordinary_user(|site| {
        let whole = corpus::mbox(&mail);
        site.deliver(ALICE, &whole);
        let _server = site.serve();
        let mut pop = site.login(ALICE);
        pop.ok("DELE 2");
        pop.half_close();
        pop.expect_closed();
        assert!(fs::read(site.mailbox(ALICE)).expect("the mailbox") == whole);

        let mut pop = site.login(ALICE);
        pop.ok("DELE 2");
        pop.ok("QUIT");
        let left = fs::read(site.mailbox(ALICE)).expect("the mailbox");
        assert!(
            left == corpus::mbox(&[mail[0].clone(), mail[2].clone()]),
            "done when QUIT is answered"
        );
    });
}

#[test]
fn rule_11_spaces_belong_to_a_password_and_pass_follows_user() {
    quick_failures().as_ordinary_user(|site| {
        let _server = site.serve();
        let mut pop = site.connect();
        pop.err(&format!("PASS {}", ALICE.password));
        pop.ok(&format!("USER {}", DAVE.name));
        pop.err(&format!("PASS {}", DAVE.password.trim()));
        pop.login(DAVE.name, DAVE.password);
        pop.ok("STAT");
    });
}

#[test]
fn rule_12_without_apop_nothing_looks_like_its_banner() {
    Setup::new().as_ordinary_user(|site| {
        let _server = site.serve();
        let mut pop = Pop::dial(site.address);
        let greeting = pop.reply();
        assert!(
            greeting.ok && !greeting.text.contains(['<', '>']),
            "{}",
            greeting.text
        );
        pop.err("APOP alice 0123456789abcdef0123456789abcdef");
    });
}

#[test]
fn rule_13_capabilities_are_the_same_in_both_states() {
    with_mail(&corpus::many(1), |mut pop| {
        let after = pop.list("CAPA");
        for capability in [
            "TOP",
            "UIDL",
            "USER",
            "RESP-CODES",
            "AUTH-RESP-CODE",
            "PIPELINING",
        ] {
            assert!(
                after.iter().any(|line| line == capability),
                "{capability} in {after:?}"
            );
        }
        assert!(
            after
                .iter()
                .any(|line| line.starts_with("IMPLEMENTATION popa3d")),
            "{after:?}"
        );
        pop.ok("QUIT");
    });
    Setup::new().as_ordinary_user(|site| {
        let _server = site.serve();
        let mut pop = site.connect();
        let before = pop.list("CAPA");
        pop.login(ALICE.name, ALICE.password);
        assert_eq!(pop.list("CAPA"), before);
    });
}

#[test]
fn rule_14_a_command_has_up_to_255_octets() {
    quick_failures().as_ordinary_user(|site| {
        let _server = site.serve();
        let mut pop = site.connect();
        let longest = "x".repeat(255 - "PASS \r\n".len());
        pop.ok("USER alice");
        let refused = pop.ask(&format!("PASS {longest}"));
        assert_eq!(
            refused.code(),
            Some("AUTH"),
            "it was taken as a password: {}",
            refused.text
        );
        // Spaces behind a command that takes no argument are an argument of sorts; 255 octets of them are one error.
        pop.err(&format!("NOOP{}", " ".repeat(255 - "NOOP\r\n".len())));
        pop.login(ALICE.name, ALICE.password);
        pop.ok("NOOP");
    });
}

#[test]
fn rule_15_a_whole_session_may_be_sent_at_once() {
    let mail = corpus::many(3);
    Setup::new().as_ordinary_user(|site| {
        site.deliver(ALICE, &corpus::mbox(&mail));
        let _server = site.serve();
        let commands = format!(
            "CAPA\r\nUSER {}\r\nPASS {}\r\nSTAT\r\nRETR 2\r\nDELE 2\r\nLIST\r\nRSET\r\nDELE 1\r\nQUIT\r\nSTAT\r\n",
            ALICE.name, ALICE.password
        );
        let mut pop = site.connect();
        pop.send(commands.as_bytes());
        assert!(pop.reply().ok);
        pop.lines();
        assert!(pop.reply().ok && pop.reply().ok && pop.reply().text.starts_with("3 "));
        assert!(pop.reply().ok);
        assert!(pop.lines() == mail[1].sent);
        assert!(pop.reply().ok && pop.reply().ok);
        assert_eq!(pop.lines().split(|octet| *octet == b'\n').count(), 3);
        assert!(pop.reply().ok && pop.reply().ok && pop.reply().ok);
        pop.expect_closed();
        assert!(site.login(ALICE).ok("STAT").starts_with("2 "));
    });
}

#[test]
fn rule_16_a_bracket_means_a_response_code() {
    quick_failures().as_ordinary_user(|site| {
        let _server = site.serve();
        let mut pop = site.connect();
        let mut refusals = Vec::new();
        for name in [ALICE.name, "nobody-of-that-name"] {
            assert!(
                !pop.ok(&format!("USER {name}")).starts_with('['),
                "USER tells nothing"
            );
            refusals.push(pop.ask("PASS wrong"));
        }
        assert_eq!(refusals[0].code(), Some("AUTH"));
        assert_eq!(
            refusals[0], refusals[1],
            "known and unknown users are refused in the same words"
        );
        pop.login(ALICE.name, ALICE.password);
        for command in EVERYTHING {
            let reply = pop.ask(command);
            assert!(!reply.text.starts_with('['), "{command:?}: {}", reply.text);
            if reply.ok
                && (["LIST", "UIDL", "CAPA"].contains(&command) || command.starts_with("TOP 1 "))
            {
                pop.lines();
            }
        }
    });
}

#[test]
fn rule_17_expire_and_login_delay_are_true() {
    let capability = |pop: &mut Pop, name: &str| -> Option<String> {
        pop.list("CAPA")
            .into_iter()
            .find(|line| line.split(' ').next() == Some(name))
    };
    Setup::new().as_ordinary_user(|site| {
        let _server = site.serve();
        let mut pop = site.connect();
        assert_eq!(
            capability(&mut pop, "EXPIRE").as_deref(),
            Some("EXPIRE NEVER")
        );
        assert_eq!(capability(&mut pop, "LOGIN-DELAY"), None);
    });
    Setup::new()
        .set("limits", "login_delay", r#""30s""#)
        .as_ordinary_user(|site| {
            let _server = site.serve();
            let mut pop = site.login(ALICE);
            assert_eq!(
                capability(&mut pop, "LOGIN-DELAY").as_deref(),
                Some("LOGIN-DELAY 30")
            );
            pop.ok("QUIT");
            let mut pop = site.connect();
            pop.ok(&format!("USER {}", ALICE.name));
            let refused = pop.ask(&format!("PASS {}", ALICE.password));
            assert_eq!((refused.ok, refused.code()), (false, Some("LOGIN-DELAY")));
            site.login(BOB).ok("STAT");
        });
}

#[test]
fn last_is_the_highest_message_retrieved_or_deleted() {
    with_mail(&corpus::many(3), |mut pop| {
        assert_eq!(pop.ok("LAST"), "0");
        pop.listing("RETR 2");
        pop.listing("RETR 1");
        assert_eq!(pop.ok("LAST"), "2");
        pop.ok("DELE 3");
        assert_eq!(pop.ok("LAST"), "3");
        pop.ok("RSET");
        assert_eq!(pop.ok("LAST"), "0");
    });
}

#[test]
fn command_names_are_of_any_case_and_a_lone_lf_ends_a_command() {
    with_mail(&corpus::many(1), |mut pop| {
        pop.ok("sTaT");
        pop.ok("noop ");
        pop.send(b"NOOP\nnoop\r\n");
        assert!(pop.reply().ok && pop.reply().ok);
        pop.send(b"NO\0OP\r\nNOOP\0\r\n");
        assert!(!pop.reply().ok && !pop.reply().ok);
        assert_eq!(
            pop.arrived(Duration::from_millis(20)),
            0,
            "one reply a command"
        );
    });
}
