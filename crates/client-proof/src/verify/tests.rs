use super::*;
use crate::made_up::{Key, Parts, Verify, message};
use proptest::prelude::*;
use rcgen::{CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, SanType};
use std::time::Duration;

/// 2030-01-01.
const NOW: u64 = 1_893_456_000;

struct World {
    anchors: Vec<TrustAnchor<'static>>,
    issuer: Issuer<'static, KeyPair>,
    server: (Vec<u8>, Key),
}

/// What is asked for in a certificate.
fn person() -> CertificateParams {
    let mut parameters = CertificateParams::default();
    parameters.subject_alt_names = vec![SanType::Rfc822Name("joe@example.org".try_into().unwrap())];
    parameters
        .distinguished_name
        .push(DnType::CommonName, "joe");
    parameters.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    parameters.not_before = rcgen::date_time_ymd(2029, 1, 1);
    parameters.not_after = rcgen::date_time_ymd(2031, 1, 1);
    parameters
}

impl World {
    fn new() -> World {
        let mut parameters = CertificateParams::default();
        parameters.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let certificate = parameters.self_signed(&key).unwrap();
        let server_key = KeyPair::generate().unwrap();
        let server = CertificateParams::new(vec!["mail.example.org".to_owned()]).unwrap();
        let server = server.self_signed(&server_key).unwrap();
        World {
            anchors: vec![authority(certificate.der()).unwrap()],
            issuer: Issuer::new(parameters, key),
            server: (server.der().to_vec(), server_key.serialize_der()),
        }
    }

    fn issue(&self, parameters: &CertificateParams) -> (Vec<u8>, Key) {
        let key = KeyPair::generate().unwrap();
        let certificate = parameters.signed_by(&key, &self.issuer).unwrap();
        (certificate.der().to_vec(), key.serialize_der())
    }

    /// A handshake of this client's with our server.
    fn parts(&self, client: &[u8]) -> Parts {
        Parts {
            server_chain: vec![self.server.0.clone()],
            server_key: Some(self.server.1.clone()),
            client_chain: vec![client.to_vec()],
            ..Parts::unsigned()
        }
    }

    fn verify(&self, transcript: &[u8], verify: &Verify) -> Result<Names, Refused> {
        self.verify_at(transcript, verify, NOW)
    }

    fn verify_at(&self, transcript: &[u8], by: &Verify, now: u64) -> Result<Names, Refused> {
        let shown = Shown {
            transcript,
            signature: Signature {
                scheme: by.scheme,
                octets: &by.signature,
            },
        };
        let is_ours = |certificate: &[u8]| certificate == self.server.0;
        let now = UnixTime::since_unix_epoch(Duration::from_secs(now));
        verify(&shown, &[7; 32], is_ours, &self.anchors, now)
    }
}

#[test]
fn a_handshake_that_both_have_signed_shows_who_the_client_is() {
    let world = World::new();
    let (certificate, key) = world.issue(&person());
    for suite in [0x1301, 0x1302, 0x1303] {
        let parts = Parts {
            suite,
            ..world.parts(&certificate)
        };
        // The server's signature differs from one making of the messages to the next.
        let transcript = parts.transcript();
        let names = world.verify(&transcript, &parts.client_verify_of(&key, &transcript));
        assert_eq!(names.unwrap().mail_addresses, ["joe@example.org"]);
    }
}

#[test]
fn without_the_clients_key_there_is_no_proof() {
    let world = World::new();
    let (certificate, key) = world.issue(&person());
    let (_, another) = world.issue(&person());
    let parts = world.parts(&certificate);
    let transcript = parts.transcript();
    let right = parts.client_verify_of(&key, &transcript);
    let refused = |verify: &Verify| world.verify(&transcript, verify).unwrap_err();
    assert_eq!(
        refused(&parts.client_verify_of(&another, &transcript)),
        Refused::Signature
    );
    // SHA-1, PKCS #1, other curves, and all that could be right for another key.
    for scheme in [
        0, 0x0201, 0x0203, 0x0401, 0x0503, 0x0603, 0x0804, 0x0805, 0x0806, 0x0807, 0x0808, 0x0809,
        0xFFFF,
    ] {
        let verify = Verify {
            scheme,
            ..right.clone()
        };
        assert_eq!(refused(&verify), Refused::Signature, "{scheme:x}");
    }
    for at in 0..right.signature.len() {
        let mut verify = right.clone();
        verify.signature.truncate(at);
        assert_eq!(refused(&verify), Refused::Signature);
    }
    // What the server has signed is no signature of the client's.
    let of_server = Handshake::parse(&transcript).unwrap().server_verify;
    let verify = Verify {
        scheme: of_server.scheme,
        signature: of_server.octets.to_vec(),
    };
    assert_eq!(refused(&verify), Refused::Signature);
}

#[test]
fn every_octet_of_the_handshake_is_covered() {
    let world = World::new();
    let (certificate, key) = world.issue(&person());
    let parts = world.parts(&certificate);
    let transcript = parts.transcript();
    let verify = parts.client_verify_of(&key, &transcript);
    assert!(world.verify(&transcript, &verify).is_ok());
    for at in 0..transcript.len() {
        let mut changed = transcript.clone();
        changed[at] ^= 1;
        assert!(world.verify(&changed, &verify).is_err(), "{at}");
        assert!(world.verify(&transcript[..at], &verify).is_err(), "{at}");
    }
}

#[test]
fn handshakes_of_other_sessions_and_servers_show_nothing() {
    let world = World::new();
    let (certificate, key) = world.issue(&person());
    let refused = |parts: &Parts| {
        let transcript = parts.transcript();
        let verify = parts.client_verify_of(&key, &transcript);
        world.verify(&transcript, &verify).unwrap_err()
    };
    let good = world.parts(&certificate);
    let replayed = Parts {
        random: [8; 32],
        ..good.clone()
    };
    assert_eq!(refused(&replayed), Refused::Replayed);
    let (others, others_key) = World::new().server;
    let elsewhere = Parts {
        server_chain: vec![others.clone()],
        server_key: Some(others_key.clone()),
        ..good.clone()
    };
    assert_eq!(refused(&elsewhere), Refused::AnotherServer);
    // Ours behind another's is another's.
    let behind = Parts {
        server_chain: vec![others, good.server_chain[0].clone()],
        server_key: Some(others_key.clone()),
        ..good.clone()
    };
    assert_eq!(refused(&behind), Refused::AnotherServer);
    for server_key in [Some(others_key), None] {
        let played = Parts {
            server_key,
            ..good.clone()
        };
        assert_eq!(refused(&played), Refused::ServerSignature);
    }
}

#[test]
fn only_an_authoritys_certificate_for_clients_counts_and_only_in_its_time() {
    let world = World::new();
    let refused_at = |world: &World, (certificate, key): (Vec<u8>, Key), now| {
        let parts = world.parts(&certificate);
        let transcript = parts.transcript();
        let verify = parts.client_verify_of(&key, &transcript);
        match world.verify_at(&transcript, &verify, now) {
            Err(Refused::Chain(error)) => format!("{error:?}"),
            other => panic!("{other:?}"),
        }
    };
    let year = 365 * 24 * 60 * 60;
    let good = world.issue(&person());
    assert!(refused_at(&world, good.clone(), NOW + 2 * year).starts_with("CertExpired"));
    assert!(refused_at(&world, good, NOW - 2 * year).starts_with("CertNotValidYet"));
    let foreign = World::new().issue(&person());
    // Its name is the same.
    assert_eq!(
        refused_at(&world, foreign, NOW),
        "InvalidSignatureForPublicKey"
    );
    let key = KeyPair::generate().unwrap();
    let own = person().self_signed(&key).unwrap();
    let own = (own.der().to_vec(), key.serialize_der());
    assert_eq!(refused_at(&world, own, NOW), "UnknownIssuer");
    let mut parameters = person();
    parameters.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let servers = world.issue(&parameters);
    assert!(refused_at(&world, servers, NOW).starts_with("RequiredEkuNotFound"));
}

#[test]
fn an_intermediate_authority_may_be_shown_along() {
    let world = World::new();
    let mut parameters = CertificateParams::default();
    parameters.is_ca = IsCa::Ca(rcgen::BasicConstraints::Constrained(0));
    let key = KeyPair::generate().unwrap();
    let certificate = parameters.signed_by(&key, &world.issuer).unwrap();
    let intermediate = Issuer::new(parameters, key);
    let key = KeyPair::generate().unwrap();
    let own = person().signed_by(&key, &intermediate).unwrap();
    let mut parts = world.parts(own.der());
    let verified = |parts: &Parts| {
        let transcript = parts.transcript();
        let verify = parts.client_verify_of(&key.serialize_der(), &transcript);
        world.verify(&transcript, &verify)
    };
    assert!(verified(&parts).is_err());
    parts.client_chain.push(certificate.der().to_vec());
    assert_eq!(verified(&parts).unwrap().common_names, ["joe"]);
}

proptest! {
    #[test]
    fn any_octets_come_out(data in proptest::collection::vec(any::<u8>(), 0..300)) {
        crate::fuzz::handshake(&data);
        crate::fuzz::proof(&data);
    }

    #[test]
    fn any_messages_come_out(
        messages in proptest::collection::vec((0_u8..24, proptest::collection::vec(any::<u8>(), 0..40)), 0..12),
        good in any::<bool>(),
        at in 0_usize..1000,
        with in any::<u8>(),
    ) {
        let mut octets: Vec<u8> = messages.iter().flat_map(|(kind, body)| message(*kind, body)).collect();
        if good {
            octets = Parts::unsigned().transcript();
            let at = at % octets.len();
            octets[at] = with;
        }
        crate::fuzz::handshake(&octets);
        crate::fuzz::proof(&octets);
    }
}
