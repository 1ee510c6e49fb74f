//! What confines a process, and how confined processes speak to each other.
//!
//! Every role links this crate; it is the only one with `unsafe` system calls (all of them in
//! `sys.rs`, one call per function; `users.rs` asks the C library's databases, `wiping.rs` is an
//! allocator, and the crypt and PAM bindings are `role-auth`'s). It trusts the kernel and its own parent process. It does not
//! trust the other end of a channel: whatever arrives there is bounded, decoded whole or refused,
//! and descriptors that come with a refused message are closed.
//!
//! | module | what for |
//! |---|---|
//! | [`channel`] | typed messages with descriptors over `SOCK_SEQPACKET` |
//! | [`handover`] | octets and descriptors ahead of a plain octet stream |
//! | [`process`] | fork, re-execution as a role, waiting |
//! | [`signals`] | signals read from a descriptor |
//! | [`identity`] | changing from root to somebody else, verified |
//! | [`sandbox`] | everything a role gives up, in the right order, and [`Confined`], the proof |
//! | [`seccomp`] | allow lists as tables |
//! | [`lock`] | open-file-description locks |
//! | [`lull`] | events that can wait a little |
//! | [`locked`] | a key that is not swapped out, and not inherited |
//! | [`users`] | the password and group databases |
//! | [`inherited`] | descriptors from a service manager |
//! | [`socket`] | what roles do to a client's socket |
//! | [`wiping`] | memory wiped as it is given back |

#![deny(unsafe_code)]
#![cfg_attr(
    not(test),
    warn(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects
    )
)]

#[cfg(not(target_os = "linux"))]
compile_error!("seccomp, Landlock and OFD locks are Linux's");

pub mod channel;
mod error;
pub mod handover;
pub mod identity;
pub mod inherited;
pub mod lock;
pub mod locked;
pub mod lull;
mod packet;
pub mod process;
pub mod sandbox;
pub mod seccomp;
pub mod signals;
pub mod socket;
#[allow(unsafe_code)]
mod sys;
#[allow(unsafe_code)]
pub mod users;
#[allow(unsafe_code)]
pub mod wiping;

pub use error::ConfineError;
pub use packet::{Descriptors, MAX_DESCRIPTORS};
pub use sandbox::Confined;
