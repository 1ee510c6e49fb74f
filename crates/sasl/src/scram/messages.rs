//! The four messages of SCRAM (RFC 5802 section 7), read by one side and written by the other.

use base64ct::{Base64, Encoding};

use super::nonce::is_printable;
use super::{MAX_NONCE_OCTETS, MAX_SALT_OCTETS, MAX_SCRAM_OCTETS};
use crate::gs2::{Gs2Header, escape, unescape};

/// Why a message is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    TooLong,
    /// Not of the grammar.
    Malformed,
    /// An `m` attribute: whatever it asks for is not understood, so the exchange must fail (RFC 5802 section 5.1).
    MandatoryExtension,
}

/// Letters that RFC 5802 gives a meaning: none of them can name an optional extension.
const DEFINED: &str = "anmrcsipve";

/// Name of the user, the client's nonce.
pub struct ClientFirst<'a> {
    pub header: Gs2Header<'a>,
    /// Unescaped, not prepared.
    pub user: String,
    pub nonce: &'a str,
    /// `client-first-message-bare`, which goes into AuthMessage as it was sent.
    pub bare: &'a str,
}

impl<'a> ClientFirst<'a> {
    pub fn parse(message: &'a [u8]) -> Result<Self, Fault> {
        let (header, bare) = Gs2Header::parse(text(message)?).ok_or(Fault::Malformed)?;
        let mut attributes = Attributes::new(bare)?;
        let user = unescape(attributes.required('n')?).ok_or(Fault::Malformed)?;
        let nonce = nonce(attributes.required('r')?, MAX_NONCE_OCTETS)?;
        attributes.ignore_rest()?;
        Ok(Self {
            header,
            user,
            nonce,
            bare,
        })
    }

    /// `client-first-message-bare`
    pub fn write_bare(user: &str, nonce: &str) -> String {
        format!("n={},r={nonce}", escape(user))
    }
}

/// What the server keeps of the user, and both nonces.
#[derive(Debug)]
pub struct ServerFirst<'a> {
    pub nonce: &'a str,
    pub salt: Vec<u8>,
    pub iterations: u32,
}

impl<'a> ServerFirst<'a> {
    pub fn parse(message: &'a [u8]) -> Result<Self, Fault> {
        let mut attributes = Attributes::new(text(message)?)?;
        let nonce = nonce(
            attributes.required('r')?,
            MAX_NONCE_OCTETS.saturating_mul(2),
        )?;
        let salt = octets(attributes.required('s')?)?;
        let iterations = positive_number(attributes.required('i')?)?;
        attributes.ignore_rest()?;
        if salt.len() > MAX_SALT_OCTETS {
            return Err(Fault::Malformed);
        }
        Ok(Self {
            nonce,
            salt,
            iterations,
        })
    }

    pub fn write(nonce: &str, salt: &[u8], iterations: u32) -> String {
        let salt = Base64::encode_string(salt);
        format!("r={nonce},s={salt},i={iterations}")
    }
}

/// What is bound, and the proof that the client knows the password.
pub struct ClientFinal<'a> {
    /// `cbind-input`: the GS2 header and the binding data.
    pub binding: Vec<u8>,
    pub nonce: &'a str,
    pub proof: Vec<u8>,
    /// `client-final-message-without-proof`, which goes into AuthMessage as it was sent.
    pub without_proof: &'a str,
}

impl<'a> ClientFinal<'a> {
    pub fn parse(message: &'a [u8]) -> Result<Self, Fault> {
        // The proof comes last, and base64 has no comma.
        let (without_proof, proof) = text(message)?.rsplit_once(",p=").ok_or(Fault::Malformed)?;
        let mut attributes = Attributes::new(without_proof)?;
        let binding = octets(attributes.required('c')?)?;
        let nonce = nonce(
            attributes.required('r')?,
            MAX_NONCE_OCTETS.saturating_mul(2),
        )?;
        attributes.ignore_rest()?;
        Ok(Self {
            binding,
            nonce,
            proof: octets(proof)?,
            without_proof,
        })
    }

    pub fn write_without_proof(binding: &[u8], nonce: &str) -> String {
        let binding = Base64::encode_string(binding);
        format!("c={binding},r={nonce}")
    }

    pub fn write(without_proof: &str, proof: &[u8]) -> String {
        let proof = Base64::encode_string(proof);
        format!("{without_proof},p={proof}")
    }
}

/// The proof that the server knows the verifier, or why it refuses.
pub enum ServerFinal<'a> {
    Signature(Vec<u8>),
    Error(&'a str),
}

impl<'a> ServerFinal<'a> {
    pub fn parse(message: &'a [u8]) -> Result<Self, Fault> {
        let message = text(message)?;
        let mut attributes = Attributes::new(message)?;
        let parsed = if message.starts_with("e=") {
            Self::Error(attributes.required('e')?)
        } else {
            Self::Signature(octets(attributes.required('v')?)?)
        };
        attributes.ignore_rest()?;
        Ok(parsed)
    }

    pub fn write_signature(signature: &[u8]) -> String {
        format!("v={}", Base64::encode_string(signature))
    }
}

/// Attributes in order.
struct Attributes<'a>(std::str::Split<'a, char>);

impl<'a> Attributes<'a> {
    fn new(text: &'a str) -> Result<Self, Fault> {
        if text.starts_with("m=") {
            return Err(Fault::MandatoryExtension);
        }
        Ok(Self(text.split(',')))
    }

    /// The value of the next attribute, which must be that one.
    fn required(&mut self, name: char) -> Result<&'a str, Fault> {
        self.0
            .next()
            .and_then(|attribute| attribute.strip_prefix(name)?.strip_prefix('='))
            .filter(|value| !value.is_empty())
            .ok_or(Fault::Malformed)
    }

    /// Optional extensions are ignored, if they are such.
    fn ignore_rest(self) -> Result<(), Fault> {
        for attribute in self.0 {
            let (name, value) = attribute.split_once('=').ok_or(Fault::Malformed)?;
            if name == "m" {
                return Err(Fault::MandatoryExtension);
            }
            let mut letters = name.chars();
            let sound = letters
                .next()
                .is_some_and(|c| c.is_ascii_alphabetic() && !DEFINED.contains(c))
                && letters.next().is_none()
                && !value.is_empty();
            if !sound {
                return Err(Fault::Malformed);
            }
        }
        Ok(())
    }
}

fn text(message: &[u8]) -> Result<&str, Fault> {
    if message.len() > MAX_SCRAM_OCTETS {
        return Err(Fault::TooLong);
    }
    std::str::from_utf8(message)
        .ok()
        .filter(|text| !text.contains('\0'))
        .ok_or(Fault::Malformed)
}

/// Nothing that is carried in base64 may be empty.
fn octets(base64: &str) -> Result<Vec<u8>, Fault> {
    Base64::decode_vec(base64)
        .ok()
        .filter(|octets| !octets.is_empty())
        .ok_or(Fault::Malformed)
}

fn nonce(text: &str, max_octets: usize) -> Result<&str, Fault> {
    Some(text)
        .filter(|text| text.len() <= max_octets && is_printable(text))
        .ok_or(Fault::Malformed)
}

/// `posit-number`: no sign, no leading zero.
pub fn positive_number(text: &str) -> Result<u32, Fault> {
    Some(text)
        .filter(|text| text.starts_with(|c: char| ('1'..='9').contains(&c)))
        .and_then(|text| text.parse().ok())
        .ok_or(Fault::Malformed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client_first(message: &str) -> Option<Fault> {
        ClientFirst::parse(message.as_bytes()).err()
    }

    fn server_first(message: &str) -> Option<Fault> {
        ServerFirst::parse(message.as_bytes()).err()
    }

    fn client_final(message: &str) -> Option<Fault> {
        ClientFinal::parse(message.as_bytes()).err()
    }

    #[test]
    fn optional_extensions_are_ignored() {
        assert_eq!(client_first("n,,n=u,r=x,z=1,Z=\u{e4}="), None);
        assert_eq!(server_first("r=x,s=QQ==,i=4096,z=1"), None);
        assert_eq!(client_final("c=biws,r=x,z=1,p=QQ=="), None);
        assert!(matches!(
            ServerFinal::parse(b"v=QQ==,z=1"),
            Ok(ServerFinal::Signature(_))
        ));
    }

    #[test]
    fn mandatory_extensions_fail() {
        let fault = Some(Fault::MandatoryExtension);
        assert_eq!(client_first("n,,m=1,n=u,r=x"), fault);
        assert_eq!(client_first("n,,n=u,r=x,m=1"), fault);
        assert_eq!(server_first("m=1,r=x,s=QQ==,i=4096"), fault);
        assert_eq!(client_final("c=biws,r=x,m=1,p=QQ=="), fault);
    }

    #[test]
    fn what_is_not_of_the_grammar_is_refused() {
        let fault = Some(Fault::Malformed);
        for message in [
            "",
            "n,,",
            "n,,n=u",
            "n,,n=,r=x",
            "n,,r=x,n=u",
            "n,,n=u,r=",
            "n,,n=u,r=x,",
            "n,,n=u,r=x,1=2",
            "n,,n=u,r=x,zz=2",
            "n,,n=u,r=x,z=",
            "n,,n=u,r=x,n=v",
            "n,,n=u,r=x y",
            "n,,n=u,r=\u{e4}",
            "n,,n=u=,r=x",
            "n,,n=u\0,r=x",
            "N,,n=u,r=x",
            "n,n=u,r=x",
        ] {
            assert_eq!(client_first(message), fault, "{message:?}");
        }
        for message in [
            "r=x,s=QQ==",
            "r=x,s=QQ==,i=",
            "r=x,s=QQ==,i=0",
            "r=x,s=QQ==,i=04096",
            "r=x,s=QQ==,i=+4096",
            "r=x,s=QQ==,i=-1",
            "r=x,s=QQ==,i=4096.0",
            "r=x,s=QQ==,i=99999999999",
            "r=x,s=QQ,i=4096",
            "r=x,s=,i=4096",
            "s=QQ==,r=x,i=4096",
            "e=other-error",
        ] {
            assert_eq!(server_first(message), fault, "{message:?}");
        }
        for message in [
            "c=biws,r=x",
            "c=biws,r=x,p=",
            "c=biws,r=x,p=QQ",
            "c=,r=x,p=QQ==",
            "c=b,r=x,p=QQ==",
            "r=x,c=biws,p=QQ==",
            "c=biws,p=QQ==,r=x",
        ] {
            assert_eq!(client_final(message), fault, "{message:?}");
        }
    }

    #[test]
    fn messages_are_bounded() {
        let long = format!("n,,n=u,r=x,z={}", "a".repeat(MAX_SCRAM_OCTETS));
        assert_eq!(client_first(&long), Some(Fault::TooLong));
        let long_nonce = format!("n,,n=u,r={}", "a".repeat(MAX_NONCE_OCTETS + 1));
        assert_eq!(client_first(&long_nonce), Some(Fault::Malformed));
        let long_salt = Base64::encode_string(&[0; MAX_SALT_OCTETS + 1]);
        assert_eq!(
            server_first(&format!("r=x,s={long_salt},i=4096")),
            Some(Fault::Malformed)
        );
    }
}
