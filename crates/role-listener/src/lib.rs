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
mod slots;
mod source;
mod syscalls;
mod waiting;

use std::ffi::CString;
use std::os::unix::ffi::OsStringExt;
use std::process::ExitCode;

use confine::channel::{Channel, Received};
use confine::sandbox::{Limits, Sandbox};
use messages::listener::ListenerConfig;
use messages::log::Logger;
use messages::role::{Report, Start};

use event_loop::EventLoop;

/// Descriptors: the listening sockets and channels besides one for each connection.
const MAX_OPEN_FILES: u64 = 1 << 20;

/// Runs the role on its control channel until the master closes it.
pub fn run(control: Channel) -> ExitCode {
    match serve(&control) {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            // If the master has gone, nobody wants to know.
            drop(control.send(&Report::Failed { reason }, &[]));
            ExitCode::FAILURE
        }
    }
}

fn serve(control: &Channel) -> Result<(), String> {
    let text = |error: &dyn std::fmt::Display| error.to_string();
    let (start, mut descriptors) = match control.receive::<Start<ListenerConfig>>() {
        Ok(Received::Message(start, descriptors)) => (start, descriptors),
        Ok(Received::Closed) => return Ok(()),
        Err(error) => return Err(text(&error)),
    };
    let log = descriptors.next().ok_or("no log channel")?;
    let logger = Logger::new(Channel::from_fd(log).map_err(|error| text(&error))?);
    let mut event_loop =
        EventLoop::new(control, logger, start.configuration).map_err(|error| text(&error))?;

    let program = syscalls::policy().compile().map_err(|error| text(&error))?;
    let root = start
        .confinement
        .chroot
        .map(|root| CString::new(root.into_os_string().into_vec()))
        .transpose()
        .map_err(|error| text(&error))?;
    let mut sandbox = Sandbox::new(&program)
        .required(start.confinement.required)
        .limits(Limits {
            open_files: Some(MAX_OPEN_FILES),
            processes: Some(0),
            file_octets: Some(0),
            memory_octets: None,
        });
    if let Some(identity) = &start.confinement.identity {
        sandbox = sandbox.identity(identity);
    }
    if let Some(root) = &root {
        sandbox = sandbox.root(root);
    }
    let (_confined, report) = sandbox.enter().map_err(|error| text(&error))?;
    let missing = report.missing.iter().map(|&what| what.to_owned()).collect();
    control
        .send(&Report::Ready { missing }, &[])
        .map_err(|error| text(&error))?;
    event_loop.run().map_err(|error| text(&error))
}
