//! What of a newer configuration takes effect while the server runs, and what takes a restart.

use messages::token::Server;

use super::Configuration;

impl Configuration {
    /// What a reload cannot change, so that the operator is told to restart.
    pub fn needs_restart(&self, newer: &Self) -> Vec<&'static str> {
        let (old, new) = (&self.file, &newer.file);
        let mut keys = Vec::new();
        if old.listen != new.listen
            || old.listen_tls != new.listen_tls
            || old.limits.backlog != new.limits.backlog
        {
            keys.push("listen, listen_tls, limits.backlog");
        }
        if old.tls.is_some() != new.tls.is_some() {
            keys.push("[tls]");
        }
        if self.token_server() != newer.token_server() {
            keys.push("[oauth], its server");
        }
        if old.user != new.user
            || old.auth_user != new.auth_user
            || old.spawner_user != new.spawner_user
            || old.key_user != new.key_user
            || old.token_user != new.token_user
            || old.lock_user != new.lock_user
        {
            keys.push("user, auth_user, spawner_user, key_user, token_user, lock_user");
        }
        if self.locker_directory != newer.locker_directory {
            keys.push("maildrop.dotlock, the directory of maildrop.location");
        }
        if old.auth.derive_verifiers != new.auth.derive_verifiers {
            keys.push("auth.derive_verifiers");
        }
        if old.chroot != new.chroot
            || old.sandbox != new.sandbox
            || old.state_directory != new.state_directory
        {
            keys.push("chroot, sandbox, state_directory");
        }
        keys
    }

    /// Leaves the locker, or its absence, as it was, what auth may write, and TLS on, or off: without a keyholder, what goes with TLS would only
    /// lock people out.
    pub fn keep_roles_as_they_were(&mut self, old: &Self) {
        self.locker_directory.clone_from(&old.locker_directory);
        self.file.auth.derive_verifiers = old.file.auth.derive_verifiers;
        if self.has_tls() != old.has_tls() {
            self.file.tls.clone_from(&old.file.tls);
        }
    }

    /// Leaves `[oauth]` as it was where it is added, taken away or given another server: the token role may reach the one alone
    /// that it was started with.
    pub fn keep_oauth_as_it_was(&mut self, old: &Self) {
        if self.token_server() != old.token_server() {
            self.file.oauth.clone_from(&old.file.oauth);
        }
    }

    /// Whether there is a token role, and the server that it may ask.
    fn token_server(&self) -> Option<Option<Server>> {
        Some(self.token()?.method.server().cloned())
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{OAUTH, parse};

    #[test]
    fn a_reload_turns_tls_neither_on_nor_off() {
        let without = parse("").unwrap();
        let with = parse("[tls]\ncertificate = \"/c\"\nkey = \"/k\"\n").unwrap();
        let other = parse("[tls]\ncertificate = \"/d\"\nkey = \"/k\"\n").unwrap();
        for (old, newer) in [(&without, &with), (&with, &without)] {
            let mut kept = newer.clone();
            kept.keep_roles_as_they_were(old);
            assert_eq!(kept.certificates(), old.certificates());
            assert!(old.needs_restart(newer).contains(&"[tls]"));
        }
        let mut changed = other.clone();
        changed.keep_roles_as_they_were(&with);
        assert_eq!(changed.certificates(), other.certificates());
        assert!(with.needs_restart(&other).is_empty());
    }

    #[test]
    fn a_reload_gives_the_token_role_no_other_server() {
        let file = parse(OAUTH).unwrap();
        let url = |url: &str| parse(&OAUTH.replace("/k", url)).unwrap();
        let (one, other) = (url("https://one.example"), url("https://other.example"));
        let without = parse("").unwrap();
        for (old, newer) in [
            (&file, &one),
            (&one, &other),
            (&one, &without),
            (&without, &one),
        ] {
            let mut kept = newer.clone();
            kept.keep_oauth_as_it_was(old);
            assert_eq!(kept.token(), old.token());
            assert!(!old.needs_restart(newer).is_empty());
        }
        let changed = parse(&format!("{OAUTH}scope = [\"pop3\"]\n")).unwrap();
        let mut kept = changed.clone();
        kept.keep_oauth_as_it_was(&file);
        assert_eq!(kept.token(), changed.token());
        assert!(file.needs_restart(&changed).is_empty());
    }

    #[test]
    fn a_reload_leaves_the_locker_as_it_was() {
        let old = parse("[maildrop]\ndotlock = true\n").unwrap();
        let mut newer = parse("").unwrap();
        assert_eq!(
            old.needs_restart(&newer),
            ["maildrop.dotlock, the directory of maildrop.location"]
        );
        newer.keep_roles_as_they_were(&old);
        assert_eq!(newer.locker_directory(), old.locker_directory());
        assert!(!newer.spawner().dotlock);
    }
}
