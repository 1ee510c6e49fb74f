//! A server in memory: both machines of the server half, a maildrop, and the one user of RFC 1939's examples.

use std::mem;

use pop3_proto::line::{LineBuffer, MAX_COMMAND};
use pop3_proto::multiline::{Counter, Encoder};
use pop3_proto::server::authorization::{self, Authorization, Denial};
use pop3_proto::server::transaction::{self, Transaction, Update, farewell};
use pop3_proto::server::{Listing, Offer};
use pop3_proto::{LineCount, MechanismName, MessageNumber, Octets, UniqueId, reply};

pub const TIMESTAMP: &str = "<1896.697170952@dbc.mtview.ca.us>";
pub const USER: &[u8] = b"mrose";
pub const PASSWORD: &[u8] = b"tan staaf";
/// MD5 of the timestamp and `tanstaaf`, by RFC 1939 section 7.
pub const DIGEST: &[u8] = b"c4c9334bac560ecc979e58001b3e22fb";
/// NUL, `mrose`, NUL, `tan staaf` in base64.
pub const PLAIN: &[u8] = b"AG1yb3NlAHRhbiBzdGFhZg==";

/// Stored messages with their unique-ids.
pub struct Maildrop(pub Vec<(UniqueId, Vec<u8>)>);

impl Listing for Maildrop {
    fn messages(&self) -> u32 {
        u32::try_from(self.0.len()).unwrap()
    }

    fn octets(&self, number: MessageNumber) -> Octets {
        let mut counter = Counter::new();
        counter.count(&self.0[number.index()].1);
        counter.finish()
    }

    fn unique_id(&self, number: MessageNumber) -> Option<UniqueId> {
        self.0.get(number.index()).map(|(unique_id, _)| *unique_id)
    }
}

/// A maildrop of messages named by their place.
pub fn maildrop(messages: &[&[u8]]) -> Maildrop {
    let named = |(place, message): (usize, &&[u8])| {
        let unique_id = UniqueId::new(format!("id{}", place + 1).as_bytes()).unwrap();
        (unique_id, message.to_vec())
    };
    Maildrop(messages.iter().enumerate().map(named).collect())
}

pub fn offer() -> Offer {
    Offer {
        user: true,
        apop: true,
        stls: true,
        mechanisms: vec![MechanismName::new(b"PLAIN").unwrap()],
        ..Offer::default()
    }
}

enum State {
    Authorization(Authorization),
    Transaction(Transaction),
    /// STLS was accepted.
    Handshake(Authorization),
    Closed,
}

pub struct Server {
    state: State,
    lines: LineBuffer,
    maildrop: Maildrop,
    /// What the client has yet to receive.
    pub out: Vec<u8>,
    /// What UPDATE removed, once there was one.
    pub updated: Option<Vec<u32>>,
    /// Octets dropped behind STLS.
    pub dropped: usize,
}

impl Server {
    pub fn new(maildrop: Maildrop) -> Server {
        let mut out = Vec::new();
        reply::greeting(&mut out, "POP3 server ready", Some(TIMESTAMP));
        let machine = Authorization::new(offer(), authorization::Limits::default(), false);
        Server {
            state: State::Authorization(machine),
            lines: LineBuffer::new(MAX_COMMAND),
            maildrop,
            out,
            updated: None,
            dropped: 0,
        }
    }

    pub fn is_closed(&self) -> bool {
        matches!(self.state, State::Closed)
    }

    pub fn is_in_handshake(&self) -> bool {
        matches!(self.state, State::Handshake(_))
    }

    /// Octets arrive; what they cause is appended to `out`.
    pub fn receive(&mut self, mut input: &[u8]) {
        while !input.is_empty() && !self.is_closed() && !self.is_in_handshake() {
            let taken = self.lines.push(input);
            assert!(taken > 0, "no room although all lines are taken");
            input = &input[taken..];
            while self.step() {}
        }
        if self.is_in_handshake() {
            self.dropped += input.len();
        }
    }

    /// The handshake is done.
    pub fn tls_started(&mut self) {
        if let State::Handshake(mut machine) = mem::replace(&mut self.state, State::Closed) {
            machine.tls_started(Offer {
                stls: false,
                ..offer()
            });
            self.state = State::Authorization(machine);
        }
    }

    /// Serves one line; `false` if there is none to serve.
    fn step(&mut self) -> bool {
        match mem::replace(&mut self.state, State::Closed) {
            State::Authorization(machine) => self.authorize(machine),
            State::Transaction(machine) => self.transact(machine),
            state @ (State::Handshake(_) | State::Closed) => {
                self.state = state;
                false
            }
        }
    }

    fn authorize(&mut self, mut machine: Authorization) -> bool {
        use authorization::Action;
        self.lines
            .set_limit(machine.line_limit(self.lines.unparsed()));
        let Some(line) = self.lines.next_line() else {
            self.state = State::Authorization(machine);
            return false;
        };
        let accepted = match machine.line(line, &mut self.out) {
            Action::Continue | Action::SaslCancelled => None,
            Action::Close => return true,
            Action::AttemptLogin { user, password } => Some(user == USER && password == PASSWORD),
            Action::AttemptApop { user, digest } => Some(user == USER && digest == DIGEST),
            Action::AuthenticateSasl {
                initial_response: None,
                ..
            } => {
                machine.challenge(b"", &mut self.out);
                None
            }
            Action::AuthenticateSasl {
                initial_response: Some(response),
                ..
            }
            | Action::SaslResponse(response) => Some(response == PLAIN),
            Action::StartTls => {
                self.dropped += self.lines.discard_rest();
                self.state = State::Handshake(machine);
                return true;
            }
        };
        if accepted == Some(true) {
            // What was pipelined behind the login goes to the process that serves the maildrop.
            self.lines = LineBuffer::with_rest(MAX_COMMAND, self.lines.unparsed());
            let limits = transaction::Limits::default();
            let machine =
                Transaction::new(&self.maildrop, offer(), limits, machine.utf8()).unwrap();
            machine.welcome(&mut self.out);
            self.state = State::Transaction(machine);
            return true;
        }
        if accepted == Some(false)
            && machine.denied(Denial::Credentials, &mut self.out) == Action::Close
        {
            return true;
        }
        self.state = State::Authorization(machine);
        true
    }

    fn transact(&mut self, mut machine: Transaction) -> bool {
        use transaction::Action;
        let Some(line) = self.lines.next_line() else {
            self.state = State::Transaction(machine);
            return false;
        };
        match machine.line(line, &self.maildrop, &mut self.out) {
            Action::Continue | Action::Marked { .. } => (),
            Action::Close => return true,
            Action::List(mut cursor) => {
                // Never full: each call leaves room for a line.
                while !machine.write_listing(
                    &mut cursor,
                    &self.maildrop,
                    self.out.len() + 64,
                    &mut self.out,
                ) {}
            }
            Action::Retrieve { message } => {
                machine.retrieve(message, &self.maildrop, &mut self.out);
                self.send_message(message, Encoder::retr());
            }
            Action::Top {
                message,
                lines: LineCount(lines),
            } => {
                machine.top(&mut self.out);
                self.send_message(message, Encoder::top(LineCount(lines)));
            }
            Action::Quit => {
                self.updated = Some(machine.deleted().map(MessageNumber::value).collect());
                farewell(Update::Done, &mut self.out);
                return true;
            }
        }
        self.state = State::Transaction(machine);
        true
    }

    fn send_message(&mut self, message: MessageNumber, mut encoder: Encoder) {
        let mut buffer = [0; 100];
        let mut stored = &self.maildrop.0[message.index()].1[..];
        while !stored.is_empty() {
            let progress = encoder.encode(stored, &mut buffer);
            self.out.extend_from_slice(&buffer[..progress.produced]);
            stored = &stored[progress.consumed..];
            if progress.done {
                break;
            }
        }
        loop {
            let progress = encoder.finish(&mut buffer);
            self.out.extend_from_slice(&buffer[..progress.produced]);
            if progress.done {
                break;
            }
        }
    }
}
