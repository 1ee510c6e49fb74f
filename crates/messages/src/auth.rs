//! What auth is told (by the master, the session spawner and each session) and what it answers.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use confine::channel::Message;
use serde::{Deserialize, Serialize};
use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::keyholder::MAX_CERTIFICATES;
use crate::mechanism::SaslMechanism;
use crate::role::MAX_CONFIGURATION_OCTETS;
use crate::secret::Secret;
use crate::session::SessionId;

/// Where credentials are looked up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Backend {
    /// PAM, in a child of its own per attempt.
    Pam,
    /// The password database and /etc/shadow, verified by crypt(3).
    Shadow,
    /// The users file.
    UsersFile,
}

/// popa3d's virtual domains: the local address selects a directory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AddressDomains {
    /// VIRTUAL_HOME_PATH: holds one directory per local address.
    pub home: PathBuf,
    /// VIRTUAL_AUTH_PATH: below it, one file per user, `system-user:hash:…`.
    pub auth: PathBuf,
    /// VIRTUAL_SPOOL_PATH: below it, one mailbox per user.
    pub spool: PathBuf,
    /// VIRTUAL_ONLY: an address without a directory authenticates nobody.
    pub only: bool,
}

/// Octets of a message of a SASL exchange, before base64. RFC 5034 sets no bound; access tokens (RFC 7628) are the longest
/// messages there are, and no line of a client's is longer.
pub const MAX_SASL_OCTETS: usize = 64 * 1024;

/// Octets of a challenge: SCRAM's first answer holds the client's nonce, at most 2 KiB, ours and a salt.
pub const MAX_CHALLENGE_OCTETS: usize = 4 * 1024;

/// Octets of `tls-exporter`'s binding data (RFC 9266 section 2).
pub const EXPORTER_OCTETS: usize = 32;

/// Octets of `tls-server-end-point`'s binding data: a SHA-512 hash (RFC 5929 section 4.1).
pub const MAX_END_POINT_OCTETS: usize = 64;

/// Octets of a handshake's messages up to the client's Certificate: two chains, the names of client certificates' authorities and
/// some keys. With fewer than [`MAX_SASL_OCTETS`], the signature has room beside it.
pub const MAX_TRANSCRIPT_OCTETS: usize = 48 * 1024;

/// Octets of a signature: RSA's of 8192 bits, the longest that is verified.
pub const MAX_SIGNATURE_OCTETS: usize = 1024;

/// Octets of the server's random number in a TLS handshake (RFC 8446 section 4.1.3).
pub const SERVER_RANDOM_OCTETS: usize = 32;

/// Certificates of ours that a session may have shown: those in use and those just replaced.
pub const MAX_OWN_CERTIFICATES: usize = 2 * MAX_CERTIFICATES;

/// Octets of the key that decoys are made with.
pub const DECOY_KEY_OCTETS: usize = 32;

/// What the salts of users who do not exist are made with (RFC 5802 section 9): random octets, the same for as long as the
/// server is installed.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, Zeroize, ZeroizeOnDrop)]
pub struct DecoyKey(pub [u8; DECOY_KEY_OCTETS]);

impl fmt::Debug for DecoyKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DecoyKey(…)")
    }
}

/// Auth's part of the configuration; all of it may change at SIGHUP.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuthConfig {
    /// Tried in this order; the first that knows the user decides.
    pub backends: Vec<Backend>,
    /// The users file.
    pub users_file: PathBuf,
    /// AUTH_PAM_SERVICE.
    pub pam_service: String,
    /// The store of APOP secrets (`user:secret` a line); `None` turns APOP off.
    pub apop_secrets: Option<PathBuf>,
    /// The file of app passwords; `None` where there are none.
    pub app_passwords: Option<PathBuf>,
    /// The directory that verifiers of the system's users are kept in; `None` where none are derived.
    pub derived_verifiers: Option<PathBuf>,
    /// Virtual domains by local address; `None` turns them off.
    pub address_domains: Option<AddressDomains>,
    /// The SASL mechanisms that are offered somewhere.
    pub mechanisms: Vec<SaslMechanism>,
    /// What of a client's certificate is a user's name; `None` where no certificate is.
    pub external_user: Option<ExternalUser>,
    /// What the salts of users who do not exist are made with.
    pub decoy_key: DecoyKey,
    /// Access tokens; `None`: there is nobody who checks any.
    pub tokens: Option<Tokens>,
    /// Attempts on one connection.
    pub login_attempts: u32,
    /// The first failed attempt is answered after at least this time, each further one after twice the time before.
    pub failure_delay: Duration,
    /// Verifications at the same time.
    pub workers: u32,
    /// AUTH_DUMMY_SALT: the crypt(3) setting that unknown users are hashed with; `None` for the system's usual one.
    pub dummy_setting: Option<String>,
    /// The shortest time between two logins of one user; zero for none.
    pub login_delay: Duration,
    /// How long a login by a password is remembered; zero for not at all.
    pub cache: Duration,
    /// The one account that a server not started by root can serve: every user of the users file runs as it.
    /// `None` where the server is root's.
    pub own: Option<crate::account::Account>,
}

/// What auth has to know of access tokens, which others check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tokens {
    /// The scope that a client whose token was refused is told to ask for (RFC 7628 section 3.2.2).
    pub scope: Option<String>,
    /// The URL of the provider's configuration, likewise.
    pub openid_configuration: Option<String>,
    /// A token that has not been checked by then has not been checked.
    pub patience: Duration,
}

/// What of a client's certificate is a user's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ExternalUser {
    /// A mail address among the subject's alternative names.
    MailAddress,
    /// The subject's common name.
    CommonName,
}

/// From the master to auth, after [`crate::role::Start`].
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum ToAuth {
    /// The channel from a (re)started session spawner comes along.
    SessionSpawner,
    /// The channel to a (re)started spawner comes along.
    Spawner,
    /// The channel to a (re)started token role comes along.
    Token,
    /// The configuration was read anew.
    Reload(Box<AuthConfig>),
    /// One certificate of a new set of the server's own: X.509, DER.
    OwnCertificate(Vec<u8>),
    /// A file of client certificates' authorities in PEM comes along, open for reading: part of the new set.
    ClientAuthorities,
    /// The new set is complete. Sessions that have begun before may go on with the old one for so long.
    UseCertificates {
        /// How long.
        kept: Duration,
    },
}

impl Message for ToAuth {
    const MAX_OCTETS: usize = MAX_CONFIGURATION_OCTETS;

    fn descriptors(&self) -> usize {
        match self {
            ToAuth::SessionSpawner
            | ToAuth::Spawner
            | ToAuth::Token
            | ToAuth::ClientAuthorities => 1,
            ToAuth::Reload(_) | ToAuth::OwnCertificate(_) | ToAuth::UseCertificates { .. } => 0,
        }
    }
}

/// From the session spawner to auth: a session is about to begin.
///
/// Auth's end of the session's own channel comes along, then a copy of the connection's lease. What is said here of the
/// client holds, whatever the session may claim later.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewSession {
    /// Names the connection in logs.
    pub id: SessionId,
    /// The client's address.
    pub peer: Option<SocketAddr>,
    /// The address the client connected to.
    pub local: Option<SocketAddr>,
    /// The timestamp of the greeting that went to this client.
    pub apop_timestamp: Option<String>,
}

impl Message for NewSession {
    const MAX_OCTETS: usize = 1024;

    fn descriptors(&self) -> usize {
        2
    }
}

/// What a session says of its client's TLS.
///
/// Nobody can check it. A session that lies makes a `-PLUS` exchange of its own client's succeed that ought to fail, or the
/// other way round; it needs that client's proof of the password all the same, and gains nothing towards anybody else.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TlsFacts {
    /// `tls-exporter` (RFC 9266); `None` before TLS 1.3.
    pub exporter: Option<[u8; EXPORTER_OCTETS]>,
    /// `tls-server-end-point` (RFC 5929 section 4), at most [`MAX_END_POINT_OCTETS`]; `None` where the certificate's signature
    /// has no hash that it could be made with.
    pub server_end_point: Option<Vec<u8>>,
}

/// From a session to auth: credentials, or a step of a SASL exchange. One at a time: the next only after the [`Verdict`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Attempt {
    /// USER and PASS.
    Password {
        /// The name as sent.
        user: Vec<u8>,
        /// The password as sent.
        password: Secret,
    },
    /// APOP (RFC 1939 section 7).
    Apop {
        /// The name as sent.
        user: Vec<u8>,
        /// The 32 hexadecimal digits as sent.
        digest: Secret,
    },
    /// AUTH (RFC 5034): begins an exchange. Only this counts as an attempt.
    SaslStart {
        /// Which mechanism.
        mechanism: SaslMechanism,
        /// The initial response, decoded; at most [`MAX_SASL_OCTETS`].
        initial_response: Option<Secret>,
        /// `None` without TLS.
        tls: Option<TlsFacts>,
    },
    /// The client's answer to a [`Verdict::Challenge`], decoded; at most [`MAX_SASL_OCTETS`].
    SaslResponse(Secret),
    /// The client gives the exchange up (`*`), or its answer was no base64. Not answered.
    SaslCancel,
    /// No attempt: the session is about to shake hands with a client that may show a certificate, and asks for the server's
    /// random number, by which this handshake will be told from every other. Once a session.
    ServerRandom,
    /// No attempt, and not answered: the handshake, in which the client has shown a certificate. Once a session, and only behind
    /// [`Attempt::ServerRandom`].
    Handshake(Handshake),
}

/// What proves, without anybody's word, that a client has the key of the certificate that it showed: the messages of a TLS 1.3
/// handshake and the client's signature over them (RFC 8446 section 4.4.3).
///
/// Whoever holds such a handshake can log in by it on the one session that was given its random number, and nowhere else.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Handshake {
    /// The messages up to the client's Certificate, each with its header; at most [`MAX_TRANSCRIPT_OCTETS`].
    pub transcript: Vec<u8>,
    /// The scheme of the client's CertificateVerify.
    pub scheme: u16,
    /// Its signature, at most [`MAX_SIGNATURE_OCTETS`].
    pub signature: Vec<u8>,
}

impl fmt::Debug for Handshake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Handshake({} octets)", self.transcript.len())
    }
}

/// The answer to [`Attempt::ServerRandom`].
pub type ServerRandom = [u8; SERVER_RANDOM_OCTETS];

impl Message for Attempt {
    /// A SASL message, or a handshake and its signature, or two parts of a command line of at most 512 octets; and what belongs
    /// to it.
    const MAX_OCTETS: usize = MAX_SASL_OCTETS + 1024;
}

/// Auth's answer to an [`Attempt`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Verdict {
    /// The SASL exchange goes on: for the client, at most [`MAX_CHALLENGE_OCTETS`] before base64.
    Challenge(Vec<u8>),
    /// The session's end of the stream to the maildrop process comes along. That process answers the client.
    Accepted,
    /// Refused.
    Denied(Denial),
    /// The answer to [`Attempt::ServerRandom`].
    ServerRandom(ServerRandom),
}

/// Why a login was refused, as far as the client may know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Denial {
    /// `[AUTH]`: unknown user, wrong password, locked account, root: all the same to the client.
    Credentials,
    /// `[LOGIN-DELAY]`: right credentials, too soon after the last login.
    LoginDelay,
    /// `[SYS/TEMP]`: could not be decided now; trying again later makes sense.
    Temporary,
    /// `[SYS/PERM]`: somebody has to repair something.
    Permanent,
    /// The client's side of a SASL exchange was no SASL: other credentials would not help.
    Malformed,
}

impl Message for Verdict {
    const MAX_OCTETS: usize = MAX_CHALLENGE_OCTETS + 64;

    fn descriptors(&self) -> usize {
        match self {
            Verdict::Accepted => 1,
            Verdict::Denied(_) | Verdict::Challenge(_) | Verdict::ServerRandom(_) => 0,
        }
    }
}
