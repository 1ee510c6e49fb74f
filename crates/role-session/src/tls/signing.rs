//! A private key that is somewhere else: what a handshake has to have signed, the keyholder signs.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use confine::channel::{Channel, Received};
use confine::socket::wait_readable;
use messages::keyholder::{CertificateNumber, KeyKind, Signature, SignatureRequest};
use rustls::sign::{Signer, SigningKey};
use rustls::{SignatureAlgorithm, SignatureScheme};

/// The keyholder signs within this time, others' handshakes before it included.
const SIGNATURE_TIMEOUT: Duration = Duration::from_secs(30);

/// In the order of the server's liking: PSS before PKCS #1, the shorter hash first.
const RSA: &[SignatureScheme] = &[
    SignatureScheme::RSA_PSS_SHA256,
    SignatureScheme::RSA_PSS_SHA384,
    SignatureScheme::RSA_PSS_SHA512,
    SignatureScheme::RSA_PKCS1_SHA256,
    SignatureScheme::RSA_PKCS1_SHA384,
    SignatureScheme::RSA_PKCS1_SHA512,
];

/// The keyholder, as far as this process knows it: a channel during the handshake, and nothing before and after.
#[derive(Debug, Default)]
pub struct Keyholder(Mutex<Acquaintance>);

#[derive(Debug, Default)]
struct Acquaintance {
    channel: Option<Channel>,
    /// The certificate whose key has signed: the one that the client was shown.
    signed: Option<CertificateNumber>,
}

impl Keyholder {
    /// This process is a session now, and this its channel.
    pub fn meet(&self, channel: Channel) {
        self.acquaintance().channel = Some(channel);
    }

    /// Closes the channel, and tells which certificate the client was shown.
    pub fn part(&self) -> Option<CertificateNumber> {
        std::mem::take(&mut *self.acquaintance()).signed
    }

    fn acquaintance(&self) -> MutexGuard<'_, Acquaintance> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn sign(&self, request: &SignatureRequest) -> Option<Vec<u8>> {
        let mut acquaintance = self.acquaintance();
        let channel = acquaintance.channel.as_ref()?;
        channel.send(request, &[]).ok()?;
        let deadline = Instant::now().checked_add(SIGNATURE_TIMEOUT)?;
        wait_readable(channel, deadline).ok()?;
        match channel.receive::<Signature>().ok()? {
            Received::Message(Signature(signature), _) => {
                acquaintance.signed = Some(request.number);
                Some(signature)
            }
            Received::Closed => None,
        }
    }
}

/// One of the keyholder's keys.
pub struct RemoteKey {
    keyholder: Arc<Keyholder>,
    number: CertificateNumber,
    kind: KeyKind,
}

impl RemoteKey {
    /// The key of this number.
    pub fn new(keyholder: Arc<Keyholder>, number: CertificateNumber, kind: KeyKind) -> Self {
        Self {
            keyholder,
            number,
            kind,
        }
    }

    fn schemes(&self) -> &'static [SignatureScheme] {
        match self.kind {
            KeyKind::Rsa => RSA,
            KeyKind::EcdsaP256 => &[SignatureScheme::ECDSA_NISTP256_SHA256],
            KeyKind::EcdsaP384 => &[SignatureScheme::ECDSA_NISTP384_SHA384],
            KeyKind::Ed25519 => &[SignatureScheme::ED25519],
        }
    }

    /// Whether it can sign by one of these.
    pub fn can_sign(&self, offered: &[SignatureScheme]) -> bool {
        self.schemes().iter().any(|scheme| offered.contains(scheme))
    }
}

impl fmt::Debug for RemoteKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RemoteKey({:?}, {:?})", self.number, self.kind)
    }
}

impl SigningKey for RemoteKey {
    fn choose_scheme(&self, offered: &[SignatureScheme]) -> Option<Box<dyn Signer>> {
        let scheme = self.schemes().iter().find(|own| offered.contains(own))?;
        Some(Box::new(RemoteSigner {
            keyholder: Arc::clone(&self.keyholder),
            number: self.number,
            scheme: *scheme,
        }))
    }

    fn algorithm(&self) -> SignatureAlgorithm {
        match self.kind {
            KeyKind::Rsa => SignatureAlgorithm::RSA,
            KeyKind::EcdsaP256 | KeyKind::EcdsaP384 => SignatureAlgorithm::ECDSA,
            KeyKind::Ed25519 => SignatureAlgorithm::ED25519,
        }
    }
}

#[derive(Debug)]
struct RemoteSigner {
    keyholder: Arc<Keyholder>,
    number: CertificateNumber,
    scheme: SignatureScheme,
}

impl Signer for RemoteSigner {
    fn sign(&self, octets: &[u8]) -> Result<Vec<u8>, rustls::Error> {
        let request = SignatureRequest {
            number: self.number,
            scheme: self.scheme.into(),
            octets: octets.to_vec(),
        };
        self.keyholder
            .sign(&request)
            .ok_or_else(|| rustls::Error::General("no signature from the keyholder".to_owned()))
    }

    fn scheme(&self) -> SignatureScheme {
        self.scheme
    }
}
