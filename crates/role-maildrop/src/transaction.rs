//! The TRANSACTION state and UPDATE (RFC 1939 sections 5 and 6): commands in, mail out, deletions carried out at QUIT.

use std::time::{Duration, Instant};
use std::{fmt, io};

use confine::sandbox::Confined;
use confine::signals::{Signal, SignalFd};
use maildrop::{CheckError, Drift, Maildrop, Remains, UpdateError};
use messages::Rights;
use messages::session::HandedOver;
use messages::spawner::Utf8Headers;
use pop3_proto::line::{LineBuffer, MAX_COMMAND};
use pop3_proto::multiline::Encoder;
use pop3_proto::server::transaction::{Action, Limits, TooManyOctets, Update, farewell};
use pop3_proto::server::{Listing, ListingCursor, Offer, Transaction};
use pop3_proto::{LineCount, MessageNumber, Octets, UniqueId};

use crate::client::{Client, Gone};
use crate::internationalized::is_internationalized;
use crate::session_lock::SessionLock;

/// Stored octets read at a time.
const READ_OCTETS: usize = 64 * 1024;

/// A message that was read ahead is read again after this time: somebody may have changed the maildrop.
const MAX_AHEAD: Duration = Duration::from_secs(1);

/// Octets of a listing that are made at a time.
const LISTING_OCTETS: usize = 16 * 1024;

/// What a session did, for its last log line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// RETR.
    pub retrieved: u32,
    /// TOP.
    pub topped: u32,
    /// Octets of messages sent by RETR, as LIST says.
    pub retrieved_octets: u64,
    /// Messages removed.
    pub deleted: u32,
    /// Their octets.
    pub deleted_octets: u64,
    /// Messages that were deleted by an earlier session, and are removed by this one.
    pub expired: u32,
    /// Messages that were retrieved and are hidden from now on, if there are any.
    pub acknowledged: Option<u32>,
    /// What was retrieved could not be remembered, and shows again.
    pub unremembered: bool,
    /// Messages left.
    pub left: u32,
    /// How the maildrop differed from what the last session left, if that is known.
    pub drift: Option<Drift>,
}

/// How a session ended.
#[derive(Debug)]
pub enum End {
    /// QUIT, and all is done.
    Quit,
    /// QUIT, and some messages are still there.
    NotUpdated(UpdateError),
    /// The client has gone; nothing was deleted.
    Gone(Gone),
    /// The client has made too many errors; nothing was deleted.
    Errors,
    /// Another program changed the maildrop, or it cannot be read any more; nothing was deleted.
    Maildrop(CheckError),
}

/// What is left when a session has ended and its client has been told.
#[derive(Debug)]
pub struct Ended {
    /// How.
    pub end: End,
    /// What was done.
    pub tally: Tally,
    /// To be dropped when the client's connection is closed.
    pub remains: Remains,
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            End::Quit => f.write_str("quit"),
            End::NotUpdated(error) => write!(f, "not updated: {error}"),
            End::Gone(Gone::Closed) => f.write_str("connection closed"),
            End::Gone(Gone::TimedOut) => f.write_str("timed out"),
            End::Errors => f.write_str("too many errors"),
            End::Maildrop(error) => write!(f, "{error}"),
        }
    }
}

/// Why the loop of commands stops without QUIT.
enum Stop {
    Gone(Gone),
    Maildrop(CheckError),
}

impl From<Gone> for Stop {
    fn from(gone: Gone) -> Self {
        Stop::Gone(gone)
    }
}

impl From<CheckError> for Stop {
    fn from(error: CheckError) -> Self {
        Stop::Maildrop(error)
    }
}

/// What the loop of commands comes to.
enum Last {
    Quit,
    Errors,
}

/// A message whose beginning has been read before it was asked for, while its client had another to take in.
struct Ahead {
    message: MessageNumber,
    /// So many; they are in the buffer.
    octets: usize,
    since: Instant,
}

/// A session in the TRANSACTION state.
pub struct Session<'a> {
    _confined: Confined,
    client: &'a mut Client,
    maildrop: Box<dyn Maildrop>,
    rights: Rights,
    machine: Transaction,
    lock: SessionLock,
    utf8_headers: Utf8Headers,
    replies: Vec<u8>,
    /// Empty until a message is read.
    stored: Vec<u8>,
    /// The last message that RETR was given for; 0: none yet.
    last: u32,
    /// What a client that takes the messages in order will ask for.
    likely: Option<MessageNumber>,
    ahead: Option<Ahead>,
    tally: Tally,
}

impl<'a> Session<'a> {
    /// The session of a client that has logged in. It gets its answer to PASS.
    ///
    /// # Errors
    /// The messages' sizes cannot be added up.
    pub fn new(
        confined: Confined,
        client: &'a mut Client,
        maildrop: Box<dyn Maildrop>,
        rights: Rights,
        lock: SessionLock,
        offer: Offer,
        limits: Limits,
    ) -> Result<Self, TooManyOctets> {
        let machine = Transaction::new(&Messages(maildrop.as_ref()), offer, limits, false)?;
        let mut replies = Vec::new();
        machine.welcome(&mut replies);
        Ok(Self {
            _confined: confined,
            client,
            maildrop,
            rights,
            machine,
            lock,
            utf8_headers: Utf8Headers::AsIs,
            replies,
            stored: Vec::new(),
            last: 0,
            likely: None,
            ahead: None,
            tally: Tally::default(),
        })
    }

    /// What the client gets of internationalized mail until it asks for UTF-8.
    #[must_use]
    pub fn with_utf8_headers(mut self, utf8_headers: Utf8Headers) -> Self {
        self.utf8_headers = utf8_headers;
        self
    }

    /// Serves until the session ends.
    pub fn serve(mut self, handed_over: HandedOver<'_>) -> Ended {
        if handed_over.utf8 {
            self.machine.set_utf8();
        }
        self.tally.left = self.machine.messages_left();
        self.tally.drift = self.maildrop.drift();
        let mut lines = LineBuffer::with_rest(MAX_COMMAND, handed_over.pipelined);
        match self.take_commands(&mut lines) {
            Ok(Last::Quit) => self.update(),
            Ok(Last::Errors) => {
                // A client that has gone does not miss the reply.
                let _ = self.client.flush();
                self.ended(End::Errors)
            }
            Err(Stop::Gone(gone)) => self.ended(End::Gone(gone)),
            Err(Stop::Maildrop(error)) => self.ended(End::Maildrop(error)),
        }
    }

    fn ended(self, end: End) -> Ended {
        Ended {
            end,
            tally: self.tally,
            remains: Remains::default(),
        }
    }

    fn take_commands(&mut self, lines: &mut LineBuffer) -> Result<Last, Stop> {
        loop {
            self.client.queue(&mut self.replies)?;
            let Some(line) = lines.next_line() else {
                self.read_ahead()?;
                self.client.receive(lines)?;
                continue;
            };
            let messages = Messages(self.maildrop.as_ref());
            match self.machine.line(line, &messages, &mut self.replies) {
                Action::Continue => {}
                Action::Close => {
                    self.client.queue(&mut self.replies)?;
                    return Ok(Last::Errors);
                }
                Action::Marked { message } => self.maildrop.marked(index(message)),
                Action::List(cursor) => self.send_listing(cursor)?,
                Action::Retrieve { message } => self.retrieve(message)?,
                Action::Top { message, lines } => self.top(message, lines)?,
                Action::Quit => return Ok(Last::Quit),
            }
        }
    }

    fn send_listing(&mut self, mut cursor: ListingCursor) -> Result<(), Stop> {
        loop {
            let done = self.machine.write_listing(
                &mut cursor,
                &Messages(self.maildrop.as_ref()),
                LISTING_OCTETS,
                &mut self.replies,
            );
            self.client.queue(&mut self.replies)?;
            if done {
                return Ok(());
            }
        }
    }

    fn retrieve(&mut self, message: MessageNumber) -> Result<(), Stop> {
        let Some((beginning, encoder)) = self.open(message, Encoder::retr())? else {
            return Ok(());
        };
        let messages = Messages(self.maildrop.as_ref());
        self.machine.retrieve(message, &messages, &mut self.replies);
        let octets = messages.octets(message);
        self.send_body(message, beginning, encoder)?;
        self.tally.retrieved = self.tally.retrieved.saturating_add(1);
        self.tally.retrieved_octets = self.tally.retrieved_octets.saturating_add(octets.0);
        let next = message.value().saturating_add(1);
        let is_in_order = message.value() == self.last.saturating_add(1);
        self.last = message.value();
        self.likely = MessageNumber::new(next).filter(|_| is_in_order);
        Ok(())
    }

    fn read_ahead(&mut self) -> Result<(), Gone> {
        let Some(message) = self.likely.take() else {
            return Ok(());
        };
        // The client is to have something to take in.
        self.client.flush()?;
        // What cannot be read is looked at again when it is asked for; so is what is not there.
        let read = self.maildrop.read(index(message), 0, &mut self.stored);
        self.ahead = read.ok().map(|octets| Ahead {
            message,
            octets,
            since: Instant::now(),
        });
        Ok(())
    }

    /// The beginning of a message into the buffer; it may be there.
    fn read(&mut self, message: MessageNumber) -> io::Result<usize> {
        let ahead = self.ahead.take();
        let ahead = ahead.filter(|it| it.message == message && it.since.elapsed() < MAX_AHEAD);
        match ahead {
            Some(ahead) => Ok(ahead.octets),
            None => self.maildrop.read(index(message), 0, &mut self.stored),
        }
    }

    fn top(&mut self, message: MessageNumber, lines: LineCount) -> Result<(), Stop> {
        let Some((beginning, encoder)) = self.open(message, Encoder::top(lines))? else {
            return Ok(());
        };
        self.machine.top(&mut self.replies);
        self.send_body(message, beginning, encoder)?;
        self.tally.topped = self.tally.topped.saturating_add(1);
        Ok(())
    }

    /// Reads the beginning of a message, so that a message that cannot be read is answered `-ERR`, and decides how it is sent.
    fn open(
        &mut self,
        message: MessageNumber,
        encoder: Encoder,
    ) -> Result<Option<(usize, Encoder)>, Stop> {
        self.maildrop.check()?;
        if self.stored.is_empty() {
            self.stored = vec![0; READ_OCTETS];
        }
        self.client.prepare_for_mail();
        match self.read(message) {
            Ok(octets) if self.utf8_headers == Utf8Headers::AsIs || self.machine.utf8() => {
                Ok(Some((octets, encoder)))
            }
            Ok(octets) => {
                let beginning = self.stored.get(..octets).unwrap_or_default();
                if !is_internationalized(beginning) {
                    return Ok(Some((octets, encoder)));
                }
                if self.utf8_headers == Utf8Headers::Surrogate {
                    return Ok(Some((octets, encoder.with_ascii_header())));
                }
                self.machine.needs_utf8(&mut self.replies);
                Ok(None)
            }
            Err(_) => {
                self.machine.unreadable(&mut self.replies);
                Ok(None)
            }
        }
    }

    /// Sends a message whose first `beginning` octets have been read. When the rest cannot be, or has been changed by
    /// another program, the final dot is withheld, so that the client does not take what it got for the message.
    fn send_body(
        &mut self,
        message: MessageNumber,
        beginning: usize,
        mut encoder: Encoder,
    ) -> Result<(), Stop> {
        self.client.queue(&mut self.replies)?;
        let mut octets = beginning;
        let mut offset: u64 = 0;
        while octets > 0 {
            let mut stored = self.stored.get(..octets).unwrap_or_default();
            let mut done = false;
            while !stored.is_empty() && !done {
                self.client.make_room()?;
                let progress = encoder.encode(stored, self.client.room());
                self.client.filled(progress.produced);
                stored = stored.get(progress.consumed..).unwrap_or_default();
                done = progress.done;
            }
            if done {
                break;
            }
            offset = offset.saturating_add(octets as u64);
            octets = self
                .maildrop
                .read(index(message), offset, &mut self.stored)
                .map_err(|error| CheckError::Io("read a message", error))?;
        }
        self.maildrop.check()?;
        loop {
            self.client.make_room()?;
            let progress = encoder.finish(self.client.room());
            self.client.filled(progress.produced);
            if progress.done {
                return Ok(());
            }
        }
    }

    /// UPDATE. From here on it does not matter what becomes of the connection.
    fn update(mut self) -> Ended {
        // Held back until the process has ended: whoever wants it to end waits for UPDATE.
        let _signals = SignalFd::new(&[Signal::TERM, Signal::INT, Signal::HUP]);
        let mut end = End::Quit;
        let mut remains = Remains::default();
        // There are no marks without the right to make them. If there were, they would not count.
        // Nor does such a login hide anything from others.
        if self.rights.allow_deletion() {
            let machine = &self.machine;
            self.maildrop.acknowledge(&|index| {
                let number = index.checked_add(1).and_then(MessageNumber::new);
                number.is_some_and(|number| machine.is_retrieved(number))
            });
        }
        let needed = self.machine.deleted_messages() > 0 || self.maildrop.needs_update();
        if self.rights.allow_deletion() && needed {
            let mut deleted = vec![false; self.maildrop.count() as usize];
            for message in self.machine.deleted() {
                if let Some(mark) = deleted.get_mut(index(message) as usize) {
                    *mark = true;
                }
            }
            let is_deleted = |index: u32| deleted.get(index as usize) == Some(&true);
            match self.maildrop.update(&is_deleted) {
                Ok(summary) => {
                    self.tally.deleted = summary.removed;
                    self.tally.deleted_octets = summary.octets;
                    self.tally.expired = summary.expired;
                    let acknowledged = summary.acknowledged;
                    self.tally.acknowledged = (acknowledged > 0).then_some(acknowledged);
                    self.tally.unremembered = summary.unremembered;
                    remains = summary.remains;
                    self.tally.left = self.machine.messages_left();
                }
                Err(error) => {
                    if let UpdateError::Partial { removed, .. } = error {
                        self.tally.deleted = removed;
                        self.tally.left = self.tally.left.saturating_sub(removed);
                    }
                    end = End::NotUpdated(error);
                }
            }
        }
        // Before the answer: the client may log in again at once.
        drop(self.lock);
        let update = match end {
            End::Quit => Update::Done,
            _ => Update::Incomplete,
        };
        farewell(update, &mut self.replies);
        let _ = self
            .client
            .queue(&mut self.replies)
            .and_then(|()| self.client.flush());
        Ended {
            end,
            tally: self.tally,
            remains,
        }
    }
}

/// Maildrops count from 0.
fn index(message: MessageNumber) -> u32 {
    message.value().saturating_sub(1)
}

/// A maildrop as the protocol's listings see it.
struct Messages<'a>(&'a dyn Maildrop);

impl Listing for Messages<'_> {
    fn messages(&self) -> u32 {
        self.0.count()
    }

    fn octets(&self, number: MessageNumber) -> Octets {
        Octets(self.0.octets(index(number)).unwrap_or(0))
    }

    fn unique_id(&self, number: MessageNumber) -> Option<UniqueId> {
        self.0.unique_id(index(number))
    }
}
