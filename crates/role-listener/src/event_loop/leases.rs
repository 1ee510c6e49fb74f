//! What becomes of connections that have been handed on: their sessions log in, and end.

use std::io;
use std::time::Instant;

use rustix::buffer::spare_capacity;
use rustix::event::{Timespec, epoll};

use super::{EventLoop, LEASES, MAX_EVENTS};
use crate::connections::State;
use crate::slots::Key;

/// Told of once, and then looked at until a lull has brought nothing.
pub(super) const FLAGS: epoll::EventFlags = epoll::EventFlags::IN.union(epoll::EventFlags::ONESHOT);

impl EventLoop<'_> {
    /// Once they have been told of, and when a lull is over. After one that has brought nothing they are told of again.
    pub(super) fn look_at_leases_in_time(&mut self, now: Instant) -> io::Result<()> {
        let Some(lull) = &self.lull else {
            return Ok(());
        };
        if lull.left(now).is_some() {
            return Ok(());
        }
        if self.look_at_leases()? {
            self.lull.get_or_insert_default().begin(now);
        } else {
            self.lull = None;
            let data = epoll::EventData::new_u64(LEASES);
            epoll::modify(&self.epoll, &self.leases, data, FLAGS)?;
        }
        Ok(())
    }

    /// Takes note of logins and of sessions that have ended; whether there were any. Whoever counts connections looks first.
    pub(super) fn look_at_leases(&mut self) -> io::Result<bool> {
        let mut events = Vec::with_capacity(MAX_EVENTS);
        let mut found = false;
        loop {
            events.clear();
            let at_once = Timespec::default();
            match epoll::wait(&self.leases, spare_capacity(&mut events), Some(&at_once)) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
            for event in &events {
                self.lease_changed(Key::from_bits(event.data.u64()), event.flags);
            }
            found |= !events.is_empty();
            if events.len() < MAX_EVENTS {
                return Ok(found);
            }
        }
    }

    /// Its last holder has closed the lease; or somebody has written to it, which is auth.
    fn lease_changed(&mut self, key: Key, flags: epoll::EventFlags) {
        let connection = self.connections.slots.find(key);
        if !connection.is_some_and(|connection| matches!(connection.state, State::HandedOn(_))) {
            return;
        }
        if flags.intersects(epoll::EventFlags::HUP | epoll::EventFlags::ERR) {
            self.end(key);
        } else if self.connections.logged_in(key)
            && let Some(source) = self.connections.source(key)
        {
            self.sources.logged_in(source);
        }
    }
}
