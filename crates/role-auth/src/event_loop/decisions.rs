//! What comes of an attempt: a question to a worker, a challenge, a maildrop process, or a refusal at its time.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Instant;

use confine::channel::{Channel, ChannelError};
use confine::socket;
use messages::auth::{Denial, Verdict};
use messages::log::{Level, Record};
use messages::session::LOGGED_IN;
use messages::spawner::StartMaildrop;
use messages::{Account, Rights};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use rustix::rand::{GetRandomFlags, getrandom};
use sasl::scram::{NONCE_OCTETS, Nonce};

use super::{EventLoop, Underway, about};
use crate::exchange::Next;
use crate::login_cache::Login;
use crate::sessions::{Session, Token};
use crate::work::{Found, Outcome, Refusal};

impl EventLoop<'_> {
    /// Does what a session's attempt needs next.
    pub(super) fn go_on(&mut self, token: Token, next: Next) {
        let Some(session) = self.sessions.find(token) else {
            return;
        };
        let mut attempt = Underway {
            facts: session.facts,
            method: session.method(),
            proof: None,
        };
        match next {
            Next::Verify { user, credential } => {
                let request = session.request(user, credential);
                attempt.proof = self.cache.proof(&request, &self.stores.configuration);
                let found = attempt
                    .proof
                    .and_then(|proof| self.cache.find(&proof, Instant::now()));
                if let Some(login) = found {
                    // Not to be remembered for longer than the first of them.
                    attempt.proof = None;
                    return self.accept(token, attempt, login, true);
                }
                self.attempts.insert(token, attempt);
                if !self.pool.submit(token, request) {
                    let refusal = Refusal::unavailable("too many logins at a time");
                    self.finish(token, Outcome::unknown(refusal));
                }
            }
            Next::AskToken(access_token) => self.ask_token(token, access_token),
            Next::Challenge(octets) => {
                let challenge = Verdict::Challenge(octets);
                if session.channel.try_send(&challenge, &[]).is_err() {
                    self.forget_session(token);
                }
            }
            Next::Accept { account, source } => {
                self.accept(token, attempt, Login::of(account, source), false);
            }
            Next::Refuse { user, refusal } => self.refuse(token, attempt, user, &refusal),
            Next::Certificate { .. } => {
                // A session has made a question to a worker of it.
                self.refuse(token, attempt, None, &Refusal::NoCertificate);
            }
            Next::ServerRandom => self.give_random(token),
            Next::Nothing => {
                if session.has_no_attempt_left(self.stores.configuration.login_attempts.max(1)) {
                    self.forget_session(token);
                }
            }
        }
    }

    /// Makes up the random number by which a session's handshake is told from every other.
    fn give_random(&mut self, token: Token) {
        let Some(session) = self.sessions.find(token) else {
            return;
        };
        let sent = fresh().map_err(ChannelError::from).and_then(|random| {
            session.expect_handshake(random);
            session
                .channel
                .try_send(&Verdict::ServerRandom(random), &[])
        });
        if sent.is_err() {
            self.forget_session(token);
        }
    }

    pub(super) fn finish_all(&mut self, outcomes: Vec<(Token, Outcome)>) {
        for (token, outcome) in outcomes {
            self.finish(token, outcome);
        }
    }

    /// A worker has answered, or failed to.
    pub(super) fn finish(&mut self, token: Token, outcome: Outcome) {
        let Some(attempt) = self.attempts.remove(&token) else {
            return;
        };
        if let Some(session) = self.sessions.find(token)
            && session.awaits_account()
        {
            let advice = self.stores.configuration.tokens.as_ref();
            if let Some(next) = session.account_found(outcome, advice) {
                self.go_on(token, next);
            }
            return;
        }
        match outcome {
            Outcome::Accepted { account, source } => {
                self.accept(token, attempt, Login::of(account, source), false);
            }
            Outcome::AcceptedApp {
                account,
                source,
                label,
            } => {
                let login = Login {
                    credential: Some(label),
                    ..Login::of(account, source)
                };
                self.accept(token, attempt, login, false);
            }
            Outcome::Refused { user, refusal } => self.refuse(token, attempt, user, &refusal),
            Outcome::Found(found) => self.find(token, attempt, found),
        }
    }

    /// A SCRAM exchange goes on. If its session has left, nobody has guessed anything.
    fn find(&mut self, token: Token, attempt: Underway, found: Found) {
        let Some(session) = self.sessions.find(token) else {
            return;
        };
        let next = fresh::<NONCE_OCTETS>()
            .map(|octets| Nonce::from_random(&octets))
            .map(|nonce| session.found(found, &self.stores.decoys, &nonce))
            .map_err(|error| Refusal::unavailable(format_args!("random source: {error}")))
            .and_then(|next| {
                next.ok_or_else(|| Refusal::unavailable("worker: not what was asked"))
            });
        match next {
            Ok(next) => self.go_on(token, next),
            Err(refusal) => self.refuse(token, attempt, None, &refusal),
        }
    }

    fn accept(&mut self, token: Token, attempt: Underway, login: Login, is_cached: bool) {
        if let Some(proof) = attempt.proof {
            self.cache.remember(proof, login.clone(), Instant::now());
        }
        let Login {
            account,
            source,
            credential,
        } = login;
        let limited = Some(account.rights).filter(|&rights| rights != Rights::Full);
        let record = |record: Record| {
            about(record, attempt.facts)
                .with("user", &account.name)
                .with("method", attempt.method.name())
                .with("backend", source)
                .with_some("credential", credential.as_deref())
                .with_some("cached", is_cached.then_some("yes"))
                .with_some("rights", limited.map(Rights::name))
        };
        let Some(session) = self.sessions.find(token) else {
            return self.logger.log(&record(Record::info("login abandoned")));
        };
        let (delay, now) = (self.stores.configuration.login_delay, Instant::now());
        if self.login_delay.is_too_soon(&account, delay, now) {
            self.logger.log(&record(Record::info("login too soon")));
            return self.deny(token, Denial::LoginDelay);
        }
        match start_maildrop(self.spawner.as_ref(), session, &account) {
            Ok(()) => {
                self.login_delay.remember(&account, delay, now);
                self.logger.log(&record(Record::info("login")));
                // Its work here is done; the lease has gone on.
                self.sessions.remove(token);
            }
            Err(error) => {
                if matches!(error, ChannelError::Closed) {
                    self.spawner = None;
                }
                let failed = record(Record::error("login not possible"));
                self.logger
                    .log(&failed.with("reason", format!("spawner: {error}")));
                self.deny(token, Denial::Temporary);
            }
        }
    }

    fn refuse(&mut self, token: Token, attempt: Underway, user: Option<String>, refusal: &Refusal) {
        let level = if refusal.is_fault() {
            Level::Error
        } else {
            Level::Warning
        };
        let event = match refusal.denial() {
            Denial::Credentials | Denial::Malformed => "login failed",
            _ => "login not possible",
        };
        self.logger.log(
            &about(Record::new(level, event), attempt.facts)
                .with_some("user", user)
                .with("method", attempt.method.name())
                .with("reason", refusal),
        );
        self.deny(token, refusal.denial());
    }

    fn deny(&mut self, token: Token, denial: Denial) {
        let delay = self.stores.configuration.failure_delay;
        self.sessions.fail(token, denial, delay, Instant::now());
    }

    pub(super) fn answer_what_is_due(&mut self) {
        let now = Instant::now();
        while let Some((token, denial)) = self.sessions.next_answer(now) {
            let limit = self.stores.configuration.login_attempts.max(1);
            let Some(session) = self.sessions.find(token) else {
                continue;
            };
            // There is room for the few verdicts a session may get, read or unread.
            let sent = session.channel.try_send(&Verdict::Denied(denial), &[]);
            if sent.is_err() || session.has_no_attempt_left(limit) {
                self.forget_session(token);
            }
        }
    }
}

fn fresh<const OCTETS: usize>() -> io::Result<[u8; OCTETS]> {
    let mut octets = [0; OCTETS];
    getrandom(&mut octets, GetRandomFlags::empty())?;
    Ok(octets)
}

/// Has the spawner start a maildrop process at one end of a new stream, and gives the session the other end.
fn start_maildrop(
    spawner: Option<&Channel>,
    session: &Session,
    account: &Account,
) -> Result<(), ChannelError> {
    let spawner = spawner.ok_or(ChannelError::Closed)?;
    let (inner, outer) = socketpair(
        AddressFamily::UNIX,
        SocketType::STREAM,
        SocketFlags::CLOEXEC,
        None,
    )
    .map_err(io::Error::from)?;
    let start = StartMaildrop {
        id: session.facts.id,
        peer: session.peer,
        account: account.clone(),
        certificate_shown: session.has_shown_certificate(),
    };
    spawner.try_send(&start, &[inner.as_fd(), session.lease.as_fd()])?;
    note_login(&session.lease);
    // If the session has gone in the meantime, the maildrop process sees the end of file and nothing else happens.
    drop(
        session
            .channel
            .try_send(&Verdict::Accepted, &[outer.as_fd()]),
    );
    Ok(())
}

/// Lets the listener know, which ends connections that have not logged in when it needs room. It says so here and not in the
/// session, which may be lying; and never waits, whatever the session spawner has sent as a lease. A listener that has been
/// started anew does not count this connection, and misses nothing.
fn note_login(lease: &OwnedFd) {
    if socket::set_nonblocking(lease.as_fd(), true).is_ok() {
        let _ = rustix::io::write(lease, &LOGGED_IN);
    }
}
