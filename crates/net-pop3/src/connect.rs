//! From a name to a session that has been greeted: addresses side by side, proxy, TLS, greeting, STLS.

use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use pop3_proto::Command;
use pop3_proto::client::{Event, State};
use rustls_pki_types::ServerName;

use crate::builder::{Security, Settings};
use crate::channel::{Channel, Socket};
use crate::core::{Core, Peer, refused};
use crate::error::{Error, ErrorKind, Phase, Refusal};
use crate::proxy;
use crate::trace::Trace;

/// How long an address may take before the next one is tried beside it (RFC 8305 section 5).
const ATTEMPT_DELAY: Duration = Duration::from_millis(250);

/// Addresses of one host: more are not tried.
const MAX_ADDRESSES: usize = 16;

/// What a driver can do before there is a socket.
pub(crate) trait Driver {
    type Socket: Socket;
    type Race: Race<Socket = Self::Socket>;

    /// The addresses of a host, in the order of the system's preference.
    fn resolve(
        host: &str,
        port: u16,
        deadline: Option<Instant>,
    ) -> impl Future<Output = io::Result<Vec<SocketAddr>>> + Send;

    fn race(local_port: Option<u16>) -> Self::Race;
}

/// Connections being made side by side.
pub(crate) trait Race {
    type Socket;

    fn start(&mut self, address: SocketAddr) -> io::Result<()>;

    /// How many are under way.
    fn running(&self) -> usize;

    /// Waits for one of them to be made or to fail, or for `until`.
    fn poll(
        &mut self,
        context: &mut Context<'_>,
        until: Option<Instant>,
    ) -> Poll<Outcome<Self::Socket>>;
}

pub(crate) enum Outcome<S> {
    Connected(S, SocketAddr),
    Failed(io::Error),
    /// It is `until`.
    Waited,
}

/// Connects to the first host that lets itself be connected to.
pub(crate) async fn connect<D: Driver>(settings: Settings) -> Result<Core<D::Socket>, Error> {
    let settings = Arc::new(settings);
    let deadline = settings
        .timeouts
        .total
        .and_then(|total| Instant::now().checked_add(total));
    let mut last = None;
    for host in &settings.hosts {
        let (name, port) = split_port(host);
        let port = port
            .or(settings.port)
            .unwrap_or(settings.security.default_port());
        match connect_host::<D>(&settings, name, port, deadline).await {
            Ok(core) => return Ok(core),
            Err(error) => {
                let error = error.at_host(host);
                if let Some(hook) = &settings.trace {
                    hook(Trace::Note(&error.to_string()));
                }
                last = Some(error);
            }
        }
    }
    Err(last.unwrap_or_else(|| {
        let reason = "no host is named".to_owned();
        Error::new(Phase::Connect, ErrorKind::Configuration(reason))
    }))
}

/// `host:port`, `[address]:port`, or without the port.
fn split_port(host: &str) -> (&str, Option<u16>) {
    if let Some(rest) = host.strip_prefix('[')
        && let Some((address, port)) = rest.split_once(']')
    {
        let port = port.strip_prefix(':').and_then(|port| port.parse().ok());
        return (address, port);
    }
    match host.split_once(':') {
        Some((name, port)) if !port.contains(':') => match port.parse() {
            Ok(port) => (name, Some(port)),
            Err(_) => (host, None),
        },
        _ => (host, None),
    }
}

async fn connect_host<D: Driver>(
    settings: &Arc<Settings>,
    host: &str,
    port: u16,
    total: Option<Instant>,
) -> Result<Core<D::Socket>, Error> {
    let until = |allowed: Duration| {
        let deadline = Instant::now().checked_add(allowed);
        [deadline, total].into_iter().flatten().min()
    };
    let timeouts = &settings.timeouts;
    let deadline = until(timeouts.connect);
    let (dialled, dialled_port) = match &settings.proxy {
        Some(proxy) => (proxy.host.as_str(), proxy.port),
        None => (host, port),
    };
    let (socket, address) = dial::<D>(dialled, dialled_port, settings.local_port, deadline).await?;
    if let Some(hook) = &settings.trace {
        hook(Trace::Note(&format!("connected to {address}")));
    }
    let mut channel = Channel::new(socket, settings.limits.session_octets);
    if let Some(proxy) = &settings.proxy {
        proxy::ask(&mut channel, proxy, host, port, until(timeouts.handshake))
            .await
            .map_err(|kind| Error::new(Phase::Proxy, kind))?;
    }
    let peer = Peer {
        host: host.to_owned(),
        port,
        address,
    };
    let mut core = Core::new(channel, settings.clone(), peer, total);
    if settings.security == Security::Tls {
        core.start_tls().await?;
    }
    core.greeting().await?;
    if matches!(
        settings.security,
        Security::Starttls | Security::StarttlsIfOffered
    ) {
        core.starttls(settings.security == Security::Starttls)
            .await?;
    }
    Ok(core)
}

/// Connects to whichever address of the host answers first.
async fn dial<D: Driver>(
    host: &str,
    port: u16,
    local_port: Option<u16>,
    deadline: Option<Instant>,
) -> Result<(D::Socket, SocketAddr), Error> {
    let failed = |error: io::Error| {
        let kind = match error.kind() {
            io::ErrorKind::TimedOut => ErrorKind::TimedOut,
            _ => ErrorKind::Io(error),
        };
        Error::new(Phase::Connect, kind)
    };
    let unknown = || Error::new(Phase::Connect, ErrorKind::UnknownHost);
    let found = match host.parse::<IpAddr>() {
        Ok(address) => vec![SocketAddr::new(address, port)],
        Err(_) => match D::resolve(host, port, deadline).await {
            Ok(found) => found,
            Err(error) if error.kind() == io::ErrorKind::TimedOut => return Err(failed(error)),
            Err(_) => return Err(unknown()),
        },
    };
    let mut waiting = interleaved(found);
    let mut race = D::race(local_port);
    let mut next_start = Instant::now();
    let mut last = None;
    loop {
        let now = Instant::now();
        if deadline.is_some_and(|deadline| now >= deadline) {
            return Err(failed(io::ErrorKind::TimedOut.into()));
        }
        if now >= next_start
            && let Some(address) = waiting.pop_front()
        {
            match race.start(address) {
                Ok(()) => next_start = now.checked_add(ATTEMPT_DELAY).unwrap_or(now),
                Err(error) => {
                    last = Some(error);
                    continue;
                }
            }
        }
        if race.running() == 0 && waiting.is_empty() {
            return Err(last.map_or_else(unknown, failed));
        }
        let until = match waiting.is_empty() {
            true => deadline,
            false => [Some(next_start), deadline].into_iter().flatten().min(),
        };
        match poll_fn(|context| race.poll(context, until)).await {
            Outcome::Connected(socket, address) => return Ok((socket, address)),
            Outcome::Failed(error) => {
                last = Some(error);
                next_start = now;
            }
            Outcome::Waited => (),
        }
    }
}

/// By turns of the two families, the preferred one first (RFC 8305 section 4).
fn interleaved(addresses: Vec<SocketAddr>) -> VecDeque<SocketAddr> {
    let first_is_v6 = addresses.first().is_some_and(SocketAddr::is_ipv6);
    let (first, second): (Vec<_>, Vec<_>) = addresses
        .into_iter()
        .partition(|address| address.is_ipv6() == first_is_v6);
    let (mut first, mut second) = (first.into_iter(), second.into_iter());
    let mut order = VecDeque::new();
    loop {
        let pair = [first.next(), second.next()];
        if pair == [None, None] || order.len() >= MAX_ADDRESSES {
            return order;
        }
        order.extend(pair.into_iter().flatten());
    }
}

impl<S: Socket> Core<S> {
    async fn start_tls(&mut self) -> Result<(), Error> {
        let config = self.settings.tls.client_config()?;
        let name = ServerName::try_from(self.peer.host.clone()).map_err(|_| {
            let reason = "the host's name is none that a certificate can name".to_owned();
            Error::new(Phase::Tls, ErrorKind::Configuration(reason))
        })?;
        let deadline = self.deadline(self.settings.timeouts.handshake);
        let shaken = self.channel.start_tls(config, name, deadline).await;
        shaken.map_err(|kind| self.failed(Phase::Tls, kind))?;
        let is_13 = self
            .channel
            .tls()
            .is_some_and(|tls| tls.protocol_version() == Some(rustls::ProtocolVersion::TLSv1_3));
        self.trace(Trace::Note(if is_13 { "TLS 1.3" } else { "TLS 1.2" }));
        Ok(())
    }

    pub(crate) async fn greeting(&mut self) -> Result<(), Error> {
        let deadline = self.deadline(self.settings.timeouts.greeting);
        loop {
            let greeting = self.next_event(|event| match event {
                Event::Greeting {
                    response,
                    apop_timestamp,
                } => Some((
                    response.is_ok(),
                    response.code.map(Into::into),
                    response.text.escape_ascii().to_string(),
                    apop_timestamp.map(<[u8]>::to_vec),
                )),
                _ => None,
            });
            match greeting.map_err(|error| self.protocol(error, Phase::Greeting))? {
                Some(Some((true, _, banner, timestamp))) => {
                    self.trace(Trace::Server(&format!("+OK {banner}")));
                    self.banner = banner;
                    self.timestamp = timestamp;
                    return Ok(());
                }
                Some(Some((false, code, text, _))) => {
                    self.trace(Trace::Server(&format!("-ERR {text}")));
                    let kind = ErrorKind::Refused(Refusal { code, text });
                    return Err(Error::new(Phase::Greeting, kind));
                }
                Some(None) => (),
                None => {
                    let filled = self.channel.fill(deadline).await;
                    self.filled(filled, Phase::Greeting)?;
                }
            }
        }
    }

    /// STLS is tried, not looked up: a server without CAPA may have it, and an offer could have been taken away.
    pub(crate) async fn starttls(&mut self, required: bool) -> Result<(), Error> {
        match self.ask(&Command::Stls).await {
            Ok(_) => (),
            Err(error) if error.refusal().is_some() && !required => {
                self.trace(Trace::Note("no TLS"));
                return Ok(());
            }
            Err(error) => {
                return Err(match error.refusal() {
                    Some(refusal) if refusal.code.is_some() => refused(refusal.clone()),
                    Some(_) => Error::new(Phase::Tls, ErrorKind::TlsNotOffered),
                    None => error,
                }
                .of_command("STLS"));
            }
        }
        if self.connection.state() == State::StartingTls {
            self.start_tls().await?;
            self.connection.tls_started();
        }
        self.capabilities = None;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_may_have_its_own_port() {
        assert_eq!(split_port("pop.example.org"), ("pop.example.org", None));
        assert_eq!(
            split_port("pop.example.org:1100"),
            ("pop.example.org", Some(1100))
        );
        assert_eq!(split_port("[::1]:1100"), ("::1", Some(1100)));
        assert_eq!(split_port("[::1]"), ("::1", None));
        assert_eq!(split_port("2001:db8::1"), ("2001:db8::1", None));
    }

    #[test]
    fn families_take_turns() {
        let addresses =
            ["[::1]:1", "[::2]:1", "[::3]:1", "127.0.0.1:1"].map(|a| a.parse().unwrap());
        let order: Vec<String> = interleaved(addresses.to_vec())
            .iter()
            .map(SocketAddr::to_string)
            .collect();
        assert_eq!(order, ["[::1]:1", "127.0.0.1:1", "[::2]:1", "[::3]:1"]);
        let many = vec!["127.0.0.1:1".parse().unwrap(); 1000];
        assert!(interleaved(many).len() <= MAX_ADDRESSES + 1);
    }
}
