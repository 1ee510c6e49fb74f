//! A private key, and signing with it.

use std::fmt;

use messages::keyholder::KeyKind;
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P384_SHA384_ASN1_SIGNING, EcdsaKeyPair,
    EcdsaSigningAlgorithm, Ed25519KeyPair, KeyPair, RSA_PKCS1_SHA256, RSA_PKCS1_SHA384,
    RSA_PKCS1_SHA512, RSA_PSS_SHA256, RSA_PSS_SHA384, RSA_PSS_SHA512, RsaEncoding, RsaKeyPair,
};
use rustls_pki_types::PrivateKeyDer;
use zeroize::Zeroizing;

use crate::form::Form;
use x509::der;

/// The content of the object identifiers id-ecPublicKey, secp256r1 and secp384r1 (RFC 5480 section 2.1.1).
const EC_PUBLIC_KEY: &[u8] = &[0x2A, 0x86, 0x48, 0xCE, 0x3D, 0x02, 0x01];
const SECP256R1: &[u8] = &[0x2A, 0x86, 0x48, 0xCE, 0x3D, 0x03, 0x01, 0x07];
const SECP384R1: &[u8] = &[0x2B, 0x81, 0x04, 0x00, 0x22];

const INTEGER: u8 = 0x02;

/// A private key of a kind that TLS 1.2 and 1.3 sign with.
pub enum Key {
    /// 2048 to 4096 bits.
    Rsa(Box<RsaKeyPair>),
    /// On the curve that the kind says.
    Ecdsa(EcdsaKeyPair, KeyKind),
    /// Ed25519.
    Ed25519(Ed25519KeyPair),
}

/// Why there is no signature.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SignError {
    /// The scheme is not one for this key, or not for this version of TLS.
    Scheme,
    /// The system has no random numbers.
    Random,
}

impl Key {
    /// Takes a key in PKCS #8, PKCS #1 or SEC 1.
    ///
    /// # Errors
    /// One sentence for the log; it says nothing of the key.
    pub fn parse(der: &PrivateKeyDer<'_>) -> Result<Self, String> {
        match der {
            PrivateKeyDer::Pkcs1(key) => RsaKeyPair::from_der(key.secret_pkcs1_der())
                .map(|key| Key::Rsa(Box::new(key)))
                .map_err(|error| format!("RSA key refused: {error}")),
            PrivateKeyDer::Sec1(key) => [SECP256R1, SECP384R1]
                .into_iter()
                .find_map(|curve| ecdsa(&sec1_as_pkcs8(key.secret_sec1_der(), curve)))
                .ok_or_else(|| "elliptic curve key on neither P-256 nor P-384".to_owned()),
            PrivateKeyDer::Pkcs8(key) => pkcs8(key.secret_pkcs8_der()),
            _ => Err("a private key of an unknown form".to_owned()),
        }
    }

    /// What kind it is.
    pub fn kind(&self) -> KeyKind {
        match self {
            Key::Rsa(_) => KeyKind::Rsa,
            Key::Ecdsa(_, kind) => *kind,
            Key::Ed25519(_) => KeyKind::Ed25519,
        }
    }

    /// The public half, as a certificate holds it.
    pub fn public(&self) -> &[u8] {
        match self {
            Key::Rsa(key) => key.public_key().as_ref(),
            Key::Ecdsa(key, _) => key.public_key().as_ref(),
            Key::Ed25519(key) => key.public_key().as_ref(),
        }
    }

    /// Signs by the scheme that TLS gives this number (RFC 8446 section 4.2.3).
    ///
    /// # Errors
    /// [`SignError`].
    pub fn sign(
        &self,
        form: Form,
        scheme: u16,
        octets: &[u8],
        random: &SystemRandom,
    ) -> Result<Vec<u8>, SignError> {
        match (self, scheme) {
            (Key::Rsa(key), _) => {
                let encoding = rsa_encoding(form, scheme).ok_or(SignError::Scheme)?;
                let mut signature = vec![0; key.public().modulus_len()];
                key.sign(encoding, random, octets, &mut signature)
                    .map_err(|_| SignError::Random)?;
                Ok(signature)
            }
            (Key::Ecdsa(key, KeyKind::EcdsaP256), 0x0403)
            | (Key::Ecdsa(key, KeyKind::EcdsaP384), 0x0503) => key
                .sign(random, octets)
                .map(|signature| signature.as_ref().to_vec())
                .map_err(|_| SignError::Random),
            (Key::Ed25519(key), 0x0807) => Ok(key.sign(octets).as_ref().to_vec()),
            _ => Err(SignError::Scheme),
        }
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({:?}, …)", self.kind())
    }
}

/// PKCS #1 v1.5 has no place in TLS 1.3 (RFC 8446 section 4.4.3).
fn rsa_encoding(form: Form, scheme: u16) -> Option<&'static dyn RsaEncoding> {
    Some(match (scheme, form) {
        (0x0804, _) => &RSA_PSS_SHA256,
        (0x0805, _) => &RSA_PSS_SHA384,
        (0x0806, _) => &RSA_PSS_SHA512,
        (0x0401, Form::Tls12) => &RSA_PKCS1_SHA256,
        (0x0501, Form::Tls12) => &RSA_PKCS1_SHA384,
        (0x0601, Form::Tls12) => &RSA_PKCS1_SHA512,
        _ => return None,
    })
}

/// The form says which kind it is, but ring tells only by refusing.
fn pkcs8(der: &[u8]) -> Result<Key, String> {
    if let Some(key) = ecdsa(der) {
        return Ok(key);
    }
    // A form without the public half is common; it is compared with the certificate's in any case.
    if let Ok(key) = Ed25519KeyPair::from_pkcs8_maybe_unchecked(der) {
        return Ok(Key::Ed25519(key));
    }
    RsaKeyPair::from_pkcs8(der)
        .map(|key| Key::Rsa(Box::new(key)))
        .map_err(|error| {
            format!(
                "key refused ({error}): RSA of 2048 to 4096 bits, ECDSA on P-256 or P-384, or Ed25519 is needed"
            )
        })
}

fn ecdsa(pkcs8: &[u8]) -> Option<Key> {
    let curves: [(&'static EcdsaSigningAlgorithm, KeyKind); 2] = [
        (&ECDSA_P256_SHA256_ASN1_SIGNING, KeyKind::EcdsaP256),
        (&ECDSA_P384_SHA384_ASN1_SIGNING, KeyKind::EcdsaP384),
    ];
    curves.into_iter().find_map(|(algorithm, kind)| {
        let key = EcdsaKeyPair::from_pkcs8(algorithm, pkcs8, &SystemRandom::new()).ok()?;
        Some(Key::Ecdsa(key, kind))
    })
}

/// ring knows elliptic curve keys in PKCS #8 (RFC 5958) only, which is SEC 1 with the curve in front.
fn sec1_as_pkcs8(sec1: &[u8], curve: &[u8]) -> Zeroizing<Vec<u8>> {
    let mut algorithm = Vec::new();
    der::write(der::OBJECT_IDENTIFIER, EC_PUBLIC_KEY, &mut algorithm);
    der::write(der::OBJECT_IDENTIFIER, curve, &mut algorithm);
    // With room for all of it: a vector that grew would leave copies of the key behind.
    let mut content = Zeroizing::new(Vec::with_capacity(sec1.len().saturating_add(64)));
    der::write(INTEGER, &[0], &mut content);
    der::write(der::SEQUENCE, &algorithm, &mut content);
    der::write(der::OCTET_STRING, sec1, &mut content);
    let mut pkcs8 = Zeroizing::new(Vec::with_capacity(content.len().saturating_add(8)));
    der::write(der::SEQUENCE, &content, &mut pkcs8);
    pkcs8
}

#[cfg(test)]
mod tests {
    use super::*;
    use ring::signature::{self, UnparsedPublicKey, VerificationAlgorithm};
    use rustls_pki_types::PrivatePkcs8KeyDer;

    fn generated(algorithm: &'static rcgen::SignatureAlgorithm) -> Key {
        let key = rcgen::KeyPair::generate_for(algorithm).unwrap();
        let der = PrivatePkcs8KeyDer::from(key.serialize_der());
        Key::parse(&PrivateKeyDer::Pkcs8(der)).unwrap()
    }

    fn verifies(key: &Key, scheme: u16, by: &'static dyn VerificationAlgorithm) {
        let octets = b"what TLS signs";
        let signed = key
            .sign(Form::Tls12, scheme, octets, &SystemRandom::new())
            .unwrap();
        UnparsedPublicKey::new(by, key.public())
            .verify(octets, &signed)
            .unwrap();
    }

    #[test]
    fn each_kind_signs_by_its_own_scheme_and_no_other() {
        let p256 = generated(&rcgen::PKCS_ECDSA_P256_SHA256);
        let p384 = generated(&rcgen::PKCS_ECDSA_P384_SHA384);
        let ed25519 = generated(&rcgen::PKCS_ED25519);
        verifies(&p256, 0x0403, &signature::ECDSA_P256_SHA256_ASN1);
        verifies(&p384, 0x0503, &signature::ECDSA_P384_SHA384_ASN1);
        verifies(&ed25519, 0x0807, &signature::ED25519);
        for (key, own) in [(p256, 0x0403), (p384, 0x0503), (ed25519, 0x0807)] {
            for scheme in (0..=u16::MAX).filter(|&scheme| scheme != own) {
                let signed = key.sign(Form::Tls13, scheme, b"", &SystemRandom::new());
                assert_eq!(signed, Err(SignError::Scheme));
            }
        }
    }

    /// `openssl genrsa -traditional 2048`, for this test alone.
    const RSA: &[u8] = include_bytes!("key/rsa2048-for-tests.der");

    #[test]
    fn rsa_signs_by_pkcs1_under_tls_1_2_only() {
        let key = Key::parse(&PrivateKeyDer::Pkcs1(RSA.into())).unwrap();
        for (scheme, by) in [
            (0x0401, &signature::RSA_PKCS1_2048_8192_SHA256),
            (0x0501, &signature::RSA_PKCS1_2048_8192_SHA384),
            (0x0601, &signature::RSA_PKCS1_2048_8192_SHA512),
            (0x0804, &signature::RSA_PSS_2048_8192_SHA256),
            (0x0805, &signature::RSA_PSS_2048_8192_SHA384),
            (0x0806, &signature::RSA_PSS_2048_8192_SHA512),
        ] {
            verifies(&key, scheme, by);
            let under_13 = key.sign(Form::Tls13, scheme, b"", &SystemRandom::new());
            assert_eq!(under_13.is_ok(), scheme >= 0x0800, "{scheme:x}");
        }
        // SHA-1.
        let signed = key.sign(Form::Tls12, 0x0201, b"", &SystemRandom::new());
        assert_eq!(signed, Err(SignError::Scheme));
    }

    #[test]
    fn debug_shows_nothing_of_it() {
        let key = generated(&rcgen::PKCS_ED25519);
        assert_eq!(format!("{key:?}"), "Key(Ed25519, …)");
    }
}
