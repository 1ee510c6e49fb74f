//! The GS2 header (RFC 5801 section 4), with which SCRAM's and OAUTHBEARER's first message begins.

/// What the client says about channel binding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BindingFlag<'a> {
    /// `n`: the client cannot bind.
    Unsupported,
    /// `y`: the client could, and believes that the server cannot.
    NotOffered,
    /// `p=`: bound by data of the named type.
    Bound(&'a str),
}

/// The header as parsed.
#[derive(Debug, PartialEq, Eq)]
pub struct Gs2Header<'a> {
    pub flag: BindingFlag<'a>,
    /// The authorization identity, unescaped.
    pub authzid: Option<String>,
    /// The header as it was sent, up to and with its last comma.
    pub text: &'a str,
}

impl<'a> Gs2Header<'a> {
    /// The header at the beginning of `message` and what follows it.
    pub fn parse(message: &'a str) -> Option<(Self, &'a str)> {
        let (flag, rest) = message.split_once(',')?;
        let (authzid, rest) = rest.split_once(',')?;
        let flag = match flag {
            "n" => BindingFlag::Unsupported,
            "y" => BindingFlag::NotOffered,
            _ => BindingFlag::Bound(flag.strip_prefix("p=").filter(|name| is_type(name))?),
        };
        let authzid = match authzid {
            "" => None,
            _ => Some(unescape(authzid.strip_prefix("a=")?)?),
        };
        let text = message.strip_suffix(rest)?;
        let header = Self {
            flag,
            authzid,
            text,
        };
        Some((header, rest))
    }

    /// Writes a header.
    pub fn write(flag: BindingFlag, authzid: Option<&str>) -> String {
        let mut header = match flag {
            BindingFlag::Unsupported => "n,".to_owned(),
            BindingFlag::NotOffered => "y,".to_owned(),
            BindingFlag::Bound(name) => format!("p={name},"),
        };
        if let Some(authzid) = authzid {
            header.push_str("a=");
            header.push_str(&escape(authzid));
        }
        header.push(',');
        header
    }
}

/// `cb-name` of RFC 5801 section 4.
fn is_type(name: &str) -> bool {
    !name.is_empty()
        && name
            .bytes()
            .all(|octet| octet.is_ascii_alphanumeric() || matches!(octet, b'.' | b'-'))
}

/// Writes a name as `saslname`.
pub fn escape(name: &str) -> String {
    name.replace('=', "=3D").replace(',', "=2C")
}

/// Reads a `saslname`: `=` stands only before `2C` and `3D`; no NUL, and not empty.
pub fn unescape(name: &str) -> Option<String> {
    if name.is_empty() || name.contains(['\0', ',']) {
        return None;
    }
    let mut parts = name.split('=');
    let mut plain = parts.next()?.to_owned();
    for part in parts {
        let (c, rest) = match (part.strip_prefix("2C"), part.strip_prefix("3D")) {
            (Some(rest), _) => (',', rest),
            (_, Some(rest)) => ('=', rest),
            _ => return None,
        };
        plain.push(c);
        plain.push_str(rest);
    }
    Some(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_comes_back_as_it_was_written() {
        let flags = [
            BindingFlag::Unsupported,
            BindingFlag::NotOffered,
            BindingFlag::Bound("tls-exporter"),
        ];
        for flag in flags {
            for authzid in [None, Some("a=b,c"), Some("=2C")] {
                let text = Gs2Header::write(flag, authzid);
                let message = format!("{text}n=,rest");
                let (header, rest) = Gs2Header::parse(&message).unwrap();
                assert_eq!((header.flag, header.text), (flag, text.as_str()));
                assert_eq!(header.authzid.as_deref(), authzid);
                assert_eq!(rest, "n=,rest");
            }
        }
    }

    #[test]
    fn what_is_no_header_is_refused() {
        for text in [
            "",
            "n",
            "n,",
            "x,,",
            "N,,",
            "p,,",
            "p=,,",
            "p=tls_unique,,",
            "n,a=,",
            "n,user=a,",
            "n,a=a=b,",
            "n,a=a=2c,",
            "n,a=\0,",
            "F,n,,",
        ] {
            assert_eq!(Gs2Header::parse(text), None, "{text:?}");
        }
    }

    #[test]
    fn an_equals_sign_in_a_name_is_an_escape_or_a_fault() {
        assert_eq!(unescape("=2C=3D2C").as_deref(), Some(",=2C"));
        for name in ["", "=", "a=", "=2", "=2c", "=3d", "==3D", "a,b"] {
            assert_eq!(unescape(name), None, "{name:?}");
        }
    }
}
