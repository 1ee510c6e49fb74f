//! The one loop: control channel, listening sockets, connections, leases.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant, SystemTime};

use confine::channel::{Channel, ChannelError, Received};
use confine::socket;
use messages::listener::{ListenerConfig, ToListener};
use messages::log::{Logger, Record};
use messages::session::{Connection as Message, SessionId, apop_timestamp};
use rustix::buffer::spare_capacity;
use rustix::event::{Timespec, epoll};

use crate::access::{Access, access, is_proxy};
use crate::connections::{Connection, Connections, Silent, State};
use crate::greeting::{DENIED, TOO_MANY};
use crate::proxy_header::{self, Header};
use crate::slots::Key;
use crate::source::{Counted, Source, Sources};

/// Events taken at a time.
const MAX_EVENTS: usize = 256;

/// Connections accepted from one socket before other events are looked at again.
const MAX_ACCEPTED_IN_A_ROW: usize = 64;

/// Listening sockets: what a configuration may name.
const MAX_LISTENING: usize = 64;

/// Refusals that are no single source's fault are logged once in this time.
const REFUSAL_LOG_INTERVAL: Duration = Duration::from_secs(10);

/// When there is no descriptor left, accepting is tried again after this time.
const EXHAUSTED_PAUSE: Duration = Duration::from_millis(100);

// The data words of what is no connection: generations of connections stay below.
const CONTROL: u64 = u64::MAX;
const SPAWNER: u64 = u64::MAX - 1;
const FIRST_LISTENING: u64 = u64::MAX - 1 - MAX_LISTENING as u64;

#[derive(Debug)]
struct Listening {
    socket: OwnedFd,
    implicit_tls: bool,
}

/// Refusals of one kind since the last line about them.
#[derive(Debug, Default)]
struct Refusals {
    count: u64,
    logged: Option<Instant>,
}

impl Refusals {
    fn add(&mut self, logger: &Logger, now: Instant, reason: &str, peer: Option<IpAddr>) {
        self.count = self.count.saturating_add(1);
        let quiet = self
            .logged
            .is_some_and(|logged| now.duration_since(logged) < REFUSAL_LOG_INTERVAL);
        if !quiet {
            self.logged = Some(now);
            logger.log(
                &Record::warning("connection refused")
                    .with("reason", reason)
                    .with_some("peer", peer)
                    .with("count", std::mem::take(&mut self.count)),
            );
        }
    }
}

/// All that the role holds.
pub struct EventLoop<'a> {
    control: &'a Channel,
    logger: Logger,
    configuration: ListenerConfig,
    epoll: OwnedFd,
    listening: Vec<Listening>,
    spawner: Option<Channel>,
    connections: Connections,
    sources: Sources,
    next_id: u64,
    denied: Refusals,
    full: Refusals,
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
        // Connections of successive listeners keep different numbers, as far as a log is read at a time.
        let since_epoch = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
        Ok(Self {
            control,
            logger,
            configuration,
            epoll,
            listening: Vec::new(),
            spawner: None,
            connections: Connections::default(),
            sources: Sources::default(),
            next_id: since_epoch.as_secs() << 24,
            denied: Refusals::default(),
            full: Refusals::default(),
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
                    number if number >= FIRST_LISTENING => {
                        self.accept(number.saturating_sub(FIRST_LISTENING), now);
                    }
                    number => self.connection_changed(Key::from_bits(number), event.flags, now),
                }
            }
            self.drop_overdue(now);
            self.accept_again(now);
        }
    }

    fn timeout(&mut self) -> Option<Timespec> {
        let due = [self.connections.next_deadline(), self.exhausted]
            .into_iter()
            .flatten()
            .min()?;
        Timespec::try_from(due.saturating_duration_since(Instant::now())).ok()
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

    fn meet_spawner(&mut self, channel: OwnedFd) -> io::Result<()> {
        let channel = Channel::from_fd(channel).map_err(io::Error::other)?;
        // Edge-triggered: told once when it has room again, and when it is gone.
        let flags = epoll::EventFlags::OUT | epoll::EventFlags::ET;
        add(&self.epoll, &channel, SPAWNER, flags)?;
        self.spawner = Some(channel);
        self.hand_on_waiting();
        Ok(())
    }

    fn spawner_changed(&mut self, flags: epoll::EventFlags) {
        if flags.intersects(epoll::EventFlags::HUP | epoll::EventFlags::ERR) {
            // The master will send its successor.
            self.spawner = None;
        } else {
            self.hand_on_waiting();
        }
    }

    fn accept(&mut self, listening: u64, now: Instant) {
        let Some(listening) = usize::try_from(listening)
            .ok()
            .and_then(|at| self.listening.get(at))
        else {
            return;
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
        for (socket, peer) in accepted {
            self.admit(socket, peer, implicit_tls, now);
        }
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

    /// The limit in all first; then whose connection it is, and the limits of its source; then the greeting.
    fn admit(
        &mut self,
        socket: OwnedFd,
        peer: Option<SocketAddr>,
        implicit_tls: bool,
        now: Instant,
    ) {
        let address = peer.map(|peer| peer.ip());
        let mut silent = self.silent(socket, peer, implicit_tls, now);
        if self.connections.slots.len() >= self.configuration.sessions as usize {
            silent.refuse(TOO_MANY);
            return self.full.add(&self.logger, now, "sessions limit", address);
        }
        if address.is_some_and(|address| is_proxy(&self.configuration, address)) {
            silent.awaits_header = true;
            return self.watch(silent, None);
        }
        match self.limit(address, now) {
            Ok(counted) if silent.greet() => self.watch(silent, counted),
            Ok(counted) => self.uncount(counted),
            Err(reason) => silent.refuse(reason),
        }
    }

    /// Counts a connection of `address`; of exempt networks, and where there is no address, it is not counted.
    ///
    /// # Errors
    /// Its network or its source may not have it: what the client is to be told. The log has been.
    fn limit(
        &mut self,
        address: Option<IpAddr>,
        now: Instant,
    ) -> Result<Option<Counted>, &'static [u8]> {
        let Some(address) = address else {
            return Ok(None);
        };
        match access(&self.configuration, address) {
            Access::Exempt => Ok(None),
            Access::Denied => {
                self.denied
                    .add(&self.logger, now, "network denied", Some(address));
                Err(DENIED)
            }
            Access::Counted => {
                let begun = self.sources.begin(
                    Source::from(address),
                    self.configuration.sessions_per_source,
                    self.configuration.source_hold,
                    now,
                );
                begun.map(Some).map_err(|to_log| {
                    if let Some(to_log) = to_log {
                        self.logger.log(
                            &Record::warning("connection refused")
                                .with("reason", "sessions per source limit")
                                .with("peer", address)
                                .with("count", to_log.refused),
                        );
                    }
                    TOO_MANY
                })
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

    fn watch(&mut self, silent: Silent, counted: Option<Counted>) {
        let flags = events_of(&silent);
        let key = self.connections.insert(silent, counted);
        let watched = match self.connections.slots.find(key) {
            Some(Connection {
                state: State::Silent(silent),
                ..
            }) => add(&self.epoll, &silent.socket, key.to_bits(), flags),
            _ => return,
        };
        if watched.is_err() {
            self.end(key);
        }
    }

    fn connection_changed(&mut self, key: Key, flags: epoll::EventFlags, now: Instant) {
        match self
            .connections
            .slots
            .find(key)
            .map(|connection| &connection.state)
        {
            Some(State::Silent(silent)) if silent.awaits_header => {
                let closing = epoll::EventFlags::RDHUP | epoll::EventFlags::HUP;
                match proxy_header::take(&silent.socket) {
                    Ok(Some(header)) => self.announced(key, &header, now),
                    Ok(None) if !flags.intersects(closing) => {}
                    Ok(None) | Err(_) => self.headerless(key, "no PROXY header", now),
                }
            }
            Some(State::Silent(silent)) => {
                // No octets and yet readable: it has gone, and nobody needs to be started for it.
                match socket::readable_octets(&silent.socket) {
                    Ok(octets) if octets > 0 && silent.deadline > now => self.hand_on(key),
                    _ => self.end(key),
                }
            }
            Some(State::HandedOn { .. }) => self.end(key),
            None => {}
        }
    }

    /// The proxy has said whose connection it is: from here on it is as if that client had connected here.
    fn announced(&mut self, key: Key, header: &Header, now: Instant) {
        let Some(Connection {
            state: State::Silent(silent),
            ..
        }) = self.connections.slots.find(key)
        else {
            return;
        };
        silent.awaits_header = false;
        // Else the proxy speaks for itself, and is a client like any other.
        if let Some(addresses) = header.addresses {
            silent.peer = Some(addresses.source);
            silent.local = Some(addresses.destination);
        }
        let address = silent.peer.map(|peer| peer.ip());
        let limited = self.limit(address, now);
        let Some(Connection {
            state: State::Silent(silent),
            counted,
        }) = self.connections.slots.find(key)
        else {
            return;
        };
        match limited {
            Ok(now_counted) => {
                *counted = now_counted;
                let data = epoll::EventData::new_u64(key.to_bits());
                // Tells of what the client has sent already, too.
                let watch = || epoll::modify(&self.epoll, &silent.socket, data, events_of(silent));
                if !silent.greet() || watch().is_err() {
                    self.end(key);
                }
            }
            Err(reason) => {
                silent.refuse(reason);
                self.end(key);
            }
        }
    }

    /// Closes the connection of a proxy that has not said whose it is.
    fn headerless(&mut self, key: Key, reason: &str, now: Instant) {
        if let Some(Connection {
            state: State::Silent(silent),
            ..
        }) = self.connections.slots.find(key)
            && silent.awaits_header
        {
            let proxy = silent.peer.map(|peer| peer.ip());
            self.headerless.add(&self.logger, now, reason, proxy);
            self.end(key);
        }
    }

    /// Gives the connection to the session spawner, or puts it in line. Nobody overtakes those in line: their turn comes when
    /// the channel is nearly empty again, which it never would be while others fill it.
    fn hand_on(&mut self, key: Key) {
        if self.connections.are_waiting() || !self.try_hand_on(key) {
            self.connections.wait(key);
        }
    }

    fn hand_on_waiting(&mut self) {
        while let Some((source, key)) = self.connections.next_waiting() {
            if !self.try_hand_on(key) {
                return self.connections.wait_again(source, key);
            }
        }
    }

    /// False: not now. True, too, when the connection has ended.
    fn try_hand_on(&mut self, key: Key) -> bool {
        let Some(spawner) = &self.spawner else {
            return false;
        };
        let Some(connection) = self.connections.slots.find(key) else {
            return true;
        };
        let State::Silent(silent) = &connection.state else {
            return true;
        };
        let Ok((lease, theirs)) = io::pipe() else {
            self.end(key);
            return true;
        };
        let message = Message {
            id: silent.id,
            peer: silent.peer,
            local: silent
                .local
                .or_else(|| socket::local_address(silent.socket.as_fd())),
            implicit_tls: silent.implicit_tls,
            apop_timestamp: silent.timestamp.clone(),
            greeted: !silent.implicit_tls,
            time_left: silent.deadline.saturating_duration_since(Instant::now()),
            separate_output: false,
        };
        match spawner.try_send(&message, &[silent.socket.as_fd(), theirs.as_fd()]) {
            Ok(()) => {
                // Closing our copy would not end the watch: the session has the same open file.
                let _ = epoll::delete(&self.epoll, &silent.socket);
                if add(&self.epoll, &lease, key.to_bits(), epoll::EventFlags::IN).is_ok() {
                    connection.state = State::HandedOn { _lease: lease };
                } else {
                    self.end(key);
                }
                true
            }
            Err(ChannelError::WouldBlock) => false,
            Err(ChannelError::Closed) => {
                // The master will send its successor.
                self.spawner = None;
                false
            }
            Err(error) => {
                let peer = silent.peer.map(|peer| peer.ip());
                let reason = format!("not handed on: {error}");
                self.lost.add(&self.logger, Instant::now(), &reason, peer);
                self.end(key);
                true
            }
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
        if let Some(connection) = self.connections.slots.remove(key) {
            self.uncount(connection.counted);
        }
    }

    fn uncount(&mut self, counted: Option<Counted>) {
        if let Some(counted) = counted {
            self.sources.end(counted);
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
