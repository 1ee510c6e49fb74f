//! What the master tells the listener.

use std::time::Duration;

use confine::channel::Message;
use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::role::MAX_CONFIGURATION_OCTETS;

/// The listener's part of the configuration; all of it may change at SIGHUP.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListenerConfig {
    /// Connections in all.
    pub sessions: u32,
    /// Connections from one source: an IPv4 address, or the /64 of an IPv6 address.
    pub sessions_per_source: u32,
    /// How long a connection counts against its source at least, ended or not.
    pub source_hold: Duration,
    /// How long a client may take from the greeting to a login.
    pub login_timeout: Duration,
    /// Networks that the limit per source does not apply to.
    pub exempt: Vec<IpNet>,
    /// Networks that may connect; empty means all.
    pub allow: Vec<IpNet>,
    /// Networks that may not connect, whatever `allow` says.
    pub deny: Vec<IpNet>,
    /// Networks whose connections begin with a PROXY header; from no other is one believed.
    pub proxies: Vec<IpNet>,
    /// The host's name for APOP's timestamp; `None` where APOP is off and the greeting carries no timestamp.
    pub apop_host: Option<String>,
}

/// From the master to the listener, after [`crate::role::Start`].
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum ToListener {
    /// One listening socket comes along.
    Socket {
        /// The client speaks first, in TLS (RFC 8314): nothing is greeted.
        implicit_tls: bool,
    },
    /// The channel to a (re)started session spawner comes along.
    SessionSpawner,
    /// The configuration was read anew.
    Reload(ListenerConfig),
}

impl Message for ToListener {
    const MAX_OCTETS: usize = MAX_CONFIGURATION_OCTETS;

    fn descriptors(&self) -> usize {
        match self {
            ToListener::Socket { .. } | ToListener::SessionSpawner => 1,
            ToListener::Reload(_) => 0,
        }
    }
}
