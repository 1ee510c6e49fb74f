//! The spawner, and the maildrop processes it forks: one for each login, under the uid of the mailbox's owner.
//!
//! The spawner may become any user but root, and nothing else; only auth can ask it to. A maildrop process becomes the
//! user, opens the maildrop, confines itself to it, and only then parses what the client sends. It answers PASS itself:
//! `+OK` means locked and open. Where one dies in the midst of UPDATE, the spawner keeps the mailbox locked and forks
//! another to finish it.
//!
//! `popa3ctl` uses what names, locks and opens the files of a maildrop (`state_file`, `session_lock`, `file_lock`), so that it and
//! the server agree.
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

mod backlog;
mod broker;
mod children;
mod client;
mod confinement;
pub mod file_lock;
mod guard;
mod internationalized;
pub mod journal_file;
mod memory_files;
mod process;
mod recovery;
mod room;
pub mod session_lock;
mod spawner;
pub mod state_file;
mod syscalls;
mod transaction;

pub use spawner::run;
