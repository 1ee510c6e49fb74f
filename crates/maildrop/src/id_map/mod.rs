//! Unique-ids carried over from another server: a list for one maildrop that gives messages other ids than their own.
//!
//! A client knows what it has fetched by unique-ids alone (RFC 1939 section 7). If they change with the server, it fetches
//! everything again. So `popa3ctl` writes down, when a maildrop is taken over, which id each message had there; the list
//! stays for as long as the messages do. Mail that comes later has ids of our own.
//!
//! ```text
//! popa3d-ids 1
//! 0123456789abcdef 0000002a4e5d1f00
//! ```
//!
//! Each line is our own id of a message, a space, and the one to be shown. Own ids are those of `mbox/digest.rs` and
//! `maildir/ids.rs`; no two lines have the same, nor show the same. Lists that another server has left in a Maildir are
//! read by [`dovecot`] and [`courier`]; [`qmail`] has none.

pub mod courier;
pub mod dovecot;
pub mod qmail;

use std::fmt;
use std::fs::File;
use std::io::{self, Read};

use memchr::memchr;

use crate::UniqueId;
use crate::index::checksum::Checksum;

/// The first line.
const HEAD: &[u8] = b"popa3d-ids 1\n";

/// Octets of a list: for every message of the largest maildrop that anybody has (a million), two ids of the longest.
const MAX_OCTETS: u64 = 142_000_000;

/// The ids of one maildrop, by our own; empty for most.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IdMap {
    text: Vec<u8>,
    /// In the order of own ids.
    lines: Vec<Line>,
}

/// Where in the text a line's ids are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Line {
    start: u32,
    own: u8,
    shown: u8,
}

/// Why a list of ids cannot be used.
#[derive(Debug)]
#[non_exhaustive]
pub enum IdMapError {
    /// It could not be read.
    Io(io::Error),
    /// It is no such list, or one of a later version.
    Head,
    /// It is larger than any maildrop has use for.
    TooLarge,
    /// A line that is not of the form described at [`id_map`](self); holds its number, from 1.
    Line(usize),
    /// An id that two messages have, or that is shown for two.
    Repeated(UniqueId),
}

impl IdMap {
    /// Reads a list.
    ///
    /// # Errors
    /// It cannot be read, or is damaged: showing other ids instead would make clients fetch everything again.
    pub fn read(file: &mut File) -> Result<Self, IdMapError> {
        let mut text = Vec::new();
        let limit = MAX_OCTETS.saturating_add(1);
        let read = file.take(limit).read_to_end(&mut text);
        read.map_err(IdMapError::Io)?;
        match text.len() as u64 >= limit {
            true => Err(IdMapError::TooLarge),
            false => Self::parse(text),
        }
    }

    /// Parses a list; an empty one may lack its first line too.
    ///
    /// # Errors
    /// As [`IdMap::read`].
    pub fn parse(text: Vec<u8>) -> Result<Self, IdMapError> {
        if text.is_empty() {
            return Ok(IdMap::default());
        }
        if !text.starts_with(HEAD) {
            return Err(IdMapError::Head);
        }
        let mut lines = Vec::new();
        let mut start = HEAD.len();
        while let Some(rest) = text.get(start..).filter(|rest| !rest.is_empty()) {
            let number = lines.len().saturating_add(2);
            let wrong = || IdMapError::Line(number);
            let length = memchr(b'\n', rest).ok_or_else(wrong)?;
            let line = rest.get(..length).unwrap_or_default();
            let space = memchr(b' ', line).ok_or_else(wrong)?;
            let (own, shown) = line.split_at_checked(space).ok_or_else(wrong)?;
            let shown = shown.get(1..).unwrap_or_default();
            if UniqueId::new(own).is_none() || UniqueId::new(shown).is_none() {
                return Err(wrong());
            }
            let octets = |id: &[u8]| u8::try_from(id.len()).map_err(|_| wrong());
            lines.push(Line {
                start: u32::try_from(start).map_err(|_| IdMapError::TooLarge)?,
                own: octets(own)?,
                shown: octets(shown)?,
            });
            start = start.saturating_add(length).saturating_add(1);
        }
        sort(&text, &mut lines.clone(), Line::shown)?;
        sort(&text, &mut lines, Line::own)?;
        Ok(IdMap { text, lines })
    }

    /// Makes a list of pairs of our own id and the one to be shown.
    ///
    /// # Errors
    /// An id is repeated.
    pub fn from_pairs(
        pairs: impl IntoIterator<Item = (UniqueId, UniqueId)>,
    ) -> Result<Self, IdMapError> {
        let mut text = HEAD.to_vec();
        for (own, shown) in pairs {
            text.extend_from_slice(own.as_bytes());
            text.push(b' ');
            text.extend_from_slice(shown.as_bytes());
            text.push(b'\n');
        }
        Self::parse(text)
    }

    /// The pairs of our own id and the one shown, in the order of own ids.
    pub fn pairs(&self) -> impl Iterator<Item = (UniqueId, UniqueId)> {
        self.lines.iter().filter_map(|line| {
            Some((
                UniqueId::new(self.own(line))?,
                UniqueId::new(self.shown(line))?,
            ))
        })
    }

    /// The list as a file has it, in the order of own ids.
    pub fn to_text(&self) -> Vec<u8> {
        let mut text = HEAD.to_vec();
        for line in &self.lines {
            text.extend_from_slice(self.own(line));
            text.push(b' ');
            text.extend_from_slice(self.shown(line));
            text.push(b'\n');
        }
        text
    }

    /// Whether every message has its own id.
    pub fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    /// The id to be shown for the message with this id of ours.
    pub fn shown_for(&self, own: UniqueId) -> UniqueId {
        self.find(own).unwrap_or(own)
    }

    fn find(&self, own: UniqueId) -> Option<UniqueId> {
        let found = self
            .lines
            .binary_search_by(|line| self.own(line).cmp(own.as_bytes()));
        let line = self.lines.get(found.ok()?)?;
        UniqueId::new(self.shown(line))
    }

    /// Tells lists apart; 0 for an empty one.
    pub(crate) fn fingerprint(&self) -> u32 {
        match self.is_empty() {
            true => 0,
            false => short(Checksum::of(&self.text)),
        }
    }

    /// Tells ids apart that a message is shown by; 0 if that is its own.
    pub(crate) fn mark(&self, own: Option<UniqueId>) -> u32 {
        match own.and_then(|own| self.find(own)) {
            Some(shown) => short(Checksum::of(shown.as_bytes())),
            None => 0,
        }
    }

    fn own(&self, line: &Line) -> &[u8] {
        line.own(&self.text)
    }

    fn shown(&self, line: &Line) -> &[u8] {
        line.shown(&self.text)
    }
}

impl Line {
    fn own<'a>(&self, text: &'a [u8]) -> &'a [u8] {
        let start = self.start as usize;
        text.get(start..self.space()).unwrap_or_default()
    }

    fn shown<'a>(&self, text: &'a [u8]) -> &'a [u8] {
        let start = self.space().saturating_add(1);
        let end = start.saturating_add(usize::from(self.shown));
        text.get(start..end).unwrap_or_default()
    }

    /// Where the space between the two is.
    fn space(&self) -> usize {
        (self.start as usize).saturating_add(usize::from(self.own))
    }
}

/// Sorts lines by one of their ids, which no two may share.
fn sort(
    text: &[u8],
    lines: &mut [Line],
    id: for<'a> fn(&Line, &'a [u8]) -> &'a [u8],
) -> Result<(), IdMapError> {
    if !lines.is_sorted_by(|one, other| id(one, text) < id(other, text)) {
        lines.sort_unstable_by(|one, other| id(one, text).cmp(id(other, text)));
    }
    let mut pairs = lines.iter().zip(lines.iter().skip(1));
    let twice = pairs.find(|(one, other)| id(one, text) == id(other, text));
    match twice.and_then(|(one, _)| UniqueId::new(id(one, text))) {
        Some(id) => Err(IdMapError::Repeated(id)),
        None => Ok(()),
    }
}

/// Half of a sum, and never 0.
#[allow(clippy::cast_possible_truncation)] // That is what it is for.
fn short(sum: u64) -> u32 {
    ((sum ^ (sum >> 32)) as u32).max(1)
}

impl fmt::Display for IdMapError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            IdMapError::Io(error) => write!(formatter, "cannot read it: {error}"),
            IdMapError::Head => formatter.write_str("is no list of unique-ids of this version"),
            IdMapError::TooLarge => formatter.write_str("is too large for a list of unique-ids"),
            IdMapError::Line(number) => write!(formatter, "line {number} is not two unique-ids"),
            IdMapError::Repeated(id) => write!(formatter, "has the unique-id {id} twice"),
        }
    }
}

impl std::error::Error for IdMapError {}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(text: &str) -> UniqueId {
        UniqueId::new(text.as_bytes()).unwrap()
    }

    #[test]
    fn messages_in_the_list_are_shown_by_its_ids_and_others_by_their_own() {
        let map = IdMap::parse(b"popa3d-ids 1\nb 2\na 1\nab 3\n".to_vec()).unwrap();
        for (own, shown) in [("a", "1"), ("b", "2"), ("ab", "3"), ("c", "c"), ("1", "1")] {
            assert_eq!(map.shown_for(id(own)), id(shown));
        }
        assert_eq!(map.to_text(), b"popa3d-ids 1\na 1\nab 3\nb 2\n");
        assert_eq!(
            IdMap::from_pairs(map.pairs()).unwrap().to_text(),
            map.to_text()
        );
        assert_eq!(IdMap::default().shown_for(id("a")), id("a"));
        assert!(IdMap::parse(Vec::new()).unwrap().is_empty());
        assert!(IdMap::parse(HEAD.to_vec()).unwrap().is_empty());
    }

    #[test]
    fn a_list_that_is_damaged_is_not_used() {
        let long = format!("popa3d-ids 1\na {}\n", "x".repeat(71));
        let wrong: [&[u8]; 11] = [
            b"a 1\n",
            b"popa3d-ids 2\na 1\n",
            b"popa3d-ids 1",
            b"popa3d-ids 1\na 1",
            b"popa3d-ids 1\na\n",
            b"popa3d-ids 1\n\n",
            b"popa3d-ids 1\na  1\n",
            b"popa3d-ids 1\na 1 \n",
            b"popa3d-ids 1\na \xff\n",
            b"popa3d-ids 1\na 1\na 2\n",
            b"popa3d-ids 1\na 1\nb 1\n",
        ];
        for text in wrong.into_iter().chain([long.as_bytes()]) {
            assert!(
                IdMap::parse(text.to_vec()).is_err(),
                "{}",
                text.escape_ascii()
            );
        }
        let error = IdMap::parse(b"popa3d-ids 1\na 1\nb\n".to_vec()).unwrap_err();
        assert_eq!(error.to_string(), "line 3 is not two unique-ids");
    }

    #[test]
    fn what_a_message_is_shown_by_can_be_told_apart() {
        let one = IdMap::from_pairs([(id("a"), id("1"))]).unwrap();
        let other = IdMap::from_pairs([(id("a"), id("2"))]).unwrap();
        assert_ne!(one.mark(Some(id("a"))), other.mark(Some(id("a"))));
        assert_ne!(one.fingerprint(), other.fingerprint());
        assert_eq!(one.mark(Some(id("b"))), 0);
        assert_eq!(IdMap::default().fingerprint(), 0);
    }
}
