//! App passwords: what they open, when they do not, and that nobody is told which.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use app_passwords::{Hash, MAX_PER_USER};
use messages::auth::{AuthConfig, Denial};
use messages::log::Record;
use messages::{Rights, SaslMechanism};

use crate::rig::{Rig, assert_same_cost, field, ids, write_private};
use crate::sasl;

/// The app password of a label.
pub fn password(label: &str) -> String {
    format!("{label}-efgh-ijkl-mnop-qrst-uvwx")
}

/// A line with that password; `rest` is rights, expiry and networks.
pub fn line(user: &str, label: &str, rest: &str) -> String {
    let hash = Hash::of(password(label).as_bytes(), &[7; 16]);
    format!("{user}:{label}:{hash}:{rest}\n")
}

/// Puts lines into the file of app passwords.
pub fn configure(configuration: &mut AuthConfig, lines: &str) {
    let path = configuration.users_file.with_file_name("app-passwords");
    write_private(&path, lines);
    configuration.app_passwords = Some(path);
}

fn rig(lines: &str) -> Rig {
    Rig::new(|configuration| configure(configuration, lines))
}

fn refusal(rig: &Rig) -> Record {
    rig.log("login failed")
}

pub fn each_logs_in_with_its_label_and_its_rights() {
    let lines = line("joe", "desk", "")
        + &line("joe", "scan", "no-delete::")
        + &line("joe", "back", "read-only:9999-12-31:192.0.2.0/24")
        + &line("ann", "desk", "read-only");
    let mut rig = rig(&lines);
    for (user, label, rights, logged) in [
        ("joe", "desk", Rights::Full, None),
        ("joe", "scan", Rights::NoDelete, Some("no-delete")),
        ("joe", "back", Rights::ReadOnly, Some("read-only")),
        ("ann", "desk", Rights::ReadOnly, Some("read-only")),
    ] {
        let account = rig.log_in(user, &password(label)).unwrap();
        assert_eq!((account.name.as_str(), account.rights), (user, rights));
        let record = rig.log("login");
        assert_eq!(field(&record, "credential"), Some(label));
        assert_eq!(field(&record, "rights"), logged);
        assert_eq!(field(&record, "backend"), Some("users-file"));
        assert!(!format!("{record:?}").contains("efgh"), "{record:?}");
    }
    // Another's, and the user's own.
    assert_eq!(
        rig.log_in("ann", &password("scan")),
        Err(Denial::Credentials)
    );
    assert_eq!(field(&refusal(&rig), "reason"), Some("wrong password"));
    assert_eq!(rig.log_in("joe", "secret").unwrap().rights, Rights::Full);
    assert_eq!(field(&rig.log("login"), "credential"), None);
}

pub fn plain_and_login_take_them_and_scram_the_users_own_only() {
    let users = sasl::users();
    let mut rig = Rig::with_users(&users, |configuration| {
        configure(configuration, &line("joe", "desk", "no-delete"));
    });
    for mechanism in [SaslMechanism::Plain, SaslMechanism::Login] {
        let session = rig.session();
        sasl::converse_as(&session, mechanism, "joe", &password("desk"));
        assert!(session.verdict().is_ok());
        let record = rig.log("login");
        assert_eq!(field(&record, "credential"), Some("desk"));
        assert_eq!(field(&record, "method"), Some(mechanism.name()));
    }
    let session = rig.session();
    let scram = SaslMechanism::ScramSha256;
    sasl::prove(&session, "joe", &password("desk"));
    assert_eq!(session.verdict().unwrap_err(), Denial::Credentials);
    let session = rig.session();
    sasl::converse_as(&session, scram, "joe", "secret");
    assert!(session.verdict().is_ok());
}

pub fn one_that_is_not_taken_is_a_wrong_password_and_the_log_says_why() {
    let networks = "192.0.2.0/24,2001:db8::/32";
    let lines = line("joe", "past", ":2020-02-29:")
        + &line("joe", "desk", &format!("::{networks}"))
        + &line("nobody-here", "past", ":2020-02-29:");
    let mut rig = rig(&lines);
    for (peer, taken) in [
        (Some("192.0.2.9:1"), true),
        (Some("[::ffff:192.0.2.9]:1"), true),
        (Some("[2001:db8::9]:1"), true),
        (Some("198.51.100.9:1"), false),
        (Some("[::ffff:198.51.100.9]:1"), false),
        (Some("[2001:db9::9]:1"), false),
        (None, false),
    ] {
        let session = rig.session_of(peer);
        session.send("joe", &password("desk"));
        let verdict = session.verdict().map(drop);
        if taken {
            assert_eq!(verdict, Ok(()), "{peer:?}");
            continue;
        }
        assert_eq!(verdict, Err(Denial::Credentials), "{peer:?}");
        let record = refusal(&rig);
        let reason = "app password desk is not for this network";
        assert_eq!(field(&record, "reason"), Some(reason), "{peer:?}");
        assert_eq!(field(&record, "user"), Some("joe"));
    }
    assert_eq!(
        rig.log_in("joe", &password("past")),
        Err(Denial::Credentials)
    );
    let reason = Some("app password past has expired");
    assert_eq!(field(&refusal(&rig), "reason"), reason);
    // A stranger stays one, whatever that file says.
    for label in ["past", "desk"] {
        let denied = rig.log_in("nobody-here", &password(label));
        assert_eq!(denied, Err(Denial::Credentials));
        let record = refusal(&rig);
        assert_eq!(field(&record, "reason"), Some("unknown user"));
        assert_eq!(field(&record, "user"), None);
    }
}

pub fn a_locked_account_has_none() {
    let mut rig = rig(&line("out", "desk", ""));
    assert_eq!(
        rig.log_in("out", &password("desk")),
        Err(Denial::Credentials)
    );
    assert_eq!(field(&refusal(&rig), "reason"), Some("account locked"));
}

pub fn a_changed_file_counts_at_once_and_a_broken_one_harms_nobody_else() {
    let mut rig = rig(&line("joe", "desk", ""));
    assert!(rig.log_in("joe", &password("desk")).is_ok());
    let path = rig.directory.path().join("app-passwords");
    let bad = "rubbish\njoe:desk:x\njoe::\njoe\n:\n".to_owned();
    write_private(&path, &(bad + &line("joe", "scan", "")));
    assert_eq!(
        rig.log_in("joe", &password("desk")),
        Err(Denial::Credentials)
    );
    assert!(rig.log_in("joe", &password("scan")).is_ok());
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    for user in ["joe", "nobody-here"] {
        let denied = rig.log_in(user, &password("scan"));
        assert_eq!(denied, Err(Denial::Permanent), "{user}");
        let record = rig.log("login not possible");
        assert!(field(&record, "reason").unwrap().contains("0644"));
    }
    rig.assert_serves();
    fs::remove_file(&path).unwrap();
    rig.assert_serves();
}

pub fn no_password_is_too_strange_and_no_user_has_more_than_count() {
    let mut lines = String::new();
    for number in 0..=MAX_PER_USER {
        lines += &line("joe", &format!("l{number}"), "");
    }
    let mut rig = rig(&lines);
    let last = MAX_PER_USER - 1;
    assert!(rig.log_in("joe", &password(&format!("l{last}"))).is_ok());
    let one_more = password(&format!("l{MAX_PER_USER}"));
    let long = "x".repeat(512);
    for password in ["", "\0", "a\0b", &long, &one_more] {
        assert_eq!(rig.log_in("joe", password), Err(Denial::Credentials));
    }
    rig.assert_serves();
}

pub fn how_many_a_user_has_does_not_change_what_a_wrong_password_costs() {
    let hash = "$6$rounds=20000$salt$/";
    let ids = ids();
    let users = format!("none:{hash}:{ids}\none:{hash}:{ids}\nmany:{hash}:{ids}\n");
    let mut lines = line("one", "desk", "") + &line("nobody-here", "desk", "");
    for number in 0..MAX_PER_USER {
        lines += &line("many", &format!("l{number}"), ":2020-01-01:");
    }
    let mut rig = Rig::with_users(&users, |configuration| {
        configuration.workers = 1;
        configure(configuration, &lines);
    });
    let names = ["none", "one", "many", "nobody-here", "unknown"];
    assert_same_cost(&mut rig, &names);
}
