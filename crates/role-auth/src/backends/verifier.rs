//! What SCRAM is begun with: the verifier of a user of the users file, or one derived for a user of the system.
//!
//! Runs in auth's worker processes, before the client has proven anything, and costs the same whoever is asked for: the whole
//! files are read, and the password database is asked once, be there such a user or not.

use std::path::Path;

use confine::users::{self, Passwd};
use messages::auth::Backend;
use messages::{Account, Secret};
use sasl::base64;
use sasl::scram::Verifier;

use super::users_file::Record;
use super::{Stores, owner};
use crate::name::UserName;
use crate::store_file::{Found as Line, Readers, StoreError, StoreFile};
use crate::work::{Found, Outcome, Refusal, Request};

impl Stores {
    /// Looks up what a SCRAM exchange with this user needs.
    pub(super) fn verifier(&self, user: &UserName, request: &Request) -> Outcome {
        let path = &self.configuration.users_file;
        let line = if self.configuration.backends.contains(&Backend::UsersFile) {
            match find(path, user) {
                Ok(line) => line,
                Err(error) => return Outcome::unknown(Refusal::broken(error)),
            }
        } else {
            None
        };
        let entry = match self.configuration.own {
            // Everybody is this account.
            Some(_) => Ok(None),
            None => users::passwd_by_name(user.as_str()),
        };
        // Virtual domains by address have passwords only, and the first store that knows a user decides.
        let is_address_domain = self.is_address_domain(request);
        let elsewhere = match &entry {
            _ if is_address_domain => true,
            Ok(entry) => entry.is_some() && self.asks_the_system_first(),
            Err(error) if self.asks_the_system_first() => {
                return Outcome::unknown(owner::unanswered(error));
            }
            Err(_) => false,
        };
        let entry = entry.map_err(|error| owner::unanswered(&error));
        // Looked up also where the users file has decided: it costs the same for everybody.
        let derived = match self.derived(user, entry.as_ref().ok().and_then(Option::as_ref)) {
            Ok(derived) => derived.filter(|_| !is_address_domain),
            Err(refusal) => return Outcome::unknown(refusal),
        };
        Outcome::Found(match line {
            Some(line) if !elsewhere => found(path, user, &line, entry, self.own()),
            _ => derived.unwrap_or(Found {
                user: None,
                verifier: None,
                account: Err(Refusal::UnknownUser),
                is_derived: false,
            }),
        })
    }

    /// Whether a user of the system is never looked for in the users file.
    fn asks_the_system_first(&self) -> bool {
        let first = self.configuration.backends.first();
        first.is_some_and(|&first| first != Backend::UsersFile)
    }

    fn own(&self) -> Option<&Account> {
        self.configuration.own.as_ref()
    }
}

fn find(path: &Path, user: &UserName) -> Result<Option<Line>, StoreError> {
    StoreFile::open(path, Readers::Group)?.find(user)
}

fn found(
    path: &Path,
    user: &UserName,
    line: &Line,
    entry: Result<Option<Passwd>, Refusal>,
    own: Option<&Account>,
) -> Found {
    let bad_record = |reason: &str| {
        Refusal::bad_record(format!(
            "{}, line {}: {reason}",
            path.display(),
            line.number
        ))
    };
    let record = match &line.text {
        Ok(text) => Record::parse(text),
        Err(reason) => Err(*reason),
    };
    let record = match record {
        Ok(Some(record)) => record,
        Ok(None) | Err(_) => {
            return Found {
                user: Some(user.as_str().to_owned()),
                verifier: None,
                account: Err(bad_record(record.err().unwrap_or("says nothing"))),
                is_derived: false,
            };
        }
    };
    let hash = record.hash.trim_start_matches(['!', '*']);
    let account = if hash.len() == record.hash.len() {
        record.account_with(own, || entry)
    } else {
        Err(Refusal::Locked)
    };
    let mut found = Found {
        user: Some(record.name.to_owned()),
        verifier: None,
        account,
        is_derived: false,
    };
    if let Ok(verifier) = Verifier::parse(hash) {
        // Who may not be told that the password was right must not be able to prove it; the salt stays what it was.
        let text = if found.is_credentials_refusal() {
            without_keys(&verifier)
        } else {
            verifier.to_text()
        };
        found.verifier = Some(Secret::copied_from(text.as_bytes()));
    }
    found
}

/// The same to look at for a client, and no password matches it.
fn without_keys(verifier: &Verifier) -> String {
    let key = base64::encode(&vec![0; verifier.hash().octets()]);
    let salt = base64::encode(verifier.salt());
    let (scheme, iterations) = (verifier.hash().scheme(), verifier.iterations());
    format!("{scheme}${iterations}:{}${}:{}", *salt, *key, *key)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PENCIL: &str = "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=";

    /// What is found in a line of that text, and the verifier in it.
    fn found_in(text: &str) -> (Found, Option<Verifier>) {
        let user = UserName::parse(b"joe").unwrap();
        let line = Line {
            number: 1,
            text: Ok(text.to_owned().into()),
        };
        let found = found(Path::new("/users"), &user, &line, Ok(None), None);
        let text = found.verifier.as_ref();
        let verifier =
            text.map(|text| Verifier::parse(std::str::from_utf8(text.expose()).unwrap()).unwrap());
        (found, verifier)
    }

    #[test]
    fn a_verifier_comes_as_it_is() {
        let (found, verifier) = found_in(&format!("joe:{PENCIL}:1000:1000"));
        assert_eq!(verifier.unwrap().to_text(), PENCIL);
        assert_eq!(found.user.as_deref(), Some("joe"));
        assert_eq!(found.account.unwrap().uid.as_raw(), 1000);
    }

    #[test]
    fn who_may_not_know_why_cannot_prove_anything_and_sees_the_same_salt() {
        for prefix in ["!", "*", "!!"] {
            let (found, verifier) = found_in(&format!("joe:{prefix}{PENCIL}:1000:1000"));
            let verifier = verifier.unwrap();
            assert!(
                verifier
                    .to_text()
                    .starts_with("SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$AAAA")
            );
            assert!(!verifier.verify_password(b"pencil"));
            assert_eq!(found.account, Err(Refusal::Locked));
        }
    }

    #[test]
    fn a_user_without_an_account_may_prove_the_password() {
        let (found, verifier) = found_in(&format!("joe:{PENCIL}"));
        assert!(verifier.unwrap().verify_password(b"pencil"));
        assert!(matches!(found.account, Err(Refusal::Unusable(_))));
    }

    #[test]
    fn other_hashes_and_bad_lines_have_no_verifier() {
        for (line, expected) in [
            ("joe:$6$a$b:1000:1000", None),
            ("joe:!:1000:1000", Some(Refusal::Locked)),
            (
                "joe:x:1000",
                Some(Refusal::bad_record(
                    "/users, line 1: has a uid without a gid, or the other way round",
                )),
            ),
        ] {
            let (found, verifier) = found_in(line);
            assert_eq!(verifier, None, "{line}");
            assert_eq!(found.account.err(), expected, "{line}");
        }
    }
}
