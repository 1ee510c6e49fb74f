//! The messages of OAUTHBEARER (RFC 7628) and of XOAUTH2, which it grew from.

use crate::Secret;
use crate::gs2::{BindingFlag, Gs2Header};

/// What a client presents.
#[derive(Debug, PartialEq, Eq)]
pub struct Bearer {
    /// Whose maildrop it wants, if it says so; as sent.
    pub user: Option<String>,
    /// The access token; empty if the client only asks what is needed (RFC 7628 section 4.3).
    pub token: Secret,
    /// The host it believes it is connected to.
    pub host: Option<String>,
    /// The port it believes it is connected to.
    pub port: Option<u16>,
}

/// Ends each pair, and the message.
const SEPARATOR: char = '\u{1}';

impl Bearer {
    /// OAUTHBEARER: a GS2 header and pairs (RFC 7628 section 3.1).
    pub fn parse_oauthbearer(message: &[u8]) -> Option<Self> {
        let (header, rest) = Gs2Header::parse(std::str::from_utf8(message).ok()?)?;
        // The mechanism has no -PLUS: nothing could be bound.
        if matches!(header.flag, BindingFlag::Bound(_)) {
            return None;
        }
        let mut bearer = Self::parse_pairs(rest.strip_prefix(SEPARATOR)?)?;
        bearer.user = header.authzid;
        Some(bearer)
    }

    /// XOAUTH2: the user is a pair like the others.
    pub fn parse_xoauth2(message: &[u8]) -> Option<Self> {
        let (user, rest) = std::str::from_utf8(message)
            .ok()?
            .strip_prefix("user=")?
            .split_once(SEPARATOR)?;
        let mut bearer = Self::parse_pairs(rest)?;
        bearer.user = Some(user.to_owned());
        Some(bearer)
    }

    /// Pairs up to the separator that ends the message. Unknown ones are ignored, known ones come once.
    fn parse_pairs(pairs: &str) -> Option<Self> {
        let pairs = pairs.strip_suffix(SEPARATOR)?.strip_suffix(SEPARATOR)?;
        let (mut auth, mut host, mut port) = (None, None, None);
        for pair in pairs.split(SEPARATOR) {
            let (key, value) = pair.split_once('=')?;
            if key.is_empty() || !key.bytes().all(|octet| octet.is_ascii_alphabetic()) {
                return None;
            }
            if !value.bytes().all(is_value) {
                return None;
            }
            let repeated = match key {
                "auth" => auth.replace(value).is_some(),
                "host" => host.replace(value.to_owned()).is_some(),
                "port" => port.replace(value.parse().ok()?).is_some(),
                _ => false,
            };
            if repeated {
                return None;
            }
        }
        Some(Self {
            user: None,
            token: token(auth?)?,
            host,
            port,
        })
    }

    /// `None` if the token or the host contain what cannot be sent.
    pub fn write_oauthbearer(&self) -> Option<Secret> {
        let user = self.user.as_deref();
        let mut message = self.room();
        message.push_str(&Gs2Header::write(BindingFlag::Unsupported, user));
        message.push(SEPARATOR);
        if let Some(host) = &self.host {
            push_pair(&mut message, "host=", host);
        }
        if let Some(port) = &self.port {
            push_pair(&mut message, "port=", &port.to_string());
        }
        self.finish(message, Self::parse_oauthbearer)
    }

    /// `None` if the token or the name contain what cannot be sent.
    pub fn write_xoauth2(&self) -> Option<Secret> {
        let mut message = self.room();
        push_pair(&mut message, "user=", self.user.as_deref()?);
        self.finish(message, Self::parse_xoauth2)
    }

    /// A string that will not grow, which would leave copies of the token behind.
    fn room(&self) -> String {
        let names = [&self.user, &self.host]
            .into_iter()
            .flatten()
            .map(String::len);
        // Names grow to three times their length when escaped; 64 octets are more than all the keys.
        let octets = names
            .fold(64_usize, |sum, octets| {
                sum.saturating_add(octets.saturating_mul(3))
            })
            .saturating_add(self.token.as_bytes().len());
        String::with_capacity(octets)
    }

    fn finish(&self, mut message: String, parse: fn(&[u8]) -> Option<Self>) -> Option<Secret> {
        let token = std::str::from_utf8(self.token.as_bytes()).ok()?;
        message.push_str("auth=Bearer ");
        message.push_str(token);
        message.push(SEPARATOR);
        message.push(SEPARATOR);
        let message = Secret::new(message.into_bytes());
        // Whatever would be read as something else is not sent.
        let same = parse(message.as_bytes()).is_some_and(|parsed| {
            parsed.user == self.user && parsed.token == self.token && !token.is_empty()
        });
        same.then_some(message)
    }
}

fn push_pair(message: &mut String, key: &str, value: &str) {
    message.push_str(key);
    message.push_str(value);
    message.push(SEPARATOR);
}

/// `value` of RFC 7628 section 3.1.
fn is_value(octet: u8) -> bool {
    matches!(octet, 0x20..=0x7e | b'\t' | b'\r' | b'\n')
}

/// What an Authorization header of the scheme Bearer holds (RFC 6750 section 2.1), the scheme in any case (RFC 7628 section 4).
fn token(header: &str) -> Option<Secret> {
    let (scheme, token) = header.split_once(' ').unwrap_or((header, ""));
    let token = token.trim_matches(' ');
    let sound = header.is_empty() || scheme.eq_ignore_ascii_case("Bearer");
    let sound = sound && token.bytes().all(|octet| octet.is_ascii_graphic());
    sound.then(|| Secret::copied(token.as_bytes()))
}

/// What a client is told of a token that was refused (RFC 7628 section 3.2.2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenError {
    /// A code of IANA's OAuth Extensions Error Registry: `invalid_token`, `insufficient_scope`, `invalid_request`.
    pub status: String,
    /// The scope to ask the authorization server for.
    pub scope: Option<String>,
    /// URL of the OpenID provider's configuration.
    pub openid_configuration: Option<String>,
}

impl TokenError {
    /// The token is expired, revoked, malformed or another user's.
    pub fn invalid_token() -> Self {
        Self {
            status: "invalid_token".to_owned(),
            scope: None,
            openid_configuration: None,
        }
    }

    /// As JSON, on one line.
    pub fn to_json(&self) -> String {
        let mut json = "{\"status\":".to_owned();
        push_json_string(&mut json, &self.status);
        // Not in RFC 7628; XOAUTH2's clients know it.
        json.push_str(",\"schemes\":\"bearer\"");
        if let Some(scope) = &self.scope {
            json.push_str(",\"scope\":");
            push_json_string(&mut json, scope);
        }
        if let Some(url) = &self.openid_configuration {
            json.push_str(",\"openid-configuration\":");
            push_json_string(&mut json, url);
        }
        json.push('}');
        json
    }
}

/// RFC 8259 section 7.
fn push_json_string(json: &mut String, text: &str) {
    json.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => json.extend(['\\', c]),
            '\0'..='\u{1f}' => json.push_str(&format!("\\u{:04x}", u32::from(c))),
            _ => json.push(c),
        }
    }
    json.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKEN: &[u8] = b"vF9dft4qmTc2Nvb3RlckBhbHRhdmlzdGEuY29tCg==";

    fn bearer() -> Bearer {
        Bearer {
            user: Some("user@example.com".to_owned()),
            token: Secret::copied(TOKEN),
            host: Some("server.example.com".to_owned()),
            port: Some(143),
        }
    }

    #[test]
    fn the_example_of_rfc_7628_section_4_1() {
        let message = b"n,a=user@example.com,\x01host=server.example.com\x01port=143\x01auth=Bearer vF9dft4qmTc2Nvb3RlckBhbHRhdmlzdGEuY29tCg==\x01\x01";
        assert_eq!(Bearer::parse_oauthbearer(message), Some(bearer()));
        assert_eq!(bearer().write_oauthbearer().unwrap().as_bytes(), message);
    }

    #[test]
    fn a_client_may_ask_with_an_empty_header() {
        let message =
            b"n,a=user@example.com,\x01host=server.example.com\x01port=143\x01auth=\x01\x01";
        let bearer = Bearer::parse_oauthbearer(message).unwrap();
        assert_eq!(bearer.token.as_bytes(), b"");
    }

    #[test]
    fn unknown_pairs_are_ignored_and_the_scheme_is_of_any_case() {
        let message = b"y,,\x01qs=a=b\x01auth=bEARER  t\x01\x01";
        let bearer = Bearer::parse_oauthbearer(message).unwrap();
        assert_eq!(bearer.token.as_bytes(), b"t");
        assert_eq!(bearer.user, None);
    }

    #[test]
    fn the_form_of_xoauth2() {
        let message = b"user=someuser@example.com\x01auth=Bearer ya29.vF9dft4qmTc2Nvb3RlckBhdHRhdmlzdGEuY29tCg\x01\x01";
        let bearer = Bearer::parse_xoauth2(message).unwrap();
        assert_eq!(bearer.user.as_deref(), Some("someuser@example.com"));
        assert_eq!(bearer.write_xoauth2().unwrap().as_bytes(), message);
    }

    #[test]
    fn what_is_no_such_message_is_refused() {
        for message in [
            &b""[..],
            b"\x01",
            b"n,,",
            b"n,,\x01",
            b"n,,\x01\x01",
            b"n,,\x01auth=Bearer t\x01",
            b"n,,auth=Bearer t\x01\x01",
            b"n,,\x01auth=Bearer t\x01\x01\x01",
            b"n,,\x01auth=Bearer t\x01auth=Bearer u\x01\x01",
            b"n,,\x01auth=Basic t\x01\x01",
            b"n,,\x01auth=Bearert\x01\x01",
            b"n,,\x01auth=Bearer t u\x01\x01",
            b"n,,\x01auth=Bearer \xc3\xa4\x01\x01",
            b"n,,\x01port=70000\x01auth=Bearer t\x01\x01",
            b"n,,\x01=x\x01auth=Bearer t\x01\x01",
            b"n,,\x01host\x01auth=Bearer t\x01\x01",
            b"n,user=a,\x01auth=Bearer t\x01\x01",
            b"p=tls-exporter,,\x01auth=Bearer t\x01\x01",
            b"user=a\x01auth=Bearer t\x01\x01",
        ] {
            assert_eq!(
                Bearer::parse_oauthbearer(message),
                None,
                "{}",
                message.escape_ascii()
            );
        }
        assert_eq!(Bearer::parse_xoauth2(b"auth=Bearer t\x01\x01"), None);
        assert_eq!(Bearer::parse_xoauth2(b"user=a\x01\x01"), None);
    }

    #[test]
    fn what_would_be_read_otherwise_is_not_sent() {
        for token in [&b""[..], b"a b", b" a", b"a\x01", b"\xff"] {
            let mut bearer = bearer();
            bearer.token = Secret::copied(token);
            assert_eq!(bearer.write_oauthbearer(), None);
            assert_eq!(bearer.write_xoauth2(), None);
        }
        let mut bearer = bearer();
        bearer.user = Some("a\u{1}auth=Bearer t".to_owned());
        assert_eq!(bearer.write_xoauth2(), None);
    }

    #[test]
    fn json_strings_are_escaped() {
        let error = TokenError {
            status: "invalid_token".to_owned(),
            scope: Some("a\"\\\n".to_owned()),
            openid_configuration: None,
        };
        assert_eq!(
            error.to_json(),
            r#"{"status":"invalid_token","schemes":"bearer","scope":"a\"\\\u000a"}"#
        );
    }
}
