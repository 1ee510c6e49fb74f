//! One session: the AUTHORIZATION state with one client (RFC 1939 section 4).
//!
//! Everything it receives is hostile, and so, in the eyes of everybody else, is the session itself: auth knows from
//! others whom it speaks for.

use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use ::sasl::base64;
use confine::channel::{Channel, ChannelError, Received};
use confine::handover;
use confine::sandbox::Confined;
use confine::seccomp::Program;
use confine::socket::wait_readable;
use messages::auth::{Attempt, Handshake, ServerRandom, TlsFacts, Verdict};
use messages::log::{Logger, Record};
use messages::session::{Connection, HandedOver, Protection, SessionConfig};
use messages::{SaslMechanism, Secret, auth};
use pop3_proto::line::{LineBuffer, MAX_COMMAND};
use pop3_proto::server::authorization::{Action, Limits};
use pop3_proto::server::{Authorization, Denial, Expire, Offer};
use pop3_proto::{ResponseCode, reply};

use crate::client::{Client, Gone};
use crate::relay;
use crate::sasl;
use crate::tls::Tls;

/// Auth decides within this time; its own limits on a slow password hash or PAM module are below.
const AUTH_TIMEOUT: Duration = Duration::from_secs(120);

/// Replies are sent when this many octets have gathered, or earlier when nothing is left to answer.
const REPLY_OCTETS: usize = 4096;

/// A client that sends a line without an end is listened to for so many octets at a time, and then not at all for a while: else it
/// would have a processor look for the end as fast as it can send.
const DROPPED_AT_ONCE: usize = 32 * 1024;
const PAUSE: Duration = Duration::from_millis(500);

/// What a session is told and given by the spawner.
pub struct Job<'a> {
    /// Who has connected.
    pub connection: &'a Connection,
    /// How to serve.
    pub configuration: &'a SessionConfig,
    /// To auth, of this session alone.
    pub auth: Channel,
    /// TLS and the channel to the keyholder, of this session alone; `None`: TLS is not to be had.
    pub tls: Option<(&'a Tls, Channel)>,
    /// Where to log.
    pub logger: &'a Logger,
    /// What a session that has become a relay is confined to; `None`: nothing more.
    pub relay: Option<&'a Program>,
}

/// What auth says.
enum Answer {
    /// The login is accepted; this is the stream to the maildrop process.
    Accepted(OwnedFd),
    /// The SASL exchange goes on.
    Challenge(Vec<u8>),
    /// It is not.
    Denied(Denial),
}

/// How the AUTHORIZATION state ended.
enum End {
    /// The client was told the last word.
    Closed,
    /// It has logged in, and another process serves it.
    LoggedIn(OwnedFd),
}

/// Serves a client until it has logged in or gone; one that has logged in by TLS, to the end.
pub fn serve(confined: Confined, mut client: Client, job: Job<'_>) {
    let (connection, logger, relay) = (job.connection, job.logger, job.relay);
    let session = Session {
        _confined: confined,
        client: &mut client,
        auth: job.auth,
        tls: job.tls,
        end_point: None,
        shown: false,
        connection,
        configuration: job.configuration,
        logger,
    };
    let ended = session.run();
    let by_tls = client.tls().is_some();
    let gone = match ended {
        Ok(End::LoggedIn(maildrop)) => match client.into_parts() {
            Some(parts) => relay::run(parts, maildrop, relay).err(),
            None => None,
        },
        Ok(End::Closed) if by_tls => {
            client.close();
            None
        }
        Ok(End::Closed) => None,
        Err(gone) => {
            if by_tls || matches!(gone, Gone::BehindStls | Gone::TlsUnexpected) {
                client.close();
            }
            Some(gone)
        }
    };
    // A client that has only gone is nothing to speak of; TLS that has failed is.
    let matters = |gone: &Gone| match gone {
        Gone::Closed => false,
        Gone::TimedOut => by_tls,
        Gone::Truncated
        | Gone::TlsUnexpected
        | Gone::BehindStls
        | Gone::Tls(_)
        | Gone::NotConfined(_) => true,
    };
    if let Some(gone) = gone.filter(matters) {
        let record = about(Record::warning("connection lost"), connection);
        logger.log(&record.with("reason", gone));
    }
}

struct Session<'a> {
    _confined: Confined,
    client: &'a mut Client,
    auth: Channel,
    tls: Option<(&'a Tls, Channel)>,
    /// Of the certificate that the client was shown.
    end_point: Option<Vec<u8>>,
    /// Auth has been given the handshake in which the client has shown a certificate.
    shown: bool,
    connection: &'a Connection,
    configuration: &'a SessionConfig,
    logger: &'a Logger,
}

/// Adds who it is about.
fn about(record: Record, connection: &Connection) -> Record {
    record
        .with("session", connection.id)
        .with_some("peer", connection.peer.map(|peer| peer.ip().to_canonical()))
}

impl Session<'_> {
    fn run(mut self) -> Result<End, Gone> {
        let mut replies = Vec::with_capacity(REPLY_OCTETS);
        if self.connection.implicit_tls {
            self.start_tls()?;
        }
        if !self.connection.greeted {
            self.greet(&mut replies)?;
        }
        let limits = Limits {
            login_attempts: self.configuration.login_attempts,
            commands: self.configuration.commands,
            errors: self.configuration.errors,
            user_octets: self.configuration.user_octets.into(),
        };
        let mut machine = Authorization::new(self.offer(), limits, self.client.tls().is_some());
        let mut lines = LineBuffer::new(MAX_COMMAND);
        loop {
            lines.set_limit(machine.line_limit(lines.unparsed()));
            let Some(line) = lines.next_line() else {
                self.client.send(&mut replies)?;
                if lines.have_dropped(DROPPED_AT_ONCE) {
                    self.client.pause(PAUSE)?;
                }
                self.client.receive(&mut lines)?;
                continue;
            };
            let answered = replies.len();
            let attempted = match machine.line(line, &mut replies) {
                Action::Continue => {
                    if replies.len() >= REPLY_OCTETS {
                        self.client.send(&mut replies)?;
                    }
                    continue;
                }
                Action::AttemptLogin { user, password } => Some(Attempt::Password {
                    user: user.to_vec(),
                    password: Secret::copied_from(password),
                }),
                Action::AttemptApop { user, digest } => Some(Attempt::Apop {
                    user: user.to_vec(),
                    digest: Secret::copied_from(digest),
                }),
                Action::AuthenticateSasl {
                    mechanism,
                    initial_response,
                } => sasl::start(mechanism, initial_response, self.tls_facts()),
                Action::SaslResponse(line) => {
                    let response = sasl::response(line);
                    if response.is_none() {
                        self.cancel();
                    }
                    response
                }
                Action::SaslCancelled => {
                    self.cancel();
                    continue;
                }
                Action::StartTls => {
                    if lines.discard_rest() > 0 {
                        replies.truncate(answered);
                        reply::err(&mut replies, None, "nothing may follow STLS");
                        self.client.send(&mut replies)?;
                        return Err(Gone::BehindStls);
                    }
                    self.client.send(&mut replies)?;
                    self.start_tls()?;
                    machine.tls_started(self.offer());
                    continue;
                }
                Action::Close => {
                    self.client.send(&mut replies)?;
                    return Ok(End::Closed);
                }
            };
            self.client.send(&mut replies)?;
            let answer = match &attempted {
                Some(attempt) => self.ask(attempt),
                None => Answer::Denied(Denial::Malformed),
            };
            drop(attempted);
            let denial = match answer {
                Answer::Accepted(maildrop) => match self.hand_over(&maildrop, &machine, &lines) {
                    Ok(()) => return Ok(End::LoggedIn(maildrop)),
                    // Nobody is there to serve the maildrop, and the client is still ours, with all that it has said.
                    Err(_) => Denial::Temporary,
                },
                Answer::Challenge(octets) => {
                    machine.challenge(base64::encode(&octets).as_bytes(), &mut replies);
                    continue;
                }
                Answer::Denied(denial) => denial,
            };
            if self.deny(&mut machine, denial, &mut replies) == Next::Close {
                self.client.send(&mut replies)?;
                return Ok(End::Closed);
            }
        }
    }

    fn greet(&mut self, replies: &mut Vec<u8>) -> Result<(), Gone> {
        match &self.connection.apop_timestamp {
            Some(timestamp) => {
                reply::ok(replies, &format!("POP3 server ready {timestamp}"));
            }
            None => reply::ok(replies, "POP3 server ready"),
        }
        self.client.send(replies)
    }

    /// Shakes hands, after which the keyholder is not needed any more.
    fn start_tls(&mut self) -> Result<(), Gone> {
        // Without it STLS is not offered, and no connection to the TLS port gets here.
        let (tls, keyholder) = self.tls.take().ok_or(Gone::Closed)?;
        let external = tls.asks_for_certificates() && self.offers_external();
        let random = external.then(|| self.server_random()).flatten();
        let done = tls
            .connection(keyholder, random)
            .map_err(Gone::Tls)
            .and_then(|connection| self.client.start_tls(connection));
        let shaken = tls.part();
        self.end_point = shaken.end_point;
        match (done, self.client.tls()) {
            (Ok(()), Some(connection)) => {
                if let Some(handshake) = shaken.handshake {
                    self.shown = self.show(handshake);
                }
                let version = connection.protocol_version().and_then(|it| it.as_str());
                let suite = connection.negotiated_cipher_suite();
                let suite = suite.and_then(|suite| suite.suite().as_str());
                let record = about(Record::info("tls"), self.connection)
                    .with_some("version", version)
                    .with_some("suite", suite)
                    .with_some("name", connection.server_name());
                let shown = connection.peer_certificates().is_some();
                self.logger.log(&if shown {
                    record.with("client_certificate", "verified")
                } else {
                    record
                });
                Ok(())
            }
            (Err(gone), _) => Err(gone),
            (Ok(()), None) => Err(Gone::Closed),
        }
    }

    /// Asks auth; without an answer, the client may try again.
    fn ask(&self, attempt: &Attempt) -> Answer {
        let answer = || {
            self.auth.send(attempt, &[]).ok()?;
            let deadline = Instant::now().checked_add(AUTH_TIMEOUT)?;
            wait_readable(&self.auth, deadline).ok()?;
            Some(match self.auth.receive::<Verdict>().ok()? {
                Received::Message(Verdict::Accepted, mut descriptors) => {
                    Answer::Accepted(descriptors.next()?)
                }
                Received::Message(Verdict::Challenge(octets), _) => Answer::Challenge(octets),
                Received::Message(Verdict::Denied(denial), _) => Answer::Denied(match denial {
                    auth::Denial::Credentials => Denial::Credentials,
                    auth::Denial::LoginDelay => Denial::LoginDelay,
                    auth::Denial::Temporary => Denial::Temporary,
                    auth::Denial::Permanent => Denial::Permanent,
                    auth::Denial::Malformed => Denial::Malformed,
                }),
                Received::Message(Verdict::ServerRandom(_), _) | Received::Closed => return None,
            })
        };
        answer().unwrap_or(Answer::Denied(Denial::Temporary))
    }

    fn offers_external(&self) -> bool {
        let offered = &self.configuration.advertised.mechanisms;
        offered.contains(&SaslMechanism::External)
    }

    /// What has to be the server's random number in the handshake, if the client is to log in by a certificate; without it, the
    /// client has the other ways.
    fn server_random(&self) -> Option<ServerRandom> {
        self.auth.send(&Attempt::ServerRandom, &[]).ok()?;
        let deadline = Instant::now().checked_add(AUTH_TIMEOUT)?;
        wait_readable(&self.auth, deadline).ok()?;
        match self.auth.receive::<Verdict>().ok()? {
            Received::Message(Verdict::ServerRandom(random), _) => Some(random),
            _ => None,
        }
    }

    /// Gives auth the handshake to judge.
    fn show(&self, handshake: Handshake) -> bool {
        self.auth.send(&Attempt::Handshake(handshake), &[]).is_ok()
    }

    fn protection(&self) -> Protection {
        match self.client.tls() {
            None => Protection::Clear,
            Some(_) if self.shown => Protection::TlsWithCertificate,
            Some(_) => Protection::Tls,
        }
    }

    /// The client has given a SASL exchange up. If auth has gone, the next attempt will find out.
    fn cancel(&self) {
        drop(self.auth.send(&Attempt::SaslCancel, &[]));
    }

    fn tls_facts(&self) -> Option<TlsFacts> {
        let connection = self.client.tls()?;
        Some(sasl::facts(connection, self.end_point.clone()))
    }

    /// Gives the client to the maildrop process, with what it has pipelined behind PASS; that process answers. With TLS the
    /// stream itself stands for the client.
    fn hand_over(
        &self,
        maildrop: &OwnedFd,
        machine: &Authorization,
        lines: &LineBuffer,
    ) -> Result<(), ChannelError> {
        let descriptors: Vec<_> = match self.client.tls() {
            Some(_) => Vec::new(),
            None => self.client.descriptors().collect(),
        };
        let handed_over = HandedOver {
            utf8: machine.utf8(),
            pipelined: lines.unparsed(),
        };
        handover::send(maildrop.as_fd(), &handed_over.encode(), &descriptors)
    }

    /// What is offered as things stand. Without TLS, passwords may be refused before they are sent (RFC 8314 section 4.1).
    fn offer(&self) -> Offer {
        let advertised = &self.configuration.advertised;
        let logins = advertised.logins(self.connection.peer, self.protection());
        let apop = self.configuration.apop && self.connection.apop_timestamp.is_some();
        Offer {
            user: logins.user,
            apop: logins.user && apop,
            mechanisms: sasl::names(&logins),
            stls: self.tls.is_some(),
            utf8: true,
            login_delay: advertised.login_delay,
            expire: Some(advertised.expire.map_or(Expire::Never, Expire::Days)),
            implementation: advertised.implementation.clone(),
        }
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

#[cfg(test)]
mod tests;
