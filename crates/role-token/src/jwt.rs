//! JSON web tokens (RFC 7519) with a signature (RFC 7515, the compact form): read only as far as is needed to find the key until
//! the signature has been verified, and then as claims.
//!
//! What RFC 8725 warns of is not expressible here: an algorithm is one of a list that has neither `none` nor an HMAC, and a key
//! serves the algorithms of its own kind alone. Encrypted tokens, detached payloads and critical extensions are refused.

use base64ct::{Base64UrlUnpadded, Encoding};
use messages::token::Algorithm;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::{Map, Value};

use crate::keys::KeySet;

/// Octets of a header: an algorithm, a key's name, some of them a URL or a hash of a certificate.
const MAX_HEADER_OCTETS: usize = 4 * 1024;

/// Why a token is not valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Invalid {
    /// No key of that name is known: there may be newer ones.
    UnknownKey,
    /// Anything else, as a sentence for the log.
    Because(&'static str),
}

/// RFC 7515 section 4.1, as far as it concerns us. A member that comes twice is an error.
#[derive(Deserialize)]
struct Header {
    alg: String,
    kid: Option<String>,
    typ: Option<String>,
    crit: Option<IgnoredAny>,
}

/// The claims of a token that one of `keys` has signed.
///
/// # Errors
/// [`Invalid`].
pub fn verify(
    token: &[u8],
    keys: &KeySet,
    allowed: &[Algorithm],
) -> Result<Map<String, Value>, Invalid> {
    const MALFORMED: Invalid = Invalid::Because("is no signed JSON web token");
    let text = std::str::from_utf8(token).map_err(|_| MALFORMED)?;
    let (signed, signature) = text.rsplit_once('.').ok_or(MALFORMED)?;
    let (header, payload) = signed.split_once('.').ok_or(MALFORMED)?;
    // base64ct would refuse it too; here it is said what a token with five parts is.
    if payload.contains('.') {
        return Err(Invalid::Because("is encrypted"));
    }
    if header.len() > MAX_HEADER_OCTETS {
        return Err(Invalid::Because("has too long a header"));
    }
    let decode = |part: &str| Base64UrlUnpadded::decode_vec(part).map_err(|_| MALFORMED);
    let header: Header = serde_json::from_slice(&decode(header)?).map_err(|_| MALFORMED)?;
    if header.crit.is_some() {
        return Err(Invalid::Because("has a critical extension"));
    }
    if header
        .typ
        .as_deref()
        .is_some_and(|typ| !is_access_token(typ))
    {
        return Err(Invalid::Because("is of another type"));
    }
    let algorithm = Algorithm::from_name(&header.alg)
        .filter(|algorithm| allowed.contains(algorithm))
        .ok_or(Invalid::Because(
            "is signed by an algorithm that is not allowed",
        ))?;
    let key = keys
        .find(header.kid.as_deref(), algorithm)
        .ok_or(Invalid::UnknownKey)?;
    if !key.verifies(algorithm, signed.as_bytes(), &decode(signature)?) {
        return Err(Invalid::Because("has a wrong signature"));
    }
    serde_json::from_slice(&decode(payload)?).map_err(|_| MALFORMED)
}

/// `JWT` of RFC 7519, `at+jwt` of RFC 9068; a media type, so in any case and `application/` may stand in front.
fn is_access_token(typ: &str) -> bool {
    let typ = typ.to_ascii_lowercase();
    let typ = typ.strip_prefix("application/").unwrap_or(&typ);
    matches!(typ, "jwt" | "at+jwt")
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use proptest::prelude::*;
    use ring::rand::SystemRandom;
    use ring::signature::{
        ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _,
    };

    pub fn base64(octets: &[u8]) -> String {
        Base64UrlUnpadded::encode_string(octets)
    }

    /// An issuer's key on P-256, of the name `k1`.
    pub struct Issuer {
        key: EcdsaKeyPair,
        random: SystemRandom,
    }

    impl Issuer {
        pub fn new() -> Self {
            let random = SystemRandom::new();
            let algorithm = &ECDSA_P256_SHA256_FIXED_SIGNING;
            let document = EcdsaKeyPair::generate_pkcs8(algorithm, &random).unwrap();
            let key = EcdsaKeyPair::from_pkcs8(algorithm, document.as_ref(), &random).unwrap();
            Self { key, random }
        }

        pub fn jwk(&self) -> String {
            let (x, y) = self.key.public_key().as_ref()[1..].split_at(32);
            let (x, y) = (base64(x), base64(y));
            format!(r#"{{"kty":"EC","crv":"P-256","kid":"k1","x":"{x}","y":"{y}"}}"#)
        }

        pub fn keys(&self) -> KeySet {
            KeySet::parse(format!(r#"{{"keys":[{}]}}"#, self.jwk()).as_bytes()).unwrap()
        }

        pub fn sign(&self, header: &str, claims: &str) -> String {
            let signed = format!(
                "{}.{}",
                base64(header.as_bytes()),
                base64(claims.as_bytes())
            );
            let signature = self.key.sign(&self.random, signed.as_bytes()).unwrap();
            format!("{signed}.{}", base64(signature.as_ref()))
        }
    }

    const HEADER: &str = r#"{"alg":"ES256","kid":"k1","typ":"at+jwt"}"#;

    fn check(issuer: &Issuer, token: &str) -> Result<Map<String, Value>, Invalid> {
        verify(token.as_bytes(), &issuer.keys(), &Algorithm::ALL)
    }

    #[test]
    fn a_signed_token_gives_its_claims() {
        let issuer = Issuer::new();
        let claims = check(&issuer, &issuer.sign(HEADER, r#"{"sub":"joe"}"#)).unwrap();
        assert_eq!(claims["sub"], "joe");
    }

    #[test]
    fn the_example_of_rfc_8037_is_no_claims_but_verifies() {
        // Appendix A.4: signed by Ed25519, the payload is a text.
        let jwk =
            r#"{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}"#;
        let keys = KeySet::parse(format!(r#"{{"keys":[{jwk}]}}"#).as_bytes()).unwrap();
        let token = "eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc.hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg";
        let of = |token: &str| verify(token.as_bytes(), &keys, &Algorithm::ALL);
        let malformed = Invalid::Because("is no signed JSON web token");
        assert_eq!(of(token), Err(malformed));
        let other = token.replace(".hgyY", ".hgyZ");
        assert_eq!(of(&other), Err(Invalid::Because("has a wrong signature")));
        let pair = Ed25519KeyPair::from_seed_unchecked(&[7; 32]).unwrap();
        let x = base64(pair.public_key().as_ref());
        let jwk = format!(r#"{{"keys":[{{"kty":"OKP","crv":"Ed25519","x":"{x}"}}]}}"#);
        let signed = format!("{}.{}", base64(br#"{"alg":"EdDSA"}"#), base64(b"{}"));
        let token = format!("{signed}.{}", base64(pair.sign(signed.as_bytes()).as_ref()));
        let keys = KeySet::parse(jwk.as_bytes()).unwrap();
        assert_eq!(
            verify(token.as_bytes(), &keys, &Algorithm::ALL),
            Ok(Map::new())
        );
    }

    #[test]
    fn the_rs256_example_of_rfc_7515_verifies() {
        // Appendix A.2.
        let jwk = r#"{"kty":"RSA","n":"ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ","e":"AQAB"}"#;
        let token = "eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ.cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt_O8W2Fp5jujGbds9uJdbF9CUAr7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb1L07Qe7K0GarZRmB_eSN9383LcOLn6_dO--xi12jzDwusC-eOkHWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWywlVmtVrBp0igcN_IoypGlUPQGe77Rw";
        let keys = KeySet::parse(format!(r#"{{"keys":[{jwk}]}}"#).as_bytes()).unwrap();
        let claims = verify(token.as_bytes(), &keys, &[Algorithm::RS256]).unwrap();
        assert_eq!(claims["iss"], "joe");
        // The same key, as if it were for PSS.
        assert_eq!(
            verify(token.as_bytes(), &keys, &[Algorithm::PS256]),
            Err(Invalid::Because(
                "is signed by an algorithm that is not allowed"
            ))
        );
    }

    #[test]
    fn no_algorithm_gets_past_the_list() {
        let issuer = Issuer::new();
        for alg in [
            "none", "None", "HS256", "HS512", "ES384", "RS256", "", "ES256 ",
        ] {
            let header = HEADER.replace("ES256", alg);
            let token = issuer.sign(&header, "{}");
            assert!(check(&issuer, &token).is_err(), "{alg}");
            // Without a signature too.
            let bare = &token[..=token.rfind('.').unwrap()];
            assert!(check(&issuer, bare).is_err(), "{alg}");
        }
        // The public key as the secret of an HMAC (RFC 8725 section 2.1).
        let header = base64(HEADER.replace("ES256", "HS256").as_bytes());
        let signed = format!("{header}.{}", base64(b"{}"));
        let secret = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, issuer.jwk().as_bytes());
        let tag = ring::hmac::sign(&secret, signed.as_bytes());
        let token = format!("{signed}.{}", base64(tag.as_ref()));
        assert!(check(&issuer, &token).is_err());
    }

    #[test]
    fn a_key_that_is_not_known_may_be_new() {
        let issuer = Issuer::new();
        let token = issuer.sign(&HEADER.replace("k1", "k2"), "{}");
        assert_eq!(check(&issuer, &token), Err(Invalid::UnknownKey));
        let stranger = Issuer::new().sign(HEADER, "{}");
        assert_eq!(
            check(&issuer, &stranger),
            Err(Invalid::Because("has a wrong signature"))
        );
    }

    #[test]
    fn headers_that_ask_for_more_are_refused() {
        let issuer = Issuer::new();
        for header in [
            r#"{"alg":"ES256","kid":"k1","crit":["b64"],"b64":false}"#,
            r#"{"alg":"ES256","kid":"k1","typ":"logout+jwt"}"#,
            r#"{"alg":"ES256","kid":"k1","typ":"dpop+jwt"}"#,
            r#"{"alg":"HS256","alg":"ES256","kid":"k1"}"#,
            r#"{"alg":["ES256"],"kid":"k1"}"#,
            r#"{"kid":"k1"}"#,
            r#"{"alg":"ES256","kid":7}"#,
            "[]",
            "",
        ] {
            let token = issuer.sign(header, "{}");
            assert!(check(&issuer, &token).is_err(), "{header}");
        }
        let long = format!(r#"{{"alg":"ES256","kid":"k1","x":"{}"}}"#, "x".repeat(4096));
        assert_eq!(
            check(&issuer, &issuer.sign(&long, "{}")),
            Err(Invalid::Because("has too long a header"))
        );
    }

    #[test]
    fn a_token_cut_or_changed_anywhere_is_none() {
        let issuer = Issuer::new();
        let token = issuer.sign(HEADER, r#"{"sub":"joe"}"#);
        for end in 0..token.len() {
            assert!(check(&issuer, &token[..end]).is_err(), "{end}");
        }
        for at in 0..token.len() {
            let mut changed = token.clone().into_bytes();
            changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
            assert!(
                verify(&changed, &issuer.keys(), &Algorithm::ALL).is_err(),
                "{at}"
            );
        }
        assert!(check(&issuer, &format!("{token}.x.y")).is_err());
        assert!(check(&issuer, &format!("{token}=")).is_err());
    }

    #[test]
    fn claims_nested_without_end_are_refused() {
        let issuer = Issuer::new();
        for claims in [
            "[".repeat(40_000),
            r#"{"a":"#.repeat(9000),
            "\"joe\"".into(),
        ] {
            let token = issuer.sign(HEADER, &claims);
            assert!(check(&issuer, &token).is_err());
        }
    }

    proptest! {
        #[test]
        fn anything_is_refused_or_verified(token in "\\PC*") {
            let keys = Issuer::new().keys();
            prop_assert!(verify(token.as_bytes(), &keys, &Algorithm::ALL).is_err());
        }
    }
}
