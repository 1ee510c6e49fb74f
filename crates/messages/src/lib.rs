//! What popa3d's processes say to each other.
//!
//! Every channel between two roles has its message types here, one file a receiving role, each with the largest size it
//! may have and the number of descriptors that must come with it. The crate holds values only: no role's work is done
//! here, and what a value promises (`NonRootUid`, `SessionId`) is proven when it is decoded.
//!
//! | from | to | type |
//! |---|---|---|
//! | master | every role | [`role::Start`], then that role's `To…` enum |
//! | every role | master | [`role::Report`], [`log::Record`] on a channel of its own |
//! | listener | session spawner | [`session::FromListener`] |
//! | session spawner | auth | [`auth::NewSession`] |
//! | session | auth | [`auth::Attempt`], answered by [`auth::Verdict`] |
//! | auth | spawner | [`spawner::StartMaildrop`] |
//! | spawner | locker | [`locker::NewMailbox`] |
//! | maildrop process | locker | [`locker::LockRequest`], answered by [`locker::LockAnswer`] |
//! | session spawner | keyholder | [`keyholder::NewSigner`] |
//! | session | keyholder | [`keyholder::SignatureRequest`], answered by [`keyholder::Signature`] |
//! | keyholder | master | [`keyholder::FromKeyholder`] |
//! | auth | token | [`token::Question`], answered by [`token::Answer`] |
#![forbid(unsafe_code)]

pub mod account;
pub mod auth;
pub mod keyholder;
pub mod listener;
pub mod locker;
pub mod log;
pub mod mechanism;
pub mod role;
pub mod secret;
pub mod session;
pub mod spawner;
pub mod token;

pub use account::{Account, Rights};
pub use mechanism::SaslMechanism;
pub use secret::Secret;
pub use session::SessionId;
