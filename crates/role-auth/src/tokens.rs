//! The access tokens that somebody else is asked about: which sessions wait for an answer, and until when.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use confine::channel::{Channel, ChannelError, Received};
use messages::Secret;
use messages::token::{Answer, Finding, Question};

use crate::sessions::Token;

/// Sessions that wait for an answer at a time, of which each holds a token of at most 64 KiB until it has been sent.
const MAX_ASKED: usize = 128;

/// The channel to the token role, and what has been asked there.
#[derive(Debug, Default)]
pub struct Tokens {
    channel: Option<Channel>,
    /// For want of room in the channel, which holds three of the longest.
    unsent: VecDeque<(Token, Secret)>,
    asked: HashMap<Token, Instant>,
}

/// What the token role has said.
#[derive(Debug)]
pub enum Heard {
    /// Nothing.
    Nothing,
    /// An answer that no session waits for any more.
    Late,
    /// The answer that a session waits for.
    Answer(Token, Finding),
    /// It has ended, or said something that cannot be understood.
    Lost(Option<ChannelError>),
}

impl Tokens {
    /// From now on asks there. What was asked before will not be answered.
    pub fn connect(&mut self, channel: Option<Channel>) -> Vec<Token> {
        self.channel = channel;
        self.unsent.clear();
        self.asked.drain().map(|(token, _)| token).collect()
    }

    /// Asks about an access token for a session, to be answered within `patience`.
    ///
    /// # Errors
    /// Why it cannot be asked, for the log.
    pub fn ask(
        &mut self,
        session: Token,
        token: Secret,
        patience: Duration,
        now: Instant,
    ) -> Result<(), &'static str> {
        if self.channel.is_none() {
            return Err("nobody is there to check it");
        }
        if self.asked.len() >= MAX_ASKED {
            return Err("too many at a time");
        }
        let deadline = now.checked_add(patience).unwrap_or(now);
        self.asked.insert(session, deadline);
        self.unsent.push_back((session, token));
        self.send();
        Ok(())
    }

    /// Sends what there is room for. Where there is none, answers will come, and each makes some.
    fn send(&mut self) {
        let Some(channel) = &self.channel else {
            return;
        };
        while let Some((number, token)) = self.unsent.pop_front() {
            let question = Question { number, token };
            // If it fails otherwise, the end of the channel is about to be seen, or the deadline.
            if let Err(ChannelError::WouldBlock) = channel.try_send(&question, &[]) {
                self.unsent.push_front((number, question.token));
                return;
            }
        }
    }

    /// Receives the next answer.
    pub fn receive(&mut self) -> Heard {
        let Some(channel) = &self.channel else {
            return Heard::Nothing;
        };
        let Answer { number, finding } = match channel.try_receive::<Answer>() {
            Ok(None) => return Heard::Nothing,
            Ok(Some(Received::Message(answer, _))) => answer,
            Ok(Some(Received::Closed)) => return Heard::Lost(None),
            Err(error) => return Heard::Lost(Some(error)),
        };
        self.send();
        match self.asked.remove(&number) {
            Some(_) => Heard::Answer(number, finding),
            None => Heard::Late,
        }
    }

    /// A session has gone.
    pub fn forget(&mut self, session: Token) {
        if self.asked.remove(&session).is_some() {
            self.unsent.retain(|(waiting, _)| *waiting != session);
        }
    }

    /// The next moment at which an answer is overdue.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.asked.values().min().copied()
    }

    /// The sessions whose answers are overdue; they are not waited for any more.
    pub fn expire(&mut self, now: Instant) -> Vec<Token> {
        let late = |(&token, &deadline): (&Token, &Instant)| (deadline <= now).then_some(token);
        let late: Vec<Token> = self.asked.iter().filter_map(late).collect();
        for &token in &late {
            self.forget(token);
        }
        late
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(10);

    fn question(channel: &Channel) -> Option<u64> {
        match channel.try_receive::<Question>().unwrap()? {
            Received::Message(question, _) => Some(question.number),
            Received::Closed => None,
        }
    }

    #[test]
    fn more_than_the_channel_holds_is_sent_as_answers_make_room() {
        let (ours, theirs) = Channel::pair().unwrap();
        let mut tokens = Tokens::default();
        assert!(tokens.connect(Some(ours)).is_empty());
        let now = Instant::now();
        for number in 0..MAX_ASKED as u64 {
            let token = Secret::copied_from(&[b'x'; 64 * 1024]);
            tokens.ask(number, token, PATIENCE, now).unwrap();
        }
        let one_more = tokens.ask(999, Secret::copied_from(b"x"), PATIENCE, now);
        assert_eq!(one_more, Err("too many at a time"));
        assert!(!tokens.unsent.is_empty());
        tokens.forget(MAX_ASKED as u64 - 1);
        let mut answered = Vec::new();
        while let Some(number) = question(&theirs) {
            let finding = Finding::LacksScope;
            theirs.send(&Answer { number, finding }, &[]).unwrap();
            match tokens.receive() {
                Heard::Answer(token, Finding::LacksScope) => answered.push(token),
                other => panic!("{other:?}"),
            }
        }
        assert!(answered.into_iter().eq(0..MAX_ASKED as u64 - 1));
    }

    #[test]
    fn answers_that_come_too_late_or_to_nobody_are_passed_over() {
        let (ours, theirs) = Channel::pair().unwrap();
        let mut tokens = Tokens::default();
        let now = Instant::now();
        let token = || Secret::copied_from(b"x");
        assert!(tokens.ask(1, token(), PATIENCE, now).is_err());
        tokens.connect(Some(ours));
        tokens.ask(1, token(), PATIENCE, now).unwrap();
        tokens.ask(2, token(), PATIENCE * 2, now).unwrap();
        assert_eq!(tokens.next_deadline(), Some(now + PATIENCE));
        assert_eq!(tokens.expire(now + PATIENCE), [1]);
        for number in [1, 7] {
            let finding = Finding::LacksScope;
            theirs.send(&Answer { number, finding }, &[]).unwrap();
            assert!(matches!(tokens.receive(), Heard::Late));
        }
        drop(theirs);
        assert!(matches!(tokens.receive(), Heard::Lost(None)));
        assert_eq!(tokens.connect(None), [2]);
        assert_eq!(tokens.next_deadline(), None);
    }
}
