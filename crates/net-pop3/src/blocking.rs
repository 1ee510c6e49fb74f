//! The driver for programs without an async runtime: every call waits until it is done.
//!
//! ```
//! use std::io;
//! use net_pop3::{Credentials, Security, blocking::Pop3};
//!
//! # let server = scripted_server::Mailbox::sample().start();
//! # let port = server.port();
//! let mut session = Pop3::builder()
//!     .host("127.0.0.1")
//!     .port(port)
//!     .security(Security::Plain) // or leave this out: TLS is the default
//!     .connect()?
//!     .login(&Credentials::password("mrose", "tanstaaf"))?;
//! for message in session.listing()? {
//!     io::copy(&mut session.retr(&message)?, &mut io::sink())?;
//!     session.dele(&message)?;
//! }
//! session.quit()?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::future::Future;
use std::io::{self, Read, Write};
use std::marker::PhantomData;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, ToSocketAddrs};
use std::os::fd::OwnedFd;
use std::pin::pin;
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, connect, socket_with, sockopt};

use crate::channel::Socket;
use crate::connect::{Driver, Outcome, Race};

macro_rules! now {
    ($future:expr) => {
        run($future)
    };
}

crate::session::driver! {
    driver: Blocking, socket: TcpSocket, async: [], wait: now,
    open: "# fn main() -> Result<(), net_pop3::Error> {", close: "# Ok(())\n# }", await: "", module: "blocking"
}

crate::message::readers! {
    socket: TcpSocket, async: [], wait: now,
    open: "# fn main() -> Result<(), net_pop3::Error> {", close: "# Ok(())\n# }", await: "", module: "blocking"
}

impl Message<'_> {
    /// Writes all that is left to `writer`, in pieces as large as they are received. Returns how many octets that were.
    ///
    /// ```
    /// # let mut session = scripted_server::doc::blocking!()?;
    /// let mut file = Vec::new();
    /// assert_eq!(session.retr(1)?.copy_to(&mut file)?, 51);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// The writer's, or one that holds an [`Error`].
    pub fn copy_to(&mut self, writer: &mut impl Write) -> io::Result<u64> {
        let mut copied: u64 = 0;
        // What an earlier read has left comes first.
        let mut block = self.cursor.take_pending();
        let mut context = Context::from_waker(Waker::noop());
        loop {
            writer.write_all(&block)?;
            copied = copied.saturating_add(block.len() as u64);
            block.clear();
            if self.cursor.is_at_end() {
                break;
            }
            match self.core.poll_block(&mut context, &mut block) {
                Poll::Ready(Ok(true)) | Poll::Pending => (),
                Poll::Ready(Ok(false)) => self.cursor.end(),
                Poll::Ready(Err(error)) => return Err(error.into()),
            }
        }
        Ok(copied)
    }
}

impl Read for Message<'_> {
    fn read(&mut self, space: &mut [u8]) -> io::Result<usize> {
        let Message { core, cursor, .. } = self;
        let read = std::future::poll_fn(|context| cursor.poll_read(core, context, space));
        run(read).map_err(io::Error::from)
    }
}

/// The driver of this module.
///
/// ```
/// use net_pop3::blocking::{Builder, Pop3};
///
/// let builder: Builder = Pop3::builder(); // the Builder of this driver
/// ```
#[derive(Clone, Copy, Debug)]
pub enum Blocking {}

/// Runs a future whose sockets block: it is done when it has been polled once.
fn run<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    let mut context = Context::from_waker(Waker::noop());
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
            return output;
        }
    }
}

impl Driver for Blocking {
    type Socket = TcpSocket;
    type Race = SideBySide;

    /// In a thread, since the system's resolver knows no deadline; what it finds after that is dropped.
    async fn resolve(
        host: &str,
        port: u16,
        deadline: Option<Instant>,
    ) -> io::Result<Vec<SocketAddr>> {
        let host = host.to_owned();
        let (sender, receiver) = sync_channel(1);
        std::thread::spawn(move || {
            let found = (host.as_str(), port).to_socket_addrs();
            // Nobody listens any more if it took too long.
            let _ = sender.send(found.map(Iterator::collect));
        });
        let Some(deadline) = deadline else {
            return receiver
                .recv()
                .unwrap_or_else(|_| Err(io::ErrorKind::NotFound.into()));
        };
        match receiver.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(found) => found,
            Err(RecvTimeoutError::Timeout) => Err(io::ErrorKind::TimedOut.into()),
            Err(RecvTimeoutError::Disconnected) => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn race(local_port: Option<u16>) -> SideBySide {
        SideBySide {
            local_port,
            attempts: Vec::new(),
        }
    }
}

/// Sockets that are being connected, without blocking.
#[derive(Debug)]
pub(crate) struct SideBySide {
    local_port: Option<u16>,
    attempts: Vec<(SocketAddr, OwnedFd)>,
}

impl Race for SideBySide {
    type Socket = TcpSocket;

    fn start(&mut self, address: SocketAddr) -> io::Result<()> {
        let family = match address {
            SocketAddr::V4(_) => AddressFamily::INET,
            SocketAddr::V6(_) => AddressFamily::INET6,
        };
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let socket = socket_with(family, SocketType::STREAM, flags, None)?;
        if let Some(port) = self.local_port {
            sockopt::set_socket_reuseaddr(&socket, true)?;
            let any = match address {
                SocketAddr::V4(_) => SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)),
                SocketAddr::V6(_) => SocketAddr::from((Ipv6Addr::UNSPECIFIED, port)),
            };
            bind(&socket, &any)?;
        }
        match connect(&socket, &address) {
            Ok(()) | Err(Errno::INPROGRESS) => self.attempts.push((address, socket)),
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }

    fn running(&self) -> usize {
        self.attempts.len()
    }

    fn poll(&mut self, _: &mut Context<'_>, until: Option<Instant>) -> Poll<Outcome<TcpSocket>> {
        Poll::Ready(self.wait(until).unwrap_or_else(Outcome::Failed))
    }
}

impl SideBySide {
    fn wait(&mut self, until: Option<Instant>) -> io::Result<Outcome<TcpSocket>> {
        let timeout = until
            .map(|until| until.saturating_duration_since(Instant::now()))
            // Rounded up, so that it is not looked at again before its time.
            .and_then(|rest| {
                Timespec::try_from(rest.saturating_add(Duration::from_millis(1))).ok()
            });
        let mut waited: Vec<PollFd<'_>> = self
            .attempts
            .iter()
            .map(|(_, socket)| PollFd::new(socket, PollFlags::OUT))
            .collect();
        match poll(&mut waited, timeout.as_ref()) {
            Ok(_) | Err(Errno::INTR) => (),
            Err(error) => return Err(error.into()),
        }
        let Some(done) = waited.iter().position(|fd| !fd.revents().is_empty()) else {
            return Ok(Outcome::Waited);
        };
        let (address, socket) = self.attempts.swap_remove(done);
        match sockopt::socket_error(&socket)? {
            Ok(()) => {
                let stream = TcpStream::from(socket);
                stream.set_nonblocking(false)?;
                stream.set_nodelay(true)?;
                Ok(Outcome::Connected(TcpSocket::new(stream), address))
            }
            Err(error) => Ok(Outcome::Failed(error.into())),
        }
    }
}

/// A socket that blocks until its deadline.
#[derive(Debug)]
pub(crate) struct TcpSocket {
    stream: TcpStream,
    /// As the kernel knows them.
    receive_timeout: Option<Duration>,
    send_timeout: Option<Duration>,
}

impl TcpSocket {
    pub(crate) fn new(stream: TcpStream) -> TcpSocket {
        TcpSocket {
            stream,
            receive_timeout: None,
            send_timeout: None,
        }
    }
}

impl Socket for TcpSocket {
    fn poll_receive(
        &mut self,
        _: &mut Context<'_>,
        space: &mut [u8],
        deadline: Option<Instant>,
    ) -> Poll<io::Result<usize>> {
        if let Some(timeout) = changed_timeout(deadline, self.receive_timeout)? {
            self.stream.set_read_timeout(timeout)?;
            self.receive_timeout = timeout;
        }
        Poll::Ready(uninterrupted(|| self.stream.read(space)))
    }

    fn poll_send(
        &mut self,
        _: &mut Context<'_>,
        octets: &[u8],
        deadline: Option<Instant>,
    ) -> Poll<io::Result<usize>> {
        if let Some(timeout) = changed_timeout(deadline, self.send_timeout)? {
            self.stream.set_write_timeout(timeout)?;
            self.send_timeout = timeout;
        }
        Poll::Ready(uninterrupted(|| self.stream.write(octets)))
    }
}

/// The time-out to be told to the kernel, if what it knows is off by more than a hundredth: most waits begin with the same
/// time ahead, and need no system call.
fn changed_timeout(
    deadline: Option<Instant>,
    known: Option<Duration>,
) -> io::Result<Option<Option<Duration>>> {
    let Some(deadline) = deadline else {
        return Ok(known.map(|_| None));
    };
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() {
        return Err(io::ErrorKind::TimedOut.into());
    }
    let is_near = known.is_some_and(|known| known.abs_diff(left).saturating_mul(100) <= left);
    Ok((!is_near).then_some(Some(left)))
}

fn uninterrupted(mut call: impl FnMut() -> io::Result<usize>) -> io::Result<usize> {
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => (),
            result => return result,
        }
    }
}
