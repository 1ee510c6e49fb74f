//! The password database and /etc/shadow.

use std::path::Path;
use std::time::SystemTime;

use confine::users::{self, Passwd, Shadow};

use super::{Claim, Stores, owner};
use crate::hash::{Census, Match};
use crate::store_file::{Readers, StoreError, StoreFile};
use crate::work::{Outcome, Refusal, Source};

const SECONDS_OF_A_DAY: u64 = 24 * 60 * 60;

impl Stores {
    /// `None` where the databases have no such user, or no password for it.
    pub(super) fn shadow(&self, claim: &Claim<'_>) -> Option<Outcome> {
        let entry = match users::passwd_by_name(claim.user.as_str()) {
            Ok(entry) => entry?,
            Err(error) => return Some(self.unanswered(claim, &error)),
        };
        let shadow = match users::shadow_by_name(&entry.name) {
            Ok(shadow) => shadow,
            Err(error) => return Some(self.unanswered(claim, &error)),
        };
        // A system without shadow passwords keeps the hash in the entry itself.
        let stored = match &shadow {
            Some(shadow) => &shadow.password,
            None if entry.password.as_str() != "x" => &entry.password,
            None => return None,
        };
        let matched = self.checker.check(claim.password, stored);
        Some(match self.judge(&entry, shadow.as_ref(), matched) {
            Ok(account) => Outcome::Accepted {
                account,
                source: Source::Shadow,
            },
            Err(refusal) => Outcome::refused(&entry.name, refusal),
        })
    }

    fn judge(
        &self,
        entry: &Passwd,
        shadow: Option<&Shadow>,
        matched: Match,
    ) -> Result<messages::Account, Refusal> {
        match matched {
            Match::Right => {}
            Match::Wrong => return Err(Refusal::WrongPassword),
            Match::Locked => return Err(Refusal::Locked),
            Match::Unusable => return Err(Refusal::bad_record("stored hash is of no known form")),
        }
        if shadow.is_some_and(|shadow| has_expired(shadow, today())) {
            return Err(Refusal::Expired);
        }
        owner::of_passwd(entry, self.configuration.own.as_ref())
    }

    /// The database does not answer. It may do so for one user and not for another, so the usual cost is due.
    fn unanswered(&self, claim: &Claim<'_>, error: &std::io::Error) -> Outcome {
        self.checker.spend(claim.password);
        Outcome::unknown(owner::unanswered(error))
    }

    /// Whether an account that did not prove itself by its own hash may be used, as far as the shadow entry tells.
    pub(super) fn shadow_allows(&self, name: &str) -> Result<(), Refusal> {
        match users::shadow_by_name(name) {
            Ok(Some(shadow)) if has_expired(&shadow, today()) => Err(Refusal::Expired),
            Ok(_) => Ok(()),
            Err(error) => Err(owner::unanswered(&error)),
        }
    }
}

/// Counts the hashes of the shadow file.
///
/// # Errors
/// It cannot be read.
pub fn survey(census: &mut Census) -> Result<(), StoreError> {
    let file = StoreFile::open(Path::new("/etc/shadow"), Readers::Group)?;
    file.for_each_line(|_, line| {
        let hash = line.split(|&octet| octet == b':').nth(1);
        if let Some(hash) = hash.and_then(|hash| std::str::from_utf8(hash).ok()) {
            census.count(hash);
        }
    })
}

/// As PAM's account stage sees it (shadow(5)), except that an expired password is final: over POP3 nobody can change it.
pub(super) fn has_expired(shadow: &Shadow, today: i64) -> bool {
    if shadow.expires > 0 && today >= shadow.expires {
        return true;
    }
    match shadow.last_change {
        0 => true,
        // The field is empty: passwords do not age. Or the clock was wrong once: no reason to shut somebody out.
        changed if changed < 0 || changed > today => false,
        changed => shadow.maximum >= 0 && today.saturating_sub(changed) > shadow.maximum,
    }
}

/// Days since 1970-01-01.
pub(super) fn today() -> i64 {
    let since = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
    let days = since.as_secs().checked_div(SECONDS_OF_A_DAY);
    days.and_then(|days| i64::try_from(days).ok())
        .unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use zeroize::Zeroizing;

    fn expired(last_change: i64, maximum: i64, expires: i64) -> bool {
        let shadow = Shadow {
            password: Zeroizing::new(String::new()),
            last_change,
            maximum,
            expires,
        };
        has_expired(&shadow, 20_000)
    }

    #[test]
    fn an_account_ends_on_its_day() {
        assert!(!expired(19_000, 99_999, -1));
        assert!(!expired(19_000, 99_999, 20_001));
        assert!(expired(19_000, 99_999, 20_000));
        // shadow(5): a 0 here is ambiguous and not to be used; it is not taken as 1970.
        assert!(!expired(19_000, 99_999, 0));
    }

    #[test]
    fn a_password_ages_only_where_it_is_asked_to() {
        assert!(expired(19_000, 999, -1));
        assert!(!expired(19_000, 1000, -1));
        assert!(!expired(19_000, -1, -1));
        assert!(!expired(-1, 30, -1));
        assert!(!expired(20_001, 30, -1));
        assert!(expired(0, 99_999, -1));
    }
}
