//! An account: which server, which user, and what to do. The same options stand in the configuration and on the command line.

use std::fs;
use std::io::{self, IsTerminal, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use clap::Args;
use net_pop3::{Credentials, Fingerprint, Proxy, Security, Timeouts, TlsOptions};
use serde::Deserialize;

use crate::deliver::Place;
use crate::failure::Failed;
use crate::filter::Filter;

/// What may be said of an account. On the command line it overrides the configuration.
#[derive(Clone, Debug, Default, Args, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct AccountOptions {
    /// The server, in the configuration
    #[arg(skip)]
    pub url: Option<String>,
    /// The user, if it is not in the URL
    #[arg(long, help_heading = "Login")]
    pub user: Option<String>,
    /// Take the password from the first line that this command prints
    #[arg(long, value_name = "COMMAND", help_heading = "Login")]
    pub password_command: Option<String>,
    /// Take the password from the first line of standard input
    #[arg(long, help_heading = "Login")]
    #[serde(skip)]
    pub password_stdin: bool,
    /// Take the password from this file instead of ~/.netrc
    #[arg(long, value_name = "FILE", help_heading = "Login")]
    pub netrc: Option<PathBuf>,
    /// Take the password from this file in $CREDENTIALS_DIRECTORY (systemd)
    #[arg(long, value_name = "NAME", help_heading = "Login")]
    pub credential: Option<String>,
    /// Take an OAuth 2 access token from the first line that this command prints
    #[arg(long, value_name = "COMMAND", help_heading = "Login")]
    pub oauth2_token_command: Option<String>,
    /// Log in by the client certificate
    #[arg(long, help_heading = "Login", requires = "tls_certificate")]
    pub external: bool,

    /// Allow pop3:// without TLS; the password may go in the clear
    #[arg(long, help_heading = "Connection")]
    pub plain: bool,
    /// Trust the certificate with this SHA-256, and no other
    #[arg(long, value_name = "SHA256", help_heading = "Connection")]
    pub tls_fingerprint: Option<String>,
    /// Trust the authorities in this PEM file, and no others
    #[arg(long, value_name = "FILE", help_heading = "Connection")]
    pub tls_ca: Option<PathBuf>,
    /// Show this certificate (PEM) to the server
    #[arg(
        long,
        value_name = "FILE",
        requires = "tls_key",
        help_heading = "Connection"
    )]
    pub tls_certificate: Option<PathBuf>,
    /// The key (PEM) of that certificate
    #[arg(long, value_name = "FILE", help_heading = "Connection")]
    pub tls_key: Option<PathBuf>,
    /// Connect through `socks5://[user:password@]host[:port]` or `http://…`
    #[arg(long, value_name = "URL", help_heading = "Connection")]
    pub proxy: Option<String>,
    /// Seconds to wait for the server
    #[arg(long, value_name = "SECONDS", help_heading = "Connection")]
    pub timeout: Option<u64>,

    /// Deliver to this Maildir
    #[arg(long, value_name = "DIR", group = "place", help_heading = "Delivery")]
    pub maildir: Option<PathBuf>,
    /// Deliver to this mbox file
    #[arg(long, value_name = "FILE", group = "place", help_heading = "Delivery")]
    pub mbox: Option<PathBuf>,
    /// Give each message to this command; exit status 0 says that it is delivered
    #[arg(
        long,
        value_name = "COMMAND",
        group = "place",
        help_heading = "Delivery"
    )]
    pub mda: Option<String>,
    /// Deliver by LMTP to `host:port` or to a socket
    #[arg(
        long,
        value_name = "ADDRESS",
        group = "place",
        help_heading = "Delivery"
    )]
    pub lmtp: Option<String>,
    /// The recipient for --lmtp [default: the user]
    #[arg(long, value_name = "ADDRESS", help_heading = "Delivery")]
    pub lmtp_to: Option<String>,
    /// Write an mbox to standard output
    #[arg(long, group = "place", help_heading = "Delivery")]
    #[serde(skip)]
    pub stdout: bool,
    /// Fetch only what fulfils this: size<1M, size>10k, from:*@example.org; ! before it for the opposite. May be given several times
    #[arg(long, value_name = "CONDITION", help_heading = "Delivery")]
    pub filter: Vec<Filter>,

    /// Delete at the server what has been fetched
    #[arg(long, help_heading = "Deletion")]
    pub delete: bool,
    /// Delete at the server what was fetched that long ago: 10d, 12h
    #[arg(long, value_name = "TIME", help_heading = "Deletion", value_parser = parse_age)]
    #[serde(deserialize_with = "age")]
    pub delete_after: Option<Duration>,
    /// Keep the newest messages, that many, at the server
    #[arg(long, value_name = "COUNT", help_heading = "Deletion")]
    pub keep_newest: Option<usize>,
}

impl AccountOptions {
    /// These, where they are set, over others.
    pub fn over(&self, below: &AccountOptions) -> AccountOptions {
        let above = self.clone();
        let place_is_set = above.maildir.is_some()
            || above.mbox.is_some()
            || above.mda.is_some()
            || above.lmtp.is_some()
            || above.stdout;
        let place = if place_is_set { self } else { below };
        let below = below.clone();
        AccountOptions {
            url: above.url.or(below.url),
            user: above.user.or(below.user),
            password_command: above.password_command.or(below.password_command),
            password_stdin: above.password_stdin,
            netrc: above.netrc.or(below.netrc),
            credential: above.credential.or(below.credential),
            oauth2_token_command: above.oauth2_token_command.or(below.oauth2_token_command),
            external: above.external || below.external,
            plain: above.plain || below.plain,
            tls_fingerprint: above.tls_fingerprint.or(below.tls_fingerprint),
            tls_ca: above.tls_ca.or(below.tls_ca),
            tls_certificate: above.tls_certificate.or(below.tls_certificate),
            tls_key: above.tls_key.or(below.tls_key),
            proxy: above.proxy.or(below.proxy),
            timeout: above.timeout.or(below.timeout),
            maildir: place.maildir.clone(),
            mbox: place.mbox.clone(),
            mda: place.mda.clone(),
            lmtp: place.lmtp.clone(),
            stdout: place.stdout,
            lmtp_to: above.lmtp_to.or(below.lmtp_to),
            filter: if above.filter.is_empty() {
                below.filter
            } else {
                above.filter
            },
            delete: above.delete || below.delete,
            delete_after: above.delete_after.or(below.delete_after),
            keep_newest: above.keep_newest.or(below.keep_newest),
        }
    }
}

/// A number with `d`, `h` or `m`.
fn parse_age(text: &str) -> Result<Duration, String> {
    let unit = match text.as_bytes().last() {
        Some(b'd') => 24 * 60 * 60,
        Some(b'h') => 60 * 60,
        Some(b'm') => 60,
        _ => return Err("a number and d, h or m".to_owned()),
    };
    let digits = text.get(..text.len() - 1).unwrap_or_default();
    let seconds = digits
        .parse::<u64>()
        .ok()
        .and_then(|number| number.checked_mul(unit));
    seconds
        .map(Duration::from_secs)
        .ok_or_else(|| "a number and d, h or m".to_owned())
}

fn age<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    let text = String::deserialize(deserializer)?;
    parse_age(&text).map(Some).map_err(serde::de::Error::custom)
}

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

    /// Finds the credentials, where the options say; else in $CREDENTIALS_DIRECTORY, in netrc, or by asking at the terminal.
    ///
    /// # Errors
    /// If there are none.
    pub fn credentials(&self) -> Result<Credentials, Failed> {
        let options = &self.options;
        if options.external {
            return Ok(Credentials::external());
        }
        let password = |password: Vec<u8>| {
            let user = self.user.as_deref().ok_or_else(|| self.no_user())?;
            Ok(Credentials::password(user, password))
        };
        if let Some(command) = &options.oauth2_token_command {
            let user = self.user.as_deref().ok_or_else(|| self.no_user())?;
            return Ok(Credentials::token(user, first_line_of(command)?));
        }
        if options.password_stdin {
            let mut text = Vec::new();
            io::stdin()
                .read_to_end(&mut text)
                .map_err(|error| Failed::usage(error.to_string()))?;
            return password(first_line(text));
        }
        if let Some(command) = &options.password_command {
            return password(first_line_of(command)?);
        }
        if let Some(secret) = self.systemd_credential()? {
            return password(secret);
        }
        let user = self.user.as_deref();
        let found = match &options.netrc {
            Some(path) => Credentials::netrc_file(&home(path.clone()), &self.host, user)?,
            None => Credentials::netrc(&self.host, user)?,
        };
        if let Some(found) = found {
            return Ok(found);
        }
        if !io::stderr().is_terminal() {
            let reason = format!(
                "{}: there is no password, and no terminal to ask for it",
                self.name
            );
            return Err(Failed::usage(reason));
        }
        let user = user.ok_or_else(|| self.no_user())?;
        let typed = rpassword::prompt_password(format!("Password of {user} at {}: ", self.host))
            .map_err(|error| Failed::usage(error.to_string()))?;
        password(typed.into_bytes())
    }

    fn systemd_credential(&self) -> Result<Option<Vec<u8>>, Failed> {
        let Some(directory) = std::env::var_os("CREDENTIALS_DIRECTORY") else {
            return match &self.options.credential {
                Some(_) => Err(Failed::usage(
                    "$CREDENTIALS_DIRECTORY is not set".to_owned(),
                )),
                None => Ok(None),
            };
        };
        let name = self.options.credential.as_ref().unwrap_or(&self.name);
        if name.contains('/') {
            return Ok(None);
        }
        let path = Path::new(&directory).join(name);
        match fs::read(&path) {
            Ok(text) => Ok(Some(first_line(text))),
            Err(error)
                if error.kind() == io::ErrorKind::NotFound && self.options.credential.is_none() =>
            {
                Ok(None)
            }
            Err(error) => Err(Failed::usage(format!("{}: {error}", path.display()))),
        }
    }

    fn no_user(&self) -> Failed {
        Failed::usage(format!("{}: which user? pop3s://USER@host", self.name))
    }
}

fn first_line_of(command: &str) -> Result<Vec<u8>, Failed> {
    let failed = |reason: String| Failed::usage(format!("{command}: {reason}"));
    let output = Command::new("/bin/sh")
        .args(["-c", command])
        .stderr(Stdio::inherit())
        .output()
        .map_err(|error| failed(error.to_string()))?;
    if !output.status.success() {
        return Err(failed(output.status.to_string()));
    }
    match first_line(output.stdout) {
        line if line.is_empty() => Err(failed("it printed nothing".to_owned())),
        line => Ok(line),
    }
}

fn first_line(mut text: Vec<u8>) -> Vec<u8> {
    if let Some(end) = text.iter().position(|octet| *octet == b'\n') {
        text.truncate(end);
    }
    if text.ends_with(b"\r") {
        text.pop();
    }
    text
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

    #[test]
    fn the_command_line_stands_over_the_configuration() {
        let below = AccountOptions {
            maildir: Some("below".into()),
            user: Some("below".to_owned()),
            delete: true,
            ..AccountOptions::default()
        };
        let above = AccountOptions {
            mbox: Some("above".into()),
            ..AccountOptions::default()
        };
        let both = above.over(&below);
        assert_eq!((both.mbox, both.maildir), (Some("above".into()), None));
        assert_eq!((both.user.as_deref(), both.delete), (Some("below"), true));
    }

    #[test]
    fn ages_have_units() {
        assert_eq!(parse_age("10d"), Ok(Duration::from_secs(864_000)));
        assert_eq!(parse_age("2h"), Ok(Duration::from_secs(7200)));
        for text in ["", "d", "10", "-1d", "10x", "99999999999999999999d"] {
            assert!(parse_age(text).is_err(), "{text}");
        }
    }
}
