//! What the log is told of connections that were not served: a line for each kind now and then, with how many they were.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use messages::log::{Logger, Record};

/// Refusals that are no single source's fault are logged once in this time.
const LOG_INTERVAL: Duration = Duration::from_secs(10);

/// Refusals of one kind since the last line about them.
#[derive(Debug, Default)]
pub struct Refusals {
    count: u64,
    logged: Option<Instant>,
}

impl Refusals {
    /// One more, of this peer.
    pub fn add(&mut self, logger: &Logger, now: Instant, reason: &str, peer: Option<IpAddr>) {
        self.add_as("connection refused", logger, now, reason, peer);
    }

    /// As [`Refusals::add`], where `event` is what has happened.
    pub fn add_as(
        &mut self,
        event: &'static str,
        logger: &Logger,
        now: Instant,
        reason: &str,
        peer: Option<IpAddr>,
    ) {
        self.count = self.count.saturating_add(1);
        let quiet = self
            .logged
            .is_some_and(|logged| now.duration_since(logged) < LOG_INTERVAL);
        if !quiet {
            self.logged = Some(now);
            logger.log(
                &Record::warning(event)
                    .with("reason", reason)
                    .with_some("peer", peer)
                    .with("count", std::mem::take(&mut self.count)),
            );
        }
    }
}
