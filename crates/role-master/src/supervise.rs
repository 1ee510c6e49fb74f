//! The daemon's master: starts the roles, starts anew those that end, receives their log records, obeys signals.
//!
//! It parses nothing that comes from the network or from mail. The end of file on a control channel is a role's order to
//! end; sessions that are under way go on without the master.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant, SystemTime};

use confine::channel::{ChannelError, Received};
use confine::process;
use confine::signals::{Signal, SignalFd};
use messages::log::Record;
use messages::role::{Report, Role};
use messages::spawner::ToSpawner;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use sd_notify::NotifyState;

use crate::certificates::Certificates;
use crate::configuration::Configuration;
use crate::log::{Log, Surroundings};
use crate::roles::{Roles, Said};
use crate::sockets::Listening;
use crate::token_files;

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

/// Messages of a role that has ended, among which the reason is looked for: a keyholder may have answered for some certificates.
const MAX_LAST_WORDS: usize = 64;

/// How often certificates are looked at for their end.
const EXPIRY_INTERVAL: Duration = Duration::from_secs(24 * 60 * 60);

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
    certificates: Certificates,
    expiry_due: Instant,
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
            certificates: Certificates::default(),
            expiry_due: Instant::now(),
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
        let deadline = Instant::now() + START_TIMEOUT;
        for role in self.configuration.roles() {
            self.start_role(role)
                .map_err(|error| format!("{}: {error}", role.name()))?;
            if role == Role::Keyholder {
                // What it reads of the certificates, the session spawner needs.
                self.await_roles(deadline)?;
            }
        }
        self.await_roles(deadline)?;
        if self.certificates.settled() {
            self.look_at_certificates();
        }
        let mut started = Record::info("started").with("version", env!("CARGO_PKG_VERSION"));
        for listening in &self.sockets {
            started = started.with("listen", listening.address);
        }
        self.log.own(&started);
        notify(&[NotifyState::Ready]);
        Ok(())
    }

    fn start_role(&mut self, role: Role) -> Result<(), ChannelError> {
        self.roles.start(
            role,
            &self.configuration,
            &self.sockets,
            &mut self.certificates,
        )?;
        match self.roles.find(Role::Spawner) {
            // Not in inetd's service, where every connection would be a start.
            Some(spawner) if role == Role::Spawner => {
                match spawner.control.try_send(&ToSpawner::Recover, &[]) {
                    // Why, it has said.
                    Err(ChannelError::Closed) => Ok(()),
                    sent => sent,
                }
            }
            _ => Ok(()),
        }
    }

    /// Waits until all roles that have been started are at work.
    fn await_roles(&mut self, deadline: Instant) -> Result<(), String> {
        loop {
            if let Some(complaint) = self.certificates.take_complaints().into_iter().next() {
                return Err(complaint);
            }
            let mut waiting = self.roles.running.iter().filter(|running| {
                let loads = running.role == Role::Keyholder && self.certificates.is_awaited();
                loads || !running.ready
            });
            let Some(name) = waiting.next().map(|running| running.role.name()) else {
                return Ok(());
            };
            let left = deadline
                .checked_duration_since(Instant::now())
                .ok_or_else(|| format!("{name}: does not start"))?;
            let ready = self.wait(Some(left)).map_err(|error| error.to_string())?;
            self.receive_logs(&ready.logs);
            for role in ready.roles {
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
    }

    /// Serves until SIGTERM or SIGINT.
    ///
    /// # Errors
    /// poll(2) fails, which it does not.
    pub fn run(&mut self) -> io::Result<()> {
        loop {
            let ready = self.wait(self.next_due())?;
            self.receive_logs(&ready.logs);
            for role in ready.roles {
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
            self.pass_certificates_on();
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

    /// Waits until something happens.
    fn wait(&self, timeout: Option<Duration>) -> io::Result<Ready> {
        let fds = std::iter::once(self.signals.as_fd())
            .chain(
                self.roles
                    .running
                    .iter()
                    .map(|running| running.control.as_fd()),
            )
            .chain(self.roles.logs.iter().map(|log| log.channel.as_fd()));
        let mut ready = Ready::default();
        // The signals are looked for in any case.
        for at in wait_readable(fds, timeout)?
            .into_iter()
            .filter_map(|at| at.checked_sub(1))
        {
            match self.roles.running.get(at) {
                Some(running) => ready.roles.push(running.role),
                None => ready.logs.push(at - self.roles.running.len()),
            }
        }
        Ok(ready)
    }

    fn receive_logs(&mut self, ready: &[usize]) {
        receive_logs(&mut self.log, &mut self.roles, ready);
    }

    /// Takes what a role has to say; returns why it failed, if it did. The end of file is no failure yet: the process's end
    /// is reported by the kernel.
    fn receive_report(&mut self, role: Role) -> Option<String> {
        let at = self
            .roles
            .running
            .iter()
            .position(|running| running.role == role)?;
        match self.roles.running[at].hear() {
            Ok(None) => None,
            Ok(Some(Said::Loaded(number, outcome))) => {
                self.certificates.loaded(number, outcome);
                None
            }
            Ok(Some(Said::Report(Report::Ready { missing }))) => {
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
            Ok(Some(Said::Report(Report::Failed { reason }))) => Some(reason),
            Err(ChannelError::Closed) => Some("ended".into()),
            Err(error) => Some(error.to_string()),
        }
    }

    /// Why a role whose process has ended says that it has: it may have done both since its channel was looked at.
    fn last_words(&self, role: Role) -> Option<String> {
        let running = self.roles.find(role)?;
        for _ in 0..MAX_LAST_WORDS {
            match running.hear() {
                Ok(Some(Said::Report(Report::Failed { reason }))) => return Some(reason),
                Ok(Some(_)) => {}
                Ok(None) | Err(_) => return None,
            }
        }
        None
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
                    let record = match self.last_words(role) {
                        Some(reason) => Record::error("role failed")
                            .with("role", role.name())
                            .with("reason", reason),
                        None => Record::error("role ended")
                            .with("role", role.name())
                            .with("status", status),
                    };
                    self.log.own(&record);
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
            Ok(mut newer) => {
                for keys in self.configuration.needs_restart(&newer) {
                    self.log
                        .own(&Record::warning("needs a restart").with("keys", keys));
                }
                newer.keep_roles_as_they_were(&self.configuration);
                newer.keep_oauth_as_it_was(&self.configuration);
                self.configuration = newer;
                self.log
                    .reconfigure(self.configuration.log(), self.surroundings);
                self.roles.reload(&self.configuration);
                if let Some(keyholder) = self.roles.find(Role::Keyholder) {
                    let certificates = &mut self.certificates;
                    certificates.load(&keyholder.control, &self.configuration, false);
                }
                if let Some(token) = self.roles.find(Role::Token)
                    && let Err(error) = token_files::send(&token.control, &self.configuration)
                {
                    self.log.own(
                        &Record::error("configuration kept")
                            .with("role", Role::Token.name())
                            .with("reason", error),
                    );
                }
                self.log.own(&Record::info("configuration read anew"));
            }
            Err(error) => self
                .log
                .own(&Record::error("configuration not changed").with("reason", error)),
        }
        notify(&[NotifyState::Ready]);
    }

    /// Says what has become of a load, and hands its result on when it is complete.
    fn pass_certificates_on(&mut self) {
        if self.certificates.settled() {
            // Before a session can show a client any of them.
            if let Some(auth) = self.roles.find(Role::Auth) {
                drop(
                    self.certificates
                        .tell_auth(&auth.control, &self.configuration),
                );
            }
            if let Some(spawner) = self.roles.find(Role::SessionSpawner) {
                // One that does not take them is started anew, with them.
                drop(
                    self.certificates
                        .tell(&spawner.control, &self.configuration),
                );
            }
            if let Some(keyholder) = self.roles.find(Role::Keyholder) {
                self.certificates
                    .retire(&keyholder.control, &self.configuration);
            }
            self.look_at_certificates();
        }
        for complaint in self.certificates.take_complaints() {
            self.log
                .own(&Record::error("certificate not changed").with("reason", complaint));
        }
    }

    /// Once after each load, and daily.
    fn look_at_certificates(&mut self) {
        for record in self.certificates.take_arrivals() {
            self.log.own(&record);
        }
        self.warn_of_expiry();
    }

    fn warn_of_expiry(&mut self) {
        self.expiry_due = Instant::now() + EXPIRY_INTERVAL;
        for record in self.certificates.warnings(SystemTime::now()) {
            self.log.own(&record);
        }
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

    fn next_due(&self) -> Option<Duration> {
        let restarts = self.restarts.iter().filter_map(|restart| restart.due);
        let due = restarts.chain([self.expiry_due]).min()?;
        Some(due.saturating_duration_since(Instant::now()))
    }

    fn start_what_is_due(&mut self) {
        let now = Instant::now();
        if self.expiry_due <= now {
            self.warn_of_expiry();
        }
        for at in 0..self.restarts.len() {
            let restart = &mut self.restarts[at];
            if restart.due.is_none_or(|due| due > now) {
                continue;
            }
            restart.due = None;
            let role = restart.role;
            if let Err(error) = self.start_role(role) {
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

/// Who has something to say.
#[derive(Debug, Default)]
struct Ready {
    /// Roles with reports.
    roles: Vec<Role>,
    /// Log channels with records, by position.
    logs: Vec<usize>,
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
