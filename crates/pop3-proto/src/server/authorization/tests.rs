//! Tests of the AUTHORIZATION state's machine alone; `tests/` drives it against a client.

use super::*;

fn offer() -> Offer {
    Offer {
        user: true,
        apop: true,
        stls: true,
        mechanisms: [&b"PLAIN"[..], b"EXTERNAL"]
            .map(|name| MechanismName::new(name).unwrap())
            .to_vec(),
        ..Offer::default()
    }
}

fn machine() -> Authorization {
    Authorization::new(offer(), Limits::default(), false)
}

/// Whether the line is answered at once, with what, and whether the connection is closed then.
fn reply(machine: &mut Authorization, line: &[u8]) -> String {
    let mut out = Vec::new();
    let action = match machine.line(Ok(line), &mut out) {
        Action::Continue => "",
        Action::Close => "close",
        Action::SaslCancelled => "cancelled",
        action => panic!("{line:?} caused {action:?}"),
    };
    String::from_utf8(out).unwrap() + action
}

fn is_error(machine: &mut Authorization, line: &[u8]) -> bool {
    let reply = reply(machine, line);
    reply.starts_with("-ERR ") && reply.ends_with("\r\n")
}

fn denied(machine: &mut Authorization, denial: Denial) -> (String, bool) {
    let mut out = Vec::new();
    let action = machine.denied(denial, &mut out);
    (String::from_utf8(out).unwrap(), action == Action::Close)
}

fn attempts_login(machine: &mut Authorization, line: &[u8]) -> bool {
    matches!(
        machine.line(Ok(line), &mut Vec::new()),
        Action::AttemptLogin { .. }
    )
}

#[test]
fn user_and_pass_make_an_attempt_that_is_not_answered_yet() {
    let mut machine = machine();
    assert_eq!(reply(&mut machine, b"USER mrose"), "+OK\r\n");
    let mut out = Vec::new();
    let action = machine.line(Ok(b"PASS pass word "), &mut out);
    assert_eq!(
        action,
        Action::AttemptLogin {
            user: b"mrose",
            password: b"pass word "
        }
    );
    assert!(out.is_empty());
}

#[test]
fn rule_11_pass_is_for_the_command_right_after_user() {
    let mut machine = machine();
    assert!(is_error(&mut machine, b"PASS secret"));
    for between in [&b"CAPA"[..], b"NOOP", b"USER other", b"rubbish", b"PASS"] {
        assert_eq!(reply(&mut machine, b"USER mrose"), "+OK\r\n");
        reply(&mut machine, between);
        assert!(
            is_error(&mut machine, b"PASS secret"),
            "{}",
            between.escape_ascii()
        );
        machine.allowance = Allowance::new(100, 100);
    }
    assert_eq!(reply(&mut machine, b"USER mrose"), "+OK\r\n");
    machine.line(Err(LineError::Nul), &mut Vec::new());
    assert!(is_error(&mut machine, b"PASS secret"));
}

#[test]
fn user_is_given_once_an_attempt() {
    let mut machine = machine();
    assert_eq!(reply(&mut machine, b"USER mrose"), "+OK\r\n");
    assert!(is_error(&mut machine, b"USER mrose"));
    assert_eq!(reply(&mut machine, b"USER mrose"), "+OK\r\n");
    assert!(attempts_login(&mut machine, b"PASS x"));
    denied(&mut machine, Denial::Credentials);
    assert!(is_error(&mut machine, b"PASS x"));
    assert_eq!(reply(&mut machine, b"USER mrose"), "+OK\r\n");
}

#[test]
fn the_connection_is_closed_after_the_last_attempt() {
    for login_attempts in [1, 3] {
        let limits = Limits {
            login_attempts,
            ..Limits::default()
        };
        let mut machine = Authorization::new(offer(), limits, false);
        for attempt in 1..=login_attempts {
            reply(&mut machine, b"USER mrose");
            assert!(attempts_login(&mut machine, b"PASS wrong"));
            let (text, closed) = denied(&mut machine, Denial::Credentials);
            assert_eq!(text, "-ERR [AUTH] authentication failed\r\n");
            assert_eq!(closed, attempt == login_attempts);
        }
        assert_eq!(reply(&mut machine, b"USER mrose"), "close");
    }
}

#[test]
fn rule_16_each_denial_has_its_code() {
    let code = |denial: Denial| {
        let mut out = Vec::new();
        denial.write(&mut out);
        String::from_utf8(out)
            .unwrap()
            .split(' ')
            .nth(1)
            .unwrap()
            .to_owned()
    };
    assert_eq!(code(Denial::Credentials), "[AUTH]");
    assert_eq!(code(Denial::InUse), "[IN-USE]");
    assert_eq!(code(Denial::LoginDelay), "[LOGIN-DELAY]");
    assert_eq!(code(Denial::Temporary), "[SYS/TEMP]");
    assert_eq!(code(Denial::Permanent), "[SYS/PERM]");
}

#[test]
fn rule_16_user_is_answered_alike_for_everybody() {
    for name in [&b"root"[..], b"nobody", b"\xff"] {
        assert_eq!(reply(&mut machine(), &[b"USER ", name].concat()), "+OK\r\n");
    }
}

#[test]
fn rule_12_apop_is_refused_where_it_is_not_offered() {
    let line = b"APOP mrose c4c9334bac560ecc979e58001b3e22fb";
    let mut machine = machine();
    assert_eq!(
        machine.line(Ok(line), &mut Vec::new()),
        Action::AttemptApop {
            user: b"mrose",
            digest: b"c4c9334bac560ecc979e58001b3e22fb"
        }
    );
    let without = Offer {
        apop: false,
        ..offer()
    };
    assert!(is_error(
        &mut Authorization::new(without, Limits::default(), false),
        line
    ));
}

#[test]
fn rule_18_without_cleartext_logins_user_is_refused_before_a_password_is_sent() {
    let offer = Offer {
        user: false,
        ..offer()
    };
    let mut machine = Authorization::new(offer, Limits::default(), false);
    assert_eq!(
        reply(&mut machine, b"USER mrose"),
        "-ERR not without TLS, use STLS\r\n"
    );
    assert_eq!(
        reply(&mut machine, b"PASS secret"),
        "-ERR not without TLS, use STLS\r\n"
    );
}

#[test]
fn rule_18_stls_is_answered_once_and_what_was_said_before_is_forgotten() {
    let mut machine = machine();
    reply(&mut machine, b"USER mrose");
    let mut out = Vec::new();
    assert_eq!(machine.line(Ok(b"STLS"), &mut out), Action::StartTls);
    assert_eq!(out, b"+OK begin TLS negotiation\r\n");
    machine.tls_started(offer());
    assert!(machine.user.is_empty());
    assert!(is_error(&mut machine, b"PASS secret"));
    assert!(is_error(&mut machine, b"STLS"));
    assert!(is_error(
        &mut Authorization::new(offer(), Limits::default(), true),
        b"STLS"
    ));
    let without = Offer {
        stls: false,
        ..offer()
    };
    assert!(is_error(
        &mut Authorization::new(without, Limits::default(), false),
        b"STLS"
    ));
}

#[test]
fn no_line_is_taken_during_a_handshake_or_an_attempt() {
    let mut machine = machine();
    machine.line(Ok(b"STLS"), &mut Vec::new());
    assert_eq!(reply(&mut machine, b"NOOP"), "close");
    machine.tls_started(offer());
    assert_eq!(reply(&mut machine, b"CAPA"), "close");
}

#[test]
fn rule_19_a_sasl_exchange_goes_through_challenges_until_it_is_answered() {
    let mut machine = machine();
    let plain = MechanismName::new(b"PLAIN").unwrap();
    assert_eq!(
        machine.line(Ok(b"AUTH plain"), &mut Vec::new()),
        Action::AuthenticateSasl {
            mechanism: plain,
            initial_response: None
        }
    );
    let mut out = Vec::new();
    machine.challenge(b"", &mut out);
    assert_eq!(out, b"+ \r\n");
    assert_eq!(machine.line_limit(b""), MAX_SASL_LINE);
    assert_eq!(
        machine.line(Ok(b"AGEAYg=="), &mut out),
        Action::SaslResponse(b"AGEAYg==")
    );
    assert_eq!(machine.line_limit(b""), MAX_COMMAND);
    let (text, closed) = denied(&mut machine, Denial::Malformed);
    assert_eq!((&text[..], closed), ("-ERR malformed response\r\n", false));
    assert_eq!(reply(&mut machine, b"USER mrose"), "+OK\r\n");
}

#[test]
fn auth_may_carry_as_long_a_response_as_a_challenge_gets() {
    let mut machine = machine();
    for (beginning, limit) in [
        (&b"AUTH OAUTHBEARER bix"[..], MAX_SASL_LINE),
        (b"auth x", MAX_SASL_LINE),
        (b"AUTH", MAX_COMMAND),
        (b"AUTHX", MAX_COMMAND),
        (b"USER AUTH ", MAX_COMMAND),
    ] {
        assert_eq!(machine.line_limit(beginning), limit);
    }
    machine.offer.mechanisms.clear();
    assert_eq!(machine.line_limit(b"AUTH PLAIN"), MAX_COMMAND);
}

#[test]
fn rule_19_an_asterisk_cancels_and_leaves_no_trace() {
    let mut machine = machine();
    for line in [Ok(&b"*"[..]), Err(LineError::TooLong), Err(LineError::Nul)] {
        let mut out = Vec::new();
        machine.attempts_left = 2;
        machine.line(Ok(b"AUTH EXTERNAL ="), &mut out);
        machine.challenge(b"", &mut out);
        out.clear();
        assert_eq!(machine.line(line, &mut out), Action::SaslCancelled);
        assert!(out.starts_with(b"-ERR "));
    }
    assert_eq!(reply(&mut machine, b"USER mrose"), "+OK\r\n");
}

#[test]
fn cancelled_exchanges_use_up_attempts() {
    let mut machine = machine();
    for attempt in 1..=3 {
        machine.line(Ok(b"AUTH PLAIN"), &mut Vec::new());
        machine.challenge(b"", &mut Vec::new());
        let action = machine.line(Ok(b"*"), &mut Vec::new());
        assert_eq!(action == Action::Close, attempt == 3);
    }
}

#[test]
fn a_bare_auth_lists_the_mechanisms() {
    assert_eq!(
        reply(&mut machine(), b"AUTH"),
        "+OK mechanisms follow\r\nPLAIN\r\nEXTERNAL\r\n.\r\n"
    );
    let mut without = Authorization::new(Offer::default(), Limits::default(), false);
    assert!(is_error(&mut without, b"AUTH"));
    assert!(is_error(&mut without, b"AUTH PLAIN"));
    assert!(is_error(&mut machine(), b"AUTH SCRAM-SHA-256"));
}

#[test]
fn commands_of_the_transaction_state_are_refused() {
    for line in [
        &b"STAT"[..],
        b"LIST",
        b"RETR 1",
        b"DELE 1",
        b"NOOP",
        b"RSET",
        b"TOP 1 0",
        b"UIDL",
        b"LAST",
    ] {
        assert!(is_error(&mut machine(), line), "{}", line.escape_ascii());
    }
}

#[test]
fn rule_20_utf8_is_refused_unless_offered_and_ends_stls() {
    assert!(is_error(&mut machine(), b"UTF8"));
    assert!(is_error(&mut machine(), b"LANG xx"));
    let mut machine = Authorization::new(
        Offer {
            utf8: true,
            ..offer()
        },
        Limits::default(),
        false,
    );
    assert!(!machine.utf8());
    assert_eq!(reply(&mut machine, b"UTF8"), "+OK UTF-8 mode\r\n");
    assert!(machine.utf8());
    assert!(is_error(&mut machine, b"STLS"));
}

#[test]
fn quit_is_answered_and_ends_the_state() {
    let mut machine = machine();
    assert_eq!(reply(&mut machine, b"QUIT"), "+OK\r\nclose");
    assert_eq!(reply(&mut machine, b"USER x"), "close");
}

#[test]
fn too_many_errors_end_the_connection_with_one_err() {
    let mut machine = machine();
    for _ in 0..Limits::default().errors {
        assert!(is_error(&mut machine, b"rubbish"));
    }
    assert_eq!(
        reply(&mut machine, b"rubbish"),
        "-ERR too many errors\r\nclose"
    );
    assert_eq!(reply(&mut machine, b"rubbish"), "close");
}

#[test]
fn too_many_commands_end_the_connection_with_one_err() {
    let mut machine = machine();
    for _ in 0..Limits::default().commands {
        assert!(reply(&mut machine, b"CAPA").starts_with("+OK"));
    }
    assert_eq!(
        reply(&mut machine, b"CAPA"),
        "-ERR too many commands\r\nclose"
    );
}
