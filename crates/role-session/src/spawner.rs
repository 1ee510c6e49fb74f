//! The session spawner: forks a session for each connection the listener hands it, and introduces it to auth.
//!
//! It keeps the lease of each session's connection until the session has ended, so that the listener counts it until then; and
//! ends a session when the listener wants room for a newcomer.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use confine::Descriptors;
use confine::channel::{Channel, Received};
use confine::lull::Lull;
use confine::process::{self, Fork};
use confine::sandbox::{Limits, Sandbox};
use confine::seccomp::Program;
use confine::signals::{Signal, SignalFd};
use confine::socket;
use messages::auth::NewSession;
use messages::keyholder::{Certificate, NewSigner};
use messages::log::{Logger, Record};
use messages::session::{Connection, FromListener, SessionConfig, ToSessionSpawner};
use pop3_proto::line;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustls::RootCertStore;
use startup::{Failure, Starting};

use crate::children::Children;
use crate::client::Client;
use crate::session::{self, Job};
use crate::syscalls;
use crate::tls::{self, Tls};

/// Sessions at a time. The listener's limit is lower; this one bounds the table whatever the listener does.
const MAX_SESSIONS: usize = 1 << 17;

/// Descriptors: channels, and a lease for each session.
const MAX_OPEN_FILES: u64 = 1 << 17;

/// A session has few descriptors, but the kernel holds this limit against all sockets that processes of the same user have
/// under way to others (unix(7), ETOOMANYREFS): with a low one, sessions could not give their clients away in a flood.
const SESSION_OPEN_FILES: u64 = MAX_OPEN_FILES;

/// Connections taken from the listener before ended children are looked at.
const MAX_TAKEN_IN_A_ROW: usize = 64;

/// Auth and the keyholder take a new session within this time, or the connection is refused.
const INTRODUCTION_TIMEOUT: Duration = Duration::from_secs(5);

/// The last word to a client for whom there is no session.
const NO_SESSION: &[u8] = b"-ERR [SYS/TEMP] Service not available, try again later\r\n";

/// Runs the role on its control channel until the master closes it.
pub fn run(control: Channel) -> ExitCode {
    startup::run(control, serve)
}

fn serve(role: Starting<'_, SessionConfig>) -> Result<(), Failure> {
    let own = syscalls::spawner().compile()?;
    let sessions = syscalls::session().compile_inside(&syscalls::spawner())?;
    let relay = syscalls::relay().compile_inside(&syscalls::session())?;
    let signals = SignalFd::new(&[Signal::CHILD])?;
    let sandbox = startup::sandbox(&own, &role.confinement).limits(Limits {
        open_files: Some(MAX_OPEN_FILES),
        file_octets: Some(0),
        ..Limits::default()
    });
    let (_confined, report) = sandbox.enter()?;
    line::choose_search();
    process::expect_children();
    role.master.ready(report.missing)?;
    let mut spawner = Spawner {
        control: role.control,
        logger: role.logger,
        configuration: role.configuration,
        program: sessions,
        relay,
        signals,
        lull: Lull::default(),
        listener: None,
        auth: None,
        keyholder: None,
        tls: None,
        coming: Coming::default(),
        children: Children::default(),
    };
    Ok(spawner.run()?)
}

struct Spawner<'a> {
    control: &'a Channel,
    logger: Logger,
    configuration: SessionConfig,
    program: Program,
    relay: Program,
    signals: SignalFd,
    /// After a look at children that have ended.
    lull: Lull,
    listener: Option<Channel>,
    auth: Option<Channel>,
    keyholder: Option<Channel>,
    tls: Option<Tls>,
    coming: Coming,
    children: Children,
}

/// A new set of certificates, as far as it has come.
#[derive(Default)]
struct Coming {
    certificates: Vec<Certificate>,
    authorities: Option<Result<RootCertStore, String>>,
}

/// A connection with its descriptors sorted out.
struct Arrival {
    connection: Connection,
    client: Client,
    lease: OwnedFd,
}

/// A session's own channels.
struct Channels {
    auth: Channel,
    /// Where the session can shake hands.
    keyholder: Option<Channel>,
}

impl Spawner<'_> {
    fn run(&mut self) -> io::Result<()> {
        loop {
            let ready = self.wait()?;
            if ready.signals {
                self.bury();
            }
            if ready.control && !self.obey()? {
                return Ok(());
            }
            if ready.listener && !self.take_connections()? {
                return Ok(());
            }
        }
    }

    fn wait(&self) -> io::Result<Ready> {
        let lull = self.lull.left(Instant::now());
        let signals = lull.map_or(PollFlags::IN, |_| PollFlags::empty());
        let timeout = lull.and_then(|lull| Timespec::try_from(lull).ok());
        let mut polled = vec![
            PollFd::new(&self.signals, signals),
            PollFd::new(self.control, PollFlags::IN),
        ];
        polled.extend(
            self.listener
                .as_ref()
                .map(|listener| PollFd::new(listener, PollFlags::IN)),
        );
        match poll(&mut polled, timeout.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let ready = |at: usize| {
            polled
                .get(at)
                .is_some_and(|polled| !polled.revents().is_empty())
        };
        Ok(Ready {
            signals: ready(0),
            control: ready(1),
            listener: ready(2),
        })
    }

    /// Takes all orders of the master that there are; false: it has gone, or wants us gone.
    fn obey(&mut self) -> io::Result<bool> {
        loop {
            match self.control.try_receive::<ToSessionSpawner>() {
                Ok(Some(Received::Message(message, descriptors))) => {
                    self.follow(message, descriptors)?;
                }
                Ok(Some(Received::Closed)) => return Ok(false),
                Ok(None) => return Ok(true),
                Err(error) => return Err(io::Error::other(error)),
            }
        }
    }

    fn follow(
        &mut self,
        message: ToSessionSpawner,
        mut descriptors: Descriptors,
    ) -> io::Result<()> {
        let mut channel = || {
            let descriptor = descriptors.next().ok_or(io::ErrorKind::InvalidData)?;
            Channel::from_fd(descriptor).map_err(io::Error::other)
        };
        match message {
            ToSessionSpawner::Listener => self.listener = Some(channel()?),
            ToSessionSpawner::Auth => {
                let auth = channel()?;
                socket::set_timeouts(auth.as_fd(), Some(INTRODUCTION_TIMEOUT))?;
                self.auth = Some(auth);
            }
            ToSessionSpawner::Keyholder => {
                let keyholder = channel()?;
                socket::set_timeouts(keyholder.as_fd(), Some(INTRODUCTION_TIMEOUT))?;
                self.keyholder = Some(keyholder);
            }
            ToSessionSpawner::Certificate(certificate) => {
                self.coming.certificates.push(certificate);
            }
            ToSessionSpawner::ClientAuthorities => {
                let file = descriptors.next().ok_or(io::ErrorKind::InvalidData)?;
                self.coming.authorities = Some(tls::read_authorities(&file));
            }
            ToSessionSpawner::UseCertificates => self.use_certificates()?,
            ToSessionSpawner::Reload(configuration) => self.configuration = configuration,
            ToSessionSpawner::Only(connection) => {
                if let Some(arrival) = Arrival::new(connection, descriptors) {
                    self.become_session(arrival);
                }
            }
        }
        Ok(())
    }

    /// A new set that will not do leaves the old one in place.
    fn use_certificates(&mut self) -> io::Result<()> {
        let coming = std::mem::take(&mut self.coming);
        let tls = coming
            .authorities
            .transpose()
            .and_then(|authorities| Tls::new(coming.certificates, authorities.as_ref()));
        match tls {
            Ok(tls) => self.tls = Some(tls),
            Err(error) if self.tls.is_none() => return Err(io::Error::other(error)),
            Err(error) => self
                .logger
                .log(&Record::error("certificates not changed").with("reason", error)),
        }
        Ok(())
    }

    /// Starts sessions for the connections that there are; false: the master has gone, or wants us gone.
    fn take_connections(&mut self) -> io::Result<bool> {
        for _ in 0..MAX_TAKEN_IN_A_ROW {
            let Some(listener) = &self.listener else {
                return Ok(true);
            };
            match listener.try_receive::<FromListener>() {
                Ok(None) => return Ok(true),
                Ok(Some(Received::Message(FromListener::End(id), _))) => self.children.end(id),
                Ok(Some(Received::Message(FromListener::Serve(connection), descriptors))) => {
                    // Whoever connects when the log has told of new certificates is to see them.
                    if !self.obey()? {
                        return Ok(false);
                    }
                    if let Some(arrival) = Arrival::new(connection, descriptors) {
                        self.start_session(arrival);
                    }
                }
                Ok(Some(Received::Closed)) => self.listener = None,
                Err(error) => {
                    self.logger
                        .log(&Record::error("listener channel closed").with("reason", error));
                    self.listener = None;
                }
            }
        }
        Ok(true)
    }

    /// Forks a session, and remembers the lease until it ends.
    fn start_session(&mut self, arrival: Arrival) {
        if self.children.len() >= MAX_SESSIONS {
            return arrival.refuse();
        }
        let channels = match self.introduce(&arrival) {
            Ok(channels) => channels,
            Err(error) => return self.fail(arrival, &error),
        };
        match process::fork() {
            Ok(Fork::Parent(pid)) => {
                self.children
                    .insert(pid, arrival.connection.id, arrival.lease);
            }
            Ok(Fork::Child) => self.live_as_session(arrival, channels, false),
            Err(error) => self.fail(arrival, &error.to_string()),
        }
    }

    /// The only connection there will be: no fork is needed, and this process ends with it. It keeps the lease, for which
    /// there is nobody else: until it ends, the master waits for what it logs.
    fn become_session(&self, arrival: Arrival) {
        match self.introduce(&arrival) {
            Ok(channels) => self.live_as_session(arrival, channels, true),
            Err(error) => self.fail(arrival, &error),
        }
    }

    /// The rest of a session's process, which lets go of what is the spawner's first. It exits, so that what owns a descriptor
    /// that was closed here is never dropped.
    fn live_as_session(&self, arrival: Arrival, channels: Channels, keeps_lease: bool) -> ! {
        let kept: Vec<BorrowedFd<'_>> = arrival
            .client
            .descriptors()
            .chain([channels.auth.as_fd(), self.logger.channel().as_fd()])
            .chain(channels.keyholder.as_ref().map(AsFd::as_fd))
            .chain(keeps_lease.then(|| arrival.lease.as_fd()))
            .collect();
        let code = match process::close_all_except(&kept) {
            Ok(()) => self.serve(&arrival.connection, arrival.client, channels),
            Err(_) => 1,
        };
        process::exit(code)
    }

    /// The session's process: confines itself further, then serves.
    fn serve(&self, connection: &Connection, client: Client, channels: Channels) -> i32 {
        drop(process::set_name(c"popa3d: session"));
        if connection.yields {
            drop(process::yield_to_others());
        }
        let confined = Sandbox::new(&self.program)
            .landlock_inherited()
            .limits(Limits {
                open_files: Some(SESSION_OPEN_FILES),
                processes: Some(0),
                file_octets: Some(0),
                memory_octets: None,
            })
            .enter();
        match confined {
            // What the kernel lacks, the spawner has reported of itself.
            Ok((confined, _)) => {
                let job = Job {
                    connection,
                    configuration: &self.configuration,
                    auth: channels.auth,
                    tls: self.tls.as_ref().zip(channels.keyholder),
                    logger: &self.logger,
                    relay: Some(&self.relay),
                };
                session::serve(confined, client, job);
                0
            }
            Err(error) => {
                self.logger.log(
                    &Record::error("session not confined")
                        .with("session", connection.id)
                        .with("reason", error),
                );
                1
            }
        }
    }

    /// Makes the session's channels and hands auth and the keyholder their ends, with what is known of the client; auth gets
    /// a copy of the lease, too.
    fn introduce(&self, arrival: &Arrival) -> Result<Channels, String> {
        let keyholder = self.introduce_to_keyholder(&arrival.connection);
        if arrival.connection.implicit_tls && keyholder.is_none() {
            return Err("the keyholder is not there".to_owned());
        }
        let auth = self.auth.as_ref().ok_or("auth is not there")?;
        let (ours, theirs) = Channel::pair().map_err(|error| error.to_string())?;
        let connection = &arrival.connection;
        let message = NewSession {
            id: connection.id,
            peer: connection.peer,
            local: connection.local,
            apop_timestamp: connection.apop_timestamp.clone(),
        };
        auth.send(&message, &[theirs.as_fd(), arrival.lease.as_fd()])
            .map_err(|error| format!("auth: {error}"))?;
        Ok(Channels {
            auth: ours,
            keyholder,
        })
    }

    /// Without a keyholder a session can still be served, in the clear.
    fn introduce_to_keyholder(&self, connection: &Connection) -> Option<Channel> {
        self.tls.as_ref()?;
        let keyholder = self.keyholder.as_ref()?;
        let (ours, theirs) = Channel::pair().ok()?;
        let message = NewSigner {
            id: connection.id,
            peer: connection.peer,
        };
        keyholder.send(&message, &[theirs.as_fd()]).ok()?;
        Some(ours)
    }

    fn fail(&self, arrival: Arrival, reason: &str) {
        self.logger.log(
            &Record::error("no session")
                .with("session", arrival.connection.id)
                .with("reason", reason),
        );
        arrival.refuse();
    }

    /// Lets go of the leases of sessions that have ended.
    fn bury(&mut self) {
        self.lull.begin(Instant::now());
        while self.signals.read().is_some() {}
        while let Some((pid, status)) = process::wait_any() {
            let was_ended = self.children.bury(pid);
            if !status.success() && !was_ended {
                self.logger.log(
                    &Record::error("session died")
                        .with("pid", pid.as_raw_pid())
                        .with("status", status),
                );
            }
        }
    }
}

#[derive(Debug)]
struct Ready {
    signals: bool,
    control: bool,
    listener: bool,
}

impl Arrival {
    /// The lease is the last descriptor, behind the client's.
    fn new(connection: Connection, mut descriptors: Descriptors) -> Option<Self> {
        let deadline = Instant::now().checked_add(connection.time_left)?;
        let input = descriptors.next()?;
        let output = if connection.separate_output {
            Some(descriptors.next()?)
        } else {
            None
        };
        let lease = descriptors.next()?;
        Some(Self {
            client: Client::new(input, output, deadline),
            connection,
            lease,
        })
    }

    fn refuse(mut self) {
        if !self.connection.implicit_tls {
            // A client that has gone does not miss it.
            let _ = self.client.send(&mut NO_SESSION.to_vec());
        }
    }
}
