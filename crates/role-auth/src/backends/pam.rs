//! PAM. The modules run in this very process, which therefore serves one attempt only.
//!
//! What a refusal costs is the modules' affair: Debian 12's pam_unix hashes twice for a wrong password and not at all for a locked
//! account. The client does not see it, because failed attempts are answered at a time counted from their arrival, as long as
//! `failure_delay` is longer than the modules take.

use std::ffi::{CStr, CString};

use confine::users;
use messages::Account;

use super::{Claim, Stores, owner};
use crate::bindings::pam::Answer;
use crate::name::{MAX_USER_OCTETS, Password};
use crate::work::{Outcome, Refusal, Request, Source};

impl Stores {
    /// `None` where neither the modules nor the password database have such a user.
    ///
    /// Most stacks answer "wrong password" for an unknown user as well; then the password database tells the two apart, which
    /// has to know the user anyway.
    pub(super) fn pam(&self, claim: &Claim<'_>) -> Option<Outcome> {
        let name = claim.user.as_str();
        // A name has no control characters.
        let asked = CString::new(name)
            .map_err(|_| Refusal::Malformed)
            .and_then(|user| self.ask_pam(&user, Some(claim.password), claim.request));
        let answer = match asked {
            Ok(answer) => answer,
            Err(refusal) => return Some(self.hopeless(Some(claim.password), refusal)),
        };
        let refusal = match answer {
            Answer::Accepted(user) => return Some(self.accepted_by_pam(&user)),
            Answer::UserUnknown => return None,
            Answer::Refused => Refusal::WrongPassword,
            Answer::AccountRefused => Refusal::Expired,
            Answer::Failed(code) => Refusal::unavailable(format!("PAM error {code}")),
        };
        match users::passwd_by_name(name) {
            Ok(Some(entry)) => Some(Outcome::refused(&entry.name, refusal)),
            Ok(None) if refusal.is_fault() => Some(Outcome::unknown(refusal)),
            Ok(None) => None,
            Err(error) => Some(Outcome::unknown(owner::unanswered(&error))),
        }
    }

    /// Asks the modules; without a password, whether the account may be used by somebody who needs none.
    pub(super) fn ask_pam(
        &self,
        user: &CStr,
        password: Option<&Password>,
        request: &Request,
    ) -> Result<Answer, Refusal> {
        let pam = self
            .pam
            .as_ref()
            .ok_or_else(|| Refusal::broken("libpam.so.0 is not to be found"))?;
        let service = CString::new(self.configuration.pam_service.as_str())
            .map_err(|_| Refusal::broken("PAM service name holds a NUL"))?;
        let peer = request.peer.map(|peer| peer.to_canonical().to_string());
        let peer = peer.and_then(|peer| CString::new(peer).ok());
        Ok(pam.ask(&service, user, password, peer.as_deref()))
    }

    fn accepted_by_pam(&self, user: &str) -> Outcome {
        match self.account_of_pam_user(user) {
            Ok(account) => Outcome::Accepted {
                account,
                source: Source::Pam,
            },
            Err(refusal) => Outcome::refused(user, refusal),
        }
    }

    fn account_of_pam_user(&self, user: &str) -> Result<Account, Refusal> {
        if user.len() > MAX_USER_OCTETS || user.chars().any(char::is_control) {
            return Err(Refusal::unusable("PAM changed the name into none"));
        }
        match users::passwd_by_name(user) {
            Ok(Some(entry)) => owner::of_passwd(&entry, self.configuration.own.as_ref()),
            Ok(None) => Err(Refusal::unusable(
                "accepted by PAM, not in the password database",
            )),
            Err(error) => Err(owner::unanswered(&error)),
        }
    }
}
