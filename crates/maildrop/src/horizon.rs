//! A maildrop of which sessions see a part: not what is older than a given time, not what has been retrieved. The rest stays
//! where it is, for other programs; nothing is removed because it is hidden.
//!
//! A message is hidden for its age while it is too old, and nothing is remembered of that. What was retrieved is remembered by
//! its unique-id; one that has vanished meanwhile is forgotten, so that nothing that comes later is taken for it.

use std::collections::BTreeMap;
use std::io;
use std::time::{Duration, SystemTime};

use crate::{CheckError, DatedIds, Drift, Maildrop, UniqueId, UpdateError, UpdateSummary};

/// What sessions see of a maildrop; by default, all.
#[derive(Debug, Default)]
pub struct Horizon {
    /// Messages delivered longer ago than this are hidden; `None`: however old they are, they are not.
    pub older: Option<Duration>,
    /// What was retrieved, and when; `None` if nothing is known of that.
    pub acknowledged: Option<DatedIds>,
    /// What was retrieved is hidden, and what is retrieved will be. Otherwise only those are forgotten that have vanished.
    pub hide_acknowledged: bool,
}

impl Horizon {
    /// Whether sessions see all there is, and nothing is to be remembered.
    pub(crate) fn is_none(&self) -> bool {
        self.older.is_none() && self.acknowledged.is_none()
    }
}

/// The part of a maildrop within the horizon.
pub(crate) struct Within {
    whole: Box<dyn Maildrop>,
    /// For each message its index in the whole.
    shown: Vec<u32>,
    horizon: Horizon,
    /// Of the messages that the horizon's list names, those that are there.
    known: BTreeMap<UniqueId, u64>,
    /// What this session has retrieved, by its index in the whole.
    retrieved: Vec<u32>,
    /// Seconds since 1970.
    now: u64,
}

impl Within {
    pub(crate) fn new(whole: Box<dyn Maildrop>, horizon: Horizon) -> Self {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        Self::at(whole, horizon, now.unwrap_or_default().as_secs())
    }

    fn at(whole: Box<dyn Maildrop>, horizon: Horizon, now: u64) -> Self {
        let (mut shown, mut known) = (Vec::new(), BTreeMap::new());
        let list = horizon.acknowledged.as_ref().map(DatedIds::ids);
        let first_seen = horizon
            .older
            .map(|time| now.saturating_sub(time.as_secs()))
            .unwrap_or_default();
        for index in 0..whole.count() {
            let mut hidden = false;
            if let Some(list) = list.filter(|list| !list.is_empty())
                && let Some(id) = whole.unique_id(index)
                && let Some(&time) = list.get(&id)
            {
                known.insert(id, time);
                hidden = horizon.hide_acknowledged;
            }
            // One of which it is not known when it was delivered is shown.
            hidden |= horizon.older.is_some()
                && whole.delivered(index).is_some_and(|time| time < first_seen);
            if !hidden {
                shown.push(index);
            }
        }
        Within {
            whole,
            shown,
            horizon,
            known,
            retrieved: Vec::new(),
            now,
        }
    }

    fn index(&self, index: u32) -> Option<u32> {
        self.shown.get(index as usize).copied()
    }

    /// Remembers what was retrieved and is not deleted, and forgets what has vanished; returns how many were retrieved.
    fn remember(&mut self, deleted: &[bool]) -> io::Result<u32> {
        let Some(list) = &mut self.horizon.acknowledged else {
            return Ok(0);
        };
        let mut ids = self.known.clone();
        let mut new = 0_u32;
        for &index in &self.retrieved {
            if deleted.get(index as usize) != Some(&true)
                && let Some(id) = self.whole.unique_id(index)
            {
                ids.insert(id, self.now);
                new = new.saturating_add(1);
            }
        }
        list.replace(ids)?;
        Ok(new)
    }
}

impl Maildrop for Within {
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

    fn acknowledge(&mut self, retrieved: &dyn Fn(u32) -> bool) {
        if self.horizon.hide_acknowledged && self.horizon.acknowledged.is_some() {
            let numbered = (0..).zip(&self.shown);
            let retrieved = numbered.filter(|&(index, _)| retrieved(index));
            self.retrieved = retrieved.map(|(_, &inner)| inner).collect();
        }
    }

    fn marked(&mut self, index: u32) {
        if let Some(index) = self.index(index) {
            self.whole.marked(index);
        }
    }

    fn needs_update(&self) -> bool {
        let remembered = self.horizon.acknowledged.as_ref();
        self.whole.needs_update()
            || !self.retrieved.is_empty()
            || remembered.is_some_and(|list| list.ids().len() != self.known.len())
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
        // Another program's changes end UPDATE as they do where nothing is hidden.
        self.whole.check()?;
        let mut of_whole = vec![false; self.whole.count() as usize];
        let mut any = false;
        for (index, &inner) in (0..).zip(&self.shown) {
            if let Some(mark) = of_whole.get_mut(inner as usize) {
                *mark = deleted(index);
                any |= *mark;
            }
        }
        // First, since UPDATE ends the maildrop. Where it fails the messages show once more, which is no reason not to remove
        // what was deleted: on a full disk that may be what helps.
        let remembered = self.remember(&of_whole);
        let mut summary = UpdateSummary::default();
        if any || self.whole.needs_update() {
            summary = self
                .whole
                .update(&|index| of_whole.get(index as usize) == Some(&true))?;
        }
        match remembered {
            Ok(new) => summary.acknowledged = new,
            Err(_) => summary.unremembered = true,
        }
        Ok(summary)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake::{DAY, Fake};
    use crate::{Grace, grace::Graced};
    use std::fs::File;

    /// A maildrop, and its lists of what was retrieved and of what was deleted.
    struct Site {
        mail: Fake,
        retrieved: File,
        deleted: File,
    }

    impl Site {
        fn new(messages: &[&'static str]) -> Self {
            Site {
                mail: Fake::new(messages),
                retrieved: tempfile::tempfile().unwrap(),
                deleted: tempfile::tempfile().unwrap(),
            }
        }

        fn horizon(&self, older: Option<u64>, hide_acknowledged: bool) -> Horizon {
            Horizon {
                older: older.map(|days| Duration::from_secs(days * DAY)),
                acknowledged: Some(DatedIds::read(self.retrieved.try_clone().unwrap())),
                hide_acknowledged,
            }
        }

        /// A session on a day, where what was retrieved is hidden.
        fn on_day(&self, day: u64) -> Box<Within> {
            let horizon = self.horizon(None, true);
            Box::new(Within::at(Box::new(self.mail.clone()), horizon, day * DAY))
        }

        /// The same, where messages that are deleted are kept for seven days.
        fn graced_on_day(&self, day: u64) -> Box<Within> {
            let grace = Grace {
                deletions: DatedIds::read(self.deleted.try_clone().unwrap()),
                time: Duration::from_secs(7 * DAY),
            };
            let whole = Graced::at(Box::new(self.mail.clone()), grace, day * DAY);
            let horizon = self.horizon(None, true);
            Box::new(Within::at(Box::new(whole), horizon, day * DAY))
        }
    }

    fn seen(maildrop: &Within) -> Vec<String> {
        let ids = (0..maildrop.count()).map(|index| maildrop.unique_id(index));
        ids.map(|id| id.unwrap().to_string()).collect()
    }

    /// Retrieves some messages, deletes others, and gives QUIT.
    fn quit(
        mut maildrop: Box<Within>,
        retrieved: &[u32],
        deleted: &[u32],
    ) -> Result<UpdateSummary, UpdateError> {
        maildrop.acknowledge(&|index| retrieved.contains(&index));
        maildrop.update(&|index| deleted.contains(&index))
    }

    #[test]
    fn what_is_older_is_hidden_and_what_has_no_date_is_shown() {
        // They are delivered on the days of their lengths; one on none.
        let site = Site::new(&["one", "three", "seven11", "undated"]);
        let session = |day| {
            let horizon = site.horizon(Some(5), false);
            Box::new(Within::at(Box::new(site.mail.clone()), horizon, day * DAY))
        };
        assert_eq!(seen(&session(3)), ["one", "three", "seven11", "undated"]);
        assert_eq!(seen(&session(8)), ["one", "three", "seven11", "undated"]);
        let mut later = session(9);
        assert_eq!(seen(&later), ["three", "seven11", "undated"]);
        assert_eq!(later.octets(0), Some(5));
        let mut text = [0; 5];
        assert_eq!(later.read(0, 0, &mut text).unwrap(), 5);
        assert_eq!(&text, b"three");
        assert_eq!((later.octets(3), later.unique_id(3)), (None, None));
        assert!(later.read(3, 0, &mut text).is_err());
        assert!(!later.needs_update());
        assert_eq!(seen(&session(100)), ["undated"]);
        // What is deleted is what was seen by the number.
        assert_eq!(quit(later, &[], &[0]).unwrap().removed, 1);
        assert_eq!(site.mail.there(), ["one", "seven11", "undated"]);
    }

    #[test]
    fn what_was_retrieved_is_hidden_after_quit_and_stays_where_it_is() {
        let site = Site::new(&["one", "three", "seven", "eleven"]);
        let summary = quit(site.on_day(1), &[0, 2], &[]).unwrap();
        assert_eq!((summary.acknowledged, summary.removed), (2, 0));
        assert_eq!(site.mail.there(), ["one", "three", "seven", "eleven"]);
        let session = site.on_day(2);
        assert_eq!(seen(&session), ["three", "eleven"]);
        assert!(!session.needs_update());
        // One that is deleted as well is removed, and not remembered.
        let summary = quit(session, &[0, 1], &[1]).unwrap();
        assert_eq!((summary.acknowledged, summary.removed), (1, 1));
        assert_eq!(site.mail.there(), ["one", "three", "seven"]);
        assert_eq!(seen(&site.on_day(3)), [""; 0]);
        let list = DatedIds::read(site.retrieved.try_clone().unwrap());
        let times: Vec<_> = list.ids().values().map(|time| time / DAY).collect();
        assert_eq!(times, [1, 1, 2]);
    }

    #[test]
    fn a_session_without_quit_hides_nothing() {
        let site = Site::new(&["one", "three"]);
        let mut session = site.on_day(1);
        session.acknowledge(&|_| true);
        assert!(session.needs_update());
        drop(session);
        assert_eq!(seen(&site.on_day(1)), ["one", "three"]);
    }

    #[test]
    fn mail_that_comes_by_the_id_of_a_message_that_has_gone_is_shown() {
        let site = Site::new(&["one", "three"]);
        quit(site.on_day(1), &[0, 1], &[]).unwrap();
        site.mail.set(&["three"]);
        let session = site.on_day(2);
        assert!(session.needs_update());
        quit(session, &[], &[]).unwrap();
        site.mail.set(&["three", "one"]);
        assert_eq!(seen(&site.on_day(3)), ["one"]);
    }

    #[test]
    fn switched_off_all_show_and_only_what_has_vanished_is_forgotten() {
        let site = Site::new(&["one", "three", "seven"]);
        quit(site.on_day(1), &[0, 1], &[]).unwrap();
        let off = || {
            let horizon = site.horizon(None, false);
            Box::new(Within::at(Box::new(site.mail.clone()), horizon, 2 * DAY))
        };
        let session = off();
        assert_eq!(seen(&session), ["one", "three", "seven"]);
        assert_eq!(quit(session, &[2], &[0]).unwrap().acknowledged, 0);
        quit(off(), &[], &[]).unwrap();
        site.mail.set(&["one", "three", "seven"]);
        assert_eq!(seen(&site.on_day(3)), ["one", "seven"]);
    }

    #[test]
    fn with_a_grace_both_hide_and_only_the_deleted_are_removed() {
        let site = Site::new(&["one", "three", "seven", "eleven"]);
        let summary = quit(site.graced_on_day(1), &[0, 1, 2], &[1]).unwrap();
        assert_eq!((summary.acknowledged, summary.removed), (2, 1));
        let session = site.graced_on_day(2);
        assert_eq!(seen(&session), ["eleven"]);
        assert!(!session.needs_update());
        let session = site.graced_on_day(8);
        assert!(session.needs_update());
        let summary = quit(session, &[], &[]).unwrap();
        assert_eq!((summary.removed, summary.expired), (0, 1));
        assert_eq!(site.mail.there(), ["one", "seven", "eleven"]);
        assert_eq!(seen(&site.graced_on_day(9)), ["eleven"]);
    }

    #[test]
    fn what_cannot_be_remembered_is_told_and_keeps_nothing_from_being_removed() {
        let site = Site::new(&["one", "three"]);
        let path = format!(
            "/proc/self/fd/{}",
            std::os::fd::AsRawFd::as_raw_fd(&site.retrieved)
        );
        let unwritable = File::open(path).unwrap();
        let horizon = Horizon {
            acknowledged: Some(DatedIds::read(unwritable)),
            ..site.horizon(None, true)
        };
        let session = Box::new(Within::at(Box::new(site.mail.clone()), horizon, DAY));
        let summary = quit(session, &[0], &[1]).unwrap();
        assert_eq!((summary.removed, summary.acknowledged), (1, 0));
        assert!(summary.unremembered);
        assert_eq!(seen(&site.on_day(1)), ["one"]);
    }

    #[test]
    fn a_maildrop_that_cannot_be_updated_says_so() {
        let site = Site::new(&["one", "three"]);
        site.mail.fail(true);
        let result = quit(site.on_day(1), &[0], &[1]);
        assert!(matches!(result, Err(UpdateError::Busy)));
        site.mail.fail(false);
        // What was retrieved was; what was to be deleted shows again.
        assert_eq!(seen(&site.on_day(1)), ["three"]);
    }
}
