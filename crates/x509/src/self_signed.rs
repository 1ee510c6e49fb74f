//! A certificate that vouches for itself (RFC 5280 section 4.1), of a P-256 key, for a server that is tried out on its own host.
//!
//! It is an end entity's and no authority's: some clients refuse an authority's as a server's own.

use std::net::IpAddr;

use crate::certificate::{COMMON_NAME, DNS_NAME, SUBJECT_ALT_NAME};
use crate::der::{
    self, BIT_STRING, INTEGER, OBJECT_IDENTIFIER, OCTET_STRING, SEQUENCE, SET, UTF8_STRING, context,
};
use crate::time;

/// Random octets that tell two certificates of one name apart.
pub const SERIAL_OCTETS: usize = 16;

/// `iPAddress` among `GeneralName`'s choices.
const IP_ADDRESS: u8 = 0x87;

/// `Version`: v3, which extensions need.
const V3: &[u8] = &[2];

/// `ecdsa-with-SHA256` (1.2.840.10045.4.3.2; RFC 5758 section 3.2).
const ECDSA_WITH_SHA256: &[u8] = &[0x2A, 0x86, 0x48, 0xCE, 0x3D, 0x04, 0x03, 0x02];

/// `id-ecPublicKey` (1.2.840.10045.2.1; RFC 5480 section 2.1.1).
const EC_PUBLIC_KEY: &[u8] = &[0x2A, 0x86, 0x48, 0xCE, 0x3D, 0x02, 0x01];

/// `secp256r1` (1.2.840.10045.3.1.7; RFC 5480 section 2.1.1.1).
const SECP256R1: &[u8] = &[0x2A, 0x86, 0x48, 0xCE, 0x3D, 0x03, 0x01, 0x07];

/// What it is to say.
#[derive(Debug)]
pub struct Contents<'a> {
    /// Random.
    pub serial: [u8; SERIAL_OCTETS],
    /// Subject and issuer.
    pub common_name: &'a str,
    /// Seconds since 1970.
    pub not_before: u64,
    /// Seconds since 1970.
    pub not_after: u64,
    /// An uncompressed point of P-256.
    pub public_key: &'a [u8],
    /// What clients may call the server.
    pub names: &'a [&'a str],
    /// And where they may reach it.
    pub addresses: &'a [IpAddr],
}

/// `TBSCertificate`: what the key signs, by ECDSA with SHA-256.
pub fn to_be_signed(contents: &Contents<'_>) -> Vec<u8> {
    let mut serial = contents.serial;
    // Positive, and no shorter for that (X.690 section 8.3).
    if let Some(first) = serial.first_mut() {
        *first = *first & 0x3F | 0x40;
    }
    let name = name(contents.common_name);
    let mut validity = Vec::new();
    time::write(contents.not_before, &mut validity);
    time::write(contents.not_after, &mut validity);
    let key = [
        value(
            SEQUENCE,
            &[
                value(OBJECT_IDENTIFIER, EC_PUBLIC_KEY),
                value(OBJECT_IDENTIFIER, SECP256R1),
            ]
            .concat(),
        ),
        bits(contents.public_key),
    ];
    let fields = [
        value(context(0), &value(INTEGER, V3)),
        value(INTEGER, &serial),
        algorithm(),
        name.clone(),
        value(SEQUENCE, &validity),
        name,
        value(SEQUENCE, &key.concat()),
        value(
            context(3),
            &value(SEQUENCE, &alternatives(contents.names, contents.addresses)),
        ),
    ];
    value(SEQUENCE, &fields.concat())
}

/// The certificate, of what was signed and the signature (in ASN.1's form).
pub fn signed(to_be_signed: &[u8], signature: &[u8]) -> Vec<u8> {
    let fields = [to_be_signed, &algorithm(), &bits(signature)];
    value(SEQUENCE, &fields.concat())
}

/// `AlgorithmIdentifier`, which has no parameters here.
fn algorithm() -> Vec<u8> {
    value(SEQUENCE, &value(OBJECT_IDENTIFIER, ECDSA_WITH_SHA256))
}

/// `Name`, of one attribute.
fn name(common_name: &str) -> Vec<u8> {
    let attribute = [
        value(OBJECT_IDENTIFIER, COMMON_NAME),
        value(UTF8_STRING, common_name.as_bytes()),
    ];
    value(SEQUENCE, &value(SET, &value(SEQUENCE, &attribute.concat())))
}

/// The extension of `subjectAltName`, which is not critical, since there is a subject.
fn alternatives(names: &[&str], addresses: &[IpAddr]) -> Vec<u8> {
    let mut choices = Vec::new();
    for name in names {
        der::write(DNS_NAME, name.as_bytes(), &mut choices);
    }
    for address in addresses {
        match address {
            IpAddr::V4(address) => der::write(IP_ADDRESS, &address.octets(), &mut choices),
            IpAddr::V6(address) => der::write(IP_ADDRESS, &address.octets(), &mut choices),
        }
    }
    let extension = [
        value(OBJECT_IDENTIFIER, SUBJECT_ALT_NAME),
        value(OCTET_STRING, &value(SEQUENCE, &choices)),
    ];
    value(SEQUENCE, &extension.concat())
}

fn value(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    der::write(tag, content, &mut out);
    out
}

/// `BIT STRING` of whole octets: no bits of the last are left over.
fn bits(octets: &[u8]) -> Vec<u8> {
    value(BIT_STRING, &[&[0], octets].concat())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::certificate;
    use std::net::{Ipv4Addr, Ipv6Addr};

    #[test]
    fn what_is_written_is_read() {
        for serial in [[0; SERIAL_OCTETS], [0xFF; SERIAL_OCTETS]] {
            let mut key = [7; 65];
            key[0] = 4;
            let written = to_be_signed(&Contents {
                serial,
                common_name: "demo",
                not_before: 1_700_000_000,
                not_after: 2_600_000_000,
                public_key: &key,
                names: &["localhost", "host.example"],
                addresses: &[Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()],
            });
            let der = signed(&written, b"signature");
            let fields = certificate::parse(&der).unwrap();
            assert_eq!(fields.public_key, key);
            assert_eq!(fields.names, ["localhost", "host.example"]);
            assert_eq!(fields.common_names, ["demo"]);
            assert_eq!(fields.not_after, 2_600_000_000);
        }
    }
}
