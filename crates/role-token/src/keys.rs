//! A JWK set (RFC 7517): the public keys that an issuer signs tokens by.
//!
//! From a file of the administrator's, or from the issuer's server. Keys of kinds that are not known here, symmetric ones among
//! them, and keys with anything amiss are passed over, as RFC 7517 section 5 asks.

use std::fmt;

use base64ct::{Base64UrlUnpadded, Encoding};
use messages::token::Algorithm;
use ring::signature::{self, RsaParameters, RsaPublicKeyComponents, UnparsedPublicKey};
use serde::Deserialize;
use serde::de::IgnoredAny;

/// Keys of a set; issuers have two or three, old ones included, and many tenants' sets some dozens.
const MAX_KEYS: usize = 128;

/// Octets of a number of a key: RSA of 8192 bits.
const MAX_NUMBER_OCTETS: usize = 1024;

/// Octets of a coordinate on P-384.
const P384_OCTETS: usize = 48;

/// Octets of a coordinate on P-256, and of a key of Ed25519.
const P256_OCTETS: usize = 32;

/// Ahead of an uncompressed point (SEC 1 section 2.3.3).
const UNCOMPRESSED: u8 = 4;

/// Some public keys, at least one.
#[derive(Debug)]
pub struct KeySet(Vec<Key>);

/// One public key.
#[derive(Debug)]
pub struct Key {
    /// `kid`: its name.
    name: Option<String>,
    /// `alg`: the only algorithm that it is for.
    algorithm: Option<String>,
    material: Material,
}

#[derive(Debug)]
enum Material {
    Rsa { modulus: Vec<u8>, exponent: Vec<u8> },
    P256(Vec<u8>),
    P384(Vec<u8>),
    Ed25519(Vec<u8>),
}

/// Why a text is no key set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeySetError {
    /// No JSON, or not of that form.
    Malformed,
    /// None of its keys can be used.
    NoKey,
    /// More than [`MAX_KEYS`].
    TooMany,
}

impl fmt::Display for KeySetError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            KeySetError::Malformed => "is no JWK set",
            KeySetError::NoKey => "has no public key of RSA, P-256, P-384 or Ed25519",
            KeySetError::TooMany => "has too many keys",
        })
    }
}

#[derive(Deserialize)]
struct Set {
    keys: Vec<serde_json::Value>,
}

/// RFC 7517 section 4, RFC 7518 section 6, RFC 8037 section 2.
#[derive(Deserialize)]
struct Jwk {
    kty: String,
    kid: Option<String>,
    alg: Option<String>,
    #[serde(rename = "use")]
    usage: Option<String>,
    key_ops: Option<Vec<String>>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
    /// Of a symmetric key.
    k: Option<IgnoredAny>,
}

impl KeySet {
    /// Parses a set.
    ///
    /// # Errors
    /// [`KeySetError`].
    pub fn parse(json: &[u8]) -> Result<Self, KeySetError> {
        let set: Set = serde_json::from_slice(json).map_err(|_| KeySetError::Malformed)?;
        if set.keys.len() > MAX_KEYS {
            return Err(KeySetError::TooMany);
        }
        let keys: Vec<Key> = set.keys.into_iter().filter_map(Key::of_json).collect();
        if keys.is_empty() {
            return Err(KeySetError::NoKey);
        }
        Ok(Self(keys))
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// The key of that name that is for that algorithm; for a token that names none, the only one that is for it.
    pub fn find(&self, name: Option<&str>, algorithm: Algorithm) -> Option<&Key> {
        let fits = |key: &&Key| key.fits(algorithm);
        match name {
            Some(name) => self
                .0
                .iter()
                .filter(fits)
                .find(|key| key.name.as_deref() == Some(name)),
            None => {
                let mut fitting = self.0.iter().filter(fits);
                let only = fitting.next();
                only.filter(|_| fitting.next().is_none())
            }
        }
    }
}

impl Key {
    fn of_json(json: serde_json::Value) -> Option<Self> {
        let jwk: Jwk = serde_json::from_value(json).ok()?;
        let for_signatures = jwk.usage.as_deref().is_none_or(|usage| usage == "sig");
        let for_verifying = jwk
            .key_ops
            .as_ref()
            .is_none_or(|uses| uses.iter().any(|it| it == "verify"));
        if !for_signatures || !for_verifying || jwk.k.is_some() {
            return None;
        }
        Some(Self {
            material: Material::of(&jwk)?,
            name: jwk.kid,
            algorithm: jwk.alg,
        })
    }

    /// Whether it is for that algorithm, by its kind and by what it says itself. That the kind decides is what keeps a public key
    /// from being taken for the secret of an HMAC (RFC 8725 section 2.1).
    fn fits(&self, algorithm: Algorithm) -> bool {
        let kind = matches!(
            (&self.material, algorithm),
            (
                Material::Rsa { .. },
                Algorithm::RS256
                    | Algorithm::RS384
                    | Algorithm::RS512
                    | Algorithm::PS256
                    | Algorithm::PS384
                    | Algorithm::PS512
            ) | (Material::P256(_), Algorithm::ES256)
                | (Material::P384(_), Algorithm::ES384)
                | (Material::Ed25519(_), Algorithm::EdDSA)
        );
        // RFC 9864 gives EdDSA on this curve a name of its own.
        let own = |own: &str| {
            own == algorithm.name() || (own == "Ed25519" && algorithm == Algorithm::EdDSA)
        };
        kind && self.algorithm.as_deref().is_none_or(own)
    }

    /// Whether `signature` is of `octets` by the private half.
    pub fn verifies(&self, algorithm: Algorithm, octets: &[u8], signature: &[u8]) -> bool {
        let plain = |kind, key: &[u8]| UnparsedPublicKey::new(kind, key).verify(octets, signature);
        let verified = match &self.material {
            _ if !self.fits(algorithm) => return false,
            Material::P256(point) => plain(&signature::ECDSA_P256_SHA256_FIXED, point),
            Material::P384(point) => plain(&signature::ECDSA_P384_SHA384_FIXED, point),
            Material::Ed25519(key) => {
                UnparsedPublicKey::new(&signature::ED25519, key).verify(octets, signature)
            }
            Material::Rsa { modulus, exponent } => {
                let Some(parameters) = rsa_parameters(algorithm) else {
                    return false;
                };
                let components = RsaPublicKeyComponents {
                    n: modulus,
                    e: exponent,
                };
                components.verify(parameters, octets, signature)
            }
        };
        verified.is_ok()
    }
}

/// Keys of 2048 to 8192 bits.
fn rsa_parameters(algorithm: Algorithm) -> Option<&'static RsaParameters> {
    Some(match algorithm {
        Algorithm::RS256 => &signature::RSA_PKCS1_2048_8192_SHA256,
        Algorithm::RS384 => &signature::RSA_PKCS1_2048_8192_SHA384,
        Algorithm::RS512 => &signature::RSA_PKCS1_2048_8192_SHA512,
        Algorithm::PS256 => &signature::RSA_PSS_2048_8192_SHA256,
        Algorithm::PS384 => &signature::RSA_PSS_2048_8192_SHA384,
        Algorithm::PS512 => &signature::RSA_PSS_2048_8192_SHA512,
        Algorithm::ES256 | Algorithm::ES384 | Algorithm::EdDSA => return None,
    })
}

impl Material {
    fn of(jwk: &Jwk) -> Option<Self> {
        match (jwk.kty.as_str(), jwk.crv.as_deref()) {
            ("RSA", None) => Some(Self::Rsa {
                modulus: number(jwk.n.as_ref()?)?,
                exponent: number(jwk.e.as_ref()?)?,
            }),
            ("EC", Some("P-256")) => point(jwk, P256_OCTETS).map(Self::P256),
            ("EC", Some("P-384")) => point(jwk, P384_OCTETS).map(Self::P384),
            ("OKP", Some("Ed25519")) => exact(jwk.x.as_ref()?, P256_OCTETS).map(Self::Ed25519),
            _ => None,
        }
    }
}

/// Base64urlUInt (RFC 7518 section 2). Some issuers put a zero in front, which ring does not take.
fn number(text: &str) -> Option<Vec<u8>> {
    let octets = Base64UrlUnpadded::decode_vec(text).ok()?;
    let zeros = octets.iter().take_while(|&&octet| octet == 0).count();
    let octets = octets.get(zeros..)?.to_vec();
    (!octets.is_empty() && octets.len() <= MAX_NUMBER_OCTETS).then_some(octets)
}

fn exact(text: &str, octets: usize) -> Option<Vec<u8>> {
    let decoded = Base64UrlUnpadded::decode_vec(text).ok()?;
    (decoded.len() == octets).then_some(decoded)
}

fn point(jwk: &Jwk, octets: usize) -> Option<Vec<u8>> {
    let (x, y) = (
        exact(jwk.x.as_ref()?, octets)?,
        exact(jwk.y.as_ref()?, octets)?,
    );
    Some([vec![UNCOMPRESSED], x, y].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 7517 appendix A.1, the EC key; RFC 8037 appendix A.2.
    const EC: &str = r#"{"kty":"EC","crv":"P-256","x":"MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4","y":"4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM","use":"sig","kid":"1"}"#;
    const ED: &str =
        r#"{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}"#;

    fn set(keys: &[&str]) -> Result<KeySet, KeySetError> {
        KeySet::parse(format!("{{\"keys\":[{}]}}", keys.join(",")).as_bytes())
    }

    #[test]
    fn a_key_is_found_by_its_name_and_what_it_is_for() {
        let keys = set(&[EC, ED]).unwrap();
        assert!(keys.find(Some("1"), Algorithm::ES256).is_some());
        assert!(keys.find(Some("2"), Algorithm::ES256).is_none());
        for other in [Algorithm::RS256, Algorithm::ES384, Algorithm::EdDSA] {
            assert!(keys.find(Some("1"), other).is_none());
        }
        assert!(keys.find(None, Algorithm::EdDSA).is_some());
    }

    #[test]
    fn a_token_without_a_name_has_a_key_only_where_there_is_one() {
        let other = EC.replace("\"1\"", "\"2\"");
        assert!(set(&[EC]).unwrap().find(None, Algorithm::ES256).is_some());
        let two = set(&[EC, &other]).unwrap();
        assert!(two.find(None, Algorithm::ES256).is_none());
        assert!(two.find(Some("2"), Algorithm::ES256).is_some());
    }

    #[test]
    fn a_key_that_is_not_for_this_is_passed_over() {
        for (from, to) in [
            (r#""use":"sig""#, r#""use":"enc""#),
            (r#""use":"sig""#, r#""key_ops":["sign"]"#),
            (r#""use":"sig""#, r#""k":"AAAA""#),
            ("P-256", "P-521"),
            (r#""kty":"EC""#, r#""kty":"RSA""#),
            (r#""kty":"EC""#, r#""kty":"oct""#),
            ("MKBC", "KBC"),
            ("MKBC", "M+/C"),
            (r#""x":"#, r#""z":"#),
        ] {
            let key = EC.replace(from, to);
            assert_ne!(key, EC);
            assert_eq!(set(&[&key]).err(), Some(KeySetError::NoKey), "{key}");
            assert_eq!(set(&[&key, ED]).unwrap().len(), 1);
        }
        let only = EC.replace(r#""use":"sig""#, r#""alg":"ES512""#);
        let keys = set(&[&only]).unwrap();
        assert!(keys.find(Some("1"), Algorithm::ES256).is_none());
    }

    #[test]
    fn what_is_no_set_is_refused() {
        for text in ["", "[]", "{}", "null", r#"{"keys":{}}"#, EC] {
            assert_eq!(
                KeySet::parse(text.as_bytes()).err(),
                Some(KeySetError::Malformed),
                "{text}"
            );
        }
        let nested = "[".repeat(100_000);
        assert_eq!(
            KeySet::parse(nested.as_bytes()).err(),
            Some(KeySetError::Malformed)
        );
        assert_eq!(set(&[EC; MAX_KEYS + 1]).err(), Some(KeySetError::TooMany));
        assert_eq!(set(&[]).err(), Some(KeySetError::NoKey));
    }
}
