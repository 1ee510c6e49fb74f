//! Octets to and from the server, through TLS or not: what both drivers have in common below the protocol.
//!
//! A driver gives a [`Socket`]. Its functions are polled, which serves both kinds: a blocking socket is always ready, once it
//! has waited. TLS works on octets in memory, so it is the same code for both.

use std::future::poll_fn;
use std::io::{self, Read, Write};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use pop3_proto::client::ProtocolError;
use rustls::{ClientConfig, ClientConnection};
use rustls_pki_types::ServerName;
use zeroize::Zeroize;

use crate::error::ErrorKind;
use crate::tls;

/// Octets received at a time. Some more than the largest TLS record, and enough that system calls cost little.
const RECEIVE_OCTETS: usize = 64 * 1024;

/// A TCP connection.
pub(crate) trait Socket {
    /// Receives into `space`; 0 means that the other side has closed. After `deadline` the error is `TimedOut`.
    fn poll_receive(
        &mut self,
        context: &mut Context<'_>,
        space: &mut [u8],
        deadline: Option<Instant>,
    ) -> Poll<io::Result<usize>>;

    /// Sends the beginning of `octets`.
    fn poll_send(
        &mut self,
        context: &mut Context<'_>,
        octets: &[u8],
        deadline: Option<Instant>,
    ) -> Poll<io::Result<usize>>;
}

/// A connection with its buffers.
pub(crate) struct Channel<S> {
    socket: S,
    tls: Option<Box<ClientConnection>>,
    input: Buffer,
    /// Records not yet deciphered.
    records: Buffer,
    /// To be sent, in the clear.
    output: Vec<u8>,
    /// To be sent, as it goes out; the first `sent` octets are gone.
    wire: Vec<u8>,
    sent: usize,
    received: u64,
    max_received: u64,
}

impl<S: Socket> Channel<S> {
    pub(crate) fn new(socket: S, max_received: u64) -> Channel<S> {
        Channel {
            socket,
            tls: None,
            input: Buffer::new(),
            records: Buffer::default(),
            output: Vec::new(),
            wire: Vec::new(),
            sent: 0,
            received: 0,
            max_received,
        }
    }

    #[cfg(test)]
    pub(crate) fn into_socket(self) -> S {
        self.socket
    }

    /// What has been received and not been consumed.
    pub(crate) fn input(&self) -> &[u8] {
        self.input.filled()
    }

    pub(crate) fn consume(&mut self, octets: usize) {
        self.input.consume(octets);
    }

    /// Where to put what is to be sent at the next [`flush`](Channel::flush).
    pub(crate) fn output(&mut self) -> &mut Vec<u8> {
        &mut self.output
    }

    /// The TLS connection, if there is one.
    pub(crate) fn tls(&self) -> Option<&ClientConnection> {
        self.tls.as_deref()
    }

    /// Sends all of the output.
    pub(crate) async fn flush(&mut self, deadline: Option<Instant>) -> Result<(), ErrorKind> {
        poll_fn(|context| self.poll_flush(context, deadline)).await
    }

    /// Receives more input, once there is none left. `false` means that the other side has closed.
    pub(crate) async fn fill(&mut self, deadline: Option<Instant>) -> Result<bool, ErrorKind> {
        poll_fn(|context| self.poll_fill(context, deadline)).await
    }

    /// Shakes hands. Nothing may be left of what was received before: it came in the clear.
    pub(crate) async fn start_tls(
        &mut self,
        config: Arc<ClientConfig>,
        name: ServerName<'static>,
        deadline: Option<Instant>,
    ) -> Result<(), ErrorKind> {
        if !self.input().is_empty() {
            return Err(ErrorKind::Protocol(ProtocolError::PlaintextBehindStls));
        }
        let connection = ClientConnection::new(config, name).map_err(tls::error)?;
        self.records = Buffer::new();
        let connection = self.tls.insert(Box::new(connection));
        connection.set_buffer_limit(None);
        loop {
            self.flush(deadline).await?;
            if !self.tls().is_some_and(|tls| tls.is_handshaking()) {
                return Ok(());
            }
            let open = poll_fn(|context| self.poll_records(context, deadline)).await?;
            if let Err(error) = self.decipher() {
                // The alert tells the server why; whether it arrives is not ours to worry about.
                let _ = self.flush(deadline).await;
                return Err(error);
            }
            if !open {
                return Err(ErrorKind::Io(io::ErrorKind::UnexpectedEof.into()));
            }
        }
    }

    /// Says that nothing more will be sent. The outcome does not matter: all is said.
    pub(crate) async fn close(&mut self, deadline: Option<Instant>) {
        if let Some(tls) = &mut self.tls {
            tls.send_close_notify();
            let _ = self.flush(deadline).await;
        }
    }

    pub(crate) fn poll_flush(
        &mut self,
        context: &mut Context<'_>,
        deadline: Option<Instant>,
    ) -> Poll<Result<(), ErrorKind>> {
        self.encipher()?;
        while let Some(unsent) = self.wire.get(self.sent..).filter(|rest| !rest.is_empty()) {
            let sent =
                ready!(self.socket.poll_send(context, unsent, deadline)).map_err(io_error)?;
            if sent == 0 {
                return Poll::Ready(Err(ErrorKind::Io(io::ErrorKind::WriteZero.into())));
            }
            self.sent = self.sent.saturating_add(sent);
        }
        // It may have been a password.
        self.wire.zeroize();
        self.sent = 0;
        Poll::Ready(Ok(()))
    }

    pub(crate) fn poll_fill(
        &mut self,
        context: &mut Context<'_>,
        deadline: Option<Instant>,
    ) -> Poll<Result<bool, ErrorKind>> {
        if self.tls.is_none() {
            let Channel { socket, input, .. } = self;
            let octets = ready!(input.poll_fill(context, socket, deadline))?;
            return Poll::Ready(self.count(octets));
        }
        loop {
            if let Some(octets) = self.read_deciphered()? {
                return Poll::Ready(self.count(octets));
            }
            if self.tls().is_some_and(|tls| tls.wants_write()) {
                ready!(self.poll_flush(context, deadline))?;
            }
            ready!(self.poll_records(context, deadline))?;
            self.decipher()?;
        }
    }

    fn count(&mut self, octets: usize) -> Result<bool, ErrorKind> {
        self.received = self.received.saturating_add(octets as u64);
        if self.received > self.max_received {
            return Err(ErrorKind::TooManyOctets);
        }
        Ok(octets > 0)
    }

    /// Moves what TLS has deciphered into the input; `None` if that is nothing so far.
    fn read_deciphered(&mut self) -> Result<Option<usize>, ErrorKind> {
        let Some(tls) = &mut self.tls else {
            return Ok(None);
        };
        match tls.reader().read(self.input.space()) {
            Ok(octets) => {
                self.input.fill(octets);
                Ok(Some(octets))
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            // Closed without saying so: the protocol above tells whether that cuts anything off.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(Some(0)),
            Err(error) => Err(io_error(error)),
        }
    }

    /// Receives records; `false` if the other side has closed.
    fn poll_records(
        &mut self,
        context: &mut Context<'_>,
        deadline: Option<Instant>,
    ) -> Poll<Result<bool, ErrorKind>> {
        let Channel {
            socket,
            tls,
            records,
            ..
        } = self;
        if !records.filled().is_empty() {
            return Poll::Ready(Ok(true));
        }
        let octets = ready!(records.poll_fill(context, socket, deadline))?;
        if octets == 0
            && let Some(tls) = tls
        {
            // So is the end told to rustls.
            tls.read_tls(&mut io::empty()).map_err(io_error)?;
        }
        Poll::Ready(Ok(octets > 0))
    }

    /// Gives records to TLS, as far as it takes them.
    fn decipher(&mut self) -> Result<(), ErrorKind> {
        let Channel { tls, records, .. } = self;
        let Some(tls) = tls else { return Ok(()) };
        let mut unread = records.filled();
        if !unread.is_empty() {
            let taken = tls.read_tls(&mut unread).map_err(io_error)?;
            records.consume(taken);
        }
        tls.process_new_packets().map_err(tls::error)?;
        Ok(())
    }

    /// Moves the output to what goes out.
    fn encipher(&mut self) -> Result<(), ErrorKind> {
        let Channel {
            tls, output, wire, ..
        } = self;
        match tls {
            None => wire.extend_from_slice(output),
            Some(tls) => {
                tls.writer().write_all(output).map_err(io_error)?;
                while tls.wants_write() {
                    tls.write_tls(wire).map_err(io_error)?;
                }
            }
        }
        output.zeroize();
        Ok(())
    }
}

fn io_error(error: io::Error) -> ErrorKind {
    match error.kind() {
        io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => ErrorKind::TimedOut,
        _ => ErrorKind::Io(error),
    }
}

/// Octets received; they are all consumed before more are.
#[derive(Default)]
struct Buffer {
    octets: Box<[u8]>,
    start: usize,
    end: usize,
}

impl Buffer {
    fn new() -> Buffer {
        Buffer {
            octets: vec![0; RECEIVE_OCTETS].into(),
            start: 0,
            end: 0,
        }
    }

    fn filled(&self) -> &[u8] {
        self.octets.get(self.start..self.end).unwrap_or_default()
    }

    fn consume(&mut self, octets: usize) {
        self.start = self.start.saturating_add(octets).min(self.end);
    }

    /// All of it: what was there is consumed.
    fn space(&mut self) -> &mut [u8] {
        (self.start, self.end) = (0, 0);
        &mut self.octets
    }

    fn fill(&mut self, octets: usize) {
        self.end = octets.min(self.octets.len());
    }

    fn poll_fill<S: Socket>(
        &mut self,
        context: &mut Context<'_>,
        socket: &mut S,
        deadline: Option<Instant>,
    ) -> Poll<Result<usize, ErrorKind>> {
        let received = ready!(socket.poll_receive(context, self.space(), deadline));
        let octets = received.map_err(io_error)?;
        self.fill(octets);
        Poll::Ready(Ok(octets))
    }
}
