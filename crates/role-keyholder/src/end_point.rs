//! `tls-server-end-point` (RFC 5929 section 4.1): what SASL binds an exchange to the server's certificate by.
//!
//! Its hash, by the hash function of its own signature; SHA-256 in place of MD5 and SHA-1. Where the signature algorithm has no
//! hash function of its own (Ed25519), the binding is not defined.

use ring::digest::{Algorithm, SHA256, SHA384, SHA512, digest};

use x509::der::{OBJECT_IDENTIFIER, Reader, SEQUENCE, context};

/// Object identifiers' encodings: PKCS #1 (1.2.840.113549.1.1.…), ECDSA (1.2.840.10045.4.…), NIST's hashes
/// (2.16.840.1.101.3.4.2.…).
const PKCS_1: &[u8] = &[0x2A, 0x86, 0x48, 0x86, 0xF7, 0x0D, 0x01, 0x01];
const ECDSA: &[u8] = &[0x2A, 0x86, 0x48, 0xCE, 0x3D, 0x04];
const NIST_HASH: &[u8] = &[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02];

/// The binding data of a certificate in DER.
pub fn of(certificate: &[u8]) -> Option<Vec<u8>> {
    let mut parts = Reader::new(Reader::new(certificate).expect(SEQUENCE)?);
    let _to_be_signed = parts.expect(SEQUENCE)?;
    let mut algorithm = Reader::new(parts.expect(SEQUENCE)?);
    let identifier = algorithm.expect(OBJECT_IDENTIFIER)?;
    let hash = match (split(identifier, PKCS_1), split(identifier, ECDSA)) {
        // MD5, SHA-1, and what is called so outright.
        (Some([4 | 5 | 11]), _) | (_, Some([1] | [3, 2])) => &SHA256,
        (Some([12]), _) | (_, Some([3, 3])) => &SHA384,
        (Some([13]), _) | (_, Some([3, 4])) => &SHA512,
        (Some([10]), _) => of_pss(algorithm.expect(SEQUENCE)?)?,
        _ => return None,
    };
    Some(digest(hash, certificate).as_ref().to_vec())
}

/// RSASSA-PSS says its hash in its parameters (RFC 4055 section 3.1); SHA-1 where it does not.
fn of_pss(parameters: &[u8]) -> Option<&'static Algorithm> {
    let Some(hash) = Reader::new(parameters).optional(context(0)) else {
        return Some(&SHA256);
    };
    let mut hash = Reader::new(Reader::new(hash).expect(SEQUENCE)?);
    match split(hash.expect(OBJECT_IDENTIFIER)?, NIST_HASH) {
        Some([2]) => Some(&SHA384),
        Some([3]) => Some(&SHA512),
        Some([1]) => Some(&SHA256),
        _ => None,
    }
}

fn split<'a>(identifier: &'a [u8], family: &[u8]) -> Option<&'a [u8]> {
    identifier.strip_prefix(family)
}

#[cfg(test)]
mod tests {
    use super::*;
    use x509::der::write;

    /// A certificate with nothing in it but its signature algorithm.
    fn certificate(identifier: &[&[u8]], parameters: Option<&[u8]>) -> Vec<u8> {
        let mut algorithm = Vec::new();
        write(OBJECT_IDENTIFIER, &identifier.concat(), &mut algorithm);
        if let Some(parameters) = parameters {
            write(SEQUENCE, parameters, &mut algorithm);
        }
        let mut parts = Vec::new();
        write(SEQUENCE, b"", &mut parts);
        write(SEQUENCE, &algorithm, &mut parts);
        let mut certificate = Vec::new();
        write(SEQUENCE, &parts, &mut certificate);
        certificate
    }

    fn octets(identifier: &[&[u8]], parameters: Option<&[u8]>) -> Option<usize> {
        of(&certificate(identifier, parameters)).map(|hash| hash.len())
    }

    #[test]
    fn the_hash_is_the_signatures_own_but_never_weaker_than_sha_256() {
        for (last, length) in [(4, 32), (5, 32), (11, 32), (12, 48), (13, 64)] {
            assert_eq!(octets(&[PKCS_1, &[last]], None), Some(length), "{last}");
        }
        for (last, length) in [(&[1][..], 32), (&[3, 2], 32), (&[3, 3], 48), (&[3, 4], 64)] {
            assert_eq!(octets(&[ECDSA, last], None), Some(length), "{last:?}");
        }
        // Ed25519: 1.3.101.112.
        assert_eq!(octets(&[&[0x2B, 0x65, 0x70]], None), None);
        assert_eq!(of(b""), None);
    }

    #[test]
    fn pss_says_its_hash_in_its_parameters() {
        let parameters = |last: u8| {
            let (mut identifier, mut hash, mut parameters) = (Vec::new(), Vec::new(), Vec::new());
            write(
                OBJECT_IDENTIFIER,
                &[NIST_HASH, &[last]].concat(),
                &mut identifier,
            );
            write(SEQUENCE, &identifier, &mut hash);
            write(context(0), &hash, &mut parameters);
            parameters
        };
        let pss: &[&[u8]] = &[PKCS_1, &[10]];
        assert_eq!(octets(pss, Some(b"")), Some(32));
        for (last, length) in [(1, Some(32)), (2, Some(48)), (3, Some(64)), (9, None)] {
            assert_eq!(octets(pss, Some(&parameters(last))), length, "{last}");
        }
    }

    #[test]
    fn it_is_the_hash_of_the_whole_certificate() {
        let key = rcgen::KeyPair::generate().unwrap();
        let parameters = rcgen::CertificateParams::new(vec!["mail.example".to_owned()]).unwrap();
        let der = parameters.self_signed(&key).unwrap().der().to_vec();
        assert_eq!(of(&der).unwrap(), digest(&SHA256, &der).as_ref());
    }
}
