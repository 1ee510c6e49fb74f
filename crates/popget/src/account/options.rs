//! What may be said of an account: the same in the configuration and on the command line.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use serde::Deserialize;

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

#[cfg(test)]
mod tests {
    use super::*;

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
