//! Whom to trust, and what to show: the TLS side of a connection.
//!
//! A certificate is either found good by the authorities that are trusted, for the host's name, or it is one that was pinned
//! by its fingerprint. There is no way to turn the check off.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, OtherError, RootCertStore,
    SignatureScheme,
};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use sha2::{Digest, Sha256};

use crate::error::{Error, ErrorKind, Phase};

/// The SHA-256 of a certificate: written in hexadecimal, read with or without `sha256:` and colons.
///
/// ```
/// use net_pop3::Fingerprint;
///
/// let text = "sha256:00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff";
/// assert_eq!(text.parse::<Fingerprint>()?.to_string(), text);
/// # Ok::<(), net_pop3::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Fingerprint([u8; 32]);

impl Fingerprint {
    /// Of a certificate in DER.
    ///
    /// ```
    /// let fingerprint = net_pop3::Fingerprint::of(b"a certificate in DER");
    /// ```
    pub fn of(certificate: &[u8]) -> Fingerprint {
        Fingerprint(Sha256::digest(certificate).into())
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("sha256:")?;
        self.0.iter().try_for_each(|octet| write!(f, "{octet:02x}"))
    }
}

impl FromStr for Fingerprint {
    type Err = Error;

    fn from_str(text: &str) -> Result<Fingerprint, Error> {
        let malformed = || configuration("a fingerprint is the 64 hexadecimal digits of a SHA-256");
        let digits: String = text
            .strip_prefix("sha256:")
            .unwrap_or(text)
            .chars()
            .filter(|character| *character != ':')
            .collect();
        if digits.len() != 64 || !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return Err(malformed());
        }
        let mut octets = [0; 32];
        for (octet, pair) in octets.iter_mut().zip(digits.as_bytes().chunks(2)) {
            let pair = std::str::from_utf8(pair).map_err(|_| malformed())?;
            *octet = u8::from_str_radix(pair, 16).map_err(|_| malformed())?;
        }
        Ok(Fingerprint(octets))
    }
}

/// Which servers are trusted, and which certificate is shown to them.
///
/// ```no_run
/// use net_pop3::TlsOptions;
///
/// let tls = TlsOptions::platform().add_ca_pem(&std::fs::read("/etc/ssl/our-own-ca.pem")?)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct TlsOptions {
    authorities: Authorities,
    own_authorities: Vec<CertificateDer<'static>>,
    pins: Vec<Fingerprint>,
    identity: Option<Arc<Identity>>,
    config: Option<Arc<ClientConfig>>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Authorities {
    #[cfg_attr(feature = "native-roots", default)]
    #[cfg(feature = "native-roots")]
    Platform,
    #[cfg(feature = "webpki-roots")]
    #[cfg_attr(not(feature = "native-roots"), default)]
    Mozilla,
    #[cfg_attr(not(any(feature = "native-roots", feature = "webpki-roots")), default)]
    None,
}

/// What this side shows.
struct Identity {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Identity(…)")
    }
}

impl TlsOptions {
    /// Trusts the authorities that the system trusts, as other programs on it do.
    ///
    /// ```
    /// let tls = net_pop3::TlsOptions::platform();
    /// ```
    #[cfg(feature = "native-roots")]
    pub fn platform() -> TlsOptions {
        TlsOptions {
            authorities: Authorities::Platform,
            ..TlsOptions::default()
        }
    }

    /// Trusts the authorities that Mozilla trusted when the program was built.
    ///
    /// ```
    /// let tls = net_pop3::TlsOptions::mozilla();
    /// ```
    #[cfg(feature = "webpki-roots")]
    pub fn mozilla() -> TlsOptions {
        TlsOptions {
            authorities: Authorities::Mozilla,
            ..TlsOptions::default()
        }
    }

    /// Trusts nobody but whom [`add_ca_pem`](TlsOptions::add_ca_pem) and [`pin_sha256`](TlsOptions::pin_sha256) name.
    ///
    /// ```
    /// # let pem = &scripted_server::certificate::CERTIFICATES.ca;
    /// let tls = net_pop3::TlsOptions::nobody().add_ca_pem(pem.as_bytes())?;
    /// # Ok::<(), net_pop3::Error>(())
    /// ```
    pub fn nobody() -> TlsOptions {
        TlsOptions {
            authorities: Authorities::None,
            ..TlsOptions::default()
        }
    }

    /// Hands over a configuration of rustls instead of all other options.
    ///
    /// ```
    /// use std::sync::Arc;
    /// use rustls::{ClientConfig, RootCertStore};
    ///
    /// let provider = Arc::new(rustls::crypto::ring::default_provider());
    /// let config = ClientConfig::builder_with_provider(provider)
    ///     .with_safe_default_protocol_versions()?
    ///     .with_root_certificates(RootCertStore::empty())
    ///     .with_no_client_auth();
    /// let tls = net_pop3::TlsOptions::rustls(Arc::new(config));
    /// # Ok::<(), rustls::Error>(())
    /// ```
    pub fn rustls(config: Arc<ClientConfig>) -> TlsOptions {
        TlsOptions {
            config: Some(config),
            ..TlsOptions::nobody()
        }
    }

    /// Trusts the authorities in a PEM file besides. A server's own certificate in it is trusted as if it were
    /// [pinned](TlsOptions::pin_sha256), whoever issued it: self-signed ones mostly say that they are authorities, which no server may
    /// be.
    ///
    /// ```
    /// # let pem = &scripted_server::certificate::CERTIFICATES.ca;
    /// let tls = net_pop3::TlsOptions::nobody().add_ca_pem(pem.as_bytes())?;
    /// # Ok::<(), net_pop3::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::Configuration`] if there is no certificate in it, or something that is none.
    pub fn add_ca_pem(mut self, pem: &[u8]) -> Result<TlsOptions, Error> {
        self.own_authorities.extend(certificates(pem)?);
        Ok(self)
    }

    /// Trusts the certificate with this fingerprint, whatever else it says; once one is pinned, no other is trusted. May be
    /// called several times, for the time around a change of certificates.
    ///
    /// ```
    /// # let fingerprint = "00".repeat(32);
    /// let tls = net_pop3::TlsOptions::nobody().pin_sha256(fingerprint.parse()?);
    /// # Ok::<(), net_pop3::Error>(())
    /// ```
    pub fn pin_sha256(mut self, fingerprint: Fingerprint) -> TlsOptions {
        self.pins.push(fingerprint);
        self
    }

    /// Shows a certificate if the server asks for one: for [`Credentials::external`](crate::Credentials::external). The
    /// chain and the key are PEM.
    ///
    /// ```
    /// # let made = &scripted_server::certificate::CERTIFICATES;
    /// # let (chain, key) = (&made.certificate, &made.key);
    /// let tls = net_pop3::TlsOptions::nobody().client_certificate(chain.as_bytes(), key.as_bytes())?;
    /// # Ok::<(), net_pop3::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::Configuration`] if either is not what it should be.
    pub fn client_certificate(mut self, chain: &[u8], key: &[u8]) -> Result<TlsOptions, Error> {
        let key = PrivateKeyDer::from_pem_slice(key)
            .map_err(|error| configuration(&format!("the client's key: {error}")))?;
        let chain = certificates(chain)?;
        self.identity = Some(Arc::new(Identity { chain, key }));
        Ok(self)
    }

    /// What rustls needs to know.
    pub(crate) fn client_config(&self) -> Result<Arc<ClientConfig>, Error> {
        if let Some(config) = &self.config {
            return Ok(config.clone());
        }
        let provider = Arc::new(ring::default_provider());
        let verifier = Verifier {
            authorities: self.verifier(&provider)?,
            pins: self.pins.clone(),
            own: self.own_authorities.clone(),
            provider: provider.clone(),
        };
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| configuration(&error.to_string()))?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier));
        let config = match self.identity.as_deref() {
            None => builder.with_no_client_auth(),
            Some(Identity { chain, key }) => builder
                .with_client_auth_cert(chain.clone(), key.clone_key())
                .map_err(|error| configuration(&format!("the client's certificate: {error}")))?,
        };
        Ok(Arc::new(config))
    }

    /// `None` if nobody is trusted but pinned certificates.
    fn verifier(
        &self,
        provider: &Arc<CryptoProvider>,
    ) -> Result<Option<Arc<WebPkiServerVerifier>>, Error> {
        if !self.pins.is_empty() {
            return Ok(None);
        }
        let mut roots = RootCertStore::empty();
        match self.authorities {
            #[cfg(feature = "native-roots")]
            Authorities::Platform => {
                // A file of the system that cannot be read is no reason to trust nobody.
                let found = rustls_native_certs::load_native_certs();
                roots.add_parsable_certificates(found.certs);
            }
            #[cfg(feature = "webpki-roots")]
            Authorities::Mozilla => roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned()),
            Authorities::None => (),
        }
        for authority in &self.own_authorities {
            roots
                .add(authority.clone())
                .map_err(|error| configuration(&format!("the authority's certificate: {error}")))?;
        }
        if roots.is_empty() {
            return Err(configuration(
                "no certificate authority is trusted, and no certificate pinned",
            ));
        }
        WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider.clone())
            .build()
            .map(Some)
            .map_err(|error| configuration(&error.to_string()))
    }
}

fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, Error> {
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match certificates {
        Ok(certificates) if !certificates.is_empty() => Ok(certificates),
        Ok(_) => Err(configuration("there is no certificate in the PEM file")),
        Err(error) => Err(configuration(&format!("certificate: {error}"))),
    }
}

fn configuration(reason: &str) -> Error {
    Error::new(Phase::Tls, ErrorKind::Configuration(reason.to_owned()))
}

/// Checks what the server shows.
#[derive(Debug)]
struct Verifier {
    authorities: Option<Arc<WebPkiServerVerifier>>,
    pins: Vec<Fingerprint>,
    own: Vec<CertificateDer<'static>>,
    provider: Arc<CryptoProvider>,
}

/// The reason in a form that tells the fingerprint; travels through rustls.
#[derive(Debug)]
struct NotTrusted {
    fingerprint: Fingerprint,
    reason: rustls::Error,
}

impl fmt::Display for NotTrusted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.reason.fmt(f)
    }
}

impl std::error::Error for NotTrusted {}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let fingerprint = Fingerprint::of(end_entity);
        let result = match &self.authorities {
            _ if self.pins.contains(&fingerprint) => Ok(ServerCertVerified::assertion()),
            Some(_) if self.own.iter().any(|own| own == end_entity) => {
                Ok(ServerCertVerified::assertion())
            }
            Some(authorities) => authorities.verify_server_cert(
                end_entity,
                intermediates,
                server_name,
                ocsp_response,
                now,
            ),
            None => Err(CertificateError::ApplicationVerificationFailure.into()),
        };
        result.map_err(|reason| {
            let not_trusted = NotTrusted {
                fingerprint,
                reason,
            };
            CertificateError::Other(OtherError(Arc::new(not_trusted))).into()
        })
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}

/// The error for the caller, with the fingerprint if the certificate is at fault.
pub(crate) fn error(error: rustls::Error) -> ErrorKind {
    if let rustls::Error::InvalidCertificate(CertificateError::Other(OtherError(inner))) = &error
        && let Some(not_trusted) = inner.downcast_ref::<NotTrusted>()
    {
        return ErrorKind::Certificate {
            fingerprint: not_trusted.fingerprint,
            reason: not_trusted.reason.clone(),
        };
    }
    ErrorKind::Tls(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fingerprint_is_read_as_openssl_writes_it() {
        let colons = ["AB"; 32].join(":");
        let fingerprint: Fingerprint = colons.parse().unwrap();
        assert_eq!(
            fingerprint.to_string(),
            format!("sha256:{}", "ab".repeat(32))
        );
        for malformed in [
            "",
            "sha256:",
            "ab",
            &"g".repeat(64),
            &"+a".repeat(32),
            &"ä".repeat(32),
        ] {
            assert!(malformed.parse::<Fingerprint>().is_err(), "{malformed}");
        }
    }

    #[test]
    fn trusting_nobody_at_all_is_a_mistake() {
        let error = TlsOptions::nobody().client_config().unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::Configuration(_)));
        let pin = Fingerprint::of(b"certificate");
        assert!(TlsOptions::nobody().pin_sha256(pin).client_config().is_ok());
    }

    #[test]
    fn what_is_no_certificate_is_refused() {
        assert!(TlsOptions::nobody().add_ca_pem(b"").is_err());
        let broken = b"-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n";
        assert!(TlsOptions::nobody().add_ca_pem(broken).is_err());
    }
}
