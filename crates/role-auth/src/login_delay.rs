//! LOGIN-DELAY (RFC 2449 section 6.5): the shortest time between two logins of one user.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use messages::Account;

/// Logins remembered: some megabytes. When there are more within one delay, the oldest is forgotten: a client let in too
/// early harms nobody.
const MAX_LOGINS: usize = 65_536;

/// Whose maildrop: names may be the same in two virtual domains.
type Key = (String, Option<String>);

/// When users last logged in.
#[derive(Debug, Default)]
pub struct LoginDelay {
    logins: HashMap<Key, Instant>,
}

impl LoginDelay {
    /// Whether the last login is shorter ago than `delay`.
    pub fn is_too_soon(&self, account: &Account, delay: Duration, now: Instant) -> bool {
        self.logins
            .get(&key(account))
            .is_some_and(|&last| now.saturating_duration_since(last) < delay)
    }

    /// Remembers a login for `delay`.
    pub fn remember(&mut self, account: &Account, delay: Duration, now: Instant) {
        if delay.is_zero() {
            self.logins.clear();
            return;
        }
        if self.logins.len() >= MAX_LOGINS {
            self.logins
                .retain(|_, &mut last| now.saturating_duration_since(last) < delay);
        }
        if self.logins.len() >= MAX_LOGINS
            && let Some(oldest) = self.logins.iter().min_by_key(|(_, last)| **last)
        {
            let oldest = oldest.0.clone();
            self.logins.remove(&oldest);
        }
        self.logins.insert(key(account), now);
    }
}

fn key(account: &Account) -> Key {
    (account.name.clone(), account.maildrop.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn account(name: &str, maildrop: Option<&str>) -> Account {
        Account {
            maildrop: maildrop.map(str::to_owned),
            ..crate::testing::account(name)
        }
    }

    #[test]
    fn a_second_login_within_the_delay_is_too_soon() {
        let delay = Duration::from_secs(60);
        let start = Instant::now();
        let mut logins = LoginDelay::default();
        let joe = account("joe", None);
        assert!(!logins.is_too_soon(&joe, delay, start));
        logins.remember(&joe, delay, start);
        assert!(logins.is_too_soon(&joe, delay, start + delay / 2));
        assert!(!logins.is_too_soon(&joe, delay, start + delay));
        assert!(!logins.is_too_soon(&account("ann", None), delay, start));
        assert!(!logins.is_too_soon(&account("joe", Some("mbox:/x")), delay, start));
    }

    #[test]
    fn the_table_does_not_grow_without_end() {
        let delay = Duration::from_secs(60);
        let start = Instant::now();
        let mut logins = LoginDelay::default();
        for number in 0..MAX_LOGINS + 3 {
            let now = start + Duration::from_nanos(u64::try_from(number).unwrap());
            logins.remember(&account(&number.to_string(), None), delay, now);
        }
        assert_eq!(logins.logins.len(), MAX_LOGINS);
        assert!(!logins.is_too_soon(&account("0", None), delay, start));
        assert!(logins.is_too_soon(&account("3", None), delay, start));
    }

    #[test]
    fn without_a_delay_nothing_is_remembered() {
        let mut logins = LoginDelay::default();
        logins.remember(&account("joe", None), Duration::ZERO, Instant::now());
        assert!(logins.logins.is_empty());
    }
}
