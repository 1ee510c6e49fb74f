//! A maildrop in memory, for the tests of what stands before others.

use std::cell::RefCell;
use std::io;
use std::rc::Rc;

use crate::{CheckError, Maildrop, UniqueId, UpdateError, UpdateSummary};

/// Seconds.
pub(crate) const DAY: u64 = 24 * 60 * 60;

/// Its messages are their ids. Each was delivered on the day of its length, except for `undated`.
#[derive(Clone, Default)]
pub(crate) struct Fake {
    messages: Rc<RefCell<Vec<&'static str>>>,
    fails: Rc<RefCell<bool>>,
}

impl Fake {
    pub(crate) fn new(messages: &[&'static str]) -> Self {
        let fake = Self::default();
        fake.set(messages);
        fake
    }

    /// What another program makes of it.
    pub(crate) fn set(&self, messages: &[&'static str]) {
        *self.messages.borrow_mut() = messages.to_vec();
    }

    pub(crate) fn there(&self) -> Vec<&'static str> {
        self.messages.borrow().clone()
    }

    /// From now on UPDATE fails, or no more.
    pub(crate) fn fail(&self, fails: bool) {
        *self.fails.borrow_mut() = fails;
    }

    fn get(&self, index: u32) -> Option<&'static str> {
        self.messages.borrow().get(index as usize).copied()
    }
}

impl Maildrop for Fake {
    fn count(&self) -> u32 {
        self.messages.borrow().len() as u32
    }

    fn octets(&self, index: u32) -> Option<u64> {
        self.get(index).map(|text| text.len() as u64)
    }

    fn unique_id(&self, index: u32) -> Option<UniqueId> {
        UniqueId::new(self.get(index)?.as_bytes())
    }

    fn delivered(&self, index: u32) -> Option<u64> {
        let text = self.get(index).filter(|&text| text != "undated")?;
        Some(text.len() as u64 * DAY)
    }

    fn check(&mut self) -> Result<(), CheckError> {
        Ok(())
    }

    fn read(&mut self, index: u32, _: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let text = self.get(index).ok_or(io::ErrorKind::NotFound)?;
        buffer[..text.len()].copy_from_slice(text.as_bytes());
        Ok(text.len())
    }

    fn update(
        self: Box<Self>,
        deleted: &dyn Fn(u32) -> bool,
    ) -> Result<UpdateSummary, UpdateError> {
        if *self.fails.borrow() {
            return Err(UpdateError::Busy);
        }
        let before = self.there();
        let left = (0..).zip(&before).filter(|&(index, _)| !deleted(index));
        let left: Vec<_> = left.map(|(_, text)| *text).collect();
        let removed = (before.len() - left.len()) as u32;
        self.set(&left);
        Ok(UpdateSummary {
            removed,
            ..UpdateSummary::default()
        })
    }
}
