//! Which certificate a client is shown.
//!
//! First of all one that is for the name it asks for (RFC 6066 section 3), then one whose key it can verify, then the one
//! that is quickest to sign with, then the first in the configuration. A client that names another host, or none, gets a
//! certificate too: whether it is content with that is its decision.

use std::fmt;
use std::sync::Arc;

use messages::keyholder::{Certificate, KeyKind};
use rustls::SignatureScheme;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls_pki_types::CertificateDer;

use super::signing::{Keyholder, RemoteKey};

/// All certificates, in the order of the configuration.
pub struct Choice(Vec<Candidate>);

struct Candidate {
    names: Vec<String>,
    key: Arc<RemoteKey>,
    is_rsa: bool,
    certified: Arc<CertifiedKey>,
}

impl Choice {
    /// Among these.
    pub fn new(certificates: Vec<Certificate>, keyholder: &Arc<Keyholder>) -> Self {
        let candidate = |certificate: Certificate| {
            let key = Arc::new(RemoteKey::new(
                Arc::clone(keyholder),
                certificate.number,
                certificate.key,
            ));
            let chain = certificate.chain.into_iter().map(CertificateDer::from);
            Candidate {
                names: certificate.names,
                is_rsa: certificate.key == KeyKind::Rsa,
                certified: Arc::new(CertifiedKey::new(chain.collect(), Arc::clone(&key) as _)),
                key,
            }
        };
        Self(certificates.into_iter().map(candidate).collect())
    }

    fn best(&self, name: Option<&str>, offered: &[SignatureScheme]) -> Option<&Candidate> {
        let usable = |candidate: &&Candidate| candidate.key.can_sign(offered);
        self.0.iter().filter(usable).min_by_key(|candidate| {
            let is_for_it = name.is_some_and(|name| candidate.is_for(name));
            (!is_for_it, candidate.is_rsa)
        })
    }
}

impl Candidate {
    /// RFC 6125 section 6.4: a wildcard stands for one label.
    fn is_for(&self, host: &str) -> bool {
        self.names.iter().any(|name| match name.strip_prefix("*.") {
            Some(domain) => host.split_once('.').is_some_and(|(label, rest)| {
                !label.is_empty() && rest.eq_ignore_ascii_case(domain)
            }),
            None => host.eq_ignore_ascii_case(name),
        })
    }
}

impl ResolvesServerCert for Choice {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.best(hello.server_name(), hello.signature_schemes())
            .map(|candidate| Arc::clone(&candidate.certified))
    }
}

impl fmt::Debug for Choice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list()
            .entries(self.0.iter().map(|candidate| &candidate.names))
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use messages::keyholder::CertificateNumber;

    const ECDSA: SignatureScheme = SignatureScheme::ECDSA_NISTP256_SHA256;
    const PSS: SignatureScheme = SignatureScheme::RSA_PSS_SHA256;

    /// Certificates numbered by their place.
    fn choice(certificates: &[(&[&str], KeyKind)]) -> Choice {
        let certificate = |(number, (names, key)): (u32, &(&[&str], KeyKind))| Certificate {
            number: CertificateNumber(number),
            chain: Vec::new(),
            key: *key,
            names: names.iter().map(|&name| name.to_owned()).collect(),
            not_after: 0,
            end_point: None,
        };
        let certificates = (0..).zip(certificates).map(certificate).collect();
        Choice::new(certificates, &Arc::default())
    }

    fn chosen(choice: &Choice, name: Option<&str>, offered: &[SignatureScheme]) -> Option<usize> {
        let best = choice.best(name, offered)?;
        choice
            .0
            .iter()
            .position(|candidate| std::ptr::eq(candidate, best))
    }

    #[test]
    fn the_name_decides_and_then_what_the_client_can_verify() {
        let choice = choice(&[
            (&["one.example"], KeyKind::Rsa),
            (&["one.example"], KeyKind::EcdsaP256),
            (&["two.example", "*.three.example"], KeyKind::Rsa),
        ]);
        let both = [ECDSA, PSS];
        assert_eq!(chosen(&choice, Some("one.example"), &both), Some(1));
        assert_eq!(chosen(&choice, Some("One.Example"), &[PSS]), Some(0));
        assert_eq!(chosen(&choice, Some("two.example"), &both), Some(2));
        assert_eq!(chosen(&choice, Some("pop.three.example"), &both), Some(2));
        // Nobody's: as without a name.
        for name in [
            None,
            Some("three.example"),
            Some(".three.example"),
            Some("a.b.three.example"),
            Some("elsewhere"),
        ] {
            assert_eq!(chosen(&choice, name, &both), Some(1), "{name:?}");
            assert_eq!(chosen(&choice, name, &[PSS]), Some(0), "{name:?}");
        }
        // Its own certificate it could not verify, another's it can.
        assert_eq!(chosen(&choice, Some("two.example"), &[ECDSA]), Some(1));
        let none = [SignatureScheme::ED25519];
        assert_eq!(chosen(&choice, Some("one.example"), &none), None);
    }
}
