//! The connections that count: those waiting for their client's first octets, and those handed on.

use std::collections::VecDeque;
use std::io::PipeReader;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::time::Instant;

use messages::session::SessionId;

use crate::greeting::{greet, refuse};
use crate::slots::{Key, Slots};
use crate::source::{Counted, Source};
use crate::waiting::Waiting;

/// A client that has not spoken yet, or whose connection is about to be handed on.
#[derive(Debug)]
pub struct Silent {
    /// The client.
    pub socket: OwnedFd,
    /// Names the connection in logs.
    pub id: SessionId,
    /// The client's address.
    pub peer: Option<SocketAddr>,
    /// What it connected to, where a proxy has said so; else the socket tells.
    pub local: Option<SocketAddr>,
    /// The peer is a proxy that has not said yet whose connection it is.
    pub awaits_header: bool,
    /// It begins with TLS.
    pub implicit_tls: bool,
    /// APOP's timestamp in the greeting.
    pub timestamp: Option<String>,
    /// It must have logged in by then.
    pub deadline: Instant,
}

impl Silent {
    /// Says the first line, where the client does not speak first. False: it is gone.
    pub fn greet(&self) -> bool {
        self.implicit_tls || greet(&self.socket, self.timestamp.as_deref())
    }

    /// Says why it is not served, unless it expects TLS and could not read it.
    pub fn refuse(&self, reason: &[u8]) {
        if !self.implicit_tls {
            refuse(&self.socket, reason);
        }
    }
}

/// Entries of a queue that may mean nothing any more, besides twice as many as there are connections.
const MAX_STALE: usize = 1024;

/// Where a connection is.
#[derive(Debug)]
pub enum State {
    /// Here.
    Silent(Silent),
    /// With a session, then a maildrop process; the lease tells when it has ended.
    HandedOn {
        /// Never read: it turns readable at its end.
        _lease: PipeReader,
    },
}

/// One connection.
#[derive(Debug)]
pub struct Connection {
    /// Where it is.
    pub state: State,
    /// Its count by source; exempt networks have none.
    pub counted: Option<Counted>,
}

/// All connections.
#[derive(Debug, Default)]
pub struct Connections {
    /// By the number that epoll carries.
    pub slots: Slots<Connection>,
    /// Silent ones in the order of their deadlines; entries outlive their connections.
    deadlines: VecDeque<(Instant, Key)>,
    /// Those that have spoken while the session spawner could not take them.
    waiting: Waiting,
}

impl Connections {
    /// Adds one.
    pub fn insert(&mut self, silent: Silent, counted: Option<Counted>) -> Key {
        let deadline = silent.deadline;
        let key = self.slots.insert(Connection {
            state: State::Silent(silent),
            counted,
        });
        if self.deadlines.len() > self.max_entries() {
            let slots = &mut self.slots;
            self.deadlines.retain(|&(_, key)| is_silent(slots, key));
        }
        self.deadlines.push_back((deadline, key));
        key
    }

    /// Puts one in line for the session spawner.
    pub fn wait(&mut self, key: Key) {
        let Some(Connection {
            state: State::Silent(silent),
            ..
        }) = self.slots.find(key)
        else {
            return;
        };
        let source = silent.peer.map(|peer| Source::from(peer.ip()));
        if self.waiting.len() > self.max_entries() {
            let slots = &mut self.slots;
            self.waiting.retain(|key| is_silent(slots, key));
        }
        self.waiting.push(source, key);
    }

    /// The next one in line, which is out of it then.
    pub fn next_waiting(&mut self) -> Option<(Option<Source>, Key)> {
        self.waiting.pop()
    }

    /// The one that was in line goes first again.
    pub fn wait_again(&mut self, source: Option<Source>, key: Key) {
        self.waiting.push_front(source, key);
    }

    /// Somebody is in line.
    pub fn are_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// The next deadline of a silent connection.
    pub fn next_deadline(&mut self) -> Option<Instant> {
        self.forget_handed_on();
        self.deadlines.front().map(|&(deadline, _)| deadline)
    }

    /// One whose time is over.
    pub fn overdue(&mut self, now: Instant) -> Option<Key> {
        self.forget_handed_on();
        let &(deadline, key) = self.deadlines.front()?;
        (deadline <= now).then(|| {
            self.deadlines.pop_front();
            key
        })
    }

    /// Entries that a queue may have before those that mean nothing any more are taken out.
    fn max_entries(&self) -> usize {
        self.slots.len().saturating_mul(2).saturating_add(MAX_STALE)
    }

    /// Entries at the front that mean nothing any more.
    fn forget_handed_on(&mut self) {
        while let Some(&(_, key)) = self.deadlines.front() {
            if is_silent(&mut self.slots, key) {
                return;
            }
            self.deadlines.pop_front();
        }
    }
}

fn is_silent(slots: &mut Slots<Connection>, key: Key) -> bool {
    matches!(
        slots.find(key),
        Some(Connection {
            state: State::Silent(_),
            ..
        })
    )
}
