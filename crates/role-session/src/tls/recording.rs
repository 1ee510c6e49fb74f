//! A handshake kept as it was hashed, so that auth can see for itself that the client has the key of its certificate.
//!
//! rustls hashes the handshake's messages by what the cipher suite's provider offers, and asks that same provider for the
//! server's random number: here both are ring's, with a memory. The verifier of the client's certificate then finds the messages
//! whose hash the client has signed. There only where clients are asked for certificates, and for TLS 1.3 alone: what TLS 1.2
//! signs does not cover the server's certificate.
//!
//! What is kept is the thread's: a process serves one connection.

use std::cell::RefCell;
use std::fmt;
use std::sync::{Arc, LazyLock};

use messages::auth::{Handshake, MAX_SIGNATURE_OCTETS, MAX_TRANSCRIPT_OCTETS, ServerRandom};
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::hash::{Context, Hash, HashAlgorithm, Output};
use rustls::crypto::{CryptoProvider, GetRandomFailed, SecureRandom, ring};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    DigitallySignedStruct, DistinguishedName, Error, SignatureScheme, SupportedCipherSuite,
    Tls13CipherSuite,
};
use rustls_pki_types::{CertificateDer, UnixTime};

thread_local! {
    static KEPT: RefCell<Kept> = const { RefCell::new(Kept { random: None, hashed: None, shown: None }) };
}

#[derive(Default)]
struct Kept {
    /// What the server's random number has to be.
    random: Option<ServerRandom>,
    /// What was hashed last, and its hash.
    hashed: Option<(Vec<u8>, Vec<u8>)>,
    /// What auth can be shown.
    shown: Option<Handshake>,
}

/// The next handshake has this random number of the server's.
pub fn begin(random: ServerRandom) {
    KEPT.replace(Kept {
        random: Some(random),
        ..Kept::default()
    });
}

/// The handshake is over: what the client has shown and signed, if it has.
pub fn end() -> Option<Handshake> {
    KEPT.take().shown
}

/// ring, with a memory for handshakes of TLS 1.3.
pub fn provider() -> CryptoProvider {
    let plain = ring::default_provider();
    let others = plain.cipher_suites.iter().copied();
    let others = others.filter(|suite| suite.tls13().is_none());
    CryptoProvider {
        cipher_suites: SUITES
            .iter()
            .map(SupportedCipherSuite::Tls13)
            .chain(others)
            .collect(),
        secure_random: &GivenRandom,
        ..plain
    }
}

/// ring's suites of TLS 1.3.
fn plain_suites() -> impl Iterator<Item = &'static Tls13CipherSuite> {
    ring::DEFAULT_CIPHER_SUITES
        .iter()
        .filter_map(SupportedCipherSuite::tls13)
}

static HASHES: LazyLock<Vec<Recorder>> = LazyLock::new(|| {
    let recorder = |suite: &Tls13CipherSuite| Recorder(suite.common.hash_provider);
    plain_suites().map(recorder).collect()
});

/// The same with the hashes above.
static SUITES: LazyLock<Vec<Tls13CipherSuite>> = LazyLock::new(|| {
    plain_suites()
        .zip(HASHES.iter())
        .map(|(suite, hash)| {
            let mut recording = Tls13CipherSuite {
                common: rustls::crypto::CipherSuiteCommon {
                    suite: suite.common.suite,
                    hash_provider: suite.common.hash_provider,
                    confidentiality_limit: suite.common.confidentiality_limit,
                },
                hkdf_provider: suite.hkdf_provider,
                aead_alg: suite.aead_alg,
                quic: None,
            };
            recording.common.hash_provider = hash;
            recording
        })
        .collect()
});

static RANDOM: LazyLock<&'static dyn SecureRandom> =
    LazyLock::new(|| ring::default_provider().secure_random);

/// Numbers of that size are asked for by a server without tickets for one thing only, and more than once where the client
/// has to begin again.
#[derive(Debug)]
struct GivenRandom;

impl SecureRandom for GivenRandom {
    fn fill(&self, octets: &mut [u8]) -> Result<(), GetRandomFailed> {
        let given = KEPT.with_borrow(|kept| kept.random);
        match given {
            Some(random) if octets.len() == random.len() => {
                octets.copy_from_slice(&random);
                Ok(())
            }
            _ => RANDOM.fill(octets),
        }
    }
}

struct Recorder(&'static dyn Hash);

impl Hash for Recorder {
    fn start(&self) -> Box<dyn Context> {
        Box::new(Recording {
            inner: self.0.start(),
            octets: Some(Vec::new()),
        })
    }

    fn hash(&self, data: &[u8]) -> Output {
        self.0.hash(data)
    }

    fn output_len(&self) -> usize {
        self.0.output_len()
    }

    fn algorithm(&self) -> HashAlgorithm {
        self.0.algorithm()
    }
}

struct Recording {
    inner: Box<dyn Context>,
    /// What was hashed; `None`: more than auth takes.
    octets: Option<Vec<u8>>,
}

impl Context for Recording {
    fn fork_finish(&self) -> Output {
        let output = self.inner.fork_finish();
        let hashed = self.octets.clone();
        KEPT.with_borrow_mut(|kept| {
            kept.hashed = hashed.map(|octets| (octets, output.as_ref().to_vec()));
        });
        output
    }

    fn fork(&self) -> Box<dyn Context> {
        Box::new(Recording {
            inner: self.inner.fork(),
            octets: self.octets.clone(),
        })
    }

    fn finish(self: Box<Self>) -> Output {
        self.inner.finish()
    }

    fn update(&mut self, data: &[u8]) {
        self.inner.update(data);
        if let Some(octets) = &mut self.octets {
            octets.extend_from_slice(data);
            if octets.len() > MAX_TRANSCRIPT_OCTETS {
                self.octets = None;
            }
        }
    }
}

/// A verifier that keeps what it has found to be good.
pub struct Verifier(pub Arc<dyn ClientCertVerifier>);

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl ClientCertVerifier for Verifier {
    fn offer_client_auth(&self) -> bool {
        self.0.offer_client_auth()
    }

    fn client_auth_mandatory(&self) -> bool {
        self.0.client_auth_mandatory()
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.0.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.0.verify_client_cert(end_entity, intermediates, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0
            .verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let valid = self
            .0
            .verify_tls13_signature(message, certificate, signature)?;
        KEPT.with_borrow_mut(|kept| {
            let octets = signature.signature();
            kept.shown = kept
                .hashed
                .take()
                // The message ends with the hash of what was signed.
                .filter(|(_, hash)| message.ends_with(hash))
                .filter(|_| kept.random.is_some() && octets.len() <= MAX_SIGNATURE_OCTETS)
                .map(|(transcript, _)| Handshake {
                    transcript,
                    scheme: signature.scheme.into(),
                    signature: octets.to_vec(),
                });
        });
        Ok(valid)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use client_proof::handshake::Signature;
    use client_proof::{Refused, Shown};
    use rcgen::{CertificateParams, KeyPair, SanType};
    use rustls::crypto::{SupportedKxGroup, ring::kx_group};
    use rustls::server::WebPkiClientVerifier;
    use rustls::version::{TLS12, TLS13};
    use rustls::{
        ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection,
        SupportedProtocolVersion,
    };
    use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

    /// A certificate of the authority's, for a server or for a client with this address.
    fn identity(of: &str) -> (CertificateDer<'static>, PrivateKeyDer<'static>) {
        let key = KeyPair::generate().unwrap();
        let mut parameters = CertificateParams::new(vec!["mail.example.org".to_owned()]).unwrap();
        let address = SanType::Rfc822Name(of.try_into().unwrap());
        parameters.subject_alt_names.push(address);
        let issuer = authority();
        let certificate = parameters.signed_by(&key, &issuer.1).unwrap();
        let key = PrivatePkcs8KeyDer::from(key.serialize_der());
        (certificate.der().clone(), key.into())
    }

    fn authority() -> &'static (CertificateDer<'static>, rcgen::Issuer<'static, KeyPair>) {
        static AUTHORITY: LazyLock<(CertificateDer<'static>, rcgen::Issuer<'static, KeyPair>)> =
            LazyLock::new(|| {
                let mut parameters = CertificateParams::default();
                parameters.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
                let key = KeyPair::generate().unwrap();
                let certificate = parameters.self_signed(&key).unwrap();
                (
                    certificate.der().clone(),
                    rcgen::Issuer::new(parameters, key),
                )
            });
        &AUTHORITY
    }

    fn roots() -> Arc<RootCertStore> {
        let mut roots = RootCertStore::empty();
        roots.add(authority().0.clone()).unwrap();
        Arc::new(roots)
    }

    /// Shakes hands in memory. The server's certificate, and what was kept.
    fn shaken(
        version: &'static SupportedProtocolVersion,
        groups: &[&'static dyn SupportedKxGroup],
        shows: bool,
    ) -> (CertificateDer<'static>, Option<Handshake>) {
        let provider = Arc::new(CryptoProvider {
            kx_groups: groups.to_vec(),
            ..provider()
        });
        let verifier = WebPkiClientVerifier::builder_with_provider(roots(), Arc::clone(&provider))
            .allow_unauthenticated()
            .build()
            .unwrap();
        let (certificate, key) = identity("server@example.org");
        let mut server = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[version])
            .unwrap()
            .with_client_cert_verifier(Arc::new(Verifier(verifier)))
            .with_single_cert(vec![certificate.clone()], key)
            .unwrap();
        server.send_tls13_tickets = 0;
        let plain = Arc::new(ring::default_provider());
        let client = ClientConfig::builder_with_provider(plain)
            .with_protocol_versions(&[version])
            .unwrap()
            .with_root_certificates(roots());
        let client = if shows {
            let (certificate, key) = identity("joe@example.org");
            client
                .with_client_auth_cert(vec![certificate], key)
                .unwrap()
        } else {
            client.with_no_client_auth()
        };
        let name = "mail.example.org".try_into().unwrap();
        let mut client = ClientConnection::new(Arc::new(client), name).unwrap();
        begin([7; 32]);
        let mut server = ServerConnection::new(Arc::new(server)).unwrap();
        while client.is_handshaking() || server.is_handshaking() {
            let mut octets = Vec::new();
            while client.wants_write() {
                client.write_tls(&mut octets).unwrap();
            }
            let mut octets = octets.as_slice();
            while !octets.is_empty() {
                server.read_tls(&mut octets).unwrap();
                server.process_new_packets().unwrap();
            }
            let mut octets = Vec::new();
            while server.wants_write() {
                server.write_tls(&mut octets).unwrap();
            }
            let mut octets = octets.as_slice();
            while !octets.is_empty() {
                client.read_tls(&mut octets).unwrap();
                client.process_new_packets().unwrap();
            }
        }
        (certificate, end())
    }

    fn verified(own: &CertificateDer<'_>, kept: &Handshake) -> Result<Vec<String>, Refused> {
        let shown = Shown {
            transcript: &kept.transcript,
            signature: Signature {
                scheme: kept.scheme,
                octets: &kept.signature,
            },
        };
        let authorities = [client_proof::authority(&authority().0).unwrap()];
        let is_own = |certificate: &[u8]| certificate == own.as_ref();
        client_proof::verify(&shown, &[7; 32], is_own, &authorities, UnixTime::now())
            .map(|names| names.mail_addresses)
    }

    #[test]
    fn what_is_kept_of_a_handshake_proves_who_the_client_is() {
        // With the second a client that sends a key for the first has to begin again.
        for groups in [kx_group::X25519, kx_group::SECP384R1] {
            let (own, kept) = shaken(&TLS13, &[groups], true);
            let kept = kept.unwrap();
            assert_eq!(verified(&own, &kept).unwrap(), ["joe@example.org"]);
            let retried = kept.transcript.first() == Some(&254);
            assert_eq!(retried, groups.name() == kx_group::SECP384R1.name());
        }
    }

    #[test]
    fn without_a_certificate_or_tls_1_3_nothing_is_kept() {
        for (version, shows) in [(&TLS13, false), (&TLS12, true), (&TLS12, false)] {
            assert_eq!(shaken(version, &[kx_group::X25519], shows).1, None);
        }
        assert_eq!(end(), None);
    }

    #[test]
    fn a_handshake_that_is_too_long_is_not_kept() {
        let hash = HASHES.first().unwrap();
        let mut context = hash.start();
        let plain = hash.hash(&[]);
        assert_eq!(context.fork_finish().as_ref(), plain.as_ref());
        let hashed =
            || KEPT.with_borrow(|kept| kept.hashed.as_ref().map(|(octets, _)| octets.len()));
        assert_eq!(hashed(), Some(0));
        context.update(&vec![0; MAX_TRANSCRIPT_OCTETS]);
        let _ = context.fork_finish();
        assert_eq!(hashed(), Some(MAX_TRANSCRIPT_OCTETS));
        let mut fork = context.fork();
        fork.update(&[0]);
        let _ = fork.fork_finish();
        assert_eq!(hashed(), None);
    }
}
