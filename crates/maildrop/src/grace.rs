//! A maildrop whose deleted messages are kept for a while: hidden from the session after QUIT, removed by the first UPDATE
//! after their time.
//!
//! Whatever kind of maildrop it is, it stays as it is until then. A message is known by its unique-id; one that has
//! vanished meanwhile is forgotten, so that nothing that comes later is taken for it.

use std::collections::BTreeMap;
use std::io;
use std::time::{Duration, SystemTime};

use crate::{CheckError, DatedIds, Drift, Maildrop, UniqueId, UpdateError, UpdateSummary};

/// What was deleted from a maildrop, and for how long that is kept; for none, if what is there was deleted before the policy
/// was switched off.
#[derive(Debug)]
pub struct Grace {
    /// What was deleted.
    pub deletions: DatedIds,
    /// How long it is kept.
    pub time: Duration,
}

/// The maildrop without what was deleted.
pub(crate) struct Graced {
    whole: Box<dyn Maildrop>,
    /// For each message its index in the whole.
    shown: Vec<u32>,
    /// What is there and hidden, and when it was deleted: by its index in the whole.
    hidden: BTreeMap<u32, u64>,
    grace: Grace,
    /// Seconds since 1970.
    now: u64,
}

impl Graced {
    pub(crate) fn new(whole: Box<dyn Maildrop>, grace: Grace) -> Self {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        Self::at(whole, grace, now.unwrap_or_default().as_secs())
    }

    pub(crate) fn at(whole: Box<dyn Maildrop>, grace: Grace, now: u64) -> Self {
        let (mut shown, mut hidden) = (Vec::new(), BTreeMap::new());
        for index in 0..whole.count() {
            let id = whole.unique_id(index);
            match id.and_then(|id| grace.deletions.ids().get(&id)) {
                Some(&time) => drop(hidden.insert(index, time)),
                None => shown.push(index),
            }
        }
        Graced {
            whole,
            shown,
            hidden,
            grace,
            now,
        }
    }

    fn index(&self, index: u32) -> Option<u32> {
        self.shown.get(index as usize).copied()
    }

    /// Whether what was deleted at this time is to be removed.
    fn is_due(&self, time: u64) -> bool {
        time.saturating_add(self.grace.time.as_secs()) <= self.now
    }
}

impl Maildrop for Graced {
    fn count(&self) -> u32 {
        // No more than the whole has.
        u32::try_from(self.shown.len()).unwrap_or(u32::MAX)
    }

    fn octets(&self, index: u32) -> Option<u64> {
        self.whole.octets(self.index(index)?)
    }

    fn unique_id(&self, index: u32) -> Option<UniqueId> {
        self.whole.unique_id(self.index(index)?)
    }

    fn delivered(&self, index: u32) -> Option<u64> {
        self.whole.delivered(self.index(index)?)
    }

    fn skipped(&self) -> u32 {
        self.whole.skipped()
    }

    fn drift(&self) -> Option<Drift> {
        self.whole.drift()
    }

    fn needs_update(&self) -> bool {
        self.hidden.len() != self.grace.deletions.ids().len()
            || self.hidden.values().any(|&time| self.is_due(time))
    }

    fn check(&mut self) -> Result<(), CheckError> {
        self.whole.check()
    }

    fn read(&mut self, index: u32, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        match self.index(index) {
            Some(index) => self.whole.read(index, offset, buffer),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn update(
        mut self: Box<Self>,
        deleted: &dyn Fn(u32) -> bool,
    ) -> Result<UpdateSummary, UpdateError> {
        let mut summary = UpdateSummary::default();
        // Another program's changes end UPDATE as they do where nothing is kept.
        self.whole.check()?;
        for (index, &inner) in (0..).zip(&self.shown) {
            if deleted(index) {
                let octets = self.whole.octets(inner).unwrap_or(0);
                summary.octets = summary.octets.saturating_add(octets);
                summary.removed = summary.removed.saturating_add(1);
                self.hidden.insert(inner, self.now);
            }
        }
        let of = |hidden: &BTreeMap<u32, u64>| -> BTreeMap<UniqueId, u64> {
            let entry = |(&index, &time)| Some((self.whole.unique_id(index)?, time));
            hidden.iter().filter_map(entry).collect()
        };
        let all = of(&self.hidden);
        let due = self.hidden.clone();
        let (due, kept): (BTreeMap<_, _>, BTreeMap<_, _>) =
            due.into_iter().partition(|&(_, time)| self.is_due(time));
        let kept = of(&kept);
        // Forgotten before they are removed: were they remembered longer than they are there, mail that comes later could
        // be taken for them.
        let deletions = &mut self.grace.deletions;
        deletions
            .replace(kept)
            .map_err(|error| UpdateError::Io("remember what is deleted", error))?;
        if due.is_empty() {
            return Ok(summary);
        }
        match self.whole.update(&|index| due.contains_key(&index)) {
            Ok(removed) => {
                // With no time to wait, those of this session are among them.
                let new = match self.grace.time.as_secs() {
                    0 => summary.removed,
                    _ => 0,
                };
                summary.expired = removed.removed.saturating_sub(new);
                summary.remains = removed.remains;
            }
            Err(error) => {
                // Those that are left stay hidden, and the next session tries again. If this fails too, they show.
                let _ = deletions.replace(all);
                return Err(error);
            }
        }
        Ok(summary)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake::{DAY, Fake};
    use std::fs::File;

    /// A maildrop, its file of deletions, and a day for both.
    struct Site {
        mail: Fake,
        file: File,
    }

    impl Site {
        fn new(messages: &[&'static str]) -> Self {
            Site {
                mail: Fake::new(messages),
                file: tempfile::tempfile().unwrap(),
            }
        }

        /// A session on a day, where messages are kept for seven days.
        fn on_day(&self, day: u64) -> Box<Graced> {
            self.kept(7, day)
        }

        fn kept(&self, days: u64, day: u64) -> Box<Graced> {
            let grace = Grace {
                deletions: DatedIds::read(self.file.try_clone().unwrap()),
                time: Duration::from_secs(days * DAY),
            };
            Box::new(Graced::at(Box::new(self.mail.clone()), grace, day * DAY))
        }

        fn there(&self) -> Vec<&'static str> {
            self.mail.there()
        }
    }

    /// What a client sees.
    fn seen(maildrop: &mut Graced) -> Vec<String> {
        (0..maildrop.count())
            .map(|index| {
                let mut text = [0; 80];
                let octets = maildrop.read(index, 0, &mut text).unwrap();
                let text = String::from_utf8(text[..octets].to_vec()).unwrap();
                assert_eq!(maildrop.octets(index), Some(octets as u64));
                assert_eq!(maildrop.unique_id(index).unwrap().to_string(), text);
                text
            })
            .collect()
    }

    fn none(_: u32) -> bool {
        false
    }

    #[test]
    fn what_is_deleted_is_hidden_at_once_and_removed_after_its_time() {
        let site = Site::new(&["one", "three", "seven", "eleven"]);
        let summary = site.on_day(10).update(&|index| index % 2 == 0).unwrap();
        let expected = UpdateSummary {
            removed: 2,
            octets: 8,
            ..UpdateSummary::default()
        };
        assert_eq!(summary, expected);
        assert_eq!(site.there(), ["one", "three", "seven", "eleven"]);
        let mut session = site.on_day(11);
        assert_eq!(seen(&mut session), ["three", "eleven"]);
        assert_eq!(session.unique_id(2), None);
        assert!(!session.needs_update());
        assert_eq!(session.update(&|index| index == 1).unwrap().removed, 1);
        let mut session = site.on_day(17);
        assert!(session.needs_update());
        assert_eq!(seen(&mut session), ["three"]);
        let summary = session.update(&none).unwrap();
        assert_eq!((summary.removed, summary.expired), (0, 2));
        assert_eq!(site.there(), ["three", "eleven"]);
        assert_eq!(seen(&mut site.on_day(17)), ["three"]);
    }

    #[test]
    fn a_session_that_ends_without_update_hides_and_removes_nothing() {
        let site = Site::new(&["one", "three"]);
        drop(site.on_day(1));
        assert_eq!(seen(&mut site.on_day(1)), ["one", "three"]);
        site.on_day(1).update(&|_| true).unwrap();
        drop(site.on_day(100));
        assert_eq!(site.there(), ["one", "three"]);
    }

    #[test]
    fn a_lost_list_shows_mail_again_and_removes_none() {
        let site = Site::new(&["one", "three"]);
        site.on_day(1).update(&|_| true).unwrap();
        site.file.set_len(20).unwrap();
        let mut session = site.on_day(100);
        assert_eq!(seen(&mut session), ["one", "three"]);
        assert_eq!(session.update(&none).unwrap(), UpdateSummary::default());
        assert_eq!(site.there(), ["one", "three"]);
    }

    #[test]
    fn mail_that_comes_by_the_id_of_a_message_that_has_gone_is_shown() {
        let site = Site::new(&["one", "three"]);
        site.on_day(1).update(&|index| index == 0).unwrap();
        site.mail.set(&["three"]);
        let session = site.on_day(2);
        assert!(session.needs_update());
        session.update(&none).unwrap();
        site.mail.set(&["three", "one"]);
        assert_eq!(seen(&mut site.on_day(100)), ["three", "one"]);
        // The same of one that was removed in its time.
        site.on_day(100).update(&|index| index == 1).unwrap();
        site.on_day(200).update(&none).unwrap();
        assert_eq!(site.there(), ["three"]);
        site.mail.set(&["three", "one"]);
        assert_eq!(seen(&mut site.on_day(200)), ["three", "one"]);
    }

    #[test]
    fn what_cannot_be_removed_in_its_time_stays_hidden_and_is_removed_later() {
        let site = Site::new(&["one", "three", "seven"]);
        site.on_day(1).update(&|index| index == 0).unwrap();
        site.mail.fail(true);
        let session = site.on_day(8);
        assert!(matches!(
            session.update(&|index| index == 0),
            Err(UpdateError::Busy)
        ));
        assert_eq!(site.there(), ["one", "three", "seven"]);
        site.mail.fail(false);
        let mut session = site.on_day(9);
        assert_eq!(seen(&mut session), ["seven"]);
        assert_eq!(session.update(&none).unwrap().expired, 1);
        assert_eq!(site.there(), ["three", "seven"]);
    }

    #[test]
    fn with_the_policy_switched_off_what_was_deleted_goes_with_the_next_update() {
        let site = Site::new(&["one", "three", "seven"]);
        site.on_day(1).update(&|index| index == 0).unwrap();
        let session = site.kept(0, 2);
        assert!(session.needs_update());
        let summary = session.update(&|index| index == 0).unwrap();
        assert_eq!((summary.removed, summary.expired), (1, 1));
        assert_eq!(site.there(), ["seven"]);
        assert!(!site.kept(0, 2).needs_update());
    }
}
