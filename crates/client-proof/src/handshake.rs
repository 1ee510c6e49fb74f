//! The messages of a handshake of TLS 1.3 with a client's certificate, as both sides hash them (RFC 8446 section 4.4.1).
//!
//! One order of messages is right, and each has to end where its length says; what is signed but means nothing here (keys,
//! extensions) is not looked into.

use ring::digest::{Algorithm, SHA256, SHA384};

use crate::RANDOM_OCTETS;

/// Certificates in a chain: paths of more than six are not followed in any case.
const MAX_CERTIFICATES: usize = 10;

// Handshake types (RFC 8446 section 4).
const CLIENT_HELLO: u8 = 1;
const SERVER_HELLO: u8 = 2;
const ENCRYPTED_EXTENSIONS: u8 = 8;
const CERTIFICATE: u8 = 11;
const CERTIFICATE_REQUEST: u8 = 13;
const CERTIFICATE_VERIFY: u8 = 15;
const FINISHED: u8 = 20;
/// Stands for a first ClientHello that was answered by a HelloRetryRequest.
const MESSAGE_HASH: u8 = 254;

/// A handshake up to the client's Certificate.
#[derive(Clone, Debug)]
pub struct Handshake<'a> {
    /// Of ServerHello.
    pub server_random: &'a [u8; RANDOM_OCTETS],
    /// The hash function of the cipher suite, by which both sides sign.
    pub hash: &'static Algorithm,
    /// The certificate that the server showed, DER.
    pub server_certificate: &'a [u8],
    /// What the server signed the hash of: everything up to its Certificate.
    pub before_server_verify: &'a [u8],
    /// The server's signature.
    pub server_verify: Signature<'a>,
    /// The certificates that the client showed, its own first, DER; at least one.
    pub client_chain: Vec<&'a [u8]>,
    /// What the client signed the hash of: everything.
    pub before_client_verify: &'a [u8],
}

/// CertificateVerify (RFC 8446 section 4.4.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Signature<'a> {
    /// SignatureScheme.
    pub scheme: u16,
    /// The signature itself.
    pub octets: &'a [u8],
}

impl<'a> Handshake<'a> {
    /// Takes a handshake apart; `None` if it is anything else.
    pub fn parse(transcript: &'a [u8]) -> Option<Self> {
        let mut messages = Reader(transcript);
        let first = messages.message()?;
        if first.0 == MESSAGE_HASH {
            messages.expect(SERVER_HELLO)?;
            messages.expect(CLIENT_HELLO)?;
        } else if first.0 != CLIENT_HELLO {
            return None;
        }
        let (server_random, hash) = server_hello(messages.expect(SERVER_HELLO)?)?;
        messages.expect(ENCRYPTED_EXTENSIONS)?;
        messages.expect(CERTIFICATE_REQUEST)?;
        let server_chain = certificates(messages.expect(CERTIFICATE)?)?;
        let before_server_verify = messages.before(transcript)?;
        let server_verify = certificate_verify(messages.expect(CERTIFICATE_VERIFY)?)?;
        messages.expect(FINISHED)?;
        let client_chain = certificates(messages.expect(CERTIFICATE)?)?;
        messages.end()?;
        Some(Self {
            server_random,
            hash,
            server_certificate: server_chain.first()?,
            before_server_verify,
            server_verify,
            client_chain,
            before_client_verify: transcript,
        })
    }
}

/// The random number, and the hash function of the cipher suite (RFC 8446 section 4.1.3, appendix B.4).
fn server_hello(body: &[u8]) -> Option<(&[u8; RANDOM_OCTETS], &'static Algorithm)> {
    let mut body = Reader(body);
    let _legacy_version = body.number16()?;
    let (random, rest) = body.0.split_first_chunk()?;
    body = Reader(rest);
    let _legacy_session_id = body.vector8()?;
    let hash = match body.number16()? {
        // AES-128-GCM, ChaCha20-Poly1305.
        0x1301 | 0x1303 => &SHA256,
        // AES-256-GCM.
        0x1302 => &SHA384,
        _ => return None,
    };
    Some((random, hash))
}

/// Certificate (RFC 8446 section 4.4.2): at least one certificate, and no context, as in every handshake.
fn certificates(body: &[u8]) -> Option<Vec<&[u8]>> {
    let mut body = Reader(body);
    if !body.vector8()?.is_empty() {
        return None;
    }
    let mut entries = Reader(body.vector24()?);
    body.end()?;
    let mut chain = Vec::new();
    while entries.end().is_none() {
        let certificate = entries.vector24()?;
        let _extensions = entries.vector16()?;
        if certificate.is_empty() || chain.len() >= MAX_CERTIFICATES {
            return None;
        }
        chain.push(certificate);
    }
    (!chain.is_empty()).then_some(chain)
}

fn certificate_verify(body: &[u8]) -> Option<Signature<'_>> {
    let mut body = Reader(body);
    let scheme = body.number16()?;
    let octets = body.vector16()?;
    body.end()?;
    Some(Signature { scheme, octets })
}

/// What has not been read yet.
#[derive(Clone, Copy)]
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    /// The next message: its type and its body.
    fn message(&mut self) -> Option<(u8, &'a [u8])> {
        let (&kind, rest) = self.0.split_first()?;
        self.0 = rest;
        Some((kind, self.vector24()?))
    }

    /// The body of the next message, which must be of this type.
    fn expect(&mut self, kind: u8) -> Option<&'a [u8]> {
        let (found, body) = self.message()?;
        (found == kind).then_some(body)
    }

    /// The part of `whole` that has been read.
    fn before(&self, whole: &'a [u8]) -> Option<&'a [u8]> {
        whole.get(..whole.len().checked_sub(self.0.len())?)
    }

    fn number16(&mut self) -> Option<u16> {
        let (&number, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(u16::from_be_bytes(number))
    }

    fn vector8(&mut self) -> Option<&'a [u8]> {
        let (&length, rest) = self.0.split_first()?;
        self.0 = rest;
        self.octets(length.into())
    }

    fn vector16(&mut self) -> Option<&'a [u8]> {
        let length = self.number16()?;
        self.octets(length.into())
    }

    fn vector24(&mut self) -> Option<&'a [u8]> {
        let (&[high, middle, low], rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        let length = u32::from_be_bytes([0, high, middle, low]);
        self.octets(usize::try_from(length).ok()?)
    }

    fn octets(&mut self, length: usize) -> Option<&'a [u8]> {
        let (octets, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(octets)
    }

    fn end(&self) -> Option<()> {
        self.0.is_empty().then_some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::made_up::{Parts, message};

    #[test]
    fn what_is_put_together_is_taken_apart() {
        for (suite, hash) in [(0x1301, &SHA256), (0x1302, &SHA384), (0x1303, &SHA256)] {
            let parts = Parts {
                suite,
                ..Parts::unsigned()
            };
            let transcript = parts.transcript();
            let handshake = Handshake::parse(&transcript).unwrap();
            assert_eq!(handshake.server_random, &parts.random);
            assert_eq!(handshake.hash, hash);
            assert_eq!(handshake.server_certificate, parts.server_chain[0]);
            assert_eq!(handshake.client_chain, parts.client_chain);
            assert_eq!(handshake.before_server_verify, parts.before_server_verify());
            assert_eq!(handshake.before_client_verify, transcript);
        }
    }

    #[test]
    fn a_first_hello_that_was_answered_by_a_retry_is_a_hash() {
        let again = Parts::unsigned().transcript();
        let retried = [message(254, &[7; 32]), message(2, &[8; 90]), again].concat();
        let handshake = Handshake::parse(&retried).unwrap();
        assert_eq!(handshake.server_random, &Parts::unsigned().random);
        // And nothing else is.
        let without = [message(254, &[7; 32]), Parts::unsigned().transcript()].concat();
        assert!(Handshake::parse(&without).is_none());
    }

    #[test]
    fn a_handshake_that_is_cut_off_or_too_long_is_none() {
        let transcript = Parts::unsigned().transcript();
        for length in 0..transcript.len() {
            assert!(Handshake::parse(&transcript[..length]).is_none());
        }
        let longer = [transcript.as_slice(), &message(20, b"")].concat();
        assert!(Handshake::parse(&longer).is_none());
    }

    #[test]
    fn messages_left_out_doubled_or_exchanged_are_none() {
        let messages = Parts::unsigned().messages();
        assert!(Handshake::parse(&messages.concat()).is_some());
        for at in 0..messages.len() {
            let mut fewer = messages.clone();
            let one = fewer.remove(at);
            assert!(Handshake::parse(&fewer.concat()).is_none(), "without {at}");
            let mut more = messages.clone();
            more.insert(at, one);
            assert!(Handshake::parse(&more.concat()).is_none(), "twice {at}");
            let mut exchanged = messages.clone();
            exchanged.swap(at, (at + 1) % messages.len());
            assert!(Handshake::parse(&exchanged.concat()).is_none(), "{at}");
        }
    }

    #[test]
    fn chains_are_neither_empty_nor_endless_and_have_no_context() {
        for (client_chain, good) in [(0, false), (1, true), (10, true), (11, false)] {
            let parts = Parts {
                client_chain: vec![b"certificate".to_vec(); client_chain],
                ..Parts::unsigned()
            };
            assert_eq!(Handshake::parse(&parts.transcript()).is_some(), good);
        }
        let mut messages = Parts::unsigned().messages();
        let last = messages.last_mut().unwrap();
        // The context's length comes first.
        let body = [&[1, 7], &last[5..]].concat();
        *last = message(11, &body);
        assert!(Handshake::parse(&messages.concat()).is_none());
    }
}
