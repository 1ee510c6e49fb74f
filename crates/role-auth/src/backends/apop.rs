//! APOP (RFC 1939 section 7): `user:secret` a line, the secrets in the clear because the digest is made from them.
//!
//! That is why it is never on by default, and why a user of this file cannot send its password as such: it would be tried
//! on both (RFC 1939 section 13).

use confine::users;
use md5::{Digest, Md5};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use super::proven::Locked;
use super::{Claim, Stores, owner};
use crate::name::UserName;
use crate::store_file::{Found, Readers, StoreError, StoreFile};
use crate::work::{Outcome, Refusal, Request, Source};

/// MD5 in hexadecimal.
const DIGEST_OCTETS: usize = 32;

impl Stores {
    /// Decides an APOP attempt.
    pub(super) fn apop(
        &self,
        user: &UserName,
        digest: &[u8],
        timestamp: &str,
        request: &Request,
    ) -> Outcome {
        let found = match self.apop_line(user) {
            Ok(found) => found,
            Err(error) => return Outcome::unknown(Refusal::broken(error)),
        };
        // The digest is made for unknown users too; it costs microseconds, but no fewer than a known user's.
        let secret = found.as_ref().and_then(|found| secret_of(user, found));
        let expected = expected_digest(timestamp, secret.unwrap_or("no secret"));
        let right: bool = digest.to_ascii_lowercase().ct_eq(&expected).into();
        let name = user.as_str();
        match (&found, secret) {
            // Virtual domains by address have passwords only, and no part in the global file.
            _ if self.is_address_domain(request) => Outcome::unknown(Refusal::UnknownUser),
            (None, _) => Outcome::unknown(Refusal::UnknownUser),
            (Some(found), None) => Outcome::refused(
                name,
                Refusal::bad_record(format!("APOP secrets, line {}: no secret", found.number)),
            ),
            (Some(_), Some(_)) if !right => Outcome::refused(name, Refusal::WrongPassword),
            (Some(_), Some(_)) => match self.account_of_apop_user(user) {
                Ok(account) => Outcome::Accepted {
                    account,
                    source: Source::Apop,
                },
                Err(refusal) => Outcome::refused(name, refusal),
            },
        }
    }

    /// Refuses a password from somebody who has an APOP secret.
    pub(super) fn has_apop_secret(&self, claim: &Claim<'_>) -> Option<Outcome> {
        self.configuration.apop_secrets.as_ref()?;
        let refused = match self.apop_line(claim.user) {
            Ok(found) => {
                found?;
                Outcome::refused(claim.user.as_str(), Refusal::ApopOnly)
            }
            Err(error) => Outcome::unknown(Refusal::broken(error)),
        };
        self.checker.spend(claim.password);
        Some(refused)
    }

    fn apop_line(&self, user: &UserName) -> Result<Option<Found>, StoreError> {
        match &self.configuration.apop_secrets {
            Some(path) => StoreFile::open(path, Readers::Group)?.find(user),
            None => Ok(None),
        }
    }

    fn account_of_apop_user(&self, user: &UserName) -> Result<messages::Account, Refusal> {
        let backends = &self.configuration.backends;
        if backends.contains(&messages::auth::Backend::UsersFile)
            && let Some(account) = self.account_from_users_file(user, Locked::Allowed)
        {
            return account;
        }
        if let Some(own) = &self.configuration.own {
            return Ok(messages::Account {
                name: user.as_str().to_owned(),
                ..own.clone()
            });
        }
        match users::passwd_by_name(user.as_str()) {
            Ok(Some(entry)) => {
                self.shadow_allows(&entry.name)?;
                owner::of_passwd(&entry, None)
            }
            Ok(None) => Err(Refusal::unusable(
                "has an APOP secret, but is no user of the system",
            )),
            Err(error) => Err(owner::unanswered(&error)),
        }
    }
}

/// Everything behind the first colon.
fn secret_of<'a>(user: &UserName, found: &'a Found) -> Option<&'a str> {
    let text = found.text.as_ref().ok()?;
    let secret = text.get(user.as_str().len()..)?.strip_prefix(':')?;
    (!secret.is_empty()).then_some(secret)
}

/// MD5 of the timestamp, angle brackets included, and the secret, in lower-case hexadecimal.
fn expected_digest(timestamp: &str, secret: &str) -> Zeroizing<Vec<u8>> {
    let digest = Md5::new()
        .chain_update(timestamp)
        .chain_update(secret)
        .finalize();
    let mut hexadecimal = Zeroizing::new(Vec::with_capacity(DIGEST_OCTETS));
    for octet in digest {
        for nibble in [octet >> 4, octet & 0x0F] {
            hexadecimal.push(char::from_digit(u32::from(nibble), 16).map_or(0, |c| c as u8));
        }
    }
    hexadecimal
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_of_rfc_1939_section_7() {
        let digest = expected_digest("<1896.697170952@dbc.mtview.ca.us>", "tanstaaf");
        assert_eq!(digest.as_slice(), b"c4c9334bac560ecc979e58001b3e22fb");
    }
}
