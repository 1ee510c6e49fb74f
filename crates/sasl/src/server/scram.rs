//! SCRAM's server half (RFC 5802 sections 5 and 6).

use super::{Challenge, Failure, Next, Step, check_authzid};
use crate::gs2::BindingFlag;
use crate::saslprep::prepare_name;
use crate::scram::messages::{ClientFinal, ClientFirst, Fault, ServerFinal, ServerFirst};
use crate::scram::{Hash, Nonce, Verifier};
use crate::{ChannelBinding, Mechanism};

use subtle::ConstantTimeEq;

impl From<Fault> for Failure {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::TooLong => Failure::TooLong,
            Fault::Malformed => Failure::Malformed,
            Fault::MandatoryExtension => Failure::MandatoryExtension,
        }
    }
}

/// The user has named himself; the caller finds his verifier.
#[derive(Debug)]
pub struct FindVerifier {
    hash: Hash,
    user: String,
    /// `client-first-message-bare`
    bare: String,
    client_nonce: String,
    /// `cbind-input` as it must come back.
    binding: Vec<u8>,
}

/// `client-first-message`
pub(super) fn first(
    mechanism: Mechanism,
    message: &[u8],
    bindings: Vec<ChannelBinding>,
) -> Result<Step, Failure> {
    let hash = mechanism.scram_hash().ok_or(Failure::NoServerHalf)?;
    let first = ClientFirst::parse(message)?;
    let mut binding = first.header.text.as_bytes().to_vec();
    binding.extend_from_slice(bound_data(mechanism, first.header.flag, &bindings)?);
    let user = prepare_name(first.user.as_bytes()).ok_or(Failure::UserName)?;
    let authzid = first.header.authzid.as_deref().unwrap_or_default();
    check_authzid(authzid.as_bytes(), &user)?;
    Ok(Step::FindVerifier(FindVerifier {
        hash,
        user,
        bare: first.bare.to_owned(),
        client_nonce: first.nonce.to_owned(),
        binding,
    }))
}

/// The channel binding data that the client's flag asks for (RFC 5802 section 6, RFC 5801 section 5).
fn bound_data<'a>(
    mechanism: Mechanism,
    flag: BindingFlag,
    bindings: &'a [ChannelBinding],
) -> Result<&'a [u8], Failure> {
    match (flag, mechanism.is_bound()) {
        (BindingFlag::Bound(name), true) => bindings
            .iter()
            .find(|binding| binding.kind().name() == name)
            .map(ChannelBinding::octets)
            .ok_or(Failure::BindingType),
        (BindingFlag::NotOffered, false) if !bindings.is_empty() => Err(Failure::Downgrade),
        (BindingFlag::NotOffered | BindingFlag::Unsupported, false) => Ok(b""),
        _ => Err(Failure::BindingFlag),
    }
}

impl FindVerifier {
    /// The user, prepared by SASLprep.
    pub fn user(&self) -> &str {
        &self.user
    }

    /// Which of the user's verifiers is asked for.
    pub fn hash(&self) -> Hash {
        self.hash
    }

    /// Goes on with the verifier of the user, or with a decoy: [`crate::scram::Decoys::known_or_decoy`]. The nonce is new.
    pub fn answer(self, verifier: Verifier, nonce: &Nonce) -> Step {
        if verifier.hash() != self.hash {
            return Step::Failed(Failure::VerifierHash);
        }
        let nonce = format!("{}{}", self.client_nonce, nonce.as_str());
        let server_first = ServerFirst::write(&nonce, verifier.salt(), verifier.iterations());
        let next = Next::ScramFinal(Box::new(Final {
            user: self.user,
            verifier,
            bare: self.bare,
            server_first: server_first.clone(),
            nonce,
            binding: self.binding,
        }));
        Step::Challenge(Challenge::new(server_first.as_bytes(), next))
    }
}

/// What is known when `client-final-message` comes.
#[derive(Debug)]
pub(super) struct Final {
    user: String,
    verifier: Verifier,
    bare: String,
    server_first: String,
    nonce: String,
    binding: Vec<u8>,
}

impl Final {
    /// Checks the proof. What else is wrong is found on the way, the same for known and unknown users.
    pub(super) fn finish(self, message: &[u8]) -> Result<Step, Failure> {
        let last = ClientFinal::parse(message)?;
        let same_nonce: bool = last.nonce.as_bytes().ct_eq(self.nonce.as_bytes()).into();
        if !same_nonce {
            return Err(Failure::Nonce);
        }
        let same_binding: bool = last.binding.ct_eq(&self.binding).into();
        if !same_binding {
            return Err(Failure::BindingData);
        }
        let auth_message: [&[u8]; 5] = [
            self.bare.as_bytes(),
            b",",
            self.server_first.as_bytes(),
            b",",
            last.without_proof.as_bytes(),
        ];
        let signature = self
            .verifier
            .verify_proof(&auth_message, &last.proof)
            .ok_or(Failure::WrongPassword)?;
        let server_final = ServerFinal::write_signature(signature.as_bytes());
        let next = Next::ScramEnd { user: self.user };
        Ok(Step::Challenge(Challenge::new(
            server_final.as_bytes(),
            next,
        )))
    }
}
