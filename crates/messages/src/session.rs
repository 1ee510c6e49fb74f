//! What the session spawner is told, by the master and by the listener.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use confine::channel::Message;
use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::keyholder::Certificate;
use crate::mechanism::SaslMechanism;
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
    /// Who may log in without TLS.
    pub cleartext: CleartextPolicy,
    /// The SASL mechanisms; [`Advertised::logins`] says which of them a connection is offered.
    pub mechanisms: Vec<SaslMechanism>,
    /// `LOGIN-DELAY`: the shortest time between two logins of one user; `None` where there is none.
    pub login_delay: Option<Duration>,
    /// `EXPIRE`: for how many days messages are in sight at least that a client leaves; `None`: always.
    pub expire: Option<u32>,
    /// `IMPLEMENTATION`; `None` where the operator does not want it told.
    pub implementation: Option<String>,
}

/// What a connection is protected by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protection {
    /// Nothing.
    Clear,
    /// TLS.
    Tls,
    /// TLS 1.3, by which the client has shown a certificate that auth can be shown in turn.
    TlsWithCertificate,
}

/// The ways to log in that a connection is offered. The same before login and after it (RFC 2449 section 5).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Logins {
    /// USER and PASS, and APOP where there is any.
    pub user: bool,
    /// AUTH.
    pub mechanisms: Vec<SaslMechanism>,
}

impl Advertised {
    /// What a connection from `peer` is offered: without TLS nothing, unless its address may log in so; and nothing that needs
    /// what it has not.
    pub fn logins(&self, peer: Option<SocketAddr>, protection: Protection) -> Logins {
        let tls = protection != Protection::Clear;
        let shown = protection == Protection::TlsWithCertificate;
        let user = tls || self.cleartext.allows(peer);
        let offered = |mechanism: &SaslMechanism| {
            user && (tls || !mechanism.is_bound()) && (shown || !mechanism.needs_certificate())
        };
        let mechanisms = self.mechanisms.iter().copied().filter(offered).collect();
        Logins { user, mechanisms }
    }
}

/// From where a password may come in the clear (RFC 8314 section 4.1).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CleartextPolicy {
    /// In general.
    pub rule: Cleartext,
    /// Networks from which it may come besides.
    pub networks: Vec<IpNet>,
}

/// The rule of a [`CleartextPolicy`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Cleartext {
    /// From everywhere.
    Always,
    /// From this host.
    Loopback,
    /// From nowhere.
    Never,
}

impl CleartextPolicy {
    /// Whether a client with this address may log in without TLS; one without an address is on this host.
    pub fn allows(&self, peer: Option<SocketAddr>) -> bool {
        let address = peer.map(|peer| peer.ip().to_canonical());
        let by_rule = match self.rule {
            Cleartext::Always => true,
            Cleartext::Loopback => address.is_none_or(|address| address.is_loopback()),
            Cleartext::Never => false,
        };
        by_rule
            || address.is_some_and(|address| {
                self.networks
                    .iter()
                    .any(|network| network.contains(&address))
            })
    }
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
    /// The channel to a (re)started keyholder comes along.
    Keyholder,
    /// One certificate of a new set.
    Certificate(Certificate),
    /// A file of client certificates' authorities in PEM comes along, open for reading: part of the new set.
    ClientAuthorities,
    /// The new set is complete: it takes the place of the old one for the sessions that follow.
    UseCertificates,
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
            ToSessionSpawner::Listener
            | ToSessionSpawner::Auth
            | ToSessionSpawner::Keyholder
            | ToSessionSpawner::ClientAuthorities => 1,
            ToSessionSpawner::Certificate(_)
            | ToSessionSpawner::UseCertificates
            | ToSessionSpawner::Reload(_) => 0,
            ToSessionSpawner::Only(connection) => connection.descriptors(),
        }
    }
}

/// From the listener to the session spawner.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FromListener {
    /// A client that has spoken, to be given a session.
    Serve(Connection),
    /// The session of an earlier one has to end, and make room for a newcomer. There may be none any more.
    End(SessionId),
}

impl Message for FromListener {
    const MAX_OCTETS: usize = 1024;

    fn descriptors(&self) -> usize {
        match self {
            FromListener::Serve(connection) => connection.descriptors(),
            FromListener::End(_) => 0,
        }
    }
}

/// What auth writes into a lease when it consents to a login.
pub const LOGGED_IN: [u8; 1] = [b'+'];

/// A client that has spoken, on its way from the listener to a session process.
///
/// With it come the client's socket (or, under inetd, an input and an output descriptor) and the *lease*: the write end
/// of a pipe. The session spawner keeps it until the session has ended, and passes it to auth, and auth to the spawner, for the maildrop
/// process, which keeps it to its end; while that changes a mailbox, so does the spawner. Of sessions only inetd's has it. When the last
/// holder has closed it, the listener sees the end of file and the connection no longer counts. Before that, [`LOGGED_IN`] is written to it at most once, by auth:
/// what is to be read tells the listener that the client has logged in, whatever it is.
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
    /// Its source has had several connections lately that led to no login: others go first.
    pub yields: bool,
}

impl Connection {
    /// How many come along: the client's, then the lease.
    fn descriptors(&self) -> usize {
        if self.separate_output { 3 } else { 2 }
    }
}

/// What a session tells the maildrop process when it hands the client over: how far AUTHORIZATION has changed the connection,
/// and what the client has sent behind its login. The session is not trusted with more than that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HandedOver<'a> {
    /// UTF8 was given (RFC 6856).
    pub utf8: bool,
    /// Octets that have not been looked at.
    pub pipelined: &'a [u8],
}

impl<'a> HandedOver<'a> {
    /// One octet, then those of the client.
    pub fn encode(&self) -> Vec<u8> {
        let mut octets = vec![u8::from(self.utf8)];
        octets.extend_from_slice(self.pipelined);
        octets
    }

    /// `None` if no session has written it.
    pub fn decode(octets: &'a [u8]) -> Option<Self> {
        let (&first, pipelined) = octets.split_first()?;
        (first <= 1).then_some(Self {
            utf8: first == 1,
            pipelined,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allows(rule: Cleartext, peer: &str) -> bool {
        let policy = CleartextPolicy {
            rule,
            networks: vec!["10.0.0.0/8".parse().unwrap()],
        };
        policy.allows(Some(peer.parse().unwrap()))
    }

    #[test]
    fn cleartext_follows_the_rule_and_the_networks() {
        for (peer, on_loopback) in [
            ("127.0.0.1:1", true),
            ("127.8.8.8:1", true),
            ("[::1]:1", true),
            ("[::ffff:127.0.0.1]:1", true),
            ("192.0.2.1:1", false),
            ("[2001:db8::1]:1", false),
        ] {
            assert!(allows(Cleartext::Always, peer), "{peer}");
            assert_eq!(allows(Cleartext::Loopback, peer), on_loopback, "{peer}");
            assert!(!allows(Cleartext::Never, peer), "{peer}");
        }
        for rule in [Cleartext::Always, Cleartext::Loopback, Cleartext::Never] {
            assert!(allows(rule, "10.1.2.3:1"));
            assert!(allows(rule, "[::ffff:10.1.2.3]:1"));
        }
    }

    #[test]
    fn without_tls_nothing_is_offered_that_needs_it_and_nothing_at_all_where_that_is_refused() {
        use Protection::{Clear, Tls, TlsWithCertificate};
        use SaslMechanism::{External, Plain, ScramSha256, ScramSha256Plus};
        let advertised = Advertised {
            cleartext: CleartextPolicy {
                rule: Cleartext::Loopback,
                networks: Vec::new(),
            },
            mechanisms: vec![External, ScramSha256Plus, ScramSha256, Plain],
            login_delay: None,
            expire: None,
            implementation: None,
        };
        let logins = |peer: &str, protection| {
            let logins = advertised.logins(Some(peer.parse().unwrap()), protection);
            (logins.user, logins.mechanisms)
        };
        let by_tls = vec![ScramSha256Plus, ScramSha256, Plain];
        assert_eq!(logins("192.0.2.1:1", Tls), (true, by_tls));
        let all = advertised.mechanisms.clone();
        assert_eq!(logins("192.0.2.1:1", TlsWithCertificate), (true, all));
        assert_eq!(logins("192.0.2.1:1", Clear), (false, Vec::new()));
        assert_eq!(
            logins("127.0.0.1:1", Clear),
            (true, vec![ScramSha256, Plain])
        );
    }

    #[test]
    fn a_client_without_an_address_is_on_this_host() {
        let policy = |rule| CleartextPolicy {
            rule,
            networks: Vec::new(),
        };
        assert!(policy(Cleartext::Loopback).allows(None));
        assert!(!policy(Cleartext::Never).allows(None));
    }

    #[test]
    fn what_is_handed_over_arrives_and_nothing_else_is_taken_for_it() {
        for (utf8, pipelined) in [(false, &b""[..]), (true, b""), (true, b"\x01STAT\r\n")] {
            let handed_over = HandedOver { utf8, pipelined };
            let octets = handed_over.encode();
            assert_eq!(HandedOver::decode(&octets), Some(handed_over));
        }
        assert_eq!(HandedOver::decode(b""), None);
        assert_eq!(HandedOver::decode(b"STAT\r\n"), None);
    }
}
