//! How many maildrop processes there may be. The listener counts connections by their leases, but a process that has been taken
//! over can close its own and live on: so many, and the machine would have no room for anybody.

use std::time::{Duration, Instant};

use messages::spawner::SpawnerConfig;

/// Processes beyond the configured number of sessions: the listener lets in up to 64 connections in the place of others that are
/// about to go, and as many processes may have ended without having been waited for, or finish what others left.
const ABOVE_SESSIONS: usize = 128;

/// Processes, whatever is configured.
const MAX_PROCESSES: usize = 1 << 17;

/// The limit, as the configuration says now and as it said when connections were let in that have yet to log in.
#[derive(Debug)]
pub struct Room {
    limit: usize,
    login_timeout: Duration,
    earlier: Option<Earlier>,
}

#[derive(Debug)]
struct Earlier {
    limit: usize,
    until: Instant,
}

impl Room {
    /// As configured.
    pub fn new(configuration: &SpawnerConfig) -> Self {
        let sessions = usize::try_from(configuration.sessions).unwrap_or(MAX_PROCESSES);
        Self {
            limit: sessions.saturating_add(ABOVE_SESSIONS).min(MAX_PROCESSES),
            login_timeout: configuration.login_timeout,
            earlier: None,
        }
    }

    /// Follows the configuration. Where that lowers the limit, those who were let in before it may still log in.
    pub fn follow(&mut self, configuration: &SpawnerConfig, now: Instant) {
        self.change(Self::new(configuration), now);
    }

    fn change(&mut self, new: Self, now: Instant) {
        let limit = self.most(now);
        let until = now.checked_add(self.login_timeout);
        *self = Self {
            earlier: until.map(|until| Earlier { limit, until }),
            ..new
        };
    }

    /// Maildrop processes at a time.
    pub fn most(&self, now: Instant) -> usize {
        let earlier = self.earlier.as_ref().filter(|earlier| now < earlier.until);
        earlier.map_or(self.limit, |earlier| earlier.limit.max(self.limit))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn room(limit: usize, login_timeout: u64) -> Room {
        Room {
            limit,
            login_timeout: Duration::from_secs(login_timeout),
            earlier: None,
        }
    }

    #[test]
    fn a_limit_that_is_raised_counts_at_once_and_a_lower_one_when_earlier_connections_have_logged_in()
     {
        let now = Instant::now();
        let after = |seconds| now + Duration::from_secs(seconds);
        let mut sessions = room(500, 60);
        sessions.change(room(10, 30), now);
        assert_eq!(sessions.most(after(59)), 500);
        assert_eq!(sessions.most(after(60)), 10);
        // Changed again meanwhile.
        sessions.change(room(700, 30), after(1));
        assert_eq!(sessions.most(after(1)), 700);
        sessions.change(room(20, 30), after(2));
        assert_eq!(sessions.most(after(31)), 700);
        assert_eq!(sessions.most(after(32)), 20);
    }
}
