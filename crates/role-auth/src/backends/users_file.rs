//! The users file: one line a user, fields separated by `:`, only the first two required.
//!
//! ```text
//! name:hash:uid:gid:home:[rights:]maildrop
//! ```
//!
//! - `name`: as the client sends it, `user@domain` included;
//! - `hash`: of any form crypt(3) knows, or an RFC 5803 verifier (`SCRAM-SHA-256$4096:salt$StoredKey:ServerKey`), whose two
//!   colons are its own; beginning with `!` or `*` for a locked account, whose verifier is kept behind it;
//! - `uid` and `gid`: numbers, both or neither; without them `name` is looked up in the password database. Never 0;
//! - `home`: absolute path, `/nonexistent` if empty; with ids only;
//! - `rights`: `read-only` or `no-delete`, for logins by this hash; left out with its `:` where there are none to be named;
//! - `maildrop`: `mbox:…` or `maildir:…` with `%` as in the configuration, up to the end of the line.
//!
//! Empty lines and lines beginning with `#` say nothing. In a server not started by root, ids and home are those of the user
//! it runs as; a line with another uid is refused.

use std::path::Path;

use confine::users::{self, Passwd};
use messages::{Account, Rights};
use sasl::scram::Verifier;

use super::proven::Locked;
use super::{Claim, Stores, owner};
use crate::hash::{Census, Match, is_locked};
use crate::name::UserName;
use crate::store_file::{Readers, StoreError, StoreFile};
use crate::work::{Outcome, Refusal, Source};

/// The home of a user who has none (Debian policy section 9.2.3).
const NO_HOME: &str = "/nonexistent";

/// What a verifier of RFC 5803's form begins with. Dovecot's form has no colons.
const VERIFIER: &str = "SCRAM-SHA-";

/// Bad lines that a survey tells of.
const MAX_COMPLAINTS: usize = 20;

/// One line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    /// Name as the file spells it.
    pub name: &'a str,
    /// Stored hash.
    pub hash: &'a str,
    /// User and group id.
    pub ids: Option<(u32, u32)>,
    /// Home directory.
    pub home: Option<&'a str>,
    /// What a login by this hash may do with the mail.
    pub rights: Rights,
    /// The user's own maildrop.
    pub maildrop: Option<&'a str>,
}

impl<'a> Record<'a> {
    /// Parses a line without its end; `None` for one that says nothing.
    ///
    /// # Errors
    /// What is wrong with it, as the rest of a sentence that begins with the line's number.
    pub fn parse(line: &'a str) -> Result<Option<Self>, &'static str> {
        if line.trim_ascii().is_empty() || line.starts_with('#') {
            return Ok(None);
        }
        let (name, rest) = line.split_once(':').ok_or("has no `:` behind the name")?;
        UserName::parse(name.as_bytes()).ok_or("has no usable name")?;
        let (hash, rest) = split_hash(rest)?;
        if hash.is_empty() {
            return Err("has no hash: an empty password is always refused");
        }
        let mut fields = rest
            .splitn(4, ':')
            .map(|field| Some(field).filter(|f| !f.is_empty()));
        let mut next = || fields.next().flatten();
        let ids = match (next(), next()) {
            (None, None) => None,
            (Some(uid), Some(gid)) => Some((id(uid)?, id(gid)?)),
            _ => return Err("has a uid without a gid, or the other way round"),
        };
        let (home, last) = (next(), next());
        let (rights, maildrop) = split_rights(last);
        if home.is_some_and(|home| !owner::is_absolute_path(home)) {
            return Err("has a home directory that is no absolute path");
        }
        if home.is_some() && ids.is_none() {
            return Err("has a home directory, but no uid and gid");
        }
        if maildrop.is_some_and(|maildrop| !is_location(maildrop)) {
            return Err("has a maildrop that is neither `mbox:/…` nor `maildir:/…`, nor rights");
        }
        Ok(Some(Self {
            name,
            hash,
            ids,
            home,
            rights,
            maildrop,
        }))
    }

    /// Whose maildrop it is.
    fn account(&self, own: Option<&Account>) -> Result<Account, Refusal> {
        self.account_with(own, || {
            users::passwd_by_name(self.name).map_err(|error| owner::unanswered(&error))
        })
    }

    /// Whose maildrop it is, with the password database's entry for the name.
    pub(super) fn account_with(
        &self,
        own: Option<&Account>,
        entry: impl FnOnce() -> Result<Option<Passwd>, Refusal>,
    ) -> Result<Account, Refusal> {
        let mut account = match (self.ids, own) {
            (Some((uid, _)), Some(own)) if own.uid.as_raw() != uid => {
                return Err(Refusal::NotServed);
            }
            (_, Some(own)) => own.clone(),
            (Some((uid, gid)), None) => {
                owner::account(self.name, uid, gid, self.home.unwrap_or(NO_HOME))?
            }
            (None, None) => match entry()? {
                Some(entry) => owner::of_passwd(&entry, None)?,
                None => {
                    return Err(Refusal::unusable(
                        "has no uid, and is no user of the system",
                    ));
                }
            },
        };
        self.name.clone_into(&mut account.name);
        account.rights = self.rights;
        if let Some(maildrop) = self.maildrop {
            account.maildrop = Some(maildrop.to_owned());
        }
        Ok(account)
    }
}

/// The hash and the fields behind it. An RFC 5803 verifier has two colons of its own.
fn split_hash(rest: &str) -> Result<(&str, &str), &'static str> {
    // A locked account's too.
    let is_verifier = rest.trim_start_matches(['!', '*']).starts_with(VERIFIER);
    let own_colons = if is_verifier { 2 } else { 0 };
    let end = rest.match_indices(':').nth(own_colons).map(|(at, _)| at);
    let (hash, rest) = match end.and_then(|end| rest.split_at_checked(end)) {
        Some((hash, rest)) => (hash, rest.strip_prefix(':').unwrap_or(rest)),
        None => (rest, ""),
    };
    if is_verifier && Verifier::parse(hash.trim_start_matches(['!', '*'])).is_err() {
        return Err("has a SCRAM verifier that is not of RFC 5803's form, or out of bounds");
    }
    Ok((hash, rest))
}

/// The rights, if there are any, and the maildrop behind them, which has colons of its own.
fn split_rights(last: Option<&str>) -> (Rights, Option<&str>) {
    let Some(last) = last else {
        return (Rights::Full, None);
    };
    let (first, rest) = last.split_once(':').unwrap_or((last, ""));
    match [Rights::NoDelete, Rights::ReadOnly]
        .into_iter()
        .find(|rights| rights.name() == first)
    {
        Some(rights) => (rights, Some(rest).filter(|rest| !rest.is_empty())),
        None => (Rights::Full, Some(last)),
    }
}

fn id(field: &str) -> Result<u32, &'static str> {
    match field.parse() {
        Ok(0 | u32::MAX) => Err("has the id of root, or of nobody"),
        Ok(id) => Ok(id),
        Err(_) => Err("has a uid or gid that is no number"),
    }
}

/// Whether it has the form of a location; `%h` may stand for the beginning of the path.
fn is_location(text: &str) -> bool {
    let path = text
        .strip_prefix("mbox:")
        .or_else(|| text.strip_prefix("maildir:"));
    path.is_some_and(|path| {
        path.strip_prefix("%h")
            .map_or_else(|| owner::is_absolute_path(path), owner::is_absolute_path)
    })
}

impl Stores {
    /// `None` where the file has no such user, or there is no file.
    pub(super) fn users_file(&self, claim: &Claim<'_>) -> Option<Outcome> {
        let path = &self.configuration.users_file;
        let found = StoreFile::open(path, Readers::Group).and_then(|file| file.find(claim.user));
        let found = match found {
            Ok(found) => found?,
            Err(error) => {
                return Some(self.hopeless(Some(claim.password), Refusal::broken(error)));
            }
        };
        let complaint =
            |reason: &str| format!("{}, line {}: {reason}", path.display(), found.number);
        let record = match &found.text {
            Ok(text) => Record::parse(text),
            Err(reason) => Err(*reason),
        };
        let record = match record {
            Ok(record) => record?,
            Err(reason) => {
                self.checker.spend(claim.password);
                let refusal = Refusal::bad_record(complaint(reason));
                return Some(Outcome::refused(claim.user.as_str(), refusal));
            }
        };
        let refusal = match self.checker.check(claim.password, record.hash) {
            Match::Right => match record.account(self.configuration.own.as_ref()) {
                Ok(account) => {
                    return Some(Outcome::Accepted {
                        account,
                        source: Source::UsersFile,
                    });
                }
                Err(Refusal::Unusable(reason)) => Refusal::unusable(complaint(&reason)),
                Err(refusal) => refusal,
            },
            Match::Wrong => Refusal::WrongPassword,
            Match::Locked => Refusal::Locked,
            Match::Unusable => Refusal::bad_record(complaint("has a hash of no known form")),
        };
        Some(Outcome::refused(record.name, refusal))
    }

    /// Whose maildrop a user is given by the users file, if it has the user: for one who proved itself elsewhere.
    pub(super) fn account_from_users_file(
        &self,
        user: &UserName,
        locked: Locked,
    ) -> Option<Result<Account, Refusal>> {
        let path = &self.configuration.users_file;
        let found = match StoreFile::open(path, Readers::Group).and_then(|file| file.find(user)) {
            Ok(found) => found?,
            Err(error) => return Some(Err(Refusal::broken(error))),
        };
        let record = match &found.text {
            Ok(text) => Record::parse(text),
            Err(reason) => Err(*reason),
        };
        match record {
            Ok(record) => Some(match record? {
                record if locked == Locked::Refused && is_locked(record.hash) => {
                    Err(Refusal::Locked)
                }
                record => record.account(self.configuration.own.as_ref()),
            }),
            Err(reason) => Some(Err(Refusal::unusable(format!(
                "{}, line {}: {reason}",
                path.display(),
                found.number
            )))),
        }
    }
}

/// Counts the hashes of the file, and says which lines are of no use, the first [`MAX_COMPLAINTS`] of them.
///
/// # Errors
/// The file as a whole cannot be used.
pub fn survey(path: &Path, census: &mut Census) -> Result<Vec<String>, StoreError> {
    let mut complaints = Vec::new();
    StoreFile::open(path, Readers::Group)?.for_each_line(|number, line| {
        let record = std::str::from_utf8(line)
            .map_err(|_| "is not UTF-8")
            .and_then(Record::parse);
        match record {
            Ok(Some(record)) => census.count(record.hash),
            Ok(None) => {}
            Err(reason) if complaints.len() < MAX_COMPLAINTS => {
                complaints.push(format!("{}, line {number}: {reason}", path.display()));
            }
            Err(_) => {}
        }
    })?;
    Ok(complaints)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SCRAM: &str = "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=";

    #[test]
    fn name_and_hash_are_enough() {
        let record = Record::parse("joe@example.org:$6$a$b").unwrap().unwrap();
        assert_eq!((record.name, record.hash), ("joe@example.org", "$6$a$b"));
        assert_eq!(
            (record.ids, record.home, record.maildrop),
            (None, None, None)
        );
        assert_eq!(
            Record::parse("joe@example.org:$6$a$b::::")
                .unwrap()
                .unwrap(),
            record
        );
    }

    #[test]
    fn every_field_is_read_and_the_last_keeps_its_colons() {
        let line = "joe:$6$a$b:1000:1001:/home/joe:maildir:/srv/a:b/%n";
        let record = Record::parse(line).unwrap().unwrap();
        assert_eq!(record.ids, Some((1000, 1001)));
        assert_eq!(record.home, Some("/home/joe"));
        assert_eq!(record.maildrop, Some("maildir:/srv/a:b/%n"));
    }

    #[test]
    fn rights_stand_ahead_of_the_maildrop_or_in_its_place() {
        let of = |line: &str| {
            Record::parse(line).map(|record| {
                let record = record.unwrap();
                (record.rights, record.maildrop.map(str::to_owned))
            })
        };
        let maildrop = Some("maildir:/a:b".to_owned());
        assert_eq!(
            of("joe:x:1:1::read-only:maildir:/a:b"),
            Ok((Rights::ReadOnly, maildrop.clone()))
        );
        assert_eq!(of("joe:x::::no-delete"), Ok((Rights::NoDelete, None)));
        assert_eq!(of("joe:x::::no-delete:"), Ok((Rights::NoDelete, None)));
        assert_eq!(of("joe:x::::maildir:/a:b"), Ok((Rights::Full, maildrop)));
        for bad in ["readonly", "full", "read-only:no-delete", "read-only: "] {
            assert!(of(&format!("joe:x::::{bad}")).is_err(), "{bad}");
        }
        let record = Record::parse("joe:x:7:7::read-only").unwrap().unwrap();
        assert_eq!(record.account(None).unwrap().rights, Rights::ReadOnly);
    }

    #[test]
    fn the_colons_of_a_scram_verifier_are_its_own() {
        let line = format!("joe:{SCRAM}:1000:1001::mbox:%h/Mailbox");
        let record = Record::parse(&line).unwrap().unwrap();
        assert_eq!(record.hash, SCRAM);
        assert_eq!(record.ids, Some((1000, 1001)));
        let line = format!("joe:{SCRAM}");
        assert_eq!(Record::parse(&line).unwrap().unwrap().hash, SCRAM);
    }

    #[test]
    fn lines_that_say_nothing_are_passed_over() {
        for line in ["", "   ", "# joe:x", "#"] {
            assert_eq!(Record::parse(line), Ok(None));
        }
    }

    #[test]
    fn bad_lines_are_refused() {
        for line in [
            "joe",
            ":x",
            "joe:",
            "joe::1000:1000",
            "j\x01e:x",
            "joe:x:0:1000",
            "joe:x:1000:0",
            "joe:x:1000",
            "joe:x::1000",
            "joe:x:-1:1000",
            "joe:x:+1a:1000",
            "joe:x:4294967295:1000",
            "joe:x:1000:1000:home",
            "joe:x:::/home",
            "joe:x:1000:1000::Mailbox",
            "joe:x:1000:1000::mbox:../x",
            "joe:SCRAM-SHA-256$4096:x$y:z",
        ] {
            assert!(Record::parse(line).is_err(), "{line}");
        }
    }

    #[test]
    fn in_a_server_of_one_user_every_line_is_that_users() {
        let own = owner::account("me", 1000, 1000, "/home/me").unwrap();
        let of = |line: &str| Record::parse(line).unwrap().unwrap().account(Some(&own));
        let account = of("joe:x:::: maildir:/x".replace(' ', "").as_str()).unwrap();
        assert_eq!(
            (account.name.as_str(), account.home.as_str()),
            ("joe", "/home/me")
        );
        assert_eq!(account.maildrop.as_deref(), Some("maildir:/x"));
        assert!(of("joe:x:1000:5").is_ok());
        assert_eq!(of("joe:x:1001:1001"), Err(Refusal::NotServed));
    }

    #[test]
    fn roots_line_without_ids_is_refused() {
        let record = Record::parse("root:x").unwrap().unwrap();
        assert_eq!(record.account(None), Err(Refusal::Root));
        let record = Record::parse("no-such-user-here:x").unwrap().unwrap();
        assert!(matches!(record.account(None), Err(Refusal::Unusable(_))));
    }

    proptest! {
        #[test]
        fn any_line_parses_or_is_refused(line in "\\PC*") {
            let _ = Record::parse(&line);
        }

        #[test]
        fn what_is_written_is_read(
            name in "[a-z]{1,8}(@[a-z]{1,8}\\.org)?",
            uid in 1..u32::MAX,
            gid in 1..u32::MAX,
            home in "(/[a-z]{1,5}){1,3}",
            scram in any::<bool>(),
        ) {
            let hash = if scram { SCRAM } else { "$6$salt$hash" };
            let line = format!("{name}:{hash}:{uid}:{gid}:{home}:mbox:{home}/x:y");
            let record = Record::parse(&line).unwrap().unwrap();
            prop_assert_eq!(record.name, name.as_str());
            prop_assert_eq!(record.hash, hash);
            prop_assert_eq!(record.ids, Some((uid, gid)));
            prop_assert_eq!(record.home, Some(home.as_str()));
            let maildrop = format!("mbox:{home}/x:y");
            prop_assert_eq!(record.maildrop, Some(maildrop.as_str()));
        }
    }
}
