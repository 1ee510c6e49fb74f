//! The stores of credentials, and the order in which they are asked.
//!
//! Runs in auth's worker processes. The attempt is foreign through and through; the stores are the administrator's. Whatever
//! depends on the user costs one hash of the usual kind, said or unsaid: see [`crate::hash`].

mod address_domains;
mod apop;
mod app_passwords;
mod derived;
mod external;
mod owner;
mod pam;
mod proven;
mod shadow;
mod users_file;
mod verifier;

use messages::auth::{AuthConfig, Backend};
use sasl::scram::Decoys;

use crate::bindings::MissingLibrary;
use crate::bindings::crypt::Crypt;
use crate::bindings::pam::Pam;
use crate::derived_file;
use crate::hash::{Census, Checker, Usual};
use crate::name::{Password, UserName};
use crate::trust::Trust;
use crate::work::{Credential, Outcome, Refusal, Request};
use app_passwords::Finding;

/// Everything a decision is made from.
pub struct Stores {
    /// What is configured.
    pub configuration: AuthConfig,
    /// Compares passwords.
    pub checker: Checker,
    /// What unknown users' verifiers are made from.
    pub decoys: Decoys,
    /// Whose certificates count.
    pub trust: Trust,
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
    /// Loads the libraries, and looks at the stores: for what their hashes cost, and for what is wrong with them.
    ///
    /// # Errors
    /// A library that the configuration cannot do without is not there.
    pub fn open(configuration: AuthConfig) -> Result<(Self, Vec<String>), MissingLibrary> {
        let crypt = Crypt::load()?;
        let wants_pam = configuration.backends.contains(&Backend::Pam);
        let pam = wants_pam.then(Pam::load).transpose()?;
        let (census, mut complaints) = survey(&configuration);
        let mut usual = census.usual();
        if let Some(setting) = &configuration.dummy_setting {
            match Usual::of_setting(&crypt, setting) {
                Some(wanted) => usual = wanted,
                None => {
                    complaints.push("the configured dummy setting is none of crypt(3)".to_owned())
                }
            }
        }
        let checker = Checker::new(crypt, usual);
        let shape = census.usual_shape();
        let decoys = Decoys::new(
            configuration.decoy_key.0,
            shape.iterations,
            shape.salt_octets,
        );
        let stores = Self {
            configuration,
            checker,
            decoys,
            trust: Trust::default(),
            pam,
        };
        Ok((stores, complaints))
    }

    /// Whether deciding may run code that is not ours: then a process decides one attempt only.
    pub fn runs_foreign_modules(&self) -> bool {
        self.pam.is_some()
    }

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
            Credential::Verifier => match user {
                Some(user) => self.verifier(&user, request),
                None => Outcome::unknown(Refusal::Malformed),
            },
            Credential::Proven => match user {
                Some(user) => self.proven(&user, request),
                None => Outcome::unknown(Refusal::Malformed),
            },
            Credential::Certificate {
                handshake,
                server_random,
                authzid,
            } => self.external(handshake, server_random, authzid.as_deref(), request),
        }
    }

    /// Virtual domains by address and users of APOP are apart from all others, who may have app passwords.
    fn password(&self, claim: &Claim<'_>) -> Outcome {
        match self.address_domain(claim) {
            address_domains::Domain::Decided(outcome) => return outcome,
            address_domains::Domain::Elsewhere => {}
        }
        if let Some(outcome) = self.has_apop_secret(claim) {
            return outcome;
        }
        let finding = match self.app_password(claim) {
            Finding::Right(found) => return self.log_in_by(claim, *found),
            finding => finding,
        };
        finding.explain(self.own_password(claim))
    }

    /// The first store that knows the user decides.
    fn own_password(&self, claim: &Claim<'_>) -> Outcome {
        for backend in &self.configuration.backends {
            let decided = match backend {
                Backend::Pam => self.pam(claim),
                Backend::Shadow => self.shadow(claim),
                Backend::UsersFile => self.users_file(claim),
            };
            if let Some(outcome) = decided {
                self.derive(claim, &outcome);
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

/// The hashes of all configured stores, and what is wrong with them.
fn survey(configuration: &AuthConfig) -> (Census, Vec<String>) {
    let mut census = Census::default();
    let mut complaints = Vec::new();
    for backend in &configuration.backends {
        match backend {
            // pam_unix reads the same file. Where it cannot, every login fails with an error that looks like a wrong password.
            Backend::Pam | Backend::Shadow => {
                if let Err(error) = shadow::survey(&mut census) {
                    complaints.push(error.to_string());
                }
            }
            Backend::UsersFile => {
                match users_file::survey(&configuration.users_file, &mut census) {
                    Ok(lines) => complaints.extend(lines),
                    Err(error) => complaints.push(error.to_string()),
                }
            }
        }
    }
    if let Some(path) = &configuration.app_passwords {
        match app_passwords::survey(path) {
            Ok(lines) => complaints.extend(lines),
            Err(error) => complaints.push(error.to_string()),
        }
    }
    if let Some(directory) = &configuration.derived_verifiers
        && let Err(error) = derived_file::try_out(directory)
    {
        complaints.push(format!("{}: {error}", directory.display()));
    }
    (census, complaints)
}
