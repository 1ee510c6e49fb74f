//! The locker: makes dotlocks in a spool that maildrop processes may not write to (Debian's is 2775 root:mail).
//!
//! Runs as a user of its own in the spool's group. Of files it may make new ones in that directory and remove some, and open
//! none that is there: with the group alone it could read mailboxes. The spawner names the mailboxes, one a channel; who
//! holds the other end may lock that one and no other. A lock lasts until it is given up or nobody holds the channel any
//! more: the spawner does while an update is left unfinished, so that a maildrop process that dies leaves no unlocked
//! half-done mailbox. It trusts the master; of the spawner it believes whose mailbox a channel is for, of a maildrop
//! process nothing.
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

mod event_loop;
mod syscalls;

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::process::ExitCode;
use std::rc::Rc;

use confine::channel::Channel;
use confine::sandbox::{Landlock, Limits};
use messages::locker::LockerConfig;
use rustix::fs::{CWD, Mode, OFlags, openat};
use startup::{Failure, Starting};

use event_loop::EventLoop;

/// Descriptors: a channel for each session with a mailbox in the spool, a lock for each that is held, and a few besides.
const MAX_OPEN_FILES: u64 = 1 << 17;

/// Octets of the largest file: a lock, with a pid in it.
const MAX_FILE_OCTETS: u64 = 64;

/// Runs the role on its control channel until master and spawner have gone and nobody has a mailbox to lock.
pub fn run(control: Channel) -> ExitCode {
    startup::run(control, serve)
}

fn serve(role: Starting<'_, LockerConfig>) -> Result<(), Failure> {
    let spool = Rc::new(open_spool(&role.configuration.directory)?);
    let mut event_loop = EventLoop::new(role.control, role.logger, Rc::clone(&spool))?;
    let program = syscalls::policy().compile()?;
    let sandbox = startup::sandbox(&program, &role.confinement)
        .landlock(Landlock::nothing().new_files_in(spool.as_fd()))
        .limits(Limits {
            open_files: Some(MAX_OPEN_FILES),
            processes: Some(0),
            file_octets: Some(MAX_FILE_OCTETS),
            memory_octets: None,
        });
    let (_confined, report) = sandbox.enter()?;
    role.master.ready(report.missing)?;
    Ok(event_loop.run()?)
}

fn open_spool(path: &Path) -> Result<OwnedFd, String> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    openat(CWD, path, flags, Mode::empty()).map_err(|error| format!("{}: {error}", path.display()))
}
