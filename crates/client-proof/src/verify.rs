//! What is demanded of a handshake before its client is who its certificate says.

use std::fmt;

use ring::digest::{Algorithm, digest};
use rustls_pki_types::{CertificateDer, SignatureVerificationAlgorithm, TrustAnchor, UnixTime};
use webpki::{EndEntityCert, KeyUsage, ring as algorithms};
use x509::certificate;

use crate::RANDOM_OCTETS;
use crate::handshake::{Handshake, Signature};

/// RFC 8446 section 4.4.3, with the separator behind it.
pub(crate) const SERVER_CONTEXT: &[u8] = b"TLS 1.3, server CertificateVerify\0";
pub(crate) const CLIENT_CONTEXT: &[u8] = b"TLS 1.3, client CertificateVerify\0";

/// The spaces in front of the context.
const SPACES: [u8; 64] = [b' '; 64];

/// By what authorities may sign certificates: what TLS accepts as well.
const CHAIN_ALGORITHMS: &[&dyn SignatureVerificationAlgorithm] = &[
    algorithms::ECDSA_P256_SHA256,
    algorithms::ECDSA_P256_SHA384,
    algorithms::ECDSA_P384_SHA256,
    algorithms::ECDSA_P384_SHA384,
    algorithms::ED25519,
    algorithms::RSA_PKCS1_2048_8192_SHA256,
    algorithms::RSA_PKCS1_2048_8192_SHA384,
    algorithms::RSA_PKCS1_2048_8192_SHA512,
    algorithms::RSA_PKCS1_2048_8192_SHA256_ABSENT_PARAMS,
    algorithms::RSA_PKCS1_2048_8192_SHA384_ABSENT_PARAMS,
    algorithms::RSA_PKCS1_2048_8192_SHA512_ABSENT_PARAMS,
    algorithms::RSA_PSS_2048_8192_SHA256_LEGACY_KEY,
    algorithms::RSA_PSS_2048_8192_SHA384_LEGACY_KEY,
    algorithms::RSA_PSS_2048_8192_SHA512_LEGACY_KEY,
];

/// A handshake and the client's signature over it, from whoever says that it took place.
#[derive(Clone, Copy, Debug)]
pub struct Shown<'a> {
    /// The messages up to the client's Certificate, each with its header.
    pub transcript: &'a [u8],
    /// The client's CertificateVerify.
    pub signature: Signature<'a>,
}

/// Who a client is by its certificate, which an authority has signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Names {
    /// The subject's mail addresses.
    pub mail_addresses: Vec<String>,
    /// The subject's common names.
    pub common_names: Vec<String>,
}

/// Why a handshake shows nothing; for the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refused {
    /// It is no handshake of TLS 1.3 with a client's certificate.
    Malformed,
    /// Its server's random number is not the one that was given out.
    Replayed,
    /// Its server has shown a certificate that is not ours.
    AnotherServer,
    /// Its server had not the key of that certificate.
    ServerSignature,
    /// The client's certificate does not lead to an authority, or not now, or not for a client.
    Chain(webpki::Error),
    /// The client had not the key of its certificate.
    Signature,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refused::Malformed => f.write_str("no handshake with a client's certificate"),
            Refused::Replayed => f.write_str("a handshake of another session"),
            Refused::AnotherServer => f.write_str("a handshake of another server"),
            Refused::ServerSignature => f.write_str("a handshake without the server's signature"),
            Refused::Chain(error) => write!(f, "client certificate: {error:?}"),
            Refused::Signature => f.write_str("a handshake without the client's signature"),
        }
    }
}

/// The authority that a certificate of the operator's stands for.
///
/// # Errors
/// It is none.
pub fn authority(certificate: &CertificateDer<'_>) -> Result<TrustAnchor<'static>, webpki::Error> {
    webpki::anchor_from_trusted_cert(certificate).map(|anchor| anchor.to_owned())
}

/// Who the client of a handshake is, if that has taken place with a server of which `is_ours` says that the certificate is
/// ours, and with this random number; if the client's certificate leads to one of `authorities`; and if both have signed.
///
/// # Errors
/// [`Refused`].
pub fn verify(
    shown: &Shown<'_>,
    server_random: &[u8; RANDOM_OCTETS],
    is_ours: impl Fn(&[u8]) -> bool,
    authorities: &[TrustAnchor<'_>],
    now: UnixTime,
) -> Result<Names, Refused> {
    let handshake = Handshake::parse(shown.transcript).ok_or(Refused::Malformed)?;
    if handshake.server_random != server_random {
        return Err(Refused::Replayed);
    }
    if !is_ours(handshake.server_certificate) {
        return Err(Refused::AnotherServer);
    }
    // A client goes on only with a server that has the key. One that did not look could be led here by anybody.
    let server = CertificateDer::from(handshake.server_certificate);
    let content = signed_content(
        SERVER_CONTEXT,
        handshake.hash,
        handshake.before_server_verify,
    );
    check(&server, &content, handshake.server_verify).ok_or(Refused::ServerSignature)?;

    let mut chain = handshake.client_chain.iter().copied();
    let client = CertificateDer::from(chain.next().ok_or(Refused::Malformed)?);
    let intermediates: Vec<_> = chain.map(CertificateDer::from).collect();
    let end_entity = EndEntityCert::try_from(&client).map_err(Refused::Chain)?;
    end_entity
        .verify_for_usage(
            CHAIN_ALGORITHMS,
            authorities,
            &intermediates,
            now,
            KeyUsage::client_auth(),
            None,
            None,
        )
        .map_err(Refused::Chain)?;
    let content = signed_content(
        CLIENT_CONTEXT,
        handshake.hash,
        handshake.before_client_verify,
    );
    check(&client, &content, shown.signature).ok_or(Refused::Signature)?;
    let fields = certificate::parse(&client).ok_or(Refused::Malformed)?;
    Ok(Names {
        mail_addresses: fields.mail_addresses,
        common_names: fields.common_names,
    })
}

/// What CertificateVerify is a signature of.
pub(crate) fn signed_content(context: &[u8], hash: &'static Algorithm, octets: &[u8]) -> Vec<u8> {
    [&SPACES, context, digest(hash, octets).as_ref()].concat()
}

fn check(certificate: &CertificateDer<'_>, content: &[u8], signature: Signature<'_>) -> Option<()> {
    let algorithm = algorithm(signature.scheme)?;
    EndEntityCert::try_from(certificate)
        .and_then(|certificate| certificate.verify_signature(algorithm, content, signature.octets))
        .ok()
}

/// Of the schemes that TLS 1.3 signs with, those that our side offers (RFC 8446 section 4.2.3).
fn algorithm(scheme: u16) -> Option<&'static dyn SignatureVerificationAlgorithm> {
    Some(match scheme {
        0x0403 => algorithms::ECDSA_P256_SHA256,
        0x0503 => algorithms::ECDSA_P384_SHA384,
        0x0807 => algorithms::ED25519,
        0x0804 => algorithms::RSA_PSS_2048_8192_SHA256_LEGACY_KEY,
        0x0805 => algorithms::RSA_PSS_2048_8192_SHA384_LEGACY_KEY,
        0x0806 => algorithms::RSA_PSS_2048_8192_SHA512_LEGACY_KEY,
        _ => return None,
    })
}

#[cfg(test)]
mod tests;
