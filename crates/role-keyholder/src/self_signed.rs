//! A certificate and key made on the spot, for the demo: what tries the server out has none yet.
//!
//! Called where the program is not in a role yet; the key is on disk from then on as an operator's is, and read like it.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::net::{Ipv4Addr, Ipv6Addr};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use base64ct::{Base64, Encoding};
use ring::digest::{SHA256, digest};
use ring::rand::{SecureRandom, SystemRandom};
use ring::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair};
use x509::self_signed::{Contents, SERIAL_OCTETS, signed, to_be_signed};

/// Seconds that it is valid. The log warns in the last fortnight.
const VALIDITY: u64 = 30 * 24 * 60 * 60;

/// Characters of a line in PEM (RFC 7468 section 2).
const LINE: usize = 64;

/// Makes a key, and a certificate of it for this host's own names; writes both in PEM to files that must not exist, for their
/// owner's eyes. Returns the certificate's fingerprint: its SHA-256 in hexadecimal digits.
///
/// # Errors
/// The files cannot be written, or the system has no randomness.
pub fn make(certificate: &Path, key: &Path) -> io::Result<String> {
    let no_randomness = |_| io::Error::other("the system has no randomness");
    let random = SystemRandom::new();
    let mut serial = [0; SERIAL_OCTETS];
    random.fill(&mut serial).map_err(no_randomness)?;
    let algorithm = &ECDSA_P256_SHA256_ASN1_SIGNING;
    let pkcs8 = EcdsaKeyPair::generate_pkcs8(algorithm, &random).map_err(no_randomness)?;
    let pair = EcdsaKeyPair::from_pkcs8(algorithm, pkcs8.as_ref(), &random)
        .map_err(|error| io::Error::other(error.to_string()))?;
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs());
    let written = to_be_signed(&Contents {
        serial,
        common_name: "popa3d demo",
        not_before: now,
        not_after: now.saturating_add(VALIDITY),
        public_key: pair.public_key().as_ref(),
        names: &["localhost"],
        addresses: &[Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()],
    });
    let signature = pair.sign(&random, &written).map_err(no_randomness)?;
    let der = signed(&written, signature.as_ref());
    write(key, "PRIVATE KEY", pkcs8.as_ref())?;
    write(certificate, "CERTIFICATE", &der)?;
    let fingerprint = digest(&SHA256, &der);
    let octets = fingerprint.as_ref().iter();
    Ok(octets.map(|octet| format!("{octet:02x}")).collect())
}

fn write(path: &Path, label: &str, der: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    writeln!(file, "-----BEGIN {label}-----")?;
    for line in Base64::encode_string(der).as_bytes().chunks(LINE) {
        file.write_all(line)?;
        file.write_all(b"\n")?;
    }
    writeln!(file, "-----END {label}-----")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pair;
    use messages::keyholder::{CertificateNumber, KeyKind};
    use std::fs::{self, File};
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn what_is_made_is_loaded_and_its_signature_verifies() {
        let directory = tempfile::tempdir().unwrap();
        let paths = ["certificate", "key"].map(|name| directory.path().join(name));
        let fingerprint = make(&paths[0], &paths[1]).unwrap();
        let files = paths
            .each_ref()
            .map(|path| File::open(path).unwrap().into());
        let (certificate, _key) = pair::load(CertificateNumber(1), &files[0], &files[1]).unwrap();
        assert_eq!(certificate.key, KeyKind::EcdsaP256);
        assert_eq!(certificate.names, ["localhost"]);
        assert_eq!(fingerprint.len(), 64);
        for path in &paths {
            let mode = fs::metadata(path).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
        }
        // Its own authority, as clients that are given it take it.
        let mut outer = x509::der::Reader::new(&certificate.chain[0]);
        let outer = outer.expect(x509::der::SEQUENCE).unwrap();
        let mut fields = x509::der::Reader::new(outer);
        let content = fields.expect(x509::der::SEQUENCE).unwrap();
        let mut written = Vec::new();
        x509::der::write(x509::der::SEQUENCE, content, &mut written);
        fields.expect(x509::der::SEQUENCE).unwrap();
        let signature = fields.expect(x509::der::BIT_STRING).unwrap();
        let public = x509::certificate::parse(&certificate.chain[0]).unwrap();
        ring::signature::UnparsedPublicKey::new(
            &ring::signature::ECDSA_P256_SHA256_ASN1,
            public.public_key,
        )
        .verify(&written, &signature[1..])
        .unwrap();
    }

    #[test]
    fn two_are_two_and_no_file_is_overwritten() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        let one = make(&path("a"), &path("b")).unwrap();
        assert_ne!(make(&path("c"), &path("d")).unwrap(), one);
        let error = make(&path("e"), &path("b")).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
    }
}
