//! The one loop: control channel, listening sockets, connections, leases.

mod handing_on;
mod leases;
mod room;

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant, SystemTime};

use confine::channel::{Channel, Received};
use confine::lull::Lull;
use confine::socket;
use messages::listener::{ListenerConfig, ToListener};
use messages::log::{Logger, Record};
use messages::session::{SessionId, apop_timestamp};
use rustix::buffer::spare_capacity;
use rustix::event::{Timespec, epoll};

use crate::connections::{Connections, Silent};
use crate::proxy_header;
use crate::refusals::Refusals;
use crate::slots::Key;
use crate::source::{Counted, Source, Sources};

/// Events taken at a time.
const MAX_EVENTS: usize = 256;

/// Connections accepted from one socket before other events are looked at again.
const MAX_ACCEPTED_IN_A_ROW: usize = 64;

/// Listening sockets: what a configuration may name.
const MAX_LISTENING: usize = 64;

/// When there is no descriptor left, accepting is tried again after this time.
const EXHAUSTED_PAUSE: Duration = Duration::from_millis(100);

// The data words of what is no connection: generations of connections stay below.
const CONTROL: u64 = u64::MAX;
const SPAWNER: u64 = u64::MAX - 1;
const LEASES: u64 = u64::MAX - 2;
const FIRST_LISTENING: u64 = u64::MAX - 2 - MAX_LISTENING as u64;

#[derive(Debug)]
struct Listening {
    socket: OwnedFd,
    implicit_tls: bool,
}

/// All that the role holds.
pub struct EventLoop<'a> {
    control: &'a Channel,
    logger: Logger,
    configuration: ListenerConfig,
    epoll: OwnedFd,
    /// Of the leases of connections that have been handed on. What becomes of those can wait: until somebody connects, whose
    /// room they may have, or until a lull is over.
    leases: OwnedFd,
    /// After a look at leases in which there was something; `None`: they are told of.
    lull: Option<Lull>,
    listening: Vec<Listening>,
    spawner: Option<Channel>,
    connections: Connections,
    sources: Sources,
    next_id: u64,
    denied: Refusals,
    full: Refusals,
    ended: Refusals,
    lost: Refusals,
    headerless: Refusals,
    exhausted: Option<Instant>,
}

impl<'a> EventLoop<'a> {
    /// With a control channel and nothing else yet.
    ///
    /// # Errors
    /// No descriptor left.
    pub fn new(
        control: &'a Channel,
        logger: Logger,
        configuration: ListenerConfig,
    ) -> io::Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        add(&epoll, control, CONTROL, epoll::EventFlags::IN)?;
        let leases = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        add(&epoll, &leases, LEASES, leases::FLAGS)?;
        // Connections of successive listeners keep different numbers, as far as a log is read at a time.
        let since_epoch = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
        Ok(Self {
            control,
            logger,
            configuration,
            epoll,
            leases,
            lull: None,
            listening: Vec::new(),
            spawner: None,
            connections: Connections::default(),
            sources: Sources::default(),
            next_id: since_epoch.as_secs() << 24,
            denied: Refusals::default(),
            full: Refusals::default(),
            ended: Refusals::default(),
            lost: Refusals::default(),
            headerless: Refusals::default(),
            exhausted: None,
        })
    }

    /// Serves until the master closes the control channel.
    ///
    /// # Errors
    /// epoll fails, or the master says something that cannot be understood.
    pub fn run(&mut self) -> io::Result<()> {
        let mut events = Vec::with_capacity(MAX_EVENTS);
        loop {
            events.clear();
            let timeout = self.timeout();
            match epoll::wait(&self.epoll, spare_capacity(&mut events), timeout.as_ref()) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
            let now = Instant::now();
            for event in &events {
                match event.data.u64() {
                    CONTROL => {
                        if !self.obey()? {
                            return Ok(());
                        }
                    }
                    SPAWNER => self.spawner_changed(event.flags),
                    LEASES => self.lull = Some(Lull::default()),
                    number if number >= FIRST_LISTENING => {
                        self.accept(number.saturating_sub(FIRST_LISTENING), now)?;
                    }
                    number => self.silent_changed(Key::from_bits(number), event.flags, now)?,
                }
            }
            self.look_at_leases_in_time(now)?;
            self.drop_overdue(now);
            self.hand_on_throttled(now);
            self.accept_again(now);
        }
    }

    fn timeout(&mut self) -> Option<Timespec> {
        let now = Instant::now();
        let due = [
            self.connections.next_deadline(),
            self.connections.next_throttled(now),
            self.exhausted,
        ];
        let due = due.into_iter().flatten().min();
        let left = due.map(|due| due.saturating_duration_since(now));
        let lull = self
            .lull
            .as_ref()
            .map(|lull| lull.left(now).unwrap_or_default());
        let timeout = left.into_iter().chain(lull).min()?;
        Timespec::try_from(timeout).ok()
    }

    /// Takes one order of the master; false: it has gone, or wants us gone.
    fn obey(&mut self) -> io::Result<bool> {
        let message = match self.control.try_receive::<ToListener>() {
            Ok(Some(Received::Message(message, descriptors))) => (message, descriptors),
            Ok(Some(Received::Closed)) => return Ok(false),
            Ok(None) => return Ok(true),
            Err(error) => return Err(io::Error::other(error)),
        };
        match message {
            (ToListener::Socket { implicit_tls }, mut descriptors) => {
                if let Some(socket) = descriptors.next() {
                    self.listen(Listening {
                        socket,
                        implicit_tls,
                    })?;
                }
            }
            (ToListener::SessionSpawner, mut descriptors) => {
                if let Some(channel) = descriptors.next() {
                    self.meet_spawner(channel)?;
                }
            }
            (ToListener::Reload(configuration), _) => self.configuration = configuration,
        }
        Ok(true)
    }

    fn listen(&mut self, listening: Listening) -> io::Result<()> {
        let at = self.listening.len();
        if at >= MAX_LISTENING {
            return Err(io::Error::other("too many listening sockets"));
        }
        let number = FIRST_LISTENING.saturating_add(at as u64);
        add(
            &self.epoll,
            &listening.socket,
            number,
            epoll::EventFlags::IN,
        )?;
        self.listening.push(listening);
        Ok(())
    }

    fn accept(&mut self, listening: u64, now: Instant) -> io::Result<()> {
        let Some(listening) = usize::try_from(listening)
            .ok()
            .and_then(|at| self.listening.get(at))
        else {
            return Ok(());
        };
        let implicit_tls = listening.implicit_tls;
        let mut accepted = Vec::new();
        while accepted.len() < MAX_ACCEPTED_IN_A_ROW {
            match socket::accept(listening.socket.as_fd()) {
                Ok(Some(connection)) => accepted.push(connection),
                Ok(None) => break,
                Err(error) => {
                    self.pause_accepting(now, &error);
                    break;
                }
            }
        }
        // Who has gone makes room for them.
        self.look_at_leases()?;
        for (socket, peer) in accepted {
            self.admit(socket, peer, implicit_tls, now);
        }
        Ok(())
    }

    /// Out of descriptors or memory: the listening sockets stay readable, so they are left alone for a moment.
    fn pause_accepting(&mut self, now: Instant, error: &io::Error) {
        if self.exhausted.is_none() {
            self.logger
                .log(&Record::error("cannot accept").with("reason", error));
            for listening in &self.listening {
                let _ = epoll::delete(&self.epoll, &listening.socket);
            }
        }
        self.exhausted = now.checked_add(EXHAUSTED_PAUSE);
    }

    fn accept_again(&mut self, now: Instant) {
        if self.exhausted.is_some_and(|until| until <= now) {
            self.exhausted = None;
            for (number, listening) in (FIRST_LISTENING..).zip(&self.listening) {
                let _ = add(
                    &self.epoll,
                    &listening.socket,
                    number,
                    epoll::EventFlags::IN,
                );
            }
        }
    }

    fn silent(
        &mut self,
        socket: OwnedFd,
        peer: Option<SocketAddr>,
        implicit_tls: bool,
        now: Instant,
    ) -> Silent {
        self.next_id = self.next_id.wrapping_add(1);
        let id = SessionId(self.next_id);
        let timestamp = self.configuration.apop_host.as_ref().map(|host| {
            let since_epoch = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
            apop_timestamp(host, id, since_epoch)
        });
        Silent {
            socket,
            id,
            peer,
            local: None,
            awaits_header: false,
            implicit_tls,
            timestamp,
            deadline: now
                .checked_add(self.configuration.login_timeout)
                .unwrap_or(now),
        }
    }

    fn watch(
        &mut self,
        silent: Silent,
        counted: Option<Counted>,
        source: Option<Source>,
        now: Instant,
    ) {
        let flags = events_of(&silent);
        let key = self.connections.insert(silent, counted, source, now);
        let watched = match self.connections.silent(key) {
            Some(silent) => add(&self.epoll, &silent.socket, key.to_bits(), flags),
            None => return,
        };
        if watched.is_err() {
            self.end(key);
        }
    }

    fn silent_changed(
        &mut self,
        key: Key,
        flags: epoll::EventFlags,
        now: Instant,
    ) -> io::Result<()> {
        let Some(silent) = self.connections.silent(key) else {
            return Ok(());
        };
        if silent.awaits_header {
            let closing = epoll::EventFlags::RDHUP | epoll::EventFlags::HUP;
            match proxy_header::take(&silent.socket) {
                Ok(Some(header)) => {
                    // Who has gone makes room for its client.
                    self.look_at_leases()?;
                    self.announced(key, &header, now);
                }
                Ok(None) if !flags.intersects(closing) => {}
                Ok(None) | Err(_) => self.headerless(key, "no PROXY header", now),
            }
            return Ok(());
        }
        // No octets and yet readable: it has gone, and nobody needs to be started for it.
        match socket::readable_octets(&silent.socket) {
            Ok(octets) if octets > 0 && silent.deadline > now => self.hand_on(key),
            _ => self.end(key),
        }
        Ok(())
    }

    /// Closes the connection of a proxy that has not said whose it is.
    fn headerless(&mut self, key: Key, reason: &str, now: Instant) {
        if let Some(silent) = self.connections.silent(key)
            && silent.awaits_header
        {
            let proxy = silent.peer.map(|peer| peer.ip());
            self.headerless.add(&self.logger, now, reason, proxy);
            self.end(key);
        }
    }

    fn drop_overdue(&mut self, now: Instant) {
        while let Some(key) = self.connections.overdue(now) {
            self.headerless(key, "no PROXY header in time", now);
            self.end(key);
        }
    }

    /// Closes the connection, or takes note that it has ended.
    fn end(&mut self, key: Key) {
        if let Some(ended) = self.connections.remove(key)
            && let Some(counted) = ended.counted
        {
            self.sources.end(counted, ended.is_fruitless);
        }
    }
}

/// What is waited for. Of a header, each arrival: half of one stays where it is, and must not be told of again and again. Of
/// a client, the first: a connection that waits for the session spawner stays readable.
fn events_of(silent: &Silent) -> epoll::EventFlags {
    let how = if silent.awaits_header {
        epoll::EventFlags::ET
    } else {
        epoll::EventFlags::ONESHOT
    };
    epoll::EventFlags::IN | epoll::EventFlags::RDHUP | how
}

fn add(
    epoll: &OwnedFd,
    descriptor: impl AsFd,
    number: u64,
    flags: epoll::EventFlags,
) -> io::Result<()> {
    Ok(epoll::add(
        epoll,
        descriptor,
        epoll::EventData::new_u64(number),
        flags,
    )?)
}
