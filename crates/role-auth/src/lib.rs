//! The auth role: the only process that sees credentials, and the only one that can make a maildrop process exist.
//!
//! Runs as a user of its own, whose group may read /etc/shadow. It trusts the master, and the session spawner for who the
//! client is; it trusts no session. Each session has a channel of its own here, and whatever it does on it ends that session
//! at the worst. Passwords are verified in forked worker processes, so that none waits for another's hash.
//!
//! | module | what for |
//! |---|---|
//! | `event_loop` | every channel, one thread |
//! | `sessions`, `exchange` | what is known of a session and of its SASL exchange, and what it may do next |
//! | `tokens` | access tokens, of which another role knows more |
//! | `login_cache`, `login_delay` | what is remembered of logins |
//! | `pool`, `worker`, `work` | verifying processes: from outside, from inside, and between |
//! | `backends` | the stores, in their order |
//! | `hash`, `name`, `store_file` | what stores have in common |
//! | `derived_file` | verifiers of the system's users, the only file that auth writes |
//! | `trust` | whose certificates count |
//! | `bindings` | libcrypt and libpam; the only `unsafe` |
//! | `confinement`, `syscalls` | what auth gives up |
#![deny(unsafe_code)]
#![cfg_attr(
    not(test),
    warn(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects
    )
)]

mod backends;
mod bindings;
mod confinement;
mod derived_file;
mod event_loop;
mod exchange;
mod hash;
mod login_cache;
mod login_delay;
mod name;
mod pool;
mod sessions;
mod store_file;
mod syscalls;
#[cfg(test)]
mod testing;
mod tokens;
mod trust;
mod work;
mod worker;

use std::io;
use std::process::ExitCode;

use confine::channel::Channel;
use confine::locked::LockedKey;
use messages::auth::AuthConfig;
use startup::{Failure, Starting};

use backends::Stores;
use event_loop::EventLoop;
use login_cache::LoginCache;
use rustix::rand::{GetRandomFlags, getrandom};

/// Runs the role on its control channel until the master has closed it and no session is left that could still log in.
pub fn run(control: Channel) -> ExitCode {
    startup::run(control, serve)
}

fn serve(role: Starting<'_, AuthConfig>) -> Result<(), Failure> {
    let (configuration, logger) = (role.configuration, role.logger);
    let narrow = syscalls::stores_worker(configuration.derived_verifiers.is_some()).compile()?;
    // Before the confinement, which is without mlock(2).
    let key = LockedKey::new(draw_key)?;
    if !key.is_locked() && role.confinement.required {
        return Err("the key of the cache of logins cannot be locked in memory".into());
    }
    let (_confined, mut missing) = confinement::enter(&role.confinement, &configuration)?;
    if !key.is_locked() {
        missing.push("locked memory");
    }
    let cache = LoginCache::new(key, configuration.cache);
    let (stores, complaints) = Stores::open(configuration)?;
    event_loop::log_complaints(&logger, &complaints);
    let mut event_loop = EventLoop::new(role.control, logger, stores, cache, narrow)?;
    role.master.ready(missing)?;
    Ok(event_loop.run()?)
}

fn draw_key(octets: &mut [u8]) -> io::Result<()> {
    match getrandom(&mut *octets, GetRandomFlags::empty())? {
        filled if filled == octets.len() => Ok(()),
        _ => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}
