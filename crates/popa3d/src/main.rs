//! popa3d, the POP3 server: picks the role that this process has, and nothing else.
//!
//! Started by its user it is the master, which starts this same program once for each role, under the role's name and with
//! a channel on descriptor 3.
#![forbid(unsafe_code)]

use std::os::unix::ffi::OsStringExt;
use std::process::ExitCode;

use confine::{process, wiping};
use messages::role::Role;

/// Wipes memory as it is given back, in the roles that passwords pass through.
#[global_allocator]
static ALLOCATOR: wiping::Allocator = wiping::Allocator;

fn main() -> ExitCode {
    let mut arguments = std::env::args_os();
    let name = arguments.next().unwrap_or_default().into_vec();
    let Some(role) = Role::from_program_name(&name) else {
        return role_master::run(arguments, role_keyholder::self_signed::make);
    };
    // Out of reach of a terminal's signals; already so if this fails.
    drop(process::lead_own_session());
    let Ok(Some(control)) = process::role_channel() else {
        eprintln!("popa3d: {} is started by the master only", role.name());
        return ExitCode::FAILURE;
    };
    // What users prove who they are with passes through these, and what they fork.
    if matches!(role, Role::SessionSpawner | Role::Auth | Role::Token) {
        wiping::begin();
    }
    match role {
        Role::Listener => role_listener::run(control),
        Role::SessionSpawner => role_session::run(control),
        Role::Auth => role_auth::run(control),
        Role::Keyholder => role_keyholder::run(control),
        Role::Locker => role_locker::run(control),
        Role::Spawner => role_maildrop::run(control),
        Role::Token => role_token::run(control),
    }
}
