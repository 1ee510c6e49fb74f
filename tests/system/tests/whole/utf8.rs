//! UTF8 and LANG (RFC 6856) over the wire: rule 20.

use system_tests::corpus::{self, Message};
use system_tests::pop::Pop;
use system_tests::site::{Setup, Site};
use system_tests::users::ALICE;

const INTERNATIONALIZED: &str = "From: J\u{fc}rgen <j\u{fc}rgen@example.org>\nSubject: \u{4e2d}\u{6587}\n.\u{e9}: x\n\nGr\u{fc}\u{df}e\n";

/// What RFC 6532 has nothing to do with: ASCII, UTF-8 in the body alone, and another encoding in the header.
const ORDINARY: [&[u8]; 3] = [
    b"Subject: plain\n\nbody\n",
    b"Subject: body\n\nGr\xc3\xbc\xc3\x9fe\n",
    b"Subject: Gr\xfc\xdfe\n\nGr\xfc\xdfe\n",
];

/// The internationalized message, then the ordinary ones.
fn mail() -> Vec<Message> {
    let mut mail = vec![Message::new("internationalized", INTERNATIONALIZED)];
    mail.extend(ORDINARY.map(|octets| Message::new("ordinary", octets)));
    mail
}

fn with_server(policy: &str, body: impl FnOnce(&Site) + Send) {
    let setup = Setup::new().set("protocol", "utf8", &format!("\"{policy}\""));
    setup.as_ordinary_user(|site| {
        site.deliver(ALICE, &corpus::mbox(&mail()));
        let _server = site.serve();
        body(site);
    });
}

/// A session for which UTF8 was given before the login.
fn utf8_session(site: &Site) -> Pop {
    let mut pop = site.connect();
    pop.ok("UTF8");
    pop.login(ALICE.name, ALICE.password);
    pop
}

/// All is sent as it is stored.
fn gets_everything_as_it_is(pop: &mut Pop) {
    for (number, message) in (1..).zip(mail()) {
        assert_eq!(pop.listing(&format!("RETR {number}")), message.sent);
        assert_eq!(pop.listing(&format!("TOP {number} 100")), message.sent);
    }
}

/// LIST and STAT say what RETR sends.
fn sizes_are_those_sent(pop: &mut Pop) {
    let mut total = 0;
    for number in 1..=mail().len() {
        let sent = pop.listing(&format!("RETR {number}")).len();
        assert_eq!(
            pop.ok(&format!("LIST {number}")),
            format!("{number} {sent}")
        );
        total += sent;
    }
    assert_eq!(pop.ok("STAT"), format!("{} {total}", mail().len()));
}

#[test]
fn rule_20_capa_lists_utf8_without_user_and_lang_in_both_states() {
    with_server("as-is", |site| {
        let mut pop = site.connect();
        let before = pop.list("CAPA");
        for tag in ["UTF8", "LANG"] {
            assert!(before.iter().any(|line| line == tag), "{before:?}");
        }
        pop.login(ALICE.name, ALICE.password);
        assert_eq!(pop.list("CAPA"), before);
    });
}

#[test]
fn rule_20_mail_stays_as_it_is_unless_configured_otherwise() {
    Setup::new().as_ordinary_user(|site| {
        site.deliver(ALICE, &corpus::mbox(&mail()));
        let _server = site.serve();
        let mut pop = site.login(ALICE);
        gets_everything_as_it_is(&mut pop);
        sizes_are_those_sent(&mut pop);
    });
}

#[test]
fn rule_20_without_utf8_a_surrogate_is_sent_of_internationalized_mail_and_of_no_other() {
    with_server("surrogate", |site| {
        let mut pop = site.login(ALICE);
        let expected = "From: J??rgen <j??rgen@example.org>\r\nSubject: ??????\r\n.??: x\r\n\r\nGr\u{fc}\u{df}e\r\n";
        assert_eq!(pop.listing("RETR 1"), expected.as_bytes());
        let header = expected.split_inclusive("\r\n\r\n").next().unwrap();
        assert_eq!(pop.listing("TOP 1 0"), header.as_bytes());
        for (number, message) in (1..).zip(mail()).skip(1) {
            assert_eq!(pop.listing(&format!("RETR {number}")), message.sent);
        }
        sizes_are_those_sent(&mut pop);
        pop.ok("QUIT");
        pop.expect_closed();
        let mut pop = utf8_session(site);
        gets_everything_as_it_is(&mut pop);
        sizes_are_those_sent(&mut pop);
    });
}

#[test]
fn rule_20_without_utf8_internationalized_mail_may_be_refused_with_the_code_that_says_so() {
    with_server("refuse", |site| {
        let mut pop = site.login(ALICE);
        for command in ["RETR 1", "TOP 1 0"] {
            let refused = pop.ask(command);
            assert_eq!((refused.ok, refused.code()), (false, Some("UTF8")));
        }
        for (number, message) in (1..).zip(mail()).skip(1) {
            assert_eq!(pop.listing(&format!("RETR {number}")), message.sent);
        }
        // LAST counts what was sent.
        assert_eq!(pop.ok("LAST"), "4");
        // As Outlook does it.
        pop.ok("UTF8");
        gets_everything_as_it_is(&mut pop);
        pop.ok("QUIT");
        pop.expect_closed();
        gets_everything_as_it_is(&mut utf8_session(site));
    });
}

#[test]
fn rule_20_a_surrogate_of_a_long_header_is_one_to_its_end() {
    let long = format!(
        "Subject: \u{e9}\n{}\n\u{e9}\n",
        "X: \u{4e2d}\u{6587}\n".repeat(20_000)
    );
    let setup = Setup::new().set("protocol", "utf8", r#""surrogate""#);
    setup.as_ordinary_user(|site| {
        site.deliver(ALICE, &corpus::mbox(&[Message::new("long header", long)]));
        let _server = site.serve();
        let mut pop = site.login(ALICE);
        let sent = pop.listing("RETR 1");
        let header = sent.len() - "\u{e9}\r\n".len();
        assert!(sent[..header].is_ascii() && !sent[header..].is_ascii());
        assert_eq!(pop.ok("LIST 1"), format!("1 {}", sent.len()));
    });
}

#[test]
fn rule_20_lang_works_in_both_states() {
    with_server("as-is", |site| {
        let mut pop = site.connect();
        for logged_in in [false, true] {
            if logged_in {
                pop.login(ALICE.name, ALICE.password);
            }
            let languages = pop.list("LANG");
            for tag in ["en", "i-default"] {
                let listed = |line: &String| line.split(' ').next() == Some(tag);
                assert!(languages.iter().any(listed), "{languages:?}");
                assert!(
                    pop.ok(&format!("LANG {tag}"))
                        .starts_with(&format!("{tag} "))
                );
            }
            assert!(pop.ok("LANG *").starts_with("en "));
            pop.err("LANG mul");
        }
    });
}
