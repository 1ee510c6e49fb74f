//! From here to the session spawner: connections whose clients have spoken, in turn, and orders to end others.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Instant;

use confine::channel::{Channel, ChannelError};
use confine::socket;
use messages::session::{Connection as Message, FromListener};
use rustix::event::epoll;
use rustix::pipe::{PipeFlags, pipe_with};

use super::{EventLoop, SPAWNER, add};
use crate::slots::Key;
use crate::throttle;

impl EventLoop<'_> {
    pub(super) fn meet_spawner(&mut self, channel: OwnedFd) -> io::Result<()> {
        let channel = Channel::from_fd(channel).map_err(io::Error::other)?;
        // Told when it is gone; that it has room again, only where there was none.
        add(&self.epoll, &channel, SPAWNER, epoll::EventFlags::ET)?;
        self.spawner = Some(channel);
        self.give_orders();
        self.hand_on_waiting();
        Ok(())
    }

    pub(super) fn spawner_changed(&mut self, flags: epoll::EventFlags) {
        if flags.intersects(epoll::EventFlags::HUP | epoll::EventFlags::ERR) {
            // The master will send its successor.
            self.spawner = None;
        } else {
            self.watch_spawner(epoll::EventFlags::ET);
            self.give_orders();
            self.hand_on_waiting();
        }
    }

    /// Its channel is full: have it told when it has room again.
    fn await_spawner(&mut self) {
        self.watch_spawner(epoll::EventFlags::OUT | epoll::EventFlags::ET);
    }

    fn watch_spawner(&mut self, flags: epoll::EventFlags) {
        let data = epoll::EventData::new_u64(SPAWNER);
        if let Some(spawner) = &self.spawner {
            // It is watched already, and so this does not fail.
            let _ = epoll::modify(&self.epoll, spawner, data, flags);
        }
    }

    /// Tells the session spawner which sessions have to end, as far as its channel has room; the others are told of when it has
    /// again. A spawner that has been started anew does not know its predecessor's sessions: they last until their time for a
    /// login is over.
    pub(super) fn give_orders(&mut self) {
        while let Some(id) = self.connections.next_order() {
            let Some(spawner) = &self.spawner else {
                return;
            };
            match spawner.try_send(&FromListener::End(id), &[]) {
                Ok(()) => self.connections.order_given(),
                Err(ChannelError::WouldBlock) => return self.await_spawner(),
                Err(ChannelError::Closed) => {
                    // The master will send its successor.
                    self.spawner = None;
                    return;
                }
                Err(error) => {
                    let reason = format!("no session can be ended: {error}");
                    self.lost.add(&self.logger, Instant::now(), &reason, None);
                    self.connections.order_given();
                }
            }
        }
    }

    /// Gives the connection to the session spawner, or puts it in line. Nobody overtakes those in line: their turn comes when
    /// the channel is nearly empty again, which it never would be while others fill it.
    pub(super) fn hand_on(&mut self, key: Key) {
        let is_throttled = self.is_throttled(key);
        if is_throttled || self.connections.are_waiting() || !self.try_hand_on(key, false) {
            self.wait(key, is_throttled);
        }
    }

    fn wait(&mut self, key: Key, is_throttled: bool) {
        let source = self.connections.source(key);
        let lately = source.map_or(0, |source| self.sources.count(source));
        self.connections.wait(key, lately, is_throttled);
    }

    /// Its source has had so many connections lately that led to nothing.
    fn is_throttled(&mut self, key: Key) -> bool {
        let source = self.connections.source(key);
        source.is_some_and(|source| throttle::applies(self.sources.fruitless(source)))
    }

    fn hand_on_waiting(&mut self) {
        let now = Instant::now();
        while let Some(turn) = self.connections.next_waiting(now) {
            let key = turn.key;
            let is_throttled = self.is_throttled(key);
            if is_throttled && !turn.is_throttled {
                // It has shown what it is since this one came.
                self.wait(key, true);
            } else if !self.try_hand_on(key, is_throttled) {
                return self.connections.wait_again(turn);
            }
        }
    }

    /// Where it is time for one of the throttled.
    pub(super) fn hand_on_throttled(&mut self, now: Instant) {
        let due = self.connections.next_throttled(now);
        if due.is_some_and(|due| due <= now) {
            self.hand_on_waiting();
        }
    }

    /// Its session yields to others, or not. False: not now. True, too, when the connection has ended.
    fn try_hand_on(&mut self, key: Key, yields: bool) -> bool {
        let Some(spawner) = &self.spawner else {
            return false;
        };
        let Some(silent) = self.connections.silent(key) else {
            return true;
        };
        let flags = PipeFlags::CLOEXEC | PipeFlags::NONBLOCK;
        let Ok((lease, theirs)) = pipe_with(flags) else {
            self.end(key);
            return true;
        };
        let message = FromListener::Serve(Message {
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
            yields,
        });
        match spawner.try_send(&message, &[silent.socket.as_fd(), theirs.as_fd()]) {
            Ok(()) => {
                // Closing our copy would not end the watch: the session has the same open file.
                let _ = epoll::delete(&self.epoll, &silent.socket);
                // Edge-triggered: the note of a login is told of once, and left where it is.
                let flags = epoll::EventFlags::IN | epoll::EventFlags::ET;
                if add(&self.leases, &lease, key.to_bits(), flags).is_ok() {
                    self.connections.handed_on(key, lease);
                    if let Some(source) = self.connections.source(key) {
                        self.sources.handed_on(source);
                    }
                } else {
                    self.end(key);
                }
                true
            }
            Err(ChannelError::WouldBlock) => {
                self.await_spawner();
                false
            }
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
}
