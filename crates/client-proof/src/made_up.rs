//! Handshakes that never took place, put together from parts of which any can be wrong: for tests.

use ring::digest;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair};

use crate::RANDOM_OCTETS;
use crate::verify::{CLIENT_CONTEXT, SERVER_CONTEXT, signed_content};

/// A key on P-256, in PKCS #8.
pub type Key = Vec<u8>;

/// ecdsa_secp256r1_sha256.
pub const SCHEME: u16 = 0x0403;

/// What a handshake is made of.
#[derive(Clone, Debug)]
pub struct Parts {
    /// Of ServerHello.
    pub random: [u8; RANDOM_OCTETS],
    /// The cipher suite.
    pub suite: u16,
    /// What the server shows, DER.
    pub server_chain: Vec<Vec<u8>>,
    /// What the server signs with; `None`: its signature is zeroes.
    pub server_key: Option<Key>,
    /// What the client shows, DER.
    pub client_chain: Vec<Vec<u8>>,
}

/// The client's CertificateVerify.
#[derive(Clone, Debug)]
pub struct Verify {
    /// The scheme.
    pub scheme: u16,
    /// The signature.
    pub signature: Vec<u8>,
}

impl Parts {
    /// A handshake in form only.
    pub fn unsigned() -> Self {
        Self {
            random: [7; RANDOM_OCTETS],
            suite: 0x1301,
            server_chain: vec![b"server".to_vec(), b"authority".to_vec()],
            server_key: None,
            client_chain: vec![b"client".to_vec()],
        }
    }

    /// All messages up to the client's Certificate, each with its header.
    pub fn messages(&self) -> Vec<Vec<u8>> {
        let server_verify = match &self.server_key {
            Some(key) => {
                let before = self.before_server_verify();
                sign(key, &signed_content(SERVER_CONTEXT, self.hash(), &before))
            }
            None => vec![0; 70],
        };
        let mut verify = SCHEME.to_be_bytes().to_vec();
        verify.extend(vector16(&server_verify));
        let mut messages = self.messages_before_server_verify();
        messages.extend([
            message(15, &verify),
            message(20, &[9; 32]),
            message(11, &certificates(&self.client_chain)),
        ]);
        messages
    }

    /// What the client signs the hash of.
    pub fn transcript(&self) -> Vec<u8> {
        self.messages().concat()
    }

    /// What the server signs the hash of.
    pub fn before_server_verify(&self) -> Vec<u8> {
        self.messages_before_server_verify().concat()
    }

    fn messages_before_server_verify(&self) -> Vec<Vec<u8>> {
        let mut hello = vec![3, 3];
        hello.extend(self.random);
        hello.extend([0]);
        hello.extend(self.suite.to_be_bytes());
        hello.extend([0, 0, 0]);
        vec![
            message(1, b"what the client offers"),
            message(2, &hello),
            message(8, &[0, 0]),
            message(13, &[0, 0, 0]),
            message(11, &certificates(&self.server_chain)),
        ]
    }

    fn hash(&self) -> &'static digest::Algorithm {
        match self.suite {
            0x1302 => &digest::SHA384,
            _ => &digest::SHA256,
        }
    }

    /// The client's signature over a [`transcript`](Self::transcript), which is another each time: it holds the server's
    /// signature.
    pub fn client_verify_of(&self, key: &Key, transcript: &[u8]) -> Verify {
        let content = signed_content(CLIENT_CONTEXT, self.hash(), transcript);
        Verify {
            scheme: SCHEME,
            signature: sign(key, &content),
        }
    }
}

fn sign(key: &Key, content: &[u8]) -> Vec<u8> {
    let random = SystemRandom::new();
    let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, key, &random)
        .expect("a key on P-256");
    let signature = key.sign(&random, content).expect("random numbers");
    signature.as_ref().to_vec()
}

/// A message with its header.
pub fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    [&[kind], vector24(body).as_slice()].concat()
}

fn certificates(chain: &[Vec<u8>]) -> Vec<u8> {
    let entry = |certificate: &Vec<u8>| [vector24(certificate), vec![0, 0]].concat();
    let entries: Vec<u8> = chain.iter().flat_map(entry).collect();
    [vec![0], vector24(&entries)].concat()
}

fn vector16(octets: &[u8]) -> Vec<u8> {
    let length = u16::try_from(octets.len()).expect("few octets");
    [&length.to_be_bytes(), octets].concat()
}

fn vector24(octets: &[u8]) -> Vec<u8> {
    let length = u32::try_from(octets.len()).expect("few octets");
    [&length.to_be_bytes()[1..], octets].concat()
}
