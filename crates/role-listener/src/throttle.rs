//! The pace at which sources are served whose connections lead to nothing.
//!
//! A connection whose client speaks costs a process, whether the client logs in or not. A source that has had several lately which
//! did not is served at a pace that all such sources share. So a flood costs so much and no more, from however many addresses
//! it comes once each of them has shown what it is, and whoever comes from elsewhere stands in another line. What it costs is taken
//! from what others leave: the session's process yields to theirs. Nobody is refused: a user who shares an address with an attacker
//! waits for a turn.

use std::time::{Duration, Instant};

use crate::slots::Key;
use crate::source::Source;
use crate::waiting::Waiting;

/// Connections of one source that have been handed on and have not logged in; as many are a client that opens some at once, and
/// more may be a flood.
const MAX_FRUITLESS: u32 = 4;

/// From one to the next: fifty processes a second are a twentieth of one processor.
const PACE: Duration = Duration::from_millis(20);

/// Whether a source with so many fruitless connections is served at this pace.
pub fn applies(fruitless: u32) -> bool {
    fruitless >= MAX_FRUITLESS
}

/// Those that wait for it.
#[derive(Debug, Default)]
pub struct Throttle {
    /// By turns.
    pub waiting: Waiting,
    /// Nobody is served before.
    next: Option<Instant>,
}

impl Throttle {
    /// The next one, and its source, if it is time for one.
    pub fn pop(&mut self, now: Instant) -> Option<(Option<Source>, Key)> {
        if self.next.is_some_and(|next| now < next) {
            return None;
        }
        let served = self.waiting.pop()?;
        self.next = now.checked_add(PACE);
        Some(served)
    }

    /// When there is something to do; `None`: nobody waits.
    pub fn due(&self, now: Instant) -> Option<Instant> {
        (!self.waiting.is_empty()).then(|| self.next.unwrap_or(now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FLOOD: Option<Source> = Some(Source::V4(1));

    #[test]
    fn one_is_served_at_a_time_and_the_next_when_it_is_due() {
        let (mut throttle, start) = (Throttle::default(), Instant::now());
        assert_eq!(throttle.due(start), None);
        for number in 0..3 {
            throttle.waiting.push(FLOOD, Key::from_bits(number), 1);
        }
        assert_eq!(throttle.due(start), Some(start));
        assert_eq!(throttle.pop(start), Some((FLOOD, Key::from_bits(0))));
        assert_eq!(throttle.due(start), Some(start + PACE));
        assert_eq!(throttle.pop(start + PACE / 2), None);
        assert_eq!(throttle.pop(start + PACE), Some((FLOOD, Key::from_bits(1))));
    }

    #[test]
    fn what_is_given_back_waits_for_the_pace_and_is_next() {
        let (mut throttle, start) = (Throttle::default(), Instant::now());
        for number in 0..2 {
            throttle.waiting.push(FLOOD, Key::from_bits(number), 1);
        }
        let (source, key) = throttle.pop(start).unwrap();
        throttle.waiting.push_front(source, key);
        assert_eq!(throttle.due(start), Some(start + PACE));
        assert_eq!(throttle.pop(start + PACE), Some((source, key)));
    }

    #[test]
    fn what_was_not_used_is_not_saved_up() {
        let (mut throttle, start) = (Throttle::default(), Instant::now());
        for number in 0..3 {
            throttle.waiting.push(FLOOD, Key::from_bits(number), 1);
        }
        assert!(throttle.pop(start).is_some());
        let later = start + 100 * PACE;
        assert!(throttle.pop(later).is_some());
        assert_eq!(throttle.pop(later), None);
    }
}
