//! A role under test: in a process of its own, with the test as its master.
//!
//! fork(2) wants a process without threads, so such tests are without the usual harness.
#![allow(clippy::unwrap_used, clippy::arithmetic_side_effects)]

use std::os::fd::AsFd;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use confine::Descriptors;
use confine::channel::{Channel, Message, Received};
use confine::process::{self, Fork, Pid};
use messages::role::{Confinement, Report, Start};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// Nothing in these tests takes as long, unless it hangs.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// A role's process, as its master sees it.
pub struct UnderTest {
    /// The master's end of the control channel.
    pub control: Channel,
    /// The master's end of the log channel.
    pub log: Channel,
    /// The process.
    pub pid: Pid,
}

/// As whoever runs the test, in the root directory that there is; with seccomp and Landlock where the kernel has them.
pub fn as_caller() -> Confinement {
    Confinement {
        identity: None,
        chroot: None,
        required: false,
    }
}

/// Starts a role.
pub fn start<C>(
    run: fn(Channel) -> ExitCode,
    confinement: Confinement,
    configuration: C,
) -> UnderTest
where
    Start<C>: Message,
{
    let (control, theirs) = Channel::pair().unwrap();
    let (log, their_log) = Channel::pair().unwrap();
    let pid = match process::fork().unwrap() {
        Fork::Child => {
            process::close_all_except(&[theirs.as_fd()]).unwrap();
            let failed = run(theirs) != ExitCode::SUCCESS;
            process::exit(i32::from(failed));
        }
        Fork::Parent(pid) => pid,
    };
    let start = Start {
        confinement,
        configuration,
    };
    control.send(&start, &[their_log.as_fd()]).unwrap();
    UnderTest { control, log, pid }
}

/// Waits until the role says that it is at work.
///
/// # Panics
/// It fails instead.
pub fn await_ready(control: &Channel) {
    match receive::<Report>(control) {
        Report::Ready { .. } => {}
        Report::Failed { reason } => panic!("not started: {reason}"),
    }
}

/// The next message.
///
/// # Panics
/// None comes, or something else.
pub fn receive<M: Message>(channel: &Channel) -> M {
    receive_with(channel).0
}

/// The next message and its descriptors.
///
/// # Panics
/// As [`receive`].
pub fn receive_with<M: Message>(channel: &Channel) -> (M, Descriptors) {
    wait_for(channel);
    match channel.try_receive::<M>() {
        Ok(Some(Received::Message(message, descriptors))) => (message, descriptors),
        Ok(Some(Received::Closed)) => panic!("closed instead of a message"),
        Ok(None) => panic!("readable, but nothing to read"),
        Err(error) => panic!("{error}"),
    }
}

/// Waits until there is something to read.
///
/// # Panics
/// There is nothing for [`PATIENCE`].
pub fn wait_for(descriptor: &impl AsFd) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        assert!(!left.is_zero(), "nothing came for {PATIENCE:?}");
        let timeout = Timespec::try_from(left).unwrap();
        match poll(
            &mut [PollFd::new(descriptor, PollFlags::IN)],
            Some(&timeout),
        ) {
            Ok(0) | Err(rustix::io::Errno::INTR) => {}
            Ok(_) => return,
            Err(error) => panic!("poll: {error}"),
        }
    }
}
