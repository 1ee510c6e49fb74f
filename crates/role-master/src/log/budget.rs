//! A bound on how fast one role can fill the log.

use std::time::{Duration, Instant};

/// Lines in one period: more than a busy server's logins, far less than what a flood could make.
const MAX_LINES: u32 = 20_000;
const PERIOD: Duration = Duration::from_secs(10);

/// Counts one role's lines.
#[derive(Debug)]
pub struct Budget {
    began: Instant,
    used: u32,
    dropped: u64,
}

impl Default for Budget {
    fn default() -> Self {
        Self {
            began: Instant::now(),
            used: 0,
            dropped: 0,
        }
    }
}

impl Budget {
    /// Whether one more line may be written now.
    pub fn take(&mut self) -> bool {
        self.take_at(Instant::now())
    }

    /// How many lines were dropped since this was last asked, if any.
    pub fn take_dropped(&mut self) -> Option<u64> {
        let dropped = std::mem::take(&mut self.dropped);
        (dropped > 0).then_some(dropped)
    }

    fn take_at(&mut self, now: Instant) -> bool {
        if now.duration_since(self.began) >= PERIOD {
            self.began = now;
            self.used = 0;
        }
        if self.used < MAX_LINES {
            self.used += 1;
            true
        } else {
            self.dropped += 1;
            false
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_exceeds_the_budget_is_counted_and_the_next_period_starts_afresh() {
        let mut budget = Budget::default();
        let start = budget.began;
        let written = (0..MAX_LINES + 5).filter(|_| budget.take_at(start)).count();
        assert_eq!(written, MAX_LINES as usize);
        assert!(budget.take_at(start + PERIOD));
        assert_eq!(budget.take_dropped(), Some(5));
        assert_eq!(budget.take_dropped(), None);
    }
}
