//! The driver for tokio, with the same names as [`blocking`](crate::blocking).
//!
//! A future that is dropped half-way leaves the session usable: the next command first reads away what was still to come. Only a
//! login or [`quit`](Session::quit), which own the session, close it.
//!
//! ```
//! use net_pop3::{Credentials, Security, tokio::Pop3};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let server = scripted_server::Mailbox::sample().start();
//! # let port = server.port();
//! let mut session = Pop3::builder()
//!     .host("127.0.0.1")
//!     .port(port)
//!     .security(Security::Plain) // or leave this out: TLS is the default
//!     .connect()
//!     .await?
//!     .login(&Credentials::password("mrose", "tanstaaf"))
//!     .await?;
//! for message in session.listing().await? {
//!     tokio::io::copy(&mut session.retr(&message).await?, &mut tokio::io::sink()).await?;
//!     session.dele(&message).await?;
//! }
//! session.quit().await?;
//! # Ok(())
//! # }
//! ```

use std::future::Future;
use std::io;
use std::marker::PhantomData;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use ::tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use ::tokio::net::{TcpSocket as Unconnected, TcpStream, lookup_host};
use ::tokio::time::{Sleep, sleep_until, timeout_at};

use crate::channel::Socket;
use crate::connect::{Driver, Outcome, Race};

macro_rules! awaited {
    ($future:expr) => {
        $future.await
    };
}

crate::session::driver! {
    driver: Tokio, socket: TcpSocket, async: [async], wait: awaited,
    open: "# #[tokio::main(flavor = \"current_thread\")]\n# async fn main() -> Result<(), net_pop3::Error> {",
    close: "# Ok(())\n# }", await: ".await", module: "tokio"
}

crate::message::readers! {
    socket: TcpSocket, async: [async], wait: awaited,
    open: "# #[tokio::main(flavor = \"current_thread\")]\n# async fn main() -> Result<(), net_pop3::Error> {",
    close: "# Ok(())\n# }", await: ".await", module: "tokio"
}

impl AsyncRead for Message<'_> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let Message { core, cursor, .. } = self.get_mut();
        let octets = ready!(cursor.poll_read(core, context, buffer.initialize_unfilled()))?;
        buffer.advance(octets);
        Poll::Ready(Ok(()))
    }
}

/// The driver of this module.
///
/// ```
/// use net_pop3::tokio::{Builder, Pop3};
///
/// let builder: Builder = Pop3::builder(); // the Builder of this driver
/// ```
#[derive(Clone, Copy, Debug)]
pub enum Tokio {}

impl Driver for Tokio {
    type Socket = TcpSocket;
    type Race = SideBySide;

    async fn resolve(
        host: &str,
        port: u16,
        deadline: Option<Instant>,
    ) -> io::Result<Vec<SocketAddr>> {
        let found = lookup_host((host, port));
        let found = match deadline {
            Some(deadline) => timeout_at(deadline.into(), found).await??,
            None => found.await?,
        };
        Ok(found.collect())
    }

    fn race(local_port: Option<u16>) -> SideBySide {
        SideBySide {
            local_port,
            attempts: Vec::new(),
            timer: Timer::default(),
        }
    }
}

type Attempt = Pin<Box<dyn Future<Output = io::Result<TcpStream>> + Send>>;

/// Connections being made.
pub(crate) struct SideBySide {
    local_port: Option<u16>,
    attempts: Vec<(SocketAddr, Attempt)>,
    timer: Timer,
}

impl Race for SideBySide {
    type Socket = TcpSocket;

    fn start(&mut self, address: SocketAddr) -> io::Result<()> {
        let socket = match address {
            SocketAddr::V4(_) => Unconnected::new_v4()?,
            SocketAddr::V6(_) => Unconnected::new_v6()?,
        };
        if let Some(port) = self.local_port {
            socket.set_reuseaddr(true)?;
            socket.bind(match address {
                SocketAddr::V4(_) => SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)),
                SocketAddr::V6(_) => SocketAddr::from((Ipv6Addr::UNSPECIFIED, port)),
            })?;
        }
        self.attempts
            .push((address, Box::pin(socket.connect(address))));
        Ok(())
    }

    fn running(&self) -> usize {
        self.attempts.len()
    }

    fn poll(
        &mut self,
        context: &mut Context<'_>,
        until: Option<Instant>,
    ) -> Poll<Outcome<TcpSocket>> {
        let mut done = None;
        for (index, (_, attempt)) in self.attempts.iter_mut().enumerate() {
            if let Poll::Ready(result) = attempt.as_mut().poll(context) {
                done = Some((index, result));
                break;
            }
        }
        if let Some((index, result)) = done {
            let (address, _) = self.attempts.swap_remove(index);
            let connected = result.and_then(|stream| {
                stream.set_nodelay(true)?;
                Ok(TcpSocket::new(stream))
            });
            return Poll::Ready(match connected {
                Ok(socket) => Outcome::Connected(socket, address),
                Err(error) => Outcome::Failed(error),
            });
        }
        ready!(self.timer.poll(context, until));
        Poll::Ready(Outcome::Waited)
    }
}

/// A socket with a timer.
pub(crate) struct TcpSocket {
    stream: TcpStream,
    timer: Timer,
}

impl TcpSocket {
    fn new(stream: TcpStream) -> TcpSocket {
        TcpSocket {
            stream,
            timer: Timer::default(),
        }
    }
}

impl Socket for TcpSocket {
    fn poll_receive(
        &mut self,
        context: &mut Context<'_>,
        space: &mut [u8],
        deadline: Option<Instant>,
    ) -> Poll<io::Result<usize>> {
        let mut buffer = ReadBuf::new(space);
        match Pin::new(&mut self.stream).poll_read(context, &mut buffer) {
            Poll::Ready(result) => Poll::Ready(result.map(|()| buffer.filled().len())),
            Poll::Pending => self.timer.poll(context, deadline).map(timed_out),
        }
    }

    fn poll_send(
        &mut self,
        context: &mut Context<'_>,
        octets: &[u8],
        deadline: Option<Instant>,
    ) -> Poll<io::Result<usize>> {
        match Pin::new(&mut self.stream).poll_write(context, octets) {
            Poll::Ready(result) => Poll::Ready(result),
            Poll::Pending => self.timer.poll(context, deadline).map(timed_out),
        }
    }
}

fn timed_out((): ()) -> io::Result<usize> {
    Err(io::ErrorKind::TimedOut.into())
}

/// Wakes at a deadline; set only when something has to be waited for.
#[derive(Default)]
struct Timer {
    sleep: Option<Pin<Box<Sleep>>>,
}

impl Timer {
    fn poll(&mut self, context: &mut Context<'_>, deadline: Option<Instant>) -> Poll<()> {
        let Some(deadline) = deadline else {
            return Poll::Pending;
        };
        let deadline = deadline.into();
        let sleep = self
            .sleep
            .get_or_insert_with(|| Box::pin(sleep_until(deadline)));
        if sleep.deadline() != deadline {
            sleep.as_mut().reset(deadline);
        }
        sleep.as_mut().poll(context)
    }
}
