//! A SASL exchange of one session (RFC 5034, RFC 4422), from AUTH to its end.
//!
//! Lives in auth's event loop, between two messages of its session. A chain of [`Step`]s each of which is consumed by the next,
//! so that nothing is done twice or out of turn, and which ends by itself: no mechanism takes more than three responses, and
//! none a response longer than its own bound. What has to be looked up, a worker looks up; what is proven here, the cheap end
//! of SCRAM, costs the same for everybody.
//!
//! With an access token, the token role finds whose it is, and a worker whose maildrop that is; what is refused of either is told
//! in a challenge (RFC 7628 section 3.2.2) and ends the exchange behind the client's answer to it.
//!
//! EXTERNAL is decided by the handshake that the session has handed over, never by its word.

use std::time::SystemTime;

use messages::auth::{Denial, TlsFacts, Tokens};
use messages::token::Finding;
use messages::{Account, SaslMechanism, Secret};

use sasl::scram::{Decoys, Nonce, Verifier};
use sasl::server::{self, Challenge, CheckToken, Failure, FindVerifier, Step};
use sasl::{BindingType, ChannelBinding, Mechanism, TokenError};

use crate::work::{Credential, Found, Outcome, Refusal, Source};

/// Seconds that a token may be past its end: what the token role allows, and the time that it may have taken.
const CLOCK_LEEWAY: u64 = 120;

/// What an attempt needs next.
#[derive(Debug)]
pub enum Next {
    /// A worker's finding.
    Verify {
        /// The name as sent, or as prepared by the mechanism.
        user: Vec<u8>,
        /// What is to prove it.
        credential: Credential,
    },
    /// The token role's finding.
    AskToken(Secret),
    /// A worker's finding about the certificate that the client has shown.
    Certificate {
        /// Which of its users it is to be; `None`: the only one.
        authzid: Option<String>,
    },
    /// The client's answer to this.
    Challenge(Vec<u8>),
    /// Nothing: this is the user.
    Accept {
        /// Whose maildrop may be opened.
        account: Account,
        /// Who says so.
        source: Source,
    },
    /// Nothing: it has failed.
    Refuse {
        /// The name, only if there is such a user.
        user: Option<String>,
        /// Why.
        refusal: Refusal,
    },
    /// A random number for the handshake that is about to begin.
    ServerRandom,
    /// Nothing: the client has given up, or there was nothing to be answered.
    Nothing,
}

/// An exchange that waits, for its client or for a worker.
#[derive(Debug)]
pub struct Exchange {
    awaited: Awaited,
    /// What the users file has on the user, once it has been asked.
    found: Option<Found>,
}

#[derive(Debug)]
enum Awaited {
    Response(Challenge),
    Verifier(FindVerifier),
    /// Whose it is.
    Token(CheckToken),
    /// Whose maildrop the user of the token has.
    Account(CheckToken, String),
}

/// What to do, and with what to go on afterwards.
pub type Turn = (Option<Exchange>, Next);

/// AUTH. `is_bindable`: mechanisms are offered that bind the exchange to the TLS channel.
pub fn start(
    mechanism: SaslMechanism,
    initial_response: Option<&Secret>,
    tls: Option<&TlsFacts>,
    is_bindable: bool,
) -> Turn {
    let bindings = tls.filter(|_| is_bindable).map(bindings);
    let step = server::start(
        of_name(mechanism),
        initial_response.map(Secret::expose),
        &bindings.unwrap_or_default(),
    );
    follow(step, None)
}

impl Exchange {
    /// The client's answer; `None` where none is waited for.
    pub fn respond(self, response: &Secret) -> Option<Turn> {
        match self.awaited {
            Awaited::Response(challenge) => {
                Some(follow(challenge.answer(response.expose()), self.found))
            }
            Awaited::Verifier(_) | Awaited::Token(_) | Awaited::Account(..) => None,
        }
    }

    /// What the token role has found; `None` where it was not asked.
    pub fn token_found(self, finding: Finding, advice: Option<&Tokens>) -> Option<Turn> {
        let Awaited::Token(check) = self.awaited else {
            return None;
        };
        Some(match finding {
            Finding::Valid { user, expires } if is_over(expires) => {
                let refusal = Refusal::token("has expired while it was checked");
                refuse_token(check, "invalid_token", Some(user), refusal, advice)
            }
            Finding::Valid { user, .. } => {
                let next = Next::Verify {
                    user: user.as_bytes().to_vec(),
                    credential: Credential::Proven,
                };
                let awaited = Awaited::Account(check, user);
                let found = None;
                (Some(Exchange { awaited, found }), next)
            }
            Finding::Refused(reason) => {
                let refusal = Refusal::token(reason);
                refuse_token(check, "invalid_token", None, refusal, advice)
            }
            Finding::LacksScope => {
                let refusal = Refusal::token("lacks a scope");
                refuse_token(check, "insufficient_scope", None, refusal, advice)
            }
            Finding::Unavailable(reason) => (
                None,
                refuse(Refusal::unavailable(format_args!("token: {reason}"))),
            ),
        })
    }

    /// Whether a worker was asked whose maildrop the user of the token has.
    pub fn awaits_account(&self) -> bool {
        matches!(self.awaited, Awaited::Account(..))
    }

    /// What that worker has found; `None` where it was not asked.
    pub fn account_found(self, outcome: Outcome, advice: Option<&Tokens>) -> Option<Turn> {
        let Awaited::Account(check, user) = self.awaited else {
            return None;
        };
        Some(match outcome {
            Outcome::Accepted { account, source } => match check.accept(&user) {
                Step::Authenticated(_) => (None, Next::Accept { account, source }),
                step => follow(step, Some(unusable(Some(user), Refusal::Authzid))),
            },
            Outcome::Refused { user, refusal } if refusal.denial() == Denial::Credentials => {
                refuse_token(check, "invalid_token", user, refusal, advice)
            }
            Outcome::Refused { user, refusal } => (None, Next::Refuse { user, refusal }),
            Outcome::AcceptedApp { .. } | Outcome::Found(_) => (
                None,
                refuse(Refusal::unavailable("worker: not what was asked")),
            ),
        })
    }

    /// What the users file has on the user; `None` where that was not asked. The nonce is new.
    pub fn found(self, mut found: Found, decoys: &Decoys, nonce: &Nonce) -> Option<Turn> {
        let Awaited::Verifier(find) = self.awaited else {
            return None;
        };
        let verifier = found
            .verifier
            .take()
            .and_then(|text| std::str::from_utf8(text.expose()).ok().map(Verifier::parse))
            .and_then(Result::ok)
            .filter(|verifier| verifier.hash() == find.hash());
        if verifier.is_none() && !found.is_credentials_refusal() {
            found.account = Err(Refusal::NoVerifier);
        }
        let name = as_stored(find.user());
        let verifier = decoys.known_or_decoy(&name, find.hash(), verifier);
        Some(follow(find.answer(verifier, nonce), Some(found)))
    }
}

fn follow(step: Step, found: Option<Found>) -> Turn {
    match step {
        Step::Challenge(challenge) => {
            let octets = challenge.octets().to_vec();
            let awaited = Awaited::Response(challenge);
            (Some(Exchange { awaited, found }), Next::Challenge(octets))
        }
        Step::CheckPassword(check) => {
            let next = Next::Verify {
                user: check.user().as_bytes().to_vec(),
                credential: Credential::Password(Secret::copied_from(check.password().as_bytes())),
            };
            (None, next)
        }
        Step::FindVerifier(find) => {
            let next = Next::Verify {
                user: find.user().as_bytes().to_vec(),
                credential: Credential::Verifier,
            };
            let awaited = Awaited::Verifier(find);
            (Some(Exchange { awaited, found }), next)
        }
        Step::Authenticated(_) => (None, proven(found)),
        Step::Failed(failure) => (None, failed(failure, found)),
        Step::CheckToken(check) => {
            let next = Next::AskToken(Secret::copied_from(check.token().as_bytes()));
            let awaited = Awaited::Token(check);
            (Some(Exchange { awaited, found }), next)
        }
        Step::CheckCertificate(check) => {
            let authzid = check.user().map(str::to_owned);
            (None, Next::Certificate { authzid })
        }
    }
}

/// Tells the client, in a challenge, that its token is not accepted; the log is told why once that is answered.
fn refuse_token(
    check: CheckToken,
    status: &str,
    user: Option<String>,
    refusal: Refusal,
    advice: Option<&Tokens>,
) -> Turn {
    let error = TokenError {
        status: status.to_owned(),
        scope: advice.and_then(|advice| advice.scope.clone()),
        openid_configuration: advice.and_then(|advice| advice.openid_configuration.clone()),
    };
    follow(check.refuse(&error), Some(unusable(user, refusal)))
}

fn unusable(user: Option<String>, refusal: Refusal) -> Found {
    Found {
        user,
        verifier: None,
        account: Err(refusal),
        is_derived: false,
    }
}

/// Whether a token has ended, by this clock; the token role has allowed for the issuer's.
fn is_over(expires: Option<u64>) -> bool {
    let now = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
    expires.is_some_and(|end| end.saturating_add(CLOCK_LEEWAY) < now.as_secs())
}

/// The password is right.
fn proven(found: Option<Found>) -> Next {
    match found {
        // The system has not been asked yet whether it lets the user in here.
        Some(Found {
            account: Ok(_),
            user: Some(user),
            is_derived: true,
            ..
        }) => Next::Verify {
            user: user.into_bytes(),
            credential: Credential::Proven,
        },
        Some(Found {
            account: Ok(account),
            ..
        }) => Next::Accept {
            account,
            source: Source::UsersFile,
        },
        Some(Found {
            account: Err(refusal),
            user,
            ..
        }) => Next::Refuse { user, refusal },
        // No mechanism proves anything without a look-up.
        None => refuse(Refusal::unavailable("nothing was looked up")),
    }
}

fn failed(failure: Failure, found: Option<Found>) -> Next {
    let refusal = Refusal::of_exchange(failure);
    let Some(found) = found else {
        return refuse(refusal);
    };
    let is_credentials = found.is_credentials_refusal();
    let refusal = match (failure, found.account) {
        // Why it could not be right, for the log.
        (Failure::WrongPassword | Failure::TokenRefused, Err(reason)) if is_credentials => reason,
        _ => refusal,
    };
    Next::Refuse {
        user: found.user,
        refusal,
    }
}

fn refuse(refusal: Refusal) -> Next {
    Next::Refuse {
        user: None,
        refusal,
    }
}

/// The case of a domain does not matter to the users file ([`crate::name::UserName::is`]), nor may it to a decoy or a certificate.
pub fn as_stored(user: &str) -> String {
    match user.rsplit_once('@') {
        Some((local, domain)) => format!("{local}@{}", domain.to_ascii_lowercase()),
        None => user.to_owned(),
    }
}

fn bindings(facts: &TlsFacts) -> Vec<ChannelBinding> {
    let exporter = facts.exporter.as_ref().map(|octets| octets.as_slice());
    let of = |kind, octets: Option<&[u8]>| ChannelBinding::new(kind, octets?);
    [
        of(BindingType::TlsExporter, exporter),
        of(
            BindingType::TlsServerEndPoint,
            facts.server_end_point.as_deref(),
        ),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn of_name(mechanism: SaslMechanism) -> Mechanism {
    match mechanism {
        SaslMechanism::External => Mechanism::External,
        SaslMechanism::ScramSha256Plus => Mechanism::ScramSha256Plus,
        SaslMechanism::ScramSha1Plus => Mechanism::ScramSha1Plus,
        SaslMechanism::ScramSha256 => Mechanism::ScramSha256,
        SaslMechanism::ScramSha1 => Mechanism::ScramSha1,
        SaslMechanism::OAuthBearer => Mechanism::OAuthBearer,
        SaslMechanism::XOAuth2 => Mechanism::XOAuth2,
        SaslMechanism::Plain => Mechanism::Plain,
        SaslMechanism::Login => Mechanism::Login,
    }
}
