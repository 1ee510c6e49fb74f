//! The connections that count: those waiting for their client's first octets, and those handed on.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::time::Instant;

use messages::session::SessionId;

use crate::greeting::{greet, refuse};
use crate::slots::{Key, Slots};
use crate::source::{Counted, Source};
use crate::strangers::{Strangers, Ticket};
use crate::throttle::Throttle;
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
    /// With a session, then a maildrop process.
    HandedOn(HandedOn),
}

/// A connection that others serve.
#[derive(Debug)]
pub struct HandedOn {
    /// Never read: it turns readable when the client has logged in, and hangs up at the end.
    _lease: OwnedFd,
    id: SessionId,
    /// The client's address.
    pub peer: Option<IpAddr>,
    /// Its session is to end, or has been told to.
    is_ending: bool,
    /// Auth has consented.
    has_logged_in: bool,
}

/// What is to be counted back of one that has ended.
#[derive(Debug)]
pub struct Ended {
    /// Its count by source; exempt networks have none.
    pub counted: Option<Counted>,
    /// It was handed on and has not logged in.
    pub is_fruitless: bool,
}

/// One connection.
#[derive(Debug)]
pub struct Connection {
    /// Where it is.
    pub state: State,
    /// Its count by source; exempt networks have none.
    counted: Option<Counted>,
    /// There until its client has logged in, or it is to end.
    stranger: Option<Ticket>,
}

impl Connection {
    fn silent(&mut self) -> Option<&mut Silent> {
        match &mut self.state {
            State::Silent(silent) => Some(silent),
            State::HandedOn(_) => None,
        }
    }

    fn handed_on(&mut self) -> Option<&mut HandedOn> {
        match &mut self.state {
            State::Silent(_) => None,
            State::HandedOn(handed_on) => Some(handed_on),
        }
    }
}

/// A connection whose turn it is.
#[derive(Debug)]
pub struct Turn {
    source: Option<Source>,
    /// Which one.
    pub key: Key,
    /// It was in the line of the throttled.
    pub is_throttled: bool,
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
    /// Those that have spoken, of sources whose connections lead to nothing.
    throttle: Throttle,
    /// Those whose clients have not logged in.
    strangers: Strangers,
    /// How many are about to end.
    ending: usize,
    /// Of those, the ones whose sessions the session spawner has not been told of; entries outlive their connections.
    orders: VecDeque<Key>,
}

impl Connections {
    /// Adds one that has come `now`. What it is held against when there is no room for others: its source, or it stands for
    /// itself.
    pub fn insert(
        &mut self,
        silent: Silent,
        counted: Option<Counted>,
        source: Option<Source>,
        now: Instant,
    ) -> Key {
        let deadline = silent.deadline;
        let key = self.slots.insert(Connection {
            state: State::Silent(silent),
            counted,
            stranger: None,
        });
        self.add_stranger(key, source, now);
        if self.deadlines.len() > self.max_entries() {
            let slots = &mut self.slots;
            self.deadlines.retain(|&(_, key)| is_silent(slots, key));
        }
        self.deadlines.push_back((deadline, key));
        key
    }

    /// It is known whose it is, only now.
    pub fn identified(
        &mut self,
        key: Key,
        counted: Option<Counted>,
        source: Option<Source>,
        now: Instant,
    ) {
        self.forget_stranger(key);
        if let Some(connection) = self.slots.find(key) {
            connection.counted = counted;
            self.add_stranger(key, source, now);
        }
    }

    fn add_stranger(&mut self, key: Key, source: Option<Source>, now: Instant) {
        if let Some(connection) = self.slots.find(key) {
            connection.stranger = Some(self.strangers.add(source, key, now));
        }
    }

    /// It is not to go for a newcomer.
    pub fn forget_stranger(&mut self, key: Key) {
        if let Some(connection) = self.slots.find(key)
            && let Some(ticket) = connection.stranger.take()
        {
            self.strangers.remove(&ticket);
        }
    }

    /// One that is here.
    pub fn silent(&mut self, key: Key) -> Option<&mut Silent> {
        self.slots.find(key)?.silent()
    }

    /// Others serve it from now on; this is our end of its lease.
    pub fn handed_on(&mut self, key: Key, lease: OwnedFd) {
        if let Some(connection) = self.slots.find(key)
            && let State::Silent(silent) = &connection.state
        {
            connection.state = State::HandedOn(HandedOn {
                _lease: lease,
                id: silent.id,
                peer: silent.peer.map(|peer| peer.ip()),
                is_ending: false,
                has_logged_in: false,
            });
        }
    }

    /// Auth has consented. One that was about to end may get away with it. False: that was known.
    pub fn logged_in(&mut self, key: Key) -> bool {
        self.is_not_to_end(key);
        let handed_on = self.slots.find(key).and_then(Connection::handed_on);
        handed_on.is_some_and(|it| !std::mem::replace(&mut it.has_logged_in, true))
    }

    /// Takes one out that has ended; its counts by source are the caller's.
    pub fn remove(&mut self, key: Key) -> Option<Ended> {
        self.is_not_to_end(key);
        let mut connection = self.slots.remove(key)?;
        let handed_on = connection.handed_on();
        Some(Ended {
            is_fruitless: handed_on.is_some_and(|it| !it.has_logged_in),
            counted: connection.counted,
        })
    }

    fn is_not_to_end(&mut self, key: Key) {
        self.forget_stranger(key);
        if let Some(handed_on) = self.slots.find(key).and_then(Connection::handed_on)
            && std::mem::take(&mut handed_on.is_ending)
        {
            self.ending = self.ending.saturating_sub(1);
        }
    }

    /// All, those that are about to end among them.
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Those that stay.
    pub fn taken(&self) -> usize {
        self.slots.len().saturating_sub(self.ending)
    }

    /// The one that has to go for a newcomer of `source`; see [`Strangers::to_end`].
    pub fn to_end(&self, source: Option<Source>, now: Instant) -> Option<Key> {
        self.strangers.to_end(source, now)
    }

    /// One that has been handed on is to end: [`Connections::next_order`] will name its session.
    pub fn begin_to_end(&mut self, key: Key) {
        self.forget_stranger(key);
        let Some(handed_on) = self.slots.find(key).and_then(Connection::handed_on) else {
            return;
        };
        if !std::mem::replace(&mut handed_on.is_ending, true) {
            self.ending = self.ending.saturating_add(1);
            if self.orders.len() >= self.ending.saturating_mul(2) {
                let slots = &mut self.slots;
                self.orders.retain(|&key| ending(slots, key).is_some());
            }
            self.orders.push_back(key);
        }
    }

    /// The session that the session spawner is to be told of next.
    pub fn next_order(&mut self) -> Option<SessionId> {
        loop {
            let &key = self.orders.front()?;
            if let Some(id) = ending(&mut self.slots, key) {
                return Some(id);
            }
            self.orders.pop_front();
        }
    }

    /// It has been told of that one.
    pub fn order_given(&mut self) {
        self.orders.pop_front();
    }

    /// Whom it is counted against.
    pub fn source(&mut self, key: Key) -> Option<Source> {
        let counted = self.slots.find(key)?.counted.as_ref()?;
        Some(counted.source())
    }

    /// Puts one in line for the session spawner, or in that of the throttled; its source has had so many connections lately.
    pub fn wait(&mut self, key: Key, weight: u32, is_throttled: bool) {
        let Some(silent) = self.silent(key) else {
            return;
        };
        let source = silent.peer.map(|peer| Source::from(peer.ip()));
        let most = self.max_entries();
        let waiting = line(&mut self.throttle, &mut self.waiting, is_throttled);
        if waiting.len() > most {
            let slots = &mut self.slots;
            waiting.retain(|key| is_silent(slots, key));
        }
        waiting.push(source, key, weight);
    }

    /// The next one in line, which is out of it then. Where it is time for one of the throttled, that is the next: else others could
    /// keep it waiting for ever, and it costs them little.
    pub fn next_waiting(&mut self, now: Instant) -> Option<Turn> {
        let throttled = self.throttle.pop(now);
        let is_throttled = throttled.is_some();
        let (source, key) = throttled.or_else(|| self.waiting.pop())?;
        Some(Turn {
            source,
            key,
            is_throttled,
        })
    }

    /// The one that was in line goes first again.
    pub fn wait_again(&mut self, turn: Turn) {
        let waiting = line(&mut self.throttle, &mut self.waiting, turn.is_throttled);
        waiting.push_front(turn.source, turn.key);
    }

    /// Somebody is in line, the throttled apart.
    pub fn are_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// When the next one of the throttled has its turn.
    pub fn next_throttled(&self, now: Instant) -> Option<Instant> {
        self.throttle.due(now)
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

/// The line of the throttled, or that of all others.
fn line<'a>(
    throttle: &'a mut Throttle,
    others: &'a mut Waiting,
    is_throttled: bool,
) -> &'a mut Waiting {
    match is_throttled {
        true => &mut throttle.waiting,
        false => others,
    }
}

/// The session of a connection that is about to end.
fn ending(slots: &mut Slots<Connection>, key: Key) -> Option<SessionId> {
    let handed_on = slots.find(key)?.handed_on()?;
    handed_on.is_ending.then_some(handed_on.id)
}

fn is_silent(slots: &mut Slots<Connection>, key: Key) -> bool {
    slots
        .find(key)
        .is_some_and(|found| found.silent().is_some())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixStream;
    use std::time::Duration;

    const GREEDY: Option<Source> = Some(Source::V4(1));
    const POLITE: Option<Source> = Some(Source::V4(2));

    fn silent(id: u64, now: Instant) -> Silent {
        Silent {
            socket: UnixStream::pair().unwrap().0.into(),
            id: SessionId(id),
            peer: None,
            local: None,
            awaits_header: false,
            implicit_tls: false,
            timestamp: None,
            deadline: now + Duration::from_secs(60),
        }
    }

    /// So many of one source, all of them handed on.
    fn handed_on(many: u64) -> (Connections, Vec<Key>, Instant) {
        let (mut connections, now) = (Connections::default(), Instant::now());
        let keys = (0..many).map(|id| {
            let key = connections.insert(silent(id, now), None, GREEDY, now);
            connections.handed_on(key, std::io::pipe().unwrap().0.into());
            key
        });
        let keys = keys.collect();
        (connections, keys, now)
    }

    #[test]
    fn one_that_is_to_end_does_not_count_and_is_not_chosen_again() {
        let (mut connections, keys, now) = handed_on(3);
        for (expected, taken) in [(keys[0], 2), (keys[1], 1)] {
            let chosen = connections.to_end(POLITE, now).unwrap();
            assert_eq!(chosen, expected);
            connections.begin_to_end(chosen);
            connections.begin_to_end(chosen);
            assert_eq!((connections.len(), connections.taken()), (3, taken));
        }
        assert!(connections.remove(keys[0]).is_some());
        assert_eq!((connections.len(), connections.taken()), (2, 1));
    }

    #[test]
    fn an_order_stands_until_it_has_been_given() {
        let (mut connections, keys, _) = handed_on(3);
        connections.begin_to_end(keys[1]);
        connections.begin_to_end(keys[2]);
        for _ in 0..2 {
            assert_eq!(connections.next_order(), Some(SessionId(1)));
        }
        connections.order_given();
        assert_eq!(connections.next_order(), Some(SessionId(2)));
        connections.order_given();
        assert_eq!(connections.next_order(), None);
    }

    #[test]
    fn whoever_ends_or_logs_in_meanwhile_needs_no_order() {
        let (mut connections, keys, now) = handed_on(3);
        for &key in &keys {
            connections.begin_to_end(key);
        }
        connections.remove(keys[0]);
        connections.logged_in(keys[1]);
        assert_eq!(connections.next_order(), Some(SessionId(2)));
        assert_eq!((connections.len(), connections.taken()), (2, 1));
        assert_eq!(connections.to_end(POLITE, now), None);
    }

    #[test]
    fn orders_that_cannot_be_given_are_no_more_than_twice_those_that_are_to_end() {
        let (mut connections, _, now) = handed_on(1);
        for id in 10..1_000 {
            let key = connections.insert(silent(id, now), None, GREEDY, now);
            connections.handed_on(key, std::io::pipe().unwrap().0.into());
            connections.begin_to_end(key);
            assert_eq!(connections.next_order(), Some(SessionId(id)));
            connections.remove(key);
            assert!(connections.orders.len() <= 2);
        }
    }

    #[test]
    fn those_that_have_logged_in_are_not_chosen() {
        let (mut connections, keys, now) = handed_on(4);
        assert!(connections.logged_in(keys[0]));
        assert!(!connections.logged_in(keys[0]));
        assert_eq!(connections.to_end(POLITE, now), Some(keys[1]));
        for &key in &keys {
            connections.logged_in(key);
        }
        assert_eq!(connections.to_end(POLITE, now), None);
        assert_eq!(connections.taken(), 4);
    }

    #[test]
    fn one_that_ends_is_fruitless_if_it_has_cost_a_process_and_has_not_logged_in() {
        let (mut connections, keys, now) = handed_on(2);
        let silent = connections.insert(silent(9, now), None, GREEDY, now);
        connections.logged_in(keys[0]);
        let is_fruitless = [keys[0], keys[1], silent].map(|key| {
            let ended = connections.remove(key);
            ended.unwrap().is_fruitless
        });
        assert_eq!(is_fruitless, [false, true, false]);
    }

    #[test]
    fn the_throttled_have_their_turn_whoever_else_is_in_line() {
        let (mut connections, now) = (Connections::default(), Instant::now());
        let keys: Vec<_> = (0..4)
            .map(|id| connections.insert(silent(id, now), None, GREEDY, now))
            .collect();
        for (at, &key) in keys.iter().enumerate() {
            connections.wait(key, 1, at >= 2);
        }
        assert_eq!(connections.next_throttled(now), Some(now));
        let next = |connections: &mut Connections| connections.next_waiting(now).unwrap();
        let turn = next(&mut connections);
        assert_eq!((turn.key, turn.is_throttled), (keys[2], true));
        let others = [next(&mut connections), next(&mut connections)];
        assert_eq!(others.map(|turn| turn.key), [keys[0], keys[1]]);
        assert!(connections.next_waiting(now).is_none() && !connections.are_waiting());
        let later = connections.next_throttled(now).unwrap();
        assert!(later > now);
        assert_eq!(connections.next_waiting(later).unwrap().key, keys[3]);
        assert_eq!(connections.next_throttled(later), None);
    }

    #[test]
    fn a_silent_one_is_no_session_to_be_ended() {
        let (mut connections, now) = (Connections::default(), Instant::now());
        let key = connections.insert(silent(1, now), None, GREEDY, now);
        connections.begin_to_end(key);
        assert_eq!((connections.next_order(), connections.taken()), (None, 1));
    }
}
