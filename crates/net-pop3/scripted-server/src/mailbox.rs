//! A POP3 server that behaves, with everything adjustable that clients have to cope with.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::sync::{Arc, Mutex};

use rustls::{ServerConnection, StreamOwned};

use crate::certificate::CERTIFICATES;
use crate::serve::{Server, serve};

/// A message of a [`Mailbox`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Its unique-id.
    pub unique_id: String,
    /// Its octets, lines ending with CRLF.
    pub octets: Vec<u8>,
}

/// What a server has and how it behaves. The user is `mrose`, the password `tanstaaf`.
#[derive(Clone, Debug)]
pub struct Mailbox {
    messages: Arc<Mutex<Vec<Message>>>,
    /// Lines of CAPA; none means that CAPA is not known.
    pub capabilities: Vec<&'static str>,
    /// TLS from the first octet.
    pub implicit_tls: bool,
    /// STLS is known.
    pub stls: bool,
    /// Only clients with a certificate are let in.
    pub asks_certificate: bool,
    /// Octets sent in the clear in one piece with the reply to STLS.
    pub injected: &'static [u8],
    /// UIDL is known.
    pub uidl: bool,
    /// TOP is known.
    pub top: bool,
    /// RETR of this message is refused.
    pub broken_message: Option<usize>,
    /// The connection is closed when this is asked.
    pub closes_at: Option<&'static str>,
    heard: Arc<Mutex<Vec<String>>>,
}

impl Mailbox {
    /// With these messages.
    pub fn new(messages: Vec<Message>) -> Mailbox {
        Mailbox {
            messages: Arc::new(Mutex::new(messages)),
            capabilities: vec![
                "TOP",
                "UIDL",
                "USER",
                "PIPELINING",
                "RESP-CODES",
                "UTF8",
                "LANG",
                "SASL PLAIN",
                "IMPLEMENTATION scripted",
            ],
            implicit_tls: false,
            stls: false,
            asks_certificate: false,
            injected: b"",
            uidl: true,
            top: true,
            broken_message: None,
            closes_at: None,
            heard: Arc::default(),
        }
    }

    /// With two short messages.
    pub fn sample() -> Mailbox {
        let message = |unique_id: &str, octets: &[u8]| Message {
            unique_id: unique_id.to_owned(),
            octets: octets.to_vec(),
        };
        Mailbox::new(vec![
            message(
                "whqtswO00WBw418f9t5JxYwZ",
                b"Subject: one\r\n\r\nThis is the first of two.\r\n.\r\nBye\r\n",
            ),
            message(
                "QhdPYR:00WBw1Ph7x7",
                b"Subject: two\r\n\r\n..\r\n\xe4 \0\r\n",
            ),
        ])
    }

    /// With that many messages of about that size.
    pub fn many(count: usize, octets: usize) -> Mailbox {
        let messages = (1..=count).map(|number| {
            let mut text = format!("Subject: message {number}\r\n\r\n").into_bytes();
            while text.len() < octets {
                text.extend_from_slice(
                    b".dots and text, as long as a line of mail is, about 70 octets\r\n",
                );
            }
            Message {
                unique_id: format!("uid-{number}"),
                octets: text,
            }
        });
        Mailbox::new(messages.collect())
    }

    /// Starts a server; its mailbox is shared with this value.
    pub fn start(&self) -> Server {
        let mailbox = self.clone();
        serve(move |stream| {
            // The client may go whenever it likes.
            let _ = mailbox.session(stream);
        })
    }

    /// What is there now.
    pub fn messages(&self) -> Vec<Message> {
        self.messages.lock().expect("no panic").clone()
    }

    /// Delivers another message.
    pub fn deliver(&self, message: Message) {
        self.messages.lock().expect("no panic").push(message);
    }

    /// The command lines heard so far, in all sessions.
    pub fn heard(&self) -> Vec<String> {
        self.heard.lock().expect("no panic").clone()
    }

    fn session(&self, stream: TcpStream) -> std::io::Result<()> {
        stream.set_nodelay(true)?;
        let mut line: Line = if self.implicit_tls {
            self.secured(stream)?
        } else {
            BufReader::new(Box::new(stream))
        };
        say(&mut line, "+OK ready <1896.697170952@dbc.mtview.ca.us>\r\n")?;
        let mut session = Session {
            mailbox: self,
            shown: Vec::new(),
            deleted: Vec::new(),
            user: String::new(),
            is_in: false,
        };
        let mut out = Vec::new();
        loop {
            let mut command = Vec::new();
            if line.read_until(b'\n', &mut command)? == 0 {
                return Ok(());
            }
            let command = String::from_utf8_lossy(&command).trim_end().to_owned();
            self.heard.lock().expect("no panic").push(command.clone());
            let (name, arguments) = command.split_once(' ').unwrap_or((&command, ""));
            let name = name.to_ascii_uppercase();
            if self
                .closes_at
                .is_some_and(|closes_at| command.starts_with(closes_at))
            {
                return Ok(());
            }
            if name == "STLS" && self.stls && !session.is_in {
                out.extend_from_slice(b"+OK begin TLS\r\n");
                out.extend_from_slice(self.injected);
                line.get_mut().write_all(&out)?;
                out.clear();
                let Some(stream) = line.into_inner().into_tcp() else {
                    return Ok(());
                };
                line = self.secured(stream)?;
                continue;
            }
            session.answer(&name, arguments, &mut line, &mut out)?;
            // Replies to pipelined commands go out together.
            if line.buffer().is_empty() || out.len() > 256 * 1024 {
                line.get_mut().write_all(&out)?;
                line.get_mut().flush()?;
                out.clear();
            }
            if name == "QUIT" {
                return Ok(());
            }
        }
    }

    fn secured(&self, stream: TcpStream) -> std::io::Result<Line> {
        let config = CERTIFICATES.server_config(self.asks_certificate);
        let connection = ServerConnection::new(config).map_err(std::io::Error::other)?;
        Ok(BufReader::new(Box::new(StreamOwned::new(
            connection, stream,
        ))))
    }
}

type Line = BufReader<Box<dyn Stream>>;

trait Stream: Read + Write {
    fn into_tcp(self: Box<Self>) -> Option<TcpStream>;
}

impl Stream for TcpStream {
    fn into_tcp(self: Box<Self>) -> Option<TcpStream> {
        Some(*self)
    }
}

impl Stream for StreamOwned<ServerConnection, TcpStream> {
    fn into_tcp(self: Box<Self>) -> Option<TcpStream> {
        None
    }
}

fn say(line: &mut Line, text: &str) -> std::io::Result<()> {
    line.get_mut().write_all(text.as_bytes())?;
    line.get_mut().flush()
}

struct Session<'a> {
    mailbox: &'a Mailbox,
    shown: Vec<Message>,
    deleted: Vec<bool>,
    user: String,
    is_in: bool,
}

impl Session<'_> {
    fn answer(
        &mut self,
        name: &str,
        arguments: &str,
        line: &mut Line,
        out: &mut Vec<u8>,
    ) -> std::io::Result<()> {
        let number = arguments
            .split(' ')
            .next()
            .and_then(|digits| digits.parse::<usize>().ok());
        let message = number
            .filter(|number| self.deleted.get(number.wrapping_sub(1)) == Some(&false))
            .and_then(|number| {
                self.shown
                    .get(number - 1)
                    .map(|message| (number, message.clone()))
            });
        let no_message = "-ERR no such message\r\n";
        let answer = match (name, message) {
            ("CAPA", _) if !self.mailbox.capabilities.is_empty() => {
                let lines: String = self
                    .mailbox
                    .capabilities
                    .iter()
                    .map(|line| format!("{line}\r\n"))
                    .collect();
                format!("+OK\r\n{lines}.\r\n")
            }
            ("QUIT", _) => {
                let gone = |message: &Message| {
                    let marked = self.shown.iter().zip(&self.deleted);
                    marked
                        .clone()
                        .any(|(shown, deleted)| *deleted && shown == message)
                };
                self.mailbox
                    .messages
                    .lock()
                    .expect("no panic")
                    .retain(|message| !gone(message));
                "+OK bye\r\n".to_owned()
            }
            ("UTF8", _) => "+OK\r\n".to_owned(),
            ("LANG", _) if arguments.is_empty() => "+OK\r\nen English\r\n.\r\n".to_owned(),
            ("LANG", _) => "+OK en as you like\r\n".to_owned(),
            ("USER", _) if !self.is_in => {
                self.user = arguments.to_owned();
                "+OK\r\n".to_owned()
            }
            ("PASS", _) if !self.is_in => {
                self.enter(self.user == "mrose" && arguments == "tanstaaf")
            }
            ("APOP", _) if !self.is_in => {
                self.enter(arguments == "mrose c4c9334bac560ecc979e58001b3e22fb")
            }
            ("AUTH", _) if !self.is_in => {
                let mut words = arguments.split(' ');
                let expected = match words.next() {
                    Some("PLAIN") => "AG1yb3NlAHRhbnN0YWFm".to_owned(),
                    Some("XOAUTH2") => "dXNlcj1tcm9zZQFhdXRoPUJlYXJlciB0b2tlbgEB".to_owned(),
                    Some("EXTERNAL") => "=".to_owned(),
                    _ => return out.write_all(b"-ERR no such mechanism\r\n"),
                };
                let response = match words.next() {
                    Some(initial) => initial.to_owned(),
                    None => {
                        line.get_mut().write_all(b"+ \r\n")?;
                        line.get_mut().flush()?;
                        let mut response = String::new();
                        line.read_line(&mut response)?;
                        response.trim_end().to_owned()
                    }
                };
                self.enter(response == expected)
            }
            ("STAT", _) if self.is_in => {
                let there = || self.there().map(|(_, message)| message.octets.len());
                format!("+OK {} {}\r\n", there().count(), there().sum::<usize>())
            }
            ("LIST", _) if self.is_in && arguments.is_empty() => {
                let lines = self
                    .there()
                    .map(|(number, message)| format!("{number} {}\r\n", message.octets.len()));
                format!("+OK\r\n{}.\r\n", lines.collect::<String>())
            }
            ("UIDL", _) if self.is_in && arguments.is_empty() && self.mailbox.uidl => {
                let lines = self
                    .there()
                    .map(|(number, message)| format!("{number} {}\r\n", message.unique_id));
                format!("+OK\r\n{}.\r\n", lines.collect::<String>())
            }
            ("LIST", Some((number, message))) => {
                format!("+OK {number} {}\r\n", message.octets.len())
            }
            ("UIDL", Some((number, message))) if self.mailbox.uidl => {
                format!("+OK {number} {}\r\n", message.unique_id)
            }
            ("RETR", Some((number, message))) if self.mailbox.broken_message != Some(number) => {
                out.extend_from_slice(b"+OK\r\n");
                stuffed(&message.octets, usize::MAX, out);
                String::new()
            }
            ("RETR", Some(_)) => "-ERR [SYS/TEMP] cannot read it\r\n".to_owned(),
            ("TOP", Some((_, message))) if self.mailbox.top => {
                let lines = arguments
                    .split(' ')
                    .nth(1)
                    .and_then(|lines| lines.parse().ok());
                out.extend_from_slice(b"+OK\r\n");
                stuffed(&message.octets, lines.unwrap_or(0), out);
                String::new()
            }
            ("DELE", Some((number, _))) => {
                self.deleted[number - 1] = true;
                "+OK\r\n".to_owned()
            }
            ("RSET", _) if self.is_in => {
                self.deleted.fill(false);
                "+OK\r\n".to_owned()
            }
            ("NOOP", _) if self.is_in => "+OK\r\n".to_owned(),
            ("LAST", _) if self.is_in => "+OK 0\r\n".to_owned(),
            ("LIST" | "RETR" | "DELE", None) if self.is_in => no_message.to_owned(),
            ("UIDL", None) if self.is_in && self.mailbox.uidl => no_message.to_owned(),
            ("TOP", None) if self.is_in && self.mailbox.top => no_message.to_owned(),
            _ => "-ERR unknown command\r\n".to_owned(),
        };
        out.extend_from_slice(answer.as_bytes());
        Ok(())
    }

    fn enter(&mut self, is_right: bool) -> String {
        if !is_right {
            return "-ERR [AUTH] wrong name or password\r\n".to_owned();
        }
        self.shown = self.mailbox.messages();
        self.deleted = vec![false; self.shown.len()];
        self.is_in = true;
        "+OK maildrop locked and ready\r\n".to_owned()
    }

    fn there(&self) -> impl Iterator<Item = (usize, &Message)> {
        let numbered = (1..).zip(&self.shown);
        numbered.filter(|(number, _)| !self.deleted[number - 1])
    }
}

/// Dots doubled, the final one behind; the header and that many lines of the body.
fn stuffed(message: &[u8], body_lines: usize, out: &mut Vec<u8>) {
    // `None` within the header.
    let mut left: Option<usize> = None;
    for line in message.split_inclusive(|octet| *octet == b'\n') {
        left = match left {
            Some(0) => break,
            Some(left) => Some(left - 1),
            None if line == b"\r\n" => Some(body_lines),
            None => None,
        };
        if line.starts_with(b".") {
            out.push(b'.');
        }
        out.extend_from_slice(line);
    }
    if !out.ends_with(b"\r\n") {
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(b".\r\n");
}
