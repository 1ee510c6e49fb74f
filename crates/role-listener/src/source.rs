//! How many connections each source has, and how many of them have led to nothing.
//!
//! A source is an IPv4 address, or the /64 of an IPv6 address, since that is what one customer gets. A connection counts
//! while it lives, and in any case until the hold is over, so that connecting and closing quickly gains nothing. One that has cost a
//! process and has not logged in is fruitless for as long.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// Connections whose hold is not over. When more come, the oldest hold ends early: a bound on memory, not on clients.
const MAX_HELD: usize = 65_536;

/// A source that is refused again and again is logged once in this time.
const REFUSAL_LOG_INTERVAL: Duration = Duration::from_secs(10);

/// Where connections come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Source {
    /// One address.
    V4(u32),
    /// The upper 64 bits.
    V6(u64),
}

impl From<IpAddr> for Source {
    fn from(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(address) => Source::V4(address.to_bits()),
            // The shift leaves 64 bits.
            IpAddr::V6(address) => Source::V6((address.to_bits() >> 64) as u64),
        }
    }
}

/// One counted connection; to be given back to [`Sources::end`].
#[derive(Debug, PartialEq, Eq)]
pub struct Counted {
    source: Source,
    number: u64,
}

impl Counted {
    /// Against whom.
    pub fn source(&self) -> Source {
        self.source
    }
}

/// Refusals of one source since the last line about it.
#[derive(Debug, PartialEq, Eq)]
pub struct ToLog {
    /// How many, this one included.
    pub refused: u64,
}

#[derive(Debug, Default)]
struct Count {
    connections: u32,
    /// Those of them that have been handed on and have not logged in.
    fruitless: u32,
    refused: u64,
    logged: Option<Instant>,
}

#[derive(Debug)]
struct Held {
    until: Instant,
    counted: Counted,
}

/// The table of sources. Times are given by the caller, in order.
#[derive(Debug, Default)]
pub struct Sources {
    counts: HashMap<Source, Count>,
    /// In the order of their beginnings.
    held: VecDeque<Held>,
    /// Connections that ended before their hold, by number, and whether each is fruitless.
    ended_early: HashMap<u64, bool>,
    next: u64,
}

impl Sources {
    /// Counts one more connection of `source`, unless it has `limit` already.
    ///
    /// # Errors
    /// The limit is reached; what is returned says whether that is to be logged.
    pub fn begin(
        &mut self,
        source: Source,
        limit: u32,
        hold: Duration,
        now: Instant,
    ) -> Result<Counted, Option<ToLog>> {
        self.release(now);
        let count = self.counts.entry(source).or_default();
        if count.connections >= limit {
            return Err(count.refuse(now));
        }
        count.connections = count.connections.saturating_add(1);
        let number = self.next;
        self.next = self.next.wrapping_add(1);
        if self.held.len() >= MAX_HELD {
            self.release_oldest();
        }
        self.held.push_back(Held {
            until: now.checked_add(hold).unwrap_or(now),
            counted: Counted { source, number },
        });
        Ok(Counted { source, number })
    }

    /// Connections of `source`, those that have ended lately among them.
    pub fn count(&self, source: Source) -> u32 {
        let count = self.counts.get(&source);
        count.map_or(0, |count| count.connections)
    }

    /// Connections of `source` that have been handed on and have not logged in, those that have ended lately among them.
    pub fn fruitless(&self, source: Source) -> u32 {
        let count = self.counts.get(&source);
        count.map_or(0, |count| count.fruitless)
    }

    /// A connection of `source` has been handed on.
    pub fn handed_on(&mut self, source: Source) {
        if let Some(count) = self.counts.get_mut(&source) {
            count.fruitless = count.fruitless.saturating_add(1);
        }
    }

    /// One that was handed on has logged in.
    pub fn logged_in(&mut self, source: Source) {
        if let Some(count) = self.counts.get_mut(&source) {
            count.fruitless = count.fruitless.saturating_sub(1);
        }
    }

    /// The connection has ended; it was handed on and has not logged in, or not so. It goes on counting until its hold is over.
    pub fn end(&mut self, counted: Counted, is_fruitless: bool) {
        // Numbers and holds begin in the same order.
        let is_held = self
            .held
            .front()
            .is_some_and(|oldest| counted.number >= oldest.counted.number);
        if is_held {
            self.ended_early.insert(counted.number, is_fruitless);
        } else {
            self.uncount(counted.source, is_fruitless);
        }
    }

    /// Ends every hold that is over.
    fn release(&mut self, now: Instant) {
        while self.held.front().is_some_and(|oldest| oldest.until <= now) {
            self.release_oldest();
        }
    }

    fn release_oldest(&mut self) {
        if let Some(Held { counted, .. }) = self.held.pop_front()
            && let Some(is_fruitless) = self.ended_early.remove(&counted.number)
        {
            self.uncount(counted.source, is_fruitless);
        }
    }

    fn uncount(&mut self, source: Source, is_fruitless: bool) {
        if is_fruitless {
            self.logged_in(source);
        }
        if let Some(count) = self.counts.get_mut(&source) {
            count.connections = count.connections.saturating_sub(1);
            if count.connections == 0 {
                self.counts.remove(&source);
            }
        }
    }
}

impl Count {
    fn refuse(&mut self, now: Instant) -> Option<ToLog> {
        self.refused = self.refused.saturating_add(1);
        let quiet = self
            .logged
            .is_some_and(|logged| now.duration_since(logged) < REFUSAL_LOG_INTERVAL);
        if quiet {
            return None;
        }
        self.logged = Some(now);
        Some(ToLog {
            refused: std::mem::take(&mut self.refused),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOLD: Duration = Duration::from_secs(10);
    const A: Source = Source::V4(1);
    const B: Source = Source::V4(2);

    #[test]
    fn an_ipv6_source_is_a_64_and_a_mapped_address_is_ipv4() {
        let source = |text: &str| Source::from(text.parse::<IpAddr>().unwrap());
        assert_eq!(source("2001:db8::1"), source("2001:db8::ffff:0:0:9"));
        assert_ne!(source("2001:db8::1"), source("2001:db8:0:1::1"));
        assert_eq!(source("::ffff:192.0.2.1"), source("192.0.2.1"));
    }

    #[test]
    fn a_source_at_its_limit_is_refused_and_others_are_not() {
        let (mut sources, now) = (Sources::default(), Instant::now());
        assert!(sources.begin(A, 1, HOLD, now).is_ok());
        assert!(sources.begin(A, 1, HOLD, now).is_err());
        assert!(sources.begin(B, 1, HOLD, now).is_ok());
    }

    #[test]
    fn a_connection_counts_until_its_hold_is_over_though_it_has_ended() {
        let (mut sources, start) = (Sources::default(), Instant::now());
        let counted = sources.begin(A, 1, HOLD, start).unwrap();
        sources.end(counted, false);
        let just_before = start + HOLD - Duration::from_millis(1);
        assert!(sources.begin(A, 1, HOLD, just_before).is_err());
        assert!(sources.begin(A, 1, HOLD, start + HOLD).is_ok());
    }

    #[test]
    fn a_connection_counts_while_it_lives_though_its_hold_is_over() {
        let (mut sources, start) = (Sources::default(), Instant::now());
        let counted = sources.begin(A, 1, HOLD, start).unwrap();
        let late = start + 2 * HOLD;
        assert!(sources.begin(A, 1, HOLD, late).is_err());
        sources.end(counted, false);
        assert!(sources.begin(A, 1, HOLD, late).is_ok());
    }

    #[test]
    fn refusals_of_one_source_are_logged_once_in_the_interval_with_their_number() {
        let (mut sources, start) = (Sources::default(), Instant::now());
        let _counted = sources.begin(A, 1, HOLD, start).unwrap();
        assert_eq!(
            sources.begin(A, 1, HOLD, start),
            Err(Some(ToLog { refused: 1 }))
        );
        assert_eq!(sources.begin(A, 1, HOLD, start), Err(None));
        assert_eq!(
            sources.begin(A, 1, HOLD, start + REFUSAL_LOG_INTERVAL),
            Err(Some(ToLog { refused: 2 }))
        );
    }

    #[test]
    fn nothing_is_remembered_of_a_source_without_connections() {
        let (mut sources, start) = (Sources::default(), Instant::now());
        for i in 0..1000 {
            let counted = sources.begin(Source::V4(i), 5, HOLD, start).unwrap();
            sources.end(counted, false);
        }
        sources.release(start + HOLD);
        assert!(sources.counts.is_empty());
        assert!(sources.held.is_empty());
        assert!(sources.ended_early.is_empty());
    }

    #[test]
    fn one_that_has_not_logged_in_is_fruitless_until_its_hold_is_over() {
        let (mut sources, start) = (Sources::default(), Instant::now());
        let counted = [0; 3].map(|_| sources.begin(A, 5, HOLD, start).unwrap());
        for _ in &counted {
            sources.handed_on(A);
        }
        sources.logged_in(A);
        assert_eq!((sources.fruitless(A), sources.fruitless(B)), (2, 0));
        let [logged_in, ended, lasting] = counted;
        sources.end(logged_in, false);
        sources.end(ended, true);
        assert_eq!(sources.fruitless(A), 2);
        sources.release(start + HOLD);
        assert_eq!(sources.fruitless(A), 1);
        sources.end(lasting, true);
        assert_eq!((sources.fruitless(A), sources.count(A)), (0, 0));
        assert!(sources.counts.is_empty());
    }

    #[test]
    fn the_table_of_holds_is_bounded() {
        let (mut sources, start) = (Sources::default(), Instant::now());
        for i in 0..(MAX_HELD + 10) {
            let counted = sources.begin(Source::V6(i as u64), 5, HOLD, start).unwrap();
            sources.end(counted, false);
        }
        assert_eq!(sources.held.len(), MAX_HELD);
        assert_eq!(sources.counts.len(), MAX_HELD);
    }
}
