//! UPDATE of a Maildir: each deleted message's file is removed, wherever it has been renamed to.
//!
//! There is nothing to recover from: at any instant each message is there, or was asked to be deleted.

use std::io;

use super::finder::Finder;
use super::folders::{Folders, Found};
use super::name::Folder;
use super::{Entry, Listing};
use crate::remains::Remains;
use crate::{UpdateError, UpdateSummary};

/// Removes messages and makes that durable.
pub(super) fn remove(
    folders: &Folders,
    listing: &Listing,
    deleted: &dyn Fn(u32) -> bool,
) -> Result<UpdateSummary, UpdateError> {
    let mut remover = Remover::new(folders);
    let mut summary = UpdateSummary::default();
    let mut left = 0_u32;
    let mut first_error = None;
    for (index, entry) in (0..).zip(&listing.entries) {
        if !deleted(index) {
            continue;
        }
        match remover.remove(listing, entry) {
            Ok(()) => {
                summary.removed = summary.removed.saturating_add(1);
                summary.octets = summary.octets.saturating_add(entry.octets);
            }
            Err(error) => {
                left = left.saturating_add(1);
                first_error = first_error.or(Some(error));
            }
        }
    }
    let synced = if summary.removed > 0 {
        folders.sync()
    } else {
        Ok(())
    };
    match first_error.or(synced.err()) {
        None => {
            summary.remains = remover.remains;
            Ok(summary)
        }
        Some(error) => Err(UpdateError::Partial {
            removed: summary.removed,
            left,
            error,
        }),
    }
}

/// What removes messages one after the other.
struct Remover<'a> {
    folders: &'a Folders,
    finder: Finder,
    remains: Remains,
    can_remain: bool,
}

impl<'a> Remover<'a> {
    fn new(folders: &'a Folders) -> Self {
        let mut descriptors = folders.descriptors().into_iter();
        Remover {
            folders,
            finder: Finder::new(),
            remains: Remains::default(),
            can_remain: descriptors.all(Remains::can_be_of),
        }
    }

    /// Removes a message, or finds that somebody else has: gone by the name it was listed with, and by its base.
    fn remove(&mut self, listing: &Listing, entry: &Entry) -> io::Result<()> {
        let Remover {
            folders,
            finder,
            remains,
            can_remain,
        } = self;
        let mut remove = |folder: Folder, name: &[u8]| {
            let found = match *can_remain && !remains.is_full() {
                true => folders.hold(folder, name)?,
                false => folders.look(folder, name)?.map(Found::without_content),
            };
            match found {
                Some(Found::Message(file, facts)) if facts == entry.facts => {
                    let is_removed = folders.unlink(folder, name)?;
                    remains.extend(file);
                    Ok(is_removed.then_some(()))
                }
                None => Ok(None),
                // Somebody put other content in its place, which the client has not seen.
                Some(_) => Err(io::ErrorKind::InvalidData.into()),
            }
        };
        let name = entry.name;
        if remove(name.folder, listing.arena.name(name))?.is_none() {
            finder.find(folders, listing.arena.base(name), remove)?;
        }
        Ok(())
    }
}
