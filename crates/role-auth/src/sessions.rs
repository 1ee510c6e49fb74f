//! What auth knows of each session, and what a session may do next.
//!
//! A session is foreign: it may send anything at any time. It is allowed one attempt at a time and so many in all; the first
//! thing beyond that ends it, and nobody but it.

use std::collections::{BTreeSet, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use confine::channel::Channel;
use messages::SessionId;
use messages::auth::{Attempt, Denial, NewSession};

use crate::work::{Credential, Request};

/// Sessions known at a time. The listener bounds them (`limits.sessions`, 500 by default); this is for a session spawner gone
/// wild. Two descriptors each.
pub const MAX_SESSIONS_KNOWN: usize = 64 * 1024;

/// The longest time a failed attempt waits for its answer: as long as a client has for its whole login by default.
const MAX_FAILURE_DELAY: Duration = Duration::from_secs(60);

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
    state: State,
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
    /// Its attempt, received then, is being verified.
    Deciding(Instant),
    /// Its attempt has failed, and is answered then.
    Failed(Instant, Denial),
}

/// How an attempt proves the name; for the log.
#[derive(Clone, Copy, Debug)]
pub enum Method {
    /// USER and PASS.
    Password,
    /// APOP.
    Apop,
}

impl Method {
    /// Its name in the log.
    pub fn name(self) -> &'static str {
        match self {
            Method::Password => "password",
            Method::Apop => "apop",
        }
    }
}

/// What no honest session does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Violation {
    /// An attempt before the last one's verdict.
    Impatient,
    /// More attempts than are allowed.
    TooManyAttempts,
    /// APOP on a connection whose greeting had no timestamp.
    NoTimestamp,
}

impl Violation {
    /// For the log.
    pub fn reason(self) -> &'static str {
        match self {
            Violation::Impatient => "attempt before the verdict on the last",
            Violation::TooManyAttempts => "more attempts than allowed",
            Violation::NoTimestamp => "APOP without a timestamp",
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
            state: State::Idle,
        }
    }

    /// Takes an attempt received `now`.
    ///
    /// # Errors
    /// It is not allowed; the session is to be ended.
    pub fn begin(
        &mut self,
        attempt: Attempt,
        login_attempts: u32,
        now: Instant,
    ) -> Result<(Method, Request), Violation> {
        if self.state != State::Idle {
            return Err(Violation::Impatient);
        }
        if self.attempts >= login_attempts {
            return Err(Violation::TooManyAttempts);
        }
        let (method, user, credential) = match attempt {
            Attempt::Password { user, password } => {
                (Method::Password, user, Credential::Password(password))
            }
            Attempt::Apop { user, digest } => {
                let timestamp = self.apop_timestamp.clone().ok_or(Violation::NoTimestamp)?;
                (Method::Apop, user, Credential::Apop { digest, timestamp })
            }
        };
        self.attempts = self.attempts.saturating_add(1);
        self.state = State::Deciding(now);
        Ok((
            method,
            Request {
                user,
                credential,
                local: self.local,
                peer: self.facts.peer,
            },
        ))
    }

    /// Whether that was the last attempt it may make.
    pub fn has_no_attempt_left(&self, login_attempts: u32) -> bool {
        self.attempts >= login_attempts
    }
}

/// All sessions, and which of them are to be answered when.
#[derive(Debug, Default)]
pub struct Sessions {
    known: HashMap<Token, Session>,
    due: BTreeSet<(Instant, Token)>,
    next: Token,
}

impl Sessions {
    /// Adds one, unless there are [`MAX_SESSIONS_KNOWN`].
    pub fn insert(&mut self, session: Session) -> Option<Token> {
        if self.known.len() >= MAX_SESSIONS_KNOWN {
            return None;
        }
        let token = self.next;
        self.next = self.next.wrapping_add(1);
        self.known.insert(token, session);
        Some(token)
    }

    /// One that is still there.
    pub fn find(&mut self, token: Token) -> Option<&mut Session> {
        self.known.get_mut(&token)
    }

    /// Forgets one; its channel and lease are the caller's.
    pub fn remove(&mut self, token: Token) -> Option<Session> {
        let session = self.known.remove(&token)?;
        if let State::Failed(due, _) = session.state {
            self.due.remove(&(due, token));
        }
        Some(session)
    }

    /// Whether none is left.
    pub fn is_empty(&self) -> bool {
        self.known.is_empty()
    }

    /// The attempt under way has failed: the answer is due `first_delay` after the attempt was received, doubled with each
    /// attempt before it. Counted from there, and not from the end of the verification, so that what the verification cost
    /// cannot be seen; and never by sleeping, so that nobody else waits.
    pub fn fail(&mut self, token: Token, denial: Denial, first_delay: Duration, now: Instant) {
        let Some(session) = self.known.get_mut(&token) else {
            return;
        };
        let State::Deciding(received) = session.state else {
            return;
        };
        let doublings = session.attempts.saturating_sub(1);
        let factor = 2_u32.checked_pow(doublings).unwrap_or(u32::MAX);
        let delay = first_delay.saturating_mul(factor).min(MAX_FAILURE_DELAY);
        let due = received.checked_add(delay).map_or(now, |due| due.max(now));
        session.state = State::Failed(due, denial);
        self.due.insert((due, token));
    }

    /// The next answer that is due by `now`; the session may then try again.
    pub fn next_answer(&mut self, now: Instant) -> Option<(Token, Denial)> {
        loop {
            let &(due, token) = self.due.first()?;
            if due > now {
                return None;
            }
            self.due.pop_first();
            if let Some(session) = self.known.get_mut(&token)
                && let State::Failed(_, denial) = session.state
            {
                session.state = State::Idle;
                return Some((token, denial));
            }
        }
    }

    /// When the next answer is due.
    pub fn next_due(&self) -> Option<Instant> {
        self.due.first().map(|&(due, _)| due)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use messages::Secret;

    fn session(apop_timestamp: Option<&str>) -> Session {
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

    fn password() -> Attempt {
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

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn an_attempt_before_the_verdict_is_a_violation() {
        let (mut session, now) = (session(None), Instant::now());
        let (_, request) = session.begin(password(), 3, now).unwrap();
        assert_eq!(request.peer, Some("192.0.2.1".parse().unwrap()));
        assert_eq!(
            session.begin(password(), 3, now).unwrap_err(),
            Violation::Impatient
        );
    }

    #[test]
    fn apop_takes_the_greetings_timestamp_and_no_other() {
        let now = Instant::now();
        assert_eq!(
            session(None).begin(apop(), 3, now).unwrap_err(),
            Violation::NoTimestamp
        );
        let (_, request) = session(Some("<1@x>")).begin(apop(), 3, now).unwrap();
        assert!(matches!(
            request.credential,
            Credential::Apop { timestamp, .. } if timestamp == "<1@x>"
        ));
    }

    #[test]
    fn each_failure_waits_twice_as_long_counted_from_the_attempt() {
        let mut sessions = Sessions::default();
        let mut now = Instant::now();
        let token = sessions.insert(session(None)).unwrap();
        for delay in [1, 2, 4, 8, 16, 32, 60, 60] {
            let begun = sessions.find(token).unwrap().begin(password(), 8, now);
            begun.unwrap();
            sessions.fail(token, Denial::Credentials, SECOND, now + SECOND / 2);
            assert_eq!(sessions.next_due(), Some(now + SECOND * delay));
            assert_eq!(
                sessions.next_answer(now + SECOND * delay - SECOND / 10),
                None
            );
            now += SECOND * delay;
            assert_eq!(
                sessions.next_answer(now),
                Some((token, Denial::Credentials))
            );
        }
        let session = sessions.find(token).unwrap();
        assert!(session.has_no_attempt_left(8));
        assert_eq!(
            session.begin(password(), 8, now).unwrap_err(),
            Violation::TooManyAttempts
        );
    }

    #[test]
    fn no_delay_stays_none_after_any_number_of_attempts() {
        let mut sessions = Sessions::default();
        let now = Instant::now();
        let token = sessions.insert(session(None)).unwrap();
        for _ in 0..100 {
            let begun = sessions.find(token).unwrap().begin(password(), 100, now);
            begun.unwrap();
            sessions.fail(token, Denial::Credentials, Duration::ZERO, now);
            assert_eq!(
                sessions.next_answer(now),
                Some((token, Denial::Credentials))
            );
        }
    }

    #[test]
    fn a_verification_longer_than_the_delay_is_answered_at_once() {
        let mut sessions = Sessions::default();
        let now = Instant::now();
        let token = sessions.insert(session(None)).unwrap();
        sessions
            .find(token)
            .unwrap()
            .begin(password(), 3, now)
            .unwrap();
        sessions.fail(token, Denial::Temporary, SECOND, now + SECOND * 30);
        assert_eq!(sessions.next_due(), Some(now + SECOND * 30));
    }

    #[test]
    fn a_session_that_left_is_not_answered() {
        let mut sessions = Sessions::default();
        let now = Instant::now();
        let token = sessions.insert(session(None)).unwrap();
        sessions
            .find(token)
            .unwrap()
            .begin(password(), 3, now)
            .unwrap();
        sessions.fail(token, Denial::Credentials, SECOND, now);
        assert!(sessions.remove(token).is_some());
        assert_eq!(sessions.next_due(), None);
        assert_eq!(sessions.next_answer(now + SECOND * 9), None);
        assert!(sessions.is_empty());
    }
}
