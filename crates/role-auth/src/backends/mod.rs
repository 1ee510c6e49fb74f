//! The stores of credentials, and the order in which they are asked.
//!
//! Runs in auth's worker processes. The attempt is foreign through and through; the stores are the administrator's. Whatever
//! depends on the user costs one hash of the usual kind, said or unsaid: see [`crate::hash`].

mod address_domains;
mod apop;
mod owner;
mod pam;
mod shadow;
pub mod users_file;

use messages::auth::{AuthConfig, Backend};

use crate::bindings::pam::Pam;
use crate::hash::Checker;
use crate::name::{Password, UserName};
use crate::work::{Credential, Outcome, Refusal, Request};

/// Everything a decision is made from.
pub struct Stores {
    /// What is configured.
    pub configuration: AuthConfig,
    /// Compares passwords.
    pub checker: Checker,
    /// libpam, where PAM is configured and the library is there.
    pub pam: Option<Pam>,
}

/// A password attempt, parsed.
struct Claim<'a> {
    user: &'a UserName,
    password: &'a Password,
    request: &'a Request,
}

impl Stores {
    /// Decides one attempt.
    pub fn decide(&self, request: &Request) -> Outcome {
        let user = UserName::parse(&request.user);
        match &request.credential {
            Credential::Password(password) => {
                let password = Password::parse(password.expose());
                match (&user, &password) {
                    (Some(user), Some(password)) => self.password(&Claim {
                        user,
                        password,
                        request,
                    }),
                    (_, password) => self.hopeless(password.as_ref(), Refusal::Malformed),
                }
            }
            Credential::Apop { digest, timestamp } => match user {
                Some(user) => self.apop(&user, digest.expose(), timestamp, request),
                None => Outcome::unknown(Refusal::Malformed),
            },
        }
    }

    /// The first store that knows the user decides.
    fn password(&self, claim: &Claim<'_>) -> Outcome {
        match self.address_domain(claim) {
            address_domains::Domain::Decided(outcome) => return outcome,
            address_domains::Domain::Elsewhere => {}
        }
        if let Some(outcome) = self.has_apop_secret(claim) {
            return outcome;
        }
        for backend in &self.configuration.backends {
            let decided = match backend {
                Backend::Pam => self.pam(claim),
                Backend::Shadow => self.shadow(claim),
                Backend::UsersFile => self.users_file(claim),
            };
            if let Some(outcome) = decided {
                return outcome;
            }
        }
        self.hopeless(Some(claim.password), Refusal::UnknownUser)
    }

    /// Refuses somebody no store knows, at the usual cost.
    fn hopeless(&self, password: Option<&Password>, refusal: Refusal) -> Outcome {
        match password {
            Some(password) => self.checker.spend(password),
            None => self.checker.spend(&Password::placeholder()),
        }
        Outcome::unknown(refusal)
    }
}
