//! A client's connection: commands in, octets to send out; octets received in, events out.

use std::fmt;

use super::capability::Capability;
use super::dialogue::{Current, Dialogue};
use super::greeting::apop_timestamp;
use super::lines::{Line, Lines, TooLong};
use super::listing::{parse_scan_listing, parse_unique_id_listing};
use super::request::{InvalidInput, check_base64};
use super::response::{Response, parse_challenge};
use crate::command::{Command, Keyword};
use crate::multiline::LineEnds;
use crate::{MessageNumber, Octets};

/// How much a server may send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Octets in a line that is not a message's, CRLF included. RFC 1939 allows 512, and SASL challenges are longer.
    pub line_octets: usize,
    /// Lines in one listing: twice the messages of the largest maildrop that popa3d serves.
    pub listing_lines: u32,
    /// Octets in one message, dots not stuffed.
    pub message_octets: u64,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            line_octets: 8 * 1024,
            listing_lines: 4 * 1024 * 1024,
            message_octets: u64::MAX,
        }
    }
}

/// Where a session is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// The greeting has not been received.
    Greeting,
    /// Before login.
    Authorization,
    /// STLS was accepted: shake hands, then call [`Connection::tls_started`].
    StartingTls,
    /// After login.
    Transaction,
    /// The server has refused the connection or answered QUIT.
    Closed,
}

/// What the server has said.
#[derive(Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event<'a> {
    /// The first line of all. A negative one ends the connection.
    Greeting {
        /// As for any reply.
        response: Response<'a>,
        /// APOP's timestamp, `<` and `>` included, if there is one that can be trusted to be one.
        apop_timestamp: Option<&'a [u8]>,
    },
    /// The first line of the reply to the oldest command outstanding, and all of it unless more follows.
    Response {
        /// The command.
        keyword: Keyword,
        /// The line.
        response: Response<'a>,
    },
    /// A challenge in base64: answer with [`Connection::respond`] or [`Connection::cancel`].
    Challenge(&'a [u8]),
    /// A line of the reply to LIST.
    ScanListing {
        /// The message.
        number: MessageNumber,
        /// Its size.
        octets: Octets,
    },
    /// A line of the reply to UIDL.
    UniqueIdListing {
        /// The message.
        number: MessageNumber,
        /// See [`parse_unique_id_listing`].
        unique_id: &'a [u8],
    },
    /// A line of the reply to CAPA.
    Capability(Capability<'a>),
    /// A line of the reply to a bare AUTH or LANG.
    Line(&'a [u8]),
    /// A piece of a message, of any size, dots no longer stuffed.
    Message(&'a [u8]),
    /// The end of a reply of several lines.
    End(Keyword),
}

/// Why a command was not sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CommandError {
    /// An argument is at fault.
    InvalidInput(InvalidInput),
    /// The command does not belong to the session's state.
    WrongState,
    /// STLS, AUTH or QUIT is under way, or STLS is to be sent while replies are due.
    MustWait,
}

impl fmt::Display for CommandError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CommandError::InvalidInput(error) => error.fmt(f),
            CommandError::WrongState => f.write_str("the command does not belong to this state"),
            CommandError::MustWait => f.write_str("a reply must be awaited first"),
        }
    }
}

impl std::error::Error for CommandError {}

impl From<InvalidInput> for CommandError {
    fn from(error: InvalidInput) -> CommandError {
        CommandError::InvalidInput(error)
    }
}

/// Why the connection is of no use any more: close it. Nothing is deleted then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ProtocolError {
    /// A line is longer than [`Limits::line_octets`].
    LineTooLong,
    /// A listing has more lines than [`Limits::listing_lines`].
    ListingTooLong,
    /// A message has more octets than [`Limits::message_octets`].
    MessageTooLong,
    /// A line is neither `+OK` nor `-ERR`.
    NotAReply,
    /// A line of a listing makes no sense.
    MalformedListing(Keyword),
    /// The server has said something that no command asked for.
    Unsolicited,
    /// Octets came in the clear behind the reply to STLS. Somebody may have put them there (RFC 2595 section 4).
    PlaintextBehindStls,
    /// The connection was closed while replies were due, or before QUIT.
    UnexpectedEnd,
}

impl fmt::Display for ProtocolError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ProtocolError::LineTooLong => f.write_str("the server sent too long a line"),
            ProtocolError::ListingTooLong => f.write_str("the server sent too long a listing"),
            ProtocolError::MessageTooLong => f.write_str("the server sent too long a message"),
            ProtocolError::NotAReply => f.write_str("the server sent no POP3 reply"),
            ProtocolError::MalformedListing(keyword) => {
                write!(
                    f,
                    "the server sent a malformed answer to {}",
                    keyword.as_str()
                )
            }
            ProtocolError::Unsolicited => f.write_str("the server sent what nobody asked for"),
            ProtocolError::PlaintextBehindStls => {
                f.write_str("octets came in the clear behind the reply to STLS")
            }
            ProtocolError::UnexpectedEnd => f.write_str("the server closed the connection"),
        }
    }
}

impl std::error::Error for ProtocolError {}

/// The client's side of a connection.
///
/// ```
/// use pop3_proto::client::{Connection, Event, Limits};
/// use pop3_proto::{Command, multiline::LineEnds};
///
/// let mut connection = Connection::new(LineEnds::AsSent, Limits::default());
/// let (consumed, event) = connection.receive(b"+OK ready\r\n")?;
/// assert_eq!(consumed, 11);
/// assert!(matches!(event, Some(Event::Greeting { .. })));
///
/// let mut out = Vec::new();
/// connection.send(&Command::User { name: b"mrose" }, &mut out)?;
/// connection.send(&Command::Pass { password: b"secret" }, &mut out)?;
/// assert_eq!(out, b"USER mrose\r\nPASS secret\r\n");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// Commands may be sent ahead of the replies where the server says PIPELINING; the caller sees to it that both sides do not
/// wait for each other with full buffers (RFC 2449 section 6.6).
#[derive(Debug)]
pub struct Connection {
    dialogue: Dialogue,
    lines: Lines,
    line_ends: LineEnds,
    limits: Limits,
}

impl Connection {
    /// A connection that has just been made, or under implicit TLS has just been secured.
    pub fn new(line_ends: LineEnds, limits: Limits) -> Connection {
        Connection {
            dialogue: Dialogue::new(),
            lines: Lines::default(),
            line_ends,
            limits,
        }
    }

    /// Where the session is, by the replies received.
    pub fn state(&self) -> State {
        self.dialogue.state
    }

    /// How many commands have not been answered to the end.
    pub fn outstanding(&self) -> usize {
        let current = usize::from(self.dialogue.within_reply());
        self.dialogue.outstanding.len().saturating_add(current)
    }

    /// Appends a command to what is to be sent.
    ///
    /// # Errors
    /// [`CommandError`]; nothing is appended then.
    pub fn send(&mut self, command: &Command<'_>, out: &mut Vec<u8>) -> Result<(), CommandError> {
        self.dialogue.check(command)?;
        command.write(out)?;
        self.dialogue.sent(command);
        Ok(())
    }

    /// Appends the response to a challenge, in base64; it may be empty.
    ///
    /// # Errors
    /// [`CommandError::WrongState`] if there is no challenge, [`InvalidInput::NotBase64`].
    pub fn respond(&mut self, base64: &[u8], out: &mut Vec<u8>) -> Result<(), CommandError> {
        check_base64(base64)?;
        self.answer_challenge(base64, out)
    }

    /// Appends the line that cancels a SASL exchange; the server answers `-ERR` (RFC 5034 section 4).
    ///
    /// # Errors
    /// [`CommandError::WrongState`] if there is no challenge.
    pub fn cancel(&mut self, out: &mut Vec<u8>) -> Result<(), CommandError> {
        self.answer_challenge(b"*", out)
    }

    fn answer_challenge(&mut self, line: &[u8], out: &mut Vec<u8>) -> Result<(), CommandError> {
        if !std::mem::take(&mut self.dialogue.challenged) {
            return Err(CommandError::WrongState);
        }
        out.extend_from_slice(line);
        out.extend_from_slice(b"\r\n");
        Ok(())
    }

    /// The handshake that the reply to STLS asked for is done. What CAPA said before is void now (RFC 2595 section 4).
    pub fn tls_started(&mut self) {
        if self.dialogue.state == State::StartingTls {
            self.dialogue.state = State::Authorization;
        }
    }

    /// Takes octets received, as far as the next event. Give the rest again until all are consumed; no event then means
    /// that more must be received.
    ///
    /// # Errors
    /// [`ProtocolError`], for this call and all that follow.
    pub fn receive<'a>(
        &'a mut self,
        input: &'a [u8],
    ) -> Result<(usize, Option<Event<'a>>), ProtocolError> {
        if let Some(error) = self.dialogue.failed {
            return Err(error);
        }
        if input.is_empty() {
            return Ok((0, None));
        }
        match self.dialogue.current {
            Current::FirstLine => self.receive_first_line(input),
            Current::Listing { keyword, .. } => self.receive_listing(keyword, input),
            Current::Message { keyword, .. } => self.receive_message(keyword, input),
        }
    }

    /// The server has closed the connection.
    ///
    /// # Errors
    /// [`ProtocolError::UnexpectedEnd`] unless QUIT has been answered: what was marked as deleted is still there, then, or
    /// what became of it is not known.
    pub fn end_of_input(&mut self) -> Result<(), ProtocolError> {
        if self.dialogue.state == State::Closed {
            return Ok(());
        }
        self.dialogue.fail(ProtocolError::UnexpectedEnd)
    }

    fn receive_first_line<'a>(
        &'a mut self,
        input: &'a [u8],
    ) -> Result<(usize, Option<Event<'a>>), ProtocolError> {
        let Connection {
            dialogue,
            lines,
            line_ends,
            limits,
        } = self;
        let asked = dialogue.outstanding.front().copied();
        match dialogue.state {
            State::StartingTls => return dialogue.fail(ProtocolError::PlaintextBehindStls),
            State::Closed => return dialogue.fail(ProtocolError::Unsolicited),
            State::Authorization | State::Transaction if asked.is_none() || dialogue.challenged => {
                return dialogue.fail(ProtocolError::Unsolicited);
            }
            State::Greeting | State::Authorization | State::Transaction => (),
        }
        let (consumed, line) = match lines.next(input, limits.line_octets) {
            Ok((consumed, Some(line))) => (consumed, line),
            Ok((consumed, None)) => return Ok((consumed, None)),
            Err(TooLong) => return dialogue.fail(ProtocolError::LineTooLong),
        };
        let Some(asked) = asked.filter(|_| dialogue.state != State::Greeting) else {
            return greeting(dialogue, &line).map(|event| (consumed, Some(event)));
        };
        if asked.may_be_challenged()
            && let Some(challenge) = parse_challenge(line.octets)
        {
            dialogue.challenged = true;
            return Ok((consumed, Some(Event::Challenge(challenge))));
        }
        let Some(response) = Response::parse(line.octets) else {
            return dialogue.fail(ProtocolError::NotAReply);
        };
        dialogue.answered(&response, line.lone_lf, *line_ends, limits);
        if dialogue.state == State::StartingTls && consumed < input.len() {
            return dialogue.fail(ProtocolError::PlaintextBehindStls);
        }
        let keyword = asked.keyword;
        Ok((consumed, Some(Event::Response { keyword, response })))
    }

    fn receive_listing<'a>(
        &'a mut self,
        keyword: Keyword,
        input: &'a [u8],
    ) -> Result<(usize, Option<Event<'a>>), ProtocolError> {
        let Connection {
            dialogue,
            lines,
            limits,
            ..
        } = self;
        let (consumed, line) = match lines.next(input, limits.line_octets) {
            Ok((consumed, Some(line))) => (consumed, line.octets),
            Ok((consumed, None)) => return Ok((consumed, None)),
            Err(TooLong) => return dialogue.fail(ProtocolError::LineTooLong),
        };
        if line == b"." {
            dialogue.current = Current::FirstLine;
            return Ok((consumed, Some(Event::End(keyword))));
        }
        if let Current::Listing { lines_left, .. } = &mut dialogue.current {
            match lines_left.checked_sub(1) {
                Some(left) => *lines_left = left,
                None => return dialogue.fail(ProtocolError::ListingTooLong),
            }
        }
        let line = line.strip_prefix(b".").unwrap_or(line);
        match listing_line(keyword, line) {
            Some(event) => Ok((consumed, Some(event))),
            None => dialogue.fail(ProtocolError::MalformedListing(keyword)),
        }
    }

    /// Takes octets of the message that is being received to the end of `message`: all of the input, or up to the message's end.
    /// Returns how many were taken, and whether that is the end. Without a message it takes none.
    ///
    /// The same as [`receive`](Connection::receive) as often as needed, for whoever copies the message anyway.
    ///
    /// # Errors
    /// [`ProtocolError`], for this call and all that follow.
    pub fn receive_message_to(
        &mut self,
        input: &[u8],
        message: &mut Vec<u8>,
    ) -> Result<(usize, bool), ProtocolError> {
        if let Some(error) = self.dialogue.failed {
            return Err(error);
        }
        let dialogue = &mut self.dialogue;
        let Current::Message {
            decoder,
            octets_left,
            ..
        } = &mut dialogue.current
        else {
            return Ok((0, true));
        };
        let before = message.len();
        let (consumed, is_end) = decoder.decode_to(input, message);
        match octets_left.checked_sub(message.len().saturating_sub(before) as u64) {
            Some(left) => *octets_left = left,
            None => return dialogue.fail(ProtocolError::MessageTooLong),
        }
        if is_end {
            dialogue.current = Current::FirstLine;
        }
        Ok((consumed, is_end))
    }

    fn receive_message<'a>(
        &'a mut self,
        keyword: Keyword,
        input: &'a [u8],
    ) -> Result<(usize, Option<Event<'a>>), ProtocolError> {
        let dialogue = &mut self.dialogue;
        let Current::Message {
            decoder,
            octets_left,
            ..
        } = &mut dialogue.current
        else {
            return Ok((0, None));
        };
        let decoded = decoder.decode(input);
        if decoded.end {
            dialogue.current = Current::FirstLine;
            return Ok((decoded.consumed, Some(Event::End(keyword))));
        }
        match octets_left.checked_sub(decoded.data.len() as u64) {
            Some(left) => *octets_left = left,
            None => return dialogue.fail(ProtocolError::MessageTooLong),
        }
        let event = (!decoded.data.is_empty()).then_some(Event::Message(decoded.data));
        Ok((decoded.consumed, event))
    }
}

fn greeting<'a>(dialogue: &mut Dialogue, line: &Line<'a>) -> Result<Event<'a>, ProtocolError> {
    let Some(response) = Response::parse(line.octets) else {
        return dialogue.fail(ProtocolError::NotAReply);
    };
    dialogue.state = if response.is_ok() {
        State::Authorization
    } else {
        State::Closed
    };
    Ok(Event::Greeting {
        response,
        apop_timestamp: apop_timestamp(response.text).filter(|_| response.is_ok()),
    })
}

fn listing_line(keyword: Keyword, line: &[u8]) -> Option<Event<'_>> {
    match keyword {
        Keyword::List => {
            parse_scan_listing(line).map(|(number, octets)| Event::ScanListing { number, octets })
        }
        Keyword::Uidl => parse_unique_id_listing(line)
            .map(|(number, unique_id)| Event::UniqueIdListing { number, unique_id }),
        Keyword::Capa => Some(Event::Capability(Capability::parse(line))),
        _ => Some(Event::Line(line)),
    }
}

#[cfg(test)]
mod tests;
