//! Plain functions for a fuzzer: each takes any octets, and panics only where the crate breaks a promise.

use std::cell::RefCell;

use crate::mbox::journal::fuzz::Bench;
use crate::mbox::scan::reference::Scratch;

thread_local! {
    /// One file for all inputs of a thread.
    static SCRATCH: RefCell<Scratch> = RefCell::new(Scratch::new());
    /// Updates to be interrupted.
    static BENCH: Bench = Bench::new();
}

/// The scanner agrees with the reference. The first octet chooses how many octets are read at a time.
pub fn mbox_scan(data: &[u8]) {
    let Some((&choice, mbox)) = data.split_first() else {
        return;
    };
    let block = usize::from(choice).saturating_add(1);
    SCRATCH.with_borrow(|scratch| scratch.agrees(mbox, &[block]));
}

/// A damaged journal is carried out or does nothing; see `Bench::recovers` for what the octets mean.
pub fn journal(data: &[u8]) {
    BENCH.with(|bench| bench.recovers(data));
}
