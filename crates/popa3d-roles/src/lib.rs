//! The roles that load no library and ask no name service, and how a role's process begins.
//!
//! They are part of popa3d's one executable; installed by `packaging/install`, they are also one of their own, which is
//! linked statically. What is forked for each session is then a process with 13 mappings instead of 30, without a dynamic
//! linker, and without the code of the other roles: a poll session costs a tenth less, an idle one has a quarter less memory.
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

use std::process::ExitCode;

use confine::channel::Channel;
use confine::{process, wiping};
use messages::role::Role;

/// What a role's process does, on its control channel.
pub type Run = fn(Channel) -> ExitCode;

/// What this role does; `None`: it [loads libraries](Role::loads_libraries), and is not here.
pub fn run_of(role: Role) -> Option<Run> {
    match role {
        Role::Listener => Some(role_listener::run),
        Role::SessionSpawner => Some(role_session::run),
        Role::Keyholder => Some(role_keyholder::run),
        Role::Locker => Some(role_locker::run),
        Role::Spawner => Some(role_maildrop::run),
        Role::Auth | Role::Token => None,
    }
}

/// Is the role from now on, in a process that the master has started for it: with a channel on descriptor 3.
pub fn play(role: Role, run: Run) -> ExitCode {
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
    run(control)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_what_loads_libraries() {
        for role in Role::ALL {
            assert_eq!(run_of(role).is_none(), role.loads_libraries(), "{role:?}");
        }
    }
}
