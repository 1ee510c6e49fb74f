//! Maildrops: mbox and Maildir behind the one trait [`Maildrop`].
//!
//! Runs in the maildrop process alone, single-threaded and under the uid of the mailbox owner. What it trusts: the
//! location template of the configuration and the account that auth vouched for. What it does not: mail, file names,
//! anything the user or a delivery agent may have put where the maildrop should be.
//!
//! A session's maildrop is made in two steps, because confinement comes between them:
//!
//! ```text
//! Location::parse ─ expand ─▶ Expanded ─ open ─▶ Opened ──confine──▶ lock_and_scan ─▶ Box<dyn Maildrop>
//!   [location]                          [open]                                         [maildrop]
//! ```
//!
//! [`open()`] opens descriptors by path and reads no mail; [`Opened::descriptors`] says what the confiner has to leave
//! usable; [`Opened::lock_and_scan`] and all that follows use those descriptors only.
//!
//! Where is …?
//!
//! | what | where |
//! |---|---|
//! | a name from the account made part of a path | `location.rs` |
//! | a link, fifo or other people's file refused | `open.rs` |
//! | the mailbox locked | `lock.rs`, the crate dotlock |
//! | octets counted as they go over the wire | `multiline::Counter` of pop3-proto, by `mbox/count.rs` and `maildir/scan.rs` |
//! | an mbox cut into messages | `mbox/scan.rs` |
//! | a popa3d unique-id computed | `mbox/digest.rs` |
//! | mail added | `deliver/mod.rs` |
//! | mail removed | `mbox/proof.rs`, `mbox/update.rs`, `maildir/update.rs` |
//! | deleted mail kept for a while | `grace.rs`, `dated_ids.rs` |
//! | mail hidden that is old, or was retrieved | `horizon.rs`, `mbox/date.rs` |
//! | an update of an mbox that survives a crash | `mbox/journal/mod.rs` |
//! | what is known of a maildrop from the last session | `index/mod.rs`, `mbox/saved.rs`, `maildir/saved.rs` |
//! | equal messages told apart | `mbox/copies.rs` |
//! | a message shown by another server's id | `id_map/mod.rs` |
//!
//! What is kept of a maildrop beside the mail, in files that its owner cannot reach, is [`Memory`].
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

mod dated_ids;
pub mod deliver;
mod empty;
mod error;
#[cfg(test)]
mod fake;
#[cfg(feature = "fuzz")]
pub mod fuzz;
mod grace;
mod horizon;
pub mod id_map;
mod index;
pub mod location;
mod lock;
mod maildir;
mod maildrop;
mod mbox;
mod memory;
mod open;
mod remains;
mod stamp;
mod unique_id;

#[cfg(test)]
mod testing;

use sha2::Digest;

pub use dated_ids::DatedIds;
pub use error::{CheckError, Class, OpenError, Problem, UpdateError};
pub use grace::Grace;
pub use horizon::Horizon;
pub use id_map::{IdMap, IdMapError};
pub use index::Index;
pub use location::{Account, Expanded, Location, LocationError};
pub use lock::{FileLock, LockBroker};
pub use maildrop::{Limits, MAX_MESSAGES, MAX_OCTETS, Maildrop, UpdateSummary};
pub use mbox::copies::CopyNumbers;
pub use mbox::journal::{Journal, KEPT_OCTETS, Keeper};
pub use memory::{Drift, Memory};
pub use open::{Access, Descriptor, OpenOptions, Opened, open};
pub use remains::Remains;
pub use unique_id::UniqueId;

/// Finds out, for this process and all that it forks, what the libraries used here find out when they are first used: what
/// the processor and the kernel can do. A child that did so would have a page of memory more, for each.
pub fn find_processor_and_kernel_features() {
    let _ = memchr::memchr(b'\n', b"");
    let _ = sha2::Sha256::digest([]);
    let _ = std::fs::metadata("/");
}
