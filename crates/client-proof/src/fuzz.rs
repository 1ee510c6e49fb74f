//! Plain functions for a fuzzer: each takes any octets, and panics only where the crate breaks a promise.
//!
//! Also run by the crate's own tests with random input.

use rustls_pki_types::UnixTime;

use crate::handshake::{Handshake, Signature};
use crate::{RANDOM_OCTETS, Shown, verify};

/// What is taken out of a handshake lies in it, in its place.
pub fn handshake(data: &[u8]) {
    let Some(handshake) = Handshake::parse(data) else {
        return;
    };
    assert_eq!(handshake.before_client_verify, data);
    assert!(data.starts_with(handshake.before_server_verify));
    let signed = handshake.before_server_verify;
    assert!(contains(signed, handshake.server_random));
    assert!(contains(signed, handshake.server_certificate));
    let behind = data.get(signed.len()..).unwrap_or_default();
    assert!(contains(behind, handshake.server_verify.octets));
    assert!(!handshake.client_chain.is_empty());
    for certificate in &handshake.client_chain {
        assert!(contains(behind, certificate));
    }
}

/// No handshake shows anything to somebody who trusts no authority, be the server's certificate whose it may.
pub fn proof(data: &[u8]) {
    let random = Handshake::parse(data).map_or([0; RANDOM_OCTETS], |it| *it.server_random);
    for length in [data.len(), data.len() / 2] {
        let (transcript, signature) = data.split_at(length);
        let shown = Shown {
            transcript,
            signature: Signature {
                scheme: 0x0403,
                octets: signature,
            },
        };
        let now = UnixTime::since_unix_epoch(std::time::Duration::ZERO);
        assert!(verify(&shown, &random, |_| true, &[], now).is_err());
    }
}

fn contains(octets: &[u8], part: &[u8]) -> bool {
    part.is_empty() || octets.windows(part.len()).any(|window| window == part)
}
