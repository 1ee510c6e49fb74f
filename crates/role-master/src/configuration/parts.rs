//! Each role's part of the configuration, as the values that the role is started with.

use messages::SaslMechanism;
use messages::auth::{AddressDomains, AuthConfig, Backend, DecoyKey, ExternalUser};
use messages::keyholder::KeyholderConfig;
use messages::listener::ListenerConfig;
use messages::locker::LockerConfig;
use messages::session::{Advertised, Cleartext, CleartextPolicy, SessionConfig};
use messages::spawner::{MailboxLock, SpawnerConfig};
use messages::token::TokenConfig;

use super::{Configuration, Runner, file};

impl Configuration {
    /// The listener's part.
    pub fn listener(&self) -> ListenerConfig {
        let limits = &self.file.limits;
        ListenerConfig {
            sessions: limits.sessions,
            sessions_per_source: limits.sessions_per_source,
            source_hold: limits.source_hold.0,
            login_timeout: limits.login_timeout.0,
            exempt: limits.exempt.clone(),
            allow: limits.allow.clone(),
            deny: limits.deny.clone(),
            proxies: self.file.proxy.networks.clone(),
            apop_host: self
                .file
                .auth
                .apop_secrets
                .is_some()
                .then(|| self.host_name.clone()),
        }
    }

    /// The sessions' part.
    pub fn session(&self) -> SessionConfig {
        let limits = &self.file.limits;
        SessionConfig {
            login_timeout: limits.login_timeout.0,
            login_attempts: limits.login_attempts,
            commands: limits.commands,
            errors: limits.errors,
            user_octets: limits.user_octets,
            apop: self.file.auth.apop_secrets.is_some(),
            failed_message: self.file.auth.failed_message.clone(),
            advertised: self.advertised(),
        }
    }

    /// Without TLS everybody goes on as with popa3d 1.0.3; with it, passwords stay off the network (RFC 8314 section 4.1).
    fn cleartext(&self) -> Cleartext {
        match self.file.auth.cleartext {
            Some(file::Cleartext::Always) => Cleartext::Always,
            Some(file::Cleartext::Loopback) => Cleartext::Loopback,
            Some(file::Cleartext::Never) => Cleartext::Never,
            None if self.has_tls() => Cleartext::Loopback,
            None => Cleartext::Always,
        }
    }

    /// The keyholder's part.
    pub fn keyholder(&self) -> KeyholderConfig {
        let tls = self.file.tls.clone().unwrap_or_default();
        KeyholderConfig {
            signatures_per_second: tls.handshakes_per_second,
        }
    }

    /// The token role's part, if there is one.
    pub fn token(&self) -> Option<TokenConfig> {
        // It has been checked that it is one.
        self.file.oauth.as_ref()?.token().ok()
    }

    /// The locker's part.
    pub fn locker(&self) -> LockerConfig {
        LockerConfig {
            directory: self.locker_directory.clone().unwrap_or_default(),
        }
    }

    /// Auth's part.
    pub fn auth(&self, decoy_key: &DecoyKey) -> AuthConfig {
        let auth = &self.file.auth;
        AuthConfig {
            mechanisms: self.mechanisms(),
            external_user: self.file.auth.external_user.map(|user| match user {
                file::ExternalUser::Email => ExternalUser::MailAddress,
                file::ExternalUser::Cn => ExternalUser::CommonName,
            }),
            decoy_key: decoy_key.clone(),
            tokens: self.file.oauth.as_ref().map(|oauth| oauth.tokens()),
            backends: self.backends(),
            users_file: auth.users_file.clone(),
            pam_service: auth.pam_service.clone(),
            apop_secrets: auth.apop_secrets.clone(),
            app_passwords: auth.app_passwords.clone(),
            derived_verifiers: self.derived_verifiers(),
            cache: auth.cache.0,
            address_domains: self
                .file
                .address_domains
                .as_ref()
                .map(|domains| AddressDomains {
                    home: domains.home.clone(),
                    auth: domains.auth.clone(),
                    spool: domains.spool.clone(),
                    only: domains.only,
                }),
            login_attempts: self.file.limits.login_attempts,
            failure_delay: auth.failure_delay.0,
            workers: auth.workers,
            dummy_setting: auth.dummy_setting.clone(),
            login_delay: self.file.limits.login_delay.0,
            own: match &self.runner {
                Runner::Root => None,
                Runner::Ordinary(account) => Some(account.clone()),
            },
        }
    }

    /// The maildrop processes' part.
    pub fn spawner(&self) -> SpawnerConfig {
        let (limits, maildrop) = (&self.file.limits, &self.file.maildrop);
        SpawnerConfig {
            sessions: limits.sessions,
            login_timeout: limits.login_timeout.0,
            location: maildrop.location.clone(),
            lock: match maildrop.lock {
                file::Lock::Fcntl => MailboxLock::Fcntl,
                file::Lock::Flock => MailboxLock::Flock,
            },
            dotlock: maildrop.dotlock,
            locker_directory: self.locker_directory.clone(),
            lock_timeout: maildrop.lock_timeout.0,
            delete_grace: maildrop.delete_grace.0,
            hide_older: maildrop.hide_older.0,
            hide_acknowledged: maildrop.hide_acknowledged,
            messages: limits.messages,
            octets: limits.octets.0,
            work_octets: limits.work_octets.unwrap_or(limits.octets).0,
            idle_timeout: limits.idle_timeout.0,
            errors: limits.errors,
            utf8_headers: self.file.protocol.utf8,
            last: self.file.protocol.last,
            session_locks: self.state_directory().join("locks"),
            indexes: self.state_directory().join("index"),
            unique_ids: self.state_directory().join("ids"),
            journals: self.state_directory().join("journal"),
            advertised: self.advertised(),
        }
    }

    pub(super) fn backends(&self) -> Vec<Backend> {
        match (&self.file.auth.backends, &self.runner) {
            (Some(backends), _) => backends
                .iter()
                .map(|backend| match backend {
                    file::BackendName::Pam => Backend::Pam,
                    file::BackendName::Shadow => Backend::Shadow,
                    file::BackendName::UsersFile => Backend::UsersFile,
                })
                .collect(),
            (None, Runner::Root) => vec![Backend::Pam],
            (None, Runner::Ordinary(_)) => vec![Backend::UsersFile],
        }
    }

    /// Whether a client may log in by a certificate.
    pub fn has_external(&self) -> bool {
        self.mechanisms().contains(&SaslMechanism::External)
    }

    /// The mechanisms offered somewhere, the strongest first. Clients that know SCRAM take it and nothing else, so by itself it
    /// is offered only where every user could have a verifier.
    fn mechanisms(&self) -> Vec<SaslMechanism> {
        use SaslMechanism::{
            External, Login, OAuthBearer, Plain, ScramSha256, ScramSha256Plus, XOAuth2,
        };
        let mut mechanisms = match &self.file.auth.mechanisms {
            Some(mechanisms) => mechanisms.clone(),
            None if self.backends() == [Backend::UsersFile] => {
                vec![ScramSha256Plus, ScramSha256, Plain, Login]
            }
            None => vec![Plain, Login],
        };
        if self.file.auth.mechanisms.is_none() && self.has_oauth() {
            mechanisms.extend([OAuthBearer, XOAuth2]);
        }
        if self.file.auth.mechanisms.is_none() && self.file.auth.external_user.is_some() {
            mechanisms.push(External);
        }
        mechanisms.sort_unstable();
        mechanisms.dedup();
        if !self.has_tls() {
            mechanisms.retain(|mechanism| !mechanism.is_bound());
        }
        mechanisms
    }

    /// For how many days a client finds again what it leaves, at least (RFC 2449 section 6.7). What is hidden from it is gone as
    /// far as it can tell.
    fn expire(&self) -> Option<u32> {
        let maildrop = &self.file.maildrop;
        let older = maildrop.hide_older.0;
        match (maildrop.hide_acknowledged, older.is_zero()) {
            (true, _) => Some(0),
            (false, true) => None,
            (false, false) => {
                let days = older.as_secs() / (24 * 60 * 60);
                Some(u32::try_from(days).unwrap_or(u32::MAX))
            }
        }
    }

    fn advertised(&self) -> Advertised {
        let delay = self.file.limits.login_delay.0;
        Advertised {
            cleartext: CleartextPolicy {
                rule: self.cleartext(),
                networks: self.file.auth.cleartext_networks.clone(),
            },
            mechanisms: self.mechanisms(),
            login_delay: (!delay.is_zero()).then_some(delay),
            expire: self.expire(),
            implementation: self
                .file
                .protocol
                .implementation
                .then(|| format!("popa3d-{}", env!("CARGO_PKG_VERSION"))),
        }
    }
}
