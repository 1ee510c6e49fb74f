//! What auth is told (by the master, the session spawner and each session) and what it answers.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use confine::channel::Message;
use serde::{Deserialize, Serialize};

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
    /// Virtual domains by local address; `None` turns them off.
    pub address_domains: Option<AddressDomains>,
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
    /// The one account that a server not started by root can serve: every user of the users file runs as it.
    /// `None` where the server is root's.
    pub own: Option<crate::account::Account>,
}

/// From the master to auth, after [`crate::role::Start`].
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum ToAuth {
    /// The channel from a (re)started session spawner comes along.
    SessionSpawner,
    /// The channel to a (re)started spawner comes along.
    Spawner,
    /// The configuration was read anew.
    Reload(Box<AuthConfig>),
}

impl Message for ToAuth {
    const MAX_OCTETS: usize = MAX_CONFIGURATION_OCTETS;

    fn descriptors(&self) -> usize {
        match self {
            ToAuth::SessionSpawner | ToAuth::Spawner => 1,
            ToAuth::Reload(_) => 0,
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

/// From a session to auth: credentials. One at a time: the next only after the [`Verdict`].
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
}

impl Message for Attempt {
    /// A command line holds at most 512 octets.
    const MAX_OCTETS: usize = 2 * 1024;
}

/// Auth's answer to an [`Attempt`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Verdict {
    /// The session's end of the stream to the maildrop process comes along. That process answers the client.
    Accepted,
    /// Refused.
    Denied(Denial),
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
}

impl Message for Verdict {
    const MAX_OCTETS: usize = 64;

    fn descriptors(&self) -> usize {
        match self {
            Verdict::Accepted => 1,
            Verdict::Denied(_) => 0,
        }
    }
}
