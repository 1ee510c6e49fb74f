//! All sessions, and the answers to failed attempts, each of which waits for its time.

use std::collections::{BTreeSet, HashMap};
use std::time::{Duration, Instant};

use messages::auth::Denial;

use super::{Session, State, Token};

/// Sessions known at a time. The listener bounds them (`limits.sessions`, 500 by default); this is for a session spawner gone
/// wild. Two descriptors each.
pub const MAX_SESSIONS_KNOWN: usize = 64 * 1024;

/// The longest time a failed attempt waits for its answer: as long as a client has for its whole login by default.
const MAX_FAILURE_DELAY: Duration = Duration::from_secs(60);

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
        session.exchange = None;
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
    use super::super::Violation;
    use super::super::tests::{EIGHT, HUNDRED, RULES, password, session};
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn each_failure_waits_twice_as_long_counted_from_the_attempt() {
        let mut sessions = Sessions::default();
        let mut now = Instant::now();
        let token = sessions.insert(session(None)).unwrap();
        for delay in [1, 2, 4, 8, 16, 32, 60, 60] {
            let begun = sessions.find(token).unwrap().take(password(), EIGHT, now);
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
            session.take(password(), EIGHT, now).unwrap_err(),
            Violation::TooManyAttempts
        );
    }

    #[test]
    fn no_delay_stays_none_after_any_number_of_attempts() {
        let mut sessions = Sessions::default();
        let now = Instant::now();
        let token = sessions.insert(session(None)).unwrap();
        for _ in 0..100 {
            let begun = sessions.find(token).unwrap().take(password(), HUNDRED, now);
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
            .take(password(), RULES, now)
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
            .take(password(), RULES, now)
            .unwrap();
        sessions.fail(token, Denial::Credentials, SECOND, now);
        assert!(sessions.remove(token).is_some());
        assert_eq!(sessions.next_due(), None);
        assert_eq!(sessions.next_answer(now + SECOND * 9), None);
        assert!(sessions.is_empty());
    }
}
