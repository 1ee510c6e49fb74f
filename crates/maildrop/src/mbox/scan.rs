//! Cutting an mbox into messages, at the speed of memory and in constant space.
//!
//! A message begins at a line that begins with `From ` and is the first of the file or follows an empty line (LF alone, as
//! in the original: delivery agents that quote `From ` take a line with a CR in it for text). So behind the first one,
//! messages begin exactly where `LF LF "From "` is found, and nothing else has to be taken line by line.

use std::fs::File;
use std::io;
use std::ops::{ControlFlow, Range};
use std::os::unix::fs::FileExt;

use memchr::memchr;
use memchr::memmem::Finder;
use page_buffer::{PageBuffer, up_to_a_page};

use super::count::Count;
use super::digest::HeaderDigest;
use super::table::Message;

/// Octets read at once: within the second-level cache, so that what the kernel copied there is searched there. Measured
/// from 32 KiB to 512 KiB there is little between them; 1 MiB is slower.
pub(crate) const BLOCK: usize = 128 * 1024;

/// What a message begins with.
pub(crate) const FROM: &[u8] = b"From ";

/// Where one message ends and the next begins: a line's end, an empty line, and the beginning of the next line.
pub(crate) const BORDER: &[u8] = b"\n\nFrom ";

/// Of [`BORDER`], what belongs to the message before: the two LFs.
pub(crate) const BORDER_BEFORE: usize = 2;

/// Why a scan did not reach the end.
#[derive(Debug)]
pub(crate) enum ScanError {
    /// The file does not begin with `From `.
    NotMbox,
    /// The file ends before the size it had.
    CutShort,
    /// It could not be read.
    Io(io::Error),
}

/// Hands each message from the offsets `range` of `file` to `sink`, until that breaks. A message begins at the start of
/// the range: where it is not the file's, [`is_border`] has said so.
///
/// `block` octets are read at once.
pub(crate) fn scan(
    file: &File,
    range: Range<u64>,
    block: usize,
    mut sink: impl FnMut(Message) -> ControlFlow<()>,
) -> Result<(), ScanError> {
    if range.is_empty() {
        return Ok(());
    }
    let size = range.end;
    let border = Finder::new(BORDER);
    let mut window = Window::new(file, range, block);
    while window.octets().len() < FROM.len() && window.advance(0)? {}
    if !window.octets().starts_with(FROM) {
        return Err(ScanError::NotMbox);
    }

    let mut begin = 0; // of the message, in the window
    loop {
        // 1. Behind the From line.
        let from = window.offset(begin);
        let line_end = loop {
            if let Some(length) = memchr(b'\n', window.from(begin)) {
                break begin.saturating_add(length);
            }
            let all = window.octets().len();
            begin = 0;
            if !window.advance(all)? {
                break 0; // at the end of the file: the message is empty
            }
        };
        let mut message = Draft::new(from, window.offset(line_end.saturating_add(1)).min(size));

        // 2. To the border. Its first LF may be the From line's.
        let mut search = line_end;
        let mut fed = line_end.saturating_add(1);
        let found = loop {
            if let Some(at) = border.find(window.from(search)) {
                break Some(search.saturating_add(at).saturating_add(BORDER_BEFORE));
            }
            let keep = window
                .octets()
                .len()
                .saturating_sub(BORDER.len().saturating_sub(1))
                .max(search);
            message.feed(window.between(fed, keep));
            fed = fed.max(keep).saturating_sub(keep);
            search = 0;
            if !window.advance(keep)? {
                break None;
            }
        };
        match found {
            Some(next) => {
                message.feed(window.between(fed, next));
                if sink(message.finish()).is_break() {
                    return Ok(());
                }
                begin = next;
            }
            None => {
                message.feed(window.from(fed));
                let _ = sink(message.finish());
                return Ok(());
            }
        }
    }
}

/// A message of which not all has been seen.
struct Draft {
    from: u64,
    start: u64,
    count: Count,
    digest: HeaderDigest,
}

impl Draft {
    fn new(from: u64, start: u64) -> Self {
        Draft {
            from,
            start,
            count: Count::default(),
            digest: HeaderDigest::new(),
        }
    }

    fn feed(&mut self, octets: &[u8]) {
        self.count.feed(octets);
        self.digest.feed(octets);
    }

    fn finish(self) -> Message {
        let (stored, octets) = self.count.finish();
        Message {
            from: self.from,
            start: self.start,
            stored,
            octets,
            digest: self.digest.finish(),
            copy: 1,
        }
    }
}

/// Octets at the beginning of a window's buffer for what is kept of a block. The next one is read behind them, where a line
/// of the cache begins, and not a few octets behind the beginning of a page; see [`PageBuffer`].
const MAX_KEPT: usize = 64;
const _: () = assert!(BORDER.len() <= MAX_KEPT);

/// The part of the file in memory: what was kept of the last block, and the block read behind it.
struct Window<'a> {
    file: &'a File,
    /// Offset of the end of what is looked at.
    size: u64,
    /// Offset of the window's first octet.
    offset: u64,
    buffer: PageBuffer,
    /// Where in the buffer the window begins, and where it ends.
    start: usize,
    end: usize,
    block: usize,
}

impl<'a> Window<'a> {
    fn new(file: &'a File, range: Range<u64>, block: usize) -> Self {
        Window {
            file,
            size: range.end,
            offset: range.start,
            buffer: PageBuffer::new(MAX_KEPT.saturating_add(block)),
            start: MAX_KEPT,
            end: MAX_KEPT,
            block,
        }
    }

    fn octets(&self) -> &[u8] {
        self.buffer.get(self.start..self.end).unwrap_or_default()
    }

    fn from(&self, start: usize) -> &[u8] {
        self.octets().get(start..).unwrap_or_default()
    }

    /// Empty if `start` is not before `end`.
    fn between(&self, start: usize, end: usize) -> &[u8] {
        self.octets().get(start..end).unwrap_or_default()
    }

    fn offset(&self, at: usize) -> u64 {
        self.offset.saturating_add(at as u64)
    }

    /// Keeps what is from `keep` on (less than a border) and reads a block behind it; `false` at the end of the file, where
    /// the window holds what was kept.
    fn advance(&mut self, keep: usize) -> Result<bool, ScanError> {
        self.offset = self.offset(keep);
        let kept = self.start.saturating_add(keep)..self.end;
        self.start = MAX_KEPT.saturating_sub(kept.len());
        self.end = MAX_KEPT;
        self.buffer.copy_within(kept, self.start);
        let position = self.offset(self.octets().len());
        let left = usize::try_from(self.size.saturating_sub(position)).unwrap_or(usize::MAX);
        if left == 0 {
            return Ok(false);
        }
        let length = up_to_a_page(position, self.block).min(left);
        let end = MAX_KEPT.saturating_add(length);
        let room = self.buffer.get_mut(MAX_KEPT..end).unwrap_or_default();
        let read = read_at(self.file, room, position).map_err(ScanError::Io)?;
        if read == 0 {
            return Err(ScanError::CutShort);
        }
        self.end = MAX_KEPT.saturating_add(read);
        Ok(true)
    }
}

/// Whether a message begins at `offset`, as one does at 0 and behind an empty line.
pub(crate) fn is_border(file: &File, offset: u64) -> io::Result<bool> {
    let mut found = [0; BORDER.len()];
    let before = offset.min(BORDER_BEFORE as u64);
    let expected = match before {
        0 => FROM,
        _ => BORDER,
    };
    let found = found.get_mut(..expected.len()).unwrap_or_default();
    match file.read_exact_at(found, offset.saturating_sub(before)) {
        Ok(()) => Ok(found == expected),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
    }
}

/// One read, repeated if a signal came in between.
pub(crate) fn read_at(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    loop {
        match file.read_at(buffer, offset) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

#[cfg(any(test, feature = "fuzz"))]
pub(crate) mod reference;
#[cfg(test)]
mod tests;
