//! Logging in: the choice of a mechanism, and the exchange.

use pop3_proto::{Command, MechanismName};
use sasl::client::{Client, choose};
use sasl::scram::{NONCE_OCTETS, Nonce};
use sasl::{
    BindingType, ChannelBinding, EXPORTER_LABEL, EXPORTER_OCTETS, Mechanism, Secret, base64,
};

use crate::builder::Security;
use crate::channel::Socket;
use crate::core::{Core, Heard, refused};
use crate::credentials::{Credentials, Kind};
use crate::error::{Error, ErrorKind, Phase};
use crate::trace::{REDACTED, Trace};

impl<S: Socket> Core<S> {
    /// By the strongest mechanism that the server offers and the credentials fit.
    ///
    /// Where TLS protects the password anyway, and a mechanism that hides it is refused, the password itself is tried too: a
    /// server may offer SCRAM and hold no verifier for this user yet.
    pub(crate) async fn login(&mut self, credentials: &Credentials) -> Result<(), Error> {
        let offered = self.offered().await?;
        let binding = self.channel_binding();
        let for_sasl = credentials.for_sasl(&self.peer.host, self.peer.port);
        let chosen = choose(&offered, &for_sasl, binding.as_ref(), self.may_reveal());
        let Some(mechanism) = chosen else {
            return self.login_without_offer(credentials, &offered).await;
        };
        let result = self.authenticate(mechanism, credentials, binding).await;
        match (&result, &credentials.0) {
            (
                Err(error),
                Kind::Password {
                    maildrop_of: None, ..
                },
            ) if error.refusal().is_some()
                && !error.is_temporary()
                && !mechanism.reveals_credentials()
                && self.is_private() =>
            {
                let second = self.login_by_password_itself(credentials, &offered).await;
                match second {
                    // What the server said first is what matters, if it would not hear the second.
                    Err(error) if error.refusal().is_none() => result,
                    second => second,
                }
            }
            _ => result,
        }
    }

    /// There is no SASL, or none of use.
    async fn login_without_offer(
        &mut self,
        credentials: &Credentials,
        offered: &[Mechanism],
    ) -> Result<(), Error> {
        match &credentials.0 {
            Kind::Password {
                maildrop_of: None, ..
            } => self.login_by_password_itself(credentials, offered).await,
            // A server that does not say what it can do may still do it.
            Kind::Token { .. } if offered.is_empty() => {
                self.auth(Mechanism::XOAuth2, credentials).await
            }
            Kind::External { .. } if offered.is_empty() => {
                self.auth(Mechanism::External, credentials).await
            }
            Kind::Token { .. } if !self.may_reveal() => Err(Error::new(
                Phase::Command,
                ErrorKind::WouldRevealCredentials,
            )),
            _ => Err(Error::new(Phase::Command, ErrorKind::NoMechanism)),
        }
    }

    async fn login_by_password_itself(
        &mut self,
        credentials: &Credentials,
        offered: &[Mechanism],
    ) -> Result<(), Error> {
        if !self.may_reveal() {
            return Err(Error::new(
                Phase::Command,
                ErrorKind::WouldRevealCredentials,
            ));
        }
        for mechanism in [Mechanism::Plain, Mechanism::Login] {
            if offered.contains(&mechanism) {
                return self.authenticate(mechanism, credentials, None).await;
            }
        }
        let Kind::Password { user, password, .. } = &credentials.0 else {
            return Err(Error::new(Phase::Command, ErrorKind::NoMechanism));
        };
        self.user(user).await?;
        self.pass(password.as_bytes()).await
    }

    pub(crate) async fn user(&mut self, name: &str) -> Result<(), Error> {
        let name = name.as_bytes();
        self.ask(&Command::User { name }).await.map(drop)
    }

    pub(crate) async fn pass(&mut self, password: &[u8]) -> Result<(), Error> {
        if !self.may_reveal() {
            let kind = ErrorKind::WouldRevealCredentials;
            return Err(Error::new(Phase::Command, kind).of_command("PASS"));
        }
        self.ask(&Command::Pass { password }).await?;
        self.logged_in();
        Ok(())
    }

    pub(crate) async fn apop(&mut self, name: &str, password: &[u8]) -> Result<(), Error> {
        let Some(timestamp) = self.timestamp.clone() else {
            let error = Error::new(Phase::Command, ErrorKind::NoMechanism);
            return Err(error.of_command("APOP"));
        };
        let digest = apop_digest(&timestamp, password);
        let command = Command::Apop {
            name: name.as_bytes(),
            digest: digest.as_bytes(),
        };
        self.ask(&command).await?;
        self.logged_in();
        Ok(())
    }

    /// AUTH by a mechanism that the caller chose.
    pub(crate) async fn auth(
        &mut self,
        mechanism: Mechanism,
        credentials: &Credentials,
    ) -> Result<(), Error> {
        if mechanism.reveals_credentials() && !self.may_reveal() {
            let kind = ErrorKind::WouldRevealCredentials;
            return Err(Error::new(Phase::Command, kind).of_command("AUTH"));
        }
        // Without -PLUS no binding is mentioned: it is the caller's choice not to use it, no attacker's.
        let binding = self.channel_binding().filter(|_| mechanism.is_bound());
        self.authenticate(mechanism, credentials, binding).await
    }

    async fn authenticate(
        &mut self,
        mechanism: Mechanism,
        credentials: &Credentials,
        binding: Option<ChannelBinding>,
    ) -> Result<(), Error> {
        let of_command = |error: Error| error.of_command("AUTH");
        self.settle().await?;
        let for_sasl = credentials.for_sasl(&self.peer.host, self.peer.port);
        let nonce = fresh_nonce()?;
        let mut client = Client::new(mechanism, &for_sasl, binding.as_ref(), &nonce)
            .map_err(|error| of_command(Error::new(Phase::Command, ErrorKind::Sasl(error))))?;
        let mut unsent = self.begin_auth(&mut client)?;
        let deadline = self.deadline(self.settings.timeouts.command);
        loop {
            self.flush(deadline).await.map_err(of_command)?;
            match self
                .hear(Phase::Command, deadline)
                .await
                .map_err(of_command)?
            {
                Heard::Challenge(challenge) => {
                    let answer = answer(&mut client, &mut unsent, &challenge);
                    if let Err(error) = self.respond(answer) {
                        // The server answers the cancelled exchange by -ERR; the session can go on.
                        self.flush(deadline).await.map_err(of_command)?;
                        self.hear(Phase::Command, deadline)
                            .await
                            .map_err(of_command)?;
                        return Err(of_command(error));
                    }
                }
                Heard::Reply(Ok(_)) => break,
                Heard::Reply(Err(mut refusal)) => {
                    if let Some(reason) = client.refusal() {
                        refusal.text = format!("{} ({})", refusal.text, reason.escape_debug());
                    }
                    return Err(of_command(refused(refusal)));
                }
                Heard::End | Heard::Other => (),
            }
        }
        // A server that claims success without the proof is not the one that knows the password.
        if let Err(error) = client.finish() {
            return Err(of_command(
                self.failed(Phase::Command, ErrorKind::Sasl(error)),
            ));
        }
        self.logged_in();
        Ok(())
    }

    /// Queues AUTH, with the first response where it may and does fit; else returns that.
    fn begin_auth(&mut self, client: &mut Client) -> Result<Option<Secret>, Error> {
        let mechanism = MechanismName::new(client.mechanism().name().as_bytes());
        let initial = client.initial_response();
        let without = Command::Auth {
            mechanism,
            initial_response: None,
        };
        let Some(message) = &initial else {
            return self.send(&without).map(|()| None);
        };
        let encoded = base64::encode(message.as_bytes());
        let with = Command::Auth {
            mechanism,
            initial_response: Some(encoded.as_bytes()),
        };
        if self.settings.initial_response && self.send(&with).is_ok() {
            return Ok(None);
        }
        self.send(&without).map(|()| initial)
    }

    fn respond(&mut self, answer: Result<Secret, ErrorKind>) -> Result<(), Error> {
        let output = self.channel.output();
        match answer {
            Ok(message) => {
                let encoded = base64::encode(message.as_bytes());
                self.connection
                    .respond(encoded.as_bytes(), output)
                    .map_err(Error::not_sent)?;
                self.trace(Trace::Client(REDACTED));
                Ok(())
            }
            Err(kind) => {
                self.connection.cancel(output).map_err(Error::not_sent)?;
                self.trace(Trace::Client("*"));
                Err(Error::new(Phase::Command, kind))
            }
        }
    }

    /// What the server offers, of what is known here.
    async fn offered(&mut self) -> Result<Vec<Mechanism>, Error> {
        let capabilities = self.capa().await?;
        let names = if capabilities.capa {
            capabilities.sasl
        } else {
            Vec::new()
        };
        Ok(names
            .iter()
            .filter_map(|name| Mechanism::from_name(name))
            .collect())
    }

    /// CAPA may say something else now (RFC 2449 section 5).
    fn logged_in(&mut self) {
        self.capabilities = None;
    }

    /// Nobody else can read what is said.
    fn is_private(&self) -> bool {
        self.channel.tls().is_some() || self.peer.address.ip().is_loopback()
    }

    /// Passwords and tokens may be sent as they are.
    fn may_reveal(&self) -> bool {
        self.is_private() || self.settings.security == Security::Plain
    }

    /// By the exporter of TLS 1.3 (RFC 9266). TLS 1.2 is bound by nothing: its exporter is unique only with an extension that
    /// rustls does not tell of.
    fn channel_binding(&self) -> Option<ChannelBinding> {
        let tls = self.channel.tls()?;
        if tls.protocol_version() != Some(rustls::ProtocolVersion::TLSv1_3) {
            return None;
        }
        let exported = tls
            .export_keying_material([0; EXPORTER_OCTETS], EXPORTER_LABEL, Some(b""))
            .ok()?;
        ChannelBinding::new(BindingType::TlsExporter, &exported)
    }
}

fn answer(
    client: &mut Client,
    unsent: &mut Option<Secret>,
    challenge: &[u8],
) -> Result<Secret, ErrorKind> {
    let malformed = || ErrorKind::Sasl(sasl::client::ClientError::Malformed);
    // The first response goes only where nothing was asked: some servers send a greeting of their own there.
    if let Some(message) = unsent.take() {
        return Ok(message);
    }
    let challenge = base64::decode(challenge, sasl::MAX_MESSAGE_OCTETS).map_err(|_| malformed())?;
    client.respond(&challenge).map_err(ErrorKind::Sasl)
}

/// RFC 1939 section 7: MD5 of timestamp and password.
fn apop_digest(timestamp: &[u8], password: &[u8]) -> String {
    use md5::{Digest, Md5};
    let digest = Md5::new_with_prefix(timestamp)
        .chain_update(password)
        .finalize();
    digest.iter().map(|octet| format!("{octet:02x}")).collect()
}

fn fresh_nonce() -> Result<Nonce, Error> {
    let mut octets = [0; NONCE_OCTETS];
    let random = rustls::crypto::ring::default_provider().secure_random;
    random.fill(&mut octets).map_err(|_| {
        let reason = "the system gives no random numbers".to_owned();
        Error::new(Phase::Command, ErrorKind::Configuration(reason))
    })?;
    Ok(Nonce::from_random(&octets))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_of_rfc_1939() {
        assert_eq!(
            apop_digest(b"<1896.697170952@dbc.mtview.ca.us>", b"tanstaaf"),
            "c4c9334bac560ecc979e58001b3e22fb"
        );
    }
}
