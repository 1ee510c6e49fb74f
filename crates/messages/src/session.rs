//! What the session spawner is told, by the master and by the listener.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use confine::channel::Message;
use serde::{Deserialize, Serialize};

use crate::role::MAX_CONFIGURATION_OCTETS;

/// Names one connection in every log line about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct SessionId(pub u64);

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}", self.0)
    }
}

/// APOP's timestamp (RFC 1939 section 7, an RFC 822 `msg-id`): no two connections of a host get the same.
pub fn apop_timestamp(host: &str, id: SessionId, since_epoch: Duration) -> String {
    format!("<{id}.{}@{host}>", since_epoch.as_nanos())
}

/// What every process that speaks POP3 advertises (RFC 2449).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Advertised {
    /// `LOGIN-DELAY`: the shortest time between two logins of one user; `None` where there is none.
    pub login_delay: Option<Duration>,
    /// `IMPLEMENTATION`; `None` where the operator does not want it told.
    pub implementation: Option<String>,
}

/// The sessions' part of the configuration; all of it may change at SIGHUP.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionConfig {
    /// How long a client may take from the greeting to a login.
    pub login_timeout: Duration,
    /// Login attempts on one connection; 1 is what popa3d 1.0.3 allowed.
    pub login_attempts: u32,
    /// Commands on one connection before login.
    pub commands: u32,
    /// Commands answered `-ERR` on one connection before login.
    pub errors: u32,
    /// Octets in a user name.
    pub user_octets: u16,
    /// APOP is offered to connections that have a timestamp.
    pub apop: bool,
    /// AUTH_FAILED_MESSAGE: the words after `-ERR [AUTH] `.
    pub failed_message: String,
    /// What CAPA says.
    pub advertised: Advertised,
}

/// From the master to the session spawner, after [`crate::role::Start`].
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum ToSessionSpawner {
    /// The channel from a (re)started listener comes along.
    Listener,
    /// The channel to a (re)started auth comes along.
    Auth,
    /// The configuration was read anew.
    Reload(SessionConfig),
    /// The only connection of a server started by inetd: the spawner becomes its session instead of forking one.
    /// The client's descriptors come along, input first, and last the lease.
    Only(Connection),
}

impl Message for ToSessionSpawner {
    const MAX_OCTETS: usize = MAX_CONFIGURATION_OCTETS;

    fn descriptors(&self) -> usize {
        match self {
            ToSessionSpawner::Listener | ToSessionSpawner::Auth => 1,
            ToSessionSpawner::Reload(_) => 0,
            ToSessionSpawner::Only(connection) => connection.descriptors(),
        }
    }
}

/// A client that has spoken, on its way from the listener to a session process.
///
/// With it come the client's socket (or, under inetd, an input and an output descriptor) and the *lease*: the write end
/// of a pipe that nobody writes to. Whoever is responsible for the connection's processes keeps it; when the last
/// holder has closed it, the listener sees the end of file and the connection no longer counts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Connection {
    /// Names the connection in logs.
    pub id: SessionId,
    /// The client's address; `None` on a pipe or a Unix socket.
    pub peer: Option<SocketAddr>,
    /// The address the client connected to, which selects a virtual domain.
    pub local: Option<SocketAddr>,
    /// The client begins with TLS.
    pub implicit_tls: bool,
    /// APOP's timestamp, `<…>` included, as the greeting carried it.
    pub apop_timestamp: Option<String>,
    /// The greeting has been sent.
    pub greeted: bool,
    /// What is left of the login time-out.
    pub time_left: Duration,
    /// Input and output are two descriptors (inetd on a pair of pipes).
    pub separate_output: bool,
}

impl Message for Connection {
    const MAX_OCTETS: usize = 1024;

    fn descriptors(&self) -> usize {
        if self.separate_output { 3 } else { 2 }
    }
}
