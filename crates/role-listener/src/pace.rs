//! How fast sessions are started for sources that have had several connections lately.
//!
//! A session is a process, and a flood of clients that say something and do not log in would have the processors start nothing else.
//! What a source with few connections wants is started at once; for the others together there is an allowance. A login gives back what
//! was taken, so that who logs in is never slowed down, from however few addresses.

use std::time::{Duration, Instant};

/// Connections that a source may have had within its hold, this one included, to be none of those others.
pub const FEW: u32 = 2;

/// Sessions that may be started at once and have not logged in: an eighth of all, and no less than this.
const LEAST_AT_ONCE: u32 = 16;

/// Sessions that may be started in a second beyond that: two fifths of all, and no less than this. By default 200, a quarter of a
/// processor.
const LEAST_A_SECOND: u32 = 50;

/// The allowance. Times are given by the caller, in order.
#[derive(Debug, Default)]
pub struct Pace {
    /// Sessions started and not made good for.
    owed: u32,
    /// When the next of them is forgiven.
    next: Option<Instant>,
}

impl Pace {
    /// Whether one may be started, where there may be so many sessions in all.
    pub fn allows(&mut self, sessions: u32, now: Instant) -> bool {
        self.forgive(sessions, now);
        self.owed < (sessions / 8).max(LEAST_AT_ONCE)
    }

    /// One has been started.
    pub fn take(&mut self, sessions: u32, now: Instant) {
        self.owed = self.owed.saturating_add(1);
        self.next
            .get_or_insert_with(|| now.checked_add(interval(sessions)).unwrap_or(now));
    }

    /// One of them has logged in.
    pub fn give_back(&mut self) {
        self.owed = self.owed.saturating_sub(1);
    }

    /// When one more will be allowed, unless it is now.
    pub fn due(&self) -> Option<Instant> {
        self.next
    }

    fn forgive(&mut self, sessions: u32, now: Instant) {
        let interval = interval(sessions);
        while let Some(next) = self.next.filter(|&next| next <= now) {
            self.owed = self.owed.saturating_sub(1);
            self.next = (self.owed > 0)
                .then(|| next.checked_add(interval))
                .flatten();
        }
    }
}

fn interval(sessions: u32) -> Duration {
    let a_second = (sessions / 5).saturating_mul(2).max(LEAST_A_SECOND);
    Duration::from_secs(1)
        .checked_div(a_second)
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SESSIONS: u32 = 500;

    /// Starts as many as are allowed.
    fn start_all(pace: &mut Pace, now: Instant) -> u32 {
        let mut started = 0;
        while pace.allows(SESSIONS, now) {
            pace.take(SESSIONS, now);
            started += 1;
        }
        started
    }

    #[test]
    fn a_flood_gets_an_eighth_at_once_and_two_fifths_a_second() {
        let (mut pace, start) = (Pace::default(), Instant::now());
        assert_eq!(start_all(&mut pace, start), 62);
        let mut started = 0;
        for millisecond in 1..=1000 {
            started += start_all(&mut pace, start + Duration::from_millis(millisecond));
        }
        assert_eq!(started, 200);
    }

    #[test]
    fn whoever_logs_in_is_not_slowed_down() {
        let (mut pace, now) = (Pace::default(), Instant::now());
        for _ in 0..10_000 {
            assert!(pace.allows(SESSIONS, now));
            pace.take(SESSIONS, now);
            pace.give_back();
        }
    }

    #[test]
    fn what_has_been_forgiven_is_not_saved_up() {
        let (mut pace, start) = (Pace::default(), Instant::now());
        assert_eq!(start_all(&mut pace, start), 62);
        let later = start + Duration::from_secs(3600);
        assert_eq!(start_all(&mut pace, later), 62);
        // Given back though it had been forgiven.
        for _ in 0..200 {
            pace.give_back();
        }
        assert_eq!(start_all(&mut pace, later), 62);
    }

    #[test]
    fn small_servers_have_an_allowance_too() {
        let (mut pace, now) = (Pace::default(), Instant::now());
        let started = (0..100).take_while(|_| {
            let allowed = pace.allows(3, now);
            pace.take(3, now);
            allowed
        });
        assert_eq!(started.count(), 16);
    }
}
