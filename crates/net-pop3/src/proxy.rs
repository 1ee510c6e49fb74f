//! Through a proxy: SOCKS5 (RFC 1928, RFC 1929) and HTTP CONNECT (RFC 9110 section 9.3.6).

use std::fmt;
use std::net::IpAddr;
use std::time::Instant;

use sasl::{Secret, base64};

use crate::channel::{Channel, Socket};
use crate::error::ErrorKind;

/// Octets of the head of an HTTP proxy's answer: some send a page of explanations in it.
const MAX_HTTP_HEAD: usize = 16 * 1024;

/// A proxy to connect through.
///
/// ```
/// use net_pop3::{Proxy, blocking::Pop3};
///
/// let tor = Proxy::socks5("127.0.0.1", 9050);
/// let builder = Pop3::builder().host("pop.example.org").proxy(tor);
/// ```
#[derive(Clone)]
pub struct Proxy {
    pub(crate) host: String,
    pub(crate) port: u16,
    protocol: Protocol,
    login: Option<(String, Secret)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Protocol {
    Socks5,
    HttpConnect,
}

impl Proxy {
    /// SOCKS version 5. The proxy finds the host's address.
    ///
    /// ```
    /// let tor = net_pop3::Proxy::socks5("127.0.0.1", 9050);
    /// ```
    pub fn socks5(host: impl Into<String>, port: u16) -> Proxy {
        Proxy {
            host: host.into(),
            port,
            protocol: Protocol::Socks5,
            login: None,
        }
    }

    /// HTTP with the method CONNECT.
    ///
    /// ```
    /// let proxy = net_pop3::Proxy::http("proxy.example.org", 3128);
    /// ```
    pub fn http(host: impl Into<String>, port: u16) -> Proxy {
        Proxy {
            protocol: Protocol::HttpConnect,
            ..Proxy::socks5(host, port)
        }
    }

    /// Name and password for the proxy; they are sent to it in the clear.
    ///
    /// ```
    /// let proxy = net_pop3::Proxy::socks5("127.0.0.1", 1080).login("mrose", "secret");
    /// ```
    pub fn login(mut self, user: impl Into<String>, password: impl Into<Vec<u8>>) -> Proxy {
        self.login = Some((user.into(), Secret::new(password.into())));
        self
    }
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Proxy({:?} {}:{})", self.protocol, self.host, self.port)
    }
}

/// Has the proxy connect to the host. Afterwards the channel is the host's.
pub(crate) async fn ask<S: Socket>(
    channel: &mut Channel<S>,
    proxy: &Proxy,
    host: &str,
    port: u16,
    deadline: Option<Instant>,
) -> Result<(), ErrorKind> {
    let mut dialogue = Dialogue { channel, deadline };
    match proxy.protocol {
        Protocol::Socks5 => dialogue.socks5(proxy.login.as_ref(), host, port).await,
        Protocol::HttpConnect => dialogue.http(proxy.login.as_ref(), host, port).await,
    }
}

fn refused(reason: impl Into<String>) -> ErrorKind {
    ErrorKind::Proxy(reason.into())
}

struct Dialogue<'a, S> {
    channel: &'a mut Channel<S>,
    deadline: Option<Instant>,
}

impl<S: Socket> Dialogue<'_, S> {
    async fn socks5(
        &mut self,
        login: Option<&(String, Secret)>,
        host: &str,
        port: u16,
    ) -> Result<(), ErrorKind> {
        const NO_AUTHENTICATION: u8 = 0;
        const USERNAME_PASSWORD: u8 = 2;
        let methods: &[u8] = match login {
            Some(_) => &[5, 2, NO_AUTHENTICATION, USERNAME_PASSWORD],
            None => &[5, 1, NO_AUTHENTICATION],
        };
        self.say(methods).await?;
        match (self.hear().await?, login) {
            ([5, NO_AUTHENTICATION], _) => (),
            ([5, USERNAME_PASSWORD], Some((user, password))) => {
                let mut request = vec![1];
                request.extend(short(user.as_bytes(), "user name")?);
                request.extend(short(password.as_bytes(), "password")?);
                self.say(&request).await?;
                let [_, status] = self.hear().await?;
                if status != 0 {
                    return Err(refused("name or password refused"));
                }
            }
            ([5, _], _) => return Err(refused("it asks for a login")),
            _ => return Err(refused("it does not speak SOCKS version 5")),
        }
        let mut request = vec![5, 1, 0];
        match host.parse::<IpAddr>() {
            Ok(IpAddr::V4(address)) => {
                request.push(1);
                request.extend(address.octets());
            }
            Ok(IpAddr::V6(address)) => {
                request.push(4);
                request.extend(address.octets());
            }
            Err(_) => {
                request.push(3);
                request.extend(short(host.as_bytes(), "host name")?);
            }
        }
        request.extend(port.to_be_bytes());
        self.say(&request).await?;
        let [_, reply, _, address] = self.hear().await?;
        if reply != 0 {
            return Err(refused(socks5_reply(reply)));
        }
        // The address it connects from is of no use, but it is there.
        match address {
            1 => drop(self.hear::<6>().await?),
            4 => drop(self.hear::<18>().await?),
            3 => {
                let [length] = self.hear().await?;
                for _ in 0..u16::from(length).saturating_add(2) {
                    let [_] = self.hear().await?;
                }
            }
            _ => return Err(refused("it does not speak SOCKS version 5")),
        }
        Ok(())
    }

    async fn http(
        &mut self,
        login: Option<&(String, Secret)>,
        host: &str,
        port: u16,
    ) -> Result<(), ErrorKind> {
        if host.bytes().any(|octet| !octet.is_ascii_graphic()) {
            return Err(refused("the host's name cannot be sent"));
        }
        let host = if host.contains(':') {
            format!("[{host}]")
        } else {
            host.to_owned()
        };
        let mut request = format!("CONNECT {host}:{port} HTTP/1.1\r\nHost: {host}:{port}\r\n");
        if let Some((user, password)) = login {
            let pair = Secret::new([user.as_bytes(), b":", password.as_bytes()].concat());
            request.push_str("Proxy-Authorization: Basic ");
            request.push_str(&base64::encode(pair.as_bytes()));
            request.push_str("\r\n");
        }
        request.push_str("\r\n");
        self.say(request.as_bytes()).await?;
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            if head.len() >= MAX_HTTP_HEAD {
                return Err(refused("its answer is too long"));
            }
            let [octet] = self.hear().await?;
            head.push(octet);
        }
        let first = head
            .split(|octet| *octet == b'\r')
            .next()
            .unwrap_or_default();
        let mut words = first.split(|octet| *octet == b' ');
        let is_http = words
            .next()
            .is_some_and(|version| version.starts_with(b"HTTP/1."));
        match words.next() {
            Some([b'2', _, _]) if is_http => Ok(()),
            _ => Err(refused(first.escape_ascii().to_string())),
        }
    }

    async fn say(&mut self, octets: &[u8]) -> Result<(), ErrorKind> {
        self.channel.output().extend_from_slice(octets);
        self.channel.flush(self.deadline).await
    }

    async fn hear<const N: usize>(&mut self) -> Result<[u8; N], ErrorKind> {
        let mut octets = [0; N];
        for octet in &mut octets {
            while self.channel.input().is_empty() {
                if !self.channel.fill(self.deadline).await? {
                    return Err(refused("it closed the connection"));
                }
            }
            *octet = self.channel.input().first().copied().unwrap_or_default();
            self.channel.consume(1);
        }
        Ok(octets)
    }
}

/// With its length before it, in one octet.
fn short(octets: &[u8], what: &str) -> Result<Vec<u8>, ErrorKind> {
    match u8::try_from(octets.len()) {
        Ok(length) if length > 0 => Ok([&[length], octets].concat()),
        _ => Err(refused(format!("the {what} is empty or too long"))),
    }
}

/// RFC 1928 section 6.
fn socks5_reply(reply: u8) -> String {
    match reply {
        2 => "not allowed by its rules",
        3 => "network unreachable",
        4 => "host unreachable",
        5 => "connection refused",
        6 => "timed out",
        other => return format!("it failed, code {other}"),
    }
    .to_owned()
}
