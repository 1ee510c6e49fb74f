//! The TRANSACTION state (RFC 1939 section 5), and the words that end UPDATE (section 6).
//!
//! Run by the maildrop process, as the owner of the mail. The machine keeps the deletion marks and answers all that can be
//! answered from the maildrop's [`Listing`]; messages are read, and removed after QUIT, by the caller.

use super::allowance::Allowance;
use super::language;
use super::listing::{Listing, ListingCursor, ListingKind};
use super::marks::Marks;
use super::offer::Offer;
use crate::command::{Command, MAX_USER_OCTETS, ParseError};
use crate::line::LineError;
use crate::{LineCount, MessageNumber, Octets, ResponseCode, decimal, reply};

/// What may be done in a TRANSACTION state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Commands of any kind; some clients send three a message.
    pub commands: u32,
    /// Commands answered `-ERR`.
    pub errors: u32,
    /// LAST is answered (RFC 1460).
    pub last: bool,
    /// DELE marks messages; without it, it is refused, and QUIT has nothing to do.
    pub deletion: bool,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            commands: u32::MAX,
            errors: 100,
            last: true,
            deletion: true,
        }
    }
}

/// What the caller has to do, after sending the replies that were appended.
#[derive(Debug, PartialEq, Eq)]
pub enum Action {
    /// Go on with the next line.
    Continue,
    /// Close the connection without UPDATE.
    Close,
    /// Send a listing with [`Transaction::write_listing`], then go on.
    List(ListingCursor),
    /// Open the message; if that is possible call [`Transaction::retrieve`] and send it through a
    /// [`multiline::Encoder`](crate::multiline::Encoder), else [`Transaction::unreadable`].
    Retrieve {
        /// A message that is there and not marked as deleted.
        message: MessageNumber,
    },
    /// The same for the header and some lines of the body, with [`Transaction::top`].
    Top {
        /// A message that is there and not marked as deleted.
        message: MessageNumber,
        /// Lines of the body.
        lines: LineCount,
    },
    /// Go on with the next line. A message has been marked as deleted.
    Marked {
        /// That message.
        message: MessageNumber,
    },
    /// UPDATE: remove the messages of [`Transaction::deleted`], then append [`farewell`] and close. QUIT has not been answered
    /// yet, and has been received whatever becomes of the connection now.
    Quit,
}

/// The state machine of the TRANSACTION state, from the login to QUIT.
#[derive(Debug)]
pub struct Transaction {
    offer: Offer,
    limits: Limits,
    allowance: Allowance,
    /// All messages, marked or not.
    messages: u32,
    /// Of all messages, marked or not.
    octets: Octets,
    /// Of the messages not marked.
    octets_left: Octets,
    marks: Marks,
    /// By RETR, since the login or the last RSET.
    retrieved: Marks,
    /// The highest message accessed by RETR or DELE; 0 if none (RFC 1460).
    last: u32,
    utf8: bool,
}

/// The sizes of all messages add up to more than 2^64 - 1 octets: no maildrop does, so something is wrong with this one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooManyOctets;

impl std::fmt::Display for TooManyOctets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the messages' sizes add up to more than 2^64 - 1 octets")
    }
}

impl std::error::Error for TooManyOctets {}

impl Transaction {
    /// The state of a session that has just logged in. `utf8` says that UTF8 was given before.
    ///
    /// # Errors
    /// [`TooManyOctets`].
    pub fn new(
        listing: &impl Listing,
        offer: Offer,
        limits: Limits,
        utf8: bool,
    ) -> Result<Transaction, TooManyOctets> {
        let messages = listing.messages();
        let octets = numbers(messages)
            .try_fold(Octets(0), |sum, number| {
                sum.checked_add(listing.octets(number))
            })
            .ok_or(TooManyOctets)?;
        Ok(Transaction {
            offer,
            limits,
            allowance: Allowance::new(limits.commands, limits.errors),
            messages,
            octets,
            octets_left: octets,
            marks: Marks::new(messages),
            retrieved: Marks::new(messages),
            last: 0,
            utf8,
        })
    }

    /// Appends the positive answer to the command that logged in, once the maildrop is locked and open.
    pub fn welcome(&self, out: &mut Vec<u8>) {
        self.totals("+OK ", out);
    }

    /// Takes the client's next line and appends the reply, if there is one yet. `listing` is the same as in
    /// [`Transaction::new`].
    pub fn line(
        &mut self,
        line: Result<&[u8], LineError>,
        listing: &impl Listing,
        out: &mut Vec<u8>,
    ) -> Action {
        if !self.allowance.spend_command() {
            reply::err(out, None, "too many commands");
            return Action::Close;
        }
        match line {
            Err(LineError::TooLong) => self.error("line too long", out),
            Err(LineError::Nul) => self.error("NUL in command", out),
            Ok(line) => match Command::parse(line, MAX_USER_OCTETS) {
                Ok(command) => self.command(command, listing, out),
                Err(ParseError::UnknownCommand) => self.error("unknown command", out),
                Err(ParseError::WrongArguments(_)) => self.error("wrong arguments", out),
            },
        }
    }

    fn command(
        &mut self,
        command: Command<'_>,
        listing: &impl Listing,
        out: &mut Vec<u8>,
    ) -> Action {
        match command {
            Command::Stat => {
                out.extend_from_slice(b"+OK ");
                decimal::write(u64::from(self.messages_left()), out);
                out.push(b' ');
                decimal::write(self.octets_left.0, out);
                out.extend_from_slice(b"\r\n");
                Action::Continue
            }
            Command::List(None) => {
                self.totals("+OK ", out);
                Action::List(ListingCursor::new(ListingKind::Scan))
            }
            Command::Uidl(None) => {
                reply::ok(out, "");
                Action::List(ListingCursor::new(ListingKind::UniqueId))
            }
            Command::List(Some(message)) => self.with_message(message, out, |_, out| {
                out.extend_from_slice(b"+OK ");
                reply::scan_listing(out, message, listing.octets(message));
                Action::Continue
            }),
            Command::Uidl(Some(message)) => self.with_message(message, out, |machine, out| {
                let Some(unique_id) = listing.unique_id(message) else {
                    return machine.error("no such message", out);
                };
                out.extend_from_slice(b"+OK ");
                reply::unique_id_listing(out, message, &unique_id);
                Action::Continue
            }),
            Command::Retr(message) => {
                self.with_message(message, out, |_, _| Action::Retrieve { message })
            }
            Command::Top { message, lines } => {
                self.with_message(message, out, |_, _| Action::Top { message, lines })
            }
            // No error of the client's grammar: one that deletes what it has fetched shall see its session to the end. None
            // of the response codes of RFC 3206 fits; `[AUTH]` belongs to the AUTHORIZATION state.
            Command::Dele(_) if !self.limits.deletion => {
                reply::err(out, None, "this login may not delete messages");
                Action::Continue
            }
            Command::Dele(message) => self.with_message(message, out, |machine, out| {
                machine.delete(message, listing.octets(message));
                reply::ok(out, "");
                Action::Marked { message }
            }),
            Command::Rset => {
                self.marks.clear();
                self.retrieved.clear();
                self.octets_left = self.octets;
                self.last = 0;
                self.totals("+OK ", out);
                Action::Continue
            }
            Command::Last if self.limits.last => {
                out.extend_from_slice(b"+OK ");
                decimal::write(u64::from(self.last), out);
                out.extend_from_slice(b"\r\n");
                Action::Continue
            }
            Command::Noop => {
                reply::ok(out, "");
                Action::Continue
            }
            Command::Capa => {
                self.offer.write_in_transaction(out);
                Action::Continue
            }
            // RFC 6856 section 2 has it in AUTHORIZATION alone; Outlook sends it here.
            Command::Utf8 if self.offer.utf8 => {
                self.utf8 = true;
                reply::ok(out, "UTF-8 mode");
                Action::Continue
            }
            Command::Lang(range) if language::answer(range, out) => Action::Continue,
            Command::Lang(_) => self.error("no such language", out),
            Command::Quit => Action::Quit,
            Command::Last | Command::Utf8 => self.error("not available", out),
            Command::User { .. }
            | Command::Pass { .. }
            | Command::Apop { .. }
            | Command::Auth { .. }
            | Command::Stls => self.error("logged in already", out),
        }
    }

    /// Does `then` if the message is there and not marked as deleted.
    fn with_message(
        &mut self,
        message: MessageNumber,
        out: &mut Vec<u8>,
        then: impl FnOnce(&mut Transaction, &mut Vec<u8>) -> Action,
    ) -> Action {
        if message.value() > self.messages || self.marks.is_marked(message) {
            return self.error("no such message", out);
        }
        then(self, out)
    }

    fn delete(&mut self, message: MessageNumber, octets: Octets) {
        self.marks.mark(message);
        self.octets_left = Octets(self.octets_left.0.saturating_sub(octets.0));
        self.last = self.last.max(message.value());
    }

    /// Appends lines of a listing until `out` holds at least `limit` octets or the listing is at its end. Says whether it
    /// is: else send what is in `out` and call again.
    pub fn write_listing(
        &self,
        cursor: &mut ListingCursor,
        listing: &impl Listing,
        limit: usize,
        out: &mut Vec<u8>,
    ) -> bool {
        while let Some(number) = cursor.next.filter(|number| number.value() <= self.messages) {
            if out.len() >= limit {
                return false;
            }
            cursor.next = number.next();
            if self.marks.is_marked(number) {
                continue;
            }
            match cursor.kind {
                ListingKind::Scan => reply::scan_listing(out, number, listing.octets(number)),
                ListingKind::UniqueId => {
                    if let Some(unique_id) = listing.unique_id(number) {
                        reply::unique_id_listing(out, number, &unique_id);
                    }
                }
            }
        }
        out.extend_from_slice(reply::TERMINATOR);
        true
    }

    /// Appends the first line of the answer to RETR, once the message can be read. From here on LAST counts it.
    pub fn retrieve(&mut self, message: MessageNumber, listing: &impl Listing, out: &mut Vec<u8>) {
        self.last = self.last.max(message.value());
        self.retrieved.mark(message);
        out.extend_from_slice(b"+OK ");
        decimal::write(listing.octets(message).0, out);
        out.extend_from_slice(b" octets\r\n");
    }

    /// Appends the first line of the answer to TOP, once the message can be read. It leaves no trace (RFC 1939 section 7).
    pub fn top(&self, out: &mut Vec<u8>) {
        reply::ok(out, "");
    }

    /// Answers RETR or TOP for a message that cannot be read.
    pub fn unreadable(&mut self, out: &mut Vec<u8>) -> Action {
        reply::err(out, Some(ResponseCode::SysTemp), "message cannot be read");
        Action::Continue
    }

    /// Answers RETR or TOP for a message that is not sent outside UTF-8 mode (RFC 6856 section 5).
    pub fn needs_utf8(&mut self, out: &mut Vec<u8>) -> Action {
        reply::err(out, Some(ResponseCode::Utf8), "message needs UTF8");
        Action::Continue
    }

    /// Messages not marked as deleted.
    pub fn messages_left(&self) -> u32 {
        self.messages.saturating_sub(self.marks.marked())
    }

    /// The size of the messages not marked as deleted.
    pub fn octets_left(&self) -> Octets {
        self.octets_left
    }

    /// How many messages are marked as deleted.
    pub fn deleted_messages(&self) -> u32 {
        self.marks.marked()
    }

    /// The messages marked as deleted, in order: what UPDATE removes after QUIT and at no other time.
    pub fn deleted(&self) -> impl Iterator<Item = MessageNumber> + '_ {
        numbers(self.messages).filter(|number| self.marks.is_marked(*number))
    }

    /// Whether the message was retrieved. RSET takes that back as it does deletion marks: whoever gives it before QUIT wants
    /// nothing changed.
    pub fn is_retrieved(&self, message: MessageNumber) -> bool {
        self.retrieved.is_marked(message)
    }

    /// UTF8 was given before the login.
    pub fn set_utf8(&mut self) {
        self.utf8 = true;
    }

    /// The session is in UTF-8 mode (RFC 6856).
    pub fn utf8(&self) -> bool {
        self.utf8
    }

    fn totals(&self, status: &str, out: &mut Vec<u8>) {
        out.extend_from_slice(status.as_bytes());
        decimal::write(u64::from(self.messages_left()), out);
        out.extend_from_slice(b" messages (");
        decimal::write(self.octets_left.0, out);
        out.extend_from_slice(b" octets)\r\n");
    }

    fn error(&mut self, text: &str, out: &mut Vec<u8>) -> Action {
        if !self.allowance.spend_error() {
            reply::err(out, None, "too many errors");
            return Action::Close;
        }
        reply::err(out, None, text);
        Action::Continue
    }
}

/// How UPDATE ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Update {
    /// All marked messages are removed, durably, and no other.
    Done,
    /// Some marked messages are not removed.
    Incomplete,
}

/// Appends the answer to QUIT, after the work (RFC 1939 section 6).
pub fn farewell(update: Update, out: &mut Vec<u8>) {
    match update {
        Update::Done => reply::ok(out, ""),
        Update::Incomplete => reply::err(
            out,
            Some(ResponseCode::SysTemp),
            "some deleted messages not removed",
        ),
    }
}

fn numbers(messages: u32) -> impl Iterator<Item = MessageNumber> {
    (1..=messages).filter_map(MessageNumber::new)
}

#[cfg(test)]
mod tests;
