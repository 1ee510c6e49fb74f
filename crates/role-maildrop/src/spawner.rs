//! The spawner: told by auth who has logged in, forks the maildrop process.
//!
//! Of a process that dies while it changes a mailbox it keeps that mailbox, locked, until another has finished the work. The
//! lease of a session's connection is the process's own, so that the listener counts the connection until it has ended; with
//! such a mailbox the spawner keeps it too.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::process::ExitCode;
use std::rc::Rc;
use std::time::Instant;

use confine::Descriptors;
use confine::channel::{Channel, Received};
use confine::identity::Capabilities;
use confine::lull::Lull;
use confine::process::{self, Fork, Pid};
use confine::sandbox::{Landlock, Limits};
use confine::seccomp::Program;
use confine::signals::{Signal, SignalFd};
use maildrop::Expanded;
use messages::log::{Logger, Record};
use messages::spawner::{SpawnerConfig, StartMaildrop, ToSpawner};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{CWD, Mode, OFlags, openat};
use startup::{Failure, Starting};

use crate::backlog::Backlog;
use crate::broker::DotlockBy;
use crate::children::{Child, Children, Heard, Mailbox};
use crate::guard::Guard;
use crate::journal_file::{self, JournalName};
use crate::memory_files::MemoryDirectories;
use crate::process::{Job, journal_name, location, run as run_maildrop};
use crate::room::Room;
use crate::syscalls;

mod recover;

/// Descriptors: a channel to each process. Every fork copies them, and the child closes them: so there is one, not two.
const MAX_OPEN_FILES: u64 = 1 << 17;

/// Orders taken from auth before ended children are looked at.
const MAX_TAKEN_IN_A_ROW: usize = 64;

/// Runs the role on its control channel until the master closes it.
pub fn run(control: Channel) -> ExitCode {
    startup::run(control, serve)
}

fn serve(role: Starting<'_, SpawnerConfig>) -> Result<(), Failure> {
    let own = syscalls::spawner().compile()?;
    let program = syscalls::maildrop().compile_inside(&syscalls::spawner())?;
    let signals = SignalFd::new(&[Signal::CHILD])?;
    let mut sandbox = startup::sandbox(&own, &role.confinement)
        // What it opens, it opens as the user; which files, that user's rights say.
        .landlock(Landlock::all_files())
        .limits(Limits {
            open_files: Some(MAX_OPEN_FILES),
            ..Limits::default()
        });
    if let Some(identity) = &role.confinement.identity {
        sandbox = sandbox.identity_keeping(identity, Capabilities::SETUID | Capabilities::SETGID);
    }
    let (_confined, report) = sandbox.enter()?;
    let configuration = role.configuration;
    let locks = open_directory(&configuration.session_locks)?;
    let memory = MemoryDirectories::open(&configuration)?;
    let journals = journal_file::open_directory(&configuration.journals)
        .map_err(|error| format!("{}: {error}", configuration.journals.display()))?;
    maildrop::find_processor_and_kernel_features();
    process::expect_children();
    role.master.ready(report.missing)?;
    let mut spawner = Spawner {
        control: role.control,
        logger: role.logger,
        room: Room::new(&configuration),
        configuration,
        required: role.confinement.required,
        program,
        signals,
        lull: Lull::default(),
        locks,
        memory,
        journals,
        auth: None,
        locker: None,
        children: Children::default(),
        backlog: Backlog::default(),
        found: None,
    };
    Ok(spawner.run()?)
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
    room: Room,
    required: bool,
    program: Program,
    signals: SignalFd,
    /// After a look at children that have ended, or have said something.
    lull: Lull,
    locks: OwnedFd,
    memory: MemoryDirectories,
    journals: OwnedFd,
    auth: Option<Channel>,
    locker: Option<Channel>,
    children: Children,
    /// What to recover as soon as a process can be forked for it.
    backlog: Backlog,
    /// From the process that searches for unfinished updates, while there is something in it. It finds more than are worked on
    /// at a time, and may have ended long before the last is taken.
    found: Option<Channel>,
}

impl Spawner<'_> {
    /// Serves until the master has gone *and* auth, which may still have sessions to bring to their maildrops, *and* the
    /// last child: what one leaves unfinished, nobody else would finish.
    fn run(&mut self) -> io::Result<()> {
        let mut master = true;
        while master || self.auth.is_some() || self.has_work() {
            let now = Instant::now();
            let lull = self.lull.left(now);
            let signals = lull.map_or(PollFlags::IN, |_| PollFlags::empty());
            let mut polled = vec![PollFd::new(&self.signals, signals)];
            polled.extend(master.then(|| PollFd::new(self.control, PollFlags::IN)));
            let auth_at = polled.len();
            let auth = self.auth.as_ref();
            polled.extend(auth.map(|auth| PollFd::new(auth, PollFlags::IN)));
            let found_at = polled.len();
            polled.extend(self.found().map(|found| PollFd::new(found, PollFlags::IN)));
            let talking = self.children.talking().filter(|_| lull.is_none());
            let (pids, guards): (Vec<Pid>, Vec<&Channel>) = talking.unzip();
            let guards_at = polled.len();
            polled.extend(
                guards
                    .iter()
                    .map(|guard| PollFd::new(*guard, PollFlags::IN)),
            );
            let pause = self.backlog.pause(now).into_iter().chain(lull).min();
            let pause = pause.and_then(|pause| Timespec::try_from(pause).ok());
            match poll(&mut polled, pause.as_ref()) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
            let is_ready = |polled: &PollFd<'_>| !polled.revents().is_empty();
            let ready = |at: usize| polled.get(at).is_some_and(is_ready);
            let (signals, control) = (ready(0), master && ready(1));
            let auth = self.auth.is_some() && ready(auth_at);
            let found = found_at < guards_at && ready(found_at);
            let speaking: Vec<Pid> = (guards_at..)
                .zip(pids)
                .filter(|&(at, _)| ready(at))
                .map(|(_, pid)| pid)
                .collect();
            if signals || !speaking.is_empty() {
                self.lull.begin(Instant::now());
            }
            for pid in speaking {
                self.hear(pid);
            }
            if signals {
                self.bury();
            }
            self.work_off();
            if found {
                self.take_found();
            }
            if control {
                master = self.obey()?;
            }
            if auth {
                self.take_orders();
            }
        }
        Ok(())
    }

    /// Whether there are children, or something that is to be done by one.
    fn has_work(&self) -> bool {
        !self.children.is_empty() || !self.backlog.is_empty() || self.found.is_some()
    }

    /// Takes one order of the master; false: it has gone, or wants us gone.
    fn obey(&mut self) -> io::Result<bool> {
        match self.control.try_receive::<ToSpawner>() {
            Ok(Some(Received::Message(ToSpawner::Auth, mut descriptors))) => {
                let descriptor = descriptors.next().ok_or(io::ErrorKind::InvalidData)?;
                self.auth = Some(Channel::from_fd(descriptor).map_err(io::Error::other)?);
                Ok(true)
            }
            Ok(Some(Received::Message(ToSpawner::Locker, mut descriptors))) => {
                let descriptor = descriptors.next().ok_or(io::ErrorKind::InvalidData)?;
                self.locker = Some(Channel::from_fd(descriptor).map_err(io::Error::other)?);
                Ok(true)
            }
            Ok(Some(Received::Message(ToSpawner::Reload(configuration), _))) => {
                self.room.follow(&configuration, Instant::now());
                self.configuration = *configuration;
                Ok(true)
            }
            Ok(Some(Received::Message(ToSpawner::Recover, _))) => {
                self.search();
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
                Ok(Some(Received::Message(order, descriptors))) => self.start(order, descriptors),
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
    fn start(&mut self, order: StartMaildrop, mut descriptors: Descriptors) {
        let (Some(stream), Some(lease)) = (descriptors.next(), descriptors.next()) else {
            return;
        };
        if !self.has_room() {
            // Of some that have ended nothing may have been heard yet.
            self.bury();
        }
        if !self.has_room() {
            return self.log_no_process(&order, "too many maildrop processes");
        }
        let location = location(&order.account, &self.configuration);
        let place = location.as_ref().ok().filter(|place| place.is_mbox());
        let dotlock = self.dotlock(place.map(Expanded::path).as_deref());
        // Of a Maildir there is nothing to be said.
        let pair = place.map(|_| Channel::pair()).transpose();
        match pair.and_then(|pair| fork_with(pair.unzip())) {
            Ok((Some(pid), guard)) => {
                let mailbox = place.map(|place| Mailbox {
                    name: journal_name(&order.account, place),
                    place: place.clone(),
                    dotlock,
                });
                let child = Child::session(guard, order.account.name, mailbox);
                self.children.insert(pid, child);
            }
            Ok((None, guard)) => {
                let lease = Rc::new(lease);
                let guard = guard.map(|guard| Guard::new(guard).with_lease(Rc::clone(&lease)));
                let [indexes, ids] = self.memory.descriptors();
                let mut kept = vec![
                    stream.as_fd(),
                    lease.as_fd(),
                    self.locks.as_fd(),
                    indexes,
                    ids,
                    self.journals.as_fd(),
                    self.logger.channel().as_fd(),
                ];
                kept.extend(guard.as_ref().map(AsFd::as_fd));
                kept.extend(dotlock.channel().map(AsFd::as_fd));
                if process::close_all_except(&kept).is_err() {
                    process::exit(1);
                }
                drop(process::set_name(c"popa3d: maildrop"));
                process::exit(run_maildrop(Job {
                    order: &order,
                    configuration: &self.configuration,
                    location: &location,
                    locks: self.locks.as_fd(),
                    memory: &self.memory,
                    journals: self.journals.as_fd(),
                    dotlock: &dotlock,
                    stream: stream.as_fd(),
                    guard,
                    logger: &self.logger,
                    program: &self.program,
                    required: self.required,
                }))
            }
            Err(error) => self.log_no_process(&order, error),
        }
    }

    fn log_no_process(&self, order: &StartMaildrop, reason: impl ToString) {
        self.logger.log(
            &Record::error("no maildrop process")
                .with("session", order.id)
                .with("user", &order.account.name)
                .with("reason", reason.to_string()),
        );
    }

    /// Whether there may be another maildrop process. Whoever finishes what one has left takes its place.
    fn has_room(&self) -> bool {
        let processes = self.children.len().saturating_add(self.backlog.len());
        processes < self.room.most(Instant::now())
    }

    /// Who makes the dotlock of the mbox at a path.
    fn dotlock(&self, path: Option<&Path>) -> DotlockBy {
        let by = |path| DotlockBy::of(path, &self.configuration, self.locker.as_ref());
        path.map_or(DotlockBy::Oneself, by)
    }

    /// Forks, with a channel between the two; without a pid it is the child that returns.
    fn fork(&self) -> io::Result<(Option<Pid>, Channel)> {
        fork_with(Channel::pair()?)
    }

    /// Takes one message of a child.
    fn hear(&mut self, pid: Pid) {
        match self.children.hear(pid) {
            None | Some(Heard::Nothing) => {}
            Some(Heard::Finished) => {
                if let Some(child) = self.children.get_mut(pid) {
                    self.logger.log(&child.about(finished()));
                }
            }
            Some(Heard::SetAside(name, reason)) => self.set_aside(pid, name, &reason),
        }
    }

    /// Gives a child another journal. One that does not get it does not open the mailbox.
    fn set_aside(&mut self, pid: Pid, name: JournalName, reason: &str) {
        let Some(child) = self.children.get_mut(pid) else {
            return;
        };
        let record = child.about(Record::error("journal set aside"));
        let record = match name.set_aside(self.journals.as_fd()) {
            Ok((aside, file)) => {
                child.answer(&file);
                record.with("reason", reason).with("file", aside)
            }
            Err(error) => {
                child.end_talk();
                record.with("reason", error)
            }
        };
        self.logger.log(&record);
    }

    /// Lets go of what belonged to processes that have ended, once what they were doing has been finished.
    fn bury(&mut self) {
        while self.signals.read().is_some() {}
        while let Some((pid, status)) = process::wait_any() {
            let Some(mut child) = self.children.remove(pid) else {
                continue;
            };
            while let Some(heard) = child.hear() {
                if heard == Heard::Finished {
                    self.logger.log(&child.about(finished()));
                }
            }
            if !status.success() {
                self.logger.log(
                    &child
                        .about(Record::error("maildrop process died"))
                        .with("pid", pid.as_raw_pid())
                        .with("status", status),
                );
            }
            if let Some(unfinished) = child.leave(pid, !status.success()) {
                self.recover(unfinished);
            }
        }
    }
}

/// Forks, and leaves each of the two its end of a channel, or of none; without a pid it is the child that returns.
fn fork_with<C>((ours, theirs): (C, C)) -> io::Result<(Option<Pid>, C)> {
    Ok(match process::fork()? {
        Fork::Parent(pid) => (Some(pid), ours),
        Fork::Child => (None, theirs),
    })
}

fn finished() -> Record {
    Record::warning("update finished that had been interrupted")
}
