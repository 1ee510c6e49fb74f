//! What the keyholder is told (by the master, the session spawner and each session) and what it answers.
//!
//! Certificates have numbers, given by the master and never given twice: a session that was forked before a reload goes on
//! with the certificate that it began with.

use std::net::SocketAddr;
use std::time::Duration;

use confine::channel::Message;
use serde::{Deserialize, Serialize};

use crate::role::{MAX_CONFIGURATION_OCTETS, Report};
use crate::session::SessionId;

/// Octets of a certificate chain: a leaf and some intermediates of 1 to 2 KiB each.
pub const MAX_CHAIN_OCTETS: usize = 32 * 1024;

/// Names in a certificate; the certificate authorities' own bounds are about 100.
pub const MAX_NAMES: usize = 256;

/// Certificates at a time, those about to be replaced not counted.
pub const MAX_CERTIFICATES: usize = 64;

/// Names a certificate and its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct CertificateNumber(pub u32);

/// The public part of a certificate and its key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Certificate {
    /// Names the key to the keyholder.
    pub number: CertificateNumber,
    /// X.509, DER, the server's own certificate first; at most [`MAX_CHAIN_OCTETS`] in all.
    pub chain: Vec<Vec<u8>>,
    /// What kind of key it is.
    pub key: KeyKind,
    /// The DNS names that it is for, `*.` in front of a wildcard's; at most [`MAX_NAMES`].
    pub names: Vec<String>,
    /// The last moment of its validity, in seconds since 1970.
    pub not_after: u64,
    /// What SASL binds to it by (`tls-server-end-point`, RFC 5929 section 4.1): its hash; `None` where its own signature does
    /// not say which.
    pub end_point: Option<Vec<u8>>,
}

/// The kinds of key that can sign a handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum KeyKind {
    /// RSA of 2048 to 4096 bits.
    Rsa,
    /// ECDSA on P-256.
    EcdsaP256,
    /// ECDSA on P-384.
    EcdsaP384,
    /// Ed25519.
    Ed25519,
}

/// The keyholder's part of the configuration; all of it may change at SIGHUP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyholderConfig {
    /// Signatures a second in all, also at once after a pause. Further requests wait.
    pub signatures_per_second: u32,
}

/// From the master to the keyholder, after [`crate::role::Start`].
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum ToKeyholder {
    /// Two files come along, open for reading: a chain in PEM, and its private key in PEM. They become the certificate of
    /// this number, or are refused; either is answered by [`FromKeyholder::Loaded`].
    Load(CertificateNumber),
    /// No session that begins from now on uses this certificate; sessions that have begun may, for so long.
    Retire {
        /// Which.
        number: CertificateNumber,
        /// How long it is still kept.
        kept: Duration,
    },
    /// The channel from a (re)started session spawner comes along.
    SessionSpawner,
    /// The configuration was read anew.
    Reload(KeyholderConfig),
}

impl Message for ToKeyholder {
    const MAX_OCTETS: usize = 1024;

    fn descriptors(&self) -> usize {
        match self {
            ToKeyholder::Load(_) => 2,
            ToKeyholder::SessionSpawner => 1,
            ToKeyholder::Retire { .. } | ToKeyholder::Reload(_) => 0,
        }
    }
}

/// From the keyholder to the master, on the control channel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FromKeyholder {
    /// What every role says.
    Report(Report),
    /// The answer to [`ToKeyholder::Load`].
    Loaded {
        /// Which.
        number: CertificateNumber,
        /// The public part, or why there is none: one sentence for the log.
        outcome: Result<Certificate, String>,
    },
}

impl From<Report> for FromKeyholder {
    fn from(report: Report) -> Self {
        Self::Report(report)
    }
}

impl Message for FromKeyholder {
    const MAX_OCTETS: usize = MAX_CONFIGURATION_OCTETS;
}

/// From the session spawner to the keyholder: a session that may shake hands is about to begin. The keyholder's end of the
/// session's own channel comes along.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewSigner {
    /// Names the connection in logs.
    pub id: SessionId,
    /// The client's address.
    pub peer: Option<SocketAddr>,
}

impl Message for NewSigner {
    const MAX_OCTETS: usize = 256;

    fn descriptors(&self) -> usize {
        1
    }
}

/// From a session to the keyholder: a signature for its handshake. One a session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignatureRequest {
    /// By which key.
    pub number: CertificateNumber,
    /// TLS's number of the signature scheme (RFC 8446 section 4.2.3).
    pub scheme: u16,
    /// What TLS has signed: RFC 8446 section 4.4.3, or RFC 8422 section 5.4.
    pub octets: Vec<u8>,
}

impl Message for SignatureRequest {
    /// The longest thing signed has 165 octets.
    const MAX_OCTETS: usize = 256;
}

/// The keyholder's answer to a [`SignatureRequest`] that it may answer; to any other it closes the channel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signature(pub Vec<u8>);

impl Message for Signature {
    /// RSA's of 4096 bits have 512 octets.
    const MAX_OCTETS: usize = 1024;
}
