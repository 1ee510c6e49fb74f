//! Who has said what: the session's state and the replies still due.

use std::collections::VecDeque;

use super::connection::{CommandError, Limits, ProtocolError, State};
use super::response::Response;
use crate::command::{Command, Keyword};
use crate::multiline::{Decoder, LineEnds};

/// The state of a client's session and the commands that have not been answered.
#[derive(Debug)]
pub(super) struct Dialogue {
    pub(super) state: State,
    /// What the next octets belong to.
    pub(super) current: Current,
    /// In the order in which they were sent.
    pub(super) outstanding: VecDeque<Outstanding>,
    /// Commands among them that log in.
    logins: u32,
    /// The server awaits a SASL response.
    pub(super) challenged: bool,
    /// After an error nothing that is received makes sense.
    pub(super) failed: Option<ProtocolError>,
}

/// A command that has been sent.
#[derive(Clone, Copy, Debug)]
pub(super) struct Outstanding {
    pub(super) keyword: Keyword,
    reply: Reply,
    logs_in: bool,
}

/// What follows the first line of a positive reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reply {
    Nothing,
    Listing,
    Message,
}

/// The part of a reply that is being received.
#[derive(Debug)]
pub(super) enum Current {
    FirstLine,
    Listing {
        keyword: Keyword,
        lines_left: u32,
    },
    Message {
        keyword: Keyword,
        decoder: Decoder,
        octets_left: u64,
    },
}

impl Outstanding {
    fn new(command: &Command<'_>) -> Outstanding {
        let reply = match command {
            Command::Retr(_) | Command::Top { .. } => Reply::Message,
            Command::List(None)
            | Command::Uidl(None)
            | Command::Capa
            | Command::Lang(None)
            | Command::Auth {
                mechanism: None, ..
            } => Reply::Listing,
            _ => Reply::Nothing,
        };
        let logs_in = match command {
            Command::Pass { .. } | Command::Apop { .. } => true,
            Command::Auth { mechanism, .. } => mechanism.is_some(),
            _ => false,
        };
        Outstanding {
            keyword: command.keyword(),
            reply,
            logs_in,
        }
    }

    /// Whether the command is one whose answer decides how the next octets are to be read.
    fn must_be_awaited(&self) -> bool {
        match self.keyword {
            Keyword::Stls | Keyword::Quit => true,
            Keyword::Auth => self.logs_in,
            _ => false,
        }
    }

    /// The challenge of a SASL exchange may come in place of the answer.
    pub(super) fn may_be_challenged(&self) -> bool {
        self.keyword == Keyword::Auth && self.logs_in
    }
}

impl Dialogue {
    pub(super) fn new() -> Dialogue {
        Dialogue {
            state: State::Greeting,
            current: Current::FirstLine,
            outstanding: VecDeque::new(),
            logins: 0,
            challenged: false,
            failed: None,
        }
    }

    pub(super) fn fail<T>(&mut self, error: ProtocolError) -> Result<T, ProtocolError> {
        self.failed = Some(error);
        Err(error)
    }

    /// The first line of a reply has been received, and more of it is to come.
    pub(super) fn within_reply(&self) -> bool {
        !matches!(self.current, Current::FirstLine)
    }

    /// Whether the command may be sent now.
    pub(super) fn check(&self, command: &Command<'_>) -> Result<(), CommandError> {
        if self.failed.is_some() {
            return Err(CommandError::WrongState);
        }
        if self
            .outstanding
            .back()
            .is_some_and(Outstanding::must_be_awaited)
        {
            return Err(CommandError::MustWait);
        }
        // Behind STLS everything is said anew, so nothing may be under way.
        if *command == Command::Stls && (self.within_reply() || !self.outstanding.is_empty()) {
            return Err(CommandError::MustWait);
        }
        // A login that is under way will succeed, as far as is known.
        let state = match self.state {
            State::Authorization if self.logins > 0 => State::Transaction,
            state => state,
        };
        if is_allowed(command.keyword(), state) {
            Ok(())
        } else {
            Err(CommandError::WrongState)
        }
    }

    /// The command has been sent.
    pub(super) fn sent(&mut self, command: &Command<'_>) {
        let outstanding = Outstanding::new(command);
        self.logins = self.logins.saturating_add(u32::from(outstanding.logs_in));
        self.outstanding.push_back(outstanding);
    }

    /// The first line of the reply to the oldest command outstanding has been received.
    pub(super) fn answered(
        &mut self,
        response: &Response<'_>,
        lone_lf: bool,
        line_ends: LineEnds,
        limits: &Limits,
    ) {
        let Some(answered) = self.outstanding.pop_front() else {
            return;
        };
        let Outstanding {
            keyword,
            reply,
            logs_in,
        } = answered;
        self.logins = self.logins.saturating_sub(u32::from(logs_in));
        if keyword == Keyword::Quit {
            // After -ERR the server closes as well (RFC 1939 section 6).
            self.state = State::Closed;
        }
        if !response.is_ok() {
            return;
        }
        if logs_in {
            self.state = State::Transaction;
        } else if keyword == Keyword::Stls {
            self.state = State::StartingTls;
        }
        self.current = match reply {
            Reply::Nothing => Current::FirstLine,
            Reply::Listing => Current::Listing {
                keyword,
                lines_left: limits.listing_lines,
            },
            Reply::Message => Current::Message {
                keyword,
                decoder: Decoder::new(line_ends, lone_lf),
                octets_left: limits.message_octets,
            },
        };
    }
}

/// Which command belongs to which state (RFC 1939 section 9). LANG, CAPA and QUIT belong to both, and UTF8 is sent in both.
fn is_allowed(keyword: Keyword, state: State) -> bool {
    match keyword {
        Keyword::User | Keyword::Pass | Keyword::Apop | Keyword::Auth | Keyword::Stls => {
            state == State::Authorization
        }
        Keyword::Stat
        | Keyword::List
        | Keyword::Retr
        | Keyword::Dele
        | Keyword::Noop
        | Keyword::Rset
        | Keyword::Top
        | Keyword::Uidl
        | Keyword::Last => state == State::Transaction,
        Keyword::Capa | Keyword::Lang | Keyword::Utf8 | Keyword::Quit => {
            matches!(state, State::Authorization | State::Transaction)
        }
    }
}
