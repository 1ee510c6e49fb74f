//! Whoever issues access tokens: JSON web tokens (RFC 9068) signed by Ed25519, and its key set.

use base64ct::{Base64UrlUnpadded, Encoding};
use rcgen::{KeyPair, PKCS_ED25519, SigningKey};
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// What `iss` is.
pub const ISSUER: &str = "https://id.example.org";

/// What `aud` is.
pub const AUDIENCE: &str = "popa3d";

/// An issuer with one key.
#[derive(Debug)]
pub struct Issuer(KeyPair);

impl Issuer {
    /// A new one.
    ///
    /// # Panics
    /// When no key can be made.
    pub fn new() -> Issuer {
        Issuer(KeyPair::generate_for(&PKCS_ED25519).expect("a key"))
    }

    /// Writes its key set to `keys.json` in `directory`.
    ///
    /// # Panics
    /// When that is not possible.
    pub fn publish(&self, directory: &Path) -> PathBuf {
        let path = directory.join("keys.json");
        let x = Base64UrlUnpadded::encode_string(self.0.public_key_raw());
        let json = format!(r#"{{"keys":[{{"kty":"OKP","crv":"Ed25519","kid":"1","x":"{x}"}}]}}"#);
        fs::write(&path, json).expect("a key set");
        fs::set_permissions(&path, Permissions::from_mode(0o644)).expect("its mode");
        path
    }

    /// A token with these claims.
    ///
    /// # Panics
    /// When it cannot be signed.
    pub fn sign(&self, claims: &str) -> String {
        let encode = |octets: &[u8]| Base64UrlUnpadded::encode_string(octets);
        let header = encode(br#"{"alg":"EdDSA","kid":"1","typ":"at+jwt"}"#);
        let signed = format!("{header}.{}", encode(claims.as_bytes()));
        let signature = self.0.sign(signed.as_bytes()).expect("a signature");
        format!("{signed}.{}", encode(&signature))
    }

    /// A good token of `user`, made longer by `padding` octets.
    ///
    /// # Panics
    /// As [`Issuer::sign`].
    pub fn token(&self, user: &str, padding: usize) -> String {
        self.sign(&claims(user, 4_000_000_000, AUDIENCE, padding))
    }
}

impl Default for Issuer {
    fn default() -> Issuer {
        Issuer::new()
    }
}

/// The claims of a token of `user` until `end`, for `audience`.
pub fn claims(user: &str, end: u64, audience: &str, padding: usize) -> String {
    let padding = "x".repeat(padding);
    format!(
        r#"{{"iss":"{ISSUER}","aud":"{audience}","exp":{end},"preferred_username":"{user}","padding":"{padding}"}}"#
    )
}

/// The client's message in OAUTHBEARER (RFC 7628 section 3.1), in base64.
pub fn oauthbearer(authzid: &str, token: &str) -> String {
    base64(&format!("n,{authzid},\x01auth=Bearer {token}\x01\x01"))
}

/// The client's message in XOAUTH2, in base64.
pub fn xoauth2(user: &str, token: &str) -> String {
    base64(&format!("user={user}\x01auth=Bearer {token}\x01\x01"))
}

fn base64(text: &str) -> String {
    base64ct::Base64::encode_string(text.as_bytes())
}
