//! UPDATE of a Maildir: each deleted message's file is removed, wherever it has been renamed to.
//!
//! There is nothing to recover from: at any instant each message is there, or was asked to be deleted.

use std::io;

use super::finder::Finder;
use super::folders::{Folders, Found};
use super::name::Folder;
use super::{Entry, Listing};
use crate::{UpdateError, UpdateSummary};

/// Removes messages and makes that durable.
pub(super) fn remove(
    folders: &Folders,
    listing: &Listing,
    deleted: &dyn Fn(u32) -> bool,
) -> Result<UpdateSummary, UpdateError> {
    let mut finder = Finder::new();
    let mut summary = UpdateSummary::default();
    let mut left = 0_u32;
    let mut first_error = None;
    for (index, entry) in (0..).zip(&listing.entries) {
        if !deleted(index) {
            continue;
        }
        match remove_one(folders, &mut finder, listing, entry) {
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
        None => Ok(summary),
        Some(error) => Err(UpdateError::Partial {
            removed: summary.removed,
            left,
            error,
        }),
    }
}

/// Removes a message, or finds that somebody else has: gone by the name it was listed with, and by its base.
fn remove_one(
    folders: &Folders,
    finder: &mut Finder,
    listing: &Listing,
    entry: &Entry,
) -> io::Result<()> {
    let remove = |folder: Folder, name: &[u8]| match folders.look(folder, name)? {
        Some(Found::Message(_, facts)) if facts == entry.facts => {
            Ok(folders.unlink(folder, name)?.then_some(()))
        }
        None => Ok(None),
        // Somebody put other content in its place, which the client has not seen.
        Some(_) => Err(io::ErrorKind::InvalidData.into()),
    };
    let name = entry.name;
    if remove(name.folder, listing.arena.name(name))?.is_none() {
        finder.find(folders, listing.arena.base(name), remove)?;
    }
    Ok(())
}
