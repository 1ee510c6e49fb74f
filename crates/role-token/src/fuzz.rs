//! Fuzz targets as plain functions: any octets, no panic, and nothing accepted that must not be.

use std::time::SystemTime;

use messages::token::{Algorithm, Finding, Method, TokenConfig};

use crate::checker::introspected;
use crate::claims::Claims;
use crate::jwt;
use crate::keys::KeySet;

/// The key of RFC 8037 appendix A.2, whose private half no fuzzer uses.
const KEYS: &[u8] = br#"{"keys":[{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}"#;

/// A token by keys of somebody else.
///
/// # Panics
/// It is accepted.
pub fn token(octets: &[u8]) {
    if let Ok(keys) = KeySet::parse(KEYS) {
        assert!(jwt::verify(octets, &keys, &Algorithm::ALL).is_err());
    }
}

/// A key set: what it has of keys is searched and tried.
///
/// # Panics
/// A key verifies a signature of nothing.
pub fn key_set(octets: &[u8]) {
    let Ok(keys) = KeySet::parse(octets) else {
        return;
    };
    for algorithm in Algorithm::ALL {
        if let Some(key) = keys.find(None, algorithm) {
            assert!(!key.verifies(algorithm, octets, b""));
        }
    }
}

/// An answer of an introspection server, with every claim wanted that there is.
///
/// # Panics
/// A name is accepted that is none.
pub fn introspection(octets: &[u8]) {
    let Ok(members) = introspected(octets) else {
        return;
    };
    let configuration = TokenConfig {
        method: Method::KeyFile,
        issuer: Some("i".into()),
        audience: vec!["a".into()],
        scope: vec!["s".into()],
        algorithms: Vec::new(),
        user_claim: "username".into(),
        timeout: std::time::Duration::ZERO,
        workers: 1,
        keys_kept: std::time::Duration::ZERO,
        refresh_interval: std::time::Duration::ZERO,
    };
    let claims = Claims {
        members: &members,
        are_carried: false,
    };
    if let Finding::Valid { user, .. } = claims.judge(&configuration, SystemTime::UNIX_EPOCH) {
        assert!(!user.is_empty() && !user.chars().any(char::is_control));
    }
}
