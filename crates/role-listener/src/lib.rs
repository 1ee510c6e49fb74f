//! The listener: accepts connections, applies limits before anything else, greets, and hands a connection on once its client
//! has sent its first octets.
//!
//! Runs as the unprivileged user in an empty directory, without files, processes or sockets of its own making. It reads no
//! octet from a client: it only sees that there are some. Until then a connection costs a descriptor and a table entry.
//! It trusts the master, and whoever connects from the networks of proxies that the configuration names: what they say
//! ahead of their clients' octets, it reads and believes ([`proxy_header`]).
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

mod access;
mod connections;
mod event_loop;
mod greeting;
pub mod proxy_header;
mod refusals;
mod slots;
mod source;
mod strangers;
mod syscalls;
mod throttle;
mod waiting;

use std::process::ExitCode;

use confine::channel::Channel;
use confine::sandbox::Limits;
use messages::listener::ListenerConfig;
use startup::{Failure, Starting};

use event_loop::EventLoop;

/// Descriptors: the listening sockets and channels besides one for each connection.
const MAX_OPEN_FILES: u64 = 1 << 20;

/// Runs the role on its control channel until the master closes it.
pub fn run(control: Channel) -> ExitCode {
    startup::run(control, serve)
}

fn serve(role: Starting<'_, ListenerConfig>) -> Result<(), Failure> {
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
