//! The client's connection as the maildrop process sees it: lines in, replies and mail out through fixed buffers.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use confine::{Descriptors, socket};
use pop3_proto::line::LineBuffer;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{Errno, read, write};

/// Octets gathered before they are sent: small replies to pipelined commands leave together.
const REPLY_OCTETS: usize = 4 * 1024;

/// The same once mail is sent: in large pieces.
const MAIL_OCTETS: usize = 64 * 1024;

/// The same for a client that takes such pieces at once: they become twice as long each time, up to this. Larger ones wake
/// it, and whatever is in between, less often.
const MOST_MAIL_OCTETS: usize = 512 * 1024;

/// A peer that shows no life is given up after this time: until then, nobody else gets its maildrop.
const DEAD_PEER_TIMEOUT: Duration = Duration::from_secs(60);

/// Why a client is not served any further. It gets no reply, and there is no UPDATE.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gone {
    /// It closed the connection, or the network did.
    Closed,
    /// It was silent, or did not read, for too long.
    TimedOut,
}

/// A client on one socket or, under inetd, on two pipes.
#[derive(Debug)]
pub struct Client {
    input: OwnedFd,
    output: Option<OwnedFd>,
    relayed: bool,
    idle_timeout: Duration,
    buffer: Vec<u8>,
    used: usize,
    sent: u64,
}

impl Client {
    /// Takes what the session handed over: the client's socket, its two pipes, or nothing, when the session stays and
    /// relays between the client and `stream`.
    pub fn new(stream: OwnedFd, mut descriptors: Descriptors, idle_timeout: Duration) -> Self {
        let (input, output, relayed) = match descriptors.next() {
            Some(input) => (input, descriptors.next(), false),
            None => (stream, None, true),
        };
        let client = Self {
            input,
            output,
            relayed,
            idle_timeout,
            buffer: vec![0; REPLY_OCTETS],
            used: 0,
            sent: 0,
        };
        for descriptor in [Some(&client.input), client.output.as_ref()]
            .into_iter()
            .flatten()
            .map(AsFd::as_fd)
        {
            // A client on something that cannot do this is served without it.
            drop(socket::set_nonblocking(descriptor, true));
            drop(socket::set_no_delay(descriptor));
            drop(socket::notice_dead_peer(descriptor, DEAD_PEER_TIMEOUT));
        }
        client
    }

    /// Whether the session stays in between, which it does for TLS.
    pub fn is_relayed(&self) -> bool {
        self.relayed
    }

    /// Octets sent so far.
    pub fn sent(&self) -> u64 {
        self.sent
    }

    /// Receives at least one octet, after sending all that waits to be sent.
    ///
    /// # Errors
    /// [`Gone`].
    pub fn receive(&mut self, lines: &mut LineBuffer) -> Result<(), Gone> {
        self.flush()?;
        loop {
            match read(&self.input, &mut *lines.space()) {
                Ok(0) => return Err(Gone::Closed),
                Ok(octets) => {
                    lines.filled(octets);
                    return Ok(());
                }
                Err(Errno::AGAIN) => self.wait(self.input.as_fd(), PollFlags::IN)?,
                Err(Errno::INTR) => {}
                Err(_) => return Err(Gone::Closed),
            }
        }
    }

    /// Makes the buffer as large as mail wants it. A session that only looks whether there is mail does without.
    pub fn prepare_for_mail(&mut self) {
        if self.buffer.len() < MAIL_OCTETS {
            // Memory of its own, of which only that counts which is used: most messages are short.
            let waiting = std::mem::replace(&mut self.buffer, vec![0; MAIL_OCTETS]);
            for (place, octet) in self.buffer.iter_mut().zip(waiting.iter().take(self.used)) {
                *place = *octet;
            }
        }
    }

    /// Where to put octets to be sent; tell [`Client::filled`] how many. Never empty after [`Client::make_room`].
    pub fn room(&mut self) -> &mut [u8] {
        self.buffer.get_mut(self.used..).unwrap_or_default()
    }

    /// `octets` were put into the beginning of [`Client::room`].
    pub fn filled(&mut self, octets: usize) {
        self.used = self.used.saturating_add(octets).min(self.buffer.len());
    }

    /// Sends what waits if the room is used up.
    ///
    /// # Errors
    /// [`Gone`].
    pub fn make_room(&mut self) -> Result<(), Gone> {
        if self.used == self.buffer.len() {
            self.flush()?;
        }
        Ok(())
    }

    /// Queues `replies`, and empties them.
    ///
    /// # Errors
    /// [`Gone`].
    pub fn queue(&mut self, replies: &mut Vec<u8>) -> Result<(), Gone> {
        let mut rest = replies.as_slice();
        while !rest.is_empty() {
            self.make_room()?;
            let room = self.room();
            let fits = room.len().min(rest.len());
            let (now, later) = rest.split_at_checked(fits).unwrap_or((rest, &[]));
            if let Some(place) = room.get_mut(..fits) {
                place.copy_from_slice(now);
            }
            self.filled(fits);
            rest = later;
        }
        replies.clear();
        Ok(())
    }

    /// Sends all that waits to be sent.
    ///
    /// # Errors
    /// [`Gone`].
    pub fn flush(&mut self) -> Result<(), Gone> {
        let mut start = 0;
        let mut takes_all_at_once = false;
        while let Some(rest) = self.buffer.get(start..self.used)
            && !rest.is_empty()
        {
            let output = self.output.as_ref().unwrap_or(&self.input);
            match write(output, rest) {
                Ok(octets) => {
                    takes_all_at_once = octets == self.buffer.len();
                    start = start.saturating_add(octets);
                    self.sent = self.sent.saturating_add(octets as u64);
                }
                Err(Errno::AGAIN) => self.wait(output.as_fd(), PollFlags::OUT)?,
                Err(Errno::INTR) => {}
                Err(_) => return Err(Gone::Closed),
            }
        }
        self.used = 0;
        if takes_all_at_once {
            self.enlarge();
        }
        Ok(())
    }

    /// Gathers twice as much mail from now on. A session in between takes pieces of its own size.
    fn enlarge(&mut self) {
        let octets = self.buffer.len();
        if (MAIL_OCTETS..MOST_MAIL_OCTETS).contains(&octets) && !self.relayed {
            self.buffer = vec![0; octets.saturating_mul(2)];
        }
    }

    fn wait(&self, descriptor: BorrowedFd<'_>, event: PollFlags) -> Result<(), Gone> {
        let timeout = Timespec::try_from(self.idle_timeout).ok();
        match poll(
            &mut [PollFd::from_borrowed_fd(descriptor, event)],
            timeout.as_ref(),
        ) {
            Ok(0) => Err(Gone::TimedOut),
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(_) => Err(Gone::Closed),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::Read;
    use std::thread;

    use rustix::net::sockopt::set_socket_send_buffer_size;
    use rustix::pipe::{fcntl_setpipe_size, pipe};

    use super::*;

    /// A client behind a socket that takes so many octets at once, and the other end.
    fn client(takes: usize, relayed: bool) -> (Client, File) {
        let (ours, theirs) = socket::stream_pair().unwrap();
        socket::set_nonblocking(ours.as_fd(), true).unwrap();
        set_socket_send_buffer_size(&ours, takes).unwrap();
        let mut client = Client {
            input: ours,
            output: None,
            relayed,
            idle_timeout: Duration::from_secs(20),
            buffer: vec![0; REPLY_OCTETS],
            used: 0,
            sent: 0,
        };
        client.prepare_for_mail();
        (client, File::from(theirs))
    }

    /// Sends so many octets, each another than the one before, and returns those.
    fn send(client: &mut Client, octets: usize) -> Vec<u8> {
        let mail: Vec<u8> = (0..octets).map(|at| (at % 251) as u8).collect();
        let mut queued = mail.clone();
        client.queue(&mut queued).unwrap();
        client.flush().unwrap();
        mail
    }

    fn received(mut theirs: File) -> thread::JoinHandle<Vec<u8>> {
        thread::spawn(move || {
            let mut octets = Vec::new();
            theirs.read_to_end(&mut octets).unwrap();
            octets
        })
    }

    const MAIL: usize = 1024 * 1024;

    #[test]
    fn a_client_that_takes_mail_at_once_gets_larger_pieces() {
        let (mut client, theirs) = client(4 * MAIL, false);
        let mail = send(&mut client, MAIL);
        assert_eq!(client.buffer.len(), MOST_MAIL_OCTETS);
        assert_eq!(client.sent(), MAIL as u64);
        drop(client);
        assert!(received(theirs).join().unwrap() == mail);
    }

    #[test]
    fn one_that_takes_them_in_parts_does_not() {
        let (mut client, _) = client(MAIL, false);
        // A pipe takes what there is room for, and leaves the rest.
        let (theirs, ours) = pipe().unwrap();
        socket::set_nonblocking(ours.as_fd(), true).unwrap();
        fcntl_setpipe_size(&ours, MAIL_OCTETS / 2).unwrap();
        client.output = Some(ours);
        let receiver = received(File::from(theirs));
        let mail = send(&mut client, MAIL);
        assert_eq!(client.buffer.len(), MAIL_OCTETS);
        drop(client);
        assert!(receiver.join().unwrap() == mail);
    }

    #[test]
    fn nor_does_a_session_in_between() {
        let (mut client, theirs) = client(4 * MAIL, true);
        let mail = send(&mut client, MAIL);
        assert_eq!(client.buffer.len(), MAIL_OCTETS);
        drop(client);
        assert!(received(theirs).join().unwrap() == mail);
    }
}
