//! Accounts of users who have proven themselves without a password of these stores, by an access token: the stores are asked in
//! the same order whose maildrop it is, and whether the account may be used. A locked account is locked for everything.

use std::ffi::CString;

use confine::users::{self, Passwd};
use messages::Account;
use messages::auth::Backend;

use super::{Stores, owner};
use crate::bindings::pam::Answer;
use crate::hash::is_locked;
use crate::name::UserName;
use crate::work::{Outcome, Refusal, Request, Source};

/// `None` where a store does not know the user.
type Found = Option<Result<Account, Refusal>>;

impl Stores {
    /// Looks a user up who needs no password.
    pub(super) fn proven(&self, user: &UserName, request: &Request) -> Outcome {
        // Virtual domains by address have passwords only.
        if self.is_address_domain(request) {
            return Outcome::unknown(Refusal::UnknownUser);
        }
        for backend in &self.configuration.backends {
            let (found, source) = match backend {
                Backend::Pam => (self.proven_to_pam(user, request), Source::Pam),
                Backend::Shadow => (self.proven_to_shadow(user), Source::Shadow),
                Backend::UsersFile => (
                    self.account_from_users_file(user, Locked::Refused),
                    Source::UsersFile,
                ),
            };
            match found {
                Some(Ok(account)) => return Outcome::Accepted { account, source },
                Some(Err(refusal)) => return Outcome::refused(user.as_str(), refusal),
                None => {}
            }
        }
        Outcome::unknown(Refusal::UnknownUser)
    }

    fn proven_to_shadow(&self, user: &UserName) -> Found {
        let (entry, has_hash) = match self.unlocked(user)? {
            Ok(found) => found,
            Err(refusal) => return Some(Err(refusal)),
        };
        has_hash.then(|| owner::of_passwd(&entry, self.configuration.own.as_ref()))
    }

    /// The modules are asked for their account stage alone.
    fn proven_to_pam(&self, user: &UserName, request: &Request) -> Found {
        let (entry, _) = match self.unlocked(user)? {
            Ok(found) => found,
            Err(refusal) => return Some(Err(refusal)),
        };
        Some(match self.ask_pam_of_account(&entry.name, request) {
            Ok(Answer::Accepted(name)) if name == entry.name => {
                owner::of_passwd(&entry, self.configuration.own.as_ref())
            }
            Ok(Answer::Accepted(_)) => Err(Refusal::unusable("PAM changed the name")),
            Ok(Answer::UserUnknown) => return None,
            Ok(Answer::Refused | Answer::AccountRefused) => Err(Refusal::Expired),
            Ok(Answer::Failed(code)) => Err(Refusal::unavailable(format!("PAM error {code}"))),
            Err(refusal) => Err(refusal),
        })
    }

    fn ask_pam_of_account(&self, name: &str, request: &Request) -> Result<Answer, Refusal> {
        let user = CString::new(name).map_err(|_| Refusal::Malformed)?;
        self.ask_pam(&user, None, request)
    }

    /// The password database's entry of a user whose account is neither locked nor expired, and whether there is a hash with it.
    fn unlocked(&self, user: &UserName) -> Option<Result<(Passwd, bool), Refusal>> {
        let entry = match users::passwd_by_name(user.as_str()) {
            Ok(entry) => entry?,
            Err(error) => return Some(Err(owner::unanswered(&error))),
        };
        let shadow = match users::shadow_by_name(&entry.name) {
            Ok(shadow) => shadow,
            Err(error) => return Some(Err(owner::unanswered(&error))),
        };
        // A system without shadow passwords keeps the hash in the entry itself; a directory may show none.
        let stored = match &shadow {
            Some(shadow) => Some(&shadow.password),
            None => Some(&entry.password).filter(|stored| stored.as_str() != "x"),
        };
        if stored.is_some_and(|stored| is_locked(stored)) {
            return Some(Err(Refusal::Locked));
        }
        let has_hash = stored.is_some();
        Some(self.shadow_allows(&entry.name).map(|()| (entry, has_hash)))
    }
}

/// Whether an account whose hash says that it is locked may be used all the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Locked {
    /// Its user has another secret, for which the hash does not count.
    Allowed,
    /// It may not.
    Refused,
}
