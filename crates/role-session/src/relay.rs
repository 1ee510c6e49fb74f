//! After a login by TLS: the session stays, and passes octets between the client and the maildrop process.
//!
//! A fixed buffer each way, and TLS's own bounded ones: a side that does not take its octets stops the other from giving
//! any, and nothing is held for it but those. How long a client may be silent is the maildrop process's to say; when that
//! has closed its end, the client gets what is left and TLS's end.

use std::io::{self, IoSlice, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use confine::sandbox;
use confine::seccomp::Program;
use confine::socket;
use page_buffer::PageBuffer;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{Errno, read, write};
use rustls::ServerConnection;

use crate::client::{Gone, Parts, Stream};

/// Octets on the way to the maildrop process: commands.
const TO_MAILDROP_OCTETS: usize = 4 * 1024;

/// Octets on the way to the client: mail, in pieces of three full TLS records.
const TO_CLIENT_OCTETS: usize = 48 * 1024;

/// Octets that TLS copies into a record at once. From 4 KiB on the C library copies by an instruction (`rep movsb`) that
/// takes several times as long on some processors, by where in their pages the octets come from and go to.
const COPIED_AT_ONCE: usize = 2 * 1024;

/// Steps towards the client before it is looked whether it has said something: half of them bring mail, half send it.
const STEPS_DOWN_IN_A_ROW: u32 = 8;

/// A peer that shows no life is given up after this time.
const DEAD_PEER_TIMEOUT: Duration = Duration::from_secs(60);

/// A client that has not taken the last octets so long after the maildrop process has gone does not get them: a quarter of
/// a megabyte at most, that is 2 KiB a second.
const LAST_OCTETS_TIMEOUT: Duration = Duration::from_secs(120);

/// Relays until one side has closed, confined to `narrower` besides.
///
/// # Errors
/// How the client has gone, unless it has said goodbye and is content; or why it is not served.
pub fn run(client: Parts, maildrop: OwnedFd, narrower: Option<&Program>) -> Result<(), Gone> {
    // What cannot do this is served without it.
    for descriptor in [Some(&client.input), client.output.as_ref()]
        .into_iter()
        .flatten()
    {
        drop(socket::set_no_delay(descriptor.as_fd()));
        drop(socket::notice_dead_peer(
            descriptor.as_fd(),
            DEAD_PEER_TIMEOUT,
        ));
    }
    drop(socket::set_nonblocking(maildrop.as_fd(), true));
    if let Some(narrower) = narrower {
        sandbox::narrow(narrower).map_err(|error| Gone::NotConfined(error.to_string()))?;
    }
    Relay {
        tls: client.tls,
        input: client.input,
        output: client.output,
        maildrop,
        commands: Buffer::new(TO_MAILDROP_OCTETS),
        // The kernel copies mail here from the beginning of a page, and TLS from here to allocations shortly behind one.
        mail: PageBuffer::mid_page(TO_CLIENT_OCTETS),
        client_over: None,
        maildrop_over: false,
        deadline: None,
    }
    .run()
}

struct Relay {
    tls: Box<ServerConnection>,
    input: OwnedFd,
    output: Option<OwnedFd>,
    maildrop: OwnedFd,
    commands: Buffer,
    mail: PageBuffer,
    /// The client sends nothing more: whether it said so.
    client_over: Option<Result<(), Gone>>,
    /// The maildrop process sends nothing more.
    maildrop_over: bool,
    /// Set when the maildrop process has gone.
    deadline: Option<Instant>,
}

/// How far one direction has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// Some octets further.
    Moved,
    /// The client must send, or take, something first.
    Client,
    /// The maildrop process must.
    Maildrop,
    /// There is nothing more to be passed on.
    Over,
}

impl Relay {
    fn run(mut self) -> Result<(), Gone> {
        let relayed = self.relay();
        let output = self.output.as_ref().unwrap_or(&self.input);
        drop(socket::shutdown_write(output.as_fd()));
        // How the client has ended its half says more than that it was not there for the rest.
        match self.client_over {
            Some(Err(gone)) => Err(gone),
            _ => relayed,
        }
    }

    fn relay(&mut self) -> Result<(), Gone> {
        loop {
            let (up, mut down) = (self.step_up()?, self.step_down()?);
            for _ in 0..STEPS_DOWN_IN_A_ROW {
                if down == Step::Moved {
                    down = self.step_down()?;
                }
            }
            if down == Step::Over {
                return Ok(());
            }
            if up != Step::Moved && down != Step::Moved {
                self.wait(up, down)?;
            }
        }
    }

    /// From the client to the maildrop process.
    fn step_up(&mut self) -> Result<Step, Gone> {
        if !self.commands.is_empty() {
            return Ok(match write(&self.maildrop, self.commands.filled()) {
                Ok(octets) => {
                    self.commands.taken(octets);
                    Step::Moved
                }
                Err(Errno::INTR) => Step::Moved,
                Err(Errno::AGAIN) => Step::Maildrop,
                Err(_) => {
                    // It has closed; what it has said before is still to be read.
                    self.commands.clear();
                    self.client_over.get_or_insert(Ok(()));
                    Step::Over
                }
            });
        }
        if self.client_over.is_some() {
            return Ok(Step::Over);
        }
        match self.tls.reader().read(self.commands.space()) {
            Ok(0) => Ok(self.end_up(Ok(()))),
            Ok(octets) => {
                self.commands.fill(octets);
                Ok(Step::Moved)
            }
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                Ok(self.end_up(Err(Gone::Truncated)))
            }
            Err(_) => self.receive(),
        }
    }

    /// Takes a part of what the client has sent. Asked for only when what came before has been passed on.
    fn receive(&mut self) -> Result<Step, Gone> {
        match self.tls.read_tls(&mut Stream(self.input.as_fd())) {
            Ok(_) => match self.tls.process_new_packets() {
                Ok(_) => Ok(Step::Moved),
                Err(error) => {
                    // The alert; whether it arrives makes no difference.
                    let output = self.output.as_ref().unwrap_or(&self.input);
                    let _ = self.tls.write_tls(&mut Stream(output.as_fd()));
                    Err(Gone::Tls(error))
                }
            },
            Err(error) => match error.kind() {
                io::ErrorKind::WouldBlock => Ok(Step::Client),
                io::ErrorKind::Interrupted => Ok(Step::Moved),
                _ => Err(Gone::Closed),
            },
        }
    }

    /// The client sends nothing more, and the maildrop process sees that.
    fn end_up(&mut self, how: Result<(), Gone>) -> Step {
        self.client_over = Some(how);
        drop(socket::shutdown_write(self.maildrop.as_fd()));
        Step::Over
    }

    /// From the maildrop process to the client.
    fn step_down(&mut self) -> Result<Step, Gone> {
        if self.tls.wants_write() {
            let output = self.output.as_ref().unwrap_or(&self.input);
            return match self.tls.write_tls(&mut Stream(output.as_fd())) {
                Ok(_) => Ok(Step::Moved),
                Err(error) => match error.kind() {
                    io::ErrorKind::WouldBlock => Ok(Step::Client),
                    io::ErrorKind::Interrupted => Ok(Step::Moved),
                    _ => Err(Gone::Closed),
                },
            };
        }
        if self.maildrop_over {
            return Ok(Step::Over);
        }
        let octets = match read(&self.maildrop, &mut *self.mail) {
            Ok(octets) => octets,
            Err(Errno::AGAIN) => return Ok(Step::Maildrop),
            Err(Errno::INTR) => return Ok(Step::Moved),
            Err(_) => 0,
        };
        if octets == 0 {
            self.maildrop_over = true;
            self.tls.send_close_notify();
        } else {
            // All of it is taken: nothing else waits to be sent, and this is less than TLS's own bound.
            let octets = self.mail.get(..octets).unwrap_or_default();
            let mut pieces = [IoSlice::new(&[]); TO_CLIENT_OCTETS.div_ceil(COPIED_AT_ONCE)];
            for (piece, octets) in pieces.iter_mut().zip(octets.chunks(COPIED_AT_ONCE)) {
                *piece = IoSlice::new(octets);
            }
            // A reply is one piece, for which TLS needs no list.
            let count = octets.len().div_ceil(COPIED_AT_ONCE);
            let pieces = pieces.get(..count).unwrap_or_default();
            match self.tls.writer().write_vectored(pieces) {
                Ok(taken) if taken == octets.len() => {}
                _ => return Err(Gone::Closed),
            }
        }
        Ok(Step::Moved)
    }

    /// Waits for what either direction needs, and for either side's end.
    fn wait(&mut self, up: Step, down: Step) -> Result<(), Gone> {
        let flag = |wanted: bool, flag: PollFlags| if wanted { flag } else { PollFlags::empty() };
        let client_in = flag(up == Step::Client, PollFlags::IN);
        let client_out = flag(down == Step::Client, PollFlags::OUT);
        let maildrop = flag(up == Step::Maildrop, PollFlags::OUT)
            | flag(down == Step::Maildrop, PollFlags::IN);
        let output = self.output.as_ref().unwrap_or(&self.input);
        let mut polled = vec![
            PollFd::new(&self.input, client_in),
            PollFd::new(output, client_out),
        ];
        // Once it has hung up that would be reported again and again.
        if self.deadline.is_none() || !maildrop.is_empty() {
            polled.push(PollFd::new(&self.maildrop, maildrop));
        }
        let now = Instant::now();
        let timeout = self
            .deadline
            .and_then(|deadline| Timespec::try_from(deadline.saturating_duration_since(now)).ok());
        match poll(&mut polled, timeout.as_ref()) {
            Ok(0) => return Err(Gone::TimedOut),
            Ok(_) | Err(Errno::INTR) => {}
            Err(_) => return Err(Gone::Closed),
        }
        let over = PollFlags::HUP | PollFlags::ERR;
        let hung_up = |at: usize, wanted: PollFlags| {
            polled.get(at).is_some_and(|polled| {
                let events = polled.revents();
                events.intersects(over) && !events.intersects(wanted)
            })
        };
        // The client's end is read first, so that it is known which it was.
        let readable = polled
            .first()
            .is_some_and(|polled| polled.revents().intersects(client_in));
        if !readable && (hung_up(0, client_in) || hung_up(1, client_out)) {
            return Err(Gone::Closed);
        }
        if hung_up(2, PollFlags::empty()) && self.deadline.is_none() {
            self.deadline = now.checked_add(LAST_OCTETS_TIMEOUT);
        }
        Ok(())
    }
}

/// Octets read and not yet written.
struct Buffer {
    octets: Box<[u8]>,
    start: usize,
    end: usize,
}

impl Buffer {
    fn new(octets: usize) -> Self {
        Self {
            octets: vec![0; octets].into_boxed_slice(),
            start: 0,
            end: 0,
        }
    }

    fn is_empty(&self) -> bool {
        self.start >= self.end
    }

    fn filled(&self) -> &[u8] {
        self.octets.get(self.start..self.end).unwrap_or_default()
    }

    /// All of it: to be filled only when it is empty.
    fn space(&mut self) -> &mut [u8] {
        &mut self.octets
    }

    fn fill(&mut self, octets: usize) {
        self.start = 0;
        self.end = octets.min(self.octets.len());
    }

    fn taken(&mut self, octets: usize) {
        self.start = self.start.saturating_add(octets);
    }

    fn clear(&mut self) {
        self.start = self.end;
    }
}
