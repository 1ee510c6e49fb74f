//! The keyholder: holds the TLS private keys, and signs handshakes with them.
//!
//! Runs as a user of its own in an empty directory, without files, network or processes. The key files come as open
//! descriptors from the master, which never reads them. Sessions ask over a channel each; what they may have signed is a
//! handshake's digest and nothing else ([`form`]), once a session, and so many a second in all. It trusts the master; of a
//! session spawner it believes whom a session is for, of a session nothing.
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

mod end_point;
mod event_loop;
mod form;
mod key;
mod pair;
mod rate;
pub mod self_signed;
mod syscalls;

use std::process::ExitCode;

use confine::channel::Channel;
use confine::sandbox::Limits;
use messages::keyholder::{FromKeyholder, KeyholderConfig};
use startup::{Failure, Starting};

use event_loop::EventLoop;

/// Descriptors: a channel for each session that has not shaken hands yet, and a few besides.
const MAX_OPEN_FILES: u64 = 1 << 17;

/// Runs the role on its control channel until the master closes it and the last session has its signature.
pub fn run(control: Channel) -> ExitCode {
    startup::run(control, serve)
}

fn serve(role: Starting<'_, KeyholderConfig, FromKeyholder>) -> Result<(), Failure> {
    let mut event_loop = EventLoop::new(role.control, role.logger, role.configuration)?;
    let program = syscalls::policy().compile()?;
    let sandbox = startup::sandbox(&program, &role.confinement).limits(Limits {
        open_files: Some(MAX_OPEN_FILES),
        processes: Some(0),
        file_octets: Some(0),
        memory_octets: None,
    });
    let (_confined, report) = sandbox.enter()?;
    role.master.ready(report.missing)?;
    Ok(event_loop.run()?)
}
