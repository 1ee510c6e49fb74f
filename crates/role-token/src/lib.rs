//! The token role: checks access tokens (RFC 6750) for auth, by a key set or by asking whoever issued them.
//!
//! Runs as a user of its own, without files and without the network: connections to its one server are made by a helper, the
//! [`dialer`], which sees no token. It trusts the master, and the server as far as users' names go: whoever issues tokens says who
//! the users are. Of tokens it trusts nothing before a signature has been verified or the server been asked. It never sees a
//! password, nor anything that auth looks up.
//!
//! | module | what for |
//! |---|---|
//! | `event_loop` | the master and auth, one thread |
//! | `workers` | threads that check tokens, so that none waits for another's server |
//! | `checker` | how a token is checked: by what is configured |
//! | `jwt`, `keys` | JSON web tokens and the keys that they are signed by |
//! | `claims` | what a token, or the server, says of its user and of its use |
//! | `published` | keys that a server publishes, kept and fetched anew |
//! | `client`, `transport` | HTTPS over connections that the dialer made |
//! | `dialer` | the helper: resolves one name, connects to one port |
//! | `syscalls` | what both may ask of the kernel |
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

mod checker;
mod claims;
mod client;
mod dialer;
mod event_loop;
pub mod fuzz;
mod jwt;
mod keys;
mod published;
mod syscalls;
mod transport;
mod workers;

use std::ffi::CString;
use std::fmt::Display;
use std::os::unix::ffi::OsStringExt;
use std::process::ExitCode;
use std::sync::Arc;

use confine::channel::{Channel, Received};
use confine::sandbox::{Limits, Sandbox};
use messages::log::Logger;
use messages::role::{Confinement, Report, Start};
use messages::token::{ToToken, TokenConfig};

use checker::Checker;
use dialer::Dialer;
use event_loop::EventLoop;
use workers::Workers;

/// Descriptors: two channels, and a connection for each worker.
const MAX_OPEN_FILES: u64 = 256;

/// Runs the role on its control channel until the master and auth have closed theirs.
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
    let (start, mut descriptors) = match control.receive::<Start<TokenConfig>>() {
        Ok(Received::Message(start, descriptors)) => (start, descriptors),
        Ok(Received::Closed) => return Ok(()),
        Err(error) => return Err(text(&error)),
    };
    let log = descriptors.next().ok_or("no log channel")?;
    let logger = Arc::new(Logger::new(Channel::from_fd(log).map_err(|it| text(&it))?));

    // Before this process has anything to hide from it.
    let dialer = match start.configuration.method.server() {
        Some(server) => Some(Dialer::start(server, &start.confinement, &logger)?),
        None => None,
    };
    let mut missing = confine(&start.confinement)?;
    if let Some(dialer) = &dialer {
        missing.extend(dialer.await_ready()?);
    }
    let dialer = dialer.map(Arc::new);

    let (configuration, files) = match control.receive::<ToToken>() {
        Ok(Received::Message(ToToken::Load(configuration), files)) => (*configuration, files),
        Ok(Received::Message(ToToken::Auth, _)) => return Err("no configuration".into()),
        Ok(Received::Closed) => return Ok(()),
        Err(error) => return Err(text(&error)),
    };
    let workers = Workers::start(configuration.workers).map_err(|error| text(&error))?;
    let checker = Checker::load(configuration, files, dialer.as_ref(), &logger, None)?;
    control
        .send(&Report::Ready { missing }, &[])
        .map_err(|error| text(&error))?;
    EventLoop::new(control, logger, dialer, checker, workers)
        .run()
        .map_err(|error| text(&error))
}

/// No files, no network, no processes. What comes later comes as descriptors.
fn confine(confinement: &Confinement) -> Result<Vec<String>, String> {
    let program = syscalls::token().compile().map_err(|error| text(&error))?;
    let root = confinement.chroot.clone();
    let root = root
        .map(|root| CString::new(root.into_os_string().into_vec()))
        .transpose()
        .map_err(|error| text(&error))?;
    let mut sandbox = Sandbox::new(&program)
        .required(confinement.required)
        .limits(Limits {
            open_files: Some(MAX_OPEN_FILES),
            file_octets: Some(0),
            ..Limits::default()
        });
    if let Some(identity) = &confinement.identity {
        sandbox = sandbox.identity(identity);
    }
    if let Some(root) = &root {
        sandbox = sandbox.root(root);
    }
    let (_confined, report) = sandbox.enter().map_err(|error| text(&error))?;
    Ok(report.missing.iter().map(|&what| what.to_owned()).collect())
}

/// At most so many octets of a text.
fn cut(mut text: String, octets: usize) -> String {
    while text.len() > octets {
        text.pop();
    }
    text
}

fn text(error: &dyn Display) -> String {
    error.to_string()
}
