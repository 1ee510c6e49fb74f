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

use std::ffi::CString;
use std::os::unix::ffi::OsStringExt;
use std::process::ExitCode;

use confine::channel::{Channel, Received};
use confine::sandbox::{Limits, Sandbox};
use messages::keyholder::{FromKeyholder, KeyholderConfig};
use messages::log::Logger;
use messages::role::{Report, Start};

use event_loop::EventLoop;

/// Descriptors: a channel for each session that has not shaken hands yet, and a few besides.
const MAX_OPEN_FILES: u64 = 1 << 17;

/// Runs the role on its control channel until the master closes it and the last session has its signature.
pub fn run(control: Channel) -> ExitCode {
    match serve(&control) {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            let report = FromKeyholder::Report(Report::Failed { reason });
            // If the master has gone, nobody wants to know.
            drop(control.send(&report, &[]));
            ExitCode::FAILURE
        }
    }
}

fn serve(control: &Channel) -> Result<(), String> {
    let text = |error: &dyn std::fmt::Display| error.to_string();
    let (start, mut descriptors) = match control.receive::<Start<KeyholderConfig>>() {
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
        .send(&FromKeyholder::Report(Report::Ready { missing }), &[])
        .map_err(|error| text(&error))?;
    event_loop.run().map_err(|error| text(&error))
}
