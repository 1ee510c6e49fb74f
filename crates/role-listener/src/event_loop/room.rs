//! Whether a newcomer is let in: the limit in all, and who has to go for it; whose connection it is, and the limits of its
//! source.

use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::os::fd::OwnedFd;
use std::time::Instant;

use messages::log::Record;
use rustix::event::epoll;

use super::{EventLoop, events_of};
use crate::access::{Access, access, is_proxy};
use crate::connections::State;
use crate::greeting::{DENIED, TOO_MANY};
use crate::proxy_header::Header;
use crate::slots::Key;
use crate::source::{Counted, Source};

/// Connections above the limit, an eighth of it but within these bounds: those whose sessions have been told to end and have not
/// yet, which takes milliseconds, and those of proxies that have not said whose they are.
const ABOVE_LIMIT: RangeInclusive<usize> = 8..=64;

/// Where a newcomer finds room.
#[derive(Clone, Copy, Debug)]
enum Room {
    /// There is some.
    Free,
    /// In the place of this connection.
    InsteadOf(Key),
}

impl EventLoop<'_> {
    /// The limit in all first; then whose connection it is, and the limits of its source; then the greeting.
    pub(super) fn admit(
        &mut self,
        socket: OwnedFd,
        peer: Option<SocketAddr>,
        implicit_tls: bool,
        now: Instant,
    ) {
        let address = peer.map(|peer| peer.ip());
        let mut silent = self.silent(socket, peer, implicit_tls, now);
        let is_proxy = address.is_some_and(|address| is_proxy(&self.configuration, address));
        let room = match is_proxy {
            // Who is to go depends on who comes.
            true => (self.connections.len() < self.most()).then_some(Room::Free),
            false => self.room_for(address, self.connections.taken(), now),
        };
        let Some(room) = room else {
            silent.refuse(TOO_MANY);
            return self.full.add(&self.logger, now, "sessions limit", address);
        };
        if is_proxy {
            silent.awaits_header = true;
            return self.watch(silent, None, None, now);
        }
        match self.limit(address, now) {
            Ok(counted) if silent.greet() => {
                self.make(room, now);
                let source = counted.as_ref().map(Counted::source);
                self.watch(silent, counted, source, now);
            }
            Ok(Some(counted)) => self.sources.end(counted, false),
            Ok(None) => {}
            Err(reason) => silent.refuse(reason),
        }
    }

    /// The proxy has said whose connection it is: from here on it is as if that client had connected here.
    pub(super) fn announced(&mut self, key: Key, header: &Header, now: Instant) {
        let Some(silent) = self.connections.silent(key) else {
            return;
        };
        silent.awaits_header = false;
        // Else the proxy speaks for itself, and is a client like any other.
        if let Some(addresses) = header.addresses {
            silent.peer = Some(addresses.source);
            silent.local = Some(addresses.destination);
        }
        let address = silent.peer.map(|peer| peer.ip());
        // It has to find room beside the others, and cannot be the one that goes.
        self.connections.forget_stranger(key);
        let others = self.connections.taken().saturating_sub(1);
        let admitted = match self.room_for(address, others, now) {
            Some(room) => self.limit(address, now).map(|counted| (room, counted)),
            None => {
                self.full.add(&self.logger, now, "sessions limit", address);
                Err(TOO_MANY)
            }
        };
        match admitted {
            Ok((room, counted)) => {
                self.make(room, now);
                let source = counted.as_ref().map(Counted::source);
                self.connections.identified(key, counted, source, now);
                let Some(silent) = self.connections.silent(key) else {
                    return;
                };
                let data = epoll::EventData::new_u64(key.to_bits());
                // Tells of what the client has sent already, too.
                let watch = || epoll::modify(&self.epoll, &silent.socket, data, events_of(silent));
                if !silent.greet() || watch().is_err() {
                    self.end(key);
                }
            }
            Err(reason) => self.refuse(key, reason),
        }
    }

    /// Connections in all, those that are about to end among them.
    fn most(&self) -> usize {
        let limit = self.configuration.sessions as usize;
        limit.saturating_add((limit / 8).clamp(*ABOVE_LIMIT.start(), *ABOVE_LIMIT.end()))
    }

    /// Room for a client with this address where there are so many others; nobody has gone yet. `None`: there is none.
    fn room_for(&mut self, address: Option<IpAddr>, others: usize, now: Instant) -> Option<Room> {
        if others < self.configuration.sessions as usize {
            return Some(Room::Free);
        }
        // Many are known to come from where sources are not counted.
        let source = address
            .filter(|&address| access(&self.configuration, address) != Access::Exempt)
            .map(Source::from);
        let key = self.connections.to_end(source, now)?;
        let is_here = self.connections.silent(key).is_some();
        (is_here || self.connections.len() < self.most()).then_some(Room::InsteadOf(key))
    }

    /// Makes that room. A silent connection is closed; the session of one that has been handed on is told to end, by the session
    /// spawner, and does not count from here on.
    fn make(&mut self, room: Room, now: Instant) {
        let Room::InsteadOf(key) = room else {
            return;
        };
        let Some(connection) = self.connections.slots.find(key) else {
            return;
        };
        let (is_here, peer) = match &connection.state {
            State::Silent(silent) => (true, silent.peer.map(|peer| peer.ip())),
            State::HandedOn(handed_on) => (false, handed_on.peer),
        };
        let reason = "sessions limit, oldest not logged in";
        self.ended
            .add_as("connection ended", &self.logger, now, reason, peer);
        if is_here {
            self.refuse(key, TOO_MANY);
        } else {
            self.connections.begin_to_end(key);
            self.give_orders();
        }
    }

    fn refuse(&mut self, key: Key, reason: &[u8]) {
        if let Some(silent) = self.connections.silent(key) {
            silent.refuse(reason);
        }
        self.end(key);
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
}
