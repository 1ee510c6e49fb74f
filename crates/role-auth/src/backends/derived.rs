//! SCRAM for the system's users: a verifier that is derived from a password when the system has accepted it, and that is worth
//! something only as long as the system's hash is the one of that password. Off unless configured (`auth.derive_verifiers`).
//!
//! Runs in auth's worker processes. PLAIN and the like go on being checked by the system alone. The salt is the one that
//! strangers are shown for that name already ([`sasl::scram::Decoys`]): having a verifier, or losing it, changes nothing that
//! can be seen.

use confine::users::{self, Passwd};
use hmac::{Hmac, KeyInit, Mac};
use messages::Secret;
use sasl::base64;
use sasl::scram::{Hash, Verifier};
use sha2::Sha256;
use zeroize::Zeroizing;

use super::shadow::{has_expired, today};
use super::{Claim, Stores, owner};
use crate::derived_file::{self, Record};
use crate::exchange::as_stored;
use crate::hash::{Match, is_locked};
use crate::name::UserName;
use crate::work::{Found, Outcome, Refusal, Source};

impl Stores {
    /// Derives a verifier from the password of a login by PLAIN or LOGIN over TLS that the system has accepted, unless there is
    /// one already. What fails here fails for SCRAM alone; that the directory can be written to was tried at the start.
    pub(super) fn derive(&self, claim: &Claim<'_>, outcome: &Outcome) {
        let Some(directory) = &self.configuration.derived_verifiers else {
            return;
        };
        let Outcome::Accepted { account, source } = outcome else {
            return;
        };
        let is_systems = matches!(source, Source::Shadow | Source::Pam);
        if !is_systems || !claim.request.tls || account.name != claim.user.as_str() {
            return;
        }
        let Ok(Some(shadow)) = users::shadow_by_name(&account.name) else {
            return;
        };
        let decoy = self.decoy(claim.user);
        let Some(binding) = self.binding(claim.user, &decoy, &shadow.password) else {
            return;
        };
        match derived_file::find(directory, claim.user) {
            Ok(Some(record)) if record.binding == binding => return,
            Ok(_) => {}
            Err(_) => return,
        }
        // PAM may have asked somebody else, whose changes are not seen here; and the hash may just have been changed.
        if self.checker.check(claim.password, &shadow.password) != Match::Right {
            return;
        }
        let password = claim.password.as_bytes();
        let derived = Verifier::derive(Hash::Sha256, password, decoy.salt(), decoy.iterations());
        if let Ok(verifier) = derived {
            let verifier = verifier.to_text().into();
            drop(derived_file::put(
                directory,
                claim.user,
                &Record { binding, verifier },
            ));
        }
    }

    /// What is kept of a user of the system; `None` for others, and where nothing is kept. A verifier whose password is not the
    /// system's any more is not used, and forgotten.
    ///
    /// # Errors
    /// It cannot be told, of anybody.
    pub(super) fn derived(
        &self,
        user: &UserName,
        entry: Option<&Passwd>,
    ) -> Result<Option<Found>, Refusal> {
        let Some(directory) = &self.configuration.derived_verifiers else {
            return Ok(None);
        };
        let record = derived_file::find(directory, user).map_err(Refusal::broken)?;
        let shadow =
            users::shadow_by_name(user.as_str()).map_err(|error| owner::unanswered(&error))?;
        let stored = shadow.as_ref().map_or("", |shadow| &shadow.password);
        let binding = self.binding(user, &self.decoy(user), stored);
        let is_current =
            |record: &Record| shadow.is_some() && Some(&record.binding) == binding.as_ref();
        let record = match record {
            Some(record) if !is_current(&record) => {
                drop(derived_file::remove(directory, user, &record));
                None
            }
            record => record,
        };
        let (Some(entry), Some(shadow)) = (entry, &shadow) else {
            return Ok(None);
        };
        let account = if is_locked(&shadow.password) {
            Err(Refusal::Locked)
        } else if has_expired(shadow, today()) {
            Err(Refusal::Expired)
        } else {
            owner::of_passwd(entry, self.configuration.own.as_ref())
        };
        let mut found = Found {
            user: Some(entry.name.clone()),
            verifier: None,
            account,
            is_derived: true,
        };
        // Who may not be told that the password was right must not be able to prove it.
        if !found.is_credentials_refusal() {
            found.verifier = record.map(|record| Secret::copied_from(record.verifier.as_bytes()));
        }
        Ok(Some(found))
    }

    fn decoy(&self, user: &UserName) -> Verifier {
        self.decoys
            .verifier(&as_stored(user.as_str()), Hash::Sha256)
    }

    /// Changes with the system's hash, and with what verifiers look like here. Keyed, so that the file alone says nothing of
    /// the system's hash.
    fn binding(
        &self,
        user: &UserName,
        decoy: &Verifier,
        stored: &str,
    ) -> Option<Zeroizing<String>> {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.configuration.decoy_key.0).ok()?;
        // Each with its length, so that no two are written the same; and no decoy is made of octets that begin so.
        for part in ["derived verifier", user.as_str(), &decoy.to_text(), stored] {
            mac.update(&part.len().to_be_bytes());
            mac.update(part.as_bytes());
        }
        let octets = Zeroizing::new(<[u8; 32]>::from(mac.finalize().into_bytes()));
        Some(base64::encode(&*octets))
    }
}
