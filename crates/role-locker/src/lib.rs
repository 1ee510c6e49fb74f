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

use std::ffi::CString;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::process::ExitCode;
use std::rc::Rc;

use confine::channel::{Channel, Received};
use confine::sandbox::{Landlock, Limits, Sandbox};
use messages::locker::LockerConfig;
use messages::log::Logger;
use messages::role::{Report, Start};
use rustix::fs::{CWD, Mode, OFlags, openat};

use event_loop::EventLoop;

/// Descriptors: a channel for each session with a mailbox in the spool, a lock for each that is held, and a few besides.
const MAX_OPEN_FILES: u64 = 1 << 17;

/// Octets of the largest file: a lock, with a pid in it.
const MAX_FILE_OCTETS: u64 = 64;

/// Runs the role on its control channel until master and spawner have gone and nobody has a mailbox to lock.
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
    let (start, mut descriptors) = match control.receive::<Start<LockerConfig>>() {
        Ok(Received::Message(start, descriptors)) => (start, descriptors),
        Ok(Received::Closed) => return Ok(()),
        Err(error) => return Err(text(&error)),
    };
    let log = descriptors.next().ok_or("no log channel")?;
    let logger = Logger::new(Channel::from_fd(log).map_err(|error| text(&error))?);
    let spool = &start.configuration.directory;
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let spool: Rc<OwnedFd> = openat(CWD, spool, flags, Mode::empty())
        .map_err(|error| format!("{}: {error}", spool.display()))?
        .into();
    let mut event_loop =
        EventLoop::new(control, logger, Rc::clone(&spool)).map_err(|error| text(&error))?;

    let program = syscalls::policy().compile().map_err(|error| text(&error))?;
    let root = start
        .confinement
        .chroot
        .map(|root| CString::new(root.into_os_string().into_vec()))
        .transpose()
        .map_err(|error| text(&error))?;
    let mut sandbox = Sandbox::new(&program)
        .required(start.confinement.required)
        .landlock(Landlock::nothing().new_files_in(spool.as_fd()))
        .limits(Limits {
            open_files: Some(MAX_OPEN_FILES),
            processes: Some(0),
            file_octets: Some(MAX_FILE_OCTETS),
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
