//! A buffer that begins where a page of memory does, for octets that are read from a file or written to one.
//!
//! The kernel copies between it and the pages of the file. Processors of AMD with fast `rep movsb` take four to six times
//! as long for that (2 instead of 10 GB/s) where the place that is written lies 1 to 31 octets behind the one that is read
//! as to its offset within a page. An allocation of more than 128 KiB begins 16 octets behind a page, and a file is read
//! from the beginning of one: so that it is always the slow case.

use std::ops::{Deref, DerefMut};

/// Octets in a page of memory; where pages are larger it serves as well.
const PAGE: usize = 4096;

/// The part of an offset that is within a page.
const OFFSET_IN_PAGE: u64 = PAGE as u64 - 1;

/// Octets, NULs at first, that begin where a page does.
#[derive(Debug)]
pub(crate) struct PageBuffer {
    allocated: Vec<u8>,
    start: usize,
    length: usize,
}

impl PageBuffer {
    pub(crate) fn new(length: usize) -> Self {
        let allocated = vec![0; length.saturating_add(PAGE)];
        let start = allocated.as_ptr().align_offset(PAGE).min(PAGE);
        PageBuffer {
            allocated,
            start,
            length,
        }
    }

    /// Makes it so many octets, which may be anything.
    pub(crate) fn resize(&mut self, length: usize) {
        match self.allocated.len() >= length.saturating_add(PAGE) {
            true => self.length = length,
            false => *self = PageBuffer::new(length),
        }
    }
}

impl Deref for PageBuffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        let octets = self.allocated.get(self.start..).unwrap_or_default();
        octets.get(..self.length).unwrap_or_default()
    }
}

impl DerefMut for PageBuffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        let octets = self.allocated.get_mut(self.start..).unwrap_or_default();
        octets.get_mut(..self.length).unwrap_or_default()
    }
}

/// Octets to be read from `offset` on of `length` wanted, so that the next read begins where a page does.
pub(crate) fn up_to_a_page(offset: u64, length: usize) -> usize {
    let behind = usize::try_from(offset & OFFSET_IN_PAGE).unwrap_or(0);
    match length.saturating_sub(behind) {
        0 => length,
        less => less,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_has_its_length_and_begins_with_a_page() {
        for length in [0, 1, 4096, 128 * 1024, 128 * 1024 + 7, 8 * 1024 * 1024] {
            let mut buffer = PageBuffer::new(length);
            assert_eq!(buffer.len(), length);
            assert_eq!(buffer.as_ptr() as usize % PAGE, 0, "{length}");
            assert!(buffer.iter().all(|&octet| octet == 0));
            for length in [length / 2, length, 2 * length] {
                buffer.resize(length);
                assert_eq!(buffer.len(), length);
                assert_eq!(buffer.as_ptr() as usize % PAGE, 0, "{length}");
            }
        }
    }

    #[test]
    fn reads_of_whole_pages_begin_with_one_after_the_first() {
        assert_eq!(up_to_a_page(0, 8192), 8192);
        assert_eq!(up_to_a_page(100, 8192), 8192 - 100);
        assert_eq!(up_to_a_page(4096 + 4095, 8192), 8192 - 4095);
        assert_eq!(up_to_a_page(100, 100), 100);
        assert_eq!(up_to_a_page(100, 7), 7);
    }
}
