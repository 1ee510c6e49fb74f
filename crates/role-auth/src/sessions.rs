//! What auth knows of each session, and what a session may do next; all of them, and whose answer is due, are in [`table`].
//!
//! A session is foreign: it may send anything at any time. It is allowed one attempt at a time and so many in all, each of them
//! possibly a SASL exchange of some steps; the first thing beyond that ends it, and nobody but it.

mod table;

use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::time::Instant;

use confine::channel::Channel;
use messages::auth::{
    Attempt, Denial, Handshake, MAX_SIGNATURE_OCTETS, MAX_TRANSCRIPT_OCTETS, NewSession,
    ServerRandom, Tokens,
};
use messages::token::Finding;
use messages::{SaslMechanism, SessionId};
use sasl::scram::{Decoys, Nonce};

pub use table::{MAX_SESSIONS_KNOWN, Sessions};

use crate::exchange::{self, Exchange, Next, Turn};
use crate::work::{Credential, Found, Outcome, Refusal, Request};

/// Names a session within this process; never given away twice.
pub type Token = u64;

/// One session.
#[derive(Debug)]
pub struct Session {
    /// What the log calls it and its client.
    pub facts: Facts,
    /// Where its attempts come from.
    pub channel: Channel,
    /// The connection's lease, until the maildrop process gets it.
    pub lease: OwnedFd,
    /// The client's address and port.
    pub peer: Option<SocketAddr>,
    local: Option<IpAddr>,
    apop_timestamp: Option<String>,
    attempts: u32,
    method: Method,
    /// The last attempt is a SASL exchange, and the session says that it has TLS. One that lies has a verifier derived from a
    /// password that the system has accepted, of the user whose it is: nobody else gains or loses by it.
    is_sasl_over_tls: bool,
    state: State,
    /// The SASL exchange under way; there while [`State::Challenged`], or while a worker looks something up for it.
    exchange: Option<Box<Exchange>>,
    /// What has to be in the client's handshake, once the session has asked for it.
    server_random: Option<ServerRandom>,
    /// What the session says is that handshake.
    handshake: Option<Box<Handshake>>,
}

/// What a session may do, by the configuration.
#[derive(Clone, Copy, Debug)]
pub struct Rules<'a> {
    /// Attempts in all.
    pub login_attempts: u32,
    /// SASL mechanisms.
    pub mechanisms: &'a [SaslMechanism],
}

/// What the log says of a session. Outlives it where a verification is under way.
#[derive(Clone, Copy, Debug)]
pub struct Facts {
    /// Names the connection.
    pub id: SessionId,
    /// The client's address.
    pub peer: Option<IpAddr>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// It may send an attempt.
    Idle,
    /// Its attempt, or its answer to a challenge, received then, is being verified.
    Deciding(Instant),
    /// It has been sent a challenge.
    Challenged,
    /// Its attempt has failed, and is answered then.
    Failed(Instant, Denial),
}

/// How an attempt proves the name; for the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// USER and PASS.
    Password,
    /// APOP.
    Apop,
    /// AUTH.
    Sasl(SaslMechanism),
}

impl Method {
    /// Its name in the log.
    pub fn name(self) -> &'static str {
        match self {
            Method::Password => "password",
            Method::Apop => "apop",
            Method::Sasl(mechanism) => mechanism.name(),
        }
    }
}

/// What no honest session does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Violation {
    /// Something before the verdict on what came last.
    Impatient,
    /// Another attempt within a SASL exchange.
    InExchange,
    /// A SASL response, or the end of an exchange, where there is none.
    NoExchange,
    /// More attempts than are allowed.
    TooManyAttempts,
    /// APOP on a connection whose greeting had no timestamp.
    NoTimestamp,
    /// A second handshake, or another random number for it.
    SecondHandshake,
    /// A handshake for which no random number was asked, or one that is too long.
    BadHandshake,
}

impl Violation {
    /// For the log.
    pub fn reason(self) -> &'static str {
        match self {
            Violation::Impatient => "attempt before the verdict on the last",
            Violation::InExchange => "attempt within a SASL exchange",
            Violation::NoExchange => "SASL response without a challenge",
            Violation::TooManyAttempts => "more attempts than allowed",
            Violation::NoTimestamp => "APOP without a timestamp",
            Violation::SecondHandshake => "second handshake",
            Violation::BadHandshake => "handshake without a random number, or too long",
        }
    }
}

impl Session {
    /// A session that has done nothing yet.
    pub fn new(announced: NewSession, channel: Channel, lease: OwnedFd) -> Self {
        Self {
            facts: Facts {
                id: announced.id,
                peer: announced.peer.map(|peer| peer.ip().to_canonical()),
            },
            channel,
            lease,
            peer: announced.peer,
            local: announced.local.map(|local| local.ip().to_canonical()),
            apop_timestamp: announced.apop_timestamp,
            attempts: 0,
            method: Method::Password,
            is_sasl_over_tls: false,
            state: State::Idle,
            exchange: None,
            server_random: None,
            handshake: None,
        }
    }

    /// Takes what was received `now`.
    ///
    /// # Errors
    /// It is not allowed; the session is to be ended.
    pub fn take(
        &mut self,
        attempt: Attempt,
        rules: Rules<'_>,
        now: Instant,
    ) -> Result<Next, Violation> {
        match (attempt, self.state) {
            (_, State::Deciding(_) | State::Failed(..)) => Err(Violation::Impatient),
            (Attempt::SaslResponse(response), State::Challenged) => {
                let exchange = self.exchange.take().ok_or(Violation::NoExchange)?;
                let turn = exchange.respond(&response).ok_or(Violation::NoExchange)?;
                self.state = State::Deciding(now);
                Ok(self.turn(turn))
            }
            (Attempt::SaslCancel, State::Challenged) => {
                self.exchange = None;
                self.state = State::Idle;
                Ok(Next::Nothing)
            }
            (Attempt::SaslResponse(_) | Attempt::SaslCancel, State::Idle) => {
                Err(Violation::NoExchange)
            }
            (_, State::Challenged) => Err(Violation::InExchange),
            (Attempt::ServerRandom, State::Idle) => match self.server_random {
                Some(_) => Err(Violation::SecondHandshake),
                None => Ok(Next::ServerRandom),
            },
            (Attempt::Handshake(handshake), State::Idle) => self.show(handshake),
            (attempt, State::Idle) => self.begin(attempt, rules, now),
        }
    }

    fn begin(
        &mut self,
        attempt: Attempt,
        rules: Rules<'_>,
        now: Instant,
    ) -> Result<Next, Violation> {
        if self.has_no_attempt_left(rules.login_attempts) {
            return Err(Violation::TooManyAttempts);
        }
        self.is_sasl_over_tls = matches!(attempt, Attempt::SaslStart { tls: Some(_), .. });
        let (method, turn) = match attempt {
            Attempt::Password { user, password } => {
                let credential = Credential::Password(password);
                (Method::Password, (None, Next::Verify { user, credential }))
            }
            Attempt::Apop { user, digest } => {
                let timestamp = self.apop_timestamp.clone().ok_or(Violation::NoTimestamp)?;
                let credential = Credential::Apop { digest, timestamp };
                (Method::Apop, (None, Next::Verify { user, credential }))
            }
            Attempt::SaslStart {
                mechanism,
                initial_response,
                tls,
            } => {
                let turn = if rules.mechanisms.contains(&mechanism) {
                    let is_bindable = rules.mechanisms.iter().any(|offered| offered.is_bound());
                    exchange::start(
                        mechanism,
                        initial_response.as_ref(),
                        tls.as_ref(),
                        is_bindable,
                    )
                } else {
                    let (user, refusal) = (None, Refusal::NotOffered);
                    (None, Next::Refuse { user, refusal })
                };
                (Method::Sasl(mechanism), turn)
            }
            Attempt::SaslResponse(_)
            | Attempt::SaslCancel
            | Attempt::ServerRandom
            | Attempt::Handshake(_) => return Err(Violation::NoExchange),
        };
        self.attempts = self.attempts.saturating_add(1);
        self.method = method;
        self.state = State::Deciding(now);
        Ok(self.turn(turn))
    }

    /// The random number that has to be in its client's handshake.
    pub fn expect_handshake(&mut self, server_random: ServerRandom) {
        self.server_random = Some(server_random);
    }

    /// Whether it says that its client has shown a certificate.
    pub fn has_shown_certificate(&self) -> bool {
        self.handshake.is_some()
    }

    fn show(&mut self, handshake: Handshake) -> Result<Next, Violation> {
        if self.handshake.is_some() {
            return Err(Violation::SecondHandshake);
        }
        if self.server_random.is_none()
            || handshake.transcript.len() > MAX_TRANSCRIPT_OCTETS
            || handshake.signature.len() > MAX_SIGNATURE_OCTETS
        {
            return Err(Violation::BadHandshake);
        }
        self.handshake = Some(Box::new(handshake));
        Ok(Next::Nothing)
    }

    /// A worker has answered what the exchange asked; `None` if it asked nothing of the kind.
    pub fn found(&mut self, found: Found, decoys: &Decoys, nonce: &Nonce) -> Option<Next> {
        let turn = self.exchange.take()?.found(found, decoys, nonce)?;
        Some(self.turn(turn))
    }

    /// The token role has found something; `None` if the exchange asked nothing of the kind.
    pub fn token_found(&mut self, finding: Finding, advice: Option<&Tokens>) -> Option<Next> {
        let turn = self.exchange.take()?.token_found(finding, advice)?;
        Some(self.turn(turn))
    }

    /// Whether what a worker finds goes back into the exchange.
    pub fn awaits_account(&self) -> bool {
        self.exchange.as_ref().is_some_and(|it| it.awaits_account())
    }

    /// A worker has found whose maildrop it is; `None` if the exchange asked nothing of the kind.
    pub fn account_found(&mut self, outcome: Outcome, advice: Option<&Tokens>) -> Option<Next> {
        let turn = self.exchange.take()?.account_found(outcome, advice)?;
        Some(self.turn(turn))
    }

    fn turn(&mut self, (exchange, next): Turn) -> Next {
        self.exchange = exchange.map(Box::new);
        if let Next::Challenge(_) = next {
            self.state = State::Challenged;
        }
        match next {
            Next::Certificate { authzid } => self.certificate(authzid),
            other => other,
        }
    }

    fn certificate(&self, authzid: Option<String>) -> Next {
        match (&self.handshake, self.server_random) {
            (Some(handshake), Some(server_random)) => Next::Verify {
                user: Vec::new(),
                credential: Credential::Certificate {
                    handshake: Handshake::clone(handshake),
                    server_random,
                    authzid,
                },
            },
            _ => Next::Refuse {
                user: None,
                refusal: Refusal::NoCertificate,
            },
        }
    }

    /// How the last attempt proves the name.
    pub fn method(&self) -> Method {
        self.method
    }

    /// What a worker is asked.
    pub fn request(&self, user: Vec<u8>, credential: Credential) -> Request {
        Request {
            user,
            credential,
            tls: self.is_sasl_over_tls,
            local: self.local,
            peer: self.facts.peer,
        }
    }

    /// Whether that was the last attempt it may make.
    pub fn has_no_attempt_left(&self, login_attempts: u32) -> bool {
        self.attempts >= login_attempts
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use messages::Secret;

    pub(super) fn session(apop_timestamp: Option<&str>) -> Session {
        let (channel, _other) = Channel::pair().unwrap();
        let lease = channel.into_fd();
        let (channel, _other) = Channel::pair().unwrap();
        let announced = NewSession {
            id: SessionId(7),
            peer: Some("[::ffff:192.0.2.1]:1234".parse().unwrap()),
            local: None,
            apop_timestamp: apop_timestamp.map(str::to_owned),
        };
        Session::new(announced, channel, lease)
    }

    pub(super) fn password() -> Attempt {
        Attempt::Password {
            user: b"joe".to_vec(),
            password: Secret::copied_from(b"secret"),
        }
    }

    fn apop() -> Attempt {
        Attempt::Apop {
            user: b"joe".to_vec(),
            digest: Secret::copied_from(b""),
        }
    }

    pub(super) const RULES: Rules<'_> = allowed(3);
    pub(super) const EIGHT: Rules<'_> = allowed(8);
    pub(super) const HUNDRED: Rules<'_> = allowed(100);

    const fn allowed(login_attempts: u32) -> Rules<'static> {
        Rules {
            login_attempts,
            mechanisms: &[SaslMechanism::Plain, SaslMechanism::Login],
        }
    }

    fn plain(initial_response: Option<&[u8]>) -> Attempt {
        Attempt::SaslStart {
            mechanism: SaslMechanism::Plain,
            initial_response: initial_response.map(Secret::copied_from),
            tls: None,
        }
    }

    fn response(octets: &[u8]) -> Attempt {
        Attempt::SaslResponse(Secret::copied_from(octets))
    }

    #[test]
    fn an_attempt_before_the_verdict_is_a_violation() {
        let (mut session, now) = (session(None), Instant::now());
        session.take(password(), RULES, now).unwrap();
        for attempt in [password(), plain(None), response(b""), Attempt::SaslCancel] {
            let violation = session.take(attempt, RULES, now).unwrap_err();
            assert_eq!(violation, Violation::Impatient);
        }
    }

    #[test]
    fn apop_takes_the_greetings_timestamp_and_no_other() {
        let now = Instant::now();
        assert_eq!(
            session(None).take(apop(), RULES, now).unwrap_err(),
            Violation::NoTimestamp
        );
        let next = session(Some("<1@x>")).take(apop(), RULES, now).unwrap();
        assert!(matches!(
            next,
            Next::Verify { credential: Credential::Apop { timestamp, .. }, .. }
                if timestamp == "<1@x>"
        ));
    }

    #[test]
    fn an_exchange_takes_its_answers_in_turn_and_counts_as_one_attempt() {
        let (mut session, now) = (session(None), Instant::now());
        let next = session.take(plain(None), RULES, now).unwrap();
        assert!(matches!(next, Next::Challenge(octets) if octets.is_empty()));
        let next = session.take(response(b"\0joe\0secret"), RULES, now);
        let Next::Verify { user, credential } = next.unwrap() else {
            panic!("not verified")
        };
        let request = session.request(user, credential);
        assert_eq!(request.user, b"joe");
        assert_eq!(request.peer, Some("192.0.2.1".parse().unwrap()));
        assert_eq!(session.method().name(), "PLAIN");
        assert!(!session.has_no_attempt_left(2));
        assert!(session.has_no_attempt_left(1));
    }

    #[test]
    fn within_an_exchange_there_is_no_other_attempt_and_without_one_no_answer() {
        let now = Instant::now();
        for attempt in [password(), plain(None)] {
            let mut session = session(None);
            session.take(plain(None), RULES, now).unwrap();
            let violation = session.take(attempt, RULES, now).unwrap_err();
            assert_eq!(violation, Violation::InExchange);
        }
        for attempt in [response(b""), Attempt::SaslCancel] {
            let violation = session(None).take(attempt, RULES, now).unwrap_err();
            assert_eq!(violation, Violation::NoExchange);
        }
    }

    #[test]
    fn a_cancelled_exchange_is_forgotten_but_counts() {
        let (mut session, now) = (session(None), Instant::now());
        for _ in 0..3 {
            session.take(plain(None), RULES, now).unwrap();
            let next = session.take(Attempt::SaslCancel, RULES, now).unwrap();
            assert!(matches!(next, Next::Nothing));
        }
        let violation = session.take(plain(None), RULES, now).unwrap_err();
        assert_eq!(violation, Violation::TooManyAttempts);
    }

    #[test]
    fn what_is_malformed_or_not_configured_is_refused_without_a_worker() {
        let now = Instant::now();
        let scram = Attempt::SaslStart {
            mechanism: SaslMechanism::ScramSha256,
            initial_response: None,
            tls: None,
        };
        let huge = vec![b'x'; messages::auth::MAX_SASL_OCTETS];
        for (attempt, denial) in [
            (plain(Some(b"joe")), Denial::Malformed),
            (plain(Some(&huge)), Denial::Malformed),
            (plain(Some(b"ann\0joe\0secret")), Denial::Credentials),
            (scram, Denial::Temporary),
        ] {
            let next = session(None).take(attempt, RULES, now).unwrap();
            let Next::Refuse {
                user: None,
                refusal,
            } = next
            else {
                panic!("{next:?}")
            };
            assert_eq!(refusal.denial(), denial, "{refusal}");
        }
    }
}
