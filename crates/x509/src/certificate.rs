//! What a certificate says (RFC 5280 section 4.1): public key, names, end of validity.
//!
//! Nothing is verified here. Of the server's own certificates the octets come from the operator's file, and verifying them is
//! the clients' part; of a client's they are foreign, and believed only after an authority's signature was found on them.

use crate::der::{
    BIT_STRING, IA5_STRING, OBJECT_IDENTIFIER, OCTET_STRING, PRINTABLE_STRING, Reader, SEQUENCE,
    SET, UTF8_STRING, context,
};
use crate::time;

/// `id-ce-subjectAltName` (2.5.29.17).
pub(crate) const SUBJECT_ALT_NAME: &[u8] = &[0x55, 0x1D, 0x11];

/// `id-at-commonName` (2.5.4.3).
pub(crate) const COMMON_NAME: &[u8] = &[0x55, 0x04, 0x03];

/// `rfc822Name` among `GeneralName`'s choices.
const MAIL_ADDRESS: u8 = 0x81;

/// `dNSName` among `GeneralName`'s choices.
pub(crate) const DNS_NAME: u8 = 0x82;

/// The fields that are needed.
#[derive(Debug, PartialEq, Eq)]
pub struct Fields<'a> {
    /// The content of `subjectPublicKey`.
    pub public_key: &'a [u8],
    /// `dNSName`s, in lower case.
    pub names: Vec<String>,
    /// `rfc822Name`s: mail addresses, as they are written.
    pub mail_addresses: Vec<String>,
    /// The subject's `commonName`s, in their order; those in character sets older than UTF-8 are left out.
    pub common_names: Vec<String>,
    /// `notAfter`, in seconds since 1970.
    pub not_after: u64,
}

/// Walks through a certificate in DER; `None` if it is none.
pub fn parse(certificate: &[u8]) -> Option<Fields<'_>> {
    let mut certificate = Reader::new(Reader::new(certificate).expect(SEQUENCE)?);
    let mut fields = Reader::new(certificate.expect(SEQUENCE)?);
    let _version = fields.optional(context(0));
    let _serial_number = fields.next()?;
    let _signature = fields.expect(SEQUENCE)?;
    let _issuer = fields.expect(SEQUENCE)?;
    let mut validity = Reader::new(fields.expect(SEQUENCE)?);
    let _not_before = validity.next()?;
    let not_after = time::read(validity.next()?)?;
    let common_names = common_names(fields.expect(SEQUENCE)?)?;
    let mut key = Reader::new(fields.expect(SEQUENCE)?);
    let _algorithm = key.expect(SEQUENCE)?;
    // The first octet of a bit string says how many bits of the last do not count.
    let public_key = key.expect(BIT_STRING)?.strip_prefix(&[0])?;
    let _unique_ids = (fields.optional(0x81), fields.optional(0x82));
    let alternatives = match fields.optional(context(3)) {
        Some(extensions) => alternatives(extensions)?,
        None => Alternatives::default(),
    };
    Some(Fields {
        public_key,
        names: alternatives.names,
        mail_addresses: alternatives.mail_addresses,
        common_names,
        not_after,
    })
}

/// `Name`: a sequence of sets of attributes.
fn common_names(subject: &[u8]) -> Option<Vec<String>> {
    let mut sets = Reader::new(subject);
    let mut names = Vec::new();
    while let Some((SET, attributes)) = sets.next() {
        let mut attributes = Reader::new(attributes);
        while let Some((SEQUENCE, attribute)) = attributes.next() {
            let mut attribute = Reader::new(attribute);
            let is_name = attribute.expect(OBJECT_IDENTIFIER)? == COMMON_NAME;
            let (tag, text) = attribute.next()?;
            if is_name && matches!(tag, UTF8_STRING | PRINTABLE_STRING | IA5_STRING) {
                names.extend(std::str::from_utf8(text).map(str::to_owned));
            }
        }
    }
    Some(names)
}

/// The subject's alternative names.
#[derive(Default)]
struct Alternatives {
    names: Vec<String>,
    mail_addresses: Vec<String>,
}

fn alternatives(extensions: &[u8]) -> Option<Alternatives> {
    let mut extensions = Reader::new(Reader::new(extensions).expect(SEQUENCE)?);
    let mut found = Alternatives::default();
    while let Some((SEQUENCE, extension)) = extensions.next() {
        let mut extension = Reader::new(extension);
        if extension.expect(OBJECT_IDENTIFIER)? != SUBJECT_ALT_NAME {
            continue;
        }
        let _critical = extension.optional(0x01);
        let value = extension.expect(OCTET_STRING)?;
        let choices = Reader::new(Reader::new(value).expect(SEQUENCE)?);
        for (tag, name) in choices {
            match tag {
                DNS_NAME => {
                    let name = std::str::from_utf8(name).ok()?;
                    found.names.push(name.to_ascii_lowercase());
                }
                MAIL_ADDRESS => {
                    let address = std::str::from_utf8(name).ok()?;
                    found.mail_addresses.push(address.to_owned());
                }
                _ => {}
            }
        }
    }
    Some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn certificate(names: &[&str]) -> Vec<u8> {
        let key = rcgen::KeyPair::generate().unwrap();
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        let mut parameters = rcgen::CertificateParams::new(names).unwrap();
        parameters.not_after = rcgen::date_time_ymd(2038, 2, 28);
        parameters.self_signed(&key).unwrap().der().to_vec()
    }

    #[test]
    fn key_names_and_end_are_found() {
        let der = certificate(&["mail.example.org", "*.Example.NET", "192.0.2.1"]);
        let fields = parse(&der).unwrap();
        assert_eq!(fields.names, ["mail.example.org", "*.example.net"]);
        assert_eq!(fields.not_after, 2_150_928_000);
        assert_eq!((fields.public_key.len(), fields.public_key[0]), (65, 4));
    }

    #[test]
    fn who_a_person_is_is_found() {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut parameters =
            rcgen::CertificateParams::new(vec!["host.example".to_owned()]).unwrap();
        for address in ["Joe@Example.org", "joe@example.net"] {
            let address = rcgen::SanType::Rfc822Name(address.try_into().unwrap());
            parameters.subject_alt_names.push(address);
        }
        parameters.distinguished_name = rcgen::DistinguishedName::new();
        let subject = &mut parameters.distinguished_name;
        subject.push(rcgen::DnType::OrganizationName, "Examples");
        subject.push(rcgen::DnType::CommonName, "Jos\u{e9}");
        let der = parameters.self_signed(&key).unwrap().der().to_vec();
        let fields = parse(&der).unwrap();
        assert_eq!(
            fields.mail_addresses,
            ["Joe@Example.org", "joe@example.net"]
        );
        assert_eq!(fields.common_names, ["Jos\u{e9}"]);
        assert_eq!(fields.names, ["host.example"]);
    }

    #[test]
    fn a_certificate_without_names_is_one_all_the_same() {
        assert_eq!(parse(&certificate(&[])).unwrap().names, [""; 0]);
    }

    #[test]
    fn what_is_cut_off_is_no_certificate() {
        let der = certificate(&["mail.example.org"]);
        for length in 0..der.len() {
            assert_eq!(parse(&der[..length]), None, "{length}");
        }
    }

    #[test]
    fn no_changed_octet_makes_it_panic() {
        let der = certificate(&["mail.example.org"]);
        for at in 0..der.len() {
            for change in [0x01, 0x80, 0xFF] {
                let mut changed = der.clone();
                changed[at] ^= change;
                // Whatever comes out: it has to come out.
                let _ = parse(&changed);
            }
        }
        assert!(parse(&der).is_some());
    }
}
