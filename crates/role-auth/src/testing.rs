//! What unit tests have in common.

use std::path::PathBuf;
use std::time::Duration;

use messages::auth::{AuthConfig, DecoyKey};
use messages::{Account, Rights};

/// An account of a user with this name.
pub fn account(name: &str) -> Account {
    Account {
        name: name.to_owned(),
        uid: 1000.try_into().unwrap(),
        gid: 1000.try_into().unwrap(),
        home: "/".to_owned(),
        maildrop: None,
        rights: Rights::Full,
    }
}

/// A configuration with this users file and without anything else.
pub fn configuration(users_file: PathBuf) -> AuthConfig {
    AuthConfig {
        backends: Vec::new(),
        users_file,
        pam_service: String::new(),
        apop_secrets: None,
        app_passwords: None,
        derived_verifiers: None,
        address_domains: None,
        mechanisms: Vec::new(),
        external_user: None,
        decoy_key: DecoyKey([7; 32]),
        tokens: None,
        login_attempts: 3,
        failure_delay: Duration::ZERO,
        workers: 1,
        dummy_setting: None,
        login_delay: Duration::ZERO,
        cache: Duration::ZERO,
        own: None,
    }
}
