//! Against rsasl, an implementation that is not related to this one: it plays the client, then the server.

mod common;

use std::io::Cursor;
use std::sync::Arc;

use base64ct::{Base64, Encoding};
use common::{
    ITERATIONS, PASSWORD, Settled, TOKEN, USER, binding, client, nonce, settle, verifier,
};
use rsasl::callback::{Context, Request, SessionCallback, SessionData};
use rsasl::mechanisms;
use rsasl::mechanisms::oauthbearer::properties::{
    OAuthBearerError, OAuthBearerErrored, OAuthBearerValidate,
};
use rsasl::mechanisms::scram::properties::ScramStoredPassword;
use rsasl::mechanisms::xoauth2::properties::{XOAuth2Error, XOAuth2Validate};
use rsasl::prelude::{
    ChannelBindingCallback, Mechname, Registry, SASLClient, SASLConfig, SASLServer, SessionError,
    Validation,
};
use rsasl::property::{AuthId, AuthzId, OAuthBearerToken, OverrideCBType, Password};
use rsasl::validate::{Validate, ValidationError};
use sasl::{ChannelBinding, Mechanism, saslprep, server};

/// Mechanisms that both know.
const BOTH: [Mechanism; 9] = [
    Mechanism::Login,
    Mechanism::Plain,
    Mechanism::XOAuth2,
    Mechanism::OAuthBearer,
    Mechanism::ScramSha1,
    Mechanism::ScramSha256,
    Mechanism::ScramSha1Plus,
    Mechanism::ScramSha256Plus,
    Mechanism::External,
];

/// The same in its terms; its default leaves -PLUS out.
static THEIRS: &[rsasl::prelude::Mechanism] = &[
    mechanisms::login::LOGIN,
    mechanisms::plain::PLAIN,
    mechanisms::xoauth2::XOAUTH2,
    mechanisms::oauthbearer::OAUTHBEARER,
    mechanisms::scram::SCRAM_SHA1,
    mechanisms::scram::SCRAM_SHA256,
    mechanisms::scram::SCRAM_SHA1_PLUS,
    mechanisms::scram::SCRAM_SHA256_PLUS,
    mechanisms::external::EXTERNAL,
];

/// rsasl asks for everything here.
#[derive(Clone, Copy)]
struct Peer {
    password: &'static str,
    token: &'static str,
    /// Whether it knows the channel.
    binds: bool,
}

const RIGHT: Peer = Peer {
    password: PASSWORD,
    token: TOKEN,
    binds: false,
};
const WRONG: Peer = Peer {
    password: "wrong",
    token: "wrong",
    binds: false,
};

impl SessionCallback for Peer {
    fn callback(
        &self,
        session: &SessionData,
        context: &Context,
        request: &mut Request,
    ) -> Result<(), SessionError> {
        if request.get_action::<OAuthBearerErrored>().is_some()
            || request.get_action::<XOAuth2Error>().is_some()
        {
            return Ok(());
        }
        // Its client half prepares no password by SASLprep.
        let password = saslprep::prepare_password(self.password.as_bytes());
        request
            .satisfy::<AuthId>(USER)?
            .satisfy::<Password>(&password)?
            .satisfy::<OverrideCBType>("tls-exporter")?;
        let mechanism = session.mechanism().mechanism.as_str();
        if mechanism == "OAUTHBEARER" {
            request.satisfy::<AuthzId>(USER)?;
        }
        let accepted = self.accepts_token(context);
        let refused = OAuthBearerError::new("invalid_token", None, None);
        request
            .satisfy::<OAuthBearerToken>(self.token)?
            .satisfy::<OAuthBearerValidate>(&accepted.then_some(()).ok_or(refused))?
            .satisfy::<XOAuth2Validate>(&accepted.then_some(()).ok_or("{\"status\":\"401\"}"))?;
        if let Some(hash) = Mechanism::from_name(mechanism).and_then(Mechanism::scram_hash) {
            let verifier = verifier(hash);
            let text = verifier.to_text();
            let keys = text.rsplit_once('$').unwrap().1.split_once(':').unwrap();
            let key = |base64| Base64::decode_vec(base64).unwrap();
            request.satisfy::<ScramStoredPassword>(&ScramStoredPassword::new(
                ITERATIONS,
                verifier.salt(),
                &key(keys.0),
                &key(keys.1),
            ))?;
        }
        Ok(())
    }

    fn enable_channel_binding(&self) -> bool {
        self.binds
    }

    fn validate(
        &self,
        session: &SessionData,
        context: &Context,
        validate: &mut Validate<'_>,
    ) -> Result<(), ValidationError> {
        validate.with::<IsUser, _>(|| {
            let right = match session.mechanism().mechanism.as_str() {
                "PLAIN" | "LOGIN" => {
                    let right = saslprep::prepare_password(self.password.as_bytes());
                    let password = context.get_ref::<Password>();
                    context.get_ref::<AuthId>() == Some(USER)
                        && password.map(saslprep::prepare_password) == Some(right)
                }
                "OAUTHBEARER" | "XOAUTH2" => self.accepts_token(context),
                "EXTERNAL" => context.get_ref::<AuthzId>() == Some(""),
                _ => context.get_ref::<AuthId>() == Some(USER),
            };
            Ok(right)
        })?;
        Ok(())
    }
}

/// Whether the client is the user.
struct IsUser;

impl Validation for IsUser {
    type Value = bool;
}

struct Channel;

impl ChannelBindingCallback for Channel {
    fn get_cb_data(&self, name: &str) -> Option<&[u8]> {
        (name == "tls-exporter").then_some(&[9; 32])
    }
}

impl Peer {
    /// In OAUTHBEARER rsasl's server leaves the scheme where it is.
    fn accepts_token(&self, context: &Context) -> bool {
        context
            .get_ref::<OAuthBearerToken>()
            .is_some_and(|token| token.strip_prefix("Bearer ").unwrap_or(token) == self.token)
    }
}

fn config(peer: Peer, mechanism: Mechanism) -> Arc<SASLConfig> {
    let binds = mechanism.is_bound();
    let peer = Peer { binds, ..peer };
    SASLConfig::builder()
        .with_registry(Registry::with_mechanisms(THEIRS))
        .with_callback(peer)
        .unwrap()
}

fn bindings(mechanism: Mechanism) -> Vec<ChannelBinding> {
    mechanism.is_bound().then(binding).into_iter().collect()
}

/// Whether rsasl's client gets in, and is content with it.
fn their_client(mechanism: Mechanism, peer: Peer) -> bool {
    let name = Mechname::parse(mechanism.name().as_bytes()).unwrap();
    let mut session = SASLClient::with_cb(config(peer, mechanism), Channel)
        .start_suggested(&[name])
        .unwrap();
    let mut respond = |challenge: Option<&[u8]>| {
        let mut out = Cursor::new(Vec::new());
        let state = session.step(challenge, &mut out);
        state.map(|state| (state.is_finished(), out.into_inner()))
    };
    let (mut finished, initial) = match mechanism.is_client_first() {
        true => respond(None).map(|(finished, out)| (finished, Some(out))),
        false => Ok((false, None)),
    }
    .unwrap();
    let bindings = bindings(mechanism);
    let mut state = settle(
        server::start(mechanism, initial.as_deref(), &bindings),
        &nonce(2),
    );
    loop {
        match state {
            Settled::Authenticated(user) => {
                // The OAuth mechanisms stay open for an error that may come.
                let open = matches!(mechanism, Mechanism::OAuthBearer | Mechanism::XOAuth2);
                return user == USER && (finished || open);
            }
            Settled::Failed(_) => return false,
            Settled::Challenge(challenge) => {
                let (done, answer) = respond(Some(challenge.octets())).unwrap();
                finished = done;
                state = settle(challenge.answer(&answer), &nonce(2));
            }
        }
    }
}

/// Whether our client gets in at rsasl's server, and is content with it.
fn our_client(mechanism: Mechanism, peer: Peer) -> bool {
    let name = Mechname::parse(mechanism.name().as_bytes()).unwrap();
    let mut session = SASLServer::<IsUser, _>::with_cb(config(peer, mechanism), Channel)
        .start_suggested(name)
        .unwrap();
    let bindings = bindings(mechanism);
    let mut client = client(mechanism, bindings.first());
    let mut message = client.initial_response();
    loop {
        let mut out = Cursor::new(Vec::new());
        let input = message.as_ref().map(|message| message.as_bytes());
        let Ok(state) = session.step(input, &mut out) else {
            return false;
        };
        if state.is_finished() && !state.has_sent_message() {
            return session.validation() == Some(true) && client.finish().is_ok();
        }
        let Ok(answer) = client.respond(&out.into_inner()) else {
            return false;
        };
        if state.is_finished() {
            return session.validation() == Some(true) && client.finish().is_ok();
        }
        message = Some(answer);
    }
}

#[test]
fn rsasls_client_gets_in() {
    for mechanism in BOTH {
        assert!(their_client(mechanism, RIGHT), "{mechanism}");
    }
}

#[test]
fn rsasls_client_with_wrong_credentials_does_not() {
    for mechanism in BOTH {
        let shows_nothing = mechanism == Mechanism::External;
        assert_eq!(their_client(mechanism, WRONG), shows_nothing, "{mechanism}");
    }
}

#[test]
fn our_client_gets_in_at_rsasls_server() {
    for mechanism in BOTH {
        assert!(our_client(mechanism, RIGHT), "{mechanism}");
    }
}
