//! The one loop: the master, the session spawner, and sessions that want a signature.

use std::collections::HashMap;
use std::io;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use confine::Descriptors;
use confine::channel::{Channel, Received};
use messages::keyholder::{
    CertificateNumber, FromKeyholder, KeyholderConfig, NewSigner, Signature, SignatureRequest,
    ToKeyholder,
};
use messages::log::{Logger, Record};
use ring::rand::SystemRandom;
use rustix::buffer::spare_capacity;
use rustix::event::{PollFd, PollFlags, Timespec, epoll, poll};

use crate::form::Form;
use crate::key::{Key, SignError};
use crate::pair;
use crate::rate::Rate;

/// Signatures before the master and the session spawner are looked at again: some milliseconds each with RSA.
const MAX_SIGNATURES_IN_A_ROW: usize = 8;

/// Sessions accepted before other events are looked at again.
const MAX_NEW_SESSIONS_IN_A_ROW: usize = 64;

/// Sessions known at a time. The listener bounds them; this is for a session spawner gone wild.
const MAX_SESSIONS_KNOWN: usize = 64 * 1024;

/// Sessions that cannot be taken are logged once in this time.
const REFUSAL_LOG_INTERVAL: Duration = Duration::from_secs(10);

/// A session that may ask for one signature, which is what a handshake takes.
struct Session {
    announced: NewSigner,
    channel: Channel,
    signed: bool,
}

/// A key that goes when its time is over.
struct Retired {
    number: CertificateNumber,
    until: Instant,
}

/// All that the role holds.
pub struct EventLoop<'a> {
    control: &'a Channel,
    /// The master is there.
    governed: bool,
    logger: Logger,
    spawner: Option<Channel>,
    keys: HashMap<CertificateNumber, Key>,
    retired: Vec<Retired>,
    rate: Rate,
    random: SystemRandom,
    /// Of the sessions' channels, so that all of them can be left alone while the rate is used up.
    epoll: OwnedFd,
    sessions: HashMap<u64, Session>,
    next_session: u64,
    refused: Option<Instant>,
}

/// What there is to be done.
struct Ready {
    control: bool,
    spawner: bool,
    sessions: bool,
}

impl<'a> EventLoop<'a> {
    /// With a control channel and nothing else yet.
    ///
    /// # Errors
    /// No descriptor left.
    pub fn new(
        control: &'a Channel,
        logger: Logger,
        configuration: KeyholderConfig,
    ) -> io::Result<Self> {
        Ok(Self {
            control,
            governed: true,
            logger,
            spawner: None,
            keys: HashMap::new(),
            retired: Vec::new(),
            rate: Rate::new(configuration.signatures_per_second, Instant::now()),
            random: SystemRandom::new(),
            epoll: epoll::create(epoll::CreateFlags::CLOEXEC)?,
            sessions: HashMap::new(),
            next_session: 0,
            refused: None,
        })
    }

    /// Serves until the master has gone *and* the last session has what it needs.
    ///
    /// # Errors
    /// poll fails, or the master says something that cannot be understood.
    pub fn run(&mut self) -> io::Result<()> {
        while self.governed || !self.sessions.is_empty() {
            let ready = self.wait()?;
            self.forget_retired(Instant::now());
            if ready.control {
                self.obey()?;
            }
            if ready.spawner {
                self.take_sessions();
            }
            if ready.sessions {
                self.hear_sessions()?;
            }
        }
        Ok(())
    }

    fn wait(&mut self) -> io::Result<Ready> {
        let now = Instant::now();
        let next_signature = self.rate.next(now);
        let retiring = self.retired.iter().map(|retired| retired.until).min();
        let due = [next_signature, retiring].into_iter().flatten().min();
        let timeout =
            due.and_then(|due| Timespec::try_from(due.saturating_duration_since(now)).ok());
        // What is not to be looked at now is polled for nothing, and reported only when it is closed.
        let when = |wanted: bool| {
            if wanted {
                PollFlags::IN
            } else {
                PollFlags::empty()
            }
        };
        let mut polled = vec![PollFd::new(&self.epoll, when(next_signature.is_none()))];
        polled.extend(
            self.governed
                .then(|| PollFd::new(self.control, PollFlags::IN)),
        );
        polled.extend(
            self.spawner
                .as_ref()
                .map(|spawner| PollFd::new(spawner, PollFlags::IN)),
        );
        match poll(&mut polled, timeout.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let mut ready = polled.iter().map(|polled| !polled.revents().is_empty());
        let mut next = |there: bool| there && ready.next().unwrap_or(false);
        Ok(Ready {
            sessions: next(true),
            control: next(self.governed),
            spawner: next(self.spawner.is_some()),
        })
    }

    // The master.

    fn obey(&mut self) -> io::Result<()> {
        match self.control.try_receive::<ToKeyholder>() {
            Ok(None) => Ok(()),
            Ok(Some(Received::Message(message, descriptors))) => self.follow(message, descriptors),
            Ok(Some(Received::Closed)) => {
                self.take_sessions();
                self.spawner = None;
                self.governed = false;
                Ok(())
            }
            Err(error) => Err(io::Error::other(error)),
        }
    }

    fn follow(&mut self, message: ToKeyholder, mut descriptors: Descriptors) -> io::Result<()> {
        match message {
            ToKeyholder::Load(number) => {
                let files = (descriptors.next(), descriptors.next());
                let (Some(chain), Some(key)) = files else {
                    return Err(io::ErrorKind::InvalidData.into());
                };
                let outcome = pair::load(number, &chain, &key).map(|(certificate, key)| {
                    self.keys.insert(number, key);
                    certificate
                });
                let answer = FromKeyholder::Loaded { number, outcome };
                self.control.send(&answer, &[]).map_err(io::Error::other)?;
            }
            ToKeyholder::Retire { number, kept } => {
                let now = Instant::now();
                let until = now.checked_add(kept).unwrap_or(now);
                self.retired.push(Retired { number, until });
            }
            ToKeyholder::SessionSpawner => {
                self.spawner = descriptors.next().and_then(|fd| Channel::from_fd(fd).ok());
            }
            ToKeyholder::Reload(configuration) => {
                self.rate.set(configuration.signatures_per_second);
            }
        }
        Ok(())
    }

    fn forget_retired(&mut self, now: Instant) {
        let keys = &mut self.keys;
        self.retired.retain(|retired| {
            let over = retired.until <= now;
            if over {
                keys.remove(&retired.number);
            }
            !over
        });
    }

    // The session spawner.

    fn take_sessions(&mut self) {
        for _ in 0..MAX_NEW_SESSIONS_IN_A_ROW {
            let Some(spawner) = &self.spawner else {
                return;
            };
            match spawner.try_receive::<NewSigner>() {
                Ok(None) => return,
                Ok(Some(Received::Message(announced, mut descriptors))) => {
                    if let Some(channel) = descriptors.next() {
                        self.take_session(announced, channel);
                    }
                }
                Ok(Some(Received::Closed)) => self.spawner = None,
                Err(error) => {
                    self.logger.log(
                        &Record::error("bad message")
                            .with("from", "session spawner")
                            .with("reason", error),
                    );
                    self.spawner = None;
                }
            }
        }
    }

    fn take_session(&mut self, announced: NewSigner, channel: OwnedFd) {
        let id = announced.id;
        let number = self.next_session;
        let taken = Channel::from_fd(channel)
            .map_err(io::Error::other)
            .and_then(|channel| {
                if self.sessions.len() >= MAX_SESSIONS_KNOWN {
                    return Err(io::Error::other("too many sessions"));
                }
                epoll::add(
                    &self.epoll,
                    &channel,
                    epoll::EventData::new_u64(number),
                    epoll::EventFlags::IN,
                )?;
                Ok(channel)
            });
        match taken {
            Ok(channel) => {
                self.next_session = number.wrapping_add(1);
                let session = Session {
                    announced,
                    channel,
                    signed: false,
                };
                self.sessions.insert(number, session);
            }
            Err(error) => {
                let now = Instant::now();
                let quiet = self
                    .refused
                    .is_some_and(|last| now.duration_since(last) < REFUSAL_LOG_INTERVAL);
                if !quiet {
                    self.refused = Some(now);
                    self.logger.log(
                        &Record::error("session not taken")
                            .with("session", id)
                            .with("reason", error),
                    );
                }
            }
        }
    }

    // Sessions.

    /// One request of each session that has one, in turn: nobody waits for another's second.
    fn hear_sessions(&mut self) -> io::Result<()> {
        let mut events = Vec::with_capacity(MAX_SIGNATURES_IN_A_ROW);
        match epoll::wait(
            &self.epoll,
            spare_capacity(&mut events),
            Some(&Timespec::default()),
        ) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        for event in &events {
            // What is not looked at stays readable.
            if self.rate.next(Instant::now()).is_some() {
                break;
            }
            let number = event.data.u64();
            if let Err(reason) = self.hear_session(number) {
                self.end_session(number, &reason);
            }
        }
        Ok(())
    }

    /// # Errors
    /// What no honest session does.
    fn hear_session(&mut self, number: u64) -> Result<(), String> {
        let Some(session) = self.sessions.get_mut(&number) else {
            return Ok(());
        };
        let request = match session.channel.try_receive::<SignatureRequest>() {
            Ok(None) => return Ok(()),
            Ok(Some(Received::Message(request, _))) => request,
            Ok(Some(Received::Closed)) => {
                self.sessions.remove(&number);
                return Ok(());
            }
            Err(error) => return Err(error.to_string()),
        };
        if std::mem::replace(&mut session.signed, true) {
            return Err("more than one signature".to_owned());
        }
        let form = Form::of(&request.octets).ok_or("asked to sign something else")?;
        let key = self
            .keys
            .get(&request.number)
            .ok_or("asked for a key that is not there")?;
        self.rate.take(Instant::now());
        match key.sign(form, request.scheme, &request.octets, &self.random) {
            Ok(signature) => {
                // A session that has gone meanwhile is noticed when its channel is read.
                drop(session.channel.try_send(&Signature(signature), &[]));
                Ok(())
            }
            Err(SignError::Scheme) => Err("asked for a scheme that the key has not".to_owned()),
            Err(SignError::Random) => Err("no random numbers".to_owned()),
        }
    }

    /// Closes its channel; nobody else notices.
    fn end_session(&mut self, number: u64, reason: &str) {
        if let Some(session) = self.sessions.remove(&number) {
            self.logger.log(
                &Record::warning("session ended by keyholder")
                    .with("session", session.announced.id)
                    .with_some(
                        "peer",
                        session.announced.peer.map(|peer| peer.ip().to_canonical()),
                    )
                    .with("reason", reason),
            );
        }
    }
}

#[cfg(test)]
mod tests;
