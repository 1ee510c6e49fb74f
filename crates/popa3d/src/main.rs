//! popa3d, the POP3 server: picks the role that this process has, and nothing else.
//!
//! Started by its user it is the master, which starts this same program once for each role, under the role's name and with
//! a channel on descriptor 3; or, where it is installed, `popa3d-roles` for those roles that load no library.
#![forbid(unsafe_code)]

use std::os::unix::ffi::OsStringExt;
use std::process::ExitCode;

use confine::wiping;
use messages::role::Role;
use popa3d_roles::{Run, play, run_of};

/// Wipes memory as it is given back, in the roles that passwords pass through.
#[global_allocator]
static ALLOCATOR: wiping::Allocator = wiping::Allocator;

fn main() -> ExitCode {
    let mut arguments = std::env::args_os();
    let name = arguments.next().unwrap_or_default().into_vec();
    let Some(role) = Role::from_program_name(&name) else {
        return role_master::run(arguments, role_keyholder::self_signed::make);
    };
    let run: Run = match role {
        Role::Auth => role_auth::run,
        Role::Token => role_token::run,
        other => match run_of(other) {
            Some(run) => run,
            None => return ExitCode::FAILURE,
        },
    };
    play(role, run)
}
