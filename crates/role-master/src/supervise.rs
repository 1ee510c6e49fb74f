//! The daemon's master: starts the roles, starts anew those that end, receives their log records, obeys signals.
//!
//! It parses nothing that comes from the network or from mail. The end of file on a control channel is a role's order to
//! end; sessions that are under way go on without the master.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use confine::channel::Received;
use confine::process;
use confine::signals::{Signal, SignalFd};
use messages::log::Record;
use messages::role::{Report, Role};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use sd_notify::NotifyState;

use crate::configuration::Configuration;
use crate::log::{Log, Surroundings};
use crate::roles::Roles;
use crate::sockets::Listening;

/// The roles must be at work within this time, or the server does not start.
const START_TIMEOUT: Duration = Duration::from_secs(20);

/// A role that lived at least this long is started anew at once.
const LONG_LIVED: Duration = Duration::from_secs(60);

/// The pauses before the first and the later starts of a role that keeps ending.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const MAX_PAUSE: Duration = Duration::from_secs(10);

/// The listener closes its ports within this time.
const LISTENER_END: Duration = Duration::from_secs(5);

/// Records taken from one channel before the others are looked at again.
const MAX_RECORDS_IN_A_ROW: usize = 64;

/// Reads the configuration once more, as at start.
pub type Reread = Box<dyn Fn() -> Result<Configuration, String>>;

/// The daemon's master.
pub struct Master {
    configuration: Configuration,
    reread: Reread,
    surroundings: Surroundings,
    log: Log,
    roles: Roles,
    sockets: Vec<Listening>,
    signals: SignalFd,
    restarts: Vec<Restart>,
}

/// A role that is to be started anew.
#[derive(Debug)]
struct Restart {
    role: Role,
    due: Option<Instant>,
    pause: Duration,
}

/// What the master does next.
#[derive(Debug, PartialEq, Eq)]
enum Next {
    GoOn,
    Stop,
}

impl Master {
    /// Everything is open, no role is started.
    ///
    /// # Errors
    /// No descriptor left.
    pub fn new(
        configuration: Configuration,
        reread: Reread,
        surroundings: Surroundings,
        log: Log,
        roles: Roles,
        sockets: Vec<Listening>,
    ) -> io::Result<Self> {
        Ok(Self {
            configuration,
            reread,
            surroundings,
            log,
            roles,
            sockets,
            signals: SignalFd::new(&[Signal::TERM, Signal::INT, Signal::HUP, Signal::CHILD])?,
            restarts: Role::ALL
                .map(|role| Restart {
                    role,
                    due: None,
                    pause: Duration::ZERO,
                })
                .into(),
        })
    }

    /// Where the server listens.
    pub fn sockets(&self) -> &[Listening] {
        &self.sockets
    }

    /// Starts every role and waits until all are confined and at work.
    ///
    /// # Errors
    /// One sentence for standard error: which role failed and why.
    pub fn start(&mut self) -> Result<(), String> {
        for role in Role::ALL {
            self.roles
                .start(role, &self.configuration, &self.sockets)
                .map_err(|error| format!("{}: {error}", role.name()))?;
        }
        let deadline = Instant::now() + START_TIMEOUT;
        while let Some(waiting) = self.roles.running.iter().find(|running| !running.ready) {
            let name = waiting.role.name();
            let left = deadline
                .checked_duration_since(Instant::now())
                .ok_or_else(|| format!("{name}: does not start"))?;
            let ready = self.wait(Some(left)).map_err(|error| error.to_string())?;
            self.receive_logs(&ready);
            for role in Role::ALL {
                if let Some(failure) = self.receive_report(role) {
                    return Err(format!("{}: {failure}", role.name()));
                }
            }
            if let Some(signal) = self.signals.read()
                && signal != Signal::CHILD
            {
                return Err("ended by a signal while starting".into());
            }
        }
        let mut started = Record::info("started").with("version", env!("CARGO_PKG_VERSION"));
        for listening in &self.sockets {
            started = started.with("listen", listening.address);
        }
        self.log.own(&started);
        notify(&[NotifyState::Ready]);
        Ok(())
    }

    /// Serves until SIGTERM or SIGINT.
    ///
    /// # Errors
    /// poll(2) fails, which it does not.
    pub fn run(&mut self) -> io::Result<()> {
        loop {
            let ready = self.wait(self.next_restart())?;
            self.receive_logs(&ready);
            for role in Role::ALL {
                if let Some(failure) = self.receive_report(role) {
                    self.log.own(
                        &Record::error("role failed")
                            .with("role", role.name())
                            .with("reason", failure),
                    );
                    self.abandon(role);
                }
            }
            while let Some(signal) = self.signals.read() {
                if self.obey(signal) == Next::Stop {
                    return Ok(());
                }
            }
            self.start_what_is_due();
        }
    }

    /// Ends the roles and hands the log over to a child that stays until the last session has ended.
    pub fn stop(mut self) {
        notify(&[NotifyState::Stopping]);
        let listener = self.roles.find(Role::Listener).map(|running| running.pid);
        self.roles.running.clear();
        self.sockets.clear();
        // Whoever starts the server anew wants its ports.
        if let Some(pidfd) = listener.and_then(|pid| process::open_pidfd(pid).ok()) {
            drop(wait_readable(
                std::iter::once(pidfd.as_fd()),
                Some(LISTENER_END),
            ));
        }
        self.log.own(&Record::info("stopped"));
        drain_in_background(self.log, self.roles);
    }

    /// Waits until something happens, and tells on which log channels there are records.
    fn wait(&self, timeout: Option<Duration>) -> io::Result<Vec<usize>> {
        let fds = std::iter::once(self.signals.as_fd())
            .chain(
                self.roles
                    .running
                    .iter()
                    .map(|running| running.control.as_fd()),
            )
            .chain(self.roles.logs.iter().map(|log| log.channel.as_fd()));
        let before_logs = 1 + self.roles.running.len();
        Ok(wait_readable(fds, timeout)?
            .into_iter()
            .filter_map(|at| at.checked_sub(before_logs))
            .collect())
    }

    fn receive_logs(&mut self, ready: &[usize]) {
        receive_logs(&mut self.log, &mut self.roles, ready);
    }

    /// Takes a role's report; returns why it failed, if it did. The end of file is no failure yet: the process's end is
    /// reported by the kernel.
    fn receive_report(&mut self, role: Role) -> Option<String> {
        let at = self
            .roles
            .running
            .iter()
            .position(|running| running.role == role)?;
        match self.roles.running[at].control.try_receive::<Report>() {
            Ok(None) => None,
            Ok(Some(Received::Message(Report::Ready { missing }, _))) => {
                self.roles.running[at].ready = true;
                for protection in missing {
                    self.log.own(
                        &Record::warning("protection missing")
                            .with("role", role.name())
                            .with("what", protection),
                    );
                }
                None
            }
            Ok(Some(Received::Message(Report::Failed { reason }, _))) => Some(reason),
            Ok(Some(Received::Closed)) => Some("ended".into()),
            Err(error) => Some(error.to_string()),
        }
    }

    fn obey(&mut self, signal: Signal) -> Next {
        if signal == Signal::TERM || signal == Signal::INT {
            return Next::Stop;
        }
        if signal == Signal::HUP {
            self.reload();
        }
        if signal == Signal::CHILD {
            while let Some((pid, status)) = process::wait_any() {
                let ended = self.roles.running.iter().find(|running| running.pid == pid);
                if let Some(role) = ended.map(|running| running.role) {
                    self.log.own(
                        &Record::error("role ended")
                            .with("role", role.name())
                            .with("status", status),
                    );
                    self.abandon(role);
                }
            }
        }
        Next::GoOn
    }

    /// A file that cannot be used changes nothing.
    fn reload(&mut self) {
        let reloading = NotifyState::monotonic_usec_now();
        match reloading {
            Ok(now) => notify(&[NotifyState::Reloading, now]),
            Err(_) => notify(&[NotifyState::Reloading]),
        }
        match (self.reread)() {
            Ok(newer) => {
                for keys in self.configuration.needs_restart(&newer) {
                    self.log
                        .own(&Record::warning("needs a restart").with("keys", keys));
                }
                self.configuration = newer;
                self.log
                    .reconfigure(self.configuration.log(), self.surroundings);
                self.roles.reload(&self.configuration);
                self.log.own(&Record::info("configuration read anew"));
            }
            Err(error) => self
                .log
                .own(&Record::error("configuration not changed").with("reason", error)),
        }
        notify(&[NotifyState::Ready]);
    }

    /// Gives a role's process up and plans its successor.
    fn abandon(&mut self, role: Role) {
        let Some(old) = self.roles.remove(role) else {
            return;
        };
        // It may have closed its channel and still be there; at worst it has been waited for already.
        drop(process::kill(old.pid, Signal::KILL));
        let lived = old.began.elapsed();
        if let Some(restart) = self
            .restarts
            .iter_mut()
            .find(|restart| restart.role == role)
        {
            if lived >= LONG_LIVED {
                restart.pause = Duration::ZERO;
            }
            restart.due = Some(Instant::now() + restart.pause);
            restart.pause = (restart.pause * 2).clamp(FIRST_PAUSE, MAX_PAUSE);
        }
    }

    fn next_restart(&self) -> Option<Duration> {
        let due = self
            .restarts
            .iter()
            .filter_map(|restart| restart.due)
            .min()?;
        Some(due.saturating_duration_since(Instant::now()))
    }

    fn start_what_is_due(&mut self) {
        let now = Instant::now();
        for at in 0..self.restarts.len() {
            let restart = &mut self.restarts[at];
            if restart.due.is_none_or(|due| due > now) {
                continue;
            }
            restart.due = None;
            let role = restart.role;
            if let Err(error) = self.roles.start(role, &self.configuration, &self.sockets) {
                self.log.own(
                    &Record::error("role not started")
                        .with("role", role.name())
                        .with("reason", error),
                );
                let restart = &mut self.restarts[at];
                restart.due = Some(now + restart.pause.max(FIRST_PAUSE));
            }
        }
    }
}

/// Which of the descriptors are readable or hung up, by position.
pub fn wait_readable<'a>(
    fds: impl Iterator<Item = BorrowedFd<'a>>,
    timeout: Option<Duration>,
) -> io::Result<Vec<usize>> {
    let mut polled: Vec<PollFd<'_>> = fds
        .map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN))
        .collect();
    let timeout = timeout.and_then(|timeout| Timespec::try_from(timeout).ok());
    match poll(&mut polled, timeout.as_ref()) {
        Ok(_) | Err(rustix::io::Errno::INTR) => {}
        Err(error) => return Err(error.into()),
    }
    Ok(polled
        .iter()
        .enumerate()
        .filter(|(_, polled)| !polled.revents().is_empty())
        .map(|(at, _)| at)
        .collect())
}

/// Writes what has come in on the log channels that are ready, and forgets those that nobody holds any more.
pub fn receive_logs(log: &mut Log, roles: &mut Roles, ready: &[usize]) {
    let mut closed = Vec::new();
    for &at in ready {
        let Some(source) = roles.logs.get(at) else {
            continue;
        };
        for _ in 0..MAX_RECORDS_IN_A_ROW {
            match source.channel.try_receive_with_credentials::<Record>() {
                Ok(None) => break,
                Ok(Some(Received::Message((record, sender), _))) => {
                    log.role(source.role, sender.pid.as_raw_pid().unsigned_abs(), &record);
                }
                Ok(Some(Received::Closed)) => {
                    closed.push(at);
                    break;
                }
                Err(error) => {
                    log.own(
                        &Record::warning("log record refused")
                            .with("role", source.role.name())
                            .with("reason", error),
                    );
                    break;
                }
            }
        }
    }
    // From the back, so that the positions before stay right.
    for at in closed.into_iter().rev() {
        roles.logs.remove(at);
    }
}

/// Receives records until nobody is left who could send one, or the time is over.
pub fn drain(log: &mut Log, roles: &mut Roles, deadline: Option<Instant>) {
    while !roles.logs.is_empty() {
        let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        if left.is_some_and(|left| left.is_zero()) {
            return;
        }
        let fds = roles.logs.iter().map(|log| log.channel.as_fd());
        match wait_readable(fds, left) {
            Ok(ready) => receive_logs(log, roles, &ready),
            Err(_) => return,
        }
    }
}

/// The sessions outlive the master; so does, in a process of its own, whoever writes down what they have to say.
fn drain_in_background(mut log: Log, mut roles: Roles) {
    if let Ok(process::Fork::Child) = process::fork() {
        drop(process::lead_own_session());
        drop(process::set_name(c"popa3d: log"));
        drain(&mut log, &mut roles, None);
        process::exit(0);
    }
}

/// The service manager, where there is one, is told; where there is none, nothing happens.
fn notify(states: &[NotifyState<'_>]) {
    drop(sd_notify::notify(states));
}
