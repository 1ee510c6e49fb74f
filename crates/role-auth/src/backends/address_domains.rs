//! popa3d's virtual domains: the local address that the client connected to selects a directory.
//!
//! `<home>/<address>/<auth>/<user>` holds `system-user:hash:…` on its first line; the mailbox is
//! `<home>/<address>/<spool>/<user>` and belongs to that system user. An IPv4 address on an IPv6 socket is IPv4.

use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use confine::users;
use messages::Account;
use messages::auth::AddressDomains;

use super::{Claim, Stores, owner};
use crate::hash::Match;
use crate::store_file::{Readers, Stage, StoreError, StoreFile};
use crate::work::{Outcome, Refusal, Request, Source};

/// Octets of a file name: Linux's NAME_MAX.
const MAX_NAME_OCTETS: usize = 255;

/// What the local address means for an attempt.
pub(super) enum Domain {
    /// The address has a directory (or must have one), and that decides.
    Decided(Outcome),
    /// It has none: the global stores decide.
    Elsewhere,
}

impl Stores {
    /// Asks the directory of the local address, if it has one.
    pub(super) fn address_domain(&self, claim: &Claim<'_>) -> Domain {
        let Some(domains) = &self.configuration.address_domains else {
            return Domain::Elsewhere;
        };
        let outcome = match directory(domains, claim.request.local) {
            Ok(Some(directory)) => self.address_domain_user(claim, domains, &directory),
            Ok(None) if domains.only => self.hopeless(Some(claim.password), Refusal::UnknownUser),
            Ok(None) => return Domain::Elsewhere,
            Err(error) => self.hopeless(
                Some(claim.password),
                Refusal::broken(format!("{}: {error}", domains.home.display())),
            ),
        };
        Domain::Decided(outcome)
    }

    /// Whether the attempt is one for a virtual domain.
    pub(super) fn is_address_domain(&self, request: &Request) -> bool {
        self.configuration
            .address_domains
            .as_ref()
            .is_some_and(|domains| {
                domains.only || !matches!(directory(domains, request.local), Ok(None))
            })
    }

    fn address_domain_user(
        &self,
        claim: &Claim<'_>,
        domains: &AddressDomains,
        directory: &Path,
    ) -> Outcome {
        let name = claim.user.as_str();
        if !is_file_name(name) {
            return self.hopeless(Some(claim.password), Refusal::UnknownUser);
        }
        let path = directory.join(relative(&domains.auth)).join(name);
        let line = match first_line(&path) {
            Ok(line) => line,
            Err(error) if error.stage == Stage::Missing => {
                return self.hopeless(Some(claim.password), Refusal::UnknownUser);
            }
            // Nobody knows whether there is such a user: the name must not be logged, nor a path that ends in it.
            Err(error) if error.stage == Stage::Unopened => {
                let place = directory.join(relative(&domains.auth));
                let refusal = Refusal::broken(format!("{}: {}", place.display(), error.reason));
                return self.hopeless(Some(claim.password), refusal);
            }
            Err(error) => {
                self.checker.spend(claim.password);
                return Outcome::refused(name, Refusal::bad_record(error));
            }
        };
        let mut fields = line.split(':');
        let system_user = fields.next().unwrap_or_default();
        let hash = fields.next().unwrap_or_default();
        let refusal = match self.checker.check(claim.password, hash) {
            Match::Right => {
                let mailbox = directory.join(relative(&domains.spool)).join(name);
                match self.address_domain_account(name, system_user, &mailbox) {
                    Ok(account) => {
                        return Outcome::Accepted {
                            account,
                            source: Source::AddressDomain,
                        };
                    }
                    Err(Refusal::Unusable(reason)) => {
                        Refusal::unusable(format!("{}: {reason}", path.display()))
                    }
                    Err(refusal) => refusal,
                }
            }
            Match::Wrong => Refusal::WrongPassword,
            Match::Locked => Refusal::Locked,
            Match::Unusable => {
                Refusal::bad_record(format!("{}: hash of no known form", path.display()))
            }
        };
        Outcome::refused(name, refusal)
    }

    fn address_domain_account(
        &self,
        name: &str,
        system_user: &str,
        mailbox: &Path,
    ) -> Result<Account, Refusal> {
        let entry = match users::passwd_by_name(system_user) {
            Ok(Some(entry)) => entry,
            Ok(None) => return Err(Refusal::unusable(format!("no system user {system_user:?}"))),
            Err(error) => return Err(owner::unanswered(&error)),
        };
        let mailbox = mailbox
            .to_str()
            .ok_or_else(|| Refusal::unusable("the mailbox's path is not UTF-8"))?;
        Ok(Account {
            name: name.to_owned(),
            maildrop: Some(format!("mbox:{}", mailbox.replace('%', "%%"))),
            ..owner::of_passwd(&entry, self.configuration.own.as_ref())?
        })
    }
}

/// The directory of an address, if there is one.
fn directory(domains: &AddressDomains, local: Option<IpAddr>) -> io::Result<Option<PathBuf>> {
    let Some(local) = local else {
        return Ok(None);
    };
    let directory = domains.home.join(local.to_canonical().to_string());
    match std::fs::metadata(&directory) {
        Ok(found) if found.is_dir() => Ok(Some(directory)),
        Ok(_) => Err(io::ErrorKind::NotADirectory.into()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// A part of a path that is joined to another, whether or not it was written with a `/` ahead.
fn relative(path: &Path) -> &Path {
    path.strip_prefix("/").unwrap_or(path)
}

/// What may become a file's name: visible ASCII, not hidden, and leading nowhere else.
fn is_file_name(name: &str) -> bool {
    name.len() <= MAX_NAME_OCTETS
        && !name.starts_with('.')
        && name
            .bytes()
            .all(|octet| octet.is_ascii_graphic() && octet != b'/')
}

fn first_line(path: &Path) -> Result<String, StoreError> {
    // The original lets everybody read them, if the directory does.
    let file = StoreFile::open(path, Readers::Anybody)?;
    let mut first = String::new();
    file.for_each_line(|number, line| {
        if number == 1 {
            first = String::from_utf8_lossy(line).into_owned();
        }
    })?;
    Ok(first)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn domains(home: &Path) -> AddressDomains {
        AddressDomains {
            home: home.to_owned(),
            auth: "auth".into(),
            spool: "mail".into(),
            only: false,
        }
    }

    #[test]
    fn names_that_lead_elsewhere_are_refused() {
        for name in [
            "..",
            ".",
            ".hidden",
            "a/b",
            "/etc/passwd",
            "a b",
            "jos\u{e9}",
        ] {
            assert!(!is_file_name(name), "{name}");
        }
        assert!(!is_file_name(&"a".repeat(256)));
        assert!(is_file_name("joe@example.org"));
    }

    #[test]
    fn an_ipv4_address_on_an_ipv6_socket_is_ipv4() {
        let home = tempfile::tempdir().unwrap();
        std::fs::create_dir(home.path().join("192.0.2.1")).unwrap();
        let of = |address: &str| {
            directory(&domains(home.path()), Some(address.parse().unwrap())).unwrap()
        };
        assert_eq!(of("192.0.2.1"), Some(home.path().join("192.0.2.1")));
        assert_eq!(of("::ffff:192.0.2.1"), Some(home.path().join("192.0.2.1")));
        assert_eq!(of("192.0.2.2"), None);
        assert_eq!(directory(&domains(home.path()), None).unwrap(), None);
    }
}
