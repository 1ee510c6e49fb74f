//! An account: which server, which user, and what to do.

mod credentials;
mod options;

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use net_pop3::{Fingerprint, Proxy, Security, Timeouts, TlsOptions};

use crate::deliver::Place;
use crate::failure::Failed;

pub use options::AccountOptions;

/// An account that can be worked with.
#[derive(Clone, Debug)]
pub struct Account {
    /// How it is called in reports: its name, or `user@host`.
    pub name: String,
    pub host: String,
    pub port: Option<u16>,
    pub user: Option<String>,
    pub security: Security,
    pub options: AccountOptions,
}

impl Account {
    /// Reads the URL: `pop3s://` is TLS, `pop3://` STLS, or nothing of the kind with `plain`.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn new(name: Option<&str>, url: &str, options: AccountOptions) -> Result<Account, Failed> {
        let usage = |reason: &str| Failed::usage(format!("{url}: {reason}"));
        let (scheme, rest) = url.split_once("://").ok_or_else(|| {
            usage("neither a URL such as pop3s://user@host nor an account of the configuration")
        })?;
        let security = match scheme.to_ascii_lowercase().as_str() {
            "pop3s" => Security::Tls,
            "pop3" if options.plain => Security::Plain,
            "pop3" => Security::Starttls,
            _ => return Err(usage("only pop3s:// and pop3:// are known")),
        };
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        // The user may be a mail address, unescaped.
        let (user, server) = match rest.rsplit_once('@') {
            Some((user, server)) => (
                Some(unescaped(user).ok_or_else(|| usage("malformed"))?),
                server,
            ),
            None => (None, rest),
        };
        if user.as_ref().is_some_and(|user| user.contains(':')) {
            return Err(usage(
                "a password does not belong into a URL: others see it",
            ));
        }
        let (host, port) = split_port(server);
        let port = match port.map(str::parse::<u16>) {
            Some(Ok(port)) => Some(port),
            Some(Err(_)) => return Err(usage("the port is no number")),
            None => None,
        };
        let is_host = |octet: u8| octet.is_ascii_graphic() && !b"/?#".contains(&octet);
        if host.is_empty() || !host.bytes().all(is_host) {
            return Err(usage("the host is missing or malformed"));
        }
        let user = options.user.clone().or(user);
        Ok(Account {
            name: match (name, &user) {
                (Some(name), _) => name.to_owned(),
                (None, Some(user)) => format!("{user}@{host}"),
                (None, None) => host.to_owned(),
            },
            host: host.to_owned(),
            port,
            user,
            security,
            options,
        })
    }

    /// What the records go by.
    pub fn record_user(&self) -> &str {
        self.user.as_deref().unwrap_or_default()
    }

    /// Which server: the record of one port is not the record of another.
    pub fn record_host(&self) -> String {
        match self.port {
            Some(port) => format!("{}:{port}", self.host),
            None => self.host.clone(),
        }
    }

    /// Where the mail goes.
    ///
    /// # Errors
    /// If it is not said, or said twice.
    pub fn place(&self) -> Result<Place, Failed> {
        let options = &self.options;
        let user = || self.record_user().to_owned();
        let mut places = Vec::new();
        places.extend(
            options
                .maildir
                .clone()
                .map(|path| Place::Maildir(home(path))),
        );
        places.extend(options.mbox.clone().map(|path| Place::Mbox(home(path))));
        places.extend(options.mda.clone().map(Place::Command));
        places.extend(
            options
                .lmtp
                .clone()
                .map(|address| Place::Lmtp(address, options.lmtp_to.clone().unwrap_or_else(user))),
        );
        places.extend(options.stdout.then_some(Place::Output));
        match (places.pop(), places.pop()) {
            (Some(place), None) => Ok(place),
            (None, _) => Err(Failed::usage(format!(
                "{}: where to? --maildir, --mbox, --mda, --lmtp or --stdout",
                self.name
            ))),
            _ => Err(Failed::usage(format!(
                "{}: only one place of delivery",
                self.name
            ))),
        }
    }

    /// Says how to connect.
    ///
    /// # Errors
    /// What is wrong with files and addresses.
    pub fn builder(&self) -> Result<net_pop3::blocking::Builder, Failed> {
        let options = &self.options;
        let mut builder = net_pop3::blocking::Pop3::builder()
            .host(&self.host)
            .security(self.security)
            .tls(self.tls()?);
        if let Some(port) = self.port {
            builder = builder.port(port);
        }
        if let Some(url) = &options.proxy {
            builder = builder.proxy(proxy(url)?);
        }
        if let Some(seconds) = options.timeout {
            let patience = Duration::from_secs(seconds);
            builder = builder.timeouts(Timeouts {
                connect: patience,
                handshake: patience,
                greeting: patience,
                command: patience,
                data: patience,
                ..Timeouts::default()
            });
        }
        Ok(builder)
    }

    fn tls(&self) -> Result<TlsOptions, Failed> {
        let options = &self.options;
        let read = |path: &PathBuf| {
            let path = home(path.clone());
            fs::read(&path).map_err(|error| Failed::usage(format!("{}: {error}", path.display())))
        };
        let mut tls = match &options.tls_ca {
            Some(path) => TlsOptions::nobody().add_ca_pem(&read(path)?)?,
            None => TlsOptions::platform(),
        };
        if let Some(fingerprint) = &options.tls_fingerprint {
            tls = tls.pin_sha256(fingerprint.parse::<Fingerprint>()?);
        }
        if let (Some(chain), Some(key)) = (&options.tls_certificate, &options.tls_key) {
            tls = tls.client_certificate(&read(chain)?, &read(key)?)?;
        }
        Ok(tls)
    }
}

/// `~/` is written in configurations, where no shell replaces it.
pub fn home(path: PathBuf) -> PathBuf {
    match (path.strip_prefix("~"), std::env::home_dir()) {
        (Ok(rest), Some(home)) => home.join(rest),
        _ => path,
    }
}

fn proxy(url: &str) -> Result<Proxy, Failed> {
    let malformed = || {
        Failed::usage(format!(
            "{url}: a proxy is socks5://host:port or http://host:port"
        ))
    };
    let (scheme, rest) = url.split_once("://").ok_or_else(malformed)?;
    let (login, server) = match rest.rsplit_once('@') {
        Some((login, server)) => (Some(login), server),
        None => (None, rest),
    };
    let (host, port) = split_port(server.trim_end_matches('/'));
    let port = |default| match port.map(str::parse::<u16>) {
        None => Ok(default),
        Some(Ok(port)) => Ok(port),
        Some(Err(_)) => Err(malformed()),
    };
    let proxy = match scheme {
        "socks5" | "socks5h" => Proxy::socks5(host, port(1080)?),
        "http" => Proxy::http(host, port(3128)?),
        _ => return Err(malformed()),
    };
    match login.and_then(|login| login.split_once(':')) {
        Some((user, password)) => Ok(proxy.login(
            unescaped(user).ok_or_else(malformed)?,
            unescaped(password).ok_or_else(malformed)?,
        )),
        None => Ok(proxy),
    }
}

fn split_port(server: &str) -> (&str, Option<&str>) {
    if let Some((address, rest)) = server
        .strip_prefix('[')
        .and_then(|rest| rest.split_once(']'))
    {
        return (address, rest.strip_prefix(':'));
    }
    match server.rsplit_once(':') {
        Some((host, port)) => (host, Some(port)),
        None => (server, None),
    }
}

/// `%40` and the like.
fn unescaped(text: &str) -> Option<String> {
    let mut octets = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((first, behind)) = rest.split_first() {
        rest = behind;
        if *first != b'%' {
            octets.push(*first);
            continue;
        }
        let digits = std::str::from_utf8(rest.get(..2)?).ok()?;
        octets.push(u8::from_str_radix(digits, 16).ok()?);
        rest = rest.get(2..)?;
    }
    String::from_utf8(octets).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn account(url: &str) -> Account {
        Account::new(None, url, AccountOptions::default()).unwrap()
    }

    #[test]
    fn urls_are_read() {
        let read = account("pop3s://mrose@example.com@pop.example.org:1995/");
        assert_eq!(read.user.as_deref(), Some("mrose@example.com"));
        assert_eq!(
            (read.host.as_str(), read.port),
            ("pop.example.org", Some(1995))
        );
        assert_eq!(read.security, Security::Tls);
        let read = account("pop3://mrose%40example.com@[::1]");
        assert_eq!(read.user.as_deref(), Some("mrose@example.com"));
        assert_eq!((read.host.as_str(), read.port), ("::1", None));
        assert_eq!(read.security, Security::Starttls);
    }

    #[test]
    fn in_the_clear_only_where_that_is_said() {
        let options = AccountOptions {
            plain: true,
            ..AccountOptions::default()
        };
        let plain = Account::new(None, "pop3://u@h", options.clone()).unwrap();
        assert_eq!(plain.security, Security::Plain);
        let tls = Account::new(None, "pop3s://u@h", options).unwrap();
        assert_eq!(tls.security, Security::Tls);
    }

    #[test]
    fn what_is_no_url_is_refused() {
        for url in [
            "",
            "host",
            "imap://h",
            "pop3s://",
            "pop3s://u@",
            "pop3s://u:p@h",
            "pop3s://h:x",
            "pop3s://%4@h",
            "pop3s://h/x",
        ] {
            let result = Account::new(None, url, AccountOptions::default());
            assert!(result.is_err(), "{url}");
        }
    }
}
