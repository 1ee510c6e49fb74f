//! Certificates for one test: an authority of its own, and what it vouches for. Files are written as an administrator would:
//! the chain readable by all, the key by its owner.

use rcgen::{
    BasicConstraints, Certificate, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384,
};
use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

/// Where a machine of the tests keeps them.
pub const DIRECTORY: &str = "/etc/popa3d-tls";

/// The name that the server's clients know it by; `/etc/hosts` of the machine says where it is.
pub const HOST: &str = "mail.example.org";

/// An authority; its certificate is in [`Authority::file`].
pub struct Authority {
    certificate: Certificate,
    issuer: Issuer<'static, KeyPair>,
}

/// What kind of key.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// 2048 bits, made by openssl.
    Rsa,
    /// P-256.
    P256,
    /// P-384.
    P384,
}

/// A certificate and its key, in files.
#[derive(Clone, Debug)]
pub struct Pair {
    /// The chain.
    pub certificate: PathBuf,
    /// The private key.
    pub key: PathBuf,
    /// The private key's own octets, which no other process may hold.
    pub secret: Vec<u8>,
}

impl Authority {
    /// A new one, whose file every client can read.
    ///
    /// # Panics
    /// When it cannot be made.
    pub fn new() -> Authority {
        let mut parameters = CertificateParams::default();
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        parameters.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        parameters
            .distinguished_name
            .push(DnType::CommonName, "Tests' Authority");
        let key = KeyPair::generate().expect("a key");
        let certificate = parameters.self_signed(&key).expect("a certificate");
        fs::create_dir_all(DIRECTORY).expect("a directory");
        let authority = Authority {
            certificate,
            issuer: Issuer::new(parameters, key),
        };
        fs::write(authority.file(), authority.certificate.pem()).expect("the authority's file");
        authority
    }

    /// Its certificate.
    pub fn file(&self) -> PathBuf {
        Path::new(DIRECTORY).join("authority.pem")
    }

    /// Vouches for a server or a client of these names, and writes `NAME.pem` and `NAME.key` for `owner`.
    ///
    /// # Panics
    /// When that is not possible.
    pub fn issue(&self, file: &str, names: &[&str], kind: Kind, days: u64, owner: u32) -> Pair {
        let key = match kind {
            Kind::Rsa => rsa(),
            Kind::P256 => KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).expect("a key"),
            Kind::P384 => KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384).expect("a key"),
        };
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        let mut parameters = CertificateParams::new(names).expect("names");
        parameters
            .distinguished_name
            .push(DnType::CommonName, file.to_owned());
        parameters.not_after = (SystemTime::now() + Duration::from_secs(days * 86_400)).into();
        parameters.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        let certificate = parameters
            .signed_by(&key, &self.issuer)
            .expect("a certificate");
        let write = |extension: &str, text: &str, mode: u32| {
            let path = Path::new(DIRECTORY).join(file).with_extension(extension);
            fs::write(&path, text).expect("a file");
            fs::set_permissions(&path, Permissions::from_mode(mode)).expect("a mode");
            chown(&path, Some(owner), Some(owner)).expect("an owner");
            path
        };
        Pair {
            certificate: write("pem", &certificate.pem(), 0o644),
            key: write("key", &key.serialize_pem(), 0o600),
            secret: key.serialize_der(),
        }
    }
}

impl Default for Authority {
    fn default() -> Authority {
        Authority::new()
    }
}

fn rsa() -> KeyPair {
    let output = Command::new("/usr/bin/openssl")
        .args([
            "genpkey",
            "-algorithm",
            "RSA",
            "-pkeyopt",
            "rsa_keygen_bits:2048",
        ])
        .output()
        .expect("openssl");
    KeyPair::from_pem(&String::from_utf8(output.stdout).expect("PEM")).expect("an RSA key")
}
