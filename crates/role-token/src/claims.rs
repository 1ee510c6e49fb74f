//! What a token says of its user and of its use (RFC 7519 section 4, RFC 9068, RFC 7662 section 2.2), held against what is
//! configured. By then the issuer has vouched for it.

use std::time::SystemTime;

use messages::token::{Finding, MAX_USER_OCTETS, TokenConfig};
use serde_json::{Map, Value};

/// Seconds by which the issuer's clock and ours may differ (RFC 7519 section 4.1.4: "usually no more than a few minutes").
const LEEWAY: u64 = 60;

/// Claims, and whether they came in the token itself: then they have to say for whom it is and until when.
#[derive(Clone, Copy, Debug)]
pub struct Claims<'a> {
    /// The members.
    pub members: &'a Map<String, Value>,
    /// Of a JSON web token; otherwise the issuer was asked.
    pub are_carried: bool,
}

impl Claims<'_> {
    /// Whether the token is for us, now, and whose it is.
    pub fn judge(&self, configuration: &TokenConfig, now: SystemTime) -> Finding {
        let now = now.duration_since(SystemTime::UNIX_EPOCH);
        let now = now.unwrap_or_default().as_secs();
        match self.find_refusal(configuration, now) {
            Some(reason) => Finding::Refused(reason.to_owned()),
            None if !self.has_scope(&configuration.scope) => Finding::LacksScope,
            None => match self.user(&configuration.user_claim) {
                Ok(user) => Finding::Valid {
                    user: user.to_owned(),
                    expires: self.time("exp").ok().flatten(),
                },
                Err(reason) => Finding::Refused(format!("{} {reason}", configuration.user_claim)),
            },
        }
    }

    fn find_refusal(&self, configuration: &TokenConfig, now: u64) -> Option<&'static str> {
        let (Ok(expires), Ok(begins)) = (self.time("exp"), self.time("nbf")) else {
            return Some("has a time that is none");
        };
        if expires.is_none() && self.are_carried {
            return Some("has no end");
        }
        if expires.is_some_and(|end| end.saturating_add(LEEWAY) <= now) {
            return Some("has expired");
        }
        if begins.is_some_and(|begin| begin > now.saturating_add(LEEWAY)) {
            return Some("is not valid yet");
        }
        if let Some(issuer) = &configuration.issuer {
            match self.members.get("iss") {
                Some(found) if found.as_str() == Some(issuer) => {}
                None if !self.are_carried => {}
                _ => return Some("is another issuer's"),
            }
        }
        if !configuration.audience.is_empty() && !self.is_for(&configuration.audience) {
            return Some("is for another audience");
        }
        // RFC 7800: only who proves to have a key may use it, and here nobody can.
        if self.members.contains_key("cnf") {
            return Some("is bound to a key");
        }
        let kind = self.members.get("token_type").and_then(Value::as_str);
        if !self.are_carried && kind.is_some_and(|kind| !kind.eq_ignore_ascii_case("bearer")) {
            return Some("is no bearer token");
        }
        None
    }

    /// NumericDate (RFC 7519 section 2), which may have a fraction.
    fn time(&self, name: &str) -> Result<Option<u64>, ()> {
        match self.members.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::Number(number)) => {
                // As a float it saturates.
                let fraction = || number.as_f64().filter(|it| *it >= 0.0).map(|it| it as u64);
                number.as_u64().or_else(fraction).map(Some).ok_or(())
            }
            Some(_) => Err(()),
        }
    }

    fn is_for(&self, audience: &[String]) -> bool {
        let is_ours = |value: &Value| {
            let value = value.as_str();
            audience.iter().any(|ours| value == Some(ours))
        };
        match self.members.get("aud") {
            Some(Value::Array(values)) => values.iter().any(is_ours),
            Some(value) => is_ours(value),
            None => false,
        }
    }

    /// `scope` is a text with spaces (RFC 8693 section 4.2), Microsoft's `scp` likewise; some issuers make lists.
    fn has_scope(&self, wanted: &[String]) -> bool {
        let holds = |value: &Value, wanted: &str| match value {
            Value::String(text) => text.split(' ').any(|scope| scope == wanted),
            Value::Array(values) => values.iter().any(|scope| scope.as_str() == Some(wanted)),
            _ => false,
        };
        let claims = ["scope", "scp"].map(|name| self.members.get(name));
        wanted.iter().all(|wanted| {
            let mut claims = claims.iter().flatten();
            claims.any(|value| holds(value, wanted))
        })
    }

    fn user(&self, claim: &str) -> Result<&str, &'static str> {
        let user = match self.members.get(claim) {
            Some(Value::String(user)) => user,
            Some(_) => return Err("is no text"),
            None => return Err("is missing"),
        };
        // Whoever may write any address into a profile is not so whom it belongs to.
        let unverified = match self.members.get("email_verified") {
            None | Some(Value::Bool(true)) => false,
            Some(Value::String(text)) => text != "true",
            Some(_) => true,
        };
        if claim == "email" && unverified {
            return Err("is not verified");
        }
        if user.is_empty() || user.len() > MAX_USER_OCTETS || user.chars().any(char::is_control) {
            return Err("is no user's name");
        }
        Ok(user)
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use messages::token::{Algorithm, Method};
    use std::time::Duration;

    const NOW: u64 = 1_800_000_000;

    pub fn configuration() -> TokenConfig {
        TokenConfig {
            method: Method::KeyFile,
            issuer: Some("https://id.example.org".into()),
            audience: vec!["popa3d".into(), "mail".into()],
            scope: vec!["pop3".into()],
            algorithms: vec![Algorithm::ES256],
            user_claim: "email".into(),
            timeout: Duration::from_secs(5),
            workers: 2,
            keys_kept: Duration::from_secs(3600),
            refresh_interval: Duration::ZERO,
        }
    }

    fn good() -> Map<String, Value> {
        let json = serde_json::json!({
            "iss": "https://id.example.org",
            "aud": ["other", "mail"],
            "exp": NOW + 300,
            "nbf": NOW - 5,
            "scope": "openid pop3",
            "email": "joe@example.org",
        });
        json.as_object().unwrap().clone()
    }

    fn judge(members: &Map<String, Value>, are_carried: bool) -> Finding {
        let claims = Claims {
            members,
            are_carried,
        };
        claims.judge(
            &configuration(),
            SystemTime::UNIX_EPOCH + Duration::from_secs(NOW),
        )
    }

    /// What comes of the good claims with one of them changed or, by null, left out.
    fn with(name: &str, value: Value) -> Finding {
        let mut members = good();
        match value {
            Value::Null => drop(members.remove(name)),
            value => drop(members.insert(name.into(), value)),
        }
        judge(&members, true)
    }

    #[test]
    fn good_claims_give_the_user_and_the_end() {
        let valid = Finding::Valid {
            user: "joe@example.org".into(),
            expires: Some(NOW + 300),
        };
        assert_eq!(judge(&good(), true), valid);
        assert_eq!(judge(&good(), false), valid);
    }

    #[test]
    fn each_claim_is_held_against_what_is_configured() {
        use serde_json::json;
        let refused = |reason: &str| Finding::Refused(reason.into());
        for (name, value, finding) in [
            ("exp", json!(NOW - 60), refused("has expired")),
            ("exp", json!(0), refused("has expired")),
            ("exp", Value::Null, refused("has no end")),
            ("exp", json!("1"), refused("has a time that is none")),
            ("exp", json!(-1), refused("has a time that is none")),
            ("nbf", json!(NOW + 61), refused("is not valid yet")),
            ("nbf", json!([]), refused("has a time that is none")),
            (
                "iss",
                json!("https://id.example.org/"),
                refused("is another issuer's"),
            ),
            (
                "iss",
                json!(["https://id.example.org"]),
                refused("is another issuer's"),
            ),
            ("iss", Value::Null, refused("is another issuer's")),
            ("aud", json!("other"), refused("is for another audience")),
            ("aud", json!([["mail"]]), refused("is for another audience")),
            ("aud", json!([]), refused("is for another audience")),
            ("aud", Value::Null, refused("is for another audience")),
            ("cnf", json!({"jkt": "x"}), refused("is bound to a key")),
            ("scope", json!("openid pop3x"), Finding::LacksScope),
            ("scope", Value::Null, Finding::LacksScope),
            ("scope", json!({"pop3": 1}), Finding::LacksScope),
            ("email", Value::Null, refused("email is missing")),
            ("email", json!(["joe"]), refused("email is no text")),
            ("email", json!(""), refused("email is no user's name")),
            (
                "email",
                json!("j\u{1}oe"),
                refused("email is no user's name"),
            ),
            (
                "email",
                json!("x".repeat(321)),
                refused("email is no user's name"),
            ),
            (
                "email_verified",
                json!(false),
                refused("email is not verified"),
            ),
            (
                "email_verified",
                json!("false"),
                refused("email is not verified"),
            ),
        ] {
            assert_eq!(with(name, value.clone()), finding, "{name} {value}");
        }
        for (name, value) in [
            ("exp", json!(NOW - 59)),
            ("exp", json!(1.9e9)),
            ("nbf", json!(NOW + 60)),
            ("nbf", Value::Null),
            ("aud", json!("popa3d")),
            ("scope", json!(["pop3"])),
            ("email_verified", json!(true)),
        ] {
            let finding = with(name, value.clone());
            assert!(
                matches!(finding, Finding::Valid { .. }),
                "{name} {value}: {finding:?}"
            );
        }
    }

    #[test]
    fn the_issuer_when_asked_need_not_name_itself_nor_an_end() {
        let mut members = good();
        members.remove("iss");
        members.remove("exp");
        members.remove("scope");
        members.insert("scp".into(), "pop3".into());
        let finding = judge(&members, false);
        assert!(
            matches!(finding, Finding::Valid { expires: None, .. }),
            "{finding:?}"
        );
        members.insert("token_type".into(), "DPoP".into());
        assert_eq!(
            judge(&members, false),
            Finding::Refused("is no bearer token".into())
        );
        members.insert("token_type".into(), "bearer".into());
        members.insert("iss".into(), "https://evil.example".into());
        assert_eq!(
            judge(&members, false),
            Finding::Refused("is another issuer's".into())
        );
    }
}
