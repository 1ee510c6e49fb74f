//! An allocator that wipes what is given back, for the processes that passwords pass through.
//!
//! The roles' own buffers wipe themselves; the copies that libraries make (TLS's plaintext, what a decoder or a growing vector
//! leaves behind) do not. With it no memory image of such a process holds a password that has been used. It wraps the
//! system's allocator, and is that and nothing else until [`begin`].

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicBool, Ordering};

static IS_WIPING: AtomicBool = AtomicBool::new(false);

/// From here on this process and the children it forks wipe what they free.
pub fn begin() {
    IS_WIPING.store(true, Ordering::Relaxed);
}

fn is_wiping() -> bool {
    IS_WIPING.load(Ordering::Relaxed)
}

/// For `#[global_allocator]`.
#[derive(Debug)]
pub struct Allocator;

// SAFETY: every block is the system allocator's, with the layout it was asked for, and given back to it once.
unsafe impl GlobalAlloc for Allocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promise.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        if is_wiping() {
            // SAFETY: the block is the caller's until it is given back, and so large. Unlike memset(3) this is not left out
            // ahead of free(3).
            unsafe { libc::explicit_bzero(block.cast(), layout.size()) };
        }
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(block, layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        if !is_wiping() {
            // SAFETY: the caller's promise.
            return unsafe { System.realloc(block, layout, size) };
        }
        // SAFETY: the caller promises that `size` suits the alignment. Both blocks are at least as large as what is copied,
        // and are two.
        unsafe {
            let moved = System.alloc(Layout::from_size_align_unchecked(size, layout.align()));
            if !moved.is_null() {
                moved.copy_from_nonoverlapping(block, layout.size().min(size));
                self.dealloc(block, layout);
            }
            moved
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Octets of a block.
    const OCTETS: usize = 4000;

    #[test]
    fn a_block_that_grows_and_shrinks_keeps_its_octets_wiping_or_not() {
        for is_wiping in [false, true] {
            if is_wiping {
                begin();
            }
            let layout = Layout::from_size_align(OCTETS, 16).unwrap();
            // SAFETY: allocated here with this layout, written before it is read, and given back with the layout it has.
            unsafe {
                let block = Allocator.alloc(layout);
                assert!(!block.is_null());
                block.write_bytes(7, OCTETS);
                let larger = Allocator.realloc(block, layout, 2 * OCTETS);
                assert!(!larger.is_null());
                assert_eq!(std::slice::from_raw_parts(larger, OCTETS), [7; OCTETS]);
                let layout = Layout::from_size_align(2 * OCTETS, 16).unwrap();
                let smaller = Allocator.realloc(larger, layout, 100);
                assert_eq!(std::slice::from_raw_parts(smaller, 100), [7; 100]);
                Allocator.dealloc(smaller, Layout::from_size_align(100, 16).unwrap());
                let zeroed = Allocator.alloc_zeroed(layout);
                assert_eq!(std::slice::from_raw_parts(zeroed, 100), [0; 100]);
                Allocator.dealloc(zeroed, layout);
            }
        }
    }
}
