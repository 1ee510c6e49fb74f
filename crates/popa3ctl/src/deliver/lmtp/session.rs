//! The dialogue with one LMTP client (RFC 2033): commands in, one reply for each recipient behind a message.

use std::io::{self, BufRead, Read, Write};

use pop3_proto::multiline::{Decoder, LineEnds};
use serde::{Deserialize, Serialize};

use super::command::{Command, Reply};

/// Octets of a line, with what extensions add (RFC 5321 section 4.5.3.1.4: 512; SIZE, BODY and SMTPUTF8 add less than as many).
const MAX_LINE_OCTETS: usize = 2048;

/// Recipients of one message (RFC 5321 section 4.5.3.1.8: at least 100).
const MAX_RECIPIENTS: usize = 1000;

/// Commands that are none, before the client is sent away.
const MAX_ERRORS: u32 = 20;

/// What became of a recipient, or of the message for one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// There is such a user; the message is delivered.
    Done,
    /// There is none.
    NoUser,
    /// Somebody has to look at the maildrop.
    Permanent,
    /// Trying later may help.
    Temporary,
}

impl Outcome {
    fn of_recipient(self) -> Reply {
        match self {
            Outcome::Done => "250 2.1.5 OK",
            Outcome::NoUser => "550 5.1.1 No such user here",
            Outcome::Permanent => "550 5.2.1 Mailbox disabled",
            Outcome::Temporary => "450 4.2.1 Mailbox unavailable at present",
        }
    }

    fn of_message(self) -> Reply {
        match self {
            Outcome::Done => "250 2.0.0 Delivered",
            Outcome::NoUser => "550 5.1.1 No such user here",
            Outcome::Permanent => "554 5.2.0 The mailbox cannot be written to",
            Outcome::Temporary => "451 4.2.0 The mailbox cannot be written to at present",
        }
    }
}

/// Who delivers, and where a message is kept until it is complete.
pub trait Backend {
    /// Whether there is such a recipient.
    ///
    /// # Errors
    /// There is nobody to be asked any more.
    fn check(&mut self, recipient: &str) -> io::Result<Outcome>;

    /// A message begins.
    ///
    /// # Errors
    /// It cannot be kept.
    fn begin(&mut self) -> io::Result<()>;

    /// A piece of it, lines ending with LF.
    ///
    /// # Errors
    /// It cannot be kept.
    fn keep(&mut self, piece: &[u8]) -> io::Result<()>;

    /// Delivers the message.
    ///
    /// # Errors
    /// There is nobody to be asked any more.
    fn deliver(&mut self, sender: &str, recipient: &str) -> io::Result<Outcome>;
}

/// One client's session.
pub struct Session<'a, B> {
    backend: &'a mut B,
    max_octets: u64,
    greeted: bool,
    sender: Option<String>,
    recipients: Vec<String>,
    errors: u32,
}

impl<'a, B: Backend> Session<'a, B> {
    /// A session that takes messages of at most so many octets.
    pub fn new(backend: &'a mut B, max_octets: u64) -> Self {
        Session {
            backend,
            max_octets,
            greeted: false,
            sender: None,
            recipients: Vec::new(),
            errors: 0,
        }
    }

    /// Serves until QUIT or the end of the connection.
    ///
    /// # Errors
    /// The connection's, or the backend's.
    pub fn serve(&mut self, mut input: impl BufRead, mut output: impl Write) -> io::Result<()> {
        say(&mut output, "220 popa3ctl LMTP ready")?;
        let mut line = Vec::new();
        loop {
            match read_line(&mut input, &mut line)? {
                Line::End => return Ok(()),
                Line::TooLong => self.fail(&mut output, "500 5.5.2 Line too long")?,
                Line::Whole => match Command::parse(&line) {
                    Ok(Command::Quit) => return say(&mut output, "221 2.0.0 Bye"),
                    Ok(Command::Data) => self.data(&mut input, &mut output)?,
                    Ok(command) => {
                        let reply = self.follow(command)?;
                        say(&mut output, &reply)?;
                    }
                    Err(reply) => self.fail(&mut output, reply)?,
                },
            }
            if self.errors > MAX_ERRORS {
                return say(&mut output, "421 4.7.0 Too many errors");
            }
        }
    }

    fn fail(&mut self, output: &mut impl Write, reply: Reply) -> io::Result<()> {
        self.errors = self.errors.saturating_add(1);
        say(output, reply)
    }

    fn follow(&mut self, command: Command) -> io::Result<String> {
        Ok(match command {
            Command::Lhlo => {
                self.greeted = true;
                self.reset();
                let max = self.max_octets;
                format!(
                    "250-popa3ctl\r\n250-PIPELINING\r\n250-ENHANCEDSTATUSCODES\r\n250-8BITMIME\r\n250-SMTPUTF8\r\n250 SIZE {max}"
                )
            }
            Command::Mail { .. } if !self.greeted => "503 5.5.1 Say LHLO first".into(),
            Command::Mail { .. } if self.sender.is_some() => "503 5.5.1 One sender".into(),
            Command::Mail { size, .. } if size > self.max_octets => too_large().into(),
            Command::Mail { sender, .. } => {
                self.sender = Some(sender);
                "250 2.1.0 OK".into()
            }
            Command::Rcpt(_) if self.sender.is_none() => "503 5.5.1 MAIL first".into(),
            Command::Rcpt(_) if self.recipients.len() >= MAX_RECIPIENTS => {
                "452 4.5.3 Too many recipients".into()
            }
            Command::Rcpt(recipient) => {
                let outcome = self.backend.check(&recipient)?;
                if outcome == Outcome::Done {
                    self.recipients.push(recipient);
                }
                outcome.of_recipient().into()
            }
            Command::Rset => {
                self.reset();
                "250 2.0.0 OK".into()
            }
            Command::Vrfy => "252 2.5.1 Try to deliver".into(),
            Command::Noop | Command::Data | Command::Quit => "250 2.0.0 OK".into(),
        })
    }

    fn reset(&mut self) {
        self.sender = None;
        self.recipients.clear();
    }

    /// RFC 2033 section 4.2: one reply for each recipient that was accepted, in their order.
    fn data(&mut self, input: &mut impl BufRead, output: &mut impl Write) -> io::Result<()> {
        let Some(sender) = self.sender.take().filter(|_| !self.recipients.is_empty()) else {
            self.reset();
            return self.fail(output, "503 5.5.1 No recipients");
        };
        let recipients = std::mem::take(&mut self.recipients);
        say(output, "354 Go ahead")?;
        let received = self.receive(input)?;
        for recipient in recipients {
            let reply = match received {
                Received::Whole => self.backend.deliver(&sender, &recipient)?.of_message(),
                Received::TooLarge => too_large(),
                Received::NotKept => "451 4.3.1 The message cannot be kept",
            };
            say(output, reply)?;
        }
        Ok(())
    }

    /// Reads the message to its end, also when it is not kept.
    fn receive(&mut self, input: &mut impl BufRead) -> io::Result<Received> {
        let mut decoder = Decoder::new(LineEnds::Lf, false);
        let mut left = self.max_octets;
        let mut received = match self.backend.begin() {
            Ok(()) => Received::Whole,
            Err(_) => Received::NotKept,
        };
        loop {
            let piece = input.fill_buf()?;
            if piece.is_empty() {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let decoded = decoder.decode(piece);
            if received == Received::Whole {
                match left.checked_sub(decoded.data.len() as u64) {
                    Some(rest) => left = rest,
                    None => received = Received::TooLarge,
                }
            }
            if received == Received::Whole && self.backend.keep(decoded.data).is_err() {
                received = Received::NotKept;
            }
            let (consumed, end) = (decoded.consumed, decoded.end);
            input.consume(consumed);
            if end {
                return Ok(received);
            }
        }
    }
}

/// What became of a message on its way in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Received {
    Whole,
    TooLarge,
    NotKept,
}

fn too_large() -> Reply {
    "552 5.3.4 Message too large"
}

fn say(output: &mut impl Write, reply: &str) -> io::Result<()> {
    output.write_all(format!("{reply}\r\n").as_bytes())?;
    output.flush()
}

enum Line {
    Whole,
    TooLong,
    End,
}

/// A line without its end into `line`; of one that is too long, nothing is kept.
fn read_line(input: &mut impl BufRead, line: &mut Vec<u8>) -> io::Result<Line> {
    line.clear();
    let limit = MAX_LINE_OCTETS as u64;
    if input.by_ref().take(limit).read_until(b'\n', line)? == 0 {
        return Ok(Line::End);
    }
    if line.last() != Some(&b'\n') {
        if line.len() < MAX_LINE_OCTETS {
            return Ok(Line::End);
        }
        input.skip_until(b'\n')?;
        return Ok(Line::TooLong);
    }
    line.pop();
    if line.last() == Some(&b'\r') {
        line.pop();
    }
    Ok(Line::Whole)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Knows joe and ann; ann's mailbox cannot be written to at present.
    #[derive(Default)]
    struct Two {
        kept: Vec<u8>,
        delivered: Vec<(String, String, Vec<u8>)>,
    }

    impl Backend for Two {
        fn check(&mut self, recipient: &str) -> io::Result<Outcome> {
            Ok(match recipient {
                "joe" | "ann" => Outcome::Done,
                _ => Outcome::NoUser,
            })
        }

        fn begin(&mut self) -> io::Result<()> {
            self.kept.clear();
            Ok(())
        }

        fn keep(&mut self, piece: &[u8]) -> io::Result<()> {
            self.kept.extend_from_slice(piece);
            Ok(())
        }

        fn deliver(&mut self, sender: &str, recipient: &str) -> io::Result<Outcome> {
            if recipient == "ann" {
                return Ok(Outcome::Temporary);
            }
            self.delivered
                .push((sender.into(), recipient.into(), self.kept.clone()));
            Ok(Outcome::Done)
        }
    }

    /// The first four octets of each reply, its last line's, with the input in pieces of so many octets.
    fn dialogue(input: &str, max_octets: u64, piece: usize) -> (Vec<String>, Two) {
        let (mut backend, mut output) = (Two::default(), Vec::new());
        let input = io::BufReader::with_capacity(piece, input.as_bytes());
        let served = Session::new(&mut backend, max_octets).serve(input, &mut output);
        let text = String::from_utf8(output).unwrap();
        let mut replies: Vec<String> = text
            .split_terminator("\r\n")
            .map(|line| line.get(..4).unwrap_or(line).to_owned())
            .filter(|line| !line.ends_with('-'))
            .collect();
        if served.is_err() {
            replies.push("gone".into());
        }
        (replies, backend)
    }

    const TWO: &str = "LHLO x\r\nMAIL FROM:<s@x>\r\nRCPT TO:<joe>\r\nRCPT TO:<bob>\r\nRCPT TO:<ann>\r\nDATA\r\n\
                       a: b\r\n\r\n..dot\r\n.\r\nQUIT\r\n";

    #[test]
    fn every_accepted_recipient_has_a_reply_wherever_the_input_is_cut() {
        for piece in 1..=TWO.len() {
            let (replies, backend) = dialogue(TWO, 100, piece);
            assert_eq!(
                replies,
                [
                    "220 ", "250 ", "250 ", "250 ", "550 ", "250 ", "354 ", "250 ", "451 ", "221 "
                ]
            );
            let message = b"a: b\n\n.dot\n".to_vec();
            assert_eq!(backend.delivered, [("s@x".into(), "joe".into(), message)]);
        }
    }

    #[test]
    fn what_is_too_large_is_refused_before_and_behind_data() {
        let (replies, backend) = dialogue(TWO, 5, 64);
        assert_eq!(replies[6..], ["354 ", "552 ", "552 ", "221 "]);
        assert!(backend.delivered.is_empty());
        let (replies, _) = dialogue("LHLO x\r\nMAIL FROM:<> SIZE=6\r\n", 5, 64);
        assert_eq!(replies[2..], ["552 "]);
    }

    #[test]
    fn a_message_that_is_cut_off_is_not_delivered() {
        let cut = TWO.find("\r\n.\r\n").unwrap();
        for end in TWO.find("a: b").unwrap()..=cut + 4 {
            let (replies, backend) = dialogue(&TWO[..end], 100, 64);
            assert_eq!(replies.last().unwrap(), "gone");
            assert!(backend.delivered.is_empty());
        }
    }

    #[test]
    fn commands_out_of_turn_are_refused() {
        let (replies, _) = dialogue(
            "MAIL FROM:<>\r\nLHLO x\r\nRCPT TO:<joe>\r\nDATA\r\nMAIL FROM:<>\r\nMAIL FROM:<>\r\nDATA\r\nRSET\r\nNOOP\r\nVRFY x\r\n",
            100,
            64,
        );
        assert_eq!(
            replies,
            [
                "220 ", "503 ", "250 ", "503 ", "503 ", "250 ", "503 ", "503 ", "250 ", "250 ",
                "252 "
            ]
        );
    }

    #[test]
    fn long_lines_and_many_errors_end_in_a_bound() {
        let long = format!("NOOP {}\r\nNOOP\r\n", "x".repeat(10_000));
        let (replies, _) = dialogue(&long, 100, 64);
        assert_eq!(replies, ["220 ", "500 ", "250 "]);
        let (replies, _) = dialogue(&"X\r\n".repeat(100), 100, 64);
        assert_eq!(replies.len(), 1 + 21 + 1);
        assert_eq!(replies.last().unwrap(), "421 ");
    }
}
