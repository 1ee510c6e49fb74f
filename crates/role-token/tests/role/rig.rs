//! The played master and auth, and an issuer of JSON web tokens.

use std::collections::HashMap;
use std::io::{Seek, Write};
use std::os::fd::AsFd;
use std::process::ExitStatus;
use std::time::Duration;

use base64ct::{Base64UrlUnpadded, Encoding};
use confine::channel::Channel;
use confine::process::{self, Pid};
use messages::Secret;
use messages::log::Record;
use messages::role::Report;
use messages::token::{Algorithm, Answer, Finding, Method, Question, ToToken, TokenConfig};
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
pub use startup::testing::PATIENCE;
use startup::testing::{self, receive};

/// A token role with everybody around it.
pub struct Rig {
    control: Option<Channel>,
    log: Channel,
    auth: Channel,
    pid: Pid,
    next: u64,
    pub configuration: TokenConfig,
}

pub fn configuration(method: Method) -> TokenConfig {
    let asks = matches!(method, Method::Introspection { .. });
    TokenConfig {
        issuer: (!asks).then(|| "https://id.example.org".into()),
        audience: if asks {
            Vec::new()
        } else {
            vec!["popa3d".into()]
        },
        scope: vec!["pop3".into()],
        algorithms: vec![Algorithm::ES256],
        user_claim: if asks { "username" } else { "email" }.into(),
        method,
        timeout: Duration::from_secs(10),
        workers: 3,
        keys_kept: Duration::from_secs(3600),
        refresh_interval: Duration::ZERO,
    }
}

/// Of a token that is good for some centuries.
pub fn claims() -> String {
    r#"{"iss":"https://id.example.org","aud":"popa3d","exp":4000000000,"scope":"pop3","email":"joe@example.org"}"#.into()
}

pub struct Issuer {
    name: String,
    key: EcdsaKeyPair,
}

pub fn issuer(name: &str) -> Issuer {
    let algorithm = &ECDSA_P256_SHA256_FIXED_SIGNING;
    let document = EcdsaKeyPair::generate_pkcs8(algorithm, &SystemRandom::new()).unwrap();
    Issuer {
        name: name.into(),
        key: EcdsaKeyPair::from_pkcs8(algorithm, document.as_ref(), &SystemRandom::new()).unwrap(),
    }
}

impl Issuer {
    pub fn jwks(&self) -> String {
        let (x, y) = self.key.public_key().as_ref()[1..].split_at(32);
        let [x, y] = [x, y].map(Base64UrlUnpadded::encode_string);
        let name = &self.name;
        format!(r#"{{"keys":[{{"kty":"EC","crv":"P-256","kid":"{name}","x":"{x}","y":"{y}"}}]}}"#)
    }

    pub fn sign(&self, claims: &str) -> String {
        let header = format!(r#"{{"alg":"ES256","kid":"{}","typ":"JWT"}}"#, self.name);
        let [header, claims] =
            [&header, claims].map(|part| Base64UrlUnpadded::encode_string(part.as_bytes()));
        let signed = format!("{header}.{claims}");
        let signature = self
            .key
            .sign(&SystemRandom::new(), signed.as_bytes())
            .unwrap();
        format!(
            "{signed}.{}",
            Base64UrlUnpadded::encode_string(signature.as_ref())
        )
    }
}

impl Rig {
    /// A role with a file of keys.
    pub fn with_keys(jwks: &str) -> Self {
        Self::new(configuration(Method::KeyFile), &[jwks.as_bytes()])
    }

    /// A role with these files, at work and connected to auth.
    pub fn new(configuration: TokenConfig, files: &[&[u8]]) -> Self {
        let role = testing::start(role_token::run, testing::as_caller(), configuration.clone());
        let (auth, _) = Channel::pair().unwrap();
        let mut rig = Self {
            control: Some(role.control),
            log: role.log,
            auth,
            pid: role.pid,
            next: 1,
            configuration: configuration.clone(),
        };
        rig.load(configuration, files);
        testing::await_ready(rig.control());
        rig.connect_auth();
        rig
    }

    fn control(&self) -> &Channel {
        self.control.as_ref().unwrap()
    }

    pub fn load(&self, configuration: TokenConfig, files: &[&[u8]]) {
        let files: Vec<_> = files.iter().map(|octets| file(octets)).collect();
        let descriptors: Vec<_> = files.iter().map(AsFd::as_fd).collect();
        let message = ToToken::Load(Box::new(configuration));
        self.control().send(&message, &descriptors).unwrap();
    }

    pub fn connect_auth(&mut self) {
        let (ours, theirs) = Channel::pair().unwrap();
        crate::to_auth(&theirs, self.control());
        self.auth = ours;
    }

    /// Asks, and tells the question's number.
    pub fn send(&mut self, token: &str) -> u64 {
        let number = self.next;
        self.next += 1;
        let token = Secret::copied_from(token.as_bytes());
        self.auth.send(&Question { number, token }, &[]).unwrap();
        number
    }

    pub fn answer(&self) -> (u64, Finding) {
        let Answer { number, finding } = receive(&self.auth);
        (number, finding)
    }

    pub fn answers(&self, number: usize) -> HashMap<u64, Finding> {
        (0..number).map(|_| self.answer()).collect()
    }

    pub fn ask(&mut self, token: &str) -> Finding {
        let asked = self.send(token);
        let (number, finding) = self.answer();
        assert_eq!(number, asked);
        finding
    }

    /// Asks again and again until the answer will do.
    pub fn ask_until(&mut self, token: &str, will_do: impl Fn(&Finding) -> bool) {
        let deadline = std::time::Instant::now() + PATIENCE;
        loop {
            let finding = self.ask(token);
            if will_do(&finding) {
                return;
            }
            assert!(std::time::Instant::now() < deadline, "still {finding:?}");
        }
    }

    /// The next record with this event; those before it are skipped.
    pub fn log(&self, event: &str) -> Record {
        loop {
            let record = receive::<Record>(&self.log);
            if record.event == event {
                return record;
            }
        }
    }

    pub fn failure(&self) -> String {
        match receive::<Report>(self.control()) {
            Report::Failed { reason } => reason,
            Report::Ready { .. } => panic!("ready once more"),
        }
    }

    pub fn say_nonsense(&self) {
        let flags = rustix::net::SendFlags::empty();
        rustix::net::send(&self.auth, &[0xFF; 9], flags).unwrap();
    }

    pub fn kill_dialer(&self) {
        let number = self.pid.as_raw_nonzero();
        let children = format!("/proc/{number}/task/{number}/children");
        let children = std::fs::read_to_string(children).unwrap();
        let child: i32 = children.trim().parse().unwrap();
        process::kill(Pid::from_raw(child).unwrap(), process::Signal::KILL).unwrap();
    }

    pub fn close_control(&mut self) {
        self.control = None;
    }

    /// Auth goes too.
    pub fn end(&mut self) -> ExitStatus {
        self.auth = Channel::pair().unwrap().0;
        process::wait(self.pid).unwrap()
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        // One that has been waited for is not ours any more, and has left nothing.
        if self.control.is_some() {
            let _ = process::kill(self.pid, process::Signal::KILL);
            let _ = process::wait(self.pid);
        }
    }
}

fn file(octets: &[u8]) -> std::fs::File {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(octets).unwrap();
    file.rewind().unwrap();
    file
}
