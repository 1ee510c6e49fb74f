//! The helper that connects to the server: a process that may resolve one name and connect to one port, and sees no token, no
//! secret and no answer. What it connects, the role gets as a descriptor; the role itself can make no socket.
//!
//! So whoever takes over the role by a token reaches nobody but the server, and whoever takes over the helper by an answer of a
//! name server gets a connection that TLS will not accept.

use std::io;
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use confine::channel::{Channel, ChannelError, Message, Received};
use confine::process::{self, Fork};
use confine::sandbox::{Landlock, Limits};
use confine::{ConfineError, socket};
use messages::log::Logger;
use messages::role::Confinement;
use messages::token::Server;
use serde::{Deserialize, Serialize};

use crate::{cut, syscalls};

/// Where name services have their libraries and their configuration, and their sockets. Not the files in it, which others put in
/// their places by renaming.
const PLACES: [&str; 7] = [
    "/etc",
    "/run",
    "/var/run",
    "/usr/lib",
    "/lib",
    "/lib64",
    "/usr/lib64",
];

/// Name servers answer by TCP where an answer is long.
const NAME_SERVER: u16 = 53;

/// Addresses of a name that are tried.
const MAX_ADDRESSES: usize = 8;

/// The helper confines itself within this time.
const START_TIMEOUT: Duration = Duration::from_secs(15);

/// Octets of a text between the two.
const MAX_TEXT_OCTETS: usize = 512;

/// To the helper: a connection, please, within this time.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Dial {
    number: u64,
    patience: Duration,
}

impl Message for Dial {
    const MAX_OCTETS: usize = 64;
}

/// From the helper. The connection comes along, if there is one.
#[derive(Clone, Debug, Serialize, Deserialize)]
enum Said {
    /// It is confined, but for these protections.
    Ready(Vec<String>),
    /// Answer to a [`Dial`].
    Connected(u64),
    /// Answer to a [`Dial`], or to nothing, before it ends; why.
    Failed(u64, String),
}

impl Message for Said {
    const MAX_OCTETS: usize = 4 * 1024;

    fn descriptors(&self) -> usize {
        usize::from(matches!(self, Said::Connected(_)))
    }
}

/// The role's end.
#[derive(Debug)]
pub struct Dialer {
    server: Server,
    pidfd: OwnedFd,
    /// One question at a time: it is the same server for all.
    line: Mutex<Line>,
}

#[derive(Debug)]
struct Line {
    channel: Channel,
    next: u64,
}

impl Dialer {
    /// Starts the helper.
    ///
    /// # Errors
    /// No process or no descriptor to be had.
    pub fn start(
        server: &Server,
        confinement: &Confinement,
        logger: &Logger,
    ) -> Result<Self, String> {
        let text = |error: io::Error| error.to_string();
        let (ours, theirs) = Channel::pair().map_err(text)?;
        match process::fork().map_err(text)? {
            Fork::Child => {
                let kept = [theirs.as_fd(), logger.channel().as_fd()];
                let done = process::close_all_except(&kept)
                    .and_then(|()| process::set_name(c"popa3d: dialer"))
                    .map_err(|error| error.to_string())
                    .and_then(|()| run(&theirs, server, confinement));
                process::exit(match done {
                    Ok(()) => 0,
                    Err(reason) => {
                        drop(theirs.send(&Said::Failed(0, reason), &[]));
                        1
                    }
                })
            }
            Fork::Parent(pid) => Ok(Self {
                server: server.clone(),
                pidfd: process::open_pidfd(pid).map_err(text)?,
                line: Mutex::new(Line {
                    channel: ours,
                    next: 1,
                }),
            }),
        }
    }

    /// Waits until the helper is confined, and tells what the kernel lacks.
    ///
    /// # Errors
    /// Why it is not.
    pub fn await_ready(&self) -> Result<Vec<String>, String> {
        let line = self.line.lock().map_err(|error| error.to_string())?;
        match line.receive(START_TIMEOUT) {
            Ok(Said::Ready(missing)) => Ok(missing),
            Ok(Said::Failed(_, reason)) => Err(format!("dialer: {reason}")),
            Ok(Said::Connected(_)) | Err(_) => Err("dialer: does not start".into()),
        }
    }

    /// Whether it is this server that it connects to.
    pub fn serves(&self, server: &Server) -> bool {
        let place = |server: &Server| (server.tls, server.host.clone(), server.port);
        place(&self.server) == place(server)
    }

    /// Readable when the helper has ended.
    pub fn end(&self) -> &OwnedFd {
        &self.pidfd
    }

    /// A new connection to the server.
    ///
    /// # Errors
    /// Why there is none.
    pub fn connect(&self, patience: Duration) -> io::Result<TcpStream> {
        let deadline = Instant::now().checked_add(patience);
        let mut line = self
            .line
            .lock()
            .map_err(|_| io::Error::other("dialer: lost"))?;
        let number = line.next;
        line.next = number.wrapping_add(1);
        let dial = Dial { number, patience };
        line.channel.send(&dial, &[]).map_err(io::Error::other)?;
        loop {
            let now = Instant::now();
            let left = deadline.map(|deadline| deadline.saturating_duration_since(now));
            let left = left.filter(|left| !left.is_zero());
            match line.hear(left.ok_or(io::ErrorKind::TimedOut)?)? {
                (Said::Connected(of), Some(connection)) if of == number => {
                    return Ok(connection.into());
                }
                (Said::Failed(of, reason), _) if of == number => {
                    return Err(io::Error::other(reason));
                }
                // The answer to one that was not waited for.
                _ => {}
            }
        }
    }
}

impl Line {
    fn receive(&self, patience: Duration) -> io::Result<Said> {
        self.hear(patience).map(|(said, _)| said)
    }

    fn hear(&self, patience: Duration) -> io::Result<(Said, Option<OwnedFd>)> {
        socket::set_timeouts(self.channel.as_fd(), Some(patience))?;
        match self.channel.receive::<Said>() {
            Ok(Received::Message(said, mut descriptors)) => Ok((said, descriptors.next())),
            Ok(Received::Closed) => Err(io::ErrorKind::UnexpectedEof.into()),
            Err(ChannelError::WouldBlock) => Err(io::ErrorKind::TimedOut.into()),
            Err(error) => Err(io::Error::other(error)),
        }
    }
}

/// The helper, until the role closes its end.
fn run(channel: &Channel, server: &Server, confinement: &Confinement) -> Result<(), String> {
    let missing = confine(server, confinement).map_err(|error| error.to_string())?;
    fn send(channel: &Channel, said: &Said, connection: &[BorrowedFd<'_>]) -> Result<(), String> {
        let sent = channel.send(said, connection);
        sent.map_err(|error| error.to_string())
    }
    send(channel, &Said::Ready(missing), &[])?;
    loop {
        let dial = match channel.receive::<Dial>() {
            Ok(Received::Message(dial, _)) => dial,
            Ok(Received::Closed) => return Ok(()),
            Err(error) => return Err(error.to_string()),
        };
        match connect(server, dial.patience) {
            Ok(connection) => {
                let said = Said::Connected(dial.number);
                send(channel, &said, &[connection.as_fd()])?;
            }
            Err(error) => {
                let reason = format!("{} port {}: {error}", server.host, server.port);
                let reason = cut(reason, MAX_TEXT_OCTETS);
                send(channel, &Said::Failed(dial.number, reason), &[])?;
            }
        }
    }
}

/// No chroot: what name services need is all over the system.
fn confine(server: &Server, confinement: &Confinement) -> Result<Vec<String>, ConfineError> {
    let confinement = Confinement {
        chroot: None,
        ..confinement.clone()
    };
    let program = syscalls::dialer().compile()?;
    let mut rules = Landlock::nothing()
        .connect_tcp(server.port)
        .connect_tcp(NAME_SERVER);
    for place in &PLACES {
        rules = rules.read_named(Path::new(place));
    }
    let sandbox = startup::sandbox(&program, &confinement)
        .landlock(rules)
        .limits(Limits {
            open_files: Some(64),
            file_octets: Some(0),
            ..Limits::default()
        });
    let (_confined, report) = sandbox.enter()?;
    Ok(report.missing.into_iter().map(str::to_owned).collect())
}

/// One address after the other, each with its share of the time.
fn connect(server: &Server, patience: Duration) -> io::Result<TcpStream> {
    let deadline = Instant::now().checked_add(patience);
    let addresses = (server.host.as_str(), server.port).to_socket_addrs()?;
    let addresses: Vec<SocketAddr> = addresses
        .filter(|address| server.tls || address.ip().is_loopback())
        .take(MAX_ADDRESSES)
        .collect();
    let mut last = io::Error::other("has no address that may be used");
    let mut to_try = u32::try_from(addresses.len()).unwrap_or(u32::MAX);
    for address in addresses {
        let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        let share = left.unwrap_or(patience).checked_div(to_try);
        let share = share.filter(|share| !share.is_zero());
        let share = share.ok_or(io::ErrorKind::TimedOut)?;
        match TcpStream::connect_timeout(&address, share) {
            Ok(connection) => {
                connection.set_nodelay(true)?;
                return Ok(connection);
            }
            Err(error) => last = error,
        }
        to_try = to_try.saturating_sub(1);
    }
    Err(last)
}
