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

use std::process::ExitCode;
use std::sync::Arc;

use confine::channel::{Channel, Received};
use confine::sandbox::Limits;
use confine::{ConfineError, process};
use messages::role::Confinement;
use messages::token::{ToToken, TokenConfig};
use startup::{Failure, Starting};

use checker::Checker;
use dialer::Dialer;
use event_loop::EventLoop;
use workers::Workers;

/// Descriptors: two channels, and a connection for each worker.
const MAX_OPEN_FILES: u64 = 256;

/// Runs the role on its control channel until the master and auth have closed theirs.
pub fn run(control: Channel) -> ExitCode {
    startup::run(control, serve)
}

fn serve(role: Starting<'_, TokenConfig>) -> Result<(), Failure> {
    let (control, logger) = (role.control, Arc::new(role.logger));
    // Before this process has anything to hide from it.
    let dialer = match role.configuration.method.server() {
        Some(server) => Some(Dialer::start(server, &role.confinement, &logger)?),
        None => None,
    };
    process::expect_threads();
    let mut missing = confine(&role.confinement)?;
    if let Some(dialer) = &dialer {
        missing.extend(dialer.await_ready()?);
    }
    let dialer = dialer.map(Arc::new);

    let (configuration, files) = match control.receive::<ToToken>()? {
        Received::Message(ToToken::Load(configuration), files) => (*configuration, files),
        Received::Message(ToToken::Auth, _) => return Err("no configuration".into()),
        Received::Closed => return Ok(()),
    };
    let workers = Workers::start(configuration.workers)?;
    let checker = Checker::load(configuration, files, dialer.as_ref(), &logger, None)?;
    role.master.ready(missing)?;
    Ok(EventLoop::new(control, logger, dialer, checker, workers).run()?)
}

/// No files, no network, no processes. What comes later comes as descriptors.
fn confine(confinement: &Confinement) -> Result<Vec<String>, ConfineError> {
    let program = syscalls::token().compile()?;
    let sandbox = startup::sandbox(&program, confinement).limits(Limits {
        open_files: Some(MAX_OPEN_FILES),
        file_octets: Some(0),
        ..Limits::default()
    });
    let (_confined, report) = sandbox.enter()?;
    Ok(report.missing.into_iter().map(str::to_owned).collect())
}

/// At most so many octets of a text.
fn cut(mut text: String, octets: usize) -> String {
    while text.len() > octets {
        text.pop();
    }
    text
}
