//! popa3d-roles: started by the master of popa3d, under the name of the role that it is to have, and by nobody else.
#![forbid(unsafe_code)]

use std::os::unix::ffi::OsStringExt;
use std::process::ExitCode;

use confine::wiping;
use messages::role::Role;
use popa3d_roles::{play, run_of};

/// Wipes memory as it is given back, in the roles that passwords pass through.
#[global_allocator]
static ALLOCATOR: wiping::Allocator = wiping::Allocator;

fn main() -> ExitCode {
    let name = std::env::args_os().next().unwrap_or_default().into_vec();
    let role = Role::from_program_name(&name);
    match role.and_then(|role| Some((role, run_of(role)?))) {
        Some((role, run)) => play(role, run),
        None => {
            eprintln!("popa3d-roles: is started by popa3d only");
            ExitCode::FAILURE
        }
    }
}
