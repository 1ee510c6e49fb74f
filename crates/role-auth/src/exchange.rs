//! A SASL exchange of one session (RFC 5034, RFC 4422), from AUTH to its end.
//!
//! Lives in auth's event loop, between two messages of its session. A chain of [`Step`]s each of which is consumed by the next,
//! so that nothing is done twice or out of turn, and which ends by itself: no mechanism takes more than three responses, and
//! none a response longer than its own bound. What has to be looked up, a worker looks up; what is proven here, the cheap end
//! of SCRAM, costs the same for everybody.
//!
//! EXTERNAL and the two mechanisms with access tokens have their steps in `sasl`, and no caller here: the first would make a
//! session's word a login, the others need a role that asks whoever issued the token.

use messages::auth::TlsFacts;
use messages::{Account, SaslMechanism, Secret};
use sasl::scram::{Decoys, Nonce, Verifier};
use sasl::server::{self, Challenge, Failure, FindVerifier, Step};
use sasl::{BindingType, ChannelBinding, Mechanism};

use crate::work::{Credential, Found, Refusal, Source};

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
    /// Nothing: the client has given up.
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
            Awaited::Verifier(_) => None,
        }
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
        Step::CheckToken(_) | Step::CheckCertificate(_) => {
            (None, failed(Failure::NoServerHalf, found))
        }
    }
}

/// The password is right.
fn proven(found: Option<Found>) -> Next {
    match found {
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
        (Failure::WrongPassword, Err(reason)) if is_credentials => reason,
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

/// The case of a domain does not matter to the users file ([`crate::name::UserName::is`]), nor may it to a decoy.
fn as_stored(user: &str) -> String {
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
        SaslMechanism::ScramSha256Plus => Mechanism::ScramSha256Plus,
        SaslMechanism::ScramSha1Plus => Mechanism::ScramSha1Plus,
        SaslMechanism::ScramSha256 => Mechanism::ScramSha256,
        SaslMechanism::ScramSha1 => Mechanism::ScramSha1,
        SaslMechanism::Plain => Mechanism::Plain,
        SaslMechanism::Login => Mechanism::Login,
    }
}
