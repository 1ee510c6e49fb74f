//! App passwords: asked before a user's own password, for users of every store but virtual domains by address.
//!
//! A wrong password costs the same, whatever app passwords a user has: the whole file is read, and so many digests are made as a
//! user may have app passwords at most, before the user's own password is looked at at its usual cost. One that is right but not
//! taken (expired, or from elsewhere) goes that way too, and is a wrong password to its client. Only one that is right and
//! taken is answered sooner.

use std::path::Path;
use std::time::SystemTime;

use app_passwords::{AppPassword, Day, Hash, MAX_PER_USER, Restriction};
use messages::{Account, Rights};
use zeroize::Zeroizing;

use super::{Claim, Stores};
use crate::store_file::{Readers, StoreError, StoreFile};
use crate::work::{Outcome, Refusal};

/// Bad lines that a survey tells of.
const MAX_COMPLAINTS: usize = 20;

/// What the file has to say about a password.
pub(super) enum Finding {
    /// Nothing: it is no app password of that user.
    None,
    /// It is this one.
    Right(Box<AppPassword>),
    /// It is one that is not taken.
    Refused(Refusal),
    /// The file cannot be used. Users' own passwords count all the same.
    Broken(Refusal),
}

impl Finding {
    /// What the user's own password came to, with what the log is to be told of the app password that it was instead.
    pub(super) fn explain(self, outcome: Outcome) -> Outcome {
        let is_credentials = |refusal: &Refusal| {
            let denial = refusal.denial();
            denial == messages::auth::Denial::Credentials
        };
        match (self, outcome) {
            // Only of a user who exists: nobody else is named in the log.
            (Finding::Refused(reason), Outcome::Refused { user, refusal })
                if user.is_some() && is_credentials(&refusal) =>
            {
                let refusal = reason;
                Outcome::Refused { user, refusal }
            }
            // It may have been an app password; a client that is told that it was wrong asks for another.
            (Finding::Broken(reason), Outcome::Refused { user, refusal })
                if is_credentials(&refusal) =>
            {
                let refusal = reason;
                Outcome::Refused { user, refusal }
            }
            (_, outcome) => outcome,
        }
    }
}

impl Stores {
    /// Looks for the password among the user's app passwords.
    pub(super) fn app_password(&self, claim: &Claim<'_>) -> Finding {
        let Some(path) = &self.configuration.app_passwords else {
            return Finding::None;
        };
        let lines = match lines_of(path, claim) {
            Ok(lines) => lines,
            Err(error) => return Finding::Broken(Refusal::broken(error)),
        };
        let mut found = None;
        let nobody = Hash::of_nobody();
        for number in 0..MAX_PER_USER {
            let entry = lines.get(number);
            let entry = entry.and_then(|line| AppPassword::parse(line).ok().flatten());
            let hash = entry.as_ref().map_or(&nobody, |entry| &entry.hash);
            if hash.is_of(claim.password.as_bytes()) && found.is_none() {
                found = entry;
            }
        }
        let Some(found) = found else {
            return Finding::None;
        };
        let today = Day::of(SystemTime::now());
        match found.objection(today, claim.request.peer) {
            None => Finding::Right(Box::new(found)),
            Some(objection) => {
                let label = found.label;
                Finding::Refused(Refusal::AppPassword(format!(
                    "app password {label} {objection}"
                )))
            }
        }
    }

    /// What a right app password opens: the maildrop of the user that the first store knows, if the account may be used.
    pub(super) fn log_in_by(&self, claim: &Claim<'_>, password: AppPassword) -> Outcome {
        match self.proven(claim.user, claim.request) {
            Outcome::Accepted { account, source } => Outcome::AcceptedApp {
                account: Account {
                    rights: rights_of(password.restriction),
                    ..account
                },
                source,
                label: password.label,
            },
            refused => {
                self.checker.spend(claim.password);
                refused
            }
        }
    }
}

fn rights_of(restriction: Option<Restriction>) -> Rights {
    match restriction {
        None => Rights::Full,
        Some(Restriction::NoDelete) => Rights::NoDelete,
        Some(Restriction::ReadOnly) => Rights::ReadOnly,
    }
}

/// The first lines of the user, as many as count.
fn lines_of(path: &Path, claim: &Claim<'_>) -> Result<Vec<Zeroizing<String>>, StoreError> {
    let length = claim.user.as_str().len();
    let mut lines = Vec::new();
    StoreFile::open(path, Readers::Group)?.for_each_line(|_, line| {
        let is_users = line.get(length) == Some(&b':')
            && claim.user.is(line.get(..length).unwrap_or_default());
        if is_users
            && lines.len() < MAX_PER_USER
            && let Ok(text) = std::str::from_utf8(line)
        {
            lines.push(Zeroizing::new(text.to_owned()));
        }
    })?;
    Ok(lines)
}

/// Says which lines are of no use, the first [`MAX_COMPLAINTS`] of them.
///
/// # Errors
/// The file as a whole cannot be used.
pub fn survey(path: &Path) -> Result<Vec<String>, StoreError> {
    let mut complaints = Vec::new();
    StoreFile::open(path, Readers::Group)?.for_each_line(|number, line| {
        let parsed = std::str::from_utf8(line)
            .map_err(|_| "is not UTF-8")
            .and_then(AppPassword::parse);
        if let Err(reason) = parsed
            && complaints.len() < MAX_COMPLAINTS
        {
            complaints.push(format!("{}, line {number}: {reason}", path.display()));
        }
    })?;
    Ok(complaints)
}
