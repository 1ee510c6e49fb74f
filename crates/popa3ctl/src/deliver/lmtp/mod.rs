//! An LMTP server (RFC 2033) in front of `popa3ctl deliver`.
//!
//! What the client sends is looked at by a process of its own for each connection, which is nobody and has no files but the one that
//! the message is kept in ([`process`]). It asks this one, over a channel, whether there is a recipient and to deliver to it; and for
//! that `popa3ctl deliver` is started anew, which becomes the user. This process starts processes and parses no octet of a client's.

mod command;
mod process;
mod session;

use std::fs::{self, File};
use std::io::{self, Seek};
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use confine::channel::{Channel, Message, Received};
use confine::socket;
use serde::{Deserialize, Serialize};

use super::exit::{EX_NOUSER, EX_TEMPFAIL, Failure};
use super::recipient::{self, Recipient};
use command::MAX_PATH_OCTETS;
use session::Outcome;

pub use process::run as run_session;

/// Connections at a time. More are accepted when one has ended; a mail transfer agent opens some tens.
const MAX_CONNECTIONS: usize = 64;

/// A client that is silent, or does not read, for so long has gone (RFC 5321 section 4.5.3.2: five minutes).
const CLIENT_TIMEOUT: Duration = Duration::from_secs(300);

/// Between looks whether a connection has ended, when there are as many as there may be.
const PAUSE: Duration = Duration::from_millis(20);

/// From a session to this process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Request {
    /// Is there such a recipient?
    Check { recipient: String },
    /// Deliver what is in the file.
    Deliver { sender: String, recipient: String },
}

impl Message for Request {
    const MAX_OCTETS: usize = 2 * MAX_PATH_OCTETS + 16;
}

/// The answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Answer(Outcome);

impl Message for Answer {
    const MAX_OCTETS: usize = 8;
}

/// To a session, at its beginning: the file that messages are kept in comes along.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Begin {
    max_octets: u64,
}

impl Message for Begin {
    const MAX_OCTETS: usize = 16;

    fn descriptors(&self) -> usize {
        1
    }
}

/// Where to listen, and how to deliver.
#[derive(Clone, Debug)]
pub struct Server {
    /// The server's configuration.
    pub configuration: Option<PathBuf>,
    /// Octets of a message.
    pub max_octets: u64,
}

impl Server {
    /// Listens on a socket in the file system, replacing one that is there; its directory's rights say who may connect, and its mode
    /// 0660.
    pub fn listen_at(self, path: &Path) -> Result<(), Failure> {
        let fail =
            |error: io::Error| Failure::temporary(format_args!("{}: {error}", path.display()));
        use std::os::unix::fs::FileTypeExt;
        if fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_socket()) {
            fs::remove_file(path).map_err(fail)?;
        }
        let listener = UnixListener::bind(path).map_err(fail)?;
        fs::set_permissions(path, fs::Permissions::from_mode(0o660)).map_err(fail)?;
        self.serve(|| listener.accept().map(|(client, _)| client.into()))
    }

    /// Listens on an address.
    pub fn listen_on(self, address: SocketAddr) -> Result<(), Failure> {
        let fail = |error: io::Error| Failure::temporary(format_args!("{address}: {error}"));
        let listener = TcpListener::bind(address).map_err(fail)?;
        self.serve(|| listener.accept().map(|(client, _)| client.into()))
    }

    fn serve(self, accept: impl Fn() -> io::Result<OwnedFd>) -> Result<(), Failure> {
        // Also whether the configuration can be read at all.
        let network = recipient::network_user(self.configuration.as_deref())?;
        let under_way = Arc::new(AtomicUsize::new(0));
        loop {
            while under_way.load(Ordering::Acquire) >= MAX_CONNECTIONS {
                std::thread::sleep(PAUSE);
            }
            let client = match accept() {
                Ok(client) => client,
                Err(error) => {
                    eprintln!("popa3ctl: accept: {error}");
                    std::thread::sleep(PAUSE);
                    continue;
                }
            };
            let (server, under_way) = (self.clone(), Arc::clone(&under_way));
            under_way.fetch_add(1, Ordering::AcqRel);
            std::thread::spawn(move || {
                if let Err(error) = server.attend(client, network) {
                    eprintln!("popa3ctl: LMTP session: {error}");
                }
                under_way.fetch_sub(1, Ordering::AcqRel);
            });
        }
    }

    /// Starts a session for a client and does what it asks for, until it ends.
    fn attend(&self, client: OwnedFd, network: Option<(u32, u32)>) -> io::Result<()> {
        socket::set_timeouts(client.as_fd(), Some(CLIENT_TIMEOUT))?;
        let (channel, theirs) = Channel::pair()?;
        let mut kept = nameless()?;
        let mut command = Command::new("/proc/self/exe");
        command.args(["lmtp-session"]);
        if let Some((uid, gid)) = network {
            command.args([uid.to_string(), gid.to_string()]);
        }
        let mut session = command
            .env_clear()
            .current_dir("/")
            .stdin(client)
            .stdout(theirs.into_fd())
            .spawn()?;
        // It holds the session's descriptors, whose end would never be seen.
        drop(command);
        let begin = Begin {
            max_octets: self.max_octets,
        };
        let served = channel
            .send(&begin, &[kept.as_fd()])
            .map_err(io::Error::other)
            .and_then(|()| self.answer(&channel, &mut kept));
        drop(channel);
        session.wait()?;
        served
    }

    fn answer(&self, channel: &Channel, kept: &mut File) -> io::Result<()> {
        loop {
            let request = match channel.receive::<Request>() {
                Ok(Received::Message(request, _)) => request,
                Ok(Received::Closed) => return Ok(()),
                Err(error) => return Err(io::Error::other(error)),
            };
            let outcome = match request {
                Request::Check { recipient } => match self.user(&recipient) {
                    Ok(_) => Outcome::Done,
                    Err(failure) => outcome(failure.status()),
                },
                Request::Deliver { sender, recipient } => {
                    self.deliver(&sender, &recipient, kept)?
                }
            };
            channel
                .send(&Answer(outcome), &[])
                .map_err(io::Error::other)?;
        }
    }

    /// The user an address is of: the whole of it, what is before the last `@`, or what of that is before a `+`.
    fn user<'a>(&self, address: &'a str) -> Result<&'a str, Failure> {
        let local = address.rsplit_once('@').map_or(address, |(local, _)| local);
        let plain = local.split_once('+').map_or(local, |(plain, _)| plain);
        let mut result = Err(Failure::no_user("no such user"));
        for name in [address, local, plain] {
            if name.is_empty() {
                continue;
            }
            match Recipient::find(name, self.configuration.as_deref()) {
                Ok(_) => return Ok(name),
                Err(failure) if failure.status() == EX_NOUSER => result = Err(failure),
                Err(failure) => return Err(failure),
            }
        }
        result
    }

    fn deliver(&self, sender: &str, recipient: &str, kept: &mut File) -> io::Result<Outcome> {
        let user = match self.user(recipient) {
            Ok(user) => user,
            Err(failure) => return Ok(outcome(failure.status())),
        };
        kept.rewind()?;
        let mut command = Command::new("/proc/self/exe");
        command.args(["deliver", "--sender", sender]);
        if let Some(configuration) = &self.configuration {
            command.arg("--configuration").arg(configuration);
        }
        let status = command
            .args(["--", user])
            .stdin(kept.try_clone()?)
            .stdout(Stdio::null())
            .status()?;
        Ok(outcome_of_process(status))
    }
}

fn outcome_of_process(status: ExitStatus) -> Outcome {
    // Killed: it may be tried again.
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    outcome(code.unwrap_or(EX_TEMPFAIL))
}

fn outcome(status: u8) -> Outcome {
    match status {
        0 => Outcome::Done,
        EX_NOUSER => Outcome::NoUser,
        EX_TEMPFAIL => Outcome::Temporary,
        _ => Outcome::Permanent,
    }
}

/// A file that nobody else can open, on the disk that temporary files are on.
fn nameless() -> io::Result<File> {
    deliver::Spool::default().into_file()
}
