//! `[oauth]`: who issues access tokens, and how they are checked.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use messages::auth::Tokens;
use messages::token::{Algorithm, Method, Server, TokenConfig};
use serde::Deserialize;

use super::units::Span;

/// Keys of a server are fetched anew when they are this old: issuers announce new ones at least a day ahead.
const KEYS_KEPT: Duration = Duration::from_secs(60 * 60);

/// No two fetches are closer together, whatever key a token names.
const REFRESH_INTERVAL: Duration = Duration::from_secs(30);

/// Auth waits so much longer than the token role, which then has the word.
const MARGIN: Duration = Duration::from_secs(5);

/// The longest that a server may be waited for: less than a client has for its login by default.
const MAX_TIMEOUT: Duration = Duration::from_secs(50);

/// Octets of a URL.
const MAX_URL_OCTETS: usize = 1024;

/// Where systems keep the certificate authorities that they believe.
const AUTHORITIES: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// `[oauth]`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct OAuth {
    /// The key set that JSON web tokens are signed by: a file, or an `https:` URL.
    pub keys: Option<String>,
    /// The introspection endpoint (RFC 7662), where tokens are to be asked about instead.
    pub introspection: Option<String>,
    /// As whom to ask there.
    pub client_id: Option<String>,
    /// The file of its secret.
    pub client_secret: Option<PathBuf>,
    /// What `iss` has to be.
    pub issuer: Option<String>,
    /// What `aud` has to name one of.
    pub audience: Vec<String>,
    /// What `scope` has to name all of.
    pub scope: Vec<String>,
    /// What signatures are believed.
    pub algorithms: Vec<Algorithm>,
    /// The claim that is the user's name. Default: `email`, or `username` where tokens are asked about.
    pub user_claim: Option<String>,
    /// Certificate authorities in PEM. Default: the system's.
    pub ca: Option<PathBuf>,
    /// How long the server may take.
    pub timeout: Span,
    /// Tokens checked at the same time.
    pub workers: u32,
    /// Told to clients whose token was refused.
    pub openid_configuration: Option<String>,
}

impl Default for OAuth {
    fn default() -> Self {
        Self {
            keys: None,
            introspection: None,
            client_id: None,
            client_secret: None,
            issuer: None,
            audience: Vec::new(),
            scope: Vec::new(),
            algorithms: vec![
                Algorithm::RS256,
                Algorithm::PS256,
                Algorithm::ES256,
                Algorithm::EdDSA,
            ],
            user_claim: None,
            ca: None,
            timeout: Span(Duration::from_secs(10)),
            workers: 4,
            openid_configuration: None,
        }
    }
}

impl OAuth {
    /// The token role's part.
    ///
    /// # Errors
    /// The key, and what is wrong with it.
    pub fn token(&self) -> Result<TokenConfig, (&'static str, String)> {
        let method = self.method()?;
        let is_asked = matches!(method, Method::Introspection { .. });
        if !is_asked && (self.issuer.is_none() || self.audience.is_empty()) {
            let problem = "issuer and audience are needed with keys: they say for whom a token is";
            return Err(("oauth", problem.into()));
        }
        if !is_asked && self.algorithms.is_empty() {
            return Err(("oauth.algorithms", "names none".into()));
        }
        if self
            .scope
            .iter()
            .any(|scope| scope.is_empty() || scope.contains(' '))
        {
            return Err(("oauth.scope", "is a list of scopes, one each".into()));
        }
        if self.timeout.0.is_zero() || self.timeout.0 > MAX_TIMEOUT {
            let problem = format!("must be more than 0 and at most {}s", MAX_TIMEOUT.as_secs());
            return Err(("oauth.timeout", problem));
        }
        if !(1..=64).contains(&self.workers) {
            return Err(("oauth.workers", "must be 1 to 64".into()));
        }
        let usual_claim = if is_asked { "username" } else { "email" };
        Ok(TokenConfig {
            method,
            issuer: self.issuer.clone(),
            audience: self.audience.clone(),
            scope: self.scope.clone(),
            algorithms: self.algorithms.clone(),
            user_claim: self.user_claim.clone().unwrap_or(usual_claim.into()),
            timeout: self.timeout.0,
            workers: self.workers,
            keys_kept: KEYS_KEPT,
            refresh_interval: REFRESH_INTERVAL,
        })
    }

    fn method(&self) -> Result<Method, (&'static str, String)> {
        match (&self.keys, &self.introspection) {
            (Some(keys), None) if keys.starts_with('/') => Ok(Method::KeyFile),
            (Some(keys), None) => server(keys)
                .map(Method::KeyServer)
                .map_err(|problem| ("oauth.keys", format!("is no absolute path, and {problem}"))),
            (None, Some(url)) => {
                let server = server(url).map_err(|problem| ("oauth.introspection", problem))?;
                let client_id = self
                    .client_id
                    .clone()
                    .filter(|_| self.client_secret.is_some());
                let client_id = client_id.ok_or_else(|| {
                    let problem = "client_id and client_secret are needed with introspection";
                    ("oauth", problem.to_owned())
                })?;
                Ok(Method::Introspection { server, client_id })
            }
            _ => Err(("oauth", "either keys or introspection is needed".into())),
        }
    }

    /// Auth's part.
    pub fn tokens(&self) -> Tokens {
        Tokens {
            scope: (!self.scope.is_empty()).then(|| self.scope.join(" ")),
            openid_configuration: self.openid_configuration.clone(),
            patience: self.timeout.0.saturating_add(MARGIN),
        }
    }

    /// The files that the token role reads, in the order in which it expects them, and whether others may read them.
    pub fn files(&self) -> Vec<(&Path, bool)> {
        let Ok(method) = self.method() else {
            return Vec::new();
        };
        let own = match &method {
            Method::KeyFile => self.keys.as_ref().map(|keys| (Path::new(keys), true)),
            Method::KeyServer(_) => None,
            Method::Introspection { .. } => {
                self.client_secret.as_ref().map(|it| (it.as_path(), false))
            }
        };
        let tls = method.server().is_some_and(|server| server.tls);
        let authorities = tls.then(|| (self.authorities(), true));
        own.into_iter().chain(authorities).collect()
    }

    fn authorities(&self) -> &Path {
        let usual = AUTHORITIES.map(Path::new);
        let found = || usual.into_iter().find(|path| path.exists());
        self.ca.as_deref().or_else(found).unwrap_or(usual[0])
    }
}

/// The server of a URL: with TLS anywhere, without on this host only.
fn server(url: &str) -> Result<Server, String> {
    let is_plain = |octet: u8| octet.is_ascii_graphic() && !b"\"<>\\^`{|}#".contains(&octet);
    if url.len() > MAX_URL_OCTETS || !url.bytes().all(is_plain) {
        return Err("is no URL".into());
    }
    let (tls, rest) = if let Some(rest) = url.strip_prefix("https://") {
        (true, rest)
    } else if let Some(rest) = url.strip_prefix("http://") {
        (false, rest)
    } else {
        return Err("is no https: URL".into());
    };
    let authority = &rest[..rest.find(['/', '?']).unwrap_or(rest.len())];
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => {
            let port = port.parse().ok().filter(|port| *port != 0);
            (host, port.ok_or("has no port behind the colon")?)
        }
        _ => (authority, if tls { 443 } else { 80 }),
    };
    let in_brackets = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'));
    let host = in_brackets.unwrap_or(host);
    let address = host.parse::<IpAddr>().ok();
    let is_name = |host: &str| {
        let allowed = |octet: u8| octet.is_ascii_alphanumeric() || b"-.".contains(&octet);
        !host.is_empty() && host.bytes().all(allowed)
    };
    let is_ipv6 = address.is_some_and(|address| address.is_ipv6());
    if in_brackets.is_some() != is_ipv6 || !(is_ipv6 || is_name(host)) {
        return Err("has no host name that could be asked".into());
    }
    let is_here = host == "localhost" || address.is_some_and(|address| address.is_loopback());
    if !tls && !is_here {
        return Err("goes without TLS (http:) to this host only".into());
    }
    Ok(Server {
        tls,
        host: host.to_owned(),
        port,
        url: url.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<TokenConfig, String> {
        let oauth: OAuth = toml::from_str(text).map_err(|error| error.message().to_owned())?;
        let parsed = oauth.token();
        parsed.map_err(|(key, problem)| format!("{key}: {problem}"))
    }

    const JWT: &str = "issuer = 'https://id.example.org'\naudience = ['popa3d']\n";

    #[test]
    fn a_url_has_a_host_and_a_port_and_tls_unless_it_is_here() {
        for (url, expected) in [
            (
                "https://id.example.org/keys",
                Some((true, "id.example.org", 443)),
            ),
            (
                "https://id.example.org:8443",
                Some((true, "id.example.org", 8443)),
            ),
            (
                "https://[2001:db8::1]:8443/x?y",
                Some((true, "2001:db8::1", 8443)),
            ),
            ("https://[2001:db8::1]?y", Some((true, "2001:db8::1", 443))),
            ("https://192.0.2.1/", Some((true, "192.0.2.1", 443))),
            ("http://127.0.0.1:8080/x", Some((false, "127.0.0.1", 8080))),
            ("http://[::1]/x", Some((false, "::1", 80))),
            ("http://localhost/x", Some((false, "localhost", 80))),
            ("http://id.example.org/", None),
            ("http://localhost.example.org/", None),
            ("ftp://id.example.org/", None),
            ("https:///x", None),
            ("https://user@id.example.org/", None),
            ("https://user:x@id.example.org/", None),
            ("https://id.example.org:0/", None),
            ("https://id.example.org:x/", None),
            ("https://id.example.org:/", None),
            ("https://2001:db8::1/", None),
            ("https://[id.example.org]/", None),
            ("https://id.example.org/ x", None),
            ("https://id.example.org/\r\nx", None),
            ("https://id.example.org/#x", None),
            ("HTTPS://id.example.org/", None),
            ("", None),
        ] {
            let server = server(url).ok();
            let found = server
                .as_ref()
                .map(|it| (it.tls, it.host.as_str(), it.port));
            assert_eq!(found, expected, "{url}");
        }
    }

    #[test]
    fn tokens_are_checked_by_a_file_of_keys_or_a_server_or_asked_about() {
        let method = |text: &str| parse(text).unwrap().method;
        assert_eq!(method(&format!("{JWT}keys = '/keys'")), Method::KeyFile);
        assert!(matches!(
            method(&format!("{JWT}keys = 'https://id.example.org/keys'")),
            Method::KeyServer(_)
        ));
        let asked = "introspection = 'http://[::1]:1/'\nclient_id = 'p'\nclient_secret = '/s'";
        assert!(matches!(method(asked), Method::Introspection { .. }));
        assert_eq!(parse(asked).unwrap().user_claim, "username");
        let by_keys = parse(&format!("{JWT}keys = '/keys'")).unwrap();
        assert_eq!(by_keys.user_claim, "email");
    }

    #[test]
    fn what_would_accept_anybodys_token_or_none_is_refused() {
        for (text, key) in [
            ("", "oauth: "),
            ("keys = '/k'", "oauth: "),
            ("keys = '/k'\nissuer = 'i'", "oauth: "),
            ("keys = '/k'\naudience = ['a']", "oauth: "),
            ("keys = '/k'\nintrospection = 'https://x/'", "oauth: "),
            ("introspection = 'https://x/'\nclient_id = 'p'", "oauth: "),
            ("introspection = 'http://x/'", "oauth.introspection: "),
            ("keys = 'k'\nissuer = 'i'\naudience = ['a']", "oauth.keys: "),
            (
                "keys = '/k'\nissuer = 'i'\naudience = ['a']\nalgorithms = []",
                "oauth.algorithms: ",
            ),
            (
                "keys = '/k'\nissuer = 'i'\naudience = ['a']\nscope = ['a b']",
                "oauth.scope: ",
            ),
            (
                "keys = '/k'\nissuer = 'i'\naudience = ['a']\nworkers = 0",
                "oauth.workers: ",
            ),
            (
                "keys = '/k'\nissuer = 'i'\naudience = ['a']\ntimeout = '1m'",
                "oauth.timeout: ",
            ),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.starts_with(key), "{text}: {error}");
        }
        for algorithm in ["none", "HS256"] {
            let error = parse(&format!("algorithms = ['{algorithm}']")).unwrap_err();
            assert!(error.contains("`EdDSA`"), "{error}");
        }
    }

    #[test]
    fn the_files_come_in_the_order_that_is_expected() {
        let oauth = OAuth {
            introspection: Some("https://id.example.org/".into()),
            client_id: Some("p".into()),
            client_secret: Some("/secret".into()),
            ca: Some("/ca".into()),
            ..OAuth::default()
        };
        assert_eq!(
            oauth.files(),
            [(Path::new("/secret"), false), (Path::new("/ca"), true)]
        );
    }
}
