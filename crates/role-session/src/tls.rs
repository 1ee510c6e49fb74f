//! TLS of the sessions (RFC 8446, RFC 5246; RFC 2595 and RFC 8314 for POP3).
//!
//! All that is the same for every session is made once, in the session spawner, so that it costs a session nothing. The
//! private keys are not here: [`signing`] asks the keyholder.

mod choice;
mod recording;
mod signing;

use std::collections::HashMap;
use std::fmt;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use confine::channel::Channel;
use messages::auth::{Handshake, ServerRandom};
use messages::keyholder::{Certificate, CertificateNumber};
use rustix::io::{Errno, read};
use rustls::crypto::ring;
use rustls::server::{NoServerSessionStorage, ServerConnection, WebPkiClientVerifier};
use rustls::{RootCertStore, ServerConfig};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

use choice::Choice;
use signing::Keyholder;

/// RFC 7301's name of POP3: a client that means another protocol is not talked to.
const ALPN: &[u8] = b"pop3";

/// Octets of TLS records that wait to be sent: what the relay puts in at a time, and its records' heads and tails.
const MAX_UNSENT_OCTETS: usize = 64 * 1024;

/// Octets of the authorities' file: the large collections of all the world's have half of that.
const MAX_AUTHORITIES_OCTETS: usize = 1024 * 1024;

/// What a set of certificates makes possible.
#[derive(Clone)]
pub struct Tls {
    configuration: Arc<ServerConfig>,
    keyholder: Arc<Keyholder>,
    end_points: HashMap<CertificateNumber, Vec<u8>>,
    asks_for_certificates: bool,
}

/// What is to be told of a handshake that is over.
#[derive(Debug)]
pub struct Shaken {
    /// What names the certificate that the server has shown (`tls-server-end-point`, RFC 5929 section 4.1).
    pub end_point: Option<Vec<u8>>,
    /// What shows that the client has the key of the certificate that it has shown.
    pub handshake: Option<Handshake>,
}

impl Tls {
    /// With these certificates, the first for clients that name no other. With `authorities`, clients may show a
    /// certificate of theirs, and one that is shown must hold.
    ///
    /// # Errors
    /// One sentence for the log.
    pub fn new(
        certificates: Vec<Certificate>,
        authorities: Option<&RootCertStore>,
    ) -> Result<Self, String> {
        let text = |error: &dyn fmt::Display| error.to_string();
        if certificates.is_empty() {
            return Err("there is no certificate".to_owned());
        }
        let keyholder = Arc::new(Keyholder::default());
        // ring asks the processor what it can do before its first work: here, once, and not in every session.
        let _ = rustls::crypto::ring::cipher_suite::TLS13_AES_128_GCM_SHA256
            .tls13()
            .map(|suite| suite.common.hash_provider.start().finish());
        let provider = Arc::new(match authorities {
            None => ring::default_provider(),
            Some(_) => recording::provider(),
        });
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(|error| text(&error))?;
        let builder = match authorities {
            None => builder.with_no_client_auth(),
            Some(authorities) => {
                let roots = Arc::new(authorities.clone());
                let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider)
                    .allow_unauthenticated()
                    .build()
                    .map_err(|error| text(&error))?;
                builder.with_client_cert_verifier(Arc::new(recording::Verifier(verifier)))
            }
        };
        let end_points = certificates
            .iter()
            .filter_map(|it| Some((it.number, it.end_point.clone()?)))
            .collect();
        let choice = Choice::new(certificates, &keyholder);
        let mut configuration = builder.with_cert_resolver(Arc::new(choice));
        configuration.alpn_protocols = vec![ALPN.to_vec()];
        // A ticket's key would have to be in every session process, and POP3 has little to gain.
        configuration.send_tls13_tickets = 0;
        configuration.session_storage = Arc::new(NoServerSessionStorage {});
        Ok(Self {
            configuration: Arc::new(configuration),
            keyholder,
            end_points,
            asks_for_certificates: authorities.is_some(),
        })
    }

    /// Whether clients are asked for certificates.
    pub fn asks_for_certificates(&self) -> bool {
        self.asks_for_certificates
    }

    /// The server's side of a connection that is about to shake hands; `keyholder` is this session's channel to it. With a random
    /// number from auth, the client can log in by the certificate that it shows.
    ///
    /// # Errors
    /// None known.
    pub fn connection(
        &self,
        keyholder: Channel,
        random: Option<ServerRandom>,
    ) -> Result<ServerConnection, rustls::Error> {
        self.keyholder.meet(keyholder);
        if let Some(random) = random {
            recording::begin(random);
        }
        let mut connection = ServerConnection::new(Arc::clone(&self.configuration))?;
        connection.set_buffer_limit(Some(MAX_UNSENT_OCTETS));
        Ok(connection)
    }

    /// The handshake is over: the keyholder is asked nothing more.
    pub fn part(&self) -> Shaken {
        let number = self.keyholder.part();
        Shaken {
            end_point: number.and_then(|number| self.end_points.get(&number).cloned()),
            handshake: recording::end(),
        }
    }
}

/// Reads the authorities of client certificates.
///
/// # Errors
/// One sentence for the log.
pub fn read_authorities(file: &OwnedFd) -> Result<RootCertStore, String> {
    let mut text = vec![0; MAX_AUTHORITIES_OCTETS];
    let mut filled = 0;
    loop {
        let space = text.get_mut(filled..).unwrap_or_default();
        if space.is_empty() {
            return Err("client_ca: longer than 1 MiB".to_owned());
        }
        match read(file, space) {
            Ok(0) => break,
            Ok(octets) => filled = filled.saturating_add(octets),
            Err(Errno::INTR) => {}
            Err(error) => return Err(format!("client_ca: {error}")),
        }
    }
    let mut authorities = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(text.get(..filled).unwrap_or_default()) {
        certificate
            .map_err(|error| error.to_string())
            .and_then(|certificate| {
                authorities
                    .add(certificate)
                    .map_err(|error| error.to_string())
            })
            .map_err(|error| format!("client_ca: {error}"))?;
    }
    if authorities.is_empty() {
        return Err("client_ca: there is no CERTIFICATE in it".to_owned());
    }
    Ok(authorities)
}
