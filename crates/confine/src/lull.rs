//! Events that can wait a little, so that a busy process is woken once for several of them.

use std::time::{Duration, Instant};

/// How long such events are left alone after a look at them. Somebody who counts what has ended looks for himself first.
pub const LENGTH: Duration = Duration::from_millis(10);

/// The time after a look at such events. Where there have been none for a while there is no lull, and the first is told of at
/// once.
#[derive(Debug, Default)]
pub struct Lull {
    until: Option<Instant>,
}

impl Lull {
    /// They have been looked at now.
    pub fn begin(&mut self, now: Instant) {
        self.until = now.checked_add(LENGTH);
    }

    /// What is left of it; `None`: they are waited for as all others are.
    pub fn left(&self, now: Instant) -> Option<Duration> {
        let left = self.until?.saturating_duration_since(now);
        (!left.is_zero()).then_some(left)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_lasts_from_a_look_on_and_not_before() {
        let mut lull = Lull::default();
        let now = Instant::now();
        assert_eq!(lull.left(now), None);
        lull.begin(now);
        assert_eq!(lull.left(now), Some(LENGTH));
        let nearly = now + LENGTH - Duration::from_nanos(1);
        assert_eq!(lull.left(nearly), Some(Duration::from_nanos(1)));
        assert_eq!(lull.left(now + LENGTH), None);
        assert_eq!(lull.left(now + 2 * LENGTH), None);
    }
}
