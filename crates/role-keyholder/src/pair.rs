//! A certificate and its private key, read from the files that the master opened.

use std::os::fd::OwnedFd;

use messages::keyholder::{Certificate, CertificateNumber, MAX_CHAIN_OCTETS, MAX_NAMES};
use rustix::io::{Errno, read};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use zeroize::Zeroizing;

use crate::end_point;
use crate::key::Key;
use x509::certificate;

/// Octets of a file: a chain and a key in PEM, with the text that some tools put between.
const MAX_FILE_OCTETS: usize = 256 * 1024;

/// Reads both files and checks that they belong together.
///
/// # Errors
/// One sentence for the log, which file is wrong and why.
pub fn load(
    number: CertificateNumber,
    chain: &OwnedFd,
    key: &OwnedFd,
) -> Result<(Certificate, Key), String> {
    let in_chain = |problem: &str| format!("the certificate's file: {problem}");
    let in_key = |problem: &str| format!("the key's file: {problem}");
    let text = read_file(chain).map_err(|error| in_chain(&error))?;
    let chain: Vec<Vec<u8>> = CertificateDer::pem_slice_iter(&text)
        .map(|certificate| certificate.map(|der| der.to_vec()))
        .collect::<Result<_, _>>()
        .map_err(|error| in_chain(&error.to_string()))?;
    let own = chain
        .first()
        .ok_or_else(|| in_chain("there is no CERTIFICATE in it"))?;
    if chain.iter().map(Vec::len).sum::<usize>() > MAX_CHAIN_OCTETS {
        return Err(in_chain("the chain is longer than 32 KiB"));
    }
    let fields = certificate::parse(own)
        .ok_or_else(|| in_chain("the first CERTIFICATE in it is not in X.509's form"))?;
    let text = read_file(key).map_err(|error| in_key(&error))?;
    let key = PrivateKeyDer::pem_slice_iter(&text)
        .next()
        .ok_or_else(|| in_key("there is no unencrypted PRIVATE KEY in it"))?
        .map_err(|error| in_key(&error.to_string()))?;
    let key = Key::parse(&key).map_err(|error| in_key(&error))?;
    if key.public() != fields.public_key {
        return Err("the key is not the certificate's".to_owned());
    }
    let mut names = fields.names;
    names.truncate(MAX_NAMES);
    let not_after = fields.not_after;
    let end_point = end_point::of(own);
    Ok((
        Certificate {
            number,
            key: key.kind(),
            names,
            not_after,
            end_point,
            chain,
        },
        key,
    ))
}

/// The whole file. Read with read(2) alone: this process may ask nothing else of a file.
fn read_file(file: &OwnedFd) -> Result<Zeroizing<Vec<u8>>, String> {
    // One octet more than allowed, so that a file that is too long is seen to be.
    let mut octets = Zeroizing::new(vec![0; MAX_FILE_OCTETS.saturating_add(1)]);
    let mut filled = 0;
    while let Some(space) = octets.get_mut(filled..).filter(|space| !space.is_empty()) {
        match read(file, space) {
            Ok(0) => {
                octets.truncate(filled);
                return Ok(octets);
            }
            Ok(more) => filled = filled.saturating_add(more),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.to_string()),
        }
    }
    Err(format!("it is longer than {MAX_FILE_OCTETS} octets"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use messages::keyholder::KeyKind;
    use std::fs::File;
    use std::io::{Seek, Write};

    fn file(text: &str) -> OwnedFd {
        let mut file: File = tempfile::tempfile().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        file.rewind().unwrap();
        file.into()
    }

    fn loaded(chain: &str, key: &str) -> Result<(Certificate, Key), String> {
        load(CertificateNumber(7), &file(chain), &file(key))
    }

    fn pair(name: &str) -> (String, String) {
        let key = rcgen::KeyPair::generate().unwrap();
        let parameters = rcgen::CertificateParams::new([name.to_owned()]).unwrap();
        let certificate = parameters.self_signed(&key).unwrap();
        (certificate.pem(), key.serialize_pem())
    }

    #[test]
    fn a_chain_and_its_key_are_taken() {
        let (own, key) = pair("mail.example.org");
        let (other, _) = pair("authority");
        let chain = format!("text in front\n{own}\n{other}");
        let (certificate, key) = loaded(&chain, &key).unwrap();
        assert_eq!(certificate.number, CertificateNumber(7));
        assert_eq!(certificate.chain.len(), 2);
        assert_eq!(certificate.names, ["mail.example.org"]);
        assert_eq!(certificate.key, KeyKind::EcdsaP256);
        assert_eq!(key.kind(), KeyKind::EcdsaP256);
    }

    #[test]
    fn one_file_may_hold_both() {
        let (own, key) = pair("mail.example.org");
        let both = format!("{key}{own}");
        assert!(loaded(&both, &both).is_ok());
    }

    #[test]
    fn what_is_wrong_is_said_and_where() {
        let (own, key) = pair("mail.example.org");
        let (_, others) = pair("mail.example.org");
        let cut = &own[..own.len() / 2];
        for (chain, key, said) in [
            (own.as_str(), others.as_str(), "not the certificate's"),
            (own.as_str(), own.as_str(), "no unencrypted PRIVATE KEY"),
            (own.as_str(), "", "no unencrypted PRIVATE KEY"),
            (key.as_str(), key.as_str(), "no CERTIFICATE"),
            ("", key.as_str(), "no CERTIFICATE"),
            (cut, key.as_str(), "the certificate's file"),
        ] {
            let error = loaded(chain, key).unwrap_err();
            assert!(error.contains(said), "{error}");
        }
    }

    #[test]
    fn a_file_that_is_too_long_is_refused() {
        let (own, key) = pair("mail.example.org");
        let long = format!("{}{own}", "x".repeat(MAX_FILE_OCTETS));
        let error = loaded(&long, &key).unwrap_err();
        assert!(error.contains("longer than"), "{error}");
    }
}
