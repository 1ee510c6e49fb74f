//! Access tokens: the token role is asked, and what it finds leads the exchange on.

use std::time::Instant;

use confine::channel::Channel;
use messages::Secret;
use messages::log::Record;
use messages::token::Finding;

use super::{EventLoop, TOKEN_ROLE, add};
use crate::sessions::Token;
use crate::tokens::Heard;

/// Answers taken before other events are looked at again.
const MAX_ANSWERS_IN_A_ROW: usize = 64;

impl EventLoop<'_> {
    /// A (re)started token role is there.
    pub(super) fn connect_token_role(&mut self, channel: Option<Channel>) {
        if let Some(channel) = &channel
            && let Err(error) = add(&self.epoll, channel, TOKEN_ROLE)
        {
            self.logger
                .log(&Record::error("token role lost").with("reason", error));
        }
        // The old one is closed, and epoll forgets it.
        for session in self.tokens.connect(channel) {
            self.token_unchecked(session, "who was asked has ended");
        }
    }

    pub(super) fn ask_token(&mut self, session: Token, token: Secret) {
        let Some(tokens) = &self.stores.configuration.tokens else {
            return self.token_unchecked(session, "nobody is there to check it");
        };
        // RFC 7628 section 4.3: the client only asks what is needed.
        if token.expose().is_empty() {
            return self.token_found(session, Finding::Refused("none was sent".to_owned()));
        }
        let asked = self
            .tokens
            .ask(session, token, tokens.patience, Instant::now());
        if let Err(reason) = asked {
            self.token_unchecked(session, reason);
        }
    }

    pub(super) fn hear_token_role(&mut self) {
        for _ in 0..MAX_ANSWERS_IN_A_ROW {
            match self.tokens.receive() {
                Heard::Nothing => return,
                Heard::Late => {}
                Heard::Answer(session, finding) => self.token_found(session, finding),
                Heard::Lost(error) => {
                    if let Some(error) = error {
                        self.logger.log(
                            &Record::error("bad message")
                                .with("from", "token")
                                .with("reason", error),
                        );
                    }
                    return self.connect_token_role(None);
                }
            }
        }
    }

    pub(super) fn give_late_tokens_up(&mut self) {
        for session in self.tokens.expire(Instant::now()) {
            self.token_unchecked(session, "not checked in time");
        }
    }

    fn token_unchecked(&mut self, session: Token, reason: &str) {
        self.token_found(session, Finding::Unavailable(reason.to_owned()));
    }

    fn token_found(&mut self, session: Token, finding: Finding) {
        let advice = self.stores.configuration.tokens.as_ref();
        let next = self
            .sessions
            .find(session)
            .and_then(|found| found.token_found(finding, advice));
        if let Some(next) = next {
            self.go_on(session, next);
        }
    }
}
