//! The index of a maildrop: what the last scan found out, kept so that opening the maildrop costs what is new in it.
//!
//! Only a cache. It is believed where it is whole and the maildrop is evidently as it was; any doubt throws it away and
//! the maildrop is read again. Without it every reply is the same, later. Nothing is removed on its word: UPDATE looks
//! at the place and the header of each message before.
//!
//! One file for each maildrop, in a directory of the spawner's, opened before the process becomes the user. It is read
//! and written under the session lock alone, and so in place: a write that is cut short leaves a sum that does not fit,
//! which costs one scan. (Writing beside it and renaming would take a file made and removed in every session that may
//! have something to write, and rewriting all for one new message; here that message's row and the header are written.)
//!
//! ```text
//! header  24 words   magic, kind, rows, octets of names, extra, sum (6), identity (12), sum of the header
//! rows    6 words each, one for a message
//! names   filled up with NULs to whole rows
//! ```
//!
//! All words have 64 bits, least significant octet first.

pub(crate) mod checksum;

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use checksum::{Checksum, ROW, Row, octets, words};

/// Octets read and written at once; a smaller index is one read.
const BLOCK: usize = 2730 * ROW;

/// Words in a header.
const HEADER_WORDS: usize = 24;

/// Octets in a header: four rows.
const HEADER: usize = HEADER_WORDS * size_of::<u64>();

/// What an index begins with.
const MAGIC: u64 = u64::from_le_bytes(*b"popa3dix");

/// The file of an index, which may be empty or hold anything.
#[derive(Debug)]
pub struct Index {
    file: File,
}

/// What kind of maildrop an index is of, and which form of index: a new form takes a new number, and old ones are
/// thrown away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Mbox = 1,
    Maildir = 2,
}

/// What is to be as it was, for an index to be believed; each kind of maildrop has its own.
pub(crate) type Identity = [u64; 12];

/// How an index begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) kind: Kind,
    /// Rows of messages.
    pub(crate) rows: u64,
    /// Octets of names behind them.
    pub(crate) names: u64,
    /// What else that kind of maildrop has to say.
    pub(crate) extra: u64,
    /// The sum of rows and names.
    pub(crate) sum: Checksum,
    pub(crate) identity: Identity,
}

impl Index {
    /// Takes a file open for reading and writing, which is the caller's to keep others from: whoever has the session
    /// lock of the maildrop has its index.
    pub fn new(file: File) -> Self {
        Index { file }
    }

    /// Begins to read; `None` if there is no index of this kind, or it is damaged, or has more than `limit` rows.
    pub(crate) fn reader(&self, kind: Kind, limit: u32) -> Option<Reader<'_>> {
        let length = self.file.metadata().ok()?.len();
        if length < HEADER as u64 {
            return None;
        }
        let mut reader = Reader {
            file: &self.file,
            block: Vec::new(),
            at: 0,
            offset: 0,
            left: length,
            header: Header::empty(kind),
            sum: Checksum::new(),
        };
        let mut header = [[0; 6]; HEADER / ROW];
        for row in &mut header {
            *row = reader.next()?;
        }
        reader.header = Header::from_rows(&header)?;
        reader.sum = Checksum::new();
        let Header { rows, names, .. } = reader.header;
        let whole = (HEADER as u64)
            .saturating_add(rows.saturating_mul(ROW as u64))
            .saturating_add(names);
        let fits = reader.header.kind == kind && rows <= u64::from(limit) && whole <= length;
        fits.then_some(reader)
    }

    /// Begins to write: over everything, or behind the rows of `known`, which had no names.
    pub(crate) fn writer(&self, known: Option<&Header>) -> Writer<'_> {
        let rows = known.map_or(0, |header| header.rows);
        Writer {
            file: &self.file,
            block: Vec::new(),
            offset: (HEADER as u64).saturating_add(rows.saturating_mul(ROW as u64)),
            sum: known.map_or(Checksum::new(), |header| header.sum),
        }
    }

    /// Says something else about the same rows and names.
    pub(crate) fn replace_header(&self, header: &Header) -> io::Result<()> {
        self.file.write_all_at(&header.octets(), 0)
    }

    /// Believes nothing any more of what the index says of the maildrop; what it says of the last session stays, so that the
    /// next still knows which unique-ids were shown.
    ///
    /// For kinds whose identity begins with device and inode of what all of it depends on.
    pub(crate) fn distrust(&self, kind: Kind) {
        let header = self.reader(kind, u32::MAX).map(|reader| *reader.header());
        let replaced = header.map(|mut header| {
            let [device, inode, ..] = &mut header.identity;
            // No file has these.
            (*device, *inode) = (0, 0);
            self.replace_header(&header)
        });
        if !matches!(replaced, Some(Ok(()))) {
            self.clear();
        }
    }

    /// Throws the index away. What cannot be thrown away is found to be outdated, or harmless, as any index is.
    pub(crate) fn clear(&self) {
        let _ = self.file.set_len(0);
    }
}

/// Reads an index row by row.
pub(crate) struct Reader<'a> {
    file: &'a File,
    block: Vec<u8>,
    /// Where in the block the next row begins.
    at: usize,
    /// Where in the file the next block begins.
    offset: u64,
    /// Octets of the file from there on.
    left: u64,
    header: Header,
    sum: Checksum,
}

impl Reader<'_> {
    pub(crate) fn header(&self) -> &Header {
        &self.header
    }

    /// The next row; `None` if there is none, or it cannot be read.
    #[inline]
    pub(crate) fn next(&mut self) -> Option<Row> {
        let end = self.at.saturating_add(ROW);
        if end > self.block.len() {
            self.fill()?;
        }
        let end = self.at.saturating_add(ROW);
        let octets = self.block.get(self.at..end)?.first_chunk()?;
        self.at = end;
        let row = words(octets);
        self.sum.add(&row);
        Some(row)
    }

    /// The next octets of names.
    pub(crate) fn names(&mut self) -> Option<Vec<u8>> {
        let length = usize::try_from(self.header.names).ok()?;
        let mut names = Vec::with_capacity(length.saturating_add(ROW));
        while names.len() < length {
            names.extend_from_slice(&octets(&self.next()?));
        }
        names.truncate(length);
        Some(names)
    }

    /// Whether all that was read is as it was written; to be asked when everything has been read.
    pub(crate) fn is_whole(&self) -> bool {
        self.sum == self.header.sum
    }

    fn fill(&mut self) -> Option<()> {
        let length = usize::try_from(self.left.min(BLOCK as u64)).ok()?;
        self.block.resize(length, 0);
        self.file.read_exact_at(&mut self.block, self.offset).ok()?;
        self.at = 0;
        self.offset = self.offset.saturating_add(length as u64);
        self.left = self.left.saturating_sub(length as u64);
        Some(())
    }
}

/// Writes an index row by row.
pub(crate) struct Writer<'a> {
    file: &'a File,
    block: Vec<u8>,
    offset: u64,
    sum: Checksum,
}

impl Writer<'_> {
    /// Adds a row.
    #[inline]
    pub(crate) fn row(&mut self, row: &Row) -> io::Result<()> {
        self.sum.add(row);
        self.block.extend_from_slice(&octets(row));
        match self.block.len() >= BLOCK {
            true => self.flush(),
            false => Ok(()),
        }
    }

    /// Adds octets of names, all of them.
    pub(crate) fn names(&mut self, names: &[u8]) -> io::Result<()> {
        let (whole, rest) = names.as_chunks::<ROW>();
        for row in whole {
            self.row(&words(row))?;
        }
        if rest.is_empty() {
            return Ok(());
        }
        let mut last = [0; ROW];
        for (to, from) in last.iter_mut().zip(rest) {
            *to = *from;
        }
        self.row(&words(&last))
    }

    /// Ends the index with a header whose sum is filled in. Until it is written the old one stands, whose sum no longer
    /// fits unless rows were only added.
    pub(crate) fn finish(mut self, header: Header) -> io::Result<Header> {
        self.flush()?;
        self.file.set_len(self.offset.max(HEADER as u64))?;
        let sum = self.sum;
        let header = Header { sum, ..header };
        self.file.write_all_at(&header.octets(), 0)?;
        Ok(header)
    }

    fn flush(&mut self) -> io::Result<()> {
        if !self.block.is_empty() {
            self.file.write_all_at(&self.block, self.offset)?;
            self.offset = self.offset.saturating_add(self.block.len() as u64);
            self.block.clear();
        }
        Ok(())
    }
}

impl Header {
    /// Of an index of nothing.
    pub(crate) fn empty(kind: Kind) -> Self {
        Header {
            kind,
            rows: 0,
            names: 0,
            extra: 0,
            sum: Checksum::new(),
            identity: [0; 12],
        }
    }

    fn rows(&self) -> [Row; HEADER / ROW] {
        let [s0, s1, s2, s3, s4, s5] = self.sum.lanes();
        let [a, b, c, d, e, f, g, h, i, j, k, l] = self.identity;
        let mut rows = [
            [
                MAGIC,
                self.kind as u64,
                self.rows,
                self.names,
                self.extra,
                s0,
            ],
            [s1, s2, s3, s4, s5, a],
            [b, c, d, e, f, g],
            [h, i, j, k, l, 0],
        ];
        rows[3][5] = sum(&rows);
        rows
    }

    fn octets(&self) -> Vec<u8> {
        self.rows().iter().flat_map(octets).collect()
    }

    fn from_rows(rows: &[Row; HEADER / ROW]) -> Option<Self> {
        let [
            [magic, kind, count, names, extra, s0],
            [s1, s2, s3, s4, s5, a],
            [b, c, d, e, f, g],
            [h, i, j, k, l, found],
        ] = *rows;
        let mut unsummed = *rows;
        unsummed[3][5] = 0;
        let kind = match kind {
            1 => Kind::Mbox,
            2 => Kind::Maildir,
            _ => return None,
        };
        let header = Header {
            kind,
            rows: count,
            names,
            extra,
            sum: Checksum::resume([s0, s1, s2, s3, s4, s5]),
            identity: [a, b, c, d, e, f, g, h, i, j, k, l],
        };
        (magic == MAGIC && found == sum(&unsummed)).then_some(header)
    }
}

fn sum(rows: &[Row; HEADER / ROW]) -> u64 {
    let mut sum = Checksum::new();
    rows.iter().for_each(|row| sum.add(row));
    sum.fold()
}

#[cfg(test)]
mod tests {
    use super::*;

    const IDENTITY: Identity = [9, 8, 7, 6, 5, 4, 3, 2, 1, 0, u64::MAX, 1];

    fn index() -> Index {
        Index::new(tempfile::tempfile().unwrap())
    }

    fn row(number: u64) -> Row {
        [number, 1, 2, 3, u64::MAX, number << 40]
    }

    fn write(index: &Index, rows: u64, names: &[u8]) -> Header {
        let mut writer = index.writer(None);
        (0..rows).for_each(|number| writer.row(&row(number)).unwrap());
        writer.names(names).unwrap();
        let header = Header {
            rows,
            names: names.len() as u64,
            extra: 17,
            identity: IDENTITY,
            ..Header::empty(Kind::Mbox)
        };
        writer.finish(header).unwrap()
    }

    fn read(index: &Index) -> Option<(Vec<Row>, Vec<u8>)> {
        let mut reader = index.reader(Kind::Mbox, u32::MAX)?;
        let rows = (0..reader.header().rows)
            .map(|_| reader.next())
            .collect::<Option<_>>()?;
        let names = reader.names()?;
        reader.is_whole().then_some((rows, names))
    }

    #[test]
    fn what_is_written_is_read() {
        for rows in [0, 1, 2, 2725, 2726, 2727, 6000] {
            for names in [&b""[..], b"x", &[b'y'; 48], &[b'z'; 200_000]] {
                let index = index();
                let header = write(&index, rows, names);
                let reader = index.reader(Kind::Mbox, 6000).unwrap();
                assert_eq!(*reader.header(), header);
                assert_eq!(header.identity, IDENTITY);
                let expected = (0..rows).map(row).collect();
                assert_eq!(read(&index), Some((expected, names.to_vec())));
            }
        }
    }

    #[test]
    fn rows_are_added_without_writing_the_others_again() {
        let (grown, whole) = (index(), index());
        let header = write(&grown, 3, b"");
        let mut writer = grown.writer(Some(&header));
        (3..5).for_each(|number| writer.row(&row(number)).unwrap());
        writer.finish(Header { rows: 5, ..header }).unwrap();
        write(&whole, 5, b"");
        assert_eq!(read(&grown), read(&whole));
        assert!(read(&grown).is_some());
    }

    #[test]
    fn a_shorter_index_leaves_nothing_of_a_longer_one() {
        let index = index();
        write(&index, 100, b"secret");
        write(&index, 1, b"");
        assert_eq!(index.file.metadata().unwrap().len(), (HEADER + ROW) as u64);
    }

    #[test]
    fn a_damaged_or_cut_index_is_none() {
        let index = index();
        write(&index, 3, b"names");
        let length = index.file.metadata().unwrap().len();
        for at in 0..length {
            let mut octet = [0];
            index.file.read_exact_at(&mut octet, at).unwrap();
            for bit in 0..8 {
                index
                    .file
                    .write_all_at(&[octet[0] ^ (1 << bit)], at)
                    .unwrap();
                assert_eq!(read(&index), None, "bit {bit} of octet {at}");
            }
            index.file.write_all_at(&octet, at).unwrap();
        }
        assert!(read(&index).is_some());
        for length in (0..length).rev() {
            index.file.set_len(length).unwrap();
            assert_eq!(read(&index), None, "cut to {length}");
        }
    }

    #[test]
    fn an_index_of_another_kind_or_of_too_much_is_none() {
        let index = index();
        write(&index, 3, b"");
        assert!(index.reader(Kind::Maildir, 3).is_none());
        assert!(index.reader(Kind::Mbox, 2).is_none());
        assert!(index.reader(Kind::Mbox, 3).is_some());
        index.clear();
        assert!(index.reader(Kind::Mbox, 3).is_none());
    }

    #[test]
    fn a_header_that_promises_more_than_the_file_has_is_none() {
        let index = index();
        for (rows, names) in [(u64::MAX, 0), (1, 0), (0, 1), (0, u64::MAX)] {
            let header = Header {
                rows,
                names,
                ..Header::empty(Kind::Mbox)
            };
            index.replace_header(&header).unwrap();
            assert!(index.reader(Kind::Mbox, u32::MAX).is_none());
        }
    }
}
