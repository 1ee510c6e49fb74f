//! Starting the roles and connecting them with each other.
//!
//! A role gets a control channel, a log channel and its configuration from the master. What two roles say to each other goes
//! over a channel of their own, which the master makes and hands to both; when one of them is started anew, so are its
//! channels.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use confine::channel::{Channel, ChannelError, Message, Received};
use confine::process::{self, Pid};
use confine::socket;
use messages::auth::{DecoyKey, ToAuth};
use messages::keyholder::{Certificate, CertificateNumber, FromKeyholder, ToKeyholder};
use messages::listener::ToListener;
use messages::locker::ToLocker;
use messages::role::{Confinement, Report, Role, Start};
use messages::session::ToSessionSpawner;
use messages::spawner::ToSpawner;
use messages::token::ToToken;

use crate::certificates::Certificates;
use crate::configuration::Configuration;
use crate::executables::Executables;
use crate::identities::Identities;
use crate::sockets::Listening;
use crate::token_files;

/// Log channels in all. Sessions of roles that have ended may still speak on theirs; the oldest such is given up first.
const MAX_OLD_LOGS: usize = 32;

/// A role that logs faster than the master reads waits this long for room, then loses the line.
const LOG_TIMEOUT: Duration = Duration::from_secs(1);

/// Who speaks to whom.
const LINKS: [(Role, Role); 6] = [
    (Role::Spawner, Role::Locker),
    (Role::SessionSpawner, Role::Keyholder),
    (Role::Auth, Role::Spawner),
    (Role::Auth, Role::Token),
    (Role::SessionSpawner, Role::Auth),
    (Role::Listener, Role::SessionSpawner),
];

/// Octets of connections that the listener has handed on and the session spawner has not taken: half a dozen. The others wait in
/// the listener, where each source has its turn; in the channel, a flood would be ahead of everybody.
const LISTENER_SEND_BUFFER: usize = 3 * 1024;

/// A role's process.
#[derive(Debug)]
pub struct Running {
    /// Which role.
    pub role: Role,
    /// Its process.
    pub pid: Pid,
    /// The master's end of its control channel.
    pub control: Channel,
    /// It has said that it is confined and at work.
    pub ready: bool,
    /// When it was started.
    pub began: Instant,
}

/// What a role says to the master.
#[derive(Debug)]
pub enum Said {
    /// What every role says.
    Report(Report),
    /// The keyholder has read a certificate and its key.
    Loaded(CertificateNumber, Result<Certificate, String>),
}

impl Running {
    /// Takes what the role has said, if it has said something. Its end is [`ChannelError::Closed`].
    ///
    /// # Errors
    /// [`ChannelError`].
    pub fn hear(&self) -> Result<Option<Said>, ChannelError> {
        if self.role != Role::Keyholder {
            let said = self.control.try_receive::<Report>()?;
            return message(said).map(|report| report.map(Said::Report));
        }
        let said = message(self.control.try_receive::<FromKeyholder>()?)?;
        Ok(said.map(|said| match said {
            FromKeyholder::Report(report) => Said::Report(report),
            FromKeyholder::Loaded { number, outcome } => Said::Loaded(number, outcome),
        }))
    }
}

fn message<M>(received: Option<Received<M>>) -> Result<Option<M>, ChannelError> {
    match received {
        None => Ok(None),
        Some(Received::Message(message, _)) => Ok(Some(message)),
        Some(Received::Closed) => Err(ChannelError::Closed),
    }
}

/// The master's end of a log channel.
#[derive(Debug)]
pub struct LogChannel {
    /// Whose.
    pub role: Role,
    /// The process that it was made for; its forked children speak here too.
    pub pid: Pid,
    /// Where its records come from.
    pub channel: Channel,
}

/// All roles' processes.
#[derive(Debug)]
pub struct Roles {
    executables: Executables,
    identities: Identities,
    decoy_key: DecoyKey,
    /// Roles write panics to the master's standard error.
    share_stderr: bool,
    /// At most one entry a role.
    pub running: Vec<Running>,
    /// Those of running roles and of some that ended.
    pub logs: Vec<LogChannel>,
}

impl Roles {
    /// None started yet.
    pub fn new(
        executables: Executables,
        identities: Identities,
        decoy_key: DecoyKey,
        share_stderr: bool,
    ) -> Self {
        Self {
            executables,
            identities,
            decoy_key,
            share_stderr,
            running: Vec::new(),
            logs: Vec::new(),
        }
    }

    /// Starts a role, tells it its configuration and the certificates and connects it with those that run.
    ///
    /// # Errors
    /// No process or no descriptor could be had, or the new process does not take what it is told.
    pub fn start(
        &mut self,
        role: Role,
        configuration: &Configuration,
        sockets: &[Listening],
        certificates: &mut Certificates,
    ) -> Result<(), ChannelError> {
        let (control, theirs) = Channel::pair()?;
        let (log, their_log) = Channel::pair_with_credentials()?;
        socket::set_timeouts(their_log.as_fd(), Some(LOG_TIMEOUT))?;
        let pid = process::spawn_role(
            self.executables.of(role),
            role.program_name(),
            theirs.into_fd(),
            self.share_stderr.then_some(io::stderr().as_fd()),
        )?;
        let running = Running {
            role,
            pid,
            control,
            ready: false,
            began: Instant::now(),
        };
        match self.tell(
            &running,
            their_log.as_fd(),
            configuration,
            sockets,
            certificates,
        ) {
            // One that has ended already says why on the channel.
            Ok(()) | Err(ChannelError::Closed) => {}
            Err(error) => return Err(error),
        }
        self.running.push(running);
        self.keep_log(LogChannel {
            role,
            pid,
            channel: log,
        });
        self.connect(role);
        Ok(())
    }

    /// The first that a role hears.
    fn tell(
        &self,
        to: &Running,
        log: BorrowedFd<'_>,
        configuration: &Configuration,
        sockets: &[Listening],
        certificates: &mut Certificates,
    ) -> Result<(), ChannelError> {
        let (role, control) = (to.role, &to.control);
        let confinement = Confinement {
            identity: self.identities.of(role).cloned(),
            chroot: match role {
                Role::Listener
                | Role::SessionSpawner
                | Role::Keyholder
                | Role::Token
                | Role::Locker
                    if self.identities.of(role).is_some() =>
                {
                    Some(configuration.chroot().to_owned())
                }
                _ => None,
            },
            required: configuration.sandbox_required(),
        };
        let logs = [log];
        match role {
            Role::Listener => {
                control.try_send(&start(confinement, configuration.listener()), &logs)?;
                for listening in sockets {
                    let message = ToListener::Socket {
                        implicit_tls: listening.implicit_tls,
                    };
                    control.try_send(&message, &[listening.socket.as_fd()])?;
                }
            }
            Role::SessionSpawner => {
                control.try_send(&start(confinement, configuration.session()), &logs)?;
                if configuration.has_tls() {
                    // Before it can be handed a connection.
                    certificates.tell(control, configuration)?;
                }
            }
            Role::Auth => {
                let auth = configuration.auth(&self.decoy_key);
                control.try_send(&start(confinement, auth), &logs)?;
                if configuration.has_tls() {
                    certificates.tell_auth(control, configuration)?;
                }
            }
            Role::Keyholder => {
                control.try_send(&start(confinement, configuration.keyholder()), &logs)?;
                certificates.load(control, configuration, true);
            }
            Role::Spawner => {
                control.try_send(&start(confinement, configuration.spawner()), &logs)?;
            }
            Role::Token => {
                let part = configuration.token();
                let part = part.ok_or_else(|| io::Error::other("[oauth] is not configured"))?;
                control.try_send(&start(confinement, part), &logs)?;
                token_files::send(control, configuration)?;
            }
            Role::Locker => {
                control.try_send(&start(confinement, configuration.locker()), &logs)?;
            }
        }
        Ok(())
    }

    /// Tells every running role its newer configuration.
    pub fn reload(&self, configuration: &Configuration) {
        for running in &self.running {
            let control = &running.control;
            // A role that does not take it is about to be started anew, with the newer configuration.
            drop(match running.role {
                Role::Listener => {
                    control.try_send(&ToListener::Reload(configuration.listener()), &[])
                }
                Role::SessionSpawner => {
                    control.try_send(&ToSessionSpawner::Reload(configuration.session()), &[])
                }
                Role::Auth => control.try_send(
                    &ToAuth::Reload(Box::new(configuration.auth(&self.decoy_key))),
                    &[],
                ),
                Role::Spawner => {
                    control.try_send(&ToSpawner::Reload(Box::new(configuration.spawner())), &[])
                }
                Role::Keyholder => {
                    control.try_send(&ToKeyholder::Reload(configuration.keyholder()), &[])
                }
                // Together with its files, see [`token_files::send`].
                Role::Token => Ok(()),
                Role::Locker => Ok(()),
            });
        }
    }

    /// The running process of a role.
    pub fn find(&self, role: Role) -> Option<&Running> {
        self.running.iter().find(|running| running.role == role)
    }

    /// Forgets a role's process, which has ended or is to end at the end of file on its control channel.
    pub fn remove(&mut self, role: Role) -> Option<Running> {
        let at = self
            .running
            .iter()
            .position(|running| running.role == role)?;
        Some(self.running.swap_remove(at))
    }

    /// Connects a role with each of its neighbours that runs.
    fn connect(&self, role: Role) {
        for (one, other) in LINKS {
            if role != one && role != other {
                continue;
            }
            if let (Some(one), Some(other)) = (self.find(one), self.find(other)) {
                // Either end may just be dying; its successor will be connected again.
                drop(connect(one, other));
            }
        }
    }

    fn keep_log(&mut self, log: LogChannel) {
        if self.logs.len() >= MAX_OLD_LOGS {
            let is_old =
                |log: &LogChannel| self.running.iter().all(|running| running.pid != log.pid);
            if let Some(oldest) = self.logs.iter().position(is_old) {
                self.logs.remove(oldest);
            }
        }
        self.logs.push(log);
    }
}

fn start<C>(confinement: Confinement, configuration: C) -> Start<C> {
    Start {
        confinement,
        configuration,
    }
}

fn connect(one: &Running, other: &Running) -> Result<(), ChannelError> {
    let (ones, others) = Channel::pair()?;
    if one.role == Role::Listener {
        ones.set_send_buffer(LISTENER_SEND_BUFFER)?;
    }
    introduce(one, other.role, ones)?;
    introduce(other, one.role, others)
}

/// Hands `to` its end of the channel to `neighbour`.
fn introduce(to: &Running, neighbour: Role, channel: Channel) -> Result<(), ChannelError> {
    fn hand_over<M: Message>(
        to: &Running,
        message: M,
        channel: &Channel,
    ) -> Result<(), ChannelError> {
        to.control.try_send(&message, &[channel.as_fd()])
    }
    match (to.role, neighbour) {
        (Role::Auth, Role::Spawner) => hand_over(to, ToAuth::Spawner, &channel),
        (Role::Auth, Role::Token) => hand_over(to, ToAuth::Token, &channel),
        (Role::Auth, _) => hand_over(to, ToAuth::SessionSpawner, &channel),
        (Role::SessionSpawner, Role::Auth) => hand_over(to, ToSessionSpawner::Auth, &channel),
        (Role::SessionSpawner, Role::Keyholder) => {
            hand_over(to, ToSessionSpawner::Keyholder, &channel)
        }
        (Role::SessionSpawner, _) => hand_over(to, ToSessionSpawner::Listener, &channel),
        (Role::Listener, _) => hand_over(to, ToListener::SessionSpawner, &channel),
        (Role::Spawner, Role::Locker) => hand_over(to, ToSpawner::Locker, &channel),
        (Role::Spawner, _) => hand_over(to, ToSpawner::Auth, &channel),
        (Role::Token, _) => hand_over(to, ToToken::Auth, &channel),
        (Role::Locker, _) => hand_over(to, ToLocker::Spawner, &channel),
        (Role::Keyholder, _) => hand_over(to, ToKeyholder::SessionSpawner, &channel),
    }
}
