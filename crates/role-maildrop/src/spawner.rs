//! The spawner: told by auth who has logged in, forks the maildrop process.
//!
//! It keeps the lease of each session's connection until the process has ended, so that the listener counts it until then.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::process::ExitCode;

use confine::Descriptors;
use confine::channel::{Channel, Received};
use confine::identity::Capabilities;
use confine::process::{self, Fork, Pid};
use confine::sandbox::{Landlock, Limits, Sandbox};
use confine::seccomp::Program;
use confine::signals::{Signal, SignalFd};
use messages::log::{Logger, Record};
use messages::role::{Report, Start};
use messages::spawner::{SpawnerConfig, StartMaildrop, ToSpawner};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{CWD, Mode, OFlags, openat};

use crate::process::{Job, run as run_maildrop};
use crate::syscalls;

/// Maildrop processes at a time; the listener's limit on connections is lower.
const MAX_PROCESSES: usize = 1 << 17;

/// Descriptors: channels, and a lease for each process.
const MAX_OPEN_FILES: u64 = 1 << 17;

/// Orders taken from auth before ended children are looked at.
const MAX_TAKEN_IN_A_ROW: usize = 64;

/// Runs the role on its control channel until the master closes it.
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
    let (start, mut descriptors) = match control.receive::<Start<SpawnerConfig>>() {
        Ok(Received::Message(start, descriptors)) => (start, descriptors),
        Ok(Received::Closed) => return Ok(()),
        Err(error) => return Err(text(&error)),
    };
    let log = descriptors.next().ok_or("no log channel")?;
    let logger = Logger::new(Channel::from_fd(log).map_err(|error| text(&error))?);
    let own = syscalls::spawner()
        .compile()
        .map_err(|error| text(&error))?;
    let program = syscalls::maildrop()
        .compile()
        .map_err(|error| text(&error))?;
    let signals = SignalFd::new(&[Signal::CHILD]).map_err(|error| text(&error))?;

    let mut sandbox = Sandbox::new(&own)
        .required(start.confinement.required)
        // What it opens, it opens as the user; which files, that user's rights say.
        .landlock(Landlock::all_files())
        .limits(Limits {
            open_files: Some(MAX_OPEN_FILES),
            ..Limits::default()
        });
    if let Some(identity) = &start.confinement.identity {
        sandbox = sandbox.identity_keeping(identity, Capabilities::SETUID | Capabilities::SETGID);
    }
    let (_confined, report) = sandbox.enter().map_err(|error| text(&error))?;
    let locks = open_directory(&start.configuration.session_locks)?;
    let indexes = open_directory(&start.configuration.indexes)?;
    let missing = report.missing.iter().map(|&what| what.to_owned()).collect();
    control
        .send(&Report::Ready { missing }, &[])
        .map_err(|error| text(&error))?;
    Spawner {
        control,
        logger,
        configuration: start.configuration,
        required: start.confinement.required,
        program,
        signals,
        locks,
        indexes,
        auth: None,
        leases: HashMap::new(),
    }
    .run()
    .map_err(|error| text(&error))
}

/// Opens a directory in which each maildrop has a file.
fn open_directory(path: &Path) -> Result<OwnedFd, String> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    openat(CWD, path, flags, Mode::empty()).map_err(|error| format!("{}: {error}", path.display()))
}

struct Spawner<'a> {
    control: &'a Channel,
    logger: Logger,
    configuration: SpawnerConfig,
    required: bool,
    program: Program,
    signals: SignalFd,
    locks: OwnedFd,
    indexes: OwnedFd,
    auth: Option<Channel>,
    leases: HashMap<Pid, OwnedFd>,
}

impl Spawner<'_> {
    /// Serves until the master has gone *and* auth, which may still have sessions to bring to their maildrops.
    fn run(&mut self) -> io::Result<()> {
        let mut master = true;
        loop {
            let mut polled = vec![PollFd::new(&self.signals, PollFlags::IN)];
            polled.extend(master.then(|| PollFd::new(self.control, PollFlags::IN)));
            let auth_at = polled.len();
            polled.extend(
                self.auth
                    .as_ref()
                    .map(|auth| PollFd::new(auth, PollFlags::IN)),
            );
            match poll(&mut polled, None) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
            let ready = |at: usize| {
                polled
                    .get(at)
                    .is_some_and(|polled| !polled.revents().is_empty())
            };
            let (signals, control, auth) = (ready(0), master && ready(1), ready(auth_at));
            if signals {
                self.bury();
            }
            if control {
                master = self.obey()?;
            }
            if auth {
                self.take_orders();
            }
            if !master && self.auth.is_none() {
                return Ok(());
            }
        }
    }

    /// Takes one order of the master; false: it has gone, or wants us gone.
    fn obey(&mut self) -> io::Result<bool> {
        match self.control.try_receive::<ToSpawner>() {
            Ok(Some(Received::Message(ToSpawner::Auth, mut descriptors))) => {
                let descriptor = descriptors.next().ok_or(io::ErrorKind::InvalidData)?;
                self.auth = Some(Channel::from_fd(descriptor).map_err(io::Error::other)?);
                Ok(true)
            }
            Ok(Some(Received::Message(ToSpawner::Reload(configuration), _))) => {
                self.configuration = configuration;
                Ok(true)
            }
            Ok(Some(Received::Closed)) => Ok(false),
            Ok(None) => Ok(true),
            Err(error) => Err(io::Error::other(error)),
        }
    }

    fn take_orders(&mut self) {
        for _ in 0..MAX_TAKEN_IN_A_ROW {
            let Some(auth) = &self.auth else {
                return;
            };
            match auth.try_receive::<StartMaildrop>() {
                Ok(None) => return,
                Ok(Some(Received::Message(order, descriptors))) => self.start(&order, descriptors),
                Ok(Some(Received::Closed)) => self.auth = None,
                Err(error) => {
                    self.logger
                        .log(&Record::error("auth channel closed").with("reason", error));
                    self.auth = None;
                }
            }
        }
    }

    /// Forks a maildrop process. If that is not possible, the session notices that nobody takes its client over.
    fn start(&mut self, order: &StartMaildrop, mut descriptors: Descriptors) {
        let (Some(stream), Some(lease)) = (descriptors.next(), descriptors.next()) else {
            return;
        };
        let forked = if self.leases.len() < MAX_PROCESSES {
            process::fork()
        } else {
            Err(io::Error::other("too many maildrop processes"))
        };
        match forked {
            Ok(Fork::Parent(pid)) => {
                self.leases.insert(pid, lease);
            }
            Ok(Fork::Child) => {
                let kept = [
                    stream.as_fd(),
                    self.locks.as_fd(),
                    self.indexes.as_fd(),
                    self.logger.channel().as_fd(),
                ];
                if process::close_all_except(&kept).is_err() {
                    process::exit(1);
                }
                drop(process::set_name(c"popa3d: maildrop"));
                process::exit(run_maildrop(Job {
                    order,
                    configuration: &self.configuration,
                    locks: self.locks.as_fd(),
                    indexes: self.indexes.as_fd(),
                    stream: stream.as_fd(),
                    logger: &self.logger,
                    program: &self.program,
                    required: self.required,
                }))
            }
            Err(error) => self.logger.log(
                &Record::error("no maildrop process")
                    .with("session", order.id)
                    .with("user", &order.account.name)
                    .with("reason", error),
            ),
        }
    }

    /// Lets go of the leases of processes that have ended.
    fn bury(&mut self) {
        while self.signals.read().is_some() {}
        while let Some((pid, status)) = process::wait_any() {
            self.leases.remove(&pid);
            if !status.success() {
                self.logger.log(
                    &Record::error("maildrop process died")
                        .with("pid", pid.as_raw_pid())
                        .with("status", status),
                );
            }
        }
    }
}
