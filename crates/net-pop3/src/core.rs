//! A session without a driver: the commands, each written once for both drivers.
//!
//! The functions are `async` and wait only in the [`Channel`]. The tokio driver awaits them; the blocking driver, whose socket
//! is always ready, runs them to their end in one go. One that is dropped half-way (a cancelled future, a reader given up)
//! leaves replies due, and the next command reads them away first.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use pop3_proto::client::{
    Connection, Event, ProtocolError, Response, parse_drop_listing, parse_scan_listing,
    parse_unique_id_listing,
};
use pop3_proto::command::Keyword;
use pop3_proto::{Command, LineCount, MessageNumber};

use crate::builder::Settings;
use crate::capabilities::Capabilities;
use crate::channel::{Channel, Socket};
use crate::error::{Error, ErrorKind, Phase, Refusal};
use crate::listing::{Listing, Stat, UniqueId, Wanted};
use crate::trace::{Progress, Trace, redacted};

/// A session over some socket.
pub(crate) struct Core<S> {
    pub(crate) channel: Channel<S>,
    pub(crate) connection: Connection,
    pub(crate) settings: Arc<Settings>,
    pub(crate) peer: Peer,
    pub(crate) banner: String,
    /// APOP's, from the greeting.
    pub(crate) timestamp: Option<Vec<u8>>,
    pub(crate) capabilities: Option<Capabilities>,
    /// The end of [`Timeouts::total`](crate::Timeouts::total).
    pub(crate) total_deadline: Option<Instant>,
    /// For the octets of the message that are being waited for.
    data_deadline: Option<Instant>,
    /// The message being read.
    reading: Option<Progress>,
    /// After this no command is sent.
    is_over: bool,
}

/// Who is at the other end.
#[derive(Clone, Debug)]
pub(crate) struct Peer {
    pub(crate) host: String,
    pub(crate) port: u16,
    /// The proxy's, if there is one.
    pub(crate) address: SocketAddr,
}

/// What was heard, kept beyond the buffer it lay in.
pub(crate) enum Heard {
    Reply(Result<Vec<u8>, Refusal>),
    Challenge(Vec<u8>),
    End,
    Other,
}

impl<S: Socket> Core<S> {
    pub(crate) fn new(
        channel: Channel<S>,
        settings: Arc<Settings>,
        peer: Peer,
        total_deadline: Option<Instant>,
    ) -> Core<S> {
        let limits = pop3_proto::client::Limits {
            line_octets: settings.limits.line_octets,
            listing_lines: settings.limits.listing_entries,
            message_octets: settings.limits.message_octets,
        };
        Core {
            channel,
            connection: Connection::new(settings.line_ends, limits),
            settings,
            peer,
            banner: String::new(),
            timestamp: None,
            capabilities: None,
            total_deadline,
            data_deadline: None,
            reading: None,
            is_over: false,
        }
    }

    // What the drivers' methods are made of.

    pub(crate) async fn capa(&mut self) -> Result<Capabilities, Error> {
        if let Some(capabilities) = &self.capabilities {
            return Ok(capabilities.clone());
        }
        let mut capabilities = Capabilities {
            apop: self.timestamp.is_some(),
            ..Capabilities::default()
        };
        let asked = self.list_lines(&Command::Capa, |event| {
            if let Event::Capability(capability) = event {
                capabilities.add(capability);
            }
        });
        match asked.await {
            Ok(()) => capabilities.capa = true,
            Err(error) if error.refusal().is_some() => (),
            Err(error) => return Err(error),
        }
        Ok(self.capabilities.insert(capabilities).clone())
    }

    pub(crate) async fn stat(&mut self) -> Result<Stat, Error> {
        let text = self.ask(&Command::Stat).await?;
        let (messages, octets) =
            parse_drop_listing(&text).ok_or_else(|| self.malformed(Keyword::Stat))?;
        Ok(Stat {
            messages,
            octets: octets.0,
        })
    }

    pub(crate) async fn list(&mut self, wanted: Result<Wanted, Error>) -> Result<u64, Error> {
        let text = self.ask(&Command::List(Some(wanted?.number))).await?;
        match parse_scan_listing(&text) {
            Some((_, octets)) => Ok(octets.0),
            None => Err(self.malformed(Keyword::List)),
        }
    }

    pub(crate) async fn uidl(&mut self, wanted: Result<Wanted, Error>) -> Result<UniqueId, Error> {
        let text = self.ask(&Command::Uidl(Some(wanted?.number))).await?;
        self.parsed_unique_id(&text)
    }

    pub(crate) fn parsed_unique_id(&mut self, text: &[u8]) -> Result<UniqueId, Error> {
        match parse_unique_id_listing(text) {
            Some((_, id)) => Ok(UniqueId::received(id)),
            None => Err(self.malformed(Keyword::Uidl)),
        }
    }

    pub(crate) async fn list_all(&mut self) -> Result<Vec<(MessageNumber, u64)>, Error> {
        let mut sizes = Vec::new();
        self.list_lines(&Command::List(None), |event| {
            if let Event::ScanListing { number, octets } = event {
                sizes.push((number, octets.0));
            }
        })
        .await?;
        Ok(sizes)
    }

    pub(crate) async fn uidl_all(&mut self) -> Result<Vec<(MessageNumber, UniqueId)>, Error> {
        let mut ids = Vec::new();
        self.list_lines(&Command::Uidl(None), |event| {
            if let Event::UniqueIdListing { number, unique_id } = event {
                ids.push((number, UniqueId::received(unique_id)));
            }
        })
        .await?;
        Ok(ids)
    }

    /// LIST and UIDL, put together by number. A server without UIDL is no error.
    pub(crate) async fn listing(&mut self) -> Result<Vec<Listing>, Error> {
        let sizes = self.list_all().await?;
        let mut ids = match self.uidl_all().await {
            Ok(ids) => ids,
            Err(error) if error.refusal().is_some() => Vec::new(),
            Err(error) => return Err(error),
        };
        // All servers that are known list them in order, and then this does nothing; no order may make what follows slow.
        ids.sort_by_key(|(number, _)| *number);
        let listing = |(number, octets)| {
            let at = ids.binary_search_by_key(&number, |(of, _)| *of).ok();
            let unique_id = at.and_then(|at| ids.get(at)).map(|(_, id)| id.clone());
            Listing {
                number,
                octets,
                unique_id,
            }
        };
        Ok(sizes.into_iter().map(listing).collect())
    }

    pub(crate) async fn dele(&mut self, wanted: Result<Wanted, Error>) -> Result<(), Error> {
        self.ask(&Command::Dele(wanted?.number)).await.map(drop)
    }

    pub(crate) async fn last(&mut self) -> Result<Option<MessageNumber>, Error> {
        let text = self.ask(&Command::Last).await?;
        let digits = text.trim_ascii().split(|octet| *octet == b' ').next();
        match digits.and_then(pop3_proto::decimal::parse_padded) {
            Some(number) => Ok(u32::try_from(number).ok().and_then(MessageNumber::new)),
            None => Err(self.malformed(Keyword::Last)),
        }
    }

    pub(crate) async fn ping(&mut self) -> Result<Duration, Error> {
        let start = Instant::now();
        self.ask(&Command::Noop).await?;
        Ok(start.elapsed())
    }

    /// NOOP, RSET, UTF8.
    pub(crate) async fn simple(&mut self, command: Command<'_>) -> Result<(), Error> {
        self.ask(&command).await.map(drop)
    }

    pub(crate) async fn lang(&mut self, range: &str) -> Result<String, Error> {
        let text = self.ask(&Command::Lang(Some(range.as_bytes()))).await?;
        Ok(text.escape_ascii().to_string())
    }

    pub(crate) async fn languages(&mut self) -> Result<Vec<String>, Error> {
        let mut languages = Vec::new();
        self.list_lines(&Command::Lang(None), |event| {
            if let Event::Line(line) = event {
                languages.push(String::from_utf8_lossy(line).into_owned());
            }
        })
        .await?;
        Ok(languages)
    }

    pub(crate) async fn quit(&mut self) -> Result<(), Error> {
        self.settle().await?;
        self.send(&Command::Quit)?;
        let deadline = self.deadline(self.settings.timeouts.quit);
        let result = self.reply_by("QUIT", deadline).await;
        self.is_over = true;
        if result.is_ok() {
            self.channel.close(deadline).await;
        }
        result.map(drop)
    }

    /// RETR or TOP: what follows is read by [`poll_message`](Core::poll_message).
    pub(crate) async fn open_message(
        &mut self,
        wanted: Result<Wanted, Error>,
        lines: Option<u64>,
    ) -> Result<MessageNumber, Error> {
        let wanted = wanted?;
        self.ask(&message_command(wanted.number, lines)).await?;
        self.begin_message(wanted);
        Ok(wanted.number)
    }

    pub(crate) fn begin_message(&mut self, wanted: Wanted) {
        self.reading = Some(Progress {
            number: wanted.number,
            octets: 0,
            size: wanted.octets,
        });
    }

    /// Gives a piece of the message to `take`, which comes from at most `max` octets on the wire; `false` at its end. The piece
    /// has at most `max` octets, or two.
    pub(crate) fn poll_message<T>(
        &mut self,
        context: &mut Context<'_>,
        max: usize,
        take: impl FnOnce(&[u8]) -> T,
    ) -> Poll<Result<Option<T>, Error>> {
        let mut take = Some(take);
        loop {
            let input = self.channel.input();
            let input = input.get(..max).unwrap_or(input);
            let received = self.connection.receive(input);
            let (consumed, heard) = match received {
                Ok((consumed, Some(Event::Message(data)))) => {
                    if let Some(reading) = &mut self.reading {
                        reading.octets = reading.octets.saturating_add(data.len() as u64);
                    }
                    (consumed, take.take().map(|take| Some(take(data))))
                }
                Ok((consumed, Some(_))) => (consumed, Some(None)),
                Ok((consumed, None)) => (consumed, None),
                Err(error) => return Poll::Ready(Err(self.protocol(error, Phase::Data))),
            };
            self.channel.consume(consumed);
            if let Some(heard) = heard {
                if let (Some(hook), Some(progress)) = (&self.settings.progress, self.reading) {
                    hook(progress);
                }
                if heard.is_none() {
                    self.reading = None;
                }
                return Poll::Ready(Ok(heard));
            }
            if self.channel.input().is_empty() {
                ready!(self.poll_data(context))?;
            }
        }
    }

    /// Appends all of the message that has been received, and at least something of it, to `block`; `false` at its end.
    pub(crate) fn poll_block(
        &mut self,
        context: &mut Context<'_>,
        block: &mut Vec<u8>,
    ) -> Poll<Result<bool, Error>> {
        let before = block.len();
        loop {
            let received = self
                .connection
                .receive_message_to(self.channel.input(), block);
            let (consumed, is_end) = received.map_err(|error| self.protocol(error, Phase::Data))?;
            self.channel.consume(consumed);
            let appended = block.len().saturating_sub(before) as u64;
            if appended > 0 || is_end {
                if let Some(reading) = &mut self.reading {
                    reading.octets = reading.octets.saturating_add(appended);
                }
                if let (Some(hook), Some(progress)) = (&self.settings.progress, self.reading) {
                    hook(progress);
                }
                if is_end {
                    self.reading = None;
                }
                return Poll::Ready(Ok(!is_end));
            }
            ready!(self.poll_data(context))?;
        }
    }

    fn poll_data(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let deadline = match self.data_deadline {
            Some(deadline) => Some(deadline),
            None => self.deadline(self.settings.timeouts.data),
        };
        self.data_deadline = deadline;
        let filled = ready!(self.channel.poll_fill(context, deadline));
        self.data_deadline = None;
        Poll::Ready(self.filled(filled, Phase::Data))
    }

    /// Reads away what is left of the message being read, and nothing of what was asked for behind it.
    pub(crate) async fn skip_message(&mut self) -> Result<(), Error> {
        while self.reading.is_some() {
            poll_fn(|context| self.poll_message(context, usize::MAX, drop_piece)).await?;
        }
        Ok(())
    }

    // What these are made of.

    /// Sends a command and awaits the first line of its reply: the text behind `+OK`.
    pub(crate) async fn ask(&mut self, command: &Command<'_>) -> Result<Vec<u8>, Error> {
        self.settle().await?;
        self.send(command)?;
        self.reply(command.keyword().as_str()).await
    }

    /// Awaits the first line of the reply to a command that has been sent.
    pub(crate) async fn reply(&mut self, command: &'static str) -> Result<Vec<u8>, Error> {
        let deadline = self.deadline(self.settings.timeouts.command);
        self.reply_by(command, deadline).await
    }

    async fn reply_by(
        &mut self,
        command: &'static str,
        deadline: Option<Instant>,
    ) -> Result<Vec<u8>, Error> {
        let of_command = |error: Error| error.of_command(command);
        self.flush(deadline).await.map_err(of_command)?;
        loop {
            let heard = self.hear(Phase::Command, deadline).await;
            if let Heard::Reply(reply) = heard.map_err(of_command)? {
                return reply.map_err(|refusal| refused(refusal).of_command(command));
            }
        }
    }

    /// Sends a command, gives every line of its reply to `take`.
    async fn list_lines(
        &mut self,
        command: &Command<'_>,
        mut take: impl FnMut(Event<'_>),
    ) -> Result<(), Error> {
        self.ask(command).await?;
        let of_command = |error: Error| error.of_command(command.keyword().as_str());
        loop {
            let is_end = self.next_event(|event| {
                let is_end = matches!(event, Event::End(_));
                take(event);
                is_end
            });
            match is_end.map_err(|error| of_command(self.protocol(error, Phase::Data)))? {
                Some(true) => return Ok(()),
                Some(false) => (),
                None => {
                    let deadline = self.deadline(self.settings.timeouts.data);
                    let filled = self.channel.fill(deadline).await;
                    self.filled(filled, Phase::Data).map_err(of_command)?;
                }
            }
        }
    }

    /// Queues a command.
    pub(crate) fn send(&mut self, command: &Command<'_>) -> Result<(), Error> {
        let name = command.keyword().as_str();
        let output = self.channel.output();
        self.connection
            .send(command, output)
            .map_err(|error| Error::not_sent(error).of_command(name))?;
        if self.settings.trace.is_some() {
            self.trace(Trace::Client(&redacted(command)));
        }
        Ok(())
    }

    pub(crate) async fn flush(&mut self, deadline: Option<Instant>) -> Result<(), Error> {
        let flushed = self.channel.flush(deadline).await;
        flushed.map_err(|kind| self.failed(Phase::Command, kind))
    }

    /// The next thing that the server says, message and listing lines apart.
    pub(crate) async fn hear(
        &mut self,
        phase: Phase,
        deadline: Option<Instant>,
    ) -> Result<Heard, Error> {
        loop {
            let trace = self.settings.trace.clone();
            let show = |line: &str| {
                if let Some(hook) = &trace {
                    hook(Trace::Server(line));
                }
            };
            let heard = self.next_event(|event| match event {
                Event::Greeting { response, .. } | Event::Response { response, .. } => {
                    show(&status_line(&response));
                    Heard::Reply(owned(&response))
                }
                Event::Challenge(challenge) => {
                    show(&format!("+ {}", crate::trace::REDACTED));
                    Heard::Challenge(challenge.to_vec())
                }
                Event::End(_) => Heard::End,
                _ => Heard::Other,
            });
            match heard {
                Ok(Some(heard)) => return Ok(heard),
                Ok(None) => {
                    let filled = self.channel.fill(deadline).await;
                    self.filled(filled, phase)?;
                }
                Err(error) => return Err(self.protocol(error, phase)),
            }
        }
    }

    /// The next event in what has been received; `None` if more must be.
    pub(crate) fn next_event<T>(
        &mut self,
        take: impl FnOnce(Event<'_>) -> T,
    ) -> Result<Option<T>, ProtocolError> {
        let mut take = Some(take);
        loop {
            let (consumed, taken) = match self.connection.receive(self.channel.input())? {
                (consumed, Some(event)) => (consumed, take.take().map(|take| take(event))),
                (consumed, None) => (consumed, None),
            };
            self.channel.consume(consumed);
            if taken.is_some() || self.channel.input().is_empty() {
                return Ok(taken);
            }
        }
    }

    /// Reads away what an earlier command has left unread.
    pub(crate) async fn settle(&mut self) -> Result<(), Error> {
        if self.is_over {
            return Err(Error::new(Phase::Command, ErrorKind::WrongState));
        }
        self.reading = None;
        if self.connection.outstanding() == 0 {
            // Whatever is there already cannot be the reply to a command that has not been sent.
            return match self.connection.receive(self.channel.input()) {
                Ok(_) => Ok(()),
                Err(error) => Err(self.protocol(error, Phase::Command)),
            };
        }
        let deadline = self.deadline(self.settings.timeouts.command);
        self.flush(deadline).await?;
        while self.connection.outstanding() > 0 {
            match self.next_event(|_| ()) {
                Ok(Some(())) => (),
                Ok(None) => {
                    let deadline = self.deadline(self.settings.timeouts.data);
                    let filled = self.channel.fill(deadline).await;
                    self.filled(filled, Phase::Data)?;
                }
                Err(error) => return Err(self.protocol(error, Phase::Data)),
            }
        }
        Ok(())
    }

    pub(crate) fn deadline(&self, allowed: Duration) -> Option<Instant> {
        let deadline = Instant::now().checked_add(allowed);
        match (deadline, self.total_deadline) {
            (Some(deadline), Some(total)) => Some(deadline.min(total)),
            (deadline, total) => deadline.or(total),
        }
    }

    pub(crate) fn trace(&self, line: Trace<'_>) {
        if let Some(hook) = &self.settings.trace {
            hook(line);
        }
    }

    /// More was received, or not.
    pub(crate) fn filled(
        &mut self,
        filled: Result<bool, ErrorKind>,
        phase: Phase,
    ) -> Result<(), Error> {
        match filled {
            Ok(true) => Ok(()),
            Ok(false) => match self.connection.end_of_input() {
                Ok(()) => Err(self.failed(phase, ErrorKind::WrongState)),
                Err(error) => Err(self.protocol(error, phase)),
            },
            Err(kind) => Err(self.failed(phase, kind)),
        }
    }

    fn malformed(&mut self, keyword: Keyword) -> Error {
        let error = ProtocolError::MalformedListing(keyword);
        self.protocol(error, Phase::Command)
            .of_command(keyword.as_str())
    }

    pub(crate) fn protocol(&mut self, error: ProtocolError, phase: Phase) -> Error {
        self.failed(phase, ErrorKind::Protocol(error))
    }

    pub(crate) fn failed(&mut self, phase: Phase, kind: ErrorKind) -> Error {
        self.is_over = true;
        Error::new(phase, kind)
    }
}

fn drop_piece(_: &[u8]) {}

pub(crate) fn message_command(message: MessageNumber, lines: Option<u64>) -> Command<'static> {
    match lines {
        Some(lines) => Command::Top {
            message,
            lines: LineCount(lines),
        },
        None => Command::Retr(message),
    }
}

pub(crate) fn refused(refusal: Refusal) -> Error {
    Error::new(Phase::Command, ErrorKind::Refused(refusal))
}

fn owned(response: &Response<'_>) -> Result<Vec<u8>, Refusal> {
    if response.is_ok() {
        return Ok(response.text.to_vec());
    }
    Err(Refusal {
        code: response.code.map(Into::into),
        text: response.text.escape_ascii().to_string(),
    })
}

fn status_line(response: &Response<'_>) -> String {
    let status = if response.is_ok() { "+OK" } else { "-ERR" };
    let text = response.text.escape_ascii();
    match response.code {
        Some(code) => format!("{status} [{}] {text}", code.as_bytes().escape_ascii()),
        None => format!("{status} {text}"),
    }
}

#[cfg(test)]
mod tests;
