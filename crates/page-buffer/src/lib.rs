//! Buffers that begin at a chosen place within a page of memory, for mail on its way.
//!
//! Processors of AMD with fast `rep movsb` take four to six times as long for a copy (2 instead of 10 GB/s) where the place that
//! is written lies 1 to 31 octets behind the one that is read as to its offset within a page. Left to the allocator that is the
//! usual case: a file is read from the beginning of a page, and an allocation of more than 128 KiB begins 16 octets behind one.
//!
//! Run by maildrop processes and by sessions that relay TLS. What the octets are makes no difference here.
#![forbid(unsafe_code)]
#![cfg_attr(
    not(test),
    warn(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects
    )
)]

use std::ops::{Deref, DerefMut};

/// Octets in a page of memory; where pages are larger it serves as well.
const PAGE: usize = 4096;

/// The part of an offset that is within a page.
const OFFSET_IN_PAGE: u64 = PAGE as u64 - 1;

/// Octets, NULs at first, that begin at a chosen place within a page.
#[derive(Debug)]
pub struct PageBuffer {
    allocated: Vec<u8>,
    /// The first octet's offset within its page.
    in_page: usize,
    start: usize,
    length: usize,
}

impl PageBuffer {
    /// A buffer that begins where a page does: for octets that are read from a file or written to one, between whose pages and
    /// it the kernel copies.
    pub fn new(length: usize) -> PageBuffer {
        PageBuffer::placed(0, length)
    }

    /// A buffer that begins in the middle of a page: for octets that are copied into it from the beginning of one, and out of it
    /// to allocations that begin shortly behind one.
    pub fn mid_page(length: usize) -> PageBuffer {
        PageBuffer::placed(PAGE / 2, length)
    }

    fn placed(in_page: usize, length: usize) -> PageBuffer {
        let allocated = vec![0; length.saturating_add(PAGE)];
        let to_a_page = allocated.as_ptr().align_offset(PAGE).min(PAGE);
        PageBuffer {
            allocated,
            in_page,
            start: to_a_page.saturating_add(in_page) % PAGE,
            length,
        }
    }

    /// Makes it so many octets, which may be anything; it begins where it did within a page.
    pub fn resize(&mut self, length: usize) {
        match self.allocated.len() >= length.saturating_add(PAGE) {
            true => self.length = length,
            false => *self = PageBuffer::placed(self.in_page, length),
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

/// Octets to be read from `offset` of a file on, of `length` wanted, so that the next read begins where a page does.
pub fn up_to_a_page(offset: u64, length: usize) -> usize {
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
    fn it_has_its_length_and_its_place_in_a_page() {
        type Make = fn(usize) -> PageBuffer;
        let kinds: [(Make, usize); 2] = [(PageBuffer::new, 0), (PageBuffer::mid_page, PAGE / 2)];
        let large = [4096, 128 * 1024, 128 * 1024 + 7, 8 * 1024 * 1024];
        for (make, in_page) in kinds {
            // Kept, so that their allocations begin at different places.
            let mut buffers = Vec::new();
            for length in (0..200).chain(large) {
                let mut buffer = make(length);
                assert_eq!(buffer.len(), length);
                assert_eq!(buffer.as_ptr() as usize % PAGE, in_page, "{length}");
                assert!(buffer.iter().all(|&octet| octet == 0));
                for length in [length / 2, length, 2 * length] {
                    buffer.resize(length);
                    assert_eq!(buffer.len(), length);
                    assert_eq!(buffer.as_ptr() as usize % PAGE, in_page, "{length}");
                }
                buffers.push(buffer);
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
