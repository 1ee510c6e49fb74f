//! Logins that are remembered: what they save, and that they never outlive the password.

use std::time::Duration;

use messages::SaslMechanism;
use messages::auth::{AuthConfig, Denial, ToAuth};

use crate::app_passwords;
use crate::rig::{CHEAP_HASH, Rig, configuration, field, ids, write_private};

const LIFE: Duration = Duration::from_secs(300);

fn with_cache(configuration: &mut AuthConfig) {
    configuration.cache = LIFE;
    configuration.workers = 1;
}

fn cached(rig: &Rig) -> Option<String> {
    field(&rig.log("login"), "cached").map(str::to_owned)
}

pub fn a_second_login_costs_no_hash_and_a_wrong_password_does() {
    let mut rig = Rig::new(with_cache);
    assert!(rig.log_in("joe", "secret").is_ok());
    assert_eq!(cached(&rig), None);
    // The worker is not even asked.
    let before = rig.worker_time();
    for _ in 0..20 {
        let account = rig.log_in("joe", "secret").unwrap();
        assert_eq!(account.name, "joe");
        assert_eq!(cached(&rig).as_deref(), Some("yes"));
    }
    let session = rig.session();
    session.start(SaslMechanism::Plain, Some(b"\0joe\0secret"));
    assert!(session.verdict().is_ok());
    let record = rig.log("login");
    assert_eq!(field(&record, "cached"), Some("yes"));
    assert_eq!(field(&record, "method"), Some("PLAIN"));
    assert_eq!(rig.worker_time(), before);
    // From elsewhere it is another attempt; and guesses are never remembered.
    let session = rig.session_of(Some("192.0.2.2:1"));
    session.send("joe", "secret");
    assert!(session.verdict().is_ok());
    assert_eq!(cached(&rig), None);
    for _ in 0..2 {
        let before = rig.worker_time();
        assert_eq!(rig.log_in("joe", "guess"), Err(Denial::Credentials));
        assert!(rig.worker_time() > before);
    }
}

pub fn after_a_change_of_password_the_old_one_fails_at_once() {
    let other = "$6$rounds=1000$other$x";
    let mut rig = Rig::new(|configuration| {
        with_cache(configuration);
        app_passwords::configure(configuration, &app_passwords::line("joe", "desk", ""));
    });
    let desk = app_passwords::password("desk");
    for _ in 0..2 {
        assert!(rig.log_in("joe", "secret").is_ok());
        assert!(rig.log_in("joe", &desk).is_ok());
    }
    // An app password is taken back.
    let passwords = rig.directory.path().join("app-passwords");
    write_private(&passwords, "");
    assert_eq!(rig.log_in("joe", &desk), Err(Denial::Credentials));
    assert!(rig.log_in("joe", "secret").is_ok());
    let users = rig.directory.path().join("users");
    write_private(&users, &format!("joe:{other}:{}\n", ids()));
    assert_eq!(rig.log_in("joe", "secret"), Err(Denial::Credentials));
    // And back: nothing is left of before.
    write_private(&users, &format!("joe:{CHEAP_HASH}:{}\n", ids()));
    assert!(rig.log_in("joe", "secret").is_ok());
}

pub fn a_reload_forgets_and_a_short_life_ends() {
    let mut rig = Rig::new(with_cache);
    for expected in [None, Some("yes")] {
        assert!(rig.log_in("joe", "secret").is_ok());
        assert_eq!(cached(&rig).as_deref(), expected);
    }
    let mut again = configuration(rig.directory.path());
    with_cache(&mut again);
    let reload = |rig: &Rig, configuration: &AuthConfig| {
        let message = ToAuth::Reload(Box::new(configuration.clone()));
        rig.control.send(&message, &[]).unwrap();
    };
    reload(&rig, &again);
    // A session that is begun now may overtake the reload; one that logs in after another was served by it does not.
    let mut forgotten = 0;
    for _ in 0..3 {
        assert!(rig.log_in("joe", "secret").is_ok());
        forgotten += u32::from(cached(&rig).is_none());
    }
    assert_eq!(forgotten, 1);
    again.cache = Duration::from_nanos(1);
    reload(&rig, &again);
    for _ in 0..3 {
        assert!(rig.log_in("joe", "secret").is_ok());
    }
    assert!(rig.log_in("joe", "secret").is_ok());
    assert_eq!(rig.log_in("joe", "wrong"), Err(Denial::Credentials));
}
