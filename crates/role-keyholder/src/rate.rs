//! How fast is signed in all.

use std::time::{Duration, Instant};

/// So many signatures a second, and at most so many at once.
#[derive(Debug)]
pub struct Rate {
    per_second: u32,
    left: u32,
    /// When `left` was last filled up.
    since: Instant,
}

impl Rate {
    /// Full.
    pub fn new(per_second: u32, now: Instant) -> Self {
        let per_second = per_second.max(1);
        Self {
            per_second,
            left: per_second,
            since: now,
        }
    }

    /// Changes it; what has been used up stays so.
    pub fn set(&mut self, per_second: u32) {
        self.per_second = per_second.max(1);
        self.left = self.left.min(self.per_second);
    }

    /// Uses one signature up.
    pub fn take(&mut self, now: Instant) {
        self.fill(now);
        self.left = self.left.saturating_sub(1);
    }

    /// When there is a signature to be had; `None`: now.
    pub fn next(&mut self, now: Instant) -> Option<Instant> {
        self.fill(now);
        if self.left > 0 {
            return None;
        }
        self.since.checked_add(self.interval())
    }

    fn interval(&self) -> Duration {
        Duration::from_secs(1)
            .checked_div(self.per_second)
            .unwrap_or(Duration::from_secs(1))
    }

    fn fill(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.since).as_nanos();
        let earned = passed
            .checked_div(self.interval().as_nanos().max(1))
            .and_then(|earned| u32::try_from(earned).ok())
            .unwrap_or(u32::MAX);
        if earned >= self.per_second.saturating_sub(self.left) {
            self.left = self.per_second;
            self.since = now;
        } else {
            self.left = self.left.saturating_add(earned);
            self.since = self
                .since
                .checked_add(self.interval().saturating_mul(earned))
                .unwrap_or(now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_gives_as_many_as_it_should() {
        let start = Instant::now();
        let mut rate = Rate::new(10, start);
        let taken = |rate: &mut Rate, now| {
            let mut taken = 0;
            while rate.next(now).is_none() {
                rate.take(now);
                taken += 1;
            }
            taken
        };
        assert_eq!(taken(&mut rate, start), 10);
        assert_eq!(
            rate.next(start),
            Some(start + Duration::from_millis(100)),
            "one is to be had after a tenth of a second"
        );
        assert_eq!(taken(&mut rate, start + Duration::from_millis(99)), 0);
        assert_eq!(taken(&mut rate, start + Duration::from_millis(350)), 3);
        assert_eq!(taken(&mut rate, start + Duration::from_millis(400)), 1);
        assert_eq!(taken(&mut rate, start + Duration::from_secs(60)), 10);
    }

    #[test]
    fn there_is_always_one_a_second() {
        let start = Instant::now();
        let mut rate = Rate::new(0, start);
        rate.take(start);
        assert!(rate.next(start).is_some());
        assert_eq!(rate.next(start + Duration::from_secs(1)), None);
    }
}
