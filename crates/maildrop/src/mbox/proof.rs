//! Whether the messages that are to be removed are still what they were when they were shown: the last look before they
//! are gone.
//!
//! What only an index knows is not removed on its word alone. To the client that deletes it, a message is no more than its
//! place and its unique-id; both show in its header. To read all of a mailbox that is about to be emptied takes as long as
//! a login that knows nothing of it. They are looked at when they are marked as deleted, while nothing is locked, and in UPDATE
//! where that has not been done or has proved nothing.

use std::fs::File;
use std::io;

use super::digest::HeaderDigest;
use super::scan::{BORDER, BORDER_BEFORE, FROM, is_border, read_at};
use super::table::{Message, Table};

/// Octets read at once: the border, the `From ` line and the header of most messages, and little more.
const BLOCK: usize = 2048;

/// Whether each message that `deleted` names is in its place. Of those that `is_unproven` names that means: one begins there and
/// the next one where it did, and the header makes the unique-id that was shown; of the others, which this session has
/// scanned or looked at in the same file, that one begins there.
///
/// `end` is where the last message of the table ends, which is not looked at: the file ends there, or all of it has been
/// scanned. Calls `refresh` for each message.
pub(super) fn are_in_place(
    file: &File,
    table: &Table,
    end: u64,
    is_unproven: impl Fn(u32) -> bool,
    deleted: &dyn Fn(u32) -> bool,
    refresh: impl Fn(),
) -> io::Result<bool> {
    for (index, message) in table.iter().filter(|&(index, _)| deleted(index)) {
        refresh();
        let next = index.saturating_add(1);
        let is_in_place = match is_unproven(index) {
            false => is_begin(file, message)?,
            true if is_unproven(next) && deleted(next) => has_header(file, table, end, index)?,
            true => is_in_place(file, table, end, index)?,
        };
        if !is_in_place {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The same of one message that is unproven.
pub(super) fn is_in_place(file: &File, table: &Table, end: u64, index: u32) -> io::Result<bool> {
    let is_followed = match table.get(index.saturating_add(1)) {
        Some(following) => is_border(file, following.from)?,
        None => true,
    };
    Ok(is_followed && has_header(file, table, end, index)?)
}

fn is_begin(file: &File, message: &Message) -> io::Result<bool> {
    let mut from = [0; FROM.len()];
    let read = read_at(file, &mut from, message.from)?;
    Ok(read == FROM.len() && from == FROM)
}

/// Whether a message begins in its place whose header, which ends before the next one begins, makes its unique-id. `end` is where
/// the last message of the table ends.
fn has_header(file: &File, table: &Table, end: u64, index: u32) -> io::Result<bool> {
    let Some(message) = table.get(index) else {
        return Ok(false);
    };
    let following = table.get(index.saturating_add(1));
    let end = following.map_or(end, |following| following.from);
    let block = &mut [0; BLOCK][..];
    let before = message.from.min(BORDER_BEFORE as u64);
    let border = match before {
        0 => FROM,
        _ => BORDER,
    };
    let begin = message.from.saturating_sub(before);
    let mut read = read_up_to(file, block, begin, end)?;
    if !read.starts_with(border) {
        return Ok(false);
    }
    // The end of the `From ` line, and the header behind it. A file may end within that line: nothing is served then.
    let line = message.start.saturating_sub(begin);
    let mut at = message.start.saturating_sub(1);
    let within = usize::try_from(line.saturating_sub(1)).unwrap_or(usize::MAX);
    if message.start >= end {
        return Ok(HeaderDigest::new().finish() == message.digest);
    }
    read = match read.get(within..) {
        Some(rest) if !rest.is_empty() => rest,
        _ => read_up_to(file, block, at, end)?,
    };
    let Some((b'\n', header)) = read.split_first() else {
        return Ok(false);
    };
    let mut digest = HeaderDigest::new();
    digest.feed(header);
    at = at.saturating_add(read.len() as u64);
    while at < end && !digest.has_all() {
        let more = read_up_to(file, block, at, end)?;
        if more.is_empty() {
            return Ok(false);
        }
        digest.feed(more);
        at = at.saturating_add(more.len() as u64);
    }
    Ok(digest.finish() == message.digest)
}

/// One read from `at` on, at most up to `end`.
fn read_up_to<'a>(file: &File, block: &'a mut [u8], at: u64, end: u64) -> io::Result<&'a [u8]> {
    let left = usize::try_from(end.saturating_sub(at)).unwrap_or(usize::MAX);
    let length = block.len().min(left);
    let room = block.get_mut(..length).unwrap_or_default();
    let read = read_at(file, room, at)?;
    Ok(room.get(..read).unwrap_or_default())
}
