//! What may be signed: the digest of a TLS handshake, in exactly the form that TLS gives it.
//!
//! A key that signs what it is told is a key given away. Both forms begin with what no other protocol has signed, and hold
//! nothing of the asker's choosing but random numbers, a hash and a point on a curve.

/// RFC 8446 section 4.4.3: the spaces, the context string and the separator in front of the transcript's hash.
const CONTEXT: &[u8] = b"TLS 1.3, server CertificateVerify\0";
const SPACES: usize = 64;

/// Of the client's and the server's random, each (RFC 5246 section 7.4.1.2).
const RANDOM_OCTETS: usize = 32;

/// RFC 8422 section 5.4: `ECCurveType`'s only value in use.
const NAMED_CURVE: u8 = 3;

/// Which TLS has it signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// `ServerKeyExchange` of TLS 1.2: both randoms and `ServerECDHParams`.
    Tls12,
    /// `CertificateVerify` of TLS 1.3: the hash of the transcript.
    Tls13,
}

impl Form {
    /// The form of `octets`; `None` if it is neither, and nothing to be signed.
    pub fn of(octets: &[u8]) -> Option<Self> {
        if is_tls13(octets) {
            Some(Form::Tls13)
        } else if is_tls12(octets) {
            Some(Form::Tls12)
        } else {
            None
        }
    }
}

fn is_tls13(octets: &[u8]) -> bool {
    let Some((spaces, rest)) = octets.split_at_checked(SPACES) else {
        return false;
    };
    let Some(hash) = rest.strip_prefix(CONTEXT) else {
        return false;
    };
    // SHA-256 or SHA-384: no cipher suite has another.
    spaces.iter().all(|&octet| octet == b' ') && matches!(hash.len(), 32 | 48)
}

fn is_tls12(octets: &[u8]) -> bool {
    let Some((_randoms, parameters)) = octets.split_at_checked(2 * RANDOM_OCTETS) else {
        return false;
    };
    let &[NAMED_CURVE, high, low, length, ref point @ ..] = parameters else {
        return false;
    };
    let expected = match u16::from_be_bytes([high, low]) {
        // secp256r1, secp384r1: uncompressed points.
        0x0017 => 65,
        0x0018 => 97,
        // x25519.
        0x001D => 32,
        _ => return false,
    };
    let uncompressed = expected == 32 || point.first() == Some(&4);
    usize::from(length) == expected && point.len() == expected && uncompressed
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tls13(hash: usize) -> Vec<u8> {
        let mut octets = vec![b' '; 64];
        octets.extend_from_slice(b"TLS 1.3, server CertificateVerify\0");
        octets.extend(std::iter::repeat_n(0xAB, hash));
        octets
    }

    fn tls12(curve: u16, point: usize) -> Vec<u8> {
        let mut octets = vec![0x55; 64];
        octets.push(3);
        octets.extend_from_slice(&curve.to_be_bytes());
        octets.push(u8::try_from(point).unwrap());
        octets.push(4);
        octets.extend(std::iter::repeat_n(0xAB, point - 1));
        octets
    }

    #[test]
    fn both_forms_are_known() {
        for hash in [32, 48] {
            assert_eq!(Form::of(&tls13(hash)), Some(Form::Tls13));
        }
        for (curve, point) in [(0x17, 65), (0x18, 97), (0x1D, 32)] {
            assert_eq!(Form::of(&tls12(curve, point)), Some(Form::Tls12));
        }
    }

    #[test]
    fn an_octet_more_or_less_is_no_form() {
        for good in [tls13(32), tls12(0x17, 65), tls12(0x18, 97), tls12(0x1D, 32)] {
            for length in 0..good.len() {
                assert_eq!(Form::of(&good[..length]), None, "{length}");
            }
            let longer = [good.as_slice(), &[0]].concat();
            assert_eq!(Form::of(&longer), None);
        }
    }

    #[test]
    fn another_octet_in_a_fixed_place_is_no_form() {
        let good = tls13(32);
        for at in 0..good.len() - 32 {
            let mut bad = good.clone();
            bad[at] ^= 1;
            assert_eq!(Form::of(&bad), None, "{at}");
        }
        let good = tls12(0x17, 65);
        for at in 64..69 {
            let mut bad = good.clone();
            bad[at] ^= 0x40;
            assert_eq!(Form::of(&bad), None, "{at}");
        }
    }

    #[test]
    fn what_a_client_signs_is_no_form() {
        let mut octets = vec![b' '; 64];
        octets.extend_from_slice(b"TLS 1.3, client CertificateVerify\0");
        octets.extend([0; 32]);
        assert_eq!(Form::of(&octets), None);
    }

    #[test]
    fn point_and_curve_fit_each_other() {
        for curve in [0x17, 0x18, 0x19, 0x1D, 0x1E, 0xFFFF] {
            for point in [32, 56, 65, 97, 133] {
                let fits = matches!((curve, point), (0x17, 65) | (0x18, 97) | (0x1D, 32));
                assert_eq!(Form::of(&tls12(curve, point)).is_some(), fits);
            }
        }
    }
}
