//! Logins that have succeeded, remembered for a short while so that a client that comes every minute does not cost a password hash
//! every minute. Off unless configured (`auth.cache`).
//!
//! What is remembered is a keyed hash of everything that decided: name, password, the client's and the local address, and the
//! identity of every file that a password may be changed in. When one of them changes, nothing fits any more. The key is
//! drawn at the start and lies in locked memory of this process; workers do not have it. Wrong passwords are not remembered,
//! so a guess costs what it always does, whether or not its user is here; only who has the right password is answered sooner.
//!
//! What changes elsewhere (a directory server that PAM asks, a day that ends) is seen when the time is over, at the latest.

use std::collections::HashMap;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, Instant};

use confine::locked::LockedKey;
use hmac::{Hmac, KeyInit, Mac};
use messages::Account;
use messages::auth::AuthConfig;
use sha2::Sha256;

use crate::work::{Credential, Request, Source};

/// Logins remembered: some megabytes. When there are more, the oldest is forgotten, which costs a hash.
const MAX_LOGINS: usize = 16_384;

/// Octets of a proof: SHA-256.
const PROOF_OCTETS: usize = 32;

/// Where the system's passwords are changed.
const SYSTEM_FILES: [&str; 2] = ["/etc/passwd", "/etc/shadow"];

/// That these credentials, from there, under these stores, are those of a login. Nothing can be told from it without the key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Proof([u8; PROOF_OCTETS]);

/// What a login came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Login {
    /// Whose maildrop may be opened.
    pub account: Account,
    /// Who said so.
    pub source: Source,
    /// The label of the app password, if it was one.
    pub credential: Option<String>,
}

impl Login {
    /// Of a user's own password, or without any.
    pub fn of(account: Account, source: Source) -> Self {
        Self {
            account,
            source,
            credential: None,
        }
    }
}

/// The logins that are remembered.
pub struct LoginCache {
    key: LockedKey,
    life: Duration,
    /// Changes with the configuration: what was begun before is not remembered after.
    epoch: u64,
    logins: HashMap<Proof, (Instant, Login)>,
}

impl LoginCache {
    /// An empty cache. Without a life it stays so.
    pub fn new(key: LockedKey, life: Duration) -> Self {
        Self {
            key,
            life,
            epoch: 0,
            logins: HashMap::new(),
        }
    }

    /// Forgets everything.
    pub fn reconfigure(&mut self, life: Duration) {
        self.life = life;
        self.epoch = self.epoch.wrapping_add(1);
        self.logins.clear();
    }

    /// What an attempt proves if it turns out to be right; `None` where nothing is remembered, or no password is sent.
    pub fn proof(&self, request: &Request, configuration: &AuthConfig) -> Option<Proof> {
        let Credential::Password(password) = &request.credential else {
            return None;
        };
        if self.life.is_zero() {
            return None;
        }
        let mut mac = Hmac::<Sha256>::new_from_slice(self.key.octets()).ok()?;
        mac.update(&self.epoch.to_ne_bytes());
        // Each with its length, so that no two attempts are written the same.
        for part in [&request.user, password.expose()] {
            mac.update(&part.len().to_ne_bytes());
            mac.update(part);
        }
        for address in [request.peer, request.local] {
            mac.update(format!("{address:?};").as_bytes());
        }
        let stores = [
            Some(&configuration.users_file),
            configuration.app_passwords.as_ref(),
            configuration.apop_secrets.as_ref(),
        ];
        let stores = stores.into_iter().flatten().map(|path| path.as_path());
        for path in SYSTEM_FILES.iter().map(Path::new).chain(stores) {
            for number in identity(path) {
                mac.update(&number.to_ne_bytes());
            }
        }
        Some(Proof(mac.finalize().into_bytes().into()))
    }

    /// The login that is remembered.
    pub fn find(&self, proof: &Proof, now: Instant) -> Option<Login> {
        let (begun, login) = self.logins.get(proof)?;
        (now.saturating_duration_since(*begun) < self.life).then(|| login.clone())
    }

    /// Remembers a login that has succeeded; not for longer if it was remembered already.
    pub fn remember(&mut self, proof: Proof, login: Login, now: Instant) {
        // Their users are files of their own, which are not looked at here.
        if self.life.is_zero() || login.source == Source::AddressDomain {
            return;
        }
        if self.logins.len() >= MAX_LOGINS {
            let life = self.life;
            self.logins
                .retain(|_, (begun, _)| now.saturating_duration_since(*begun) < life);
        }
        if self.logins.len() >= MAX_LOGINS
            && let Some((&oldest, _)) = self.logins.iter().min_by_key(|(_, (begun, _))| *begun)
        {
            self.logins.remove(&oldest);
        }
        self.logins.insert(proof, (now, login));
    }
}

/// What changes when a file is changed or replaced; zeroes where there is none.
fn identity(path: &Path) -> [i64; 7] {
    let Ok(found) = std::fs::metadata(path) else {
        return [0; 7];
    };
    [
        found.dev().cast_signed(),
        found.ino().cast_signed(),
        found.size().cast_signed(),
        found.mtime(),
        found.mtime_nsec(),
        found.ctime(),
        found.ctime_nsec(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{self, configuration};
    use messages::Secret;

    const LIFE: Duration = Duration::from_secs(300);

    fn cache() -> LoginCache {
        let key = LockedKey::new(|octets| {
            octets.fill(7);
            Ok(())
        });
        LoginCache::new(key.unwrap(), LIFE)
    }

    fn request(user: &str, password: &str, peer: &str) -> Request {
        Request {
            user: user.as_bytes().to_vec(),
            credential: Credential::Password(Secret::copied_from(password.as_bytes())),
            tls: false,
            local: None,
            peer: Some(peer.parse().unwrap()),
        }
    }

    fn login(name: &str) -> Login {
        Login {
            account: testing::account(name),
            source: Source::UsersFile,
            credential: None,
        }
    }

    #[test]
    fn only_the_same_attempt_is_found_and_only_for_its_life() {
        let configuration = configuration("/no/such/file".into());
        let (mut cache, now) = (cache(), Instant::now());
        let of = |cache: &LoginCache, user, password, peer| {
            let request = request(user, password, peer);
            cache.proof(&request, &configuration).unwrap()
        };
        let proof = of(&cache, "joe", "secret", "192.0.2.1");
        assert_eq!(cache.find(&proof, now), None);
        cache.remember(proof, login("joe"), now);
        assert_eq!(of(&cache, "joe", "secret", "192.0.2.1"), proof);
        assert_eq!(cache.find(&proof, now + LIFE / 2), Some(login("joe")));
        assert_eq!(cache.find(&proof, now + LIFE), None);
        for (user, password, peer) in [
            ("joe", "Secret", "192.0.2.1"),
            ("joes", "ecret", "192.0.2.1"),
            ("ann", "secret", "192.0.2.1"),
            ("joe", "secret", "192.0.2.2"),
        ] {
            assert_ne!(of(&cache, user, password, peer), proof);
        }
        cache.reconfigure(LIFE);
        assert_ne!(of(&cache, "joe", "secret", "192.0.2.1"), proof);
        assert_eq!(cache.find(&proof, now), None);
    }

    #[test]
    fn a_changed_store_lets_nothing_be_found() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("users");
        let configuration = configuration(path.clone());
        let cache = cache();
        let of = || {
            let request = request("joe", "secret", "192.0.2.1");
            cache.proof(&request, &configuration).unwrap()
        };
        let mut seen = vec![of()];
        for text in ["joe:x", "joe:xy"] {
            std::fs::write(&path, text).unwrap();
            seen.push(of());
        }
        // Another of the same size in its place.
        std::fs::write(path.with_extension("new"), "joe:xz").unwrap();
        std::fs::rename(path.with_extension("new"), &path).unwrap();
        seen.push(of());
        for (number, proof) in seen.iter().enumerate() {
            assert!(!seen[..number].contains(proof), "{number}");
        }
        assert_eq!(of(), of());
    }

    #[test]
    fn without_a_life_and_without_a_password_there_is_no_proof() {
        let configuration = configuration("/no/such/file".into());
        let mut cache = cache();
        let mut request = request("joe", "secret", "192.0.2.1");
        let proof = cache.proof(&request, &configuration).unwrap();
        request.credential = Credential::Verifier;
        assert_eq!(cache.proof(&request, &configuration), None);
        cache.reconfigure(Duration::ZERO);
        cache.remember(proof, login("joe"), Instant::now());
        assert!(cache.logins.is_empty());
    }

    #[test]
    fn the_table_does_not_grow_without_end() {
        let (mut cache, start) = (cache(), Instant::now());
        let proof = |number: usize| {
            let mut octets = [0; PROOF_OCTETS];
            octets[..8].copy_from_slice(&number.to_ne_bytes());
            Proof(octets)
        };
        for number in 0..MAX_LOGINS + 3 {
            let now = start + Duration::from_nanos(u64::try_from(number).unwrap());
            cache.remember(proof(number), login("joe"), now);
        }
        assert_eq!(cache.logins.len(), MAX_LOGINS);
        assert_eq!(cache.find(&proof(2), start), None);
        assert!(cache.find(&proof(3), start).is_some());
    }
}
