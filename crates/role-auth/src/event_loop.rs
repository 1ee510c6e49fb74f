//! The one loop: the master, the session spawner, the sessions, the workers, and what is due. What comes of an attempt is in
//! [`decisions`], of an access token in [`tokens`].

mod decisions;
mod tokens;

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use confine::channel::{Channel, Received};
use confine::process::{self, Fork};
use confine::seccomp::Program;
use confine::signals::{Signal, SignalFd};
use messages::auth::{Attempt, NewSession, ToAuth};
use messages::log::{Logger, Record};
use rustix::buffer::spare_capacity;
use rustix::event::{Timespec, epoll};

use crate::backends::Stores;
use crate::login_cache::{LoginCache, Proof};
use crate::login_delay::LoginDelay;
use crate::pool::{Forked, Number, Pool};
use crate::sessions::{Facts, MAX_SESSIONS_KNOWN, Method, Rules, Session, Sessions, Token};
use crate::tokens::Tokens;
use crate::trust::Coming;
use crate::worker::{self, Lifetime};

/// Events taken at a time.
const MAX_EVENTS: usize = 256;

/// Sessions accepted before other events are looked at again.
const MAX_NEW_SESSIONS_IN_A_ROW: usize = 64;

/// Sessions that cannot be taken are logged once in this time.
const REFUSAL_LOG_INTERVAL: Duration = Duration::from_secs(10);

// The data words of what is no session: tokens of sessions stay below.
const CONTROL: u64 = u64::MAX;
const SESSION_SPAWNER: u64 = u64::MAX - 1;
const SIGNALS: u64 = u64::MAX - 2;
const TOKEN_ROLE: u64 = u64::MAX - 3;
const FIRST_WORKER: u64 = 1 << 63;

/// All that the role holds.
pub struct EventLoop<'a> {
    control: &'a Channel,
    /// The master is there.
    governed: bool,
    logger: Logger,
    epoll: OwnedFd,
    signals: SignalFd,
    session_spawner: Option<Channel>,
    spawner: Option<Channel>,
    stores: Stores,
    /// A new set of certificates, as far as it has come.
    coming: Coming,
    narrow: Program,
    sessions: Sessions,
    pool: Pool,
    /// The attempts under way. They outlive their sessions: a guess is logged also when the client does not wait.
    attempts: HashMap<Token, Underway>,
    tokens: Tokens,
    login_delay: LoginDelay,
    cache: LoginCache,
    refused: Option<Instant>,
}

#[derive(Clone, Copy, Debug)]
struct Underway {
    facts: Facts,
    method: Method,
    /// What is remembered if it succeeds.
    proof: Option<Proof>,
}

impl<'a> EventLoop<'a> {
    /// With a control channel and nothing else yet.
    ///
    /// # Errors
    /// No descriptor left.
    pub fn new(
        control: &'a Channel,
        logger: Logger,
        stores: Stores,
        cache: LoginCache,
        narrow: Program,
    ) -> io::Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let signals = SignalFd::new(&[Signal::CHILD])?;
        add(&epoll, control, CONTROL)?;
        add(&epoll, &signals, SIGNALS)?;
        let pool = Pool::new(stores.configuration.workers, lifetime(&stores));
        Ok(Self {
            control,
            governed: true,
            logger,
            epoll,
            signals,
            session_spawner: None,
            spawner: None,
            stores,
            coming: Coming::default(),
            narrow,
            sessions: Sessions::default(),
            pool,
            attempts: HashMap::new(),
            tokens: Tokens::default(),
            login_delay: LoginDelay::default(),
            cache,
            refused: None,
        })
    }

    /// Serves until the master has gone and no session is left. Sessions end by their clients' time-out at the latest, so that
    /// does not take for ever; until then a client that is just logging in does not notice that the master is restarted.
    ///
    /// # Errors
    /// The kernel does not let us wait any more.
    pub fn run(&mut self) -> io::Result<()> {
        let mut events = Vec::with_capacity(MAX_EVENTS);
        while self.governed || !self.sessions.is_empty() {
            events.clear();
            let timeout = self.timeout();
            match epoll::wait(&self.epoll, spare_capacity(&mut events), timeout.as_ref()) {
                Ok(_) => {}
                Err(rustix::io::Errno::INTR) => continue,
                Err(error) => return Err(error.into()),
            }
            for event in &events {
                self.handle(event.data.u64());
            }
            self.answer_what_is_due();
            self.kill_what_is_late();
            self.give_late_tokens_up();
            self.give_out_work();
        }
        Ok(())
    }

    fn handle(&mut self, data: u64) {
        match data {
            CONTROL => self.hear_master(),
            SESSION_SPAWNER => self.take_sessions(),
            SIGNALS => self.reap(),
            TOKEN_ROLE => self.hear_token_role(),
            worker if worker >= FIRST_WORKER => self.hear_worker(worker ^ FIRST_WORKER),
            session => self.hear_session(session),
        }
    }

    fn timeout(&self) -> Option<Timespec> {
        let due = self
            .sessions
            .next_due()
            .into_iter()
            .chain(self.pool.next_deadline())
            .chain(self.tokens.next_deadline())
            .min()?;
        let left = due.saturating_duration_since(Instant::now());
        // Rounded up: a wait that ends a moment early would be repeated many times.
        let left = left.saturating_add(Duration::from_millis(1));
        Some(Timespec {
            tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: left.subsec_nanos().into(),
        })
    }

    // The master.

    fn hear_master(&mut self) {
        let (message, mut descriptors) = match self.control.try_receive::<ToAuth>() {
            Ok(None) => return,
            Ok(Some(Received::Message(message, descriptors))) => (message, descriptors),
            Ok(Some(Received::Closed)) => return self.lose_master(),
            Err(error) => {
                self.logger.log(
                    &Record::error("bad message")
                        .with("from", "master")
                        .with("reason", error),
                );
                return self.lose_master();
            }
        };
        match message {
            ToAuth::Reload(configuration) => match Stores::open(*configuration) {
                // What modules need was given up at the start.
                Ok((stores, _))
                    if stores.runs_foreign_modules() && !self.stores.runs_foreign_modules() =>
                {
                    self.logger.log(
                        &Record::error("configuration kept")
                            .with("role", "auth")
                            .with("reason", "PAM can only be added by a restart"),
                    );
                }
                Ok((mut stores, complaints)) => {
                    log_complaints(&self.logger, &complaints);
                    stores.trust = std::mem::take(&mut self.stores.trust);
                    self.cache.reconfigure(stores.configuration.cache);
                    self.stores = stores;
                    self.renew_workers();
                }
                Err(error) => self.logger.log(
                    &Record::error("configuration kept")
                        .with("role", "auth")
                        .with("reason", error),
                ),
            },
            ToAuth::SessionSpawner => {
                let channel = descriptors.next().and_then(|fd| Channel::from_fd(fd).ok());
                if let Some(channel) = &channel
                    && let Err(error) = add(&self.epoll, channel, SESSION_SPAWNER)
                {
                    self.logger
                        .log(&Record::error("session spawner lost").with("reason", error));
                }
                // The old one is closed, and epoll forgets it.
                self.session_spawner = channel;
            }
            ToAuth::Token => {
                let channel = descriptors.next().and_then(|fd| Channel::from_fd(fd).ok());
                self.connect_token_role(channel);
            }
            ToAuth::OwnCertificate(certificate) => self.coming.own(certificate),
            ToAuth::ClientAuthorities => self.coming.authorities(descriptors.next()),
            ToAuth::UseCertificates { kept } => {
                let coming = std::mem::take(&mut self.coming);
                match self.stores.trust.replace(coming, kept, Instant::now()) {
                    Ok(()) => self.renew_workers(),
                    Err(reason) => self
                        .logger
                        .log(&Record::error("certificates not changed").with("reason", reason)),
                }
            }
            ToAuth::Spawner => {
                self.spawner = descriptors.next().and_then(|fd| Channel::from_fd(fd).ok());
            }
        }
    }

    /// What the stores are has changed; workers are copies of an older state.
    fn renew_workers(&mut self) {
        let workers = self.stores.configuration.workers;
        self.pool.reconfigure(workers, lifetime(&self.stores));
    }

    /// No more sessions come; those that are there, or announced already, may log in.
    fn lose_master(&mut self) {
        for _ in 0..MAX_SESSIONS_KNOWN {
            if !self.take_next_session() {
                break;
            }
        }
        self.session_spawner = None;
        self.governed = false;
        let _ = epoll::delete(&self.epoll, self.control);
    }

    // The session spawner.

    fn take_sessions(&mut self) {
        for _ in 0..MAX_NEW_SESSIONS_IN_A_ROW {
            if !self.take_next_session() {
                return;
            }
        }
    }

    /// Whether there may be more.
    fn take_next_session(&mut self) -> bool {
        let Some(channel) = &self.session_spawner else {
            return false;
        };
        match channel.try_receive::<NewSession>() {
            Ok(None) => return false,
            Ok(Some(Received::Message(announced, mut descriptors))) => {
                if let (Some(channel), Some(lease)) = (descriptors.next(), descriptors.next()) {
                    self.take_session(announced, channel, lease);
                }
            }
            Ok(Some(Received::Closed)) => self.session_spawner = None,
            Err(error) => {
                // Without a channel it ends, and the master starts another.
                self.logger.log(
                    &Record::error("bad message")
                        .with("from", "session spawner")
                        .with("reason", error),
                );
                self.session_spawner = None;
            }
        }
        true
    }

    fn take_session(&mut self, announced: NewSession, channel: OwnedFd, lease: OwnedFd) {
        let id = announced.id;
        let reason = match Channel::from_fd(channel) {
            Ok(channel) => match self
                .sessions
                .insert(Session::new(announced, channel, lease))
            {
                Some(token) => match self.watch_session(token) {
                    Ok(()) => return,
                    Err(error) => {
                        self.sessions.remove(token);
                        error.to_string()
                    }
                },
                None => "too many sessions".to_owned(),
            },
            Err(error) => error.to_string(),
        };
        let now = Instant::now();
        let quiet = self
            .refused
            .is_some_and(|last| now.duration_since(last) < REFUSAL_LOG_INTERVAL);
        if !quiet {
            self.refused = Some(now);
            self.logger.log(
                &Record::error("session not taken")
                    .with("session", id)
                    .with("reason", reason),
            );
        }
    }

    fn watch_session(&mut self, token: Token) -> io::Result<()> {
        match self.sessions.find(token) {
            Some(session) => add(&self.epoll, &session.channel, token),
            None => Ok(()),
        }
    }

    // Sessions.

    fn hear_session(&mut self, token: Token) {
        let Some(session) = self.sessions.find(token) else {
            return;
        };
        let facts = session.facts;
        let attempt = match session.channel.try_receive::<Attempt>() {
            Ok(None) => return,
            Ok(Some(Received::Message(attempt, _))) => attempt,
            Ok(Some(Received::Closed)) => return self.forget_session(token),
            Err(error) => return self.end_session(token, facts, &error.to_string()),
        };
        let configuration = &self.stores.configuration;
        let rules = Rules {
            login_attempts: configuration.login_attempts.max(1),
            mechanisms: &configuration.mechanisms,
        };
        match session.take(attempt, rules, Instant::now()) {
            Ok(next) => self.go_on(token, next),
            Err(violation) => self.end_session(token, facts, violation.reason()),
        }
    }

    /// A session did what no honest one does.
    fn end_session(&mut self, token: Token, facts: Facts, reason: &str) {
        let record = Record::warning("session ended by auth");
        self.logger
            .log(&about(record, facts).with("reason", reason));
        self.forget_session(token);
    }

    /// Closes its channel and lease. An attempt that waits is forgotten; one that is being verified will be logged.
    fn forget_session(&mut self, token: Token) {
        if self.pool.withdraw(token) {
            self.attempts.remove(&token);
        }
        self.tokens.forget(token);
        self.sessions.remove(token);
    }

    // Workers.

    fn give_out_work(&mut self) {
        let now = Instant::now();
        loop {
            let failed = self.pool.dispatch(now);
            let lost = !failed.is_empty();
            self.finish_all(failed);
            if !lost && !self.pool.wants_worker() {
                return;
            }
            if self.pool.wants_worker()
                && let Err(error) = self.add_worker()
            {
                // Those at work will take it when they are done; if there are none, nobody will.
                if self.pool.is_empty() {
                    let failed = self.pool.fail_waiting(&error);
                    self.finish_all(failed);
                }
                return;
            }
        }
    }

    fn add_worker(&mut self) -> io::Result<()> {
        let (ours, theirs) = Channel::pair()?;
        let word = FIRST_WORKER | self.pool.next_number();
        add(&self.epoll, &ours, word)?;
        match process::fork()? {
            Fork::Child => {
                self.pool.forget_waiting();
                worker::run(&theirs, &self.stores, &self.narrow, self.pool.lifetime())
            }
            Fork::Parent(pid) => self.pool.add(Forked { pid, channel: ours }),
        }
        Ok(())
    }

    fn hear_worker(&mut self, number: Number) {
        if let Some((token, outcome)) = self.pool.receive(number) {
            self.finish(token, outcome);
        }
    }

    fn reap(&mut self) {
        while self.signals.read().is_some() {}
        while let Some((pid, _)) = process::wait_any() {
            if let Some((token, outcome)) = self.pool.reaped(pid) {
                self.finish(token, outcome);
            }
        }
    }

    fn kill_what_is_late(&mut self) {
        let failed = self.pool.expire(Instant::now());
        self.finish_all(failed);
    }
}

/// Says what is wrong with the stores, without ending anything.
pub fn log_complaints(logger: &Logger, complaints: &[String]) {
    for complaint in complaints {
        logger.log(&Record::warning("store unusable").with("reason", complaint));
    }
}

fn about(record: Record, facts: Facts) -> Record {
    record
        .with("session", facts.id)
        .with_some("peer", facts.peer)
}

fn lifetime(stores: &Stores) -> Lifetime {
    if stores.runs_foreign_modules() {
        Lifetime::One
    } else {
        Lifetime::Many
    }
}

fn add(epoll: &OwnedFd, descriptor: &impl AsFd, data: u64) -> io::Result<()> {
    let data = epoll::EventData::new_u64(data);
    Ok(epoll::add(epoll, descriptor, data, epoll::EventFlags::IN)?)
}
