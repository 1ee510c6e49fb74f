//! The maildrop of someone to whom no mail has come yet: a location where nothing exists.

use std::io;

use crate::{CheckError, Maildrop, UniqueId, UpdateError, UpdateSummary};

/// No messages, no files; and none are made.
pub(crate) struct Empty;

impl Maildrop for Empty {
    fn count(&self) -> u32 {
        0
    }

    fn octets(&self, _index: u32) -> Option<u64> {
        None
    }

    fn unique_id(&self, _index: u32) -> Option<UniqueId> {
        None
    }

    fn check(&mut self) -> Result<(), CheckError> {
        Ok(())
    }

    fn read(&mut self, _index: u32, _offset: u64, _buffer: &mut [u8]) -> io::Result<usize> {
        Err(io::ErrorKind::NotFound.into())
    }

    fn update(
        self: Box<Self>,
        _deleted: &dyn Fn(u32) -> bool,
    ) -> Result<UpdateSummary, UpdateError> {
        Ok(UpdateSummary::default())
    }
}
