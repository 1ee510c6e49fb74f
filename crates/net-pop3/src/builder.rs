//! How to reach a server: everything that is said before the connection is made.

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use pop3_proto::multiline::LineEnds;

use crate::proxy::Proxy;
use crate::tls::TlsOptions;
use crate::trace::{Progress, Trace};

/// How the connection is kept from being read and changed on its way.
///
/// ```
/// use net_pop3::{Security, blocking::Pop3};
///
/// let builder = Pop3::builder().host("pop.example.org").security(Security::Starttls);
/// assert_eq!(Security::default(), Security::Tls);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Security {
    /// TLS from the first octet, port 995 (RFC 8314 section 3).
    #[default]
    Tls,
    /// TLS after STLS, port 110 (RFC 2595). If the server does not offer it, connecting fails.
    Starttls,
    /// TLS after STLS where the server offers it. Where it does not, the session goes on in the clear, and passwords and tokens
    /// are still not sent: an attacker could have taken the offer away. Mechanisms that show no secret work, and so does
    /// everything on a loopback address.
    StarttlsIfOffered,
    /// No TLS, port 110. Passwords go in the clear if the server offers nothing better.
    Plain,
}

impl Security {
    pub(crate) fn default_port(self) -> u16 {
        match self {
            Security::Tls => 995,
            _ => 110,
        }
    }
}

/// How long to wait in each phase.
///
/// ```
/// use std::time::Duration;
/// use net_pop3::Timeouts;
///
/// let timeouts = Timeouts { connect: Duration::from_secs(5), ..Timeouts::default() };
/// assert_eq!(timeouts.command, Duration::from_secs(120));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// For finding the host's addresses and connecting to one of them; per host. 30 s.
    pub connect: Duration,
    /// For what the proxy is asked, and for the TLS handshake. 30 s.
    pub handshake: Duration,
    /// For the greeting. 60 s.
    pub greeting: Duration,
    /// For the first line of a reply, as a whole. 120 s: a server may open a large maildrop at login.
    pub command: Duration,
    /// For the next octets of a message or listing. 120 s.
    pub data: Duration,
    /// For the reply to QUIT, before which the server rewrites the maildrop. 600 s.
    pub quit: Duration,
    /// For everything, from connecting to the end. None.
    pub total: Option<Duration>,
}

impl Default for Timeouts {
    fn default() -> Timeouts {
        Timeouts {
            connect: Duration::from_secs(30),
            handshake: Duration::from_secs(30),
            greeting: Duration::from_secs(60),
            command: Duration::from_secs(120),
            data: Duration::from_secs(120),
            quit: Duration::from_secs(600),
            total: None,
        }
    }
}

/// How much a server may send. Beyond any of these the session fails.
///
/// ```
/// use net_pop3::Limits;
///
/// let limits = Limits { message_octets: 50 * 1024 * 1024, ..Limits::default() };
/// assert_eq!(limits.line_octets, 8 * 1024);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Octets of a line that is not a message's. 8 KiB; RFC 1939 allows 512, SASL challenges are longer.
    pub line_octets: usize,
    /// Messages in a listing. 4,194,304.
    pub listing_entries: u32,
    /// Octets of one message. No limit: messages are streamed.
    pub message_octets: u64,
    /// Octets received in one session. No limit.
    pub session_octets: u64,
}

impl Default for Limits {
    fn default() -> Limits {
        let proto = pop3_proto::client::Limits::default();
        Limits {
            line_octets: proto.line_octets,
            listing_entries: proto.listing_lines,
            message_octets: u64::MAX,
            session_octets: u64::MAX,
        }
    }
}

type TraceHook = dyn Fn(Trace<'_>) + Send + Sync;

/// What a [`Builder`] has been told.
#[derive(Clone)]
pub(crate) struct Settings {
    pub(crate) hosts: Vec<String>,
    pub(crate) port: Option<u16>,
    pub(crate) local_port: Option<u16>,
    pub(crate) security: Security,
    pub(crate) tls: TlsOptions,
    pub(crate) proxy: Option<Proxy>,
    pub(crate) timeouts: Timeouts,
    pub(crate) limits: Limits,
    pub(crate) line_ends: LineEnds,
    pub(crate) window_octets: u64,
    pub(crate) initial_response: bool,
    pub(crate) trace: Option<Arc<TraceHook>>,
    pub(crate) progress: Option<Arc<dyn Fn(Progress) + Send + Sync>>,
}

/// Octets of messages asked for ahead where the server allows pipelining: what lies in the buffers between two machines some
/// 50 ms apart on a fast line, and what has to be received for nothing if the caller does not want the rest.
pub(crate) const DEFAULT_WINDOW: u64 = 1024 * 1024;

/// Says how to connect; made by [`blocking::Pop3::builder`](crate::blocking::Pop3::builder) and its counterpart for tokio.
///
/// ```
/// use net_pop3::blocking::Pop3;
/// use net_pop3::{Security, Timeouts};
///
/// let server = scripted_server::Mailbox::sample().start();
/// let session = Pop3::builder()
///     .host("127.0.0.1")
///     .port(server.port())
///     .security(Security::Plain)
///     .timeouts(Timeouts::default())
///     .connect()?;
/// assert!(!session.is_tls());
/// # Ok::<(), net_pop3::Error>(())
/// ```
#[must_use]
pub struct Builder<Driver> {
    pub(crate) settings: Settings,
    driver: PhantomData<Driver>,
}

impl<Driver> Builder<Driver> {
    pub(crate) fn new() -> Builder<Driver> {
        Builder {
            settings: Settings {
                hosts: Vec::new(),
                port: None,
                local_port: None,
                security: Security::default(),
                tls: TlsOptions::default(),
                proxy: None,
                timeouts: Timeouts::default(),
                limits: Limits::default(),
                line_ends: LineEnds::AsSent,
                window_octets: DEFAULT_WINDOW,
                initial_response: true,
                trace: None,
                progress: None,
            },
            driver: PhantomData,
        }
    }

    /// The server: a name or an address, with `:port` behind it if that is not the [`port`](Builder::port) of all. Its
    /// addresses are tried side by side, IPv6 first (RFC 8305). Call it again, or [`hosts`](Builder::hosts), for more.
    ///
    /// ```
    /// let builder = net_pop3::blocking::Pop3::builder().host("pop.example.org").host("192.0.2.1:1100");
    /// ```
    pub fn host(mut self, host: impl Into<String>) -> Self {
        self.settings.hosts.push(host.into());
        self
    }

    /// Servers to be tried in turn, until one lets itself be connected to.
    ///
    /// ```
    /// # use net_pop3::{blocking::Pop3, Security};
    /// # let server = scripted_server::Mailbox::sample().start();
    /// # let here = format!("127.0.0.1:{}", server.port());
    /// let session = Pop3::builder()
    ///     .hosts(["127.0.0.1:1", here.as_str()])
    ///     .security(Security::Plain)
    ///     .connect()?;
    /// assert_eq!(session.host(), "127.0.0.1");
    /// # Ok::<(), net_pop3::Error>(())
    /// ```
    pub fn hosts(mut self, hosts: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.settings
            .hosts
            .extend(hosts.into_iter().map(Into::into));
        self
    }

    /// The server's port; without it 995 with [`Security::Tls`], 110 otherwise.
    ///
    /// ```
    /// let builder = net_pop3::blocking::Pop3::builder().host("pop.example.org").port(1995);
    /// ```
    pub fn port(mut self, port: u16) -> Self {
        self.settings.port = Some(port);
        self
    }

    /// The port to connect from. Any, by default.
    ///
    /// ```
    /// let builder = net_pop3::blocking::Pop3::builder().host("pop.example.org").local_port(1023);
    /// ```
    pub fn local_port(mut self, port: u16) -> Self {
        self.settings.local_port = Some(port);
        self
    }

    /// Whether and when TLS begins; [`Security::Tls`] by default.
    ///
    /// ```
    /// use net_pop3::{Security, blocking::Pop3};
    ///
    /// let builder = Pop3::builder().host("pop.example.org").security(Security::Starttls);
    /// ```
    pub fn security(mut self, security: Security) -> Self {
        self.settings.security = security;
        self
    }

    /// Whom to trust; the system's authorities by default.
    ///
    /// ```
    /// # let fingerprint = "00".repeat(32);
    /// let tls = net_pop3::TlsOptions::default().pin_sha256(fingerprint.parse()?);
    /// let builder = net_pop3::blocking::Pop3::builder().host("pop.example.org").tls(tls);
    /// # Ok::<(), net_pop3::Error>(())
    /// ```
    pub fn tls(mut self, tls: TlsOptions) -> Self {
        self.settings.tls = tls;
        self
    }

    /// Connects through a proxy, which also finds the host's address.
    ///
    /// ```
    /// let tor = net_pop3::Proxy::socks5("127.0.0.1", 9050);
    /// let builder = net_pop3::blocking::Pop3::builder().host("pop.example.org").proxy(tor);
    /// ```
    pub fn proxy(mut self, proxy: Proxy) -> Self {
        self.settings.proxy = Some(proxy);
        self
    }

    /// How long to wait in each phase.
    ///
    /// ```
    /// use std::time::Duration;
    /// use net_pop3::{Timeouts, blocking::Pop3};
    ///
    /// let timeouts = Timeouts { total: Some(Duration::from_secs(3600)), ..Timeouts::default() };
    /// let builder = Pop3::builder().host("pop.example.org").timeouts(timeouts);
    /// ```
    pub fn timeouts(mut self, timeouts: Timeouts) -> Self {
        self.settings.timeouts = timeouts;
        self
    }

    /// How much the server may send.
    ///
    /// ```
    /// use net_pop3::{Limits, blocking::Pop3};
    ///
    /// let limits = Limits { listing_entries: 100_000, ..Limits::default() };
    /// let builder = Pop3::builder().host("pop.example.org").limits(limits);
    /// ```
    pub fn limits(mut self, limits: Limits) -> Self {
        self.settings.limits = limits;
        self
    }

    /// Ends the lines of messages with LF instead of CRLF, as files on Unix have it. Other octets stay as they were sent.
    ///
    /// ```
    /// # use net_pop3::{blocking::Pop3, Credentials, Security};
    /// # let server = scripted_server::Mailbox::sample().start();
    /// let mut session = Pop3::builder()
    ///     .host("127.0.0.1")
    ///     .port(server.port())
    ///     .security(Security::Plain)
    ///     .lf_line_ends()
    ///     .connect()?
    ///     .login(&Credentials::password("mrose", "tanstaaf"))?;
    /// assert!(session.retr(1)?.to_vec()?.starts_with(b"Subject: one\n\n"));
    /// # Ok::<(), net_pop3::Error>(())
    /// ```
    pub fn lf_line_ends(mut self) -> Self {
        self.settings.line_ends = LineEnds::Lf;
        self
    }

    /// How many octets of messages to ask for ahead, where the server allows it: 1 MiB. With 0 every message is asked for
    /// when it is wanted.
    ///
    /// ```
    /// let builder = net_pop3::blocking::Pop3::builder().host("pop.example.org").window(16 * 1024 * 1024);
    /// ```
    pub fn window(mut self, octets: u64) -> Self {
        self.settings.window_octets = octets;
        self
    }

    /// Whether AUTH may carry the first response in the same line (RFC 5034 section 4), where it fits. `true` by default;
    /// servers are met that take XOAUTH2 in two lines only.
    ///
    /// ```
    /// let builder = net_pop3::blocking::Pop3::builder().host("outlook.office365.com").initial_response(false);
    /// ```
    pub fn initial_response(mut self, allowed: bool) -> Self {
        self.settings.initial_response = allowed;
        self
    }

    /// Calls `hook` with every line said and heard, passwords and tokens left out.
    ///
    /// ```
    /// # use net_pop3::{blocking::Pop3, Credentials, Security};
    /// # let server = scripted_server::Mailbox::sample().start();
    /// let session = Pop3::builder()
    ///     .host("127.0.0.1")
    ///     .port(server.port())
    ///     .security(Security::Plain)
    ///     .trace(|line| println!("{line}"))
    ///     .connect()?
    ///     .login(&Credentials::password("mrose", "tanstaaf"))?;
    /// # Ok::<(), net_pop3::Error>(())
    /// ```
    pub fn trace(mut self, hook: impl Fn(Trace<'_>) + Send + Sync + 'static) -> Self {
        self.settings.trace = Some(Arc::new(hook));
        self
    }

    /// Calls `hook` with the octets of the message so far, whenever some have been read.
    ///
    /// ```
    /// let builder = net_pop3::blocking::Pop3::builder()
    ///     .host("pop.example.org")
    ///     .progress(|progress| eprintln!("{} octets", progress.octets));
    /// ```
    pub fn progress(mut self, hook: impl Fn(Progress) + Send + Sync + 'static) -> Self {
        self.settings.progress = Some(Arc::new(hook));
        self
    }
}

impl<Driver> Clone for Builder<Driver> {
    fn clone(&self) -> Self {
        Builder {
            settings: self.settings.clone(),
            driver: PhantomData,
        }
    }
}

impl<Driver> fmt::Debug for Builder<Driver> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder")
            .field("hosts", &self.settings.hosts)
            .field("port", &self.settings.port)
            .field("security", &self.settings.security)
            .finish_non_exhaustive()
    }
}
