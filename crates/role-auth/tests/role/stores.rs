//! What is decided, answered and logged, with stores that need no root.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use messages::auth::{AddressDomains, Denial};

use crate::rig::{
    CHEAP_HASH, Rig, assert_connected, assert_same_cost, field, ids, own, write_private,
};

pub fn a_right_password_starts_a_maildrop_process() {
    let mut rig = Rig::new(|_| {});
    let session = rig.session();
    session.send("joe", "secret");
    let theirs = session.verdict().unwrap();
    let (start, ours, lease) = rig.started();
    assert_eq!(start.id, session.id);
    assert_eq!(start.peer, Some("192.0.2.1:1024".parse().unwrap()));
    assert_eq!(start.account.name, "joe");
    let home = own().map_or("/home/joe".to_owned(), |own| own.home);
    assert_eq!(start.account.home, home);
    assert_connected(ours, theirs);
    session.assert_login_noted();
    let record = rig.log("login");
    assert_eq!(field(&record, "user"), Some("joe"));
    assert_eq!(field(&record, "peer"), Some("192.0.2.1"));
    assert_eq!(field(&record, "method"), Some("password"));
    assert_eq!(field(&record, "backend"), Some("users-file"));
    // Auth has closed its ends: the lease is now the maildrop process's alone.
    drop(lease);
    session.assert_ended();
}

pub fn a_wrong_password_may_be_followed_by_a_right_one() {
    let mut rig = Rig::new(|_| {});
    let session = rig.session();
    for password in ["Secret", ""] {
        session.send("joe", password);
        assert_eq!(session.verdict().unwrap_err(), Denial::Credentials);
    }
    session.send("joe", "secret");
    assert!(session.verdict().is_ok());
}

pub fn an_unknown_name_is_not_logged_and_a_known_one_is() {
    let mut rig = Rig::new(|_| {});
    for (name, logged) in [
        ("typed-password", None),
        ("joe", Some("joe")),
        ("out", Some("out")),
        ("a:b", None),
    ] {
        assert_eq!(rig.log_in(name, "wrong").unwrap_err(), Denial::Credentials);
        let record = rig.log("login failed");
        assert_eq!(field(&record, "user"), logged, "{record:?}");
        assert_eq!(field(&record, "peer"), Some("192.0.2.1"));
        assert!(!format!("{record:?}").contains("typed-password"));
    }
}

pub fn the_attempt_limit_closes_the_channel_after_the_verdict() {
    let mut rig = Rig::new(|configuration| configuration.login_attempts = 2);
    let session = rig.session();
    session.send("joe", "wrong");
    assert_eq!(session.verdict().unwrap_err(), Denial::Credentials);
    session.send("joe", "wrong");
    assert_eq!(session.verdict().unwrap_err(), Denial::Credentials);
    session.assert_ended();
}

pub fn failures_are_answered_late_and_later() {
    let delay = Duration::from_millis(100);
    let mut rig = Rig::new(|configuration| configuration.failure_delay = delay);
    let session = rig.session();
    for factor in [1, 2, 4] {
        let begun = Instant::now();
        session.send("joe", "wrong");
        assert_eq!(session.verdict().unwrap_err(), Denial::Credentials);
        assert!(begun.elapsed() >= delay * factor, "{:?}", begun.elapsed());
    }
}

pub fn apop_takes_the_digest_and_refuses_the_password() {
    let ids = ids();
    let users = format!("mrose:{CHEAP_HASH}:{ids}\njoe:{CHEAP_HASH}:{ids}\n");
    let mut rig = Rig::with_users(&users, |configuration| {
        let secrets = configuration.users_file.with_file_name("apop");
        write_private(&secrets, "mrose:tanstaaf\n");
        configuration.apop_secrets = Some(secrets);
    });
    // RFC 1939 section 7.
    let (timestamp, digest) = (
        "<1896.697170952@dbc.mtview.ca.us>",
        "c4c9334bac560ecc979e58001b3e22fb",
    );
    let session = rig.session_at("192.0.2.99:110", Some(timestamp));
    for (user, digest) in [
        ("mrose", "c4c9334bac560ecc979e58001b3e22fc"),
        ("nobody-here", digest),
    ] {
        session.send_apop(user, digest);
        assert_eq!(session.verdict().unwrap_err(), Denial::Credentials);
    }
    session.send_apop("mrose", digest);
    assert!(session.verdict().is_ok());
    assert_eq!(rig.started().0.account.name, "mrose");
    assert_eq!(field(&rig.log("login"), "method"), Some("apop"));
    // A replay under another timestamp.
    let session = rig.session_at("192.0.2.99:110", Some("<1@x>"));
    session.send_apop("mrose", digest);
    assert_eq!(session.verdict().unwrap_err(), Denial::Credentials);
    // RFC 1939 section 13: not both.
    assert_eq!(
        rig.log_in("mrose", "secret").unwrap_err(),
        Denial::Credentials
    );
    rig.assert_serves();
}

pub fn an_address_with_a_directory_has_users_of_its_own() {
    // The mailbox's owner has to be a user of the system, and not root.
    let owner = if own().is_some() {
        current_user()
    } else {
        "daemon".to_owned()
    };
    let mut rig = Rig::new(|configuration| {
        let home = configuration.users_file.with_file_name("vhome");
        let auth = home.join("192.0.2.50/auth");
        fs::create_dir_all(&auth).unwrap();
        write_private(
            &auth.join("ann"),
            &format!("{owner}:{CHEAP_HASH}:anything\n"),
        );
        write_private(
            &auth.join("bad"),
            &format!("no-such-user-here:{CHEAP_HASH}\n"),
        );
        configuration.address_domains = Some(AddressDomains {
            home,
            auth: "auth".into(),
            spool: "mail".into(),
            only: false,
        });
    });
    let mut log_in = |local: &str, user: &str, password: &str| {
        let session = rig.session_at(local, None);
        session.send(user, password);
        session.verdict()?;
        Ok::<_, Denial>(rig.started().0.account)
    };
    let account = log_in("[::ffff:192.0.2.50]:110", "ann", "secret").unwrap();
    let maildrop = account.maildrop.unwrap();
    assert!(maildrop.starts_with("mbox:/"), "{maildrop}");
    assert!(
        maildrop.ends_with("/vhome/192.0.2.50/mail/ann"),
        "{maildrop}"
    );
    assert_eq!(account.name, "ann");
    for (user, password, denial) in [
        ("ann", "wrong", Denial::Credentials),
        // The global users are not users of the domain.
        ("joe", "secret", Denial::Credentials),
        ("../auth/ann", "secret", Denial::Credentials),
        ("bad", "wrong", Denial::Credentials),
        // Told to nobody but who gave the right password.
        ("bad", "secret", Denial::Permanent),
    ] {
        assert_eq!(
            log_in("192.0.2.50:110", user, password),
            Err(denial),
            "{user}"
        );
    }
    assert_eq!(
        log_in("192.0.2.51:110", "joe", "secret").unwrap().name,
        "joe"
    );
}

fn current_user() -> String {
    let output = std::process::Command::new("id")
        .arg("-un")
        .output()
        .unwrap();
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

pub fn a_second_login_too_soon_is_told_so() {
    let mut rig = Rig::new(|configuration| configuration.login_delay = Duration::from_secs(900));
    assert!(rig.log_in("joe", "secret").is_ok());
    assert_eq!(rig.log_in("joe", "secret"), Err(Denial::LoginDelay));
    assert_eq!(rig.log_in("joe", "wrong"), Err(Denial::Credentials));
    assert!(rig.log_in("ann", "secret").is_ok());
}

pub fn a_changed_users_file_counts_at_once() {
    let mut rig = Rig::new(|_| {});
    assert_eq!(rig.log_in("new", "secret"), Err(Denial::Credentials));
    let line = format!("new:{CHEAP_HASH}:{}::maildir:/srv/mail/%d/%n\n", ids());
    write_private(&rig.directory.path().join("users"), &line);
    let account = rig.log_in("new", "secret").unwrap();
    assert_eq!(account.maildrop.as_deref(), Some("maildir:/srv/mail/%d/%n"));
    assert_eq!(rig.log_in("joe", "secret"), Err(Denial::Credentials));
}

pub fn an_unsafe_users_file_is_refused_for_everybody_alike() {
    let mut rig = Rig::new(|_| {});
    let users = rig.directory.path().join("users");
    fs::set_permissions(&users, fs::Permissions::from_mode(0o644)).unwrap();
    for user in ["joe", "nobody-here"] {
        assert_eq!(rig.log_in(user, "secret"), Err(Denial::Permanent));
        let record = rig.log("login not possible");
        let reason = field(&record, "reason").unwrap();
        assert!(
            reason.contains("users") && reason.contains("0644"),
            "{reason}"
        );
    }
    fs::set_permissions(&users, fs::Permissions::from_mode(0o600)).unwrap();
    rig.assert_serves();
}

pub fn unknown_known_and_locked_users_cost_the_same() {
    let hash = "$6$rounds=20000$salt$/";
    let ids = ids();
    let users = format!("joe:{hash}:{ids}\nout:!{hash}:{ids}\nbad:x:{ids}\n");
    let mut rig = Rig::with_users(&users, |configuration| configuration.workers = 1);
    assert_same_cost(&mut rig, &["joe", "out", "bad", "nobody-here"]);
}
