//! One session: the AUTHORIZATION state with one client (RFC 1939 section 4).
//!
//! Everything it receives is hostile, and so, in the eyes of everybody else, is the session itself: auth knows from
//! others whom it speaks for.

use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use confine::channel::{Channel, ChannelError, Received};
use confine::handover;
use confine::sandbox::Confined;
use messages::auth::{Attempt, Verdict};
use messages::session::{Connection, SessionConfig};
use messages::{Secret, auth};
use pop3_proto::line::{LineBuffer, MAX_COMMAND};
use pop3_proto::server::authorization::{Action, Limits};
use pop3_proto::server::{Authorization, Denial, Expire, Offer};
use pop3_proto::{ResponseCode, reply};

use crate::client::{Client, Gone, wait_for};

/// Auth decides within this time; its own limits on a slow password hash or PAM module are below.
const AUTH_TIMEOUT: Duration = Duration::from_secs(120);

/// Replies are sent when this many octets have gathered, or earlier when nothing is left to answer.
const REPLY_OCTETS: usize = 4096;

/// How the session went on.
#[derive(Debug, PartialEq, Eq)]
pub enum End {
    /// The maildrop process has the client now.
    HandedOver,
    /// The client was told the last word, or is not there any more.
    Closed,
}

/// Serves a client until it has logged in or gone.
pub fn serve(
    confined: Confined,
    client: &Client,
    auth: &Channel,
    connection: &Connection,
    configuration: &SessionConfig,
) -> End {
    let session = Session {
        _confined: confined,
        client,
        auth,
        configuration,
    };
    session.run(connection).unwrap_or(End::Closed)
}

struct Session<'a> {
    _confined: Confined,
    client: &'a Client,
    auth: &'a Channel,
    configuration: &'a SessionConfig,
}

impl Session<'_> {
    fn run(&self, connection: &Connection) -> Result<End, Gone> {
        let mut replies = Vec::with_capacity(REPLY_OCTETS);
        if !connection.greeted {
            self.greet(connection.apop_timestamp.as_deref(), &mut replies)?;
        }
        let limits = Limits {
            login_attempts: self.configuration.login_attempts,
            commands: self.configuration.commands,
            errors: self.configuration.errors,
            user_octets: self.configuration.user_octets.into(),
        };
        let offer = offer(self.configuration, connection.apop_timestamp.is_some());
        let mut machine = Authorization::new(offer, limits, false);
        let mut lines = LineBuffer::new(MAX_COMMAND);
        loop {
            let Some(line) = lines.next_line() else {
                self.client.send(&mut replies)?;
                self.client.receive(&mut lines)?;
                continue;
            };
            let attempt = match machine.line(line, &mut replies) {
                Action::Continue => {
                    if replies.len() >= REPLY_OCTETS {
                        self.client.send(&mut replies)?;
                    }
                    continue;
                }
                Action::AttemptLogin { user, password } => Attempt::Password {
                    user: user.to_vec(),
                    password: Secret::copied_from(password),
                },
                Action::AttemptApop { user, digest } => Attempt::Apop {
                    user: user.to_vec(),
                    digest: Secret::copied_from(digest),
                },
                // SASL and STLS are not offered, so that the machine never asks for them.
                Action::Close
                | Action::AuthenticateSasl { .. }
                | Action::SaslResponse(_)
                | Action::SaslCancelled
                | Action::StartTls => {
                    self.client.send(&mut replies)?;
                    return Ok(End::Closed);
                }
            };
            self.client.send(&mut replies)?;
            let denial = match self.attempt(&attempt) {
                Ok(maildrop) => match self.hand_over(maildrop.as_fd(), &mut lines) {
                    Ok(()) => return Ok(End::HandedOver),
                    // Nobody is there to serve the maildrop, and the client is still ours.
                    Err(_) => Denial::Temporary,
                },
                Err(denial) => denial,
            };
            drop(attempt);
            if self.deny(&mut machine, denial, &mut replies) == Next::Close {
                self.client.send(&mut replies)?;
                return Ok(End::Closed);
            }
        }
    }

    fn greet(&self, timestamp: Option<&str>, replies: &mut Vec<u8>) -> Result<(), Gone> {
        match timestamp {
            Some(timestamp) => {
                reply::ok(replies, &format!("POP3 server ready {timestamp}"));
            }
            None => reply::ok(replies, "POP3 server ready"),
        }
        self.client.send(replies)
    }

    /// Asks auth. What comes with its consent is the stream to the maildrop process.
    fn attempt(&self, attempt: &Attempt) -> Result<std::os::fd::OwnedFd, Denial> {
        let temporary = |_: ChannelError| Denial::Temporary;
        self.auth.send(attempt, &[]).map_err(temporary)?;
        let deadline = Instant::now()
            .checked_add(AUTH_TIMEOUT)
            .ok_or(Denial::Temporary)?;
        wait_for(self.auth, deadline).map_err(|_| Denial::Temporary)?;
        match self.auth.receive::<Verdict>().map_err(temporary)? {
            Received::Message(Verdict::Accepted, mut descriptors) => {
                descriptors.next().ok_or(Denial::Temporary)
            }
            Received::Message(Verdict::Denied(denial), _) => Err(match denial {
                auth::Denial::Credentials => Denial::Credentials,
                auth::Denial::LoginDelay => Denial::LoginDelay,
                auth::Denial::Temporary => Denial::Temporary,
                auth::Denial::Permanent => Denial::Permanent,
            }),
            Received::Closed => Err(Denial::Temporary),
        }
    }

    /// Gives the client to the maildrop process, with what it has pipelined behind PASS; that process answers.
    fn hand_over(
        &self,
        maildrop: BorrowedFd<'_>,
        lines: &mut LineBuffer,
    ) -> Result<(), ChannelError> {
        let descriptors: Vec<_> = self.client.descriptors().collect();
        handover::send(maildrop, &lines.take_rest(), &descriptors)
    }

    fn deny(&self, machine: &mut Authorization, denial: Denial, replies: &mut Vec<u8>) -> Next {
        let before = replies.len();
        let next = match machine.denied(denial, replies) {
            Action::Continue => Next::GoOn,
            _ => Next::Close,
        };
        if denial == Denial::Credentials {
            // In the operator's words.
            replies.truncate(before);
            reply::err(
                replies,
                Some(ResponseCode::Auth),
                &self.configuration.failed_message,
            );
        }
        next
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Next {
    GoOn,
    Close,
}

/// What is offered on a connection without TLS.
fn offer(configuration: &SessionConfig, has_timestamp: bool) -> Offer {
    Offer {
        user: true,
        apop: configuration.apop && has_timestamp,
        mechanisms: Vec::new(),
        stls: false,
        utf8: false,
        login_delay: configuration.advertised.login_delay,
        expire: Some(Expire::Never),
        implementation: configuration.advertised.implementation.clone(),
    }
}
