//! Many messages by one call, with commands sent ahead of the replies where the server allows that.
//!
//! Two bounds keep both sides from waiting for each other: the commands not yet answered fit into any socket's buffers
//! (RFC 2449 section 6.6), and the messages asked for ahead are no more than the caller's window, since they have to be received even
//! if they are not wanted any more.

use std::collections::VecDeque;

use pop3_proto::{Command, MessageNumber};

use crate::channel::Socket;
use crate::core::{Core, message_command};
use crate::error::Error;
use crate::listing::{MessageRef, UniqueId, Wanted};

/// Commands sent ahead: 128 of some 12 octets are far below the smallest receive buffer in use.
const MAX_AHEAD: usize = 128;

/// What a message of unknown size counts for.
const UNKNOWN_OCTETS: u64 = 64 * 1024;

/// What remains to be asked for, and what has been.
pub(crate) struct Batch {
    waiting: VecDeque<Result<Wanted, Error>>,
    asked: VecDeque<Wanted>,
    octets_asked: u64,
    /// TOP with so many lines, or RETR.
    lines: Option<u64>,
    /// Octets to be asked for ahead; 0 until it is known whether the server allows that.
    window: Option<u64>,
}

impl Batch {
    pub(crate) fn new<M: MessageRef>(
        messages: impl IntoIterator<Item = M>,
        lines: Option<u64>,
    ) -> Batch {
        Batch {
            waiting: messages
                .into_iter()
                .map(|message| message.wanted())
                .collect(),
            asked: VecDeque::new(),
            octets_asked: 0,
            lines,
            window: None,
        }
    }
}

impl<S: Socket> Core<S> {
    /// Asks for the next message, reads what is left of the one before.
    pub(crate) async fn next_message(
        &mut self,
        batch: &mut Batch,
    ) -> Option<Result<MessageNumber, Error>> {
        let window = match batch.window {
            Some(window) => window,
            None => match self.ahead_octets(batch.waiting.len()).await {
                Ok(window) => *batch.window.insert(window),
                Err(error) => {
                    batch.waiting.clear();
                    return Some(Err(error));
                }
            },
        };
        if batch.asked.is_empty()
            && let Err(error) = self.settle().await
        {
            // After an error the session is over, and so is the batch.
            batch.waiting.clear();
            return Some(Err(error));
        }
        if let Err(error) = self.skip_message().await {
            return Some(Err(self.give_up(batch, error)));
        }
        match self.ask_ahead(batch, window) {
            Ok(()) => (),
            Err(error) => return Some(Err(error)),
        }
        let wanted = batch.asked.front().copied()?;
        let name = message_command(wanted.number, batch.lines)
            .keyword()
            .as_str();
        let reply = self.reply(name).await;
        // Only now: a future dropped before has not taken the reply.
        batch.asked.pop_front();
        batch.octets_asked = batch.octets_asked.saturating_sub(weight(&wanted));
        match reply {
            Ok(_) => {
                self.begin_message(wanted);
                Some(Ok(wanted.number))
            }
            Err(error) if error.ends_session() => Some(Err(self.give_up(batch, error))),
            Err(error) => Some(Err(error)),
        }
    }

    fn give_up(&mut self, batch: &mut Batch, error: Error) -> Error {
        batch.waiting.clear();
        batch.asked.clear();
        error
    }

    /// Queues as many commands as the window has room for, at least one. Not one by one: only when half the window is free.
    fn ask_ahead(&mut self, batch: &mut Batch, window: u64) -> Result<(), Error> {
        if batch.octets_asked > window / 2 || batch.asked.len() > MAX_AHEAD / 2 {
            return Ok(());
        }
        loop {
            let room = match batch.waiting.front() {
                None => return Ok(()),
                Some(Err(_)) => true,
                Some(Ok(wanted)) => batch.octets_asked.saturating_add(weight(wanted)) <= window,
            };
            if !batch.asked.is_empty() && (!room || batch.asked.len() >= MAX_AHEAD) {
                return Ok(());
            }
            match batch.waiting.pop_front() {
                None => return Ok(()),
                Some(Err(error)) if batch.asked.is_empty() => return Err(error),
                // In its turn.
                Some(Err(error)) => {
                    batch.waiting.push_front(Err(error));
                    return Ok(());
                }
                Some(Ok(wanted)) => {
                    self.send(&message_command(wanted.number, batch.lines))?;
                    batch.octets_asked = batch.octets_asked.saturating_add(weight(&wanted));
                    batch.asked.push_back(wanted);
                }
            }
        }
    }

    /// DELE for each; the outcome of each. An error that ends the session ends this.
    pub(crate) async fn dele_all<M: MessageRef>(
        &mut self,
        messages: impl IntoIterator<Item = M>,
    ) -> Result<Vec<(MessageNumber, Result<(), Error>)>, Error> {
        let answers = self.ask_all(messages, Command::Dele).await?;
        let without_text =
            |(number, answer): (_, Result<Vec<u8>, Error>)| (number, answer.map(drop));
        Ok(answers.into_iter().map(without_text).collect())
    }

    /// UIDL for each.
    pub(crate) async fn uidl_each<M: MessageRef>(
        &mut self,
        messages: impl IntoIterator<Item = M>,
    ) -> Result<Vec<(MessageNumber, Result<UniqueId, Error>)>, Error> {
        let answers = self
            .ask_all(messages, |number| Command::Uidl(Some(number)))
            .await?;
        let mut ids = Vec::with_capacity(answers.len());
        for (number, answer) in answers {
            let id = match answer {
                Ok(text) => Ok(self.parsed_unique_id(&text)?),
                Err(error) => Err(error),
            };
            ids.push((number, id));
        }
        Ok(ids)
    }

    async fn ask_all<M: MessageRef>(
        &mut self,
        messages: impl IntoIterator<Item = M>,
        command: impl Fn(MessageNumber) -> Command<'static>,
    ) -> Result<Vec<(MessageNumber, Result<Vec<u8>, Error>)>, Error> {
        let wanted: Result<Vec<Wanted>, Error> = messages
            .into_iter()
            .map(|message| message.wanted())
            .collect();
        let wanted = wanted?;
        let ahead = match self.ahead_octets(wanted.len()).await? {
            0 => 1,
            _ => MAX_AHEAD,
        };
        self.settle().await?;
        let mut answers = Vec::with_capacity(wanted.len());
        for group in wanted.chunks(ahead) {
            for wanted in group {
                self.send(&command(wanted.number))?;
            }
            for wanted in group {
                let name = command(wanted.number).keyword().as_str();
                match self.reply(name).await {
                    Err(error) if error.ends_session() => return Err(error),
                    answer => answers.push((wanted.number, answer)),
                }
            }
        }
        Ok(answers)
    }

    /// How far ahead may be asked; 0 unless the server says that it may be done. For a single message it is not asked.
    async fn ahead_octets(&mut self, messages: usize) -> Result<u64, Error> {
        if messages < 2 || self.settings.window_octets == 0 || !self.capa().await?.pipelining {
            return Ok(0);
        }
        Ok(self.settings.window_octets)
    }
}

fn weight(wanted: &Wanted) -> u64 {
    wanted.octets.unwrap_or(UNKNOWN_OCTETS)
}
