//! Updates that are to be finished and for which no process could be forked: kept with what keeps their mailboxes locked,
//! until it is tried again.

use std::time::{Duration, Instant};

use crate::children::Unfinished;

/// What is waited after a fork was refused; then twice as long each time, up to the longest.
const SHORTEST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// Forks refused for one update. After these, some two minutes, its mailbox is let go, since delivery waits for it: whoever opens
/// it next finds the journal.
const MAX_REFUSALS: u32 = 8;

/// At most one update for each process that there has been room for.
#[derive(Debug, Default)]
pub struct Backlog {
    waiting: Vec<Waiting>,
}

#[derive(Debug)]
struct Waiting {
    unfinished: Unfinished,
    due: Instant,
}

impl Backlog {
    /// How many wait.
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Keeps an update for which a fork was refused; false: it has been refused too often, and the update is let go.
    pub fn put_off(&mut self, mut unfinished: Unfinished, now: Instant) -> bool {
        let doubled = 1_u32.checked_shl(unfinished.refusals).unwrap_or(u32::MAX);
        let pause = SHORTEST_PAUSE.saturating_mul(doubled).min(LONGEST_PAUSE);
        unfinished.refusals = unfinished.refusals.saturating_add(1);
        match now.checked_add(pause) {
            Some(due) if unfinished.refusals < MAX_REFUSALS => {
                self.waiting.push(Waiting { unfinished, due });
                true
            }
            _ => false,
        }
    }

    /// One whose pause is over.
    pub fn take_due(&mut self, now: Instant) -> Option<Unfinished> {
        let at = self.waiting.iter().position(|waiting| waiting.due <= now)?;
        Some(self.waiting.swap_remove(at).unfinished)
    }

    /// How long it is until there is one; `None` if none waits.
    pub fn pause(&self, now: Instant) -> Option<Duration> {
        let due = self.waiting.iter().map(|waiting| waiting.due).min()?;
        Some(due.saturating_duration_since(now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::DotlockBy;
    use crate::journal_file::JournalName;

    #[test]
    fn an_update_is_tried_again_after_growing_pauses_and_let_go_in_the_end() {
        let name = format!("1000.1000.{}", "0".repeat(32));
        let name = JournalName::parse(&name).unwrap();
        let mut next = Some(Unfinished::found(name, DotlockBy::Oneself));
        let mut backlog = Backlog::default();
        let mut now = Instant::now();
        let mut pauses = Vec::new();
        while let Some(unfinished) = next.take()
            && backlog.put_off(unfinished, now)
        {
            let pause = backlog.pause(now).unwrap();
            assert!(backlog.take_due(now).is_none());
            pauses.push(pause.as_secs());
            now += pause;
            next = backlog.take_due(now);
        }
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 60]);
        assert!(backlog.is_empty());
        assert_eq!(backlog.pause(now), None);
    }
}
