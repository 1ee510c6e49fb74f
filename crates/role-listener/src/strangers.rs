//! Connections that have not logged in, and which of them goes when there is no room for a newcomer.
//!
//! It is the oldest one of the source that has most of them. Those that have logged in count for nothing here: many users behind one
//! address are not what a flood is. A newcomer gets the place only where that makes matters more even, so that a flood cannot turn
//! over its own connections, each of them a process, as fast as it can connect:
//!
//! - its source has none yet, or at least two less than that one; or
//! - the one that goes has had time enough to log in.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::{Duration, Instant};

use crate::slots::Key;
use crate::source::Source;

/// A program logs in within this time, a slow password hash and a TLS handshake over a bad line included. A flood gains little by
/// it: its connections would end after `login_timeout` anyway.
const ENOUGH_TO_LOG_IN: Duration = Duration::from_secs(20);

/// Whom a connection is held against.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Line {
    /// All of a source.
    Of(Source),
    /// It alone: nobody knows yet whose it is, or many are known to come from there. By its number.
    Alone(u64),
}

/// One stranger; to be given back to [`Strangers::remove`].
#[derive(Debug, PartialEq, Eq)]
pub struct Ticket {
    line: Line,
    number: u64,
}

/// The table. Every operation costs as much as the logarithm of its size, whatever the order of arrival is.
#[derive(Debug, Default)]
pub struct Strangers {
    /// In the order of arrival within each line.
    all: BTreeMap<(Line, u64), (Key, Instant)>,
    counts: HashMap<Line, u32>,
    /// Each line by its length and then by the age of its oldest; the last one has to give way first.
    greediest: BTreeSet<(u32, Reverse<u64>, Line)>,
    next: u64,
}

impl Strangers {
    /// Adds one that comes `now`; without a source it is held against nobody but itself.
    pub fn add(&mut self, source: Option<Source>, key: Key, now: Instant) -> Ticket {
        let number = self.next;
        self.next = self.next.wrapping_add(1);
        let line = source.map_or(Line::Alone(number), Line::Of);
        self.change(line, |all, count| {
            all.insert((line, number), (key, now));
            count.saturating_add(1)
        });
        Ticket { line, number }
    }

    /// It has logged in, or ended.
    pub fn remove(&mut self, ticket: &Ticket) {
        let &Ticket { line, number } = ticket;
        self.change(line, |all, count| {
            let removed = all.remove(&(line, number)).is_some();
            count.saturating_sub(removed.into())
        });
    }

    /// The one that is to go for a newcomer of `source`; `None`: the newcomer has to.
    pub fn to_end(&self, source: Option<Source>, now: Instant) -> Option<Key> {
        let &(most, Reverse(number), line) = self.greediest.last()?;
        let &(key, since) = self.all.get(&(line, number))?;
        let own = source.map_or(0, |source| self.count(Line::Of(source)));
        let is_fairer = own == 0 || own.saturating_add(1) < most;
        (is_fairer || now.duration_since(since) >= ENOUGH_TO_LOG_IN).then_some(key)
    }

    fn count(&self, line: Line) -> u32 {
        self.counts.get(&line).copied().unwrap_or_default()
    }

    /// Lets `how` change the connections of a line, which has to return how many they are then.
    fn change(
        &mut self,
        line: Line,
        how: impl FnOnce(&mut BTreeMap<(Line, u64), (Key, Instant)>, u32) -> u32,
    ) {
        let count = self.count(line);
        if let Some(oldest) = self.oldest(line) {
            self.greediest.remove(&(count, Reverse(oldest), line));
        }
        let count = how(&mut self.all, count);
        match self.oldest(line) {
            Some(oldest) => {
                self.greediest.insert((count, Reverse(oldest), line));
                self.counts.insert(line, count);
            }
            None => {
                self.counts.remove(&line);
            }
        }
    }

    fn oldest(&self, line: Line) -> Option<u64> {
        let of_line = self.all.range((line, 0)..=(line, u64::MAX));
        of_line.map(|(&(_, number), _)| number).next()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLITE: Source = Source::V4(0);

    fn key(number: u64) -> Key {
        Key::from_bits(number)
    }

    fn attacker(number: u32) -> Source {
        Source::V4(1000 + number)
    }

    /// `each` connections of each of so many attackers, a millisecond apart; their keys count from 0.
    fn flood(attackers: u32, each: u32, start: Instant) -> (Strangers, Vec<Ticket>) {
        let mut strangers = Strangers::default();
        let tickets = (0..attackers * each).map(|number| {
            let at = start + Duration::from_millis(number.into());
            strangers.add(Some(attacker(number % attackers)), key(number.into()), at)
        });
        let tickets = tickets.collect();
        (strangers, tickets)
    }

    #[test]
    fn the_oldest_of_the_greediest_source_goes() {
        let start = Instant::now();
        let mut strangers = Strangers::default();
        // The oldest of all is not greedy.
        let _polite = strangers.add(Some(POLITE), key(1), start);
        let mut tickets = Vec::new();
        for number in 10..13 {
            tickets.push(strangers.add(Some(attacker(1)), key(number), start));
        }
        for number in 20..22 {
            strangers.add(Some(attacker(2)), key(number), start);
        }
        let newcomer = Some(attacker(9));
        assert_eq!(strangers.to_end(newcomer, start), Some(key(10)));
        strangers.remove(&tickets[0]);
        // Both have two now, and the next one of the first is older.
        assert_eq!(strangers.to_end(newcomer, start), Some(key(11)));
        strangers.remove(&tickets[1]);
        assert_eq!(strangers.to_end(newcomer, start), Some(key(20)));
    }

    #[test]
    fn those_that_have_logged_in_do_not_count() {
        let start = Instant::now();
        let (mut strangers, tickets) = flood(1, 5, start);
        for ticket in &tickets {
            strangers.remove(ticket);
        }
        assert_eq!(strangers.to_end(Some(POLITE), start), None);
        assert!(strangers.counts.is_empty() && strangers.greediest.is_empty());
    }

    #[test]
    fn removing_twice_changes_nothing() {
        let start = Instant::now();
        let (mut strangers, tickets) = flood(2, 3, start);
        strangers.remove(&tickets[0]);
        strangers.remove(&tickets[0]);
        assert_eq!(strangers.count(tickets[0].line), 2);
        assert_eq!(strangers.greediest.len(), 2);
    }

    #[test]
    fn a_flood_does_not_take_its_own_places_over_and_over() {
        let start = Instant::now();
        let (strangers, _) = flood(100, 5, start);
        let later = start + Duration::from_millis(600);
        for number in 0..100 {
            assert_eq!(strangers.to_end(Some(attacker(number)), later), None);
        }
        assert!(strangers.to_end(Some(POLITE), later).is_some());
    }

    #[test]
    fn what_has_had_time_enough_goes_for_anybody() {
        let start = Instant::now();
        let (strangers, _) = flood(3, 1, start);
        let nearly = start + ENOUGH_TO_LOG_IN - Duration::from_millis(1);
        assert_eq!(strangers.to_end(Some(attacker(1)), nearly), None);
        let later = start + ENOUGH_TO_LOG_IN;
        assert_eq!(strangers.to_end(Some(attacker(1)), later), Some(key(0)));
    }

    #[test]
    fn a_polite_client_stays_while_a_flood_goes_on() {
        for (attackers, each) in [(1, 500), (100, 5), (250, 2)] {
            let start = Instant::now();
            let (mut strangers, tickets) = flood(attackers, each, start);
            let mut tickets: HashMap<u64, Ticket> = (0..).zip(tickets).collect();
            let mut now = start + Duration::from_secs(1);
            let polite = key(1_000_000);
            let _ticket = strangers.add(Some(POLITE), polite, now);
            // Four seconds for its login; the flood, and others, want its place two thousand times a second.
            for number in 1_000..9_000 {
                now += Duration::from_micros(500);
                let source = attacker((number % u64::from(attackers)) as u32);
                if let Some(ended) = strangers.to_end(Some(source), now) {
                    assert_ne!(ended, polite, "{attackers} attackers");
                    strangers.remove(&tickets.remove(&ended.to_bits()).unwrap());
                    tickets.insert(number, strangers.add(Some(source), key(number), now));
                }
            }
        }
    }

    #[test]
    fn of_single_connections_from_everywhere_the_oldest_goes() {
        let start = Instant::now();
        let (mut strangers, _) = flood(500, 1, start);
        let now = start + Duration::from_secs(1);
        let _polite = strangers.add(Some(POLITE), key(1_000_000), now);
        assert_eq!(strangers.to_end(Some(attacker(700)), now), Some(key(0)));
    }

    #[test]
    fn without_a_source_each_stands_alone() {
        let start = Instant::now();
        let mut strangers = Strangers::default();
        for number in 0..50 {
            strangers.add(None, key(number), start);
        }
        for number in 100..102 {
            strangers.add(Some(attacker(1)), key(number), start);
        }
        assert_eq!(strangers.to_end(None, start), Some(key(100)));
    }
}
